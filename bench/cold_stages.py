# SPDX-License-Identifier: Apache-2.0
"""A request through Kipgate to a service in each stage of sleep. The difficulty: before each
measurement the stage must really be reached, as the engine tells it, and a stage that this program
does not have must be told as such and never be taken for another."""
import re
import sys

from common import ECHO_IMAGE, program
from cold_engine import first_byte
from harness.kipgate import Kipgate
from harness.raw import RawClient
from harness.waiting import TimedOut, wait_until
from harness.witness import SERVICE

TIMING = re.compile(r'kipgate;desc="(cold|paused)";dur=([0-9.]+)')


class NotAvailable(Exception):
    """What this program cannot do, in its own words."""


def service(route="/", **more):
    """An echo service that does not go to sleep by itself."""
    return {
        "image": ECHO_IMAGE,
        "port": 8080,
        "pull": "never",
        "routes": [route],
        "idle_timeout": "1h",
        **more,
    }


def open_gate(host, services, **top):
    """A running Kipgate with that configuration; NotAvailable when it does not know a key."""
    config = {"fronts": 1, "log_level": "warn", **top}
    gate = Kipgate(services, config=config, binary=program(), engine=host)
    checked = gate.cli("check")
    if checked.returncode != 0:
        gate.discard()
        if "unknown key" not in checked.stderr:
            sys.exit(checked.stderr)
        line = next(line for line in checked.stderr.splitlines() if "unknown key" in line)
        raise NotAvailable(line.partition(": ")[2])
    return gate.start()


def close_gate(gate):
    """Ends it and removes what it made."""
    gate.end()
    gate.discard()


def states(gate, name):
    """How many containers of the service are in each state, as the engine lists them."""
    counted = {}
    for container in gate.witness.containers(name):
        counted[container["State"]] = counted.get(container["State"], 0) + 1
    return counted


def parked(gate):
    """Containers of this Kipgate that are no instance of a service."""
    return [
        c
        for c in gate.witness.everything()
        if SERVICE not in c["Labels"] and c["State"] == "running"
    ]


def wait_for(condition, words, timeout=10):
    """A stage that must come by itself; NotAvailable when it does not."""
    try:
        return wait_until(condition, timeout, words, every=0.02)
    except TimedOut as error:
        raise NotAvailable(str(error)) from error


def asked(gate, target, stage):
    """Seconds to the first byte at the client, and those that Kipgate says it waited. `stage` is
    what Server-Timing must say: None for a warm answer."""
    took, response = first_byte(gate.front, target)
    timing = TIMING.fullmatch(response.one("Server-Timing") or "")
    said = timing[1] if timing else None
    if response.status != 200:
        sys.exit(f"{target}: {response.status} {response.body[:300]}")
    if said != stage:
        raise NotAvailable(f"{target} was answered as {said or 'warm'}, not as {stage or 'warm'}")
    return took, float(timing[2]) / 1000 if timing else 0.0


def sleep(gate, name):
    """Puts a service to sleep until none of its containers is left."""
    if gate.admin.sleep(name).status != 200:
        sys.exit(f"{name} could not be put to sleep")
    gate.witness.wait_none(10, name)


class Cold:
    """No instance at all, with parked namespaces or without."""

    def __init__(self, host, words, parks, **top):
        self.rows = [f"kipgate: cold, {words}", "  the same, by Server-Timing"]
        self.parks = parks
        self.gate = open_gate(host, {"cold": service()}, **top)
        self.shares = []  # seconds beyond the engine's create and start, one for each round
        self.first()

    def first(self):
        """Makes what is made once (the network, the image of sandboxes): not measured."""
        asked(self.gate, "/", "cold")
        (container,) = self.gate.witness.containers("cold")
        self.inspected = self.gate.witness.inspect(container["Id"])
        if self.parks:
            wait_for(lambda: parked(self.gate), "a parked network namespace")

    def _calls(self):
        """Time in the engine's create and start so far, and how many of them there were."""
        samples = self.gate.admin.metrics()

        def of(name, op):
            return samples.get((f"kipgate_engine_call_seconds_{name}", (("op", op),)), 0)

        ops = ("create", "start")
        return sum(of("sum", op) for op in ops), sum(of("count", op) for op in ops)

    def measure(self):
        """To sleep, then a request. Its own share is known where no other call ended meanwhile."""
        sleep(self.gate, "cold")
        if self.parks:
            wait_for(lambda: parked(self.gate), "a parked network namespace")
        spent, calls = self._calls()
        took, waited = asked(self.gate, "/", "cold")
        spent_then, calls_then = self._calls()
        if calls_then - calls == 2:
            self.shares.append(took - (spent_then - spent))
        return [took, waited]

    def close(self):
        """Ends its Kipgate."""
        close_gate(self.gate)


class Paused:
    """One instance, paused after a while without use."""

    rows = ["kipgate: paused instance", "  the same, by Server-Timing"]

    def __init__(self, host):
        self.gate = open_gate(host, {"paused": service(pause_after="100ms")})
        asked(self.gate, "/", "cold")

    def measure(self):
        """Waits for the pause, then a request."""
        wait_for(self._is_paused, "a pause after pause_after")
        return list(asked(self.gate, "/", "paused"))

    def _is_paused(self):
        """By Kipgate's word, too: the engine calls it paused until an unpause is over."""
        known = [i["state"] for i in self.gate.admin.instances("paused")]
        return known == ["paused"] and states(self.gate, "paused") == {"paused": 1}

    def close(self):
        """Ends its Kipgate."""
        close_gate(self.gate)


class Held:
    """An instance that is kept busy by an endless answer, so that the next request needs another
    one: a spare that was never used, or one that runs."""

    def __init__(self, host, words, stage, ready, **more):
        self.rows = [f"kipgate: {words}", "  the same, by Server-Timing"]
        if stage is None:
            self.rows.pop()
        self.words, self.stage, self.ready = words, stage, ready
        self.holder, self.used = None, False
        self.gate = open_gate(host, {"held": service(concurrency=1, max_instances=2, **more)})
        self.hold()

    def hold(self):
        """Makes one instance busy."""
        self.holder = RawClient(self.gate.front, 30)
        self.holder.send(b"GET /sse?n=100000&ms=1000 HTTP/1.1\r\nHost: kipgate.test\r\n\r\n")
        self.holder.final_head()

    def begin_anew(self):
        """The spare of the round before was used and stays warm: all go, and come again."""
        self.holder.close()
        sleep(self.gate, "held")
        self.hold()

    def measure(self):
        """Waits until the other is ready for use, then a request."""
        if self.used:
            self.begin_anew()
        for more in (True, True, False):  # the one that takes the first request may be the spare
            try:
                wait_for(lambda: states(self.gate, "held") == self.ready, "the other one", 4)
                break
            except NotAvailable as error:
                if not more:
                    raise NotAvailable(f"{error}; there are {states(self.gate, 'held')}") from error
                self.begin_anew()
        self.used = self.stage is not None
        return list(asked(self.gate, "/", self.stage))[: len(self.rows)]

    def close(self):
        """Ends its Kipgate."""
        if self.holder:
            self.holder.close()
        close_gate(self.gate)


def spare(host):
    """A paused instance beyond the busy one."""
    return Held(host, "paused spare", "paused", {"running": 1, "paused": 1}, spares=1)


def running(host):
    """A running instance beyond the busy one."""
    return Held(host, "running spare", None, {"running": 2}, min_instances=2)
