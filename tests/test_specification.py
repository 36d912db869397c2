# SPDX-License-Identifier: Apache-2.0
"""SPECIFICATION.md: each promise names tests that exist, and what the code's own tables hold
(invariants, reasons, keys, limits, metrics, calls, commands) is on the page as it is in the code,
and nothing else is. The difficulty: neither may change alone, so all is read out of the sources;
that a test named there proves its promise, only a reader can see."""
import ast
import functools
import json
import pathlib
import re
from typing import NamedTuple

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PAGE = "SPECIFICATION.md"
HEAD = ("id", "promise", "enforced by")
REFERENCE = re.compile(r"`((?:tests|bench)/[\w./-]+?)(?:::(\w+))?`")
FIGURES = "Figures"
ELSEWHERE = "Limits with a home of their own"


class Row(NamedTuple):
    section: str
    id: str
    promise: str
    enforced: str

    @property
    def references(self):
        """(path, name or ""): what is to be looked for."""
        return REFERENCE.findall(self.enforced)

    @property
    def lead(self):
        """(name, value) of a row that begins with "`name` = `value`:"; None of another one."""
        found = re.match(r"`([^`]+)` = `([^`]+)`: \S", self.promise)
        return found.groups() if found else None


@functools.cache
def text_of(path):
    """A file of this tree; "" when there is none."""
    file = ROOT / path
    return file.read_text() if file.is_file() else ""


@functools.cache
def without_comments(path):
    """C, as the compiler sees it: what is commented out is not there."""
    return re.sub(r"/\*.*?\*/|//[^\n]*", " ", text_of(path), flags=re.S)


# --- the page -------------------------------------------------------------------------------------


def cells_of(line):
    """Of one line of a table."""
    cells = re.split(r"(?<!\\)\|", line.strip().strip("|"))
    return tuple(cell.strip().replace("\\|", "|") for cell in cells)


def rows_of(page):
    """All rows, of every table of the page."""
    section, rows = "", []
    for line in page.splitlines():
        if line.startswith("## "):
            section = line[3:].strip()
        cells = cells_of(line) if line.startswith("|") else ()
        if cells and cells != HEAD and not set("".join(cells)) <= {"-"}:
            assert len(cells) == len(HEAD), f"not a row: {line}"
            rows.append(Row(section, *cells))
    return rows


def faults_of_form(rows):
    """Each id once, a promise, and at least one reference; nothing but references beside it."""
    faults, seen = [], set()
    for row in rows:
        if not re.fullmatch(r"I\d+[a-z]?|[A-Z]+2?-(\d+|[a-z0-9_-]+)", row.id) or row.id in seen:
            faults.append(f"{row.id}: not an id, or used twice")
        seen.add(row.id)
        if not row.promise:
            faults.append(f"{row.id}: no promise")
        if not row.references or REFERENCE.sub("", row.enforced).strip(", "):
            faults.append(f"{row.id}: enforced by what? {row.enforced}")
        of_bench = [path.startswith("bench/") for path, _ in row.references]
        if row.section == FIGURES and not any(of_bench):
            faults.append(f"{row.id}: a figure that no bench prints")
        if row.section != FIGURES and all(of_bench):
            faults.append(f"{row.id}: a bench is no test")
    return faults


# --- what it names --------------------------------------------------------------------------------


@functools.cache
def python_names(path):
    """Functions at the top of a file; of a file of tests the tests alone."""
    tree = ast.parse(text_of(path))
    names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    if pathlib.Path(path).name.startswith("test_"):
        names = {name for name in names if name.startswith("test_")}
    return names


def is_in_c(path, name):
    """A unit test that is written down and handed to its suite, or another file's function."""
    code = without_comments(path)
    if "START_TEST(" not in code:
        return re.search(rf"^\w[^;{{}}()]*\b{name}\(", code, re.M)
    rest, tests = re.subn(rf"\bSTART_TEST\({name}\)", "", code)
    return tests == 1 and re.search(rf"\b{name}\b", rest)


@functools.cache
def is_there(path, name):
    """A bare path is enough for what has no smaller parts with names."""
    if not name:
        whole = path.endswith(".sh") or re.search(r"/fuzz_\w+\.c$", path)
        return bool(whole and text_of(path)) or path.startswith("bench/") and text_of(path)
    if path.endswith(".py"):
        return text_of(path) and name in python_names(path)
    if path.endswith(".pml"):
        return re.search(rf"^(inline|proctype) {name}\(", text_of(path), re.M)
    return path.endswith(".c") and is_in_c(path, name)


def faults_of_references(rows):
    """What is named is not there."""
    return [
        f"{row.id}: there is no {path}{'::' * bool(name)}{name}"
        for row in rows
        for path, name in row.references
        if not is_there(path, name)
    ]


# --- what the code holds --------------------------------------------------------------------------


def invariants(architecture):
    """I1 to I12 with their words."""
    return dict(re.findall(r"^    (I\d+) +(\S.*)$", architecture, re.M))


def reasons(proxy, orchestrator):
    """Name -> "STATUS" or "STATUS, closes", of the two tables of rows."""
    form = r'X\(\w+,\s*"([a-z-]+)",\s*(\d+),\s*(?:(true|false),\s*)?"'
    found = re.findall(form, re.sub(r"\\\n", " ", proxy + orchestrator))
    return {
        name: status + ", closes" * (closes == "true")
        for name, status, closes in found
        if status != "0"
    }


def strings_of(words):
    """C's string literals that stand side by side, as one string."""
    return "".join(ast.literal_eval(word) for word in re.findall(r'"(?:[^"\\]|\\.)*"', words))


def keys(source):
    """Top-level keys, keys of a service: name -> what it is when nobody says."""
    tables = re.findall(r"config_(?:top|service)_keys\[\] = \{(.*?)\n\};", source, re.S)
    found = []
    for table in tables:
        records = re.findall(r'\{\.name = "(\w+)",(.*?)\}(?=,\n)', table, re.S)
        form = r'\.def(?:_words)? =\s*((?:"(?:[^"\\]|\\.)*"\s*)+)'
        found.append({name: strings_of(re.search(form, rest)[1]) for name, rest in records})
    return found


def shown(name, value):
    """A number with its unit, as one says it."""
    units = {
        "BYTES": [("MiB", 1 << 20), ("KiB", 1 << 10)],
        "MS": [("h", 3600000), ("min", 60000), ("s", 1000), ("ms", 1)],
    }
    for unit, size in units.get(name.rsplit("_", 1)[-1], []):
        if value % size == 0:
            return f"{value // size:,} {unit}"
    return f"{value:,}"


def limits(header, prefix="KG_"):
    """Constant -> value, as it is shown."""
    defines = re.findall(rf"^#define ({prefix}\w+) ([\d(][\d *()]*?) *(?:/\*.*)?$", header, re.M)
    return {name: shown(name, eval(value, {})) for name, value in defines}


def limits_of_one_file(rows, text):
    """The same of the other files that are named, as far as their constants are."""
    said = [row.lead[0].split() for row in rows if row.section == ELSEWHERE and row.lead]
    held = {path: limits(text(path), "") for path, _ in said}
    return {f"{path} {name}": held[path][name] for path, name in said if name in held[path]}


def metrics(source):
    """Names of families."""
    return {"kipgate_" + name for name in re.findall(r'\bNAME\("(\w+)"\)', source)}


def calls(entrance, services):
    """Of the admin API: "METHOD PATH". Whatever can be got answers HEAD, too."""
    found = re.findall(r'\{"(/[\w/]+)", "([A-Z]+)",', entrance)
    prefix = re.search(r'KG_STR\("(/[\w/]+)"\)', services)[1]
    allowed = re.findall(r'admin_not_allowed\(a, r->id, "([A-Z, ]+)"\)', services)
    allowed = sorted((methods.replace("GET, HEAD", "GET") for methods in allowed), key=len)
    found += [(prefix, method) for method in allowed[0].split(", ")]
    found += [(f"{prefix}/NAME", method) for method in allowed[-1].split(", ")]
    verbs = re.findall(r'!is\(verb, "(\w+)"\)', services)
    found += [(f"{prefix}/NAME/{verb}", allowed[1]) for verb in verbs]
    return {f"{method} {path}" for path, method in found}


def problems(*sources):
    """Of the admin API's own: name -> status."""
    form = r'(?:admin_problem\([^;]*?|\.status = )(\d{3}),\s*(?:\.name = )?"([a-z-]+)"'
    return {name: status for source in sources for status, name in re.findall(form, source)}


def commands(source):
    """Of the command line, less what is only another way to say one."""
    return set(re.findall(r'^    \{"(\w+)", "', source, re.M))


ADMIN = ["orchestrator/admin.c", "orchestrator/admin_services.c", "orchestrator/front.c"]


def from_code(text=text_of):
    """Section -> what its rows must begin with: name -> value, or names alone."""
    top, service = keys(text("orchestrator/config_keys.c"))
    return {
        "Reasons": reasons(text("proxy/reason.h"), text("orchestrator/reasons.h")),
        "Configuration: top-level keys": top,
        "Configuration: keys of a service": service,
        "Limits": limits(text("base/limits.h")),
        "Metrics": metrics(text("orchestrator/admin_metrics.c")),
        "Admin API": calls(*map(text, ADMIN[:2])),
        "Admin API: problems": problems(*map(text, ADMIN)),
        "Command line": commands(text("orchestrator/cli.c")),
    }


def faults_of_section(section, rows, held):
    """What is held and not said, said and not held, or said otherwise."""
    rows = [row for row in rows if row.section == section]
    if isinstance(held, dict):
        said = dict(row.lead for row in rows if row.lead)
        wrong = [
            f"{name} is `{held[name]}`, not `{said[name]}`"
            for name in held
            if name in said and said[name] != held[name]
        ]
    else:
        leads = (re.match(r"`([^`{]+)", row.promise) for row in rows)
        said, wrong = {lead[1] for lead in leads if lead}, []
    missing = [f"{name} is not there" for name in held if name not in said]
    beyond = [f"{name} is not in the code" for name in said if name not in held]
    return [f"{section}: {fault}" for fault in missing + beyond + wrong]


def faults_of_invariants(rows, architecture):
    """Each has a row of its number, in the words of ARCHITECTURE.md."""
    said = {row.id: row.promise for row in rows}
    return [
        f"{number}: must begin with: {words}"
        for number, words in invariants(architecture).items()
        if not said.get(number, "").startswith(words.rstrip("."))
    ]


def faults(page, text=text_of):
    """All there are."""
    rows = rows_of(page)
    found = faults_of_form(rows) + faults_of_references(rows)
    found += faults_of_invariants(rows, text("ARCHITECTURE.md"))
    held = {**from_code(text), ELSEWHERE: limits_of_one_file(rows, text)}
    for section, of_code in held.items():
        found += faults_of_section(section, rows, of_code)
    return found


# --- tests ----------------------------------------------------------------------------------------


def test_each_promise_has_a_test_and_each_table_of_the_code_its_promises():
    """One line each."""
    assert faults(text_of(PAGE)) == []


def test_the_code_is_read_whole():
    """What reads the sources finds as much as others do, so that it cannot miss a row in silence."""
    held = from_code()
    assert len(invariants(text_of("ARCHITECTURE.md"))) == 12
    defined = re.findall(r"^#define (KG_(?!BASE_)\w+)", text_of("base/limits.h"), re.M)
    assert list(held["Limits"]) == defined
    made = re.findall(r"\bX\((\w+),", text_of("proxy/reason.h") + text_of("orchestrator/reasons.h"))
    assert len(held["Reasons"]) == len(made) - len(["NONE"])
    schema = json.loads(text_of("packaging/kipgate.schema.json"))["properties"]
    of_services = schema.pop("services")["additionalProperties"]["properties"]
    assert set(schema) == set(held["Configuration: top-level keys"])
    assert set(of_services) == set(held["Configuration: keys of a service"])


def test_readme_says_the_same():
    """Each key and metric is named there, each reason with its status."""
    readme, held = text_of("README.md"), from_code()
    words = set(re.findall(r"`([^`\s]+)`", readme))
    table = re.search(r"^\| reason \| status .*?\n\n", readme, re.M | re.S)[0]
    table = re.findall(r"^\| (`[a-z`, -]+`) \| ([\d, ]+) \|", table, re.M)
    told = {}
    for names, statuses in table:
        names, statuses = re.findall(r"[a-z-]+", names), re.findall(r"\d+", statuses)
        told.update(zip(names, statuses * (len(names) if len(statuses) == 1 else 1), strict=True))
    assert told == {name: value[:3] for name, value in held["Reasons"].items()}
    for section in "Configuration: top-level keys", "Configuration: keys of a service":
        assert set(held[section]) <= words, section
    named = {"kipgate_" + word.split("{")[0] for word in words}
    assert held["Metrics"] <= named, held["Metrics"] - named


def less_row(section):
    """The page without the first row of a section."""
    page = text_of(PAGE)
    row = next(row for row in rows_of(page) if row.section == section)
    return "".join(line for line in page.splitlines(True) if not line.startswith(f"| {row.id} |"))


def with_more(path, line):
    """The sources, with one line more in front of this one's last."""
    return lambda other: text_of(other).replace("\n#endif", f"\n{line}\n#endif", other == path)


@pytest.mark.parametrize("section", ["Invariants", *from_code()])
def test_a_row_that_is_taken_away_is_missed(section):
    """Else the tests above would prove nothing."""
    assert len(faults(less_row(section))) == 1


@pytest.mark.parametrize(
    "old, new",
    [
        ("::d5_a_thousand_cold", "::d5_a_million_cold"),
        ("::judge_pause`", "::judge_pauses`"),
        ("::use_slot`", "::use_slots`"),
        ("/fuzz_ends.c`", "/fuzz_ands.c`"),
        (r"\| I7 \|", "| I6 |"),
        (r"(?m)^(\| I8 \| .* \|) .* \|$", r"\1 - |"),
        (r"(?m)^(\| FIG-1 \| .* \|) .* \|$", r"\1 `tests/run.sh` |"),
        ("`no-route` = `404`", "`no-route` = `410`"),
        ("`queue` = `100`", "`queue` = `99`"),
        ("MAX_METHOD_BYTES", "MIN_METHOD_BYTES"),
    ],
)
def test_a_page_that_is_wrong_is_seen(old, new):
    """A test of another name, a number twice, no test at all, another value."""
    page = re.sub(old, new, text_of(PAGE))
    assert page != text_of(PAGE) and faults(page)


@pytest.mark.parametrize("name, value", [("KG_MAX_NEW", "7"), ("KG_NEW_BYTES", "(2 * 1024)")])
def test_a_new_limit_asks_for_its_row(name, value):
    """As does a reason, a key, a metric: they are read in the same way."""
    found = faults(text_of(PAGE), with_more("base/limits.h", f"#define {name} {value}"))
    assert found == [f"Limits: {name} is not there"]


def test_a_test_that_is_not_handed_to_its_suite_is_none():
    """It would never run."""
    path = "tests/unit/base/test_limits.c"
    assert is_in_c(path, "times_are_ordered") and not is_in_c(path, "times_are")
    assert not is_in_c("tests/unit/base/test_err.c", "times_are_ordered")


# --- the other pages ------------------------------------------------------------------------------

NAMED = re.compile(r"`([\w./-]+\.(?:[ch]|py|sh|md|json|env|txt))(?:::\w+)?`|\]\(([\w./-]+)\)")
PAGES = ["README.md", "SECURITY.md", "ARCHITECTURE.md", "bench/README.md", "tests/soak/README.md"]


def is_there_somewhere(page, name):
    """By its path from the top or from the page; a bare name may be that of any file of ours."""
    rooms = () if "/" in name else ("base", "proxy", "reaper", "orchestrator", "tests")
    return (
        name.startswith("/")
        or (ROOT / name).exists()
        or ((ROOT / page).parent / name).exists()
        or any(True for room in rooms for _ in (ROOT / room).rglob(name))
    )


@pytest.mark.parametrize("page", PAGES)
def test_files_that_a_page_names_are_there(page):
    """Who is about to change Kipgate goes by them."""
    names = {a or b for a, b in NAMED.findall(text_of(page))}
    assert names and [name for name in sorted(names) if not is_there_somewhere(page, name)] == []
