# SPDX-License-Identifier: Apache-2.0
"""The rows of CONFORMANCE.md: what the HTTP RFCs ask of a gateway, what Kipgate does, and the test
that shows it. The difficulty: a table beside its tests would soon say something else than they do,
so a row is written on its test as a decorator, and the document is made from the rows.

    python3 tests/http/conformance.py > tests/http/CONFORMANCE.md
"""
import contextlib
import dataclasses
import importlib
import json
import pathlib
import sys
import time

import pytest

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]  # pytest sees to it; a run by hand does not

from harness import raw, settings  # noqa: E402  (needs the path above)
from harness.echo import Dump, get, raw_post, raw_target  # noqa: E402
from harness.kipgate import Kipgate, problem  # noqa: E402
from harness.raw import Broken  # noqa: E402

DOCUMENT = HERE / "CONFORMANCE.md"
RFCS = {9110: "HTTP semantics", 9112: "HTTP/1.1", 9113: "HTTP/2"}
MODULES = [
    "test_conformance_9110",
    "test_conformance_9110_forwarding",
    "test_conformance_9110_content",
    "test_conformance_9110_methods",
    "test_conformance_9112",
    "test_conformance_9112_framing",
    "test_conformance_9112_connections",
    "test_conformance_9113",
    "test_conformance_9113_frames",
    "test_conformance_9113_semantics",
    "test_conformance_9113_workers",
    "test_conformance_tls",
]
LEVELS = ("MUST", "SHOULD", "MAY", "plain")  # "plain": said by the grammar or without a key word

AS_REQUIRED = "as required"
STRICTER = "stricter"
NOT_APPLICABLE = "not applicable"
KNOWN_GAP = "known gap"


@dataclasses.dataclass(frozen=True)
class Row:
    """One requirement. `why` is empty only where Kipgate does what is asked."""

    rfc: int
    section: str
    level: str
    words: str
    result: str
    why: str = ""
    test: str = ""  # empty only where the requirement does not apply

    @property
    def order(self):
        """By section, numbers as numbers."""
        return [int(part) for part in self.section.split(".")]


class Table:
    """The rows of one RFC in one module, in its order. A test may show several requirements: its
    decorators are stacked."""

    def __init__(self, rfc):
        self.rfc = rfc
        self.rows = []

    def _on_test(self, section, level, words, result, why=""):
        def mark(test):
            self.rows.append(Row(self.rfc, section, level, words, result, why, test.__name__))
            if result == KNOWN_GAP:
                return pytest.mark.xfail(strict=True, reason=why)(test)
            return test

        return mark

    def follows(self, section, level, words):
        """Kipgate does what is asked."""
        return self._on_test(section, level, words, AS_REQUIRED)

    def stricter(self, section, level, words, why):
        """Kipgate refuses what the RFC allows, or asks to be taken, for this reason."""
        return self._on_test(section, level, words, STRICTER, why)

    def gap(self, section, level, words, why):
        """Kipgate does not do what is asked, yet. The test must fail until it does."""
        return self._on_test(section, level, words, KNOWN_GAP, why)

    def not_applicable(self, section, level, words, why):
        """Nothing that Kipgate does could meet or breach it."""
        self.rows.append(Row(self.rfc, section, level, words, NOT_APPLICABLE, why))


def rows_of(name):
    """The rows of a module, from all its tables."""
    module = importlib.import_module(name)
    return [
        row for table in vars(module).values() if isinstance(table, Table) for row in table.rows
    ]


def tests_of(name):
    """Names of all tests in a module."""
    return [test for test in vars(importlib.import_module(name)) if test.startswith("test_")]


def rows():
    """The rows of all modules, by RFC."""
    found = [row for name in MODULES for row in rows_of(name)]
    return {rfc: [row for row in found if row.rfc == rfc] for rfc in RFCS}


# --- what the tests share -------------------------------------------------------------------------


PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = "Transfer-Encoding: chunked"
WEBSOCKET = (
    "Connection: Upgrade",
    "Upgrade: WebSocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)


@contextlib.contextmanager
def http1_gate(services):
    """A Kipgate with one front, in which all services are awake but those that let nobody wait."""
    with Kipgate(services, binary=settings.sanitized_bin(), config={"fronts": 1}) as gate:
        for name, service in services.items():
            if service.get("queue") != 0:
                assert gate.admin.wake(name).status == 200
        yield gate


def dump(gate, data, method="GET"):
    """Sends bytes; gives what the worker received."""
    response = raw.request(gate.front, data, method)
    assert response.status == 200, (response.status, response.body[:500])
    return Dump(response.body)


def answered(gate, answer, *fields, method="POST", **switches):
    """The client's view of a worker's answer with exactly these bytes."""
    if method == "POST":
        return raw.request(gate.front, raw_post(answer, *fields, **switches), "POST")
    data = get(raw_target(answer, **switches), *fields, method=method)
    return raw.request(gate.front, data, method)


def response_head(*lines, status="200 OK"):
    """A response's head."""
    return "\r\n".join([f"HTTP/1.1 {status}", *lines]).encode("latin-1") + b"\r\n\r\n"


def refused(gate, data, status, reason, method="GET"):
    """One answer of Kipgate's own, and the end."""
    with gate.raw(5) as client:
        client.send_anyway(data)
        response = client.response(method)
        problem(response, status, reason)
        assert response.closes and client.ended(5)
        return response


def seen_requests(gate):
    """How many requests the worker has had."""
    return json.loads(raw.request(gate.front, get("/whoami")).body)["requests"]


def worker_connections(gate):
    """How many connections the worker has had; the one that asks may be new, hence asked twice."""
    raw.request(gate.front, get("/whoami"))
    return json.loads(raw.request(gate.front, get("/whoami")).body)["connections"]


def post(*lines, body=b"", target="/"):
    """A POST's bytes."""
    return get(target, *lines, method="POST") + body


def next_is_served(client, target="/next"):
    """The connection is in step: the next request gets its own answer."""
    client.send(get(target))
    assert Dump(client.response().body).first == f"GET {target} HTTP/1.1"


def broken_off(gate, answer, **switches):
    """A response that must not look complete: broken off, or 502 when nothing of it went out."""
    with gate.raw() as client:
        client.send(raw_post(answer, **switches))
        head = client.final_head()
        if head.status == 502:
            client.body_of(head, "POST", time.monotonic() + 5)
            problem(head, 502, "upstream-failed")
            return
        with pytest.raises((Broken, ConnectionResetError)):
            client.body_of(head, "POST", time.monotonic() + 5)


# --- the document ---------------------------------------------------------------------------------

HEAD = """\
# Conformance

What RFC 9110 (HTTP semantics), RFC 9112 (HTTP/1.1) and RFC 9113 (HTTP/2) ask of a gateway, what
Kipgate does, and the test that shows it. Towards clients Kipgate is a gateway ("reverse proxy"):
the requirements on origin servers, senders, recipients and intermediaries are its own (RFC 9110,
3.7). Requirements on clients and user agents appear where it is the client of its workers.

Made from the rows in `tests/http/test_conformance_*.py` by `python3 tests/http/conformance.py`; a
test keeps it current. Results: *as required*; *stricter*: refuses what the RFC allows, and why;
*not applicable*: and why; *known gap*: not yet as required. Level *plain*: said by the grammar, or
in prose without a key word.
"""


def cell(text):
    """Text that may stand in a Markdown table."""
    return text.replace("|", "\\|").replace("*", "\\*").replace("<", "&lt;")


def result_of(row):
    """The result in words."""
    return f"{row.result}: {row.why}" if row.why else row.result


def ordered(rows):
    """By section; within one in the order of the module."""
    return sorted(rows, key=lambda row: row.order)


def counts(by_rfc):
    """How many rows of each result."""
    results = [AS_REQUIRED, STRICTER, NOT_APPLICABLE, KNOWN_GAP]
    yield "| RFC | " + " | ".join(results) + " |"
    yield "|---" * (len(results) + 1) + "|"
    for rfc, found in by_rfc.items():
        numbers = [sum(row.result == result for row in found) for result in results]
        yield f"| {rfc} | " + " | ".join(str(n) for n in numbers) + " |"


def differences(by_rfc, result):
    """The rows of all RFCs that have this result."""
    yield "| section | the RFC | Kipgate | test |"
    yield "|---|---|---|---|"
    for rfc, found in by_rfc.items():
        for row in ordered(found):
            if row.result == result:
                words = f"{cell(row.words)} ({row.level})"
                yield f"| {rfc}, {row.section} | {words} | {cell(row.why)} | `{row.test}` |"


def requirements(found):
    """All rows of one RFC."""
    yield "| section | level | requirement | result | test |"
    yield "|---|---|---|---|---|"
    for row in ordered(found):
        test = f"`{row.test}`" if row.test else ""
        cells = [row.section, row.level, cell(row.words), cell(result_of(row)), test]
        yield "| " + " | ".join(cells) + " |"


def document(by_rfc):
    """The whole text of CONFORMANCE.md."""
    lines = [HEAD, *counts(by_rfc), "", "## Where Kipgate is stricter", ""]
    lines += differences(by_rfc, STRICTER)
    if any(row.result == KNOWN_GAP for found in by_rfc.values() for row in found):
        lines += ["", "## Known gaps", "", *differences(by_rfc, KNOWN_GAP)]
    for rfc, found in by_rfc.items():
        lines += ["", f"## RFC {rfc}: {RFCS[rfc]}", "", *requirements(found)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.modules["conformance"] = sys.modules["__main__"]  # the modules import it by its name
    sys.stdout.write(document(rows()))
