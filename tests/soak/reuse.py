#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Workers of several services are killed and made again on a network with 13 addresses, so that
addresses go from one service to another all the time, while all are asked (reuse.sh): not one
answer may be another service's. Half of it with parked network namespaces, half without.
The difficulty: the engine, not we, decides who gets an address; what moved is counted, and a run
in which none moved has shown nothing."""
import argparse
import collections
import threading
import time

import rig
from harness.kipgate import Kipgate

# Busy ones, at which something is open nearly always, and slow ones, of which fronts know an
# instance for half a second in which they hear nothing of it. Idle timeout, and load (prober.c).
BUSY = {f"busy{n}": ("100ms", "4:300:100:300:10") for n in range(3)}
SLOW = {f"slow{n}": ("2s", "3:20:2100:2400:150") for n in range(3)}
SERVICES = {**BUSY, **SLOW}
SMALL = [f"10.126.{n // 16}.{n % 16 * 16}/28" for n in range(64)]
SPARE_SANDBOXES = 3


class Cycles:
    """Kills and recreations of all services, each on a thread of its own that follows the service's
    instances."""

    def __init__(self, gate, seed, wanted, until):
        self.gate, self.wanted, self.until = gate, wanted, until
        self.lock = threading.Lock()
        self.done, self.reaped = 0, 0
        self.moved, self.same = 0, 0
        self.holder = {}  # address -> the service that had it last
        self.killers = {name: rig.Killer(gate, seed + n) for n, name in enumerate(SERVICES)}
        self.errors = []

    def run(self):
        """Until there are enough of them, or the time is over."""
        threads = [
            threading.Thread(target=self._guarded, args=(name,), daemon=True) for name in SERVICES
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self.errors:
            raise self.errors[0]

    def _guarded(self, name):
        try:
            self._follow(name, self.killers[name])
        except BaseException as error:  # told by `run`
            self.errors.append(error)

    def _goes_on(self):
        shown = self.done >= self.wanted and self.moved > 0  # addresses are given in turn
        return not shown and time.monotonic() < self.until and not self.errors

    def _follow(self, name, killer):
        mark, killed = 0, False
        while self._goes_on():
            line, mark = self.gate.logs.find(
                lambda line: line.get("service") == name
                and line.get("to") in ("ready", "stopping"),
                120,
                f"an instance of {name} that is ready or goes",
                mark,
            )
            if line["to"] == "stopping":
                self._count(reaped=1)
                continue
            self._note(name, done=killed)
            killed = killer.may_kill(name) and self._kill(name, killer)

    @staticmethod
    def _kill(name, killer):
        time.sleep(killer.random.uniform(0, 0.1))
        return killer.kill_one(name, ("worker", "container", "container")) is not None

    def _count(self, done=0, reaped=0):
        with self.lock:
            self.done += done
            self.reaped += reaped

    def _note(self, name, done):
        """Where it is now, and who was there before."""
        self._count(done=done)
        for found in self.gate.admin.instances(name):
            if found["state"] == "ready":
                with self.lock:
                    before = self.holder.get(found["address"])
                    self.moved += before is not None and before != name
                    self.same += before == name
                    self.holder[found["address"]] = name

    def kills(self):
        """All windows."""
        return [kill for killer in self.killers.values() for kill in killer.kills]


def one_pass(cycles, seed, seconds, sandboxes):
    """One Kipgate, with or without sandboxes; its figures, and what is wrong."""
    services = {
        name: rig.service(name, idle_timeout=idle, queue=1000)
        for name, (idle, _) in SERVICES.items()
    }
    config = {"log_level": "info", "sandboxes": SPARE_SANDBOXES if sandboxes else "off"}
    gate = Kipgate(services, config=config)
    rig.make_network(gate, SMALL)
    with gate:
        loads = [f"{name}:{load}" for name, (_, load) in SERVICES.items()]
        prober = rig.Prober(gate.front[1], seed, 1 << 60, seconds + 3600, loads)
        try:
            run = Cycles(gate, seed, cycles, time.monotonic() + seconds)
            saying = threading.Event()
            threading.Thread(target=say, args=(run, prober, saying), daemon=True).start()
            run.run()
            saying.set()
        finally:
            prober.end()
        kills = run.kills()
        wrong = [f"unexplained: {line}" for line in prober.odd if not allowed(line, kills)]
        wrong += [str(miscount) for miscount in rig.miscounts(prober.services, gate)]
        addresses = {address.rsplit(":", 1)[0] for address in run.holder}
        return run, prober, addresses, wrong


def allowed(line, kills):
    """Visibly broken, by a kill."""
    return line.kind in ("failed", "cut") and rig.explained(line, kills)


def say(run, prober, over):
    """Progress, now and then."""
    while not over.wait(30):
        print(
            f"{run.done} cycles, {run.reaped} reaps, {run.moved} moves: {prober.progress}",
            flush=True,
        )


def run_all(cycles, seed, seconds):
    """Both passes; what is wrong."""
    wrong, figures = [], collections.Counter()
    addresses = set()
    began = time.monotonic()
    for number, sandboxes in enumerate((True, False)):
        run, prober, used, bad = one_pass(cycles // 2, seed + 1000 * number, seconds / 2, sandboxes)
        wrong += bad
        addresses |= used
        figures.update(
            cycles=run.done,
            reaped=run.reaped,
            moved=run.moved,
            same=run.same,
            kills=len(run.kills()),
        )
        figures.update(prober.totals)
    rig.table(
        "reuse of addresses",
        [
            ("kill-and-recreate cycles", figures["cycles"]),
            ("reap-and-recreate cycles beside them", figures["reaped"]),
            ("addresses used", f"{len(addresses)}"),
            ("taken over from another service", figures["moved"]),
            ("taken over from the same service", figures["same"]),
            ("requests", figures["sent"]),
            ("answered right", figures["right"]),
            ("broken by a kill, visibly", f"{figures['failed']} 502, {figures['cut']} cut"),
            ("dropped, refused", f"{figures['dropped']}, {figures['refused']}"),
            ("wrong, of the wrong service among them", figures["wrong"]),
            ("seconds", f"{time.monotonic() - began:.0f}"),
        ],
    )
    if figures["moved"] == 0:
        wrong.append("no address went from one service to another: nothing was shown")
    return wrong


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cycles", type=int, nargs="?", default=10000)
    parser.add_argument("--seconds", type=float, default=4 * 3600.0, help="at most")
    rig.main(parser, lambda words: run_all(words.cycles, words.seed, words.seconds))


if __name__ == "__main__":
    main()
