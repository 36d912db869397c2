# SPDX-License-Identifier: Apache-2.0
"""Kipgate, nginx and HAProxy side by side on one core, and the marks that the warm path is held to.
The difficulty: fairness (see warm_peers.py), and that each figure stands on its own: a part can be
run alone."""
import argparse
import json
import os
import pathlib
import shutil
import sys
import tempfile
import time

import warm_cost
import warm_memory
import warm_rate
from common import (
    build_backend,
    build_bulk,
    engine,
    marks_table,
    need,
    preamble,
    program,
    version,
)
from warm_load import Load
from warm_peers import LOAD_CORE, PROXY_CORE

PARTS = {
    "tcp": warm_rate.tcp,
    "unix": warm_rate.unix,
    "fronts": warm_rate.fronts,
    "calls": warm_cost.calls,
    "services": warm_cost.services,
    "idle": warm_memory.idle,
    "bodies": warm_memory.bodies,
}


class Bench:
    """What all parts are given."""

    def __init__(self, args, host, directory):
        self.args, self.host, self.directory = args, host, directory
        self.load = Load(directory)


def options():
    """The command line."""
    parser = argparse.ArgumentParser(prog="bench/warm.sh", description=__doc__.partition(". ")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5, help="of one measurement")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--only", help=f"parts, with commas between: {', '.join(PARTS)}")
    parser.add_argument("--json", help="also write all rounds to this file")
    parser.add_argument("--smoke", action="store_true", help="one short round: does it run at all")
    args = parser.parse_args()
    if args.smoke:
        args.rounds, args.seconds = 1, 1
    args.only = args.only.split(",") if args.only else list(PARTS)
    unknown = [name for name in args.only if name not in PARTS]
    if unknown:
        parser.error(f"no such part: {', '.join(unknown)}")
    return args


def run(bench):
    """All parts that are wanted: tables as they come, then the marks."""
    figures, marks = {}, []
    for name in bench.args.only:
        print(f"== {name}:", " ".join(PARTS[name].__doc__.split()))
        figures[name], more = PARTS[name](bench)
        marks += more
    print(marks_table(marks))
    return {"parts": figures, "marks": [mark.row() for mark in marks]}


def main():
    """Versions, figures, marks."""
    args = options()
    need("nginx", "haproxy", "wrk", "taskset", "strace")
    if os.cpu_count() < 2:
        sys.exit("two cores are needed: one for the proxy, one for the load")
    versions = [(program(), "version"), ("nginx", "-v"), ("haproxy", "-v"), ("wrk", "-v")]
    preamble(*(version(*command) for command in versions))
    print(
        f"medians of {args.rounds} rounds of {args.seconds} s, {args.connections} connections, "
        f"proxy on core {PROXY_CORE}, load and worker on core {LOAD_CORE}\n"
    )
    began, directory = time.time(), tempfile.mkdtemp(prefix="kgw")
    os.chmod(directory, 0o755)
    try:
        with engine() as host:
            build_backend(host)
            build_bulk(host)
            found = run(Bench(args, host, directory))
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(found, indent=2))
    print(f"\ntook {time.time() - began:.0f} s")


if __name__ == "__main__":
    main()
