# SPDX-License-Identifier: Apache-2.0
"""What strangers say cannot forge a line of a log: clients by paths, hosts, fields and methods,
workers by their answers, the engine by its words. The difficulty: every line must be shown to be
one of ours, so each is parsed and its keys are compared, and a forged event would be seen by its
name."""
import json

import pytest

from harness import raw
from harness.echo import get, raw_target
from harness.waiting import wait_until

FORGED = '"},{"event":"forged","level":"error"}'
EVIL = [
    FORGED,
    "\n" + json.dumps({"time": "x", "level": "error", "event": "forged"}) + "\n",
    '\\"\\n\\u0000\\',
    "\x00\x01\x1b[2J\x7f",
    "\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    "\xff\xfe\x80 \xc3\x28 \xed\xa0\x80",
    "%s%n%x" * 20,
    "\u2028\u2029",
    "x" * 5000,
]
LINE = {"time", "level", "event"}
ACCESS = {"time", "id", "client", "method", "target", "host", "service", "status", "outcome"}


def coded(text):
    """Bytes as an attacker sends them."""
    return text.encode("utf-8") if any(ord(c) > 255 for c in text) else text.encode("latin-1")


def requests(evil):
    """One text in every place of a request."""
    bad = coded(evil)
    host = b"Host: kipgate.test\r\n"
    yield b"GET /" + bad + b" HTTP/1.1\r\n" + host + b"\r\n"
    yield b"GET /?" + bad.replace(b" ", b"") + b" HTTP/1.1\r\n" + host + b"\r\n"
    yield bad + b" / HTTP/1.1\r\n" + host + b"\r\n"
    yield b"GET / HTTP/1.1\r\nHost: " + bad + b"\r\n\r\n"
    yield b"GET http://" + bad + b"/ HTTP/1.1\r\n" + host + b"\r\n"
    yield b"GET / " + bad + b"\r\n" + host + b"\r\n"
    for name in (b"User-Agent", b"Referer", b"X-Request-Id", b"X-Forwarded-For", b"Forwarded"):
        yield b"GET / HTTP/1.1\r\n" + host + name + b": " + bad + b"\r\n\r\n"
    yield b"GET / HTTP/1.1\r\n" + host + bad + b": x\r\n\r\n"
    options = b"Upgrade: " + bad + b"\r\nConnection: " + bad
    yield b"GET / HTTP/1.1\r\n" + host + options + b"\r\n\r\n"


def answers(evil):
    """The same of a worker: reason phrases, fields, and no HTTP at all."""
    bad = coded(evil)
    yield b"HTTP/1.1 200 " + bad + b"\r\nContent-Length: 0\r\n\r\n"
    yield b"HTTP/1.1 200 OK\r\nX: " + bad + b"\r\nContent-Length: 0\r\n\r\n"
    yield b"HTTP/1.1 200 OK\r\nX-Request-Id: " + bad + b"\r\nContent-Length: 0\r\n\r\n"
    yield bad + b"\r\n\r\n"


def say(gate, data):
    """Sends it; whatever comes back will do."""
    with gate.raw(20) as client:
        client.send_anyway(data)
        try:
            client.half_close()
            client.rest(20)
        except OSError:
            pass


@pytest.fixture(scope="module")
def broken():
    """A service that the engine refuses in words that repeat what the configuration says."""
    return '/no\\such\x1b[2J\n"},' + FORGED


def test_every_line_is_one_of_ours(kipgate, echo, broken):
    """In the log and in the access log, after all of it."""
    services = {
        "echo": echo(routes=["/"], idle_timeout="30m"),
        "broken": echo(routes=["/broken"], entrypoint=[broken]),
    }
    gate = kipgate(services, start=False, config={"fronts": 1})
    log = gate.directory / "access.log"
    log.touch()
    log.chmod(0o666)
    gate.config["access_log"] = str(log)
    gate.start()
    assert gate.get("/").status == 200
    for evil in EVIL:
        for data in requests(evil):
            say(gate, data)
        for data in answers(evil):
            if len(data) < 3000:
                say(gate, get(raw_target(data, close=1)))
    assert raw.get(gate.front, "/broken", timeout=60).status in (502, 503, 504)
    assert gate.get("/last").status == 200
    wait_until(lambda: '"/last"' in log.read_text(), 10, "the last access line")
    lines = [json.loads(line) for line in log.read_bytes().decode("utf-8").splitlines()]
    assert len(lines) > len(EVIL)
    for line in lines:
        assert ACCESS <= set(line), line
    for line in gate.stderr:
        parsed = json.loads(line)
        assert LINE <= set(parsed), line
        assert parsed["event"] != "forged", line
        assert line.isprintable(), repr(line)
    assert any(line.get("service") == "broken" for line in gate.logs.all())
