#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The style of this tree as a test: arrows between rooms, homes of libraries, sizes, words.

    python3 tests/tidy.py [--root DIR]   prints every breach as file:line: words; 1 if there is any
    python3 tests/tidy.py --self-test    proves on small bad trees that every rule fires

The rooms are held to every rule; tests to those about sizes, form and includes.
The difficulty: C is read here without a compiler. Comments and literals are blanked first (places
kept), so that rules about code see code only; rules about words see everything.
"""
import argparse
import re
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Iterator, NamedTuple

# --- what is allowed ----------------------------------------------------------------------------

# A room may include its own headers and those of the rooms named here.
ARROWS = {
    "base": set(),
    "proxy": {"base"},
    "reaper": {"base"},
    "orchestrator": {"base", "proxy", "reaper"},
}

# Each library has one home where its conventions are translated: header (a trailing slash: all
# headers below) -> the files that may include it.
HOMES = {
    "llhttp.h": ["proxy/http1.c"],
    "nghttp2/": ["proxy/http2.c", "proxy/http2_input.c", "proxy/http2_session_priv.h",
                 "tests/unit/proxy/http2_worker.h"],
    "openssl/": ["orchestrator/digest.c", "proxy/tls.c", "proxy/tls_check.c",
                 "tests/exhaustion/failing.c",
                 "proxy/tls_context.c", "tests/unit/tls_case.h",
                 "tests/unit/proxy/tls_world.h",
                 "tests/unit/orchestrator/test_front_tls.c"],
    "curl/": ["orchestrator/transport.c", "tests/exhaustion/failing.c"],
    "cjson/": ["orchestrator/json.c", "tests/exhaustion/failing.c"],
    "seccomp.h": ["orchestrator/confine.c"],
}

# What a room never names, in code or comments, also in the plural and as a part of an identifier.
NEVER_NAMED = {
    "base": ["orchestrator", "reaper", "docker"],
    "proxy": ["container", "docker", "image", "reaper"],
    "reaper": ["http", "docker"],
    "orchestrator": ["llhttp"],
}
NOT_A_NAMING = ["KG_CONTAINER_OF"]  # the macro means a struct around a member

# I8: an instance's state is written in one place, this file's set_state.
STATE_WRITER = "orchestrator/fleet_step.c"

UNSAFE = ["strcpy", "strcat", "sprintf", "vsprintf", "gets", "strtok"]
UNFINISHED = ["TODO", "FIXME", "XXX"]

MAX_FILE_LINES = 800
MAX_FUNCTION_LINES = 70
MAX_MEDIAN_LINES = 18
MAX_COLUMNS = 100
SPDX = "/* SPDX-License-Identifier: Apache-2.0 */"


class Breach(NamedTuple):
    file: str
    line: int
    rule: str
    words: str


class Function(NamedTuple):
    file: str
    line: int
    name: str
    lines: int


class Source:
    """One file, whole and with comments and literals blanked."""

    def __init__(self, root: Path, path: Path):
        self.name = path.relative_to(root).as_posix()
        self.parts = self.name.split("/")
        self.text = path.read_text(encoding="utf-8", errors="replace")
        self.lines = self.text.split("\n")
        self.code = blank(self.text)
        self.code_lines = self.code.split("\n")

    @property
    def room(self) -> str | None:
        """The room whose rules hold: the file's own, or the one that a test is of."""
        if self.parts[0] in ARROWS:
            return self.parts[0]
        if self.parts[:2] in (["tests", "unit"], ["tests", "fuzz"], ["tests", "sim"]) and self.parts[2] in ARROWS:
            return self.parts[2]
        return None

    @property
    def is_test(self) -> bool:
        return self.parts[0] == "tests"


LEXEMES = re.compile(
    r"""(?P<keep>^[ \t]*\#[ \t]*include[^\n]*)  # its quotes are no string
      | (?P<blank>/\*.*?\*/ | //[^\n]* | "(?:\\.|[^"\\\n])*" | '(?:\\.|[^'\\\n])*')""",
    re.VERBOSE | re.DOTALL | re.MULTILINE,
)


def blank(text: str) -> str:
    def replace(match: re.Match) -> str:
        if match.group("keep") is not None:
            return match.group(0)
        return re.sub(r"[^\n]", " ", match.group(0))

    return LEXEMES.sub(replace, text)


# --- functions ----------------------------------------------------------------------------------


def without_directives(code: str) -> list[str]:
    """Lines of code with preprocessor directives (and their continuations) emptied."""
    lines, inside = [], False
    for line in code.split("\n"):
        directive = inside or line.lstrip().startswith("#")
        inside = directive and line.rstrip().endswith("\\")
        lines.append("" if directive else line)
    return lines


def functions(source: Source) -> Iterator[Function]:
    """A brace at depth 0 behind a parenthesis opens a function; its signature counts as its own."""
    depth, head, start = 0, "", None  # head: what was read at depth 0 since the last ; or }
    head_line = 1
    for number, line in enumerate(without_directives(source.code), 1):
        if line.startswith("}"):  # whatever #if branches did to the count
            depth = 1
        for c in line:
            if c == "{":
                if depth == 0 and head.rstrip().endswith(")"):
                    start = (head_line, function_name(head))
                depth += 1
            elif c == "}":
                depth = max(depth - 1, 0)
                if depth == 0:
                    if start:
                        yield Function(source.name, start[0], start[1], number - start[0] + 1)
                    head, start = "", None
            elif depth == 0:
                if not head.strip():
                    head_line = number
                head = "" if c == ";" else head + c
        if depth == 0 and head:
            head += "\n"


def function_name(head: str) -> str:
    test = re.search(r"\bSTART_TEST\s*\(\s*(\w+)", head)
    found = test or re.search(r"(\w+)\s*\(", head)
    return found.group(1) if found else "?"


# --- rules: each yields breaches of one file -----------------------------------------------------

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]*)[>"]')


def includes(source: Source) -> Iterator[tuple[int, bool, str]]:
    for number, line in enumerate(source.code_lines, 1):
        match = INCLUDE.match(line)
        if match:
            yield number, match.group(1) == '"', match.group(2)


def check_includes(source: Source) -> Iterator[Breach]:
    allowed = ARROWS[source.room] | {source.room} if source.room else set(ARROWS)
    for number, quoted, header in includes(source):
        to_room = header.split("/")[0]
        if to_room not in ARROWS or "/" not in header or "/../" in header:
            if quoted and (not source.is_test or ".." in header):
                yield Breach(source.name, number, "include",
                             f'"{header}" is not named from its room, as "base/str.h" is')
            continue
        if not quoted:
            yield Breach(source.name, number, "include", f"<{header}> is ours: write it in quotes")
        if to_room not in allowed:
            yield Breach(source.name, number, "arrow",
                         f"{source.room} includes {header}: no arrow goes there")
        elif header.endswith("_priv.h") and to_room != source.room:
            yield Breach(source.name, number, "private", f"{header} is private to {to_room}")


def check_homes(source: Source) -> Iterator[Breach]:
    for number, _, header in includes(source):
        for library, homes in HOMES.items():
            of_library = header.startswith(library) if library.endswith("/") else header == library
            if of_library and source.name not in homes:
                yield Breach(source.name, number, "home",
                             f"{header} is at home in {', '.join(homes)} only")


def check_words(source: Source) -> Iterator[Breach]:
    if source.is_test:
        return
    words = "|".join(NEVER_NAMED[source.room])
    pattern = re.compile(rf"(?<![A-Za-z0-9])({words})s?(?![A-Za-z0-9])", re.IGNORECASE)
    for number, line in enumerate(source.lines, 1):
        for macro in NOT_A_NAMING:
            line = line.replace(macro, "")
        for match in pattern.finditer(line):
            yield Breach(source.name, number, "word",
                         f"{source.room} never names '{match.group(0)}'")


def check_head(source: Source) -> Iterator[Breach]:
    if source.lines[0] != SPDX:
        yield Breach(source.name, 1, "head", f"does not start with {SPDX}")
    elif len(source.lines) < 2 or not source.lines[1].startswith("/* "):
        yield Breach(source.name, 2, "head", "does not say what it is and its one difficulty")


def check_lines(source: Source) -> Iterator[Breach]:
    unfinished = re.compile(rf"\b({'|'.join(UNFINISHED)})\b")
    unsafe = re.compile(rf"\b({'|'.join(UNSAFE)})\s*\(")
    for number, (line, code) in enumerate(zip(source.lines, source.code_lines), 1):
        if len(line) > MAX_COLUMNS:
            yield Breach(source.name, number, "columns", f"{len(line)} columns of {MAX_COLUMNS}")
        if line != line.rstrip():
            yield Breach(source.name, number, "blank", "ends in blanks")
        for match in unfinished.finditer(line):
            yield Breach(source.name, number, "unfinished", f"'{match.group(1)}' does not go in")
        for match in () if source.is_test else unsafe.finditer(code):
            yield Breach(source.name, number, "unsafe", f"{match.group(1)} knows no bounds")


def check_sizes(source: Source) -> Iterator[Breach]:
    count = source.text.count("\n")
    if source.name.endswith(".c") and count > MAX_FILE_LINES:
        yield Breach(source.name, count, "file-size", f"{count} lines of {MAX_FILE_LINES}")
    for f in functions(source):
        if f.lines > MAX_FUNCTION_LINES:
            yield Breach(f.file, f.line, "function-size",
                         f"{f.name} has {f.lines} lines of {MAX_FUNCTION_LINES}")


def check_median(sources: list[Source], of: str) -> Iterator[Breach]:
    all_functions = [f for s in sources if s.name.endswith(".c") for f in functions(s)]
    if not all_functions:
        return
    median = statistics.median(f.lines for f in all_functions)
    if median > MAX_MEDIAN_LINES:
        longest = max(all_functions, key=lambda f: f.lines)
        yield Breach(longest.file, longest.line, "median",
                     f"half of {of}'s functions have more than {median:g} lines "
                     f"(of {MAX_MEDIAN_LINES}); {longest.name} has most, {longest.lines}")


def check_state(source: Source) -> Iterator[Breach]:
    writes = [number for number, code in enumerate(source.code_lines, 1)
              if re.search(r"->\s*state\s*=(?!=)", code)]
    if not source.name.startswith("orchestrator/fleet"):
        return
    for number in writes[1:] if source.name == STATE_WRITER else writes:
        yield Breach(source.name, number, "state",
                     f"an instance's state is written in one place of {STATE_WRITER}")


RULES = [check_includes, check_homes, check_words, check_head, check_lines, check_sizes,
         check_state]


def check_tree(root: Path) -> list[Breach]:
    paths = [p for top in [*ARROWS, "tests"] for p in sorted((root / top).rglob("*.[ch]"))]
    sources = [Source(root, p) for p in paths]
    breaches = [b for s in sources for rule in RULES for b in rule(s)]
    rooms, tests = [s for s in sources if not s.is_test], [s for s in sources if s.is_test]
    return breaches + [*check_median(rooms, "the rooms"), *check_median(tests, "the tests")]


# --- the test of the test -----------------------------------------------------------------------

HEAD = f"{SPDX}\n/* What it is. The difficulty. */\n"
SHORT = "int f{0}(void)\n{{\n    return {0};\n}}\n"

CLEAN = {
    "base/str.h": HEAD + '#include <stdbool.h>\n/* Said of "strcpy(" and the like. */\n',
    "base/heap.c": HEAD + '#include "base/str.h"\nstatic const char *z = "strcpy(a, b) //";\n',
    "proxy/http1.c": HEAD + '#include <llhttp.h>\n#include "base/str.h"\nKG_CONTAINER_OF(a, b, c)\n'
                            "/* imagery, containerized: other words */\n",
    "proxy/http1_priv.h": HEAD,
    "proxy/guard.c": HEAD + '#include "proxy/http1_priv.h"\n',
    "reaper/reaper.c": HEAD + '#include "base/str.h"\nchar t[] = "/tmp/x-XXXXXX";\n',
    "orchestrator/fleet.c": HEAD + '#include "base/str.h"\n#include "proxy/gate.h"\n'
                                   '#include "reaper/reaper.h"\n/* Docker, container, HTTP */\n',
    "orchestrator/digest.c": HEAD + "#include <openssl/evp.h>\n",
    "orchestrator/transport.c": HEAD + "#include <curl/curl.h>\n",
    "orchestrator/json.c": HEAD + "#include <cjson/cJSON.h>\n",
    "orchestrator/confine.c": HEAD + "#include <seccomp.h>\n",
    "base/sizes.c": HEAD + "".join(SHORT.format(i) for i in range(9))
                    + "int at_limit(void)\n{\n" + "    x();\n" * 67 + "}\n",
    "base/full.c": HEAD + "x;\n" * (MAX_FILE_LINES - 2),
    "base/wide.c": HEAD + "/*" + "x" * (MAX_COLUMNS - 4) + "*/\n",
    "tests/unit/proxy/test_guard.c": HEAD + '#include "proxy/http1_priv.h"\n#include <check.h>\n'
                                            "START_TEST(container)\n{\n    strcpy(a, b);\n}\n",
    "tests/fuzz/proxy/fuzz_guard.c": HEAD + '#include "proxy/http1_priv.h"\n',
    "tests/sim/small.c": HEAD + "".join(SHORT.format(i) for i in range(9)),
    "tests/sim/sim.c": HEAD + '#include "orchestrator/fleet.h"\n#include "world.h"\n',
}

LONG_ARRAY = "int big[] = {\n" + "    0,\n" * 100 + "};\n"  # no function, however long
MISCOUNTED = "#if A\nint f(int a) {\n#else\nint f(void) {\n#endif\n}\n"
LONG = "static int *long_one(int a,\n    int b)\n{\n" + "    x();\n" * 67 + "}\n"


def lines_of(n: int) -> str:
    return "int f(void)\n{\n" + "    x();\n" * (n - 3) + "}\n"


# rule, file, its text behind HEAD, the line that must be named
DIRTY = [
    ("arrow", "base/a.c", '#include "proxy/gate.h"\n', 3),
    ("arrow", "proxy/a.c", '#include "orchestrator/json.h"\n', 3),
    ("arrow", "proxy/a.h", '#  include "orchestrator/fleet.h"\n', 3),
    ("arrow", "reaper/a.c", 'int a;\n#include "proxy/gate.h"\n', 4),
    ("arrow", "tests/unit/reaper/test_a.c", '#include "proxy/gate.h"\n', 3),
    ("include", "base/a.c", '#include "str.h"\n', 3),
    ("include", "base/a.c", '#include "../base/str.h"\n', 3),
    ("include", "base/a.c", '#include "base/../base/str.h"\n', 3),
    ("include", "base/a.c", "#include <base/str.h>\n", 3),
    ("include", "base/a.c", '#include "tests/sim/world.h"\n', 3),
    ("include", "tests/sim/a.c", '#include "../sim/world.h"\n', 3),
    ("private", "orchestrator/a.c", '#include "proxy/http1_priv.h"\n', 3),
    ("private", "tests/sim/a.c", '#include "proxy/http1_priv.h"\n', 3),
    ("private", "tests/fuzz/a.c", '#include "proxy/http1_priv.h"\n', 3),
    ("private", "tests/unit/orchestrator/test_a.c", '#include "proxy/http1_priv.h"\n', 3),
    ("home", "proxy/guard.c", "#include <llhttp.h>\n", 3),
    ("home", "orchestrator/a.c", "#include <openssl/sha.h>\n", 3),
    ("home", "orchestrator/a.h", "#include <curl/curl.h>\n", 3),
    ("home", "orchestrator/a.c", "#include <cjson/cJSON.h>\n", 3),
    ("home", "base/a.c", "#include <seccomp.h>\n", 3),
    ("home", "tests/sim/a.c", "#include <curl/curl.h>\n", 3),
    *[("word", "proxy/a.c", f"/* the {word}. */\n", 3)
      for word in ["container", "Docker", "images", "REAPER"]],
    ("word", "proxy/a.h", "int docker_calls;\n", 3),
    ("word", "proxy/a.c", 'puts("no container");\n', 3),
    ("word", "reaper/a.c", "/* HTTP */\n", 3),
    ("word", "reaper/a.c", "/* docker */\n", 3),
    ("word", "base/a.c", "/* for the orchestrator */\n", 3),
    ("word", "orchestrator/a.c", "int llhttp_calls;\n", 3),
    ("head", "base/a.c", None, 1),
    ("head", "base/a.h", "", 2),
    ("head", "tests/unit/base/test_a.c", None, 1),
    ("columns", "base/a.c", "/*" + "x" * (MAX_COLUMNS - 3) + "*/\n", 3),
    ("blank", "base/a.c", "int a; \n", 3),
    ("blank", "base/a.h", "int a;\n\t\n", 4),
    *[("unfinished", "base/a.c", f"/* {word}: later */\n", 3) for word in UNFINISHED],
    *[("unsafe", "base/a.c", f"int a;\nx = {word} (a, b);\n", 4) for word in UNSAFE],
    ("unsafe", "base/a.c", "char c = '\"'; strcpy(a, b); c = '\"';\n", 3),
    ("unsafe", "base/a.h", "/* a */ strcpy(a, b); // strcat(\n", 3),
    ("state", "orchestrator/fleet_a.c", "if (i->state == a)\n    i->state = b;\n", 4),
    ("state", "orchestrator/fleet_step.c", "i->state = a;\ni -> state = b;\n", 4),
    ("file-size", "base/a.c", "x;\n" * (MAX_FILE_LINES - 1), MAX_FILE_LINES + 1),
    ("file-size", "tests/unit/base/test_a.c", "x;\n" * (MAX_FILE_LINES - 1), MAX_FILE_LINES + 1),
    ("function-size", "base/a.c", LONG_ARRAY + MISCOUNTED + LONG, 111),
    ("function-size", "base/a.h", "static inline " + lines_of(MAX_FUNCTION_LINES + 1), 3),
    ("function-size", "tests/sim/a.c", "START_TEST(a)\n{\n" + "    x();\n" * 68 + "}\n", 3),
    ("median", "proxy/a.c", lines_of(19) * 20, 3),
    ("median", "tests/sim/a.c", lines_of(19) * 20, 3),
]


def write_tree(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def breaches_of(files: dict[str, str]) -> list[Breach]:
    with tempfile.TemporaryDirectory(prefix="kipgate-tidy-") as folder:
        write_tree(Path(folder), files)
        return check_tree(Path(folder))


def self_test() -> int:
    failures = [f"clean tree: {b}" for b in breaches_of(CLEAN)]
    for rule, name, text, line in DIRTY:
        if text is None:
            whole = "int a;\n"  # no head at all
        elif rule == "head":
            whole = SPDX + "\nint a;\n"
        else:
            whole = HEAD + text
        found = breaches_of({**CLEAN, name: whole})
        # The longest function, which the median names, may lie in the clean tree.
        places = {(b.rule, name if rule == "median" else b.file,
                   line if rule == "median" else b.line) for b in found}
        if places != {(rule, name, line)}:
            failures.append(f"{rule} in {name} with {text!r:.60}: found {found}")
    untested = {"arrow", "include", "private", "home", "word", "head", "columns", "blank",
                "unfinished", "unsafe", "state", "file-size", "function-size", "median"}
    untested -= {rule for rule, *_ in DIRTY}
    failures += [f"no bad example of {rule}" for rule in sorted(untested)]
    for failure in failures:
        print(failure)
    print(f"{len(DIRTY)} bad trees, {len(failures)} failures")
    return 1 if failures else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parent.parent)
    parser.add_argument("--self-test", action="store_true")
    arguments = parser.parse_args()
    if arguments.self_test:
        return self_test()
    breaches = check_tree(arguments.root)
    for b in breaches:
        print(f"{b.file}:{b.line}: {b.words}")
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main())
