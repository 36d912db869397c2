# SPDX-License-Identifier: Apache-2.0
"""Workers that fail, and other hands on them (rows 8 to 14, 17, 18, 20 to 22, 25 of the facts),
while another service is asked all the time. What is answered when a start fails is in
tests/engine/test_reasons.py, each breach of HTTP in tests/http/test_response_rules.py."""
import time

import docker
import pytest

from harness import echo as worker
from harness import raw
from harness.echo import Dump
from harness.faults import serves, told, unharmed
from harness.kipgate import problem
from harness.load import WarmLoad
from harness.waiting import Background, together, wait_until


@pytest.fixture
def gate(engine, make_gate, echo):
    """A healthy service, and one to be harmed, both warm."""
    made = make_gate(
        engine.host,
        cold=echo(idle_timeout="10m", strip_prefix=True, request_timeout="2s", memory="32MiB"),
    )
    assert made.admin.wake("cold").status == 200
    return made


def container_of(gate, service="cold"):
    """The service's container."""
    return gate.witness.wait_one(10, service)["Id"]


# --- at boot --------------------------------------------------------------------------------------

BOOTS = {
    "exits": ({"env": worker.exit_at_boot(3)}, 502, "instance-exited", 3),
    "eats all memory": (
        {"env": worker.oom_at_boot(), "memory": "16MiB"},
        502,
        "instance-exited",
        5,
    ),
    "never listens": ({"env": worker.never_listen()}, 504, "start-timeout", 3),
    "cannot be run": (
        {"command": ["/no/such"], "entrypoint": ["/no/such"]},
        502,
        "instance-exited",
        3,
    ),
}


def backs_off(gate):
    """Whether a request is refused because of the last failure, at once."""
    return b"urn:kipgate:backing-off" in gate.get("/bad", timeout=20).body


@pytest.mark.parametrize("how", BOOTS)
def test_worker_that_does_not_come_up(engine, make_gate, echo, how):
    """Rows 8 to 11: told at once, or at the deadline, with the reason; nothing left; then refused
    without a try, and tried again after that."""
    keys, status, reason, within = BOOTS[how]
    gate = make_gate(engine.host, bad=echo(start_timeout="2s", **keys))
    with unharmed(gate):
        began = time.monotonic()
        answers = together([lambda: gate.get("/bad", timeout=20)] * 3, 30)
        assert time.monotonic() - began < within
        for answer in answers:
            problem(answer, status, reason)
        assert gate.witness.made("bad") == 1
        gate.witness.wait_none(5, "bad")
        wait_until(lambda: backs_off(gate), 15, "a refusal without a try")
        wait_until(lambda: not backs_off(gate), 15, "a new try")


def test_worker_that_listens_late(engine, make_gate, echo):
    """Row 11: waited for; a hundred wait for one."""
    gate = make_gate(engine.host, late=echo(env=worker.start_delay(1200)))
    with unharmed(gate):
        asked = [Background(gate.get, "/late", timeout=20) for _ in range(50)]
        assert {task.result(30).status for task in asked} == {200}
    assert gate.witness.made("late") == 1


# --- warm -----------------------------------------------------------------------------------------


def test_worker_that_runs_out_of_memory_under_load(gate):
    """Row 8: killed in the middle: what was open on it is told or visibly broken, GETs of which
    nothing was seen are repeated, a new one serves soon."""
    before = container_of(gate)
    load = WarmLoad(gate.front, "/cold/x", clients=4)
    with unharmed(gate):
        wait_until(lambda: load.count > 20, 5, "load")
        response = gate.get("/cold" + worker.oom(), method="POST", body=b"x", timeout=30)
        problem(response, 502, "upstream-failed")
        gate.witness.wait("die", 5, "cold")
        told("out of memory under load: service", serves(gate, "/cold/y"))
        wait_until(lambda: container_of(gate) != before, 10, "another one")
    load.stop()
    assert len(load.failed) <= 4, load.failed
    assert {error[0] for _, error in load.failed if isinstance(error, tuple)} <= {502}


HANDS = {
    "removed": lambda api, c: api.remove_container(c, force=True),
    "killed": lambda api, c: api.kill(c),
    "stopped": lambda api, c: api.stop(c, timeout=1),
    "restarted": lambda api, c: api.restart(c, timeout=1),
    "paused": lambda api, c: api.pause(c),
}


def disconnect(api, container):
    """Takes it off its networks, and what it joined off its."""
    joined = api.inspect_container(container)["HostConfig"]["NetworkMode"].partition("container:")[
        2
    ]
    for network in api.inspect_container(joined or container)["NetworkSettings"]["Networks"]:
        api.disconnect_container_from_network(joined or container, network)


@pytest.mark.parametrize("how", HANDS)
def test_other_hands_on_a_warm_worker(gate, how):
    """Row 22: routing ends with the event; the next requests are served, whoever laid hands on it;
    in the end there is one container."""
    before = container_of(gate)
    with unharmed(gate):
        began = time.monotonic()
        try:
            HANDS[how](gate.witness.client.api, before)
        except docker.errors.APIError as error:  # Kipgate may have removed it meanwhile
            assert how == "restarted", error
        told(
            f"{how} by hand: service",
            serves(gate, "/cold/a", within=10) and time.monotonic() - began,
        )
        for i in range(5):
            response = gate.get(f"/cold/{i}", timeout=20)
            assert response.status == 200 and Dump(response.body).first == f"GET /{i} HTTP/1.1"
        after = gate.witness.wait_one(15, "cold")["Id"]
        assert how == "restarted" or after != before


@pytest.mark.parametrize("sandboxes", ["auto", "off"])
def test_disconnected_by_hand(engine, make_gate, echo, sandboxes):
    """Row 22: a worker, or the sandbox that it joined, is taken off its network. No event says so.
    Requests on kept connections meet their time-out; the first one that gets no connection makes
    Kipgate look, and another worker serves it."""
    gate = make_gate(
        engine.host,
        config={"sandboxes": None if sandboxes == "auto" else "off"},
        cold=echo(request_timeout="5s", idle_timeout="10m"),
    )
    assert gate.get("/cold", timeout=20).status == 200
    before = container_of(gate)
    with unharmed(gate):
        disconnect(gate.witness.client.api, before)
        began = time.monotonic()
        asked = [Background(gate.get, "/cold", timeout=20) for _ in range(3)]
        assert {task.result(30).status for task in asked} <= {200, 502, 504}
        serves(gate, "/cold", within=20)
        told(f"disconnected by hand (sandboxes {sandboxes}): service", time.monotonic() - began)
    assert container_of(gate) != before


def test_other_hands_under_load(gate):
    """Row 22: a worker is removed by force twice (a third time in ten seconds would be a crash too
    many): GETs are repeated elsewhere, but for those whose own new connection it was that broke."""
    load = WarmLoad(gate.front, "/cold/x", clients=4)
    with unharmed(gate):
        for _ in range(2):
            wait_until(lambda n=load.count: load.count > n + 10, 10, "load")
            gate.witness.client.api.remove_container(container_of(gate), force=True)
    load.stop()
    assert {error[0] for _, error in load.failed} <= {502} and len(load.failed) <= 4, load.failed


def test_paused_and_unpaused_by_hand(gate):
    """Row 12: requests wait or are sent elsewhere; nothing hangs for ever, and it works after."""
    container = container_of(gate)
    with unharmed(gate):
        gate.witness.client.api.pause(container)
        asked = Background(gate.get, "/cold", timeout=40)
        time.sleep(0.3)
        try:
            gate.witness.client.api.unpause(container)
        except docker.errors.APIError as error:  # Kipgate has replaced it, which is fine as well
            assert any(w in str(error) for w in ("not paused", "No such", "not running")), error
        assert asked.result(40).status == 200
    gate.witness.wait_one(15, "cold")


def test_renamed_by_hand(gate):
    """Row 22: still ours by its id: it goes on serving and is removed when it sleeps."""
    container = container_of(gate)
    gate.witness.client.api.rename(container, f"renamed-{container[:8]}")
    with unharmed(gate):
        assert gate.get("/cold").status == 200 and container_of(gate) == container
        assert gate.admin.sleep("cold").status == 200
        gate.witness.wait_none(15, "cold")


def test_replaced_by_hand(gate, echo_image):
    """Removed, and a stranger takes its name, its labels and, perhaps, its address: nothing goes to
    the stranger, and nobody touches it."""
    api = gate.witness.client.api
    container = container_of(gate)
    seen = gate.witness.inspect(container)
    network = next(n["Name"] for n in gate.witness.networks())
    with unharmed(gate):
        api.remove_container(container, force=True)
        stranger = gate.witness.client.containers.run(
            echo_image,
            detach=True,
            name=seen["Name"].lstrip("/"),
            network=network,
            environment={"PORT": "8080"},
        )
        try:
            for i in range(10):
                response = gate.get(f"/cold/{i}", timeout=20)
                assert response.status == 200
                assert not stranger.id.startswith(worker.host(response)), "sent to a stranger"
            gate.witness.wait_one(10, "cold")
            assert gate.admin.sleep("cold").status == 200
            stranger.reload()
            assert stranger.status == "running"
        finally:
            stranger.remove(force=True)


def test_names_that_strangers_hold(engine, make_gate, echo, echo_image):
    """Row 17: strangers hold names that begin like ours; they are never touched."""
    gate = make_gate(engine.host, cold=echo(idle_timeout="300ms"))
    sdk = gate.witness.client
    held = [sdk.containers.create(echo_image, name=f"kipgate-cold-{i:010x}") for i in range(3)]
    try:
        assert gate.get("/cold", timeout=20).status == 200
        gate.witness.wait_none(15, "cold")
        assert all(sdk.containers.get(s.id).status == "created" for s in held)
    finally:
        for stranger in held:
            stranger.remove(force=True)


def test_worker_that_ignores_term_does_not_hold_up_others(engine, make_gate, echo):
    """Row 21: its stop is bounded by the grace; another service is reaped in time meanwhile."""
    gate = make_gate(
        engine.host,
        deaf=echo(env=worker.ignore_term(), idle_timeout="500ms"),
        fine=echo(idle_timeout="500ms"),
    )
    together([lambda n=n: gate.get(f"/{n}", timeout=20) for n in ("deaf", "fine")], 30)
    gate.witness.wait("destroy", 4, "fine")
    gate.witness.wait("destroy", 6, "deaf")


def test_many_services_wake_together(engine, make_gate, echo):
    """Row 26: twelve cold services at once through the cap on starts: all served, one each."""
    names = [f"n{i}" for i in range(12)]
    gate = make_gate(engine.host, **{n: echo() for n in names})
    with unharmed(gate):
        answers = together([lambda n=n: gate.get(f"/{n}", timeout=60) for n in names], 90)
    assert [a.status for a in answers] == [200] * 12
    assert len(gate.witness.containers()) == 13


# --- in its answers -------------------------------------------------------------------------------

OK = b"HTTP/1.1 200 OK\r\n"
BREACHES = {  # what the worker says, how it goes on, and what the client must see
    "closes before a head": (b"", {"close": 1}, 502),
    "resets before a head": (b"", {"reset": 1}, 502),
    "closes within a head": (OK + b"Content-Le", {"close": 1}, 502),
    "resets within a head": (OK + b"Content-Le", {"reset": 1}, 502),
    "closes within a body": (OK + b"Content-Length: 9\r\n\r\nhalf", {"close": 1}, "broken"),
    "resets within a body": (OK + b"Content-Length: 9\r\n\r\nhalf", {"reset": 1}, "broken"),
    "closes within a chunk": (
        OK + b"Transfer-Encoding: chunked\r\n\r\n9\r\nhalf",
        {"close": 1},
        "broken",
    ),
    "closes before the last chunk": (
        OK + b"Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        {"close": 1},
        "broken",
    ),
    "sends garbage": (b"\x00\xff\x16\x03\x01 garbage\r\n\r\n", {}, 502),
    "sends less and stays": (OK + b"Content-Length: 9\r\n\r\nhalf", {"close": 1}, "broken"),
    "sends more": (OK + b"Content-Length: 4\r\n\r\nfull and more", {}, b"full"),
    "sends two answers": (
        OK + b"Content-Length: 4\r\n\r\nfull" + OK + b"Content-Length: 1\r\n\r\n2",
        {},
        b"full",
    ),
    "holds a half head": (OK + b"Content-Le", {"hold": 1}, 504),
}


def outcome(gate, target, method):
    """A status, the body of a 200, or "broken"."""
    try:
        response = gate.get("/cold" + target, method=method, timeout=10)
    except (raw.Broken, OSError):
        return "broken"
    return response.body if response.status == 200 else response.status


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_breaches_in_a_workers_answers(gate, method):
    """Rows 13 and 14: each breach is seen by its client alone: others on the same worker meanwhile
    get right answers, and so does the next request; the worker stays."""
    container = container_of(gate)
    load = WarmLoad(gate.front, "/cold/x", clients=2)
    with unharmed(gate):
        for name, (said, then, wanted) in BREACHES.items():
            got = outcome(gate, worker.raw_target(said, **then), method)
            assert got == wanted, (name, got)
            after = gate.get(f"/cold/after?{len(name)}")
            assert Dump(after.body).first == f"GET /after?{len(name)} HTTP/1.1", name
    load.stop()
    assert load.failed == [] and container_of(gate) == container


def test_worker_that_accepts_and_never_answers(gate):
    """Row 12: 504 at the request timeout, not before, while others are served by it."""
    with unharmed(gate):
        began = time.monotonic()
        asked = Background(gate.get, "/cold" + worker.hang(), timeout=20)
        assert gate.get("/cold/x").status == 200
        problem(asked.result(20), 504, "upstream-timeout")
        assert 1.9 < time.monotonic() - began < 3.5
