#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the tests have run of the rooms: a table, and whether that is what is promised.

    report.py BUILD [--full] [--show FILE]

Reads the counters that the programs of a build with KIPGATE_COVERAGE have left in BUILD/profile.
Promised are all branches of the parts in PARTS, also by unit tests and simulator alone, and with
--full (the black-box tests have run, too) LINES_PERCENT of the lines of code. What is not covered
stands in branches.txt and lines.txt with its reason. What did not run and is not named there is a
failure, as is a row without need (unless it begins with "sometimes:": chance decides).
The difficulty: a branch is a condition with its two outcomes, as it is written, so there are none
that a compiler made. Those inside KG_ASSERT are not counted: the outcome that fails is the end of
the process. Nor are lines without a word on them: a brace is no code.
"""
import argparse
import fnmatch
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Iterator, NamedTuple

ROOT = Path(__file__).resolve().parent.parent.parent
ROOMS = ["base", "proxy", "reaper", "orchestrator"]
LINES_PERCENT = 95
PARTS = {
    "the instance table": ["orchestrator/instance.c"],
    "the lease code": ["orchestrator/fleet_lease.c", "orchestrator/fleet_claim.c",
                       "orchestrator/gate_client.c"],
    "the reaper": ["reaper/*.c"],
    "the guard": ["proxy/guard.c"],
}
NOT_COUNTED = {"KG_ASSERT"}  # macros
FEW_LINES = 5  # more that did not run are named by their function, not by a word in them


class Branch(NamedTuple):
    line: int
    column: int
    text: str  # the condition, or the macro that holds it
    number: int  # of those in one macro
    true: int
    false: int

    @property
    def missing(self) -> str:
        never = [name for name, n in (("true", self.true), ("false", self.false)) if n == 0]
        return " and ".join(never)


class Source:
    """One file: its text, its branches, and how often each line of code ran.

    There are several accounts of one: each group of runs gives one, and the simulator's build names
    files by another path (in its account of a header are the functions of other files)."""

    def __init__(self, path: Path, accounts: list[dict]):
        self.name = str(path.relative_to(ROOT))
        self.text = path.read_text(encoding="utf-8").split("\n")
        self.branches = sorted(self._branches(accounts))
        self.lines: dict[int, int] = {}
        for data in accounts:
            for number, n in line_counts(data["segments"]):
                if re.search(r"\w", self._code(number)):
                    self.lines[number] = max(n, self.lines.get(number, 0))

    def _code(self, number: int) -> str:
        line = re.sub(r'/\*.*?(\*/|$)|//.*', "", self.text[number - 1])
        return "" if re.match(r"\s*\*[ /]|#", line) else line

    def _branches(self, accounts: list[dict]) -> Iterator[Branch]:
        counts: dict[tuple, list[int]] = {}
        for place, true, false in [b for data in accounts
                                   for b in [*self._plain(data), *self._in_macros(data)]]:
            n = counts.setdefault(place, [0, 0])
            n[0], n[1] = n[0] + true, n[1] + false
        for place, (true, false) in counts.items():
            yield Branch(*place, true, false)

    def _plain(self, data: dict) -> Iterator[tuple[tuple, int, int]]:
        for line, column, last, end, true, false, *_ in data["branches"]:
            stop = end - 1 if last == line else None
            yield (line, column, self.text[line - 1][column - 1:stop], 0), true, false

    def _in_macros(self, data: dict) -> Iterator[tuple[tuple, int, int]]:
        for expansion in data["expansions"]:
            line, column, _, end = expansion["source_region"][:4]
            macro = self.text[line - 1][column - 1:end - 1]
            branches = [] if macro in NOT_COUNTED else expansion["branches"]
            for number, (_, _, _, _, true, false, *_) in enumerate(branches, 1):
                yield (line, column, macro, number), true, false

    def missing_branches(self) -> list[Branch]:
        return [b for b in self.branches if b.missing]

    def about(self, first: int, last: int) -> list[str]:
        """What a row of lines.txt may name these lines by: their function as "name()", their words,
        and the line of code before; where that asks whether something failed, that one's, too."""
        code = sorted(self.lines)
        before = [self.text[n - 1] for n in code if n < first][-2:]
        if before and not re.match(r"\s*(} else )?if \(", before[-1]):
            del before[:-1]
        return [f"{self._function(first)}()", *before,
                *[self.text[n - 1] for n in code if first <= n <= last]]

    def _function(self, number: int) -> str:
        for line in reversed(self.text[:number]):
            found = re.match(r"[A-Za-z][^;=]*?(\w+)\(", line)
            if found:
                return found[1]
        return ""

    def missing_blocks(self) -> Iterator[tuple[int, int]]:
        """First and last lines of code that did not run and lie together."""
        first = last = 0
        for number, n in sorted(self.lines.items()):
            if n > 0 and first:
                yield first, last
                first = 0
            elif n == 0:
                first, last = first or number, number
        if first:
            yield first, last


def line_counts(segments: list) -> Iterator[tuple[int, int]]:
    """(line, how often it ran), by llvm-cov's own rule: the most of what begins there."""
    by_line: dict[int, list] = {}
    for segment in segments:
        by_line.setdefault(segment[0], []).append(segment)
    wrapped = None
    for number in range(min(by_line, default=0), max(by_line, default=-1) + 1):
        here = by_line.get(number, [])
        begins = [s[2] for s in here if s[3] and s[4] and not s[5]]
        skipped = here and not here[0][3] and here[0][4]
        if not skipped and (begins or (wrapped and wrapped[3])):
            yield number, max([*begins, *([wrapped[2]] if wrapped else [])])
        wrapped = here[-1] if here else wrapped


def run(*command: str) -> str:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          check=False)
    if done.returncode != 0:
        sys.exit(f"{command[0]}: {done.stderr.strip()}")
    return done.stdout


def programs(build: Path) -> list[Path]:
    """Those that are built now: a program whose source is gone stays where it was."""
    built = re.findall(r"^\.\.\. (\S+)$", run("cmake", "--build", str(build), "--target", "help"),
                       re.MULTILINE)
    tests = [p for p in (build / "tests").rglob("*") if p.is_file() and p.name in built]
    return [build / "kipgate", *(p for p in tests if p.open("rb").read(4) == b"\x7fELF")]


def export(build: Path, group: str, counters: list[Path], objects: list[str]) -> list[dict]:
    """What llvm-cov knows of each file, by these counters."""
    merged = build / "profile" / f"{group}.profdata"
    run("llvm-profdata", "merge", "-o", str(merged), *map(str, counters))
    text = run("llvm-cov", "export", f"-instr-profile={merged}", str(build / "kipgate"), *objects)
    return json.loads(text)["data"][0]["files"]


def read(build: Path) -> list[Source]:
    """Group by group ("GROUP-...profraw"; Kipgate's own files have no group's name). Processes that
    map one file lose counts to each other; "false" is what is left of all when "true" is taken off,
    and added up before that, the losses of one group would hide what another did once."""
    groups: dict[str, list[Path]] = {}
    for path in (build / "profile").glob("*.profraw"):
        groups.setdefault(path.name.split("-")[0] if "-" in path.name else "kipgate", []).append(path)
    if not groups:
        sys.exit(f"{build}/profile holds no counters: nothing has run")
    objects = [word for p in programs(build)[1:] for word in ("-object", str(p))]
    accounts: dict[Path, list[dict]] = {}
    for group, counters in groups.items():
        for data in export(build, group, counters, objects):
            path = Path(data["filename"]).resolve()
            if path.is_relative_to(ROOT) and path.relative_to(ROOT).parts[0] in ROOMS:
                accounts.setdefault(path, []).append(data)
    return [Source(path, accounts[path]) for path in sorted(accounts)]


# --- the cells of the instance table --------------------------------------------------------------


def cells_missing(build: Path) -> tuple[int, list[str]]:
    """How many cells there are (of those that are not "never"), and which were not entered."""
    table = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([a-z]+) \| ([A-Z_]+) \| (?:stays|[a-z]+) \|", table, re.MULTILINE)
    noted = (build / "profile" / "cells").read_bytes().split(b"\0")
    entered = {name.decode() for name in noted if name}
    names = [f"{state} {event}" for state, event in rows]
    if not names or not entered:
        sys.exit("the instance table, or what was entered of it, was not found")
    return len(names), [name for name in names if name not in entered]


# --- what is not covered, and why -----------------------------------------------------------------


class Row:
    """FILE ## TEXT ## REASON: of a place that is not covered. FILE may be a pattern."""

    def __init__(self, where: str, line: str):
        self.where = where
        self.parts = [part.strip() for part in line.split(" ## ")]
        if len(self.parts) != 3 or not all(self.parts):
            sys.exit(f"{where}: not of the form FILE ## TEXT ## REASON")
        self.file, self.text, self.reason = self.parts
        self.used = self.reason.startswith("sometimes:")  # chance decides: it may be covered

    def names(self, file: str, lines: list[str]) -> bool:
        found = fnmatch.fnmatch(file, self.file) and any(self.text in line for line in lines)
        self.used = self.used or found
        return found


def rows(name: str) -> list[Row]:
    path = ROOT / "tests" / "coverage" / name
    lines = path.read_text(encoding="utf-8").splitlines()
    return [Row(f"{name}:{n}", line) for n, line in enumerate(lines, 1)
            if line.strip() and not line.startswith("#")]


def named(all_rows: list[Row], file: str, lines: list[str]) -> bool:
    return any([row.names(file, lines) for row in all_rows])  # each that names it is in use


def judge_branches(sources: list[Source], cells: list[str]) -> list[str]:
    listed = rows("branches.txt")
    faults = []
    for part, source in parts_of(sources):
        for b in source.missing_branches():
            if not named(listed, source.name, [source.text[b.line - 1]]):
                faults.append(f"{source.name}:{b.line}: never {b.missing}, of {part}: {b.text}")
    for cell in cells:
        if not named(listed, "orchestrator/instance.c", [f"cell {cell}"]):
            faults.append(f"the instance table: nothing entered the cell {cell}")
    return faults + unused(listed)


def judge_lines(sources: list[Source]) -> list[str]:
    listed = rows("lines.txt")
    nameless = []
    for source in sources:
        for first, last in source.missing_blocks():
            about = source.about(first, last)
            if not named(listed, source.name, about[:1] if last - first > FEW_LINES else about):
                nameless.append(f"{source.name}:{first}-{last}: not run, and lines.txt does not "
                                f"name it: {source.text[first - 1].strip()}")
    return nameless + unused(listed)


def unused(listed: list[Row]) -> list[str]:
    return [f"{row.where}: is covered now, or not there: {row.text}"
            for row in listed if not row.used]


# --- the report -----------------------------------------------------------------------------------


def parts_of(sources: list[Source]) -> Iterator[tuple[str, Source]]:
    for part, patterns in PARTS.items():
        for pattern in patterns:
            found = [s for s in sources if fnmatch.fnmatch(s.name, pattern)]
            if not found:
                sys.exit(f"{part}: no such file: {pattern}")
            yield from ((part, s) for s in found)


def figures(what: str, sources: list[Source]) -> str:
    lines = [n for s in sources for n in s.lines.values()]
    outcomes = [n for s in sources for b in s.branches for n in (b.true, b.false)]
    return (f"{what:<42}{len(lines):>7}{lines.count(0):>7}{percent(lines):>9}"
            f"{len(outcomes):>9}{outcomes.count(0):>7}{percent(outcomes):>9}")


def percent(counts: list[int]) -> str:
    covered = sum(n > 0 for n in counts)
    return f"{100 * covered / len(counts):.2f}%" if counts else "-"


def show_table(sources: list[Source], cell_count: int, cells: list[str]) -> None:
    print(f"{'':<42}{'lines':>7}{'not':>7}{'':>9}{'branches':>9}{'not':>7}")
    for source in sources:
        if source.lines:
            print(figures(source.name, [source]))
    for room in ROOMS:
        print(figures(f"{room}/", [s for s in sources if s.name.startswith(f"{room}/")]))
    for part in PARTS:
        print(figures(part, [s for p, s in parts_of(sources) if p == part]))
    print(f"{'cells of the instance table':<42}{cell_count:>7}{len(cells):>7}"
          f"{100 * (cell_count - len(cells)) / cell_count:>8.2f}%")
    print(figures("all", sources))


def show_missing(sources: list[Source], pattern: str) -> None:
    for source in (s for s in sources if fnmatch.fnmatch(s.name, pattern)):
        for first, last in source.missing_blocks():
            print(f"{source.name}:{first}-{last}: not run: {source.text[first - 1].strip()}")
        for b in source.missing_branches():
            print(f"{source.name}:{b.line}: never {b.missing}: {b.text}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("build", type=Path)
    parser.add_argument("--full", action="store_true", help="the black-box tests have run, too")
    parser.add_argument("--show", metavar="FILE", help="what is not covered in it, or in FILES*")
    arguments = parser.parse_args()
    sources = read(arguments.build)
    if arguments.show:
        show_missing(sources, arguments.show)
        return 0
    cell_count, cells = cells_missing(arguments.build)
    show_table(sources, cell_count, cells)
    faults = judge_branches(sources, cells)
    if arguments.full:
        counts = [n for s in sources for n in s.lines.values()]
        if 100 * sum(n > 0 for n in counts) < LINES_PERCENT * len(counts):
            faults.append(f"of the lines {percent(counts)} ran: less than {LINES_PERCENT}%")
        faults += judge_lines(sources)
    for fault in faults:
        print(fault)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
