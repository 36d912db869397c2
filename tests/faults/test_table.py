# SPDX-License-Identifier: Apache-2.0
"""README.md's table of faults and this tree: each row is there, each test that it names exists, and
each scenario of this directory is in it (but for crash points, which are a suite of their own)."""
import pathlib
import re

HERE = pathlib.Path(__file__).parent
ELSEWHERE = {31, 32}


def names_in(folder, pattern, form):
    """What tests are called there."""
    texts = (path.read_text() for path in folder.rglob(pattern))
    return {name for text in texts for name in re.findall(form, text, re.M)}


def test_each_fault_has_its_scenario():
    """And the other way round."""
    rows = re.findall(
        r"^\| (\d+|-) \| [^|]+ \| ([^|]+) \|$", (HERE / "README.md").read_text(), re.M
    )
    assert {int(row) for row, _ in rows if row != "-"} == set(range(1, 36)) - ELSEWHERE
    named = {name for _, tests in rows for name in re.findall(r"`(\w+)`", tests)}
    made = names_in(HERE.parent, "test_*.py", r"^def (test_\w+)")
    made |= names_in(HERE.parent / "unit", "test_*.c", r"^START_TEST\((\w+)\)")
    assert named <= made, named - made
    ours = names_in(HERE, "test_*.py", r"^def (test_\w+)")
    ours -= {"test_each_fault_has_its_scenario", "test_crash_points"}
    assert ours <= named, ours - named
