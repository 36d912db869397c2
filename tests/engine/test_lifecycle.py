# SPDX-License-Identifier: Apache-2.0
"""The life of an instance on a real engine: made by the first request, kept while used, gone when
idle. Durations that must be long (90 s) run on threads beside the other tests of this module."""
import json
import random
import re
import time

import pytest
import websocket

from harness import echo as worker
from harness import load, settings
from harness.echo import Dump, get
from harness.engine_schema import Schema
from harness.kipgate import Kipgate, problem
from harness.socket_proxy import SocketProxy
from harness.waiting import Background, together, wait_until
from harness.witness import OWNER, SERVICE, SPEC, client

SLOW_SECONDS = 90


@pytest.fixture(scope="module", autouse=True)
def socket_proxy():
    """All of this module runs behind a proxy that lets only the calls of packaging/socket-proxy.env
    pass; the judges ask the engine itself."""
    configuration = Kipgate._configuration
    with SocketProxy(settings.docker_host()) as proxy, pytest.MonkeyPatch.context() as patch:

        def behind(gate, services, more):
            return configuration(gate, services, {"engine": proxy.host, **more})

        patch.setattr(Kipgate, "_configuration", behind)
        yield
    schema = Schema()
    wrong = {words for call in proxy.calls for words in schema.wrong(call)}
    assert not proxy.refused and not wrong, (proxy.refused[:5], sorted(wrong)[:5])


@pytest.fixture(scope="module")
def long_download(echo):
    """A download of 90 seconds from a service with an idle timeout of one, on a thread. Its Kipgate
    lives as long as the module."""
    with Kipgate({"echo": echo(idle_timeout="1s")}) as gate:

        def run():
            pieces = SLOW_SECONDS * 2
            response = gate.get(worker.drip(pieces * 100, 100, 500), timeout=SLOW_SECONDS + 60)
            ended = time.time()
            died = gate.witness.wait("destroy", 10, "echo")
            return response, ended, died["timeNano"] / 1e9, len(gate.witness.actions("create"))

        yield Background(run)


@pytest.fixture(scope="module", autouse=True)
def begin_early(long_download):
    """The long download begins with the module's first test."""


# --- the cold request -----------------------------------------------------------------------------


def test_cold_request_is_held_and_served(kipgate, echo):
    """The first request makes the container and says how long it waited; the second does not."""
    gate = kipgate({"echo": echo()})
    assert gate.witness.containers() == []
    began = time.monotonic()
    first = gate.get("/first")
    took = (time.monotonic() - began) * 1000
    assert first.status == 200 and Dump(first.body).first == "GET /first HTTP/1.1"
    timing = re.fullmatch(r'kipgate;desc="cold";dur=(\d+\.\d)', first.one("Server-Timing"))
    assert timing and 10 < float(timing[1]) <= took, (first.one("Server-Timing"), took)
    second = gate.get("/second")
    assert second.status == 200 and second.one("Server-Timing") is None
    assert len(gate.witness.containers()) == 1


def test_container_is_named_and_labelled(kipgate, echo):
    """As the interface promises, with no port published and the limits set."""
    gate = kipgate({"my-echo": echo(labels={"team": "a"}, memory="64MiB", pids=100)})
    assert gate.get("/").status == 200
    found = gate.witness.inspect(gate.witness.wait_one(5, "my-echo")["Id"])
    labels = found["Config"]["Labels"]
    assert re.fullmatch(r"/kipgate-my-echo-[a-z0-9]+", found["Name"])
    assert labels[OWNER] == gate.owner and labels[SERVICE] == "my-echo" and labels["team"] == "a"
    assert re.fullmatch(r"[0-9a-f]{64}", labels[SPEC])
    host = found["HostConfig"]
    assert host["Memory"] == 64 << 20 and host["PidsLimit"] == 100 and not host["Privileged"]
    assert not host["PortBindings"] and host["RestartPolicy"]["Name"] in ("", "no")
    assert any(option.startswith("no-new-privileges") for option in host["SecurityOpt"])
    assert "host" not in (host["NetworkMode"], host["PidMode"], host["IpcMode"], host["UTSMode"])
    assert not host["Binds"]
    assert "PORT=8080" in found["Config"]["Env"]


def test_d7_first_request_waits_for_readiness(kipgate, echo):
    """D6, D7: the first request used to fail, for nobody asked whether the worker was ready."""
    gate = kipgate({"echo": echo(env=worker.start_delay(700))})
    response = gate.get("/")
    assert response.status == 200
    assert 700 <= worker.waited_ms(response) < 2500
    assert gate.witness.inspect(gate.witness.containers()[0]["Id"])["RestartCount"] == 0


def test_d6_first_request_never_fails(kipgate, echo):
    """D6: it was answered 429. Five services, five first requests with bodies at once."""
    names = [f"s{i}" for i in range(5)]
    gate = kipgate({n: echo(routes=[f"/{n}"]) for n in names})
    answers = together(
        [
            lambda n=n: gate.get(f"/{n}", method="POST", body=n.encode() * 100, timeout=30)
            for n in names
        ],
        60,
    )
    for name, answer in zip(names, answers):
        assert answer.status == 200 and Dump(answer.body).body == name.encode() * 100


def test_health_path_decides_readiness(kipgate, echo):
    """A listening port is not enough where the service has a health path."""
    gate = kipgate(
        {
            "echo": echo(
                env=worker.health_after(600), health={"path": "/health", "status": "200-299"}
            )
        }
    )
    response = gate.get("/")
    assert response.status == 200 and worker.waited_ms(response) >= 600


def test_d11_any_image_and_several_services(kipgate, echo, echo_image):
    """D11: one hard-coded image. Two services of two images and settings, told apart."""
    gate = kipgate(
        {
            "one": echo(routes=["/one"], env={"WHO": "one"}),
            "two": {
                "image": gate_image(echo_image),
                "port": 8081,
                "routes": ["two.test"],
                "pull": "never",
            },
        }
    )
    assert Dump(gate.get("/one/x").body).first == "GET /one/x HTTP/1.1"
    assert Dump(gate.get("/x", host="two.test").body).first == "GET /x HTTP/1.1"
    one, two = (gate.witness.containers(name)[0] for name in ("one", "two"))
    assert one["Image"] != two["Image"]
    env = gate.witness.inspect(two["Id"])["Config"]["Env"]
    assert "PORT=8081" in env and not any(e.startswith("WHO=") for e in env)


def gate_image(echo_image):
    """Another image: the echo worker's under another name, with a label of its own."""
    sdk = client(settings.docker_host())
    made = sdk.api.create_container(echo_image)
    try:
        sdk.api.commit(made["Id"], "kipgate-other", "test", changes="LABEL other=1")
    finally:
        sdk.api.remove_container(made["Id"])
    return "kipgate-other:test"


def test_image_exposing_one_port_needs_no_port_key(kipgate, echo):
    """`port` is the image's single exposed TCP port by default."""
    service = echo()
    del service["port"]
    assert kipgate({"echo": service}).get("/").status == 200


def test_socket_service_is_served(kipgate, echo):
    """A worker that listens on a Unix socket instead of a port."""
    service = echo(
        env=worker.on_socket("/run/kipgate/worker.sock"), socket="/run/kipgate/worker.sock"
    )
    del service["port"]
    gate = kipgate({"echo": service})
    first = gate.get("/over-a-socket")
    assert first.status == 200 and Dump(first.body).first == "GET /over-a-socket HTTP/1.1"
    assert gate.get("/again").one("Server-Timing") is None


# --- D5 -------------------------------------------------------------------------------------------


def test_d5_a_thousand_first_requests_make_one_container(kipgate, echo):
    """D5: N cold requests made N creates. A thousand at once: one container, 1,000 right
    answers."""
    gate = kipgate({"echo": echo(queue=2000, concurrency=2000, idle_timeout="10m")})
    datas = [get(f"/n/{i}", "Connection: close") for i in range(1000)]
    answers = load.burst(gate.front, datas)
    wrong = [
        (i, a if isinstance(a, Exception) else a[:300])
        for i, a in enumerate(answers)
        if isinstance(a, Exception) or not right(a, i)
    ]
    assert not wrong, (len(wrong), wrong[:5])
    assert len(gate.witness.actions("create")) == 1
    assert len(gate.witness.containers()) == 1
    assert gate.admin.metric("kipgate_cold_starts_total", service="echo") == 1


def right(answer, index):
    """Whether these bytes are the whole answer to request number index."""
    head, _, body = answer.partition(b"\r\n\r\n")
    return head.startswith(b"HTTP/1.1 200 ") and body.startswith(b"GET /n/%d HTTP/1.1\r\n" % index)


def test_concurrency_below_the_demand_still_serves_all(kipgate, echo):
    """Slots go from one waiter to the next; nobody starves, nothing is made twice."""
    gate = kipgate({"echo": echo(queue=500, concurrency=5)})
    answers = load.burst(gate.front, [get(f"/n/{i}", "Connection: close") for i in range(300)])
    assert all(not isinstance(a, Exception) and right(a, i) for i, a in enumerate(answers))
    assert len(gate.witness.actions("create")) == 1


def test_client_that_hangs_up_frees_its_place(kipgate, echo):
    """The queue holds two: when one of them leaves, the next is let in, and the others are
    served."""
    gate = kipgate({"echo": echo(env=worker.start_delay(2000), queue=2)}, config={"fronts": 1})
    first, second = gate.raw(20), gate.raw(20)
    first.send(get("/1"))
    second.send(get("/2"))
    waiting(gate, 2)
    problem(gate.get("/3"), 503, "queue-full")
    second.reset()
    waiting(gate, 1)
    assert gate.get("/4", timeout=20).status == 200
    assert first.response(timeout=20).status == 200
    first.close()


def waiting(gate, count):
    """Until that many requests wait."""
    wait_until(
        lambda: gate.admin.metric("kipgate_waiting", service="echo") == count,
        5,
        f"{count} waiting requests",
    )


def test_demand_that_leaves_does_not_leave_a_container_behind(kipgate, echo):
    """The only waiter hangs up during the start: what was made is reaped when idle."""
    gate = kipgate({"echo": echo(env=worker.start_delay(500), idle_timeout="500ms")})
    with gate.raw() as client:
        client.send(get("/"))
        gate.witness.wait("create", 10)
    gate.witness.wait("destroy", 15)
    gate.witness.wait_none(5)


# --- idle -----------------------------------------------------------------------------------------


def gone_after(gate, service, ended, within=30):
    """Seconds between the end of the last exchange and the container's removal."""
    event = gate.witness.wait("destroy", within, service)
    return event["timeNano"] / 1e9 - ended


def test_idle_instance_is_removed_within_a_second_of_due(kipgate, echo):
    """Several timeouts at once, each measured by the engine's own events: when it was asked to end
    the container, for how long it takes over that is its own affair."""
    idles = {"a": 1.0, "b": 1.7, "c": 2.5}
    gate = kipgate(
        {n: echo(routes=[f"/{n}"], idle_timeout=f"{int(t * 1000)}ms") for n, t in idles.items()}
    )

    def one(name):
        assert gate.get(f"/{name}", timeout=30).status == 200
        ended = time.time()
        asked = gate.witness.wait("kill", 30, name)["timeNano"] / 1e9 - ended
        assert gone_after(gate, name, ended) >= asked
        return asked

    for name, took in zip(idles, together([lambda n=n: one(n) for n in idles], 60)):
        assert idles[name] - 0.05 <= took <= idles[name] + 1.0, (name, took)
    gate.witness.wait_none(5)
    assert gate.admin.metric("kipgate_reaped_total", action="remove") == 3


def test_d3_idle_counts_from_the_end_of_an_exchange(kipgate, echo):
    """D3: it counted from the start, so a request longer than the timeout was cut."""
    gate = kipgate({"echo": echo(idle_timeout="1s")})
    response = gate.get(worker.slow(2500), timeout=20)
    ended = time.time()
    assert response.status == 200
    assert 0.95 <= gone_after(gate, "echo", ended) <= 2.0
    assert len(gate.witness.actions("create")) == 1


def test_each_use_moves_the_deadline(kipgate, echo):
    """Requests every 300 ms keep an instance with a timeout of 800 ms."""
    gate = kipgate({"echo": echo(idle_timeout="800ms")})
    for _ in range(8):
        assert gate.get("/").status == 200
        assert gate.witness.actions("die") == []
        pause(0.3)
    ended = time.time()
    assert gate.get("/").status == 200
    assert 0.75 <= gone_after(gate, "echo", ended) <= 2.0


def pause(seconds):
    """The passing of time is what is tested here; there is no event to wait for."""
    time.sleep(seconds)


def test_idle_kept_connection_does_not_keep_an_instance(kipgate, echo):
    """An open connection without a request is no use, and it works again afterwards."""
    gate = kipgate({"echo": echo(idle_timeout="700ms")})
    with gate.raw(30) as client:
        assert client.send(get("/1")).response().status == 200
        assert gone_after(gate, "echo", time.time()) <= 1.7
        again = client.send(get("/2")).response()
        assert again.status == 200 and again.one("Server-Timing")


def open_upload(gate):
    """A POST whose body never ends until told; gives how to end it and check."""
    client = gate.raw(30)
    client.send(get(worker.sink(), "Content-Length: 100", method="POST") + b"x" * 50)

    def end():
        client.send(b"x" * 50)
        assert worker.sunk_bytes(client.response("POST")) == 100
        client.close()

    return end


def open_events(gate):
    """A stream of server-sent events."""
    client = gate.raw(30)
    client.send(get(worker.sse(1000, 100)))
    assert client.final_head().status == 200
    return client.close


def open_websocket(gate):
    """A WebSocket that says nothing."""
    ws = websocket.create_connection(f"ws://{gate.front[0]}:{gate.front[1]}/ws", timeout=20)

    def end():
        ws.send("still there")
        assert ws.recv() == "still there"
        ws.close()

    return end


def open_download(gate):
    """A body that drips."""
    client = gate.raw(30)
    client.send(get(worker.drip(100000, 10, 200)))
    assert client.final_head().status == 200
    return client.close


def busy(gate):
    """Whether the one instance has one exchange and is not due."""
    instances = gate.admin.instances("echo")
    return (
        instances
        and instances[0]["exchanges"] == 1
        and instances[0]["reap_in_seconds"] in (None, -1)
    )


@pytest.mark.parametrize(
    "begin", [open_upload, open_events, open_websocket, open_download], ids=lambda f: f.__name__
)
def test_open_exchange_keeps_its_instance(kipgate, echo, begin):
    """Four idle timeouts long; then the clock starts at its end."""
    gate = kipgate({"echo": echo(idle_timeout="500ms")})
    end = begin(gate)
    wait_until(lambda: busy(gate), 15, "the exchange counts")
    pause(2)
    assert gate.witness.actions("die") == []
    end()
    assert 0.4 <= gone_after(gate, "echo", time.time()) <= 1.6


# --- D4 -------------------------------------------------------------------------------------------


def test_d4_the_documented_default_is_the_effective_one(kipgate, echo):
    """D4: 5 minutes were documented, 20 coded. Both the API and `check` show 5 minutes."""
    gate = kipgate({"echo": echo(routes=["/"]), "other": echo(routes=["/o"], idle_timeout="90s")})
    shown = gate.admin.service("echo")
    assert in_seconds(find(shown, "idle_timeout")) == 300
    checked = gate.cli("check")
    assert checked.returncode == 0, checked.stderr
    services = json.loads(checked.stdout)["services"]
    assert in_seconds(services["echo"]["idle_timeout"]) == 300
    assert in_seconds(services["other"]["idle_timeout"]) == 90
    assert gate.get("/").status == 200
    due = wait_until(
        lambda: gate.admin.instances("echo")[0]["reap_in_seconds"], 5, "its lease is back"
    )
    assert 295 < due <= 300, due


def find(value, key):
    """The value of a key anywhere in a JSON value."""
    if isinstance(value, dict):
        if key in value:
            return value[key]
        value = list(value.values())
    if isinstance(value, list):
        return next((f for f in (find(v, key) for v in value) if f is not None), None)
    return None


def in_seconds(text):
    """A duration string."""
    number, unit = re.fullmatch(r"(\d+)(ms|s|m|h)", text).groups()
    return int(number) * {"ms": 0.001, "s": 1, "m": 60, "h": 3600}[unit]


# --- D8, D10, D12, D13 ----------------------------------------------------------------------------


@pytest.mark.parametrize("action", ["kill", "stop", "remove"])
def test_d8_a_dead_containers_address_is_not_used(kipgate, echo, action):
    """D8: it was used until the timer came. Ended by hand: the next request gets a new instance."""
    gate = kipgate({"echo": echo()})
    for round_ in range(2):  # a third death in a row would open the breaker
        assert gate.get("/").status == 200
        container = gate.witness.wait_one(10)
        mark = gate.witness.events.mark()
        if action == "kill":
            gate.witness.client.api.kill(container["Id"])
        elif action == "stop":
            gate.witness.client.api.stop(container["Id"], timeout=1)
        else:
            gate.witness.client.api.remove_container(container["Id"], force=True)
        gate.witness.wait("die", 5, since=mark)
        response = gate.get(f"/after/{round_}")
        assert response.status == 200 and response.one("Server-Timing"), response.fields
        assert gate.witness.wait_one(10)["Id"] != container["Id"]


def test_d10_removal_outcomes_are_looked_at(kipgate, echo):
    """D10: delete ran when nothing existed and ignored its result. Here the container is removed by
    hand before it is due: no failure is logged, nothing is counted as reaped, all goes on."""
    gate = kipgate({"echo": echo(idle_timeout="1s")})
    assert gate.get("/").status == 200
    gate.witness.client.api.remove_container(gate.witness.wait_one(5)["Id"], force=True)
    wait_until(lambda: gate.admin.instances("echo") == [], 5, "the instance is known to be gone")
    pause(1.5)
    assert gate.admin.metric("kipgate_reaped_total", service="echo") == 0
    assert [line for line in gate.logs.all() if line.get("level") == "error"] == []
    assert gate.admin.sleep("echo").status == 200, "sleeping what sleeps is no failure"
    assert gate.witness.actions("create")[1:] == [], "nothing was made to be removed"
    assert gate.get("/").status == 200


def test_d12_two_hundred_requests_at_the_reap_instant(kipgate, echo):
    """D12: clean-up raced with new requests. 200 rounds in five lanes, each round fired at the due
    instant with a jitter of 5 ms either way: 0 fail."""
    lanes, rounds, idle = 5, 40, 0.3
    gate = kipgate({f"s{i}": echo(routes=[f"/s{i}"], idle_timeout="300ms") for i in range(lanes)})

    def lane(index):
        dice, outcomes = random.Random(1200 + index), []
        with gate.raw(30) as client:
            for _ in range(rounds + 1):
                response = client.send(get(f"/s{index}/x")).response()
                ended = time.monotonic()
                outcomes.append((response.status, response.one("Server-Timing") is not None))
                pause(max(0, ended + idle + dice.uniform(-0.005, 0.005) - time.monotonic()))
        return outcomes[1:]

    outcomes = sum(together([lambda i=i: lane(i) for i in range(lanes)], 150), [])
    assert [o for o in outcomes if o[0] != 200] == [] and len(outcomes) == lanes * rounds
    cold = sum(1 for _, was_cold in outcomes if was_cold)
    print(f"{cold} of {len(outcomes)} met a new instance")
    assert 0 < cold < len(outcomes), "the instant was hit on both sides"


def test_d13_health_and_readiness_tell_the_truth(kipgate, echo):
    """D13: health was always 200. Without an engine Kipgate lives but is not ready."""
    gate = kipgate({"echo": echo()})
    assert gate.admin.status("/healthz") == 200 and gate.admin.status("/readyz") == 200
    lost = kipgate({"echo": echo()}, start=False)
    lost.config["engine"] = f"unix://{lost.directory}/nobody.sock"
    lost.start(ready=False)
    wait_until(
        lambda: b"engine-unavailable" in lost.admin.call("GET", "/readyz").body, 5, "the reason"
    )
    assert lost.admin.status("/readyz") == 503
    assert lost.cli("health").returncode == 0 and lost.cli("health", "--ready").returncode == 1


# --- last: what came of the long download ---------------------------------------------------------


def test_zz_ninety_second_download_completes(long_download):
    """With an idle timeout of one second; the instance is gone one to two seconds after its end."""
    response, ended, died, created = long_download.result(SLOW_SECONDS + 80)
    assert response.status == 200 and len(response.body) == SLOW_SECONDS * 200
    assert created == 1 and 0.95 <= died - ended <= 2.05, died - ended
