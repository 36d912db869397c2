#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A million requests while instances are reaped at 50 ms of idleness, the configuration changes
each second and workers are killed at random (prober.sh). Each must be answered right, but for those
that are open on a killed worker, and these must be visibly broken.
The difficulty: what may break must be known without asking who broke it, so kills leave windows."""
import argparse
import random
import signal
import threading
import time

import rig
from harness.kipgate import Kipgate
from harness.waiting import TimedOut, wait_until

# name:connections:burst:pause_lo_ms:pause_hi_ms:think_ms. Pauses end before, at and after the reap.
LOADS = (
    "plain:12:{burst}:20:120:0",
    "probed:8:{burst}:40:70:0",
    "narrow:6:{half}:20:200:0",
    "socket:8:{burst}:30:150:0",
    "stopped:8:{burst}:40:120:0",
    "paused:8:{burst}:20:500:0",
)


def services():
    """One service of each kind of life."""
    idle = {"idle_timeout": "50ms", "queue": 1000}
    made = {
        "plain": rig.service("plain", **idle),
        "probed": rig.service("probed", health={"path": "/health"}, **idle),
        "narrow": rig.service("narrow", concurrency=2, max_instances=2, **idle),
        "socket": rig.service("socket", ["SOCKET=/run/worker/s.sock"], **idle),
        "stopped": rig.service("stopped", on_idle="stop", **idle),
        "paused": rig.service("paused", pause_after="50ms", queue=1000, idle_timeout="400ms"),
    }
    del made["socket"]["port"]
    made["socket"]["socket"] = "/run/worker/s.sock"
    return made


def change(gate, number):
    """What differs from one configuration to the next: every second time nothing that replaces an
    instance, else also the environment of two services, whose instances are drained and replaced
    (if they have one: who changes faster than a worker starts is never served)."""
    services_now = gate.config["services"]
    services_now["plain"]["idle_timeout"] = ("50ms", "60ms")[number % 2]
    services_now["narrow"]["queue"] = 1000 + number % 2
    gate.config["drain_timeout"] = ("60s", "61s")[number % 2]
    if number % 2:
        services_now["guest"] = rig.service("guest", idle_timeout="50ms")
        return
    services_now.pop("guest", None)
    for name in ("probed", "stopped"):
        if any(i["state"] == "ready" for i in gate.admin.instances(name)):
            services_now[name]["env"] = [f"SERVICE={name}", f"GENERATION={number}"]


class Disturber:
    """Reloads each second and kills at random until told to stop."""

    def __init__(self, gate, seed, kill_every):
        self.gate, self.killer = gate, rig.Killer(gate, seed)
        self.random, self.kill_every = random.Random(seed + 1), kill_every
        self.stopped = threading.Event()
        self.reloads, self.errors = 0, []
        self.threads = [
            threading.Thread(target=self._guarded, args=(work,), daemon=True)
            for work in (self._reload, self._kill)
        ]
        for thread in self.threads:
            thread.start()

    def _guarded(self, work):
        try:
            work()
        except BaseException as error:  # told by `stop`
            self.errors.append(error)

    def _reload(self):
        while not self.stopped.wait(1):
            change(self.gate, self.reloads)
            self.gate.write_config()
            self.gate.process.send_signal(signal.SIGHUP)
            self.reloads += 1

    def _kill(self):
        names = [load.split(":")[0] for load in LOADS]
        while not self.stopped.wait(self.random.uniform(0, 2 * self.kill_every)):
            self.killer.kill_any(names)

    def stop(self):
        """Ends both; raises what one of them raised."""
        self.stopped.set()
        for thread in self.threads:
            thread.join(60)
        if self.errors:
            raise self.errors[0]


def judge(prober, kills):
    """Counts of what was broken by a kill, and lines of what was not."""
    bad = []
    broken = 0
    for line in prober.odd:
        if line.kind in ("failed", "cut") and rig.explained(line, kills):
            broken += 1
        else:
            bad.append(line)
    return broken, bad


def report(prober, gate, disturber, seconds):
    """Prints the table; gives what is wrong."""
    totals, kills = prober.totals, disturber.killer.kills
    broken, bad = judge(prober, kills)
    metrics = gate.admin.metrics()
    ended = sum(totals[kind] for kind in rig.CLASSES)
    rig.table(
        "prober",
        [
            ("requests", totals["sent"]),
            ("answered right", totals["right"]),
            (
                "broken by a kill, visibly",
                f"{broken} ({totals['failed']} 502, {totals['cut']} cut)",
            ),
            ("broken otherwise", len([b for b in bad if b.kind in ("failed", "cut", "dropped")])),
            ("refused", totals["refused"]),
            ("wrong", totals["wrong"]),
            ("without an end", totals["sent"] - ended),
            ("connections", totals["connections"]),
            ("cold starts", rig.total(metrics, "kipgate_cold_starts_total")),
            ("reaps", rig.total(metrics, "kipgate_reaped_total")),
            ("resumes", rig.total(metrics, "kipgate_resumes_total")),
            ("kills", f"{len(kills)}"),
            ("reloads", disturber.reloads),
            ("seconds", f"{seconds:.0f}"),
        ],
    )
    rig.table(
        "requests and answers by service",
        [
            (name, " ".join(f"{k}={v}" for k, v in counts.items() if v))
            for name, counts in prober.services.items()
        ],
    )
    wrong = [f"unexplained: {line}" for line in bad]
    if totals["sent"] != ended:
        wrong.append(f"{totals['sent'] - ended} requests did not end in a class")
    return wrong + [str(miscount) for miscount in rig.miscounts(prober.services, gate)]


def run(requests, seed, kill_every=0.4, burst=1000):
    """The whole; gives what is wrong."""
    random.seed(seed)
    loads = [load.format(burst=burst, half=burst // 2) for load in LOADS]
    config = {"log_level": "info", "fronts": 2}
    with Kipgate(services(), config=config) as gate:
        began = time.monotonic()
        prober = rig.Prober(gate.front[1], seed, requests, 3600, loads, say=print)
        disturber = Disturber(gate, seed, kill_every)
        try:
            prober.wait(3600)
        finally:
            disturber.stop()
        seconds = time.monotonic() - began
        wrong = report(prober, gate, disturber, seconds)
        try:
            wait_until(lambda: not running(gate), 30, "the end of all instances")
        except TimedOut as error:
            wrong.append(str(error))
    return wrong


def running(gate):
    """Instances that should have been reaped: those that are kept stopped are none."""
    return [
        c["Names"] for c in gate.witness.containers() if c["State"] not in ("exited", "created")
    ]


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("requests", type=int, nargs="?", default=1000000)
    rig.main(parser, lambda words: run(words.requests, words.seed))


if __name__ == "__main__":
    main()
