# SPDX-License-Identifier: Apache-2.0
"""The engine ends and comes back at each step of a container's life (rows 4 to 7 of the facts).
The difficulty is to hit the step: the kill is made by what stands between, at the call."""
import os
import time

import pytest

from harness import echo as worker
from harness.faults import LONG, ready, serves, told, unharmed
from harness.kipgate import problem
from harness.waiting import Background, together, wait_until

ANSWERED = (200, 502, 503, 504)
ENGINE_GRACE_S = 10  # FLEET_ENGINE_GRACE_MS


def strike(engine):
    """kill -9, without waiting for the end."""
    return lambda: os.kill(engine.pid(), 9)


def settled(gate, service):
    """After a return of the engine: the service works, by one container and no ghost, and nothing
    is left of it once it sleeps."""
    gate.witness.refollow()
    took = serves(gate, f"/{service}")
    wait_until(lambda: len(gate.witness.containers(service)) == 1, 10, "one container", 0.05)
    assert gate.admin.sleep(service).status == 200
    wait_until(lambda: not gate.witness.containers(service), 12, "no ghost", 0.05)
    wait_until(lambda: len(sandboxes(gate)) <= 4, 15, "no sandbox is left behind", 0.1)
    return took


def sandboxes(gate):
    """Those that are in use or kept ready for starts: few after a few starts."""
    instances = {c["Id"] for c in gate.witness.containers()}
    return {c["Id"] for c in gate.witness.everything()} - instances


STEPS = {  # the call at which it is struck, and when
    "before it is created": ("create", {"before": 0}),
    "while it is created": ("create", {"after": 0.003}),
    "when it is created": ("create", {"answered": 0}),
    "before it is started": ("start", {"before": 0}),
    "while it is started": ("start", {"after": 0.05}),
    "when it is started": ("start", {"answered": 0}),
    "while it is looked at": ("look", {"before": 0}),
}


@pytest.mark.parametrize("step", STEPS)
def test_killed_while_an_instance_is_made(engine, between, make_gate, echo, step):
    """The waiting request is served after the return, or told why where that took longer than an
    engine is waited for; the next one is served."""
    gate = make_gate(between.host, cold=echo(start_timeout="20s", idle_timeout="10m"))
    verb, ((when, after_s),) = STEPS[step][0], STEPS[step][1].items()
    harm = between.harm(verb, "kipgate-cold-", after_s=after_s, **{when: strike(engine)})
    with unharmed(gate):
        asked = Background(gate.get, "/cold", timeout=40)
        assert harm.done.wait(10), "the call"
        struck = time.monotonic()
        engine.kill_dockerd()
        engine.start_dockerd()
        back = time.monotonic()
        told(f"killed {step}: ready", ready(gate))
        answer = asked.result(40)
        told(f"killed {step}: the waiting request", time.monotonic() - back)
    if answer.status != 200:
        problem(answer, 503, "engine-unavailable")
        assert time.monotonic() - struck >= ENGINE_GRACE_S, "it was back in time"
    settled(gate, "cold")


def test_killed_while_probing(engine, between, make_gate, echo):
    """It runs, listens late, and the engine is gone meanwhile: its listening is what counts."""
    gate = make_gate(between.host, cold=echo(env=worker.start_delay(1500), start_timeout="20s"))
    with unharmed(gate):
        asked = Background(gate.get, "/cold", timeout=40)
        wait_until(
            lambda: [i["state"] for i in gate.admin.instances("cold")] == ["probing"], 10, "probing"
        )
        engine.kill_dockerd()
        answer = asked.result(20)  # the engine is not needed for this
        engine.start_dockerd()
        ready(gate)
    assert answer.status == 200
    settled(gate, "cold")


@pytest.mark.parametrize("verb, after_s", [("stop", 0.05), ("remove", 0.002)])
def test_killed_while_an_instance_goes(engine, between, make_gate, echo, verb, after_s):
    """The order is given again; a request meanwhile gets a new one."""
    gate = make_gate(between.host, cold=echo(env=worker.ignore_term(), idle_timeout="10m"))
    assert gate.get("/cold", timeout=20).status == 200
    harm = between.harm(verb, "kipgate-cold-", after_s=after_s, after=strike(engine))
    with unharmed(gate):
        asleep = Background(gate.admin.sleep, "cold")
        assert harm.done.wait(10), "the call"
        asked = Background(gate.get, "/cold", timeout=40)
        engine.kill_dockerd()
        engine.start_dockerd()
        ready(gate)
        back = time.monotonic()
        assert asked.result(40).status == 200
        assert asleep.result(40).status == 200
        told(f"killed while it went ({verb}): the next request", time.monotonic() - back)
    settled(gate, "cold")


def test_killed_while_warm(engine, make_gate, echo):
    """Three times, under warm load: /readyz tells the truth, the same instance goes on, cold
    requests are told or served, and work again at once."""
    gate = make_gate(
        engine.host,
        cold=echo(idle_timeout="1s"),
        hasty=echo(start_timeout="1s", idle_timeout="1h"),
    )
    before = gate.witness.containers("warm")[0]["Id"]
    with unharmed(gate):
        for _ in range(3):
            engine.kill_dockerd()
            ready(gate, 503, 3)
            assert gate.admin.metric("kipgate_engine_up") == 0
            problem(gate.get("/hasty", timeout=40), 503, "engine-unavailable")
            assert gate.admin.status("/healthz") == 200
            engine.start_dockerd()
            assert told("killed while warm: ready", ready(gate)) < 1, "green soon after it answers"
            assert gate.admin.metric("kipgate_engine_up") == 1
            serves(gate, "/cold")
    gate.witness.refollow()
    assert [c["Id"] for c in gate.witness.containers("warm")] == [before]


def test_killed_in_the_middle_of_many_starts(engine, make_gate, echo):
    """Row 5: a killed engine may leave a container that it never told of."""
    names = [f"n{i}" for i in range(3)]
    services = {n: echo(start_timeout="20s", idle_timeout="10m") for n in names}
    gate = make_gate(engine.host, config={"max_starts": 4}, **services)
    with unharmed(gate):
        for pause in (0.005, 0.02, 0.05, 0.15, 0.3) if LONG else (0.02, 0.15):
            asked = [Background(gate.get, f"/{n}", timeout=60) for n in names for _ in "ab"]
            time.sleep(pause)
            engine.kill_dockerd()
            engine.start_dockerd()
            answers = [task.result(60) for task in asked]
            assert {a.status for a in answers} == {200}, [(a.status, a.body) for a in answers]
            gate.witness.refollow()
            for name in names:
                wait_until(lambda n=name: len(gate.witness.containers(n)) == 1, 10, "no ghost", 0.1)
                assert gate.admin.sleep(name).status == 200
            wait_until(lambda: len(gate.witness.containers()) == 1, 15, "only the warm one", 0.1)


def test_waiting_requests_are_answered_while_it_is_away(engine, make_gate, echo):
    """It does not come back within the deadline: each of ten is answered in time."""
    gate = make_gate(engine.host, hasty=echo(start_timeout="1s"))
    with unharmed(gate):
        engine.kill_dockerd()
        began = time.monotonic()
        answers = together([lambda: gate.get("/hasty", timeout=60)] * 10, 90)
        assert {a.status for a in answers} == {503} and time.monotonic() - began < 3
        for answer in answers:
            problem(answer, 503, "engine-unavailable")
        engine.start_dockerd()
        told("away for longer than the deadline: service", serves(gate, "/hasty"))


@pytest.mark.parametrize("how", ["killed", "ended"])
def test_engine_that_takes_its_containers_along(engine, make_gate, echo, how):
    """Rows 4, 6 and 7, without live-restore: the exits are the engine's doing, not the workers';
    the first request after the return waits and is served; no back-off, one container."""
    engine.kill_dockerd()
    engine.start_dockerd(live_restore=False)
    try:
        gate = make_gate(engine.host, start=True, warm=False, cold=echo(idle_timeout="10m"))
        assert gate.get("/cold", timeout=20).status == 200
        (engine.kill_dockerd if how == "killed" else engine.end_dockerd)()
        asked = Background(gate.get, "/cold", timeout=40)
        engine.start_dockerd()
        back = time.monotonic()
        assert asked.result(40).status == 200
        told(f"{how} with its containers: the waiting request", time.monotonic() - back)
        assert not any("backing-off" in line for line in gate.stderr)
        settled(gate, "cold")
    finally:
        if engine.answers():
            engine.kill_dockerd()
        engine.start_dockerd()


# --- containerd -----------------------------------------------------------------------------------


CONTAINERD = {"start": "start"}
if LONG:  # it may take dockerd 15 s to find it again
    CONTAINERD.update(warm=None, stop="stop", remove="remove")


@pytest.mark.parametrize("step", CONTAINERD)
def test_containerd_killed(engine, between, make_gate, echo, step):
    """The engine answers, and cannot start or end anything. Workers go on; afterwards all works."""
    gate = make_gate(between.host, cold=echo(env=worker.ignore_term(), start_timeout="20s"))
    if step in ("stop", "remove"):
        assert gate.get("/cold", timeout=20).status == 200
    harm = between.harm(
        CONTAINERD[step] or "ping",
        "kipgate-cold-" if CONTAINERD[step] else "",
        after_s=0.03,
        after=engine.kill_containerd,
    )
    with unharmed(gate):
        if step in ("stop", "remove"):
            task = Background(gate.admin.sleep, "cold")
        else:
            task = Background(gate.get, "/cold" if step == "start" else "/", timeout=40)
        assert harm.done.wait(10), "the call"
        wait_until(lambda: engine.containerd_gone(), 10, "containerd is gone")
        time.sleep(0.5)
        engine.start_containerd()
        back = time.monotonic()
        assert task.result(60).status in ANSWERED
        serves(gate, "/cold", within=30)
        told(f"containerd killed ({step}): service", time.monotonic() - back)
    settled(gate, "cold")
