# SPDX-License-Identifier: Apache-2.0
"""Instructions of a warm request in the front, by part of the house, held against the recorded
ones. The difficulty: the same source must give the same figure everywhere, so what a machine's
libraries do is shown, but only what was compiled from our tree (and llhttp) is judged."""
import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
RECORD = HERE / "instructions.txt"
ROUNDS, TOLERANCE = 20, 0.03
KINDS = ("small", "browser")
GUARDED = "all of ours"

PARTS = [  # the first that matches a source file, or the object it is in
    ("guard: scan of heads", r"proxy/guard\.c"),
    ("parser: llhttp", r"llhttp"),
    ("parser: our rules", r"proxy/(http1|target)\.c"),
    ("names of fields", r"proxy/field\.c"),
    ("routing", r"proxy/(route|generation)\.c"),
    ("rewriting of heads", r"proxy/rewrite\.c"),
    ("lease", r"orchestrator/gate_client\.c"),
    ("bodies", r"proxy/(body|chunk)\.c"),
    ("connections, exchange", r"proxy/"),
    ("arena, buffers, timers", r"base/"),
]
THEIRS = [("libuv", r"libuv"), ("libc and the counters", r"")]


def profile(program, kind, services):
    """Pairs of (instructions, "file:function [object]") and the number of requests."""
    with tempfile.TemporaryDirectory() as directory:
        out = f"{directory}/callgrind.out"
        command = ["valgrind", "-q", "--tool=callgrind", "--toggle-collect=warm_turn"]
        command += [f"--callgrind-out-file={out}", program, kind, str(ROUNDS), str(services)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"{' '.join(command)}: {done.stdout}{done.stderr}")
        listed = ["callgrind_annotate", "--auto=no", "--threshold=100", out]
        text = subprocess.run(listed, capture_output=True, text=True, check=True).stdout
    lines = re.findall(r"^\s*([\d,]+) \([ \d.]+%\)\s+(\S+:.+)$", text, re.M)
    requests = int(re.search(r"(\d+) requests", done.stdout)[1])
    return [(int(cost.replace(",", "")), where) for cost, where in lines], requests


def split(where):
    """File, function and object of a line of the profile."""
    match = re.match(r"(.*?):([^:\[]+?)(?: \[(.*)\])?$", where)
    return match[1], match[2], match[3] or ""


def part_of(file, function, object_, homes):
    """Which part of the house a line belongs to; inlined library code counts where it is used."""
    if file.startswith(("/usr/include", "/usr/lib/gcc")):
        file = homes.get(function, file)
    if not function.startswith("counted_"):
        for name, pattern in PARTS:
            if re.search(pattern, file):
                return name
    return next(name for name, pattern in THEIRS if re.search(pattern, object_))


def per_request(program, kind, services=1):
    """Instructions per request by part."""
    lines, requests = profile(program, kind, services)
    places = [(cost, *split(where)) for cost, where in lines]
    homes = {f: file for _, file, f, _ in places if not file.startswith(("/usr/include", "???"))}
    total = {name: 0 for name, _ in PARTS + THEIRS}
    for cost, file, function, object_ in places:
        total[part_of(file, function, object_, homes)] += cost
    parts = {name: cost / requests for name, cost in total.items()}
    parts[GUARDED] = sum(parts[name] for name, _ in PARTS)
    return parts


def recorded():
    """The figures that were recorded, by kind."""
    words = [line.split() for line in RECORD.read_text().splitlines() if line[:1].isalpha()]
    return {kind: float(figure) for kind, figure in words}


def judge(found):
    """Prints how the figures stand to the recorded ones; false when one rose too far."""
    fine = True
    for kind, was in recorded().items():
        now = found[kind][GUARDED]
        change = now / was - 1
        verdict = "as recorded"
        if change > TOLERANCE:
            verdict, fine = f"MORE than {TOLERANCE:.0%} above: find out why, or --record it", False
        elif change < -TOLERANCE:
            verdict = "better: --record it, so that it stays"
        print(f"{kind}: {now:.0f}, recorded {was:.0f} ({change:+.1%}): {verdict}")
    return fine


def show(found):
    """The table by part."""
    print("".join(f"{word:>26}" if i else f"{word:26}" for i, word in enumerate(("", *found))))
    for name in found[KINDS[0]]:
        print(f"{name:26}" + "".join(f"{parts[name]:26.0f}" for parts in found.values()))
    print()


def main():
    """Options, figures, verdict."""
    parser = argparse.ArgumentParser(
        prog="bench/instructions.sh", description=__doc__.partition(". ")[0]
    )
    beside = pathlib.Path(os.environ.get("KIPGATE_BIN", HERE.parent / "build/gcc/kipgate")).parent
    parser.add_argument("program", nargs="?", default=str(beside / "tests/orchestrator_warm"))
    parser.add_argument("--record", action="store_true", help="these are the figures from now on")
    args = parser.parse_args()
    if not shutil.which("valgrind"):
        sys.exit("not installed: valgrind")
    found = {kind: per_request(args.program, kind) for kind in KINDS}
    print("instructions of a warm request in the front (gcc, RelWithDebInfo)\n")
    show(found)
    if args.record:
        first = "# `bench/instructions.sh --record` writes this: instructions a request\n"
        RECORD.write_text(first + "".join(f"{kind} {found[kind][GUARDED]:.0f}\n" for kind in KINDS))
    sys.exit(0 if judge(found) else 1)


if __name__ == "__main__":
    main()
