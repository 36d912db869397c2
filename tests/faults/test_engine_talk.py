# SPDX-License-Identifier: Apache-2.0
"""What the engine says is lost, doubled, late or garbage (rows 23 and 24 of the facts): the list is
the truth, events are hints, an answer that makes no sense is no answer."""
import json
import time

import pytest

from harness.between import answer
from harness.faults import LONG, ready, serves, told, unharmed
from harness.kipgate import problem
from harness.waiting import wait_until


def kill_worker(gate, service):
    """The worker dies, by another hand; gives its container."""
    container = gate.witness.wait_one(10, service)["Id"]
    gate.witness.client.api.kill(container)
    return container


# --- events ---------------------------------------------------------------------------------------


def test_events_cut(engine, between, make_gate, echo):
    """The stream ends ten times: subscribed again each time, nothing is missed."""
    gate = make_gate(between.host, cold=echo(idle_timeout="10m"))
    with unharmed(gate):
        for round_ in range(10):
            between.cut_events()
            if round_ % 3 == 0:
                serves(gate, "/cold")
                dead = kill_worker(gate, "cold")
                assert gate.get("/cold", timeout=20).status == 200
                wait_until(lambda d=dead: d not in gate.witness.ids("cold"), 10, "it is removed")
            ready(gate)
    assert between.count("events") >= 10


def test_death_while_events_are_cut(engine, between, make_gate, echo):
    """The worker dies while there is no stream: known as soon as there is one again."""
    gate = make_gate(between.host, cold=echo(idle_timeout="10m"))
    assert gate.get("/cold", timeout=20).status == 200
    with unharmed(gate):
        between.harm("events", times=None, reset="before")
        between.cut_events()
        ready(gate, 503)
        kill_worker(gate, "cold")
        time.sleep(0.2)
        between.heal()
        began = time.monotonic()
        wait_until(lambda: not gate.witness.containers("cold"), 10, "the dead one is removed", 0.02)
        told("a death while events are cut: removed", time.monotonic() - began)
        assert gate.get("/cold", timeout=20).status == 200


def test_events_that_stay_out(engine, between, make_gate, echo):
    """The stream is open and silent: what a request meets is noticed at once by its failure, what
    nobody meets by the regular list (30 s)."""
    gate = make_gate(between.host, cold=echo(idle_timeout="10m"))
    between.mute = True
    with unharmed(gate):
        assert gate.get("/cold", timeout=20).status == 200
        dead = kill_worker(gate, "cold")
        answers = [gate.get("/cold", timeout=20).status for _ in range(3)]
        assert answers == [200] * 3, "a GET is repeated: no byte of an answer was seen"
        assert gate.witness.wait_one(10, "cold")["Id"] != dead


GARBLED = {
    "one byte at a time": lambda data: [data[i : i + 1] for i in range(len(data))],
    "each twice": lambda data: [data, *(d for d in [data] if data.startswith(b"{"))],
    "a line of garbage before": lambda data: [chunk(b"\xff\x00{not json}\n"), data],
    "an oversized line before": lambda data: [chunk(b"x" * 3_000_000 + b"\n"), data],
    "deep nesting before": lambda data: [chunk(b"[" * 100_000 + b"\n"), data],
    "a lie before": lambda data: [chunk(LIE), data],
}
LIE = (
    json.dumps(
        {
            "Type": "container",
            "Action": "die",
            "Actor": {"ID": "0" * 64, "Attributes": {"io.kipgate.owner": "somebody", "name": "x"}},
            "timeNano": 2**62,
        }
    ).encode()
    + b"\n"
)


def chunk(data):
    """As a chunk of a body."""
    return b"%x\r\n" % len(data) + data + b"\r\n"


@pytest.mark.parametrize("how", GARBLED)
def test_events_garbled(engine, between, make_gate, echo, how):
    """Row 23. Whatever comes, each cold request is served and each death noticed."""
    gate = make_gate(between.host, cold=echo(idle_timeout="10m"))

    def change(data):
        return [data] if data.startswith(b"HTTP/") else GARBLED[how](data)

    between.harm("events", times=None, change=change)
    between.cut_events()
    ready(gate)
    with unharmed(gate):
        for _ in range(2):
            assert gate.get("/cold", timeout=20).status == 200
            dead = kill_worker(gate, "cold")
            wait_until(lambda d=dead: d not in gate.witness.ids("cold"), 10, "it is removed", 0.02)
        ready(gate)


# --- answers --------------------------------------------------------------------------------------

DEEP = b"[" * 200_000
ANSWERS = {
    "garbage": b"\x00\xffnot http at all\r\n\r\n",
    "nothing": b"",
    "half a head": b"HTTP/1.1 201 Created\r\nContent-Le",
    "no JSON": answer(201, b"<html>fine</html>", kind="text/html"),
    "500 with HTML": answer(500, b"<html>no</html>", kind="text/html"),
    "short of its length": answer(201, b'{"Id":"', length=5000),
    "deep nesting": answer(200, DEEP),
    "the wrong shape": answer(201, [1, 2, {"Id": 7}]),
    "an id that is none": answer(201, {"Id": "../../etc/passwd"}),
    "503": answer(503, {"message": "try later"}),
}


@pytest.mark.parametrize("verb", ["create", "start", "look", "remove", "list"])
def test_answers_that_make_no_sense(engine, between, make_gate, echo, verb):
    """Row 24. Each is met once at each verb, though the engine may have done what it was asked:
    the client is told by a reason or served, the next one is served, nothing exists twice."""
    said = [w for n, w in enumerate(ANSWERS) if LONG or n % 3 == 0 or verb in ("create", "look")]
    services = {f"s{n}": echo(start_timeout="8s") for n in range(len(said))}
    gate = make_gate(between.host, **services)
    with unharmed(gate):
        for n, words in enumerate(said):
            if verb == "remove":
                assert gate.get(f"/s{n}", timeout=30).status == 200, words
            prefix = "" if verb == "list" else f"kipgate-s{n}-"
            between.harm(verb, prefix, answer=ANSWERS[words])
            if verb == "remove":
                assert gate.admin.sleep(f"s{n}").status == 200, words
            elif verb == "list":
                between.cut_events()  # the list is asked for after each subscription
                ready(gate)
            first = gate.get(f"/s{n}", timeout=30)
            if first.status != 200:
                assert first.status in (502, 503, 504), (words, first.body)
                problem(first, first.status, json.loads(first.body)["type"][12:])
    assert gate.process.poll() is None
    between.cut_events()  # it lied about removals, perhaps: the next list tells
    ready(gate)
    for n, words in enumerate(said):
        serves(gate, f"/s{n}", within=10)
        wait_until(lambda s=f"s{n}": len(gate.witness.containers(s)) == 1, 10, words, 0.05)


@pytest.mark.parametrize("cut", ["before", "after", 10])
def test_connection_to_the_engine_reset(engine, between, make_gate, echo, cut):
    """Each call of a life is reset once, before it was carried out, after it, and in its answer:
    the requests are served all the same, by one container at a time."""
    gate = make_gate(between.host, cold=echo(start_timeout="20s", idle_timeout="10m"))
    with unharmed(gate):
        for verb in ("create", "start", "look", "stop", "remove", "list", "ping"):
            prefix = "" if verb in ("list", "ping") else "kipgate-cold-"
            harm = between.harm(verb, prefix, reset=cut)
            answered = gate.get("/cold", timeout=40)
            assert answered.status == 200, (verb, answered.body)
            assert gate.admin.sleep("cold").status == 200
            wait_until(lambda: not gate.witness.containers("cold"), 10, f"{verb}: a ghost", 0.02)
            if verb == "list":
                between.cut_events()
            wait_until(lambda h=harm: h.hits, 5, f"{verb} was reset")
            ready(gate)
