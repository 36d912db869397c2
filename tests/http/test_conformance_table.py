# SPDX-License-Identifier: Apache-2.0
"""The table of requirements itself: nothing in it without a test, no test without a requirement,
and the document says what the rows say. The difficulty: none; no Kipgate is started here."""
import collections

import conformance
import pytest
from conformance import DOCUMENT, KNOWN_GAP, LEVELS, NOT_APPLICABLE, STRICTER

BY_RFC = conformance.rows()
ROWS = [row for rows in BY_RFC.values() for row in rows]


@pytest.mark.parametrize("name", conformance.MODULES)
def test_every_row_has_a_test_and_every_test_a_row(name):
    """A requirement that does not apply has a reason instead of a test."""
    shown, tests = {
        row.test for row in conformance.rows_of(name) if row.test
    }, conformance.tests_of(name)
    assert shown == set(tests) and len(tests) == len(set(tests))
    for row in conformance.rows_of(name):
        assert (row.test == "") == (row.result == NOT_APPLICABLE), row


def test_all_modules_are_read():
    """None is forgotten."""
    found = {path.stem for path in conformance.HERE.glob("test_conformance_*.py")}
    assert found == {*conformance.MODULES, "test_conformance_table"}


def test_rows_are_whole():
    """A level that exists, words, and a reason wherever Kipgate differs."""
    for row in ROWS:
        assert row.level in LEVELS and row.words and row.order, row
        reasoned = row.result in (STRICTER, NOT_APPLICABLE, KNOWN_GAP)
        assert bool(row.why) == reasoned, row


KEY_WORDS = {"MUST": ["MUST"], "SHOULD": ["SHOULD", "RECOMMENDED"], "MAY": ["MAY", "OPTIONAL"]}


def test_levels_are_in_the_words():
    """Whoever reads a MUST sees what must be done; what has no key word claims none."""
    for row in ROWS:
        found = [level for level, words in KEY_WORDS.items() if any(w in row.words for w in words)]
        assert (row.level in found) if row.level != "plain" else not found, row


def test_no_requirement_stands_twice():
    """Each once, with one result."""
    seen = collections.Counter((row.rfc, row.section, row.words) for row in ROWS)
    assert [key for key, count in seen.items() if count > 1] == []


def test_the_document_is_current():
    """`python3 tests/http/conformance.py > tests/http/CONFORMANCE.md` makes it so."""
    assert DOCUMENT.read_text() == conformance.document(BY_RFC)
