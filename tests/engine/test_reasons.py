# SPDX-License-Identifier: Apache-2.0
"""Every row of the reason table, provoked on a real engine: status, type, and a detail that
names the service and the cause. What a client is told never carries the engine's paths or ids."""
import re
import time

import pytest

from harness import echo as worker
from harness import net
from harness.echo import get
from harness.kipgate import Kipgate, problem
from harness.waiting import Background, together, wait_until


@pytest.fixture(scope="module")
def gate(echo):
    """One Kipgate with a service for every way to fail; the failures do not touch each other."""

    def routed(name, env=None, **more):
        return {name: echo(env=env, routes=[f"/{name}"], strip_prefix=True, **more)}

    dead = f"127.0.0.1:{net.free_port()}"
    services = {
        **routed("fine", idle_timeout="10m"),
        **routed("missing", image="kipgate-no-such-image:test", pull="never"),
        **routed("unreachable", image=f"{dead}/kipgate/none:test", pull="missing"),
        **routed("exits", env=worker.exit_at_boot(3)),
        **routed("exits-zero", env=worker.exit_at_boot(0)),
        **routed("eats", env=worker.oom_at_boot(), memory="16MiB"),
        **routed("silent", env=worker.never_listen(), start_timeout="8s"),
        **routed(
            "mute",
            env=worker.accept_only(),
            start_timeout="8s",
            health={"path": "/health", "status": "200"},
        ),
        **routed(
            "sick",
            env=worker.health_after(60000),
            start_timeout="8s",
            health={"path": "/health", "status": "200"},
        ),
        **routed("no-command", command=["/no/such/program"], entrypoint=["/no/such/program"]),
        **routed("slow", env=worker.start_delay(1500), queue=3),
        **routed("asleep", quiet=[{"path": "/asleep/metrics"}, {"user_agent": "*monitor*"}]),
        **routed("teapot", quiet=[{"method": "HEAD"}], quiet_status=418),
        **routed("tiny", max_body="1KiB"),
        **routed("hasty", request_timeout="400ms"),
    }
    with Kipgate(services, config={"fronts": 2}) as kipgate:
        yield kipgate


FAILURES = [
    ("missing", 502, "image-unavailable", ["kipgate-no-such-image"]),
    ("unreachable", 502, "image-unavailable", ["refused|connect"]),
    ("exits", 502, "instance-exited", [r"\b3\b", "exit"]),
    ("exits-zero", 502, "instance-exited", [r"\b0\b", "exit"]),
    ("eats", 502, "instance-exited", ["memory|oom"]),
    ("silent", 504, "start-timeout", ["answer|ready"]),
    ("mute", 504, "start-timeout", ["answer|ready"]),
    ("sick", 504, "start-timeout", ["answer|ready"]),
    ("no-command", 502, "instance-exited", ["no such file|not found|start|exit"]),
]


@pytest.fixture(scope="module")
def first_requests(gate):
    """The first request to each service that fails, all at once: (response, seconds)."""

    def ask(name):
        began = time.monotonic()
        return gate.get(f"/{name}", timeout=30), time.monotonic() - began

    return {row[0]: Background(ask, row[0]) for row in FAILURES}


def refused(response, name, status, reason, words):
    """A refusal's detail names the service and the cause, and nothing of the engine's insides."""
    body = problem(response, status, reason)
    assert name in body["detail"], body
    for word in words:
        assert re.search(word, body["detail"], re.I), (word, body["detail"])
    assert "/var/" not in body["detail"] and not re.search(r"[0-9a-f]{64}", body["detail"])
    return body


def no_container_left(gate, name):
    """A failed start leaves nothing behind."""
    gate.witness.wait_none(5, name)


@pytest.mark.parametrize("name,status,reason,words", FAILURES, ids=[row[0] for row in FAILURES])
def test_provisioning_failures(gate, first_requests, name, status, reason, words):
    """Each failure of a start has its row, is counted, and leaves no container."""
    response, took = first_requests[name].result(40)
    refused(response, name, status, reason, words)
    assert took < 20, "a failure ends the wait at once"
    no_container_left(gate, name)
    assert gate.admin.metric("kipgate_refused_total", service=name, reason=reason) >= 1


@pytest.mark.parametrize("name", ["exits", "missing", "silent"])
def test_backing_off_after_a_failure(gate, name):
    """Refused at once with the time of the next try; no container is made meanwhile."""
    wait_until(
        lambda: b"backing-off" in gate.get(f"/{name}", timeout=15).body,
        15,
        "a refusal during the back-off",
        every=0.01,
    )
    mark = gate.witness.events.mark()
    began = time.monotonic()
    body = problem(gate.get(f"/{name}"), 503, "backing-off")
    assert time.monotonic() - began < 0.2 and name in body["detail"]
    assert gate.witness.actions("create", name, mark) == []


def test_back_off_doubles_and_is_reset_by_success(kipgate, echo):
    """1 s, 2 s, 4 s between tries; a success forgets them."""
    gate = kipgate({"echo": echo(env=worker.exit_at_boot(3))})
    tries, told = [], []
    while len(tries) < 4:
        response = gate.get("/", timeout=15)
        if b"instance-exited" in response.body:
            tries.append(time.monotonic())
        else:
            problem(response, 503, "backing-off")
            told.append(int(response.one("Retry-After")))
            time.sleep(0.02)
    gaps = [b - a for a, b in zip(tries, tries[1:])]
    for gap, wanted in zip(gaps, (1, 2, 4)):
        assert wanted * 0.9 - 0.1 <= gap <= wanted * 1.3 + 3, gaps  # a start is in it, too
    assert sorted(set(told)) == [1, 2, 3, 4]
    answer = gate.reload(lambda c: c["services"].update(echo=echo()))
    assert answer.status == 200, answer.body
    wait_until(
        lambda: gate.get("/", timeout=15).status == 200, 10, "success with the new spec", 0.05
    )


def test_worker_that_keeps_dying_is_not_started_in_a_loop(kipgate, echo):
    """Ready, then dead, three times in a row: the breaker opens, and closes again."""
    gate = kipgate({"echo": echo()})
    for _ in range(3):
        dying = gate.get("/exit?code=9", method="POST", body=b"x", timeout=15)  # never sent twice
        problem(dying, 502, "upstream-failed")
        gate.witness.wait_none(5)
    wait_until(lambda: b"backing-off" in gate.get("/", timeout=15).body, 5, "the breaker opens")
    assert len(gate.witness.actions("create")) <= 4
    wait_until(lambda: gate.get("/", timeout=15).status == 200, 15, "the breaker closes", 0.1)


def test_queue_full(gate):
    """Three may wait; the fourth is told at once; the three are served."""

    def three():
        return together([lambda: gate.get("/slow", timeout=20)] * 3, 30)

    served = Background(three)
    wait_until(lambda: gate.admin.metric("kipgate_waiting", service="slow") == 3, 5, "three wait")
    began = time.monotonic()
    body = problem(gate.get("/slow"), 503, "queue-full")
    assert time.monotonic() - began < 0.3 and "slow" in body["detail"]
    assert [r.status for r in served.result(30)] == [200] * 3
    assert gate.admin.metric("kipgate_refused_total", service="slow", reason="queue-full") == 1


def test_upstream_failed(gate):
    """The worker closes without an answer."""
    assert gate.admin.wake("fine").status == 200
    body = problem(
        gate.get("/fine" + worker.abort(), method="POST", body=b"x"), 502, "upstream-failed"
    )
    assert "fine" in body["detail"]


def test_upstream_timeout(gate):
    """The worker accepts and does not answer in time."""
    body = problem(gate.get("/hasty" + worker.hang()), 504, "upstream-timeout")
    assert "hasty" in body["detail"]


@pytest.mark.parametrize(
    "target,method,agent",
    [("/asleep/metrics", "GET", "x"), ("/asleep/other", "GET", "big-monitor/1.0")],
)
def test_quiet_requests_do_not_wake(gate, target, method, agent):
    """Monitors get 503 `asleep` while no instance runs."""
    body = problem(gate.get(target, method=method, fields=[("User-Agent", agent)]), 503, "asleep")
    assert "asleep" in body["detail"]
    assert gate.witness.actions("create", "asleep") == []


def test_quiet_status_is_configurable(gate):
    """418 for who wants it; a HEAD has no body."""
    response = gate.get("/teapot", method="HEAD")
    assert response.status == 418 and response.body == b""


def test_quiet_requests_do_not_keep_awake(kipgate, echo):
    """While an instance runs they are served, but its clock goes on."""
    gate = kipgate({"echo": echo(idle_timeout="1s", quiet=[{"path": "/metrics"}])})
    assert gate.get("/").status == 200
    ended = time.time()
    statuses = []
    while not gate.witness.actions("destroy") and time.time() - ended < 6:
        statuses.append(gate.get("/metrics").status)
        time.sleep(0.05)
    died = gate.witness.wait("destroy", 1)["timeNano"] / 1e9
    assert 0.9 <= died - ended <= 2.0
    assert 200 in statuses and set(statuses) <= {200, 503}
    problem(gate.get("/metrics"), 503, "asleep")
    assert len(gate.witness.actions("create")) == 1


def test_no_route(gate):
    """No service is asked for."""
    problem(gate.get("/nobody-has-this"), 404, "no-route")


def test_body_too_large(gate):
    """Refused by its length, before a container is made for it."""
    with gate.raw() as client:
        client.send(get("/tiny", "Content-Length: 1025", method="POST"))
        body = problem(client.response(), 413, "body-too-large")
        assert "tiny" in body["detail"] and client.ended(5)
    assert gate.witness.actions("create", "tiny") == []


def test_head_too_large(gate):
    """Before a service is known."""
    with gate.raw() as client:
        client.send_anyway(get("/", "X-A: " + "a" * 70000))
        problem(client.response(), 431, "head-too-large")


def test_overloaded(kipgate, echo):
    """A front-wide cap: more connections than descriptors allow are told so (or wait
    unaccepted)."""
    gate = kipgate(
        {"echo": echo(env=worker.start_delay(1500), queue=10000)}, config={"fronts": 1}, nofile=200
    )
    clients = [gate.raw(20) for _ in range(190)]
    statuses = []
    try:
        for client in clients:
            client.send_anyway(get("/", "Connection: close"))
        for client in clients:
            try:
                response = client.response(timeout=20)
            except (ConnectionResetError, AssertionError):
                statuses.append(0)
                continue
            statuses.append(response.status)
            if response.status == 503:
                assert b"urn:kipgate:overloaded" in response.body and response.one("Retry-After")
    finally:
        for client in clients:
            client.close()
    assert statuses.count(200) >= 50, statuses
    assert set(statuses) <= {200, 503}, "all are answered"


def test_draining(kipgate, echo):
    """Going down: what is under way is finished; a request whose head was begun before is still
    answered, by a warm instance, or with `draining` where one would have to be started."""
    gate = kipgate(
        {"echo": echo(routes=["/"]), "cold": echo(routes=["/cold"])},
        config={"drain_timeout": "10s"},
    )
    assert gate.get("/").status == 200
    slow, warm, cold = gate.raw(20), gate.raw(20), gate.raw(20)
    for client, target in ((warm, "/"), (cold, "/cold")):
        client.send(get(target)[:-2])
    slow.send(get(worker.slow(1500)))
    wait_until(
        lambda: gate.admin.metric("kipgate_exchanges", service="echo") == 1, 5, "one exchange"
    )
    gate.process.terminate()
    gate.wait_log(5, event="draining")
    wait_until(lambda: net.refused(gate.front), 5, "the fronts stopped listening")
    for client in (warm, cold):
        client.send(b"\r\n")
    assert warm.response().status == 200
    assert problem(cold.response(), 503, "draining")
    assert slow.response().status == 200
    assert gate.process.wait(20) == 0


def test_engine_unavailable(kipgate, echo):
    """Cold, and the engine is not there: refused in time with Retry-After, and served once it
    is."""
    gate = kipgate({"echo": echo(start_timeout="2s")}, start=False)
    gate.config["engine"] = f"unix://{gate.directory}/engine.sock"
    gate.start(ready=False)
    began = time.monotonic()
    body = problem(gate.get("/", timeout=20), 503, "engine-unavailable")
    assert "echo" in body["detail"] and time.monotonic() - began < 5
    (gate.directory / "engine.sock").symlink_to(gate.host.removeprefix("unix://"))
    wait_until(lambda: gate.admin.status("/readyz") == 200, 10, "readiness with the engine", 0.02)
    assert gate.get("/", timeout=20).status == 200


def test_head_of_a_refusal(gate):
    """HEAD gets the same fields and no body."""
    with gate.raw() as client:
        client.send(get("/nobody-has-this", method="HEAD"))
        response = client.response("HEAD")
        assert response.status == 404 and int(response.one("Content-Length")) > 0
        client.send(get("/fine"))
        assert client.response().status == 200
