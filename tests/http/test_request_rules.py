# SPDX-License-Identifier: Apache-2.0
"""What a client may send: every row of the rules. A breach gets one final answer with
`Connection: close`, nothing after it is taken for a request, and no container is ever made for it.
The service stays cold for the whole table, so a container that exists at the end convicts a row."""
import re

import pytest

from harness import echo as worker
from harness import raw, settings
from harness.kipgate import Kipgate, problem

HOST = "Host: kipgate.test"
CHASER = b"GET /chaser HTTP/1.1\r\nHost: kipgate.test\r\n\r\n"
TCHARS_NOT = ['"', "(", ")", ",", "/", ";", "<", "=", ">", "?", "@", "[", "\\", "]", "{", "}"]
REASONS = {
    400: "bad-request",
    404: "no-route",
    405: "method-not-allowed",
    413: "body-too-large",
    414: "uri-too-long",
    417: "expectation-failed",
    431: "head-too-large",
    501: "not-implemented",
    505: "version-not-supported",
}


def head(*lines, first="POST / HTTP/1.1", host=HOST):
    """A head: request line, Host and the lines given."""
    whole = [first] + ([host] if host else []) + list(lines)
    return (
        b"".join(
            (line if isinstance(line, bytes) else line.encode("latin-1")) + b"\r\n"
            for line in whole
        )
        + b"\r\n"
    )


def get(*lines, target="/", host=HOST):
    """A GET's head."""
    return head(*lines, first=f"GET {target} HTTP/1.1", host=host)


def chunked(body, *lines):
    """A chunked POST with these raw bytes as its body."""
    return head("Transfer-Encoding: chunked", *lines) + body


def cl_and_te():
    """Both framings in one message, in either order and spelling."""
    te, cl = "Transfer-Encoding: chunked", "Content-Length: 5"
    yield "cl-te", head(cl, te) + b"0\r\n\r\n", (400,)
    yield "te-cl", head(te, cl) + b"0\r\n\r\n", (400,)
    yield "cl0-te", head("Content-Length: 0", te) + b"0\r\n\r\n", (400,)
    yield "te-cl-lowercase", head(
        "transfer-encoding: chunked", "content-length: 5"
    ) + b"0\r\n\r\n", (400,)
    yield "te-mixed-case-value", head(cl, "Transfer-Encoding: cHuNkEd") + b"0\r\n\r\n", (400,)


def transfer_encodings():
    """Everything but exactly one `chunked`."""
    for name, value, statuses in [
        ("gzip", "gzip", (501,)),
        ("gzip-chunked", "gzip, chunked", (501,)),
        ("identity", "identity", (501, 400)),
        ("identity-chunked", "identity, chunked", (501, 400)),
        ("xchunked", "xchunked", (501,)),
        ("chunkedx", "chunkedx", (501,)),
        ("comma-chunked", ", chunked", (400,)),
        ("chunked-comma", "chunked,", (400,)),
        ("empty", "", (400,)),
        ("twice-in-list", "chunked, chunked", (400,)),
        ("chunked-gzip", "chunked, gzip", (400, 501)),
        ("parameter", "chunked;q=1", (400, 501)),
        ("quoted", '"chunked"', (400, 501)),
        ("vertical-tab", "\x0bchunked", (400,)),
        ("chunk-space-ed", "chunk ed", (400, 501)),
    ]:
        yield f"te-{name}", head(f"Transfer-Encoding: {value}") + b"0\r\n\r\n", statuses
    te = "Transfer-Encoding: chunked"
    yield "te-twice", head(te, te) + b"0\r\n\r\n", (400,)
    yield "te-chunked-then-gzip", head(te, "Transfer-Encoding: gzip") + b"0\r\n\r\n", (400, 501)
    yield "te-gzip-then-chunked", head("Transfer-Encoding: gzip", te) + b"0\r\n\r\n", (400, 501)
    yield "te-empty-then-chunked", head("Transfer-Encoding:", te) + b"0\r\n\r\n", (400,)
    yield "te-on-1.0", head(te, first="POST / HTTP/1.0") + b"0\r\n\r\n", (400,)
    yield "te-get-on-1.0", head(te, first="GET / HTTP/1.0") + b"0\r\n\r\n", (400,)
    yield "te-gzip-on-1.0", head("Transfer-Encoding: gzip", first="POST / HTTP/1.0"), (400,)


def content_lengths():
    """Everything but exactly one run of digits that fits."""
    for name, value in [
        ("list", "5, 5"),
        ("list-different", "5, 6"),
        ("plus", "+5"),
        ("minus", "-5"),
        ("inner-space", "5 5"),
        ("hex", "0x5"),
        ("letters", "5a"),
        ("empty", ""),
        ("comma-end", "5,"),
        ("decimal", "5.0"),
        ("exponent", "5e0"),
        ("underscore", "1_0"),
        ("2^63", str(2**63)),
        ("2^64", str(2**64)),
        ("2^64+5", str(2**64 + 5)),
        ("forty-digits", "9" * 40),
        ("quoted", '"5"'),
    ]:
        yield f"cl-{name}", head(f"Content-Length: {value}") + b"hello", (400,)
    yield "cl-twice-same", head("Content-Length: 5", "Content-Length: 5") + b"hello", (400,)
    yield "cl-twice-different", head("Content-Length: 5", "Content-Length: 6") + b"hello", (400,)
    yield "cl-twice-other-case", head("Content-Length: 5", "content-length: 5") + b"hello", (400,)
    yield "cl-unicode-digit", head(b"Content-Length: \xb2") + b"hi", (400,)


def field_syntax():
    """Folding, spaces, empty names, bytes that are no token."""
    yield "obs-fold-space", get("X-A: a", " b"), (400,)
    yield "obs-fold-tab", get("X-A: a", "\tb"), (400,)
    yield "obs-fold-first-line", head(first="GET / HTTP/1.1", host=" Host: kipgate.test"), (400,)
    yield "obs-fold-empty", get("X-A: a", " "), (400,)
    yield "fold-of-te", head("Transfer-Encoding:", " chunked") + b"0\r\n\r\n", (400,)
    yield "space-before-name", get(" X-A: a"), (400,)
    yield "space-before-colon", get("X-A : a"), (400,)
    yield "tab-before-colon", get("X-A\t: a"), (400,)
    yield "space-before-colon-cl", head("Content-Length : 5") + b"hello", (400,)
    yield "space-before-colon-te", head("Transfer-Encoding : chunked") + b"0\r\n\r\n", (400,)
    yield "space-in-name", get("X A: a"), (400,)
    yield "empty-name", get(": a"), (400,)
    yield "no-colon", get("X-A"), (400,)
    for char in TCHARS_NOT:
        yield f"name-char-{ord(char):02x}", get(f"X{char}A: a"), (400,)
    for byte in (0x00, 0x01, 0x0B, 0x0C, 0x1F, 0x7F, 0x80, 0xFF):
        yield f"name-byte-{byte:02x}", get(b"X" + bytes([byte]) + b"A: a"), (400,)


def controls():
    """Bare CR or LF, NUL, other controls and DEL."""
    lf = b"GET / HTTP/1.1\nHost: kipgate.test\n\n"
    yield "lf-only", lf, (400,)
    yield "lf-after-request-line", b"GET / HTTP/1.1\nHost: kipgate.test\r\n\r\n", (400,)
    yield "lf-after-field", b"GET / HTTP/1.1\r\nHost: kipgate.test\nX-A: a\r\n\r\n", (400,)
    yield "lf-ends-head", b"GET / HTTP/1.1\r\nHost: kipgate.test\r\n\n", (400,)
    yield "lf-lf-ends-head", b"GET / HTTP/1.1\r\nHost: kipgate.test\n\n", (400,)
    yield "cr-after-request-line", b"GET / HTTP/1.1\rHost: kipgate.test\r\n\r\n", (400,)
    yield "cr-in-value", get(b"X-A: a\rb"), (400,)
    yield "cr-at-value-end", get(b"X-A: a\r"), (400,)
    yield "cr-in-name", get(b"X\r-A: a"), (400,)
    yield "cr-in-target", b"GET /a\rb HTTP/1.1\r\nHost: kipgate.test\r\n\r\n", (400,)
    yield "crcr-x", b"GET / HTTP/1.1\r\nHost: kipgate.test\r\n\rX", (400,)
    yield "crcr-lf", b"GET / HTTP/1.1\r\nHost: kipgate.test\r\n\r\r\n", (400,)
    for byte in [0, 1, 8, 11, 12, 14, 27, 31, 127]:
        yield f"value-byte-{byte:02x}", get(b"X-A: a" + bytes([byte]) + b"b"), (400,)
        yield f"target-byte-{byte:02x}", b"GET /a" + bytes(
            [byte]
        ) + b" HTTP/1.1\r\n" + HOST.encode() + b"\r\n\r\n", (400,)


def chunk_lines():
    """Chunk sizes and line ends."""
    for name, size in [
        ("plus", b"+1"),
        ("minus", b"-1"),
        ("underscore", b"1_0"),
        ("0x", b"0x1"),
        ("leading-space", b" 1"),
        ("trailing-space", b"1 "),
        ("trailing-tab", b"1\t"),
        ("empty", b""),
        ("17-digits", b"0" * 16 + b"1"),
        ("17-digits-big", b"1" + b"0" * 16),
        ("no-hex", b"g"),
        ("quoted", b'"1"'),
        ("nul", b"1\x00"),
        ("high", b"\xb1"),
    ]:
        yield f"chunk-size-{name}", chunked(size + b"\r\na\r\n0\r\n\r\n"), (400,)
    yield "chunk-size-2^64-1", chunked(b"f" * 16 + b"\r\na"), (400, 413)
    yield "chunk-lf-after-size", chunked(b"1\na\r\n0\r\n\r\n"), (400,)
    yield "chunk-cr-after-size", chunked(b"1\rXa\r\n0\r\n\r\n"), (400,)
    yield "chunk-lf-after-data", chunked(b"1\r\na\n0\r\n\r\n"), (400,)
    yield "chunk-longer-than-size", chunked(b"1\r\nab\r\n0\r\n\r\n"), (400,)
    yield "chunk-no-crlf-after-data", chunked(b"1\r\na0\r\n\r\n"), (400,)
    yield "chunk-lf-at-end", chunked(b"0\r\n\n"), (400,)
    yield "chunk-lf-after-last", chunked(b"0\n\r\n"), (400,)
    yield "chunk-ext-lf", chunked(b"1;a=b\na\r\n0\r\n\r\n"), (400,)
    yield "chunk-ext-cr", chunked(b"1;a\rb\r\na\r\n0\r\n\r\n"), (400,)
    yield "chunk-ext-nul", chunked(b"1;a=\x00\r\na\r\n0\r\n\r\n"), (400,)
    yield "chunk-ext-del", chunked(b"1;a=\x7f\r\na\r\n0\r\n\r\n"), (400,)
    yield "chunk-ext-over-4KiB", chunked(b"1;" + b"a" * 4097 + b"\r\na\r\n0\r\n\r\n"), (400,)
    many = b"".join(b"1;" + b"a" * 100 + b"\r\na\r\n" for _ in range(45))
    yield "chunk-exts-over-4KiB-in-total", chunked(many + b"0\r\n\r\n"), (400,)


def trailers():
    """Fields that have no place behind a body."""
    for field in [
        "Content-Length: 5",
        "Transfer-Encoding: chunked",
        "Host: other.test",
        "Authorization: Basic eDp5",
        "Cookie: a=b",
        "Connection: close",
        "Content-Type: text/plain",
        "Content-Encoding: gzip",
        "X-Forwarded-For: 1.2.3.4",
        "Trailer: X-A",
        "Expect: 100-continue",
        "Upgrade: websocket",
        "TE: trailers",
    ]:
        name = field.partition(":")[0].lower()
        yield f"trailer-{name}", chunked(b"1\r\na\r\n0\r\n" + field.encode() + b"\r\n\r\n"), (400,)
    for name, line in [
        ("fold", b"X-A: a\r\n b"),
        ("space-before-colon", b"X-A : a"),
        ("empty-name", b": a"),
        ("nul", b"X-A: \x00"),
        ("lf", b"X-A: a\nX-B: b"),
        ("no-colon", b"X-A"),
    ]:
        yield f"trailer-{name}", chunked(b"1\r\na\r\n0\r\n" + line + b"\r\n\r\n"), (400,)
    many = b"".join(b"X-%d: a\r\n" % i for i in range(101))
    yield "trailers-101-fields", chunked(b"1\r\na\r\n0\r\n" + many + b"\r\n"), (431, 400)
    big = b"X-A: " + b"a" * 65600 + b"\r\n"
    yield "trailers-over-64KiB", chunked(b"1\r\na\r\n0\r\n" + big + b"\r\n"), (431, 400)


def hosts():
    """No Host, several, bad bytes, or another than the target's."""
    yield "host-none", get(host=None), (400,)
    yield "host-two-same", get(HOST), (400,)
    yield "host-two-different", get("Host: other.test"), (400,)
    for name, value in [
        ("empty", ""),
        ("space", "a b"),
        ("slash", "a/b"),
        ("at", "user@a"),
        ("comma", "a, b"),
        ("backslash", "a\\b"),
        ("port-letters", "a:b"),
        ("port-too-big", "a:65536"),
        ("two-ports", "a:1:2"),
        ("hash", "a#b"),
        ("question", "a?b"),
        ("bracket-open", "[::1"),
        ("bracket-bad", "[zz]"),
        ("angle", "<a>"),
        ("quote", 'a"b'),
        ("high", "a\xe9"),
    ]:
        yield f"host-{name}", get(host=f"Host: {value}"), (400,)
    yield "host-not-authority", get(target="http://other.test/"), (400,)
    yield "host-not-authority-port", get(target="http://kipgate.test:81/"), (400,)


def targets():
    """Targets and methods that are never forwarded."""
    for name, first, statuses in [
        ("connect", "CONNECT kipgate.test:443 HTTP/1.1", (405, 400)),
        ("connect-path", "CONNECT / HTTP/1.1", (405, 400)),
        ("trace", "TRACE / HTTP/1.1", (405, 400)),
        ("star-get", "GET * HTTP/1.1", (400, 405)),
        ("star-post", "POST * HTTP/1.1", (400, 405)),
        ("authority-form", "GET kipgate.test:80 HTTP/1.1", (400,)),
        ("relative", "GET a/b HTTP/1.1", (400,)),
        ("empty", "GET  HTTP/1.1", (400,)),
        ("fragment", "GET /a#b HTTP/1.1", (400,)),
        ("absolute-userinfo", "GET http://u:p@kipgate.test/ HTTP/1.1", (400,)),
        ("absolute-no-host", "GET http:///x HTTP/1.1", (400,)),
        ("absolute-ftp", "GET ftp://kipgate.test/ HTTP/1.1", (400,)),
        ("absolute-bad-port", "GET http://kipgate.test:x/ HTTP/1.1", (400,)),
        ("two-spaces", "GET /  HTTP/1.1", (400,)),
        ("tab", "GET\t/ HTTP/1.1", (400,)),
        ("leading-space", " GET / HTTP/1.1", (400,)),
        ("trailing-space", "GET / HTTP/1.1 ", (400,)),
        ("no-version", "GET /", (400, 505)),
        ("lower-http", "GET / http/1.1", (400,)),
        ("bad-method", "G(T / HTTP/1.1", (400,)),
        ("nul-escape", "GET /a%00b HTTP/1.1", (400,)),
        ("non-ascii", b"GET /\xc3\xa9 HTTP/1.1", (400,)),
        ("non-ascii-query", b"GET /?q=\xc3\xa9 HTTP/1.1", (400,)),
        ("bad-escape", "GET /%zz HTTP/1.1", (400,)),
        ("half-escape", "GET /%4 HTTP/1.1", (400,)),
        ("dot-dot-above-root", "GET /../etc HTTP/1.1", (400,)),
        ("dot-dot", "GET /a/../b HTTP/1.1", (400,)),
        ("dot", "GET /a/./b HTTP/1.1", (400,)),
        ("dot-dot-last", "GET /a/.. HTTP/1.1", (400,)),
        ("dot-dot-parameter", "GET /a/..;x=y/b HTTP/1.1", (400,)),
        ("escaped-dot-dot", "GET /a/%2e%2e/b HTTP/1.1", (400,)),
        ("half-escaped-dot-dot", "GET /a/.%2E/b HTTP/1.1", (400,)),
        ("dot-dot-escaped-slash", "GET /a%2f..%2fb HTTP/1.1", (400,)),
        ("dot-dot-escaped-backslash", "GET /a%5c..%5cb HTTP/1.1", (400,)),
        ("backslash", "GET /a\\b HTTP/1.1", (400,)),
    ]:
        yield f"target-{name}", head(first=first), statuses
    for version in ["2.0", "0.9", "3.0", "1.2x", "1", "11.1", "1.11"]:
        yield f"version-{version}", head(first=f"GET / HTTP/{version}"), (505, 400)
    yield "version-h2-preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (505, 400, 405)


def sizes():
    """Over the limits by one."""
    yield "target-8193", get(target="/" + "a" * 8192), (414,)
    yield "target-64KiB", get(target="/" + "a" * 66000), (414,)
    yield "fields-101", get(*[f"X-{i}: a" for i in range(100)]), (431,)
    base = len(get("X-A: "))
    yield "head-64KiB+1", get("X-A: " + "a" * (65536 - base + 1)), (431,)
    yield "head-128KiB", get("X-A: " + "a" * 131072), (431,)
    yield "head-many-lines-over-64KiB", get(*[f"X-{i}: " + "a" * 1000 for i in range(80)]), (431,)
    yield "head-one-name-over-64KiB", get("X" * 70000 + ": a"), (431,)


def the_rest():
    """Expectations, and what is no HTTP at all."""
    yield "expect-other", head("Expect: 200-ok", "Content-Length: 1"), (417,)
    yield "expect-list", head("Expect: 100-continue, x", "Content-Length: 1"), (417,)
    tls = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 40 + b"\r\n\r\n"
    yield "tls", tls, (400,)
    yield "smtp", b"EHLO kipgate.test\r\n\r\n", (400,)


TABLE = [
    case
    for rows in (
        cl_and_te,
        transfer_encodings,
        content_lengths,
        field_syntax,
        controls,
        chunk_lines,
        trailers,
        hosts,
        targets,
        sizes,
        the_rest,
    )
    for case in rows()
]


@pytest.fixture(scope="module")
def cold(echo):
    """A Kipgate whose one service is never asked for by a valid request."""
    with Kipgate({"echo": echo()}, binary=settings.sanitized_bin(), config={"fronts": 1}) as gate:
        yield gate


@pytest.fixture(scope="module")
def pieces(echo):
    """Another one: a body that goes wrong long after its head may have woken its service."""
    with Kipgate({"echo": echo()}, binary=settings.sanitized_bin(), config={"fronts": 1}) as gate:
        yield gate


# More than fits into one read: its head has woken the service before its end can be judged.
LATE = ("trailers-over-64KiB",)


@pytest.mark.parametrize(
    "data,statuses", [pytest.param(d, s, id=i) for i, d, s in TABLE if i not in LATE]
)
def test_refused_and_closed(cold, pieces, data, statuses):
    """One final answer, `Connection: close`, and the valid request behind it gets none. A breach
    that lies more than one read behind a valid first chunk may come when an instance is being
    started already: those rows have one that is ready."""
    gate = pieces if len(data) > 16000 and b"chunked" in data[:500] else cold
    with gate.raw(5) as client:
        client.send_anyway(data + CHASER)
        response = client.response()
        assert response.status in statuses, (response.status, response.body)
        assert response.closes, response.fields
        problem(response, response.status, REASONS[response.status])
        assert client.ended(5), "something came after the refusal"


@pytest.mark.parametrize(
    "data,statuses",
    [pytest.param(d, s, id=i) for at, (i, d, s) in enumerate(TABLE) if at % 4 == 0 or i in LATE],
)
def test_refused_byte_by_byte(pieces, data, statuses):
    """The same rows when every byte comes in a segment of its own (the front must not depend on
    where a read ends); long rows in larger pieces. A breach behind a valid first chunk may come
    when an instance is being started already, so this has one that is ready."""
    with pieces.raw(10) as client:
        size = 1 if len(data) < 300 else 997
        try:
            client.send_pieces(data, size)
        except (BrokenPipeError, ConnectionResetError):
            pass  # refused before it was whole
        client.send_anyway(CHASER)
        response = client.response()
        assert response.status in statuses, (response.status, response.body)
        assert response.closes and client.ended(5)


def test_refusal_of_a_pipelined_request_keeps_the_connection_closed(cold):
    """After the refusal neither the bytes at hand nor later ones are taken for a request."""
    with cold.raw(5) as client:
        client.send(head("Content-Length: 5, 5") + b"hello")
        assert client.response().status == 400
        client.send_anyway(CHASER)
        assert client.ended(5)


def test_answer_reaches_a_client_that_is_still_sending(cold):
    """The refusal is not lost to a reset: Kipgate reads on for a while before it closes."""
    with cold.raw(5) as client:
        client.send_anyway(head("Content-Length: 5", "Content-Length: 6") + b"x" * 60000)
        assert client.response().status == 400
        assert client.ended(5)
        assert not client.was_reset


def test_head_has_no_body(cold):
    """A refusal of HEAD has the fields of a problem but no body."""
    with cold.raw(5) as client:
        client.send(head("X A: a", first="HEAD / HTTP/1.1"))
        response = client.response("HEAD")
        assert response.status == 400 and client.ended(5)


def test_zz_a_malformed_request_never_costs_a_container(cold):
    """Last on purpose: after all rows the engine has seen nothing of this owner."""
    assert cold.witness.containers() == []
    assert cold.witness.actions("create") == []
    refused = cold.admin.metric("kipgate_refused_total", reason="bad-request")
    assert refused >= 100, "the rows above were counted"


# --- what is taken, in which form it is forwarded -------------------------------------------------


@pytest.fixture(scope="module")
def warm(echo):
    """A Kipgate with a ready echo worker, and one service behind a path."""
    services = {
        "echo": echo(routes=["/"], idle_timeout="10m"),
        "inner": echo(routes=["/inner"], idle_timeout="10m"),
    }
    with Kipgate(services, binary=settings.sanitized_bin(), config={"fronts": 1}) as gate:
        for name in services:
            assert gate.admin.wake(name).status == 200
        yield gate


def dumped(gate, data, method="GET"):
    """Sends bytes, gives what the worker received as (response, its head lines, its body)."""
    response = raw.request(gate.front, data, method)
    assert response.status == 200, (response.status, response.body)
    top, _, body = response.body.partition(b"\r\n\r\n")
    return response, top.decode("latin-1").split("\r\n"), body


def values(lines, name):
    """All values of a field in a dumped head."""
    found = [line.partition(":") for line in lines[1:]]
    return [value.strip() for key, _, value in found if key.lower() == name.lower()]


def test_target_of_8192_bytes_is_taken(warm):
    """n of the target limit; n+1 is a row above."""
    target = "/" + "a" * 8191
    _, lines, _ = dumped(warm, get(target=target))
    assert lines[0] == f"GET {target} HTTP/1.1"


def test_a_hundred_fields_are_taken(warm):
    """n of the field limit (Host counts)."""
    _, lines, _ = dumped(warm, get(*[f"X-{i}: a" for i in range(99)]))
    assert values(lines, "X-98") == ["a"]


def test_head_of_64_kib_is_taken(warm):
    """n of the head limit."""
    value = "a" * (65536 - len(get("X-A: ")))
    data = get("X-A: " + value)
    assert len(data) == 65536
    _, lines, _ = dumped(warm, data)
    assert values(lines, "X-A") == [value]


def test_chunk_extensions_are_taken_and_not_forwarded(warm):
    """Parsed within 4 KiB, with quoted strings too, and the body is chunked anew."""
    body = (
        b'5;name=value;q="a;b \\" c";bare\r\nhello\r\n'
        + b"6;"
        + b"x" * 3900
        + b"\r\n world\r\n000;last=1\r\n\r\n"
    )
    _, lines, got = dumped(warm, chunked(body))
    assert values(lines, "Transfer-Encoding") == ["chunked"]
    assert b";" not in got and b"x" * 10 not in got
    assert b"".join(re.findall(rb"[0-9a-f]+\r\n(.*?)\r\n", got, re.S)) == b"hello world"


def test_chunk_size_of_sixteen_digits_is_taken(warm):
    """n of the digits limit; leading zeros are digits."""
    _, _, got = dumped(warm, chunked(b"0" * 15 + b"5\r\nhello\r\n0\r\n\r\n"))
    assert b"hello" in got


def test_trailers_are_passed_on(warm):
    """gRPC lives on them."""
    _, _, got = dumped(
        warm, chunked(b"1\r\na\r\n0\r\nX-Sum: 1\r\nX-Sum: 2\r\n\r\n", "TE: trailers")
    )
    tail = got.rpartition(b"0\r\n")[2]
    assert b"X-Sum: 1\r\nX-Sum: 2\r\n\r\n" == tail


def test_absolute_form_becomes_origin_form(warm):
    """Routed by its authority; the worker sees a path and the same Host."""
    _, lines, _ = dumped(warm, get(target="http://kipgate.test/x?y=z"))
    assert lines[0] == "GET /x?y=z HTTP/1.1"
    assert values(lines, "Host") == ["kipgate.test"]


def test_absolute_form_without_a_path(warm):
    """An empty path is `/`."""
    _, lines, _ = dumped(warm, get(target="http://kipgate.test"))
    assert lines[0] == "GET / HTTP/1.1"


def test_options_star_is_forwarded_or_answered(warm):
    """The one method that may say `*`."""
    response = raw.request(warm.front, head(first="OPTIONS * HTTP/1.1"))
    assert response.status in (200, 204)


@pytest.mark.parametrize(
    "path,service",
    [
        ("/inner/x", "inner"),
        ("/inner", "inner"),
        ("/inner/", "inner"),
        ("/inner//x", "inner"),
        ("/inner/x;a=b/y", "inner"),
        ("/inner/%41%2F%5c?..", "inner"),
        ("/inner/a..b/.c/d.", "inner"),
        ("/innermost", "echo"),
        ("/INNER/x", "echo"),
        ("/%69nner/x", "echo"),
        ("/inner%2fx", "echo"),
        ("//inner/x", "echo"),
        ("/inner;a/x", "echo"),
        ("/x//inner", "echo"),
        ("/a%20b", "echo"),
        ("/:@!$&'()*+,=~-_", "echo"),
    ],
)
def test_the_bytes_that_were_matched_are_forwarded(warm, path, service):
    """Routes match bytes, and the same bytes reach the worker: nothing is decoded or folded."""
    response, lines, _ = dumped(warm, get(target=path))
    assert lines[0] == f"GET {path} HTTP/1.1"
    assert service_of(warm, response) == service


def service_of(gate, response):
    """Which service answered, by the worker's own word for itself."""
    for service in ("echo", "inner"):
        if gate.witness.is_from(response, gate.witness.containers(service)[0]["Id"]):
            return service
    raise AssertionError(f"no service has the worker {worker.host(response)!r}")


@pytest.mark.parametrize(
    "field",
    [
        "Transfer_Encoding: chunked",
        "Content_Length: 9",
        "X_Forwarded_For: 6.6.6.6",
        "X_Forwarded_Proto: https",
        "Host_: x",
        "X_Request_Id: forged",
        "X_Real_IP: 6.6.6.6",
    ],
)
def test_names_that_collide_once_underscores_become_dashes(warm, field):
    """Dropped or refused; a CGI-like worker must not take them for ours."""
    response = raw.request(warm.front, get(field))
    if response.status == 400:
        assert response.closes
    elif field != "Host_: x":
        assert field.partition(":")[0].lower().encode() not in response.body.lower()


def test_zz_the_sanitizers_have_nothing_to_say(warm):
    """After all of the above."""
    warm.assert_clean()
