# SPDX-License-Identifier: Apache-2.0
"""RFC 9112, HTTP/1.1, sections 2 to 5: how start lines and fields are read and written. The
difficulty: much of it is said to peers that break the rules, so both ends are driven with raw
bytes."""
import json

import pytest
from conformance import (
    next_is_served,
    post,
    Table,
    answered,
    dump,
    http1_gate,
    PLAIN,
    refused,
    response_head,
)

from harness import raw
from harness.echo import Dump, get
from harness.kipgate import problem

RFC = Table(9112)
RFC9110 = Table(9110)


@pytest.fixture(scope="module")
def gate(echo):
    """One front, so that kept worker connections are met again."""
    services = {
        "echo": echo(routes=["/"], idle_timeout="10m"),
    }
    with http1_gate(services) as kipgate:
        yield kipgate


# --- 2: messages ----------------------------------------------------------------------------------


@RFC.follows(
    "2.2",
    "MUST",
    "A recipient MUST parse an HTTP message as a sequence of octets in an encoding that is a "
    "superset of US-ASCII",
)
def test_messages_are_octets(gate):
    """U+010A, whose low byte is LF, is two octets of a value, not an end of line."""
    value = "\u010a\u560d".encode().decode("latin-1")
    assert dump(gate, get("/", f"X-A: {value}")).one("X-A") == value


@RFC.stricter(
    "2.2",
    "MAY",
    "A recipient MAY recognize a single LF as a line terminator and ignore any preceding CR",
    "CRLF alone ends a line: where two parsers on a path differ on this, requests can be smuggled",
)
@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\nHost: kipgate.test\n\n",
        b"GET / HTTP/1.1\nHost: kipgate.test\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: kipgate.test\n\r\n",
        b"GET / HTTP/1.1\r\nHost: kipgate.test\r\n\n",
    ],
    ids=["all", "request-line", "field", "end"],
)
def test_bare_lf(gate, data):
    """400; from a worker 502."""
    refused(gate, data, 400, "bad-request")
    answer = data.replace(b"GET / HTTP/1.1", b"HTTP/1.1 200 OK").replace(b"Host: kip", b"X-A: kip")
    problem(answered(gate, answer, close=1), 502, "upstream-failed")


@RFC.follows(
    "2.2",
    "MUST",
    "A recipient of a bare CR MUST consider that element to be invalid or replace each bare CR "
    "with SP",
)
@pytest.mark.parametrize(
    "data",
    [
        b"GET /\r HTTP/1.1\r\nHost: kipgate.test\r\n\r\n",
        b"GET / HTTP/1.1\rHost: kipgate.test\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: kipgate.test\rX-A: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: kipgate.test\r\n\r\r\n",
        b"GET / HTTP/1.1\r\nHost: kipgate.test\r\r\n\r\n",
    ],
    ids=["target", "request-line", "field", "end", "doubled"],
)
def test_bare_cr(gate, data):
    """Invalid: 400; from a worker 502."""
    refused(gate, data, 400, "bad-request")
    answer = data.replace(b"GET /", b"HTTP/1.1 200 O").replace(b" HTTP/1.1", b"K", 1)
    problem(answered(gate, answer, close=1), 502, "upstream-failed")


@RFC.follows(
    "2.2",
    "SHOULD",
    "A server that is expecting to receive and parse a request-line SHOULD ignore at least one "
    "empty line (CRLF) received prior to the request-line",
)
def test_one_empty_line_before_a_request(gate):
    """First on a connection, and behind a content."""
    with gate.raw() as client:
        client.send(b"\r\n" + post("Content-Length: 2", body=b"ok") + b"\r\n")
        assert Dump(client.response().body).body == b"ok"
        next_is_served(client)


@RFC.stricter(
    "2.2",
    "SHOULD",
    "A server SHOULD ignore at least one empty line received prior to the request-line",
    "one and no more, and none before a response: 400, or 502",
)
def test_more_empty_lines(gate):
    """Two, and one before a status line."""
    refused(gate, b"\r\n\r\n" + get("/"), 400, "bad-request")
    problem(answered(gate, b"\r\n" + PLAIN, close=1), 502, "upstream-failed")


@RFC.follows(
    "2.2",
    "MUST",
    "A recipient that receives whitespace between the start-line and the first header field MUST "
    "either reject the message as invalid or consume each whitespace-preceded line",
)
@pytest.mark.parametrize("line", [" Host: kipgate.test", "\tX-A: a", " "])
def test_whitespace_behind_the_start_line(gate, line):
    """Rejected."""
    refused(gate, f"GET / HTTP/1.1\r\n{line}\r\n".encode() + get("/")[16:], 400, "bad-request")
    answer = f"HTTP/1.1 200 OK\r\n{line}\r\nContent-Length: 0\r\n\r\n".encode()
    problem(answered(gate, answer), 502, "upstream-failed")


@RFC.follows(
    "2.2",
    "SHOULD",
    "When a server receives a sequence of octets that does not match the HTTP-message grammar, it "
    "SHOULD respond with a 400 (Bad Request) response and close the connection",
)
@pytest.mark.parametrize(
    "data",
    [b"EHLO kipgate.test\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00", b"{}\r\n\r\n", b"GET\r\n\r\n"],
)
def test_what_is_no_http(gate, data):
    """400 and the end."""
    refused(gate, data, 400, "bad-request")


@RFC.follows(
    "2.3",
    "MUST",
    "Intermediaries that process HTTP messages MUST send their own HTTP-version in forwarded "
    "messages",
)
def test_own_version_both_ways(gate):
    """A request of 1.0 goes on as 1.1, a response of 1.0 too."""
    seen = dump(gate, get("/").replace(b"HTTP/1.1", b"HTTP/1.0"))
    assert seen.first == "GET / HTTP/1.1"
    assert answered(gate, PLAIN.replace(b"HTTP/1.1", b"HTTP/1.0")).version == "HTTP/1.1"


# --- 3: request line ------------------------------------------------------------------------------


@RFC.stricter(
    "3",
    "MAY",
    "Recipients MAY instead parse on whitespace-delimited word boundaries and treat any form of "
    "whitespace as the SP separator while ignoring preceding or trailing whitespace",
    "one space between the parts and none around them: lenient parsing is what the RFC warns of "
    "in the same place",
)
@pytest.mark.parametrize(
    "line",
    ["GET  / HTTP/1.1", "GET /  HTTP/1.1", "GET\t/ HTTP/1.1", " GET / HTTP/1.1", "GET / HTTP/1.1 "]
    + ["GET /\x0bHTTP/1.1", "GET / HTTP/1.1\t"],
)
def test_other_whitespace_in_the_request_line(gate, line):
    """400."""
    refused(gate, line.encode() + b"\r\nHost: kipgate.test\r\n\r\n", 400, "bad-request")


@RFC.stricter(
    "3",
    "SHOULD",
    "A server that receives a method longer than any that it implements SHOULD respond with a 501 "
    "(Not Implemented) status code",
    "beyond 32 characters it is taken for no method at all: 400",
)
def test_very_long_method(gate):
    """Up to 32 it is an unknown method."""
    refused(gate, get("/", method="X" * 33), 400, "bad-request")
    refused(gate, get("/", method="X" * 32), 405, "method-not-allowed")


@RFC.follows(
    "3",
    "MUST",
    "A server that receives a request-target longer than any URI it wishes to parse MUST respond "
    "with a 414 (URI Too Long) status code",
)
def test_long_target(gate):
    """One more than 8 KiB, in origin and absolute form."""
    refused(gate, get("/" + "a" * 8192), 414, "uri-too-long")
    refused(gate, get("http://kipgate.test/" + "a" * 8192), 414, "uri-too-long")


@RFC.follows(
    "3",
    "SHOULD",
    "It is RECOMMENDED that all HTTP senders and recipients support, at a minimum, request-line "
    "lengths of 8000 octets",
)
def test_request_line_of_8000_octets(gate):
    """Taken and forwarded."""
    line = "GET /" + "a" * (8000 - len("GET / HTTP/1.1")) + " HTTP/1.1"
    assert dump(gate, line.encode() + b"\r\nHost: kipgate.test\r\n\r\n").first == line


@RFC.follows(
    "3.2",
    "SHOULD",
    "Recipients of an invalid request-line SHOULD respond with either a 400 (Bad Request) error "
    "or a 301 redirect, and SHOULD NOT attempt to autocorrect",
)
@pytest.mark.parametrize(
    "target", ["a", "/a b", "/a#b", "/%zz", "/\x80", "http//x", "mailto:x@y", "?x"]
)
def test_invalid_request_targets(gate, target):
    """400."""
    refused(gate, get(target), 400, "bad-request")


@RFC.follows(
    "3.2",
    "MUST",
    "A server MUST respond with a 400 (Bad Request) status code to any HTTP/1.1 request message "
    "that lacks a Host header field and to any request message that contains more than one Host "
    "header field line or a Host header field with an invalid field value",
)
@pytest.mark.parametrize(
    "lines",
    [
        [],
        ["Host: kipgate.test", "Host: kipgate.test"],
        ["Host: kipgate.test", "hOST: other.test"],
        ["Host: a b"],
        ["Host: a/b"],
        ["Host: a:b"],
        ["Host: [::1"],
        ["Host: a@b"],
        ["Host: a, b"],
    ],
    ids=lambda lines: "+".join(lines) or "none",
)
def test_host_rules(gate, lines):
    """In every form of target."""
    for target in ("/", "http://kipgate.test/"):
        data = "\r\n".join([f"GET {target} HTTP/1.1", *lines, "", ""]).encode()
        refused(gate, data, 400, "bad-request")


@RFC.follows(
    "3.2",
    "plain",
    'Host came with HTTP/1.1: a request of HTTP/1.0 may lack it (the worker gets "localhost", for '
    "it must get one)",
)
def test_http_1_0_without_host(gate):
    """Routed by its path alone."""
    assert dump(gate, b"GET /x HTTP/1.0\r\n\r\n").one("Host") == "localhost"


@RFC.follows(
    "3.2.1",
    "MUST",
    "When making a request directly to an origin server, a client MUST send only the absolute "
    'path and query components as the request-target, "/" if the path is empty',
)
@RFC.follows("3.2.2", "MUST", "A server MUST accept the absolute-form in requests")
def test_absolute_form_becomes_origin_form(gate):
    """Path, query, or neither; any case of letters in scheme and host."""
    for target, path in [
        ("http://kipgate.test/a?b", "/a?b"),
        ("http://kipgate.test", "/"),
        ("http://kipgate.test?b", "/?b"),
        ("HTTP://KIPGATE.test/", "/"),
    ]:
        assert dump(gate, get(target)).first == f"GET {path} HTTP/1.1"


@RFC.follows(
    "3.2.2",
    "MUST",
    "A proxy that forwards an absolute-form request MUST generate a new Host field value based on "
    "the received request-target rather than forward the received Host field value",
)
def test_host_comes_from_the_absolute_target(gate):
    """Its spelling, not that of Host; with and without Host in HTTP/1.0."""
    assert dump(gate, get("http://KIPgate.test:80/")).one("Host") == "KIPgate.test:80"
    old = b"GET http://kipgate.test/ HTTP/1.0\r\n\r\n"
    assert dump(gate, old).one("Host") == "kipgate.test"


@RFC.stricter(
    "3.2.2",
    "MUST",
    "A request with an absolute-form of request-target: the server MUST ignore the received Host "
    "header field (if any) and instead use the host information of the request-target",
    "a Host that names another host or port than the target is refused with 400: who sends both "
    "to two parsers means harm",
)
def test_host_that_contradicts_the_target(gate):
    """Another name, another port."""
    for target in ("http://other.test/", "http://kipgate.test:81/"):
        refused(gate, get(target), 400, "bad-request")


@RFC.follows(
    "3.2.3",
    "plain",
    "The authority-form of request-target is only used for CONNECT requests",
)
def test_authority_form(gate):
    """405 for CONNECT, 400 for others."""
    refused(gate, get("kipgate.test:80", method="CONNECT"), 405, "method-not-allowed")
    refused(gate, get("kipgate.test:80", method="OPTIONS"), 400, "bad-request")


@RFC.follows(
    "3.2.4",
    "MUST",
    "If a proxy receives an OPTIONS request with an absolute-form of request-target in which the "
    "URI has an empty path and no query component, the last proxy on the request chain MUST send "
    'a request-target of "*"',
)
def test_options_for_the_server_as_a_whole(gate):
    """Absolute without a path, and as it is; with a path or query it is a path."""
    for target, seen in [
        ("http://kipgate.test", "*"),
        ("*", "*"),
        ("http://kipgate.test/", "/"),
        ("http://kipgate.test?a", "/?a"),
    ]:
        response = raw.request(gate.front, get(target, method="OPTIONS"), "OPTIONS")
        assert response.status == 200
        assert Dump(response.body).first == f"OPTIONS {seen} HTTP/1.1"


@RFC.follows(
    "3.3",
    "plain",
    "Reconstructing the target URI: the scheme is that of the connection, told to the worker, and "
    "nothing that the request says",
)
def test_scheme_is_told_to_the_worker(gate):
    """X-Forwarded-Proto."""
    assert dump(gate, get("/", "X-Forwarded-Proto: https")).one("X-Forwarded-Proto") == "http"


# --- 4: status line -------------------------------------------------------------------------------


@RFC.follows(
    "4",
    "MUST",
    "A server MUST send the space that separates the status-code from the reason-phrase even when "
    "the reason-phrase is absent",
)
def test_empty_reason_phrase(gate):
    """Also when the worker left out the space."""
    for line in (b"HTTP/1.1 200 ", b"HTTP/1.1 200"):
        response = answered(gate, line + b"\r\nContent-Length: 0\r\n\r\n")
        assert response.raw_head.startswith(b"HTTP/1.1 200 \r\n")


@RFC.follows(
    "4",
    "SHOULD",
    "A client SHOULD ignore the reason-phrase content (an intermediary may overwrite it; Kipgate "
    "passes it)",
)
def test_reason_phrase_is_passed(gate):
    """Any text, bytes beyond ASCII and tabs included."""
    head = "HTTP/1.1 200 Ganz  sch\xf6n\tgut\r\nContent-Length: 0\r\n\r\n".encode("latin-1")
    assert answered(gate, head).reason == "Ganz  sch\xf6n\tgut"


@RFC.stricter(
    "4",
    "MAY",
    "Recipients MAY instead parse the status-line on whitespace-delimited word boundaries",
    "one space between the parts, or 502",
)
@pytest.mark.parametrize("line", ["HTTP/1.1  200 OK", "HTTP/1.1\t200 OK", " HTTP/1.1 200 OK"])
def test_other_whitespace_in_the_status_line(gate, line):
    """502."""
    answer = line.encode() + b"\r\nContent-Length: 2\r\n\r\nok"
    problem(answered(gate, answer, close=1), 502, "upstream-failed")


# --- 5: field lines -------------------------------------------------------------------------------


@RFC9110.follows(
    "5.6.3",
    "SHOULD",
    "For protocol elements where optional whitespace is preferred, a sender SHOULD generate the "
    "optional whitespace as a single SP",
)
@RFC.follows(
    "5",
    "plain",
    'field-line = field-name ":" OWS field-value OWS: any whitespace around a value is one space '
    "when it is forwarded",
)
def test_field_lines_are_written_canonically(gate):
    """However they were spelled."""
    seen = dump(gate, get("/", "X-A:a", "X-B:   b  ", "X-C:\tc", "X-D: d"))
    assert [line for line in seen.lines if line.startswith("X-") and line[3] == ":"] == [
        "X-A: a",
        "X-B: b",
        "X-C: c",
        "X-D: d",
    ]


@RFC.follows(
    "5.1",
    "MUST",
    "A server MUST reject, with a response status code of 400 (Bad Request), any received request "
    "message that contains whitespace between a header field name and colon",
)
@pytest.mark.parametrize(
    "line", ["X-A : a", "X-A\t: a", "Content-Length : 0", "Host : kipgate.test"]
)
def test_whitespace_before_a_colon(gate, line):
    """400."""
    refused(gate, get("/", line), 400, "bad-request")


@RFC.stricter(
    "5.1",
    "MUST",
    "A proxy MUST remove any such whitespace (before the colon) from a response message before "
    "forwarding the message downstream",
    "the response is discarded instead: 502, for a worker that writes so has been tricked or "
    "broken",
)
def test_whitespace_before_a_colon_of_a_response(gate):
    """502."""
    answer = response_head("X-A : a", "Content-Length: 2") + b"ok"
    problem(answered(gate, answer), 502, "upstream-failed")


@RFC.follows(
    "5.2",
    "MUST",
    "A server that receives an obs-fold in a request message MUST either reject the message by "
    "sending a 400 (Bad Request), preferably with a representation explaining that obsolete line "
    "folding is unacceptable, or replace each received obs-fold with SP",
)
@pytest.mark.parametrize("fold", [" b", "\tb", " ", "  Host: x"])
def test_folded_lines(gate, fold):
    """400, and it says why."""
    response = refused(gate, get("/", "X-A: a", fold), 400, "bad-request")
    assert "folded" in json.loads(response.body)["detail"]


@RFC.follows(
    "5.2",
    "MUST",
    "A proxy or gateway that receives an obs-fold in a response message MUST either discard the "
    "message and replace it with a 502 (Bad Gateway) response, preferably with a representation "
    "explaining that unacceptable line folding was received, or replace each obs-fold with SP",
)
def test_folded_lines_of_a_response(gate):
    """502, and it says why."""
    answer = response_head("X-A: a", " b", "Content-Length: 2") + b"ok"
    assert "folded" in problem(answered(gate, answer), 502, "upstream-failed")["detail"]


@RFC.follows("5.2", "MUST", "A sender MUST NOT generate a message that includes line folding")
@RFC.follows(
    "2.2",
    "MUST",
    "A sender MUST NOT generate a bare CR within any protocol elements other than the content",
)
def test_what_kipgate_writes_is_strict(gate):
    """Every line of a head ends with CRLF, none is folded: the raw client and Dump refuse else."""
    seen = dump(gate, get("/", *[f"X-{i}: {'a ' * 300}b" for i in range(90)]))
    assert all(line and line[0] not in " \t" and "\r" not in line for line in seen.lines)
