#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""SIGKILL between every two system calls of a provisioning, a removal, a reload, a start; then a
look at what a next run makes of what was left (crash_rig.py says how, crash_scenarios.py where).

    tests/faults/crash.sh [--full] [SCENARIO...]     (see there; --list names the scenarios)

The difficulty: hundreds of rounds, of which one that fails must not spoil the next: then it costs
the Kipgate of its scenario, and another one goes on."""
import argparse
import collections
import pathlib
import signal
import sys
import time
import traceback

sys.path[:0] = [str(pathlib.Path(__file__).parent), str(pathlib.Path(__file__).parents[1])]

from crash_rig import Point, points_of  # noqa: E402  (needs the paths above)
from crash_scenarios import SCENARIOS  # noqa: E402

# --- many rounds ----------------------------------------------------------------------------------


class Report:
    """What came of one scenario."""

    def __init__(self, name):
        self.name, self.points, self.tried, self.killed = name, 0, 0, 0
        self.failures, self.recovered, self.outcomes = [], [], collections.Counter()
        self.began = time.monotonic()

    def take(self, scenario):
        """Adds what one Kipgate went through."""
        self.recovered += scenario.recovered
        self.outcomes += scenario.outcomes

    def __str__(self):
        times = sorted(self.recovered) or [0.0]
        said = ", ".join(f"{n} x {what}" for what, n in sorted(self.outcomes.items(), key=str))
        return (
            f"{self.name}: {self.points} points, {self.tried} tried, {self.killed} killed, "
            f"{len(self.failures)} failed; well again after {times[len(times) // 2]:.2f} s "
            f"(median), {times[-1]:.2f} s (most); walks: {said}; "
            f"{time.monotonic() - self.began:.0f} s"
        )


def fresh(kind, walks=2):
    """A scenario that has been walked undisturbed, and its points."""
    scenario = kind().start()
    try:
        recordings = [calls for _ in range(walks) for calls in scenario.record()]
    except BaseException:
        print(scenario.gate.tail(), flush=True)
        scenario.discard()
        raise
    return scenario, points_of(recordings)


def close(scenario, report):
    """The end of one Kipgate; what is wrong then is a failure too."""
    report.take(scenario)
    try:
        scenario.finish()
    except Exception as error:
        report.failures.append(("the end", f"{type(error).__name__}: {error}"))
    finally:
        scenario.discard()


def choose(points, every=1, sample=None):
    """Every k-th point; of a sample of n, k is such that about n are chosen, from the middle of the
    first k on."""
    if sample:
        every = max(1, len(points) // sample)
    return points[every // 2 :: every]


def run(kind, every=1, sample=None, only=None, tell=lambda words: None):
    """All points of a scenario, or some; a failure costs the Kipgate, not the rest."""
    report = Report(kind.name)
    scenario, points = fresh(kind, 1 if sample else 2)
    report.points = len(points)
    try:
        for point in only or choose(points, every, sample):
            report.tried += 1
            try:
                report.killed += scenario.round(point)
            except Exception as error:
                fail(report, point, error, scenario)
                tell(f"{kind.name} {point}: {report.failures[-1][1].splitlines()[0]}")
                scenario.discard()
                scenario, _ = fresh(kind)
    except BaseException:  # told to end: nothing is left behind
        scenario.discard()
        raise
    close(scenario, report)
    tell(str(report))
    return report


def fail(report, point, error, scenario):
    """Notes what went wrong where."""
    where = traceback.extract_tb(error.__traceback__)[-1]
    words = f"{type(error).__name__}: {error} ({where.name}: {where.line})"
    report.failures.append((str(point), f"{words}\n{scenario.gate.tail(60)}"))
    report.take(scenario)


def tell(words):
    """At once, also into a file."""
    print(words, flush=True)


def main():
    """The command line."""
    by_name = {kind.name: kind for kind in SCENARIOS}
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("scenario", nargs="*", help="all of them, if none is named")
    parser.add_argument("--full", action="store_true", help="every point, not every 8th")
    parser.add_argument("--every", type=int, default=8, metavar="K", help="every K-th point")
    parser.add_argument("--point", action="append", metavar="CALL#N", help="these points only")
    parser.add_argument("--list", action="store_true", help="name the scenarios")
    words = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if words.list:
        for kind in SCENARIOS:
            print(f"{kind.name:14} {kind.__doc__.splitlines()[0]}")
        return 0
    only = [Point(p.partition("#")[0], int(p.partition("#")[2])) for p in words.point or ()]
    reports = []
    for name in words.scenario or by_name:
        every = 1 if words.full else words.every
        reports.append(run(by_name[name], every, only=only, tell=tell))
    failures = [(r.name, *f) for r in reports for f in r.failures]
    for name, point, what in failures:
        print(f"\nFAILED {name} at {point}: {what}")
    print(f"\n{sum(r.tried for r in reports)} points, {len(failures)} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
