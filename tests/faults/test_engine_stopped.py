# SPDX-License-Identifier: Apache-2.0
"""The engine accepts and does not answer (rows 1 to 3 of the facts), is slow, or the way to it is
gone. The difficulty: what hangs may yet be carried out, at any later time."""
import socket
import time

import pytest

from harness.faults import LONG, ready, serves, told, unharmed
from harness.kipgate import problem
from harness.waiting import Background, wait_until


def one_container(gate, service):
    """Nothing of it exists twice."""
    wait_until(lambda: len(gate.witness.containers(service)) == 1, 10, "one container", 0.05)


def test_stopped_for_twenty_seconds(engine, make_gate, echo):
    """Row 1. Warm traffic does not notice. Cold requests end within their deadlines: those with a
    short one at it, late ones at once; one that is patient enough is served after the return."""
    gate = make_gate(
        engine.host,
        patient=echo(start_timeout="40s"),
        hasty=echo(start_timeout="2s"),
        late=echo(start_timeout="40s"),
    )
    with unharmed(gate):
        engine.suspend()
        began = time.monotonic()
        try:
            patient = [Background(gate.get, "/patient", timeout=60) for _ in range(3)]
            hasty = gate.get("/hasty", timeout=30)
            assert hasty.status in (503, 504) and time.monotonic() - began < 3, hasty.body
            ready(gate, 503, 10)
            told("stopped: noticed after", time.monotonic() - began)
            wait_until(lambda: time.monotonic() - began > 17, 20, "17 s")
            asked = time.monotonic()
            problem(gate.get("/late", timeout=30), 503, "engine-unavailable")
            assert time.monotonic() - asked < 0.5, "known to be away for long: told at once"
            assert gate.admin.status("/healthz") == 200
            wait_until(lambda: time.monotonic() - began > 20, 20, "20 s")
        finally:
            engine.resume()
        back = time.monotonic()
        assert told("stopped for 20 s: ready", ready(gate)) < 1.5
        assert [task.result(60).status for task in patient] == [200] * 3
        told("stopped for 20 s: the waiting requests", time.monotonic() - back)
        serves(gate, "/hasty")
    one_container(gate, "patient")


def test_stopped_in_the_middle_of_a_start(engine, make_gate, echo):
    """Row 2. The outcome of a create is unknown: it is asked for by name, never made twice."""
    gate = make_gate(engine.host, cold=echo(idle_timeout="10m"))
    with unharmed(gate):
        for pause in (0.005, 0.03, 0.1):
            asked = Background(gate.get, "/cold", timeout=60)
            time.sleep(pause)
            engine.suspend()
            time.sleep(0.7)
            engine.resume()
            assert asked.result(60).status == 200
            one_container(gate, "cold")
            assert gate.admin.sleep("cold").status == 200
    assert not gate.witness.containers("cold")


def test_create_that_is_given_up_and_happens_later(engine, between, make_gate, echo):
    """Row 2. The call hangs for longer than its deadline and is carried out then: adopted or
    removed, within 10 s, never left."""
    gate = make_gate(between.host, cold=echo(start_timeout="2s", idle_timeout="10m"))
    between.harm("create", "kipgate-cold-", delay=4, stubborn=True)
    with unharmed(gate):
        answer = gate.get("/cold", timeout=30)
        assert answer.status in (503, 504), answer.body
        gate.witness.wait("create", 10, "cold")
        wait_until(lambda: not gate.witness.containers("cold"), 10, "no ghost", 0.05)
        serves(gate, "/cold")
    one_container(gate, "cold")


@pytest.mark.parametrize("pause", [0.003, 0.06])
def test_client_that_hangs_up_in_the_middle(engine, make_gate, echo, pause):
    """Row 3. One of two who wait leaves: the other is served by the one container."""
    gate = make_gate(engine.host, cold=echo(idle_timeout="10m"))
    with unharmed(gate):
        leaver = gate.raw()
        leaver.send(b"GET /cold HTTP/1.1\r\nHost: kipgate.test\r\n\r\n")
        stayer = Background(gate.get, "/cold", timeout=30)
        time.sleep(pause)
        leaver.reset()
        assert stayer.result(30).status == 200
    assert gate.witness.made("cold") == 1


@pytest.mark.parametrize("seconds", [1, 5] if LONG else [1])
def test_every_call_slowed(engine, between, make_gate, echo, seconds):
    """A cold request takes its calls' time and is served; warm ones do not notice."""
    gate = make_gate(between.host, cold=echo(start_timeout="60s", idle_timeout="10m"))
    with unharmed(gate):
        between.harm(None, times=None, delay=seconds)
        began = time.monotonic()
        answer = gate.get("/cold", timeout=90)
        told(f"each call {seconds} s slower: a cold request", time.monotonic() - began)
        assert answer.status == 200, answer.body
        between.heal()
    ready(gate)
    one_container(gate, "cold")
    assert gate.witness.made("cold") == 1


def test_calls_of_a_start_slowed_by_five_seconds(engine, between, make_gate, echo):
    """Pings pass, what makes a container is slow: served, after the sum of them."""
    gate = make_gate(between.host, config={"sandboxes": "off"}, cold=echo(start_timeout="30s"))
    with unharmed(gate):
        slow = ("create", "start", "look") if LONG else ("start",)
        for verb in slow:
            between.harm(verb, "kipgate-cold-", delay=5)
        began = time.monotonic()
        assert gate.get("/cold", timeout=40).status == 200
        assert 0 < time.monotonic() - began - 5 * len(slow) < 2
        assert gate.admin.status("/readyz") == 200
    assert gate.witness.made("cold") == 1


def test_socket_gone_and_back(engine, between, make_gate, echo):
    """As while the engine is upgraded: warm traffic goes on, a waiting request is served."""
    gate = make_gate(between.host, cold=echo(start_timeout="20s"))
    with unharmed(gate):
        between.gone()
        ready(gate, 503, 5)
        asked = Background(gate.get, "/cold", timeout=40)
        time.sleep(1)
        between.back()
        back = time.monotonic()
        assert told("socket gone and back: ready", ready(gate)) < 1
        assert asked.result(40).status == 200
        told("socket gone and back: the waiting request", time.monotonic() - back)
    one_container(gate, "cold")


def test_somebody_else_listens_at_its_socket(engine, between, make_gate, echo):
    """What answers there is no engine: nothing is believed, nothing breaks."""
    gate = make_gate(between.host, cold=echo(start_timeout="20s"))
    with unharmed(gate):
        between.gone()
        impostor = socket.socket(socket.AF_UNIX)
        impostor.bind(str(between.path))
        impostor.listen(64)
        impostor.settimeout(0.05)
        until = time.monotonic() + 1.5
        while time.monotonic() < until:
            try:
                impostor.accept()[0].sendall(b"SSH-2.0-OpenSSH_9.2p1\r\n")
            except OSError:
                pass
        assert gate.admin.status("/readyz") == 503 and gate.admin.status("/healthz") == 200
        impostor.close()
        between.path.unlink()
        between.back()
        told("an impostor at the socket: ready", ready(gate))
        serves(gate, "/cold")
