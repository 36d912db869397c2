# SPDX-License-Identifier: Apache-2.0
"""Cold starts through Kipgate beside the engine's own. The difficulty: the engine's times drift
with what the machine does, so everything is measured in turn, round by round, in one run."""
import argparse
import json
import pathlib
import random
import resource
import sys

import cold_crowd
import cold_engine
import cold_nursery
import cold_stages
from cold_stages import NotAvailable
from common import (
    build_echo,
    engine,
    median,
    percentile,
    preamble,
    program,
    table,
    version,
)

CROWD_EVERY = 5  # a round of bursts and crowds for so many rounds of the others


class Stage:
    """One way of being asked: its samples, or why there are none."""

    def __init__(self, name, make):
        self.name, self.samples, self.reason, self.subject = name, {}, None, None
        try:
            self.subject = make()
        except NotAvailable as error:
            self.reason = str(error)

    def measure(self):
        """One round."""
        if self.reason:
            return
        try:
            values = self.subject.measure()
        except NotAvailable as error:
            self.reason = str(error)
            return
        for row, value in zip(self.subject.rows, values):
            self.samples.setdefault(row, []).extend(value if isinstance(value, list) else [value])

    def close(self):
        """Ends what it started."""
        if self.subject:
            self.subject.close()

    def first(self):
        """Samples of its first row."""
        return next(iter(self.samples.values()), []) if not self.reason else []

    def lines(self):
        """Rows of the table."""
        if self.reason:
            return [[self.name, "not available", "", ""]]
        plain = getattr(self.subject, "plain", ())
        return [
            [row, *(f"{f(v) * (1 if i in plain else 1000):.1f}" for f in (median, p95)), len(v)]
            for i, (row, v) in enumerate(self.samples.items())
        ]


def p95(values):
    """The 95th percentile."""
    return percentile(values, 0.95)


class Run:
    """All stages of one run."""

    def __init__(self, args, host):
        self.args, self.host = args, host
        self.stages, self.often, self.seldom = {}, [], []
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def _add(self, key, name, make, seldom=False):
        print(f"preparing: {name}", file=sys.stderr, flush=True)
        stage = self.stages[key] = Stage(name, make)
        (self.seldom if seldom else self.often).append(stage)
        return stage.subject

    def _open(self):
        host, add = self.host, self._add
        plain = add(
            "plain",
            "kipgate: cold, plain",
            lambda: cold_stages.Cold(host, "plain", False, **self._off()),
        )
        add(
            "parked",
            "kipgate: cold, parked namespaces",
            lambda: cold_stages.Cold(host, "parked namespaces", True),
        )
        settings = cold_engine.settings_of(plain.inspected)
        bridge = cold_engine.settings_of(plain.inspected, "bridge")
        add(
            "bridge",
            "engine: default bridge",
            lambda: cold_engine.Floor(host, "default bridge", bridge),
        )
        add(
            "network",
            "engine: Kipgate's network",
            lambda: cold_engine.Floor(host, "Kipgate's network", settings),
        )
        add(
            "joined",
            "engine: in a namespace that is there",
            lambda: cold_engine.Joined(host, settings),
        )
        add("unpause", "engine: unpause", lambda: cold_engine.Unpause(host, settings))
        add("paused", "kipgate: paused instance", lambda: cold_stages.Paused(host))
        add("spare", "kipgate: paused spare", lambda: cold_stages.spare(host))
        add("running", "kipgate: running spare", lambda: cold_stages.running(host))
        self._open_crowds(settings)
        self._open_peer()

    def _off(self):
        """The key that switches parked namespaces off, where there is one."""
        try:
            cold_stages.close_gate(
                cold_stages.open_gate(self.host, {"x": cold_stages.service()}, sandboxes="off")
            )
        except NotAvailable:
            return {}
        return {"sandboxes": "off"}

    def _open_crowds(self, settings):
        host, add = self.host, self._add
        services = f"kipgate: {cold_crowd.BURST} services at once"
        add(
            "engine burst",
            f"engine: {cold_crowd.BURST} containers",
            lambda: cold_crowd.EngineBurst(host, settings),
            True,
        )
        add(
            "burst, plain",
            f"{services}, plain",
            lambda: cold_crowd.Burst(host, "plain", sandboxes="off"),
            True,
        )
        add(
            "burst",
            f"{services}, default",
            lambda: cold_crowd.Burst(host, "default"),
            True,
        )
        add(
            "crowd",
            f"kipgate: {cold_crowd.CROWD} first requests at once",
            lambda: cold_crowd.Crowd(host),
            True,
        )

    def _open_peer(self):
        def peer():
            if self.args.peer == "off":
                raise NotAvailable("left out on the command line")
            return cold_nursery.Nursery(self.host, self.args.peer)

        self._add("peer", "ContainerNursery", peer)

    def measure(self):
        """All rounds, each in another order: no stage always follows the same one."""
        for round_ in range(self.args.rounds):
            print(f"round {round_ + 1} of {self.args.rounds}", file=sys.stderr, flush=True)
            for stage in random.Random(round_).sample(self.often, len(self.often)):
                stage.measure()
            if round_ % CROWD_EVERY == 0:
                for stage in self.seldom:
                    stage.measure()

    def close(self):
        """Ends all."""
        for stage in self.stages.values():
            stage.close()


def shares(stage, listen):
    """Kipgate's own share of each start of a stage."""
    if stage.reason:
        return []
    return [max(0.0, share - listen) for share in stage.subject.shares]


def mark(rows, words, value, wanted, unit=""):
    """A row of the table of marks; `value` is None where it was not measured."""
    if value is None:
        rows.append([words, "not available", f"<= {wanted}{unit}", ""])
    else:
        digits = 2 if not unit else 1
        met = "met" if value <= wanted else "MISSED"
        rows.append([words, f"{value:.{digits}f}{unit}", f"<= {wanted}{unit}", met])


def difference(above, below):
    """Of two medians, in milliseconds; None where one is missing."""
    return (median(above) - median(below)) * 1000 if above and below else None


def ratio(above, below):
    """Of two medians; None where one is missing."""
    return median(above) / median(below) if above and below else None


def marks(run):
    """What is wanted beside what was measured."""
    stages, rows = run.stages, []
    listen = median(stages["network"].subject.parts["listen"])
    for key, words in (("plain", "plain"), ("parked", "parked namespaces")):
        own = shares(stages[key], listen)
        for share, wanted in ((0.5, 3), (0.99, 10)):
            value = percentile(own, share) * 1000 if own else None
            what = f"own share of a start, {words}, p{share * 100:.0f} of {len(own)}"
            mark(rows, what, value, wanted, " ms")
    parked, bridge = stages["parked"].first(), stages["bridge"].first()
    mark(rows, "cold, parked / engine on the default bridge", ratio(parked, bridge), 0.55)
    mark(rows, "cold, parked / cold, plain", ratio(parked, stages["plain"].first()), 0.55)
    unpause = stages["unpause"].first()
    mark(rows, "paused instance / engine's unpause", ratio(stages["paused"].first(), unpause), 1.3)
    mark(rows, "paused spare / engine's unpause", ratio(stages["spare"].first(), unpause), 1.3)
    return rows


def report(run):
    """Figures, marks, and what could not be run."""
    print(f"{run.args.rounds} rounds, in turn; milliseconds to the first byte at the client\n")
    rows = [line for stage in run.stages.values() for line in stage.lines()]
    print(table(["", "median", "p95", "n"], rows))
    parts = run.stages["network"].subject.parts
    print(
        "\nof the engine's create + start on Kipgate's network, medians: "
        + ", ".join(f"{name} {median(values) * 1000:.1f}" for name, values in parts.items())
        + " (listen: from the start's answer until the worker accepts, 0 when it does at once)\n"
    )
    added = difference(run.stages["plain"].first(), run.stages["network"].first())
    if added is not None:
        print(
            f"kipgate cold, plain, less the engine's own on that network: {added:.1f} (of medians:"
        )
        print("the engine's drift is in it; the own share below is of the very same calls)\n")
    print(table(["mark", "measured", "wanted", ""], marks(run)))
    missing = [stage for stage in run.stages.values() if stage.reason]
    if missing:
        print("\nnot available:")
    for stage in missing:
        print(f"  {stage.name}: {stage.reason}")


def figures(run):
    """All samples, in seconds."""
    rows = {row: values for stage in run.stages.values() for row, values in stage.samples.items()}
    rows["own share, plain"] = shares(run.stages["plain"], 0)
    rows["own share, parked"] = shares(run.stages["parked"], 0)
    return rows


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(prog="bench/cold.sh", description=__doc__.partition(". ")[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json", help="also write all samples (seconds) to this file")
    parser.add_argument(
        "--peer",
        metavar="SOURCE",
        default=cold_nursery.SOURCE,
        help="where git finds ContainerNursery, or off (default: %(default)s)",
    )
    parser.add_argument("--smoke", action="store_true", help="one round, no peer: does it run?")
    args = parser.parse_args()
    if args.smoke:
        args.rounds, args.peer = 1, "off"
    if args.rounds < 1:
        parser.error("--rounds: at least 1")
    return args


def main():
    """Options, versions, figures."""
    args = arguments()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 20000), hard))
    preamble(
        version(program(), "version"), version("dockerd", "--version"), version("runc", "--version")
    )
    with engine() as host:
        build_echo(host)
        run = Run(args, host)
        try:
            run.measure()
            report(run)
            if args.json:
                pathlib.Path(args.json).write_text(json.dumps(figures(run), indent=2))
        finally:
            run.close()


if __name__ == "__main__":
    main()
