# SPDX-License-Identifier: Apache-2.0
"""RFC 9113, HTTP/2, sections 8 to 10: messages, fields, pseudo-fields, what becomes of them on the
way to an HTTP/1.1 worker, and the limits. The difficulty: a malformed request may be answered or
reset, but must in no case reach a worker, so the worker's count is asked too."""
import gzip
import hashlib
import random

import pytest
from conformance import CHUNKED, PLAIN, Table, response_head, seen_requests
from conformance_http2 import http2_gate, malformed, never_forwarded, settled

from harness import echo as worker
from harness import http2
from harness.echo import Dump, raw_target
from harness.http2 import COMPRESSION_ERROR, CONTINUATION, DATA, END_HEADERS, END_STREAM
from harness.http2 import ENHANCE_YOUR_CALM, FRAME_BYTES, GOAWAY, HEADERS, Http2
from harness.http2 import INITIAL_WINDOW_SIZE, NO_ERROR, PING, PRIORITY, PROTOCOL_ERROR, frame
from harness.http2 import rst_stream, settings, window_update

RFC = Table(9113)


@pytest.fixture(scope="module")
def gate(echo):
    """One front that speaks both versions on a plain listener."""
    services = {
        "echo": echo(routes=["/"], idle_timeout="10m", concurrency=1000),
        "small": echo(routes=["/small"], max_body="1KiB", idle_timeout="10m"),
    }
    with http2_gate(services) as kipgate:
        yield kipgate


@pytest.fixture
def client(gate):
    """A connection on which the server's preface was read."""
    with settled(gate) as connection:
        yield connection


def dump(client, *more, path="/", **how):
    """Sends a request; gives what the worker received."""
    response = client.get(path, *more, **how)
    assert response.status == 200, response
    return Dump(response.body)


def answered(client, answer, *more, **switches):
    """The client's view of a worker's answer with exactly these bytes."""
    path = raw_target(b"", **switches)
    return client.get(
        path.replace("b64=&", "").replace("b64=", ""), *more, method="POST", body=answer
    )


# --- 8.1: messages --------------------------------------------------------------------------------


@RFC.follows(
    "8.1",
    "plain",
    "An HTTP message consists of one HEADERS frame, DATA frames and perhaps a HEADERS frame of "
    "trailers; the worker gets it as HTTP/1.1",
)
def test_requests_are_translated(client):
    """Method, path, authority, fields, content of known and of unknown length."""
    seen = dump(
        client, "x-a: 1", "x-b: 2", "x-a: 3", path="/p%20q;r?s=/%2F", method="PATCH", body=b"ok"
    )
    assert seen.first == "PATCH /p%20q;r?s=/%2F HTTP/1.1" and seen.one("host") == "kipgate.test"
    assert seen.all("x-a") == ["1", "3"] and seen.one("Transfer-Encoding") == "chunked"
    assert seen.body == b"2\r\nok\r\n0\r\n\r\n"
    seen = dump(client, "content-length: 2", method="POST", body=b"ok")
    assert seen.one("content-length") == "2" and seen.body == b"ok"
    seen = dump(client)
    assert not seen.all("content-length") and not seen.all("transfer-encoding")


@RFC.follows(
    "8.1",
    "MUST",
    "An HTTP-to-HTTP gateway MUST send an appropriate Via header field (RFC 9110, 7.6.3): the "
    "received protocol is 2",
)
def test_via_names_the_version(client):
    """Behind those of others."""
    assert ", ".join(dump(client, "via: 1.0 fred").all("via")) == "1.0 fred, 2 kipgate"


@RFC.follows(
    "8.1",
    "MAY",
    "A server MAY send any number of interim responses before the HEADERS frame containing a "
    "final response",
)
@RFC.follows(
    "8.3.2",
    "MUST",
    '":status" MUST be included in all responses, including interim responses',
)
def test_interim_responses(client):
    """A worker's go through, in order (the client refuses any without :status)."""
    answer = b"".join(response_head(f"Link: </{n}>", status=f"{n} X") for n in (103, 103, 102))
    response = answered(client, answer + PLAIN)
    assert [(s, dict(f)["link"]) for s, f in response.interim] == [
        (103, "</103>"),
        (103, "</103>"),
        (102, "</102>"),
    ]
    assert response.status == 200 and response.body == b"ok"


@RFC.follows(
    "8.1",
    "plain",
    "A 100-continue expectation is answered by an interim response on the stream",
)
def test_expect(client):
    """Once, before the content."""
    stream = client.headers(
        http2.request(worker.sink(), "expect: 100-continue", "content-length: 2", method="POST"),
        end=False,
    )
    client.until(lambda got: got.kind == HEADERS)
    assert [status for status, _ in client.response_on(stream).interim] == [100]
    client.data(stream, b"ok")
    response = client.response(stream)
    assert b'"bytes":2,' in response.body and len(response.interim) == 1


@RFC.follows(
    "8.1",
    "plain",
    "Trailer fields are carried in a field block that also terminates the stream",
)
def test_trailers_both_ways(client):
    """Behind the content, to who takes them; those of the worker end the stream."""
    stream = client.headers(http2.request("/", "te: trailers", method="POST"), end=False)
    client.data(stream, b"ok", end=False)
    client.headers([("x-sum", "1"), ("x-sum", "2")], stream=stream)
    assert client.response(stream).body.endswith(b"2\r\nok\r\n0\r\nx-sum: 1\r\nx-sum: 2\r\n\r\n")
    body = b"2\r\nok\r\n0\r\nGrpc-Status: 0\r\nX-S: 1\r\n\r\n"
    response = answered(client, response_head(CHUNKED) + body, "te: trailers")
    assert response.body == b"ok" and response.ended
    assert response.trailers == [("grpc-status", "0"), ("x-s", "1")]


@RFC.follows(
    "8.1",
    "MUST",
    "Trailers MUST NOT include pseudo-header fields; an endpoint that receives them MUST treat "
    "the request or response as malformed",
)
@pytest.mark.parametrize("field", [(":path", "/x"), (":status", "200"), (":x", "")], ids=str)
def test_pseudo_fields_in_trailers(client, field):
    """Known and unknown ones."""
    stream = client.headers(http2.request(worker.sink(), method="POST"), end=False)
    client.data(stream, b"ok", end=False)
    client.headers([field], stream=stream)
    malformed(client, stream)


@RFC.follows(
    "8.1",
    "MUST",
    "An endpoint that receives a HEADERS frame without the END_STREAM flag set after receiving "
    "the HEADERS frame that opens a request MUST treat the corresponding request as malformed",
)
def test_trailers_that_do_not_end_the_stream(client):
    """A second block in the middle."""
    stream = client.headers(http2.request(worker.sink(), method="POST"), end=False)
    client.data(stream, b"ok", end=False)
    client.headers([("x-a", "1")], stream=stream, end=False)
    malformed(client, stream)


@RFC.follows(
    "8.1",
    "MAY",
    "A server can send a complete response prior to the client sending an entire request; it MAY "
    "then request that the client abort transmission by RST_STREAM with NO_ERROR",
)
def test_early_response(client):
    """Whole, and the stream ends without an error for the client."""
    stream = client.headers(http2.request(worker.early(403), method="POST"), end=False)
    client.data(stream, b"x" * 1000, end=False)
    response = client.response(stream)
    assert response.status == 403 and response.reset in (None, NO_ERROR)
    assert client.get("/").status == 200


@RFC.follows(
    "8.1.1",
    "MUST",
    "A request with content whose content-length does not equal the sum of the DATA frame payload "
    "lengths is malformed; an intermediary MUST NOT forward it as if it were whole",
)
@pytest.mark.parametrize("length,body", [(3, b"ok"), (1, b"ok"), (1, b""), (0, b"ok")], ids=str)
def test_content_length_is_the_length_of_data(client, length, body):
    """More and less than was said, and none. Of a length of 0 all was there with the head: its
    answer may come before what is too much of it, and before the reset."""
    fields = http2.request(worker.sink(), f"content-length: {length}", method="POST")
    stream = client.headers(fields, end=not body)
    if body:
        client.data(stream, body)
    if length == 0 and client.response(stream).status == 200:
        return
    malformed(client, stream)
    assert client.response_on(stream).status != 200


@RFC.follows(
    "8.1.1",
    "MAY",
    "A response that is defined to have no content MAY have a non-zero content-length header "
    "field, even though no content is included in DATA frames",
)
def test_content_length_without_content(client):
    """HEAD and 304."""
    response = client.get(worker.zeros(12345), method="HEAD")
    assert response.one("content-length") == "12345" and response.body == b"" and response.ended
    response = answered(client, response_head("Content-Length: 77", status="304 Not Modified"))
    assert (response.status, response.one("content-length"), response.body) == (304, "77", b"")


@RFC.follows(
    "8.1.1",
    "MUST",
    "Intermediaries that process HTTP requests or responses MUST NOT forward a malformed request "
    "or response",
)
@pytest.mark.parametrize(
    "answer",
    [response_head("X A: a"), response_head("Content-Length: 5, 6"), b"HTTP/1.1 600 X\r\n\r\n"]
    + [response_head("Content-Length: 5", CHUNKED), response_head("X-A: a\x00"), b"no http"],
    ids=["name", "length", "status", "both", "nul", "nothing"],
)
def test_malformed_responses_of_a_worker(client, answer):
    """502 on the stream; the connection goes on."""
    response = answered(client, answer, close=1)
    assert response.status == 502 and response.one("content-type") == "application/problem+json"
    assert client.get("/").status == 200


@RFC.follows(
    "8.1.1",
    "MUST",
    "An intermediary MUST NOT forward a malformed response: an incomplete one is not ended as if "
    "it were complete",
)
@pytest.mark.parametrize(
    "answer",
    [response_head("Content-Length: 9") + b"hello", response_head(CHUNKED) + b"5\r\nhello\r\n"]
    + [response_head(CHUNKED) + b"5\r\nhello\r\nx\r\n"],
    ids=["length", "chunks", "bad-chunk"],
)
def test_incomplete_responses_of_a_worker(client, answer):
    """Reset with an error, or 502 when nothing went out; the connection goes on."""
    response = answered(client, answer, close=1)
    assert response.status == 502 or (not response.ended and response.reset not in (None, NO_ERROR))
    assert client.get("/").status == 200


@RFC.follows(
    "5.4.2",
    "MUST",
    "The peer that sends the RST_STREAM frame MUST be prepared to receive any frames that were "
    "sent or enqueued for sending by the remote peer",
)
def test_frames_behind_a_reset_of_the_server(client):
    """Content, a window and trailers of a request that was malformed: the connection goes on."""
    stream = client.headers(http2.request("/", "connection: x", method="POST"), end=False)
    client.data(stream, b"x" * 100, end=False)
    malformed(client, stream)
    client.send(window_update(stream, 10) + frame(PRIORITY, 0, stream, b"\0\0\0\0\x10"))
    client.data(stream, b"x" * 100, end=False)
    client.headers([("x-a", "1")], stream=stream)
    assert client.get("/").status == 200


@RFC.follows(
    "6.9",
    "MUST",
    "A receiver that receives a flow-controlled frame MUST always account for its contribution "
    "against the connection flow-control window, also on a stream in error",
)
def test_content_of_dead_streams_is_given_back(client):
    """Sixty times 32 KiB to requests that are answered early: the connection's window is whole."""
    for _ in range(60):
        stream = client.headers(
            http2.request("/small", "content-length: 99999", method="POST"), end=False
        )
        while client.windows[0] < 32768:
            client.read()
        for _ in range(2):
            client.data(stream, b"x" * FRAME_BYTES, end=False)
            client.windows[0] -= FRAME_BYTES
        assert client.response(stream).status == 413
    response = client.get(worker.sink(), method="PUT", body=bytes(1 << 20))
    assert b'"bytes":1048576,' in response.body


# --- 8.2: fields ----------------------------------------------------------------------------------


@RFC.follows(
    "8.2",
    "MUST",
    "Field names MUST be converted to lowercase when constructing an HTTP/2 message",
)
def test_names_of_responses_are_lowercase(client):
    """The worker's in any case of letters, trailers too (the client refuses capitals)."""
    body = b"0\r\nX-SUM: 1\r\n\r\n"
    response = answered(
        client, response_head("X-UPPER: A", "x-Mixed: B", CHUNKED) + body, "te: trailers"
    )
    assert response.one("x-upper") == "A" and response.one("x-mixed") == "B"
    assert response.trailers == [("x-sum", "1")]


@RFC.follows(
    "8.2.1",
    "MUST",
    "A field name MUST NOT contain characters in the ranges 0x00-0x20, 0x41-0x5a, or 0x7f-0xff, "
    "nor a colon but the first of a pseudo-header field; such a request MUST be treated as "
    "malformed",
)
@RFC.follows(
    "10.3",
    "MUST",
    "An intermediary that translates an HTTP/2 request MUST validate fields before translating a "
    "message to another HTTP version",
)
@pytest.mark.parametrize(
    "name",
    [
        "X-A",
        "x a",
        "x\ta",
        "x\r\na",
        "x\na",
        "x\0a",
        "x\x7f",
        "x\xe9",
        "x:a",
        "",
        "x(a",
        'x"',
        "x/",
    ],
    ids=repr,
)
def test_bad_field_names(gate, client, name):
    """All that is no lower-case token."""
    never_forwarded(gate, client, http2.request("/") + [(name.encode("latin-1"), b"1")])


@RFC.follows(
    "8.2.1",
    "MUST",
    "A field value MUST NOT contain NUL, LF or CR at any position, and MUST NOT start or end with "
    "SP or HTAB; such a request MUST be treated as malformed",
)
@pytest.mark.parametrize(
    "value",
    ["a\0b", "a\nb", "a\rb", "a\r\nx-evil: 1", " a", "a ", "\ta", "a\t", "a\r\n\r\nGET / HTTP/1.1"],
    ids=repr,
)
def test_bad_field_values(gate, client, value):
    """Also where they would make another line or message of HTTP/1.1."""
    never_forwarded(gate, client, http2.request("/") + [("x-a", value)])


@RFC.follows(
    "8.2.1",
    "MUST",
    "A request that contains a field with a prohibited character MUST be treated as malformed (in "
    "trailers)",
)
def test_bad_fields_in_trailers(client):
    """A line end in a value."""
    stream = client.headers(http2.request(worker.sink(), method="POST"), end=False)
    client.data(stream, b"ok", end=False)
    client.headers([("x-a", "a\r\nx-evil: 1")], stream=stream)
    malformed(client, stream)


@RFC.follows("8.2.1", "plain", "A field value may be empty and may hold obs-text")
def test_values_that_are_fine(client):
    """They reach the worker as they are."""
    value = "caf\xe9 \xff"
    fields = http2.request("/") + [(b"x-a", value.encode("latin-1")), (b"x-b", b"")]
    seen = Dump(client.response(client.headers(fields)).body)
    assert seen.one("x-a") == value and seen.one("x-b") == ""


@RFC.follows(
    "8.2.2",
    "MUST",
    "Any message containing connection-specific header fields MUST be treated as malformed",
)
@pytest.mark.parametrize(
    "line",
    ["connection: close", "connection: x", "proxy-connection: keep-alive", "keep-alive: timeout=5"]
    + ["transfer-encoding: chunked", "upgrade: websocket"],
)
def test_connection_specific_fields(gate, client, line):
    """Each of the five."""
    never_forwarded(gate, client, http2.request("/", line))


@RFC.follows(
    "8.2.2",
    "MUST",
    'TE MAY be present in an HTTP/2 request; it MUST NOT contain any value other than "trailers"',
)
@pytest.mark.parametrize("value", ["gzip", "trailers, gzip", "chunked"])
def test_te(gate, client, value):
    """Malformed; `trailers` is passed on."""
    never_forwarded(gate, client, http2.request("/", f"te: {value}"))
    assert dump(client, "te: trailers").one("te") == "trailers"


@RFC.follows(
    "8.2.2",
    "MUST",
    "An intermediary transforming an HTTP/1.x message to HTTP/2 MUST remove connection-specific "
    "header fields",
)
def test_connection_specific_fields_of_a_worker(client):
    """And those that its Connection names (the client refuses them)."""
    lines = ["Connection: X-Mine, keep-alive", "X-Mine: 1", "Keep-Alive: timeout=5", "Upgrade: h2c"]
    response = answered(
        client, response_head(*lines, "Proxy-Connection: x", CHUNKED) + b"0\r\n\r\n"
    )
    names = {name for name, _ in response.fields}
    assert not names & {"connection", "x-mine", "keep-alive", "upgrade", "proxy-connection"}
    assert "transfer-encoding" not in names


@RFC.follows(
    "8.2.3",
    "MUST",
    "If there are multiple Cookie header fields after decompression, these MUST be concatenated "
    'using "; " before being passed into a non-HTTP/2 context',
)
def test_cookie_crumbs(client):
    """In their order; one alone stays as it is."""
    seen = dump(client, "cookie: a=b", "x-a: 1", "cookie: c=d; e=f", "cookie: g=h")
    assert seen.all("cookie") == ["a=b; c=d; e=f; g=h"]
    assert dump(client, "cookie: a=b").all("cookie") == ["a=b"]


# --- 8.3: control data ----------------------------------------------------------------------------


def pseudo(**changes):
    """The pseudo-fields of a request, with changes; None leaves one out."""
    whole = {"method": "GET", "scheme": "http", "path": "/", "authority": "kipgate.test", **changes}
    return [(f":{name}", value) for name, value in whole.items() if value is not None]


@RFC.follows(
    "8.3",
    "MUST",
    "Endpoints MUST treat a request that contains undefined or invalid pseudo-header fields, one "
    "that appears after a regular field line, or a repeated one, as malformed",
)
@pytest.mark.parametrize(
    "fields",
    [
        pseudo() + [(":status", "200")],
        pseudo() + [(":x", "1")],
        pseudo() + [(":path", "/other")],
        pseudo() + [(":authority", "kipgate.test")],
        pseudo(authority=None) + [("x-a", "1"), (":authority", "kipgate.test")],
        [("x-a", "1")] + pseudo(),
        pseudo() + [(":protocol", "websocket")],
    ],
    ids=["status", "unknown", "path-twice", "authority-twice", "behind", "first", "protocol"],
)
def test_bad_pseudo_fields(gate, client, fields):
    """Each kind."""
    never_forwarded(gate, client, fields)


@RFC.follows(
    "8.3.1",
    "MUST",
    'All HTTP/2 requests MUST include exactly one valid value for the ":method", ":scheme", and '
    '":path" pseudo-header fields, unless they are CONNECT requests',
)
@pytest.mark.parametrize(
    "changes",
    [
        {"method": None},
        {"scheme": None},
        {"path": None},
        {"path": ""},
        {"path": "a"},
        {"path": "/a b"},
    ]
    + [
        {"method": ""},
        {"method": "G T"},
        {"method": "GET\r\n"},
        {"path": "/\r\nx: y"},
        {"scheme": ""},
    ]
    + [{"path": "*"}, {"path": "http://kipgate.test/"}, {"path": "/ HTTP/1.1\r\nx: y"}],
    ids=str,
)
def test_missing_or_invalid_pseudo_fields(gate, client, changes):
    """Absent, empty, or what would break out of a request line."""
    never_forwarded(gate, client, pseudo(**changes))


@RFC.follows(
    "8.3.1",
    "MUST",
    'An OPTIONS request for a URI that does not include a path component MUST include a ":path" '
    'of "*"',
)
def test_options_star(client):
    """Forwarded as such."""
    assert dump(client, path="*", method="OPTIONS").first == "OPTIONS * HTTP/1.1"


@RFC.follows(
    "8.3.1",
    "MUST",
    "An intermediary that needs to generate a Host header field MUST use the value from the "
    '":authority" pseudo-header field; the Host header field MUST NOT be used to determine the '
    'target URI if ":authority" is present',
)
def test_authority_becomes_host(client):
    """Once, as it was spelled, with its port."""
    seen = dump(client, authority="KipGate.test:8080")
    assert seen.one("host") == "KipGate.test:8080"
    assert dump(client, "host: kipgate.test").all("host") == ["kipgate.test"]


@RFC.follows(
    "8.3.1",
    "plain",
    'A request without ":authority" may name its host in Host; one with neither has no target here',
)
def test_host_without_authority(gate, client):
    """Host serves; without it 400."""
    fields = pseudo(authority=None)
    seen = Dump(client.response(client.headers(fields + [("host", "kipgate.test")])).body)
    assert seen.one("host") == "kipgate.test"
    never_forwarded(gate, client, fields)


@RFC.follows(
    "8.3.1",
    "SHOULD",
    "A server SHOULD treat a request as malformed if it contains a Host header field that "
    'identifies an entity that differs from the entity in the ":authority" pseudo-header field',
)
def test_host_that_contradicts_authority(gate, client):
    """Another name, and two of them."""
    never_forwarded(gate, client, http2.request("/", "host: other.test"))
    never_forwarded(gate, client, http2.request("/", "host: kipgate.test", "host: kipgate.test"))


@RFC.gap(
    "8.3.1",
    "MUST",
    "Where the two are compared, servers other than the origin MUST perform scheme-based "
    "normalization of the two fields (a default port is no difference)",
    'a Host with the default port spelled out beside an ":authority" without it is refused',
)
def test_default_port_in_host(client):
    """kipgate.test and kipgate.test:80."""
    assert client.get("/", "host: kipgate.test:80").status == 200


@RFC.follows(
    "8.3.1",
    "MUST",
    '":authority" MUST NOT include the deprecated userinfo subcomponent for "http" or "https" '
    "schemed URIs",
)
@pytest.mark.parametrize(
    "authority", ["u@kipgate.test", "a b", "a/b", "", "kipgate.test:x", "a\r\nb"]
)
def test_bad_authorities(gate, client, authority):
    """And others that are no host."""
    never_forwarded(gate, client, pseudo(authority=authority))


@RFC.gap(
    "8.3.1",
    "MUST",
    'A request for an "https" resource MUST be rejected unless it has been received over a '
    "connection that has been secured (RFC 9110, 7.4)",
    '":scheme: https" is served on a listener without TLS',
)
def test_https_scheme_on_a_plain_connection(client):
    """400 or 421, or the stream is reset."""
    response = client.response(client.headers(pseudo(scheme="https")))
    assert response.status in (400, 421) or response.reset == PROTOCOL_ERROR


@RFC.stricter(
    "8.3.1",
    "plain",
    '":scheme" is not restricted to URIs with scheme "http" and "https"',
    "workers serve http and https alone: malformed",
)
def test_other_schemes(gate, client):
    """ftp."""
    never_forwarded(gate, client, pseudo(scheme="ftp"))


@RFC.stricter(
    "8.5",
    "plain",
    "The CONNECT method converts a stream of an HTTP/2 connection into a tunnel to a remote host",
    "refused, as in HTTP/1.1; only a WebSocket (RFC 8441) makes a tunnel of a stream",
)
def test_connect(gate, client):
    """405, or the stream is reset."""
    before = seen_requests(gate)
    for fields in (pseudo(method="CONNECT", scheme=None, path=None), pseudo(method="CONNECT")):
        response = client.response(client.headers(fields, end=False))
        assert response.status in (400, 405, 501) or response.reset is not None
    assert seen_requests(gate) - before == 1, "only the one that asks"


@RFC.follows(
    "8.6",
    "plain",
    "HTTP/2 removes support for the 101 (Switching Protocols) informational status code",
)
def test_101_of_a_worker(client):
    """502: nobody asked for it."""
    answer = response_head(
        "Connection: upgrade", "Upgrade: websocket", status="101 Switching Protocols"
    )
    assert answered(client, answer, close=1).status == 502


@RFC.follows(
    "8.7",
    "MUST",
    "A server MUST NOT indicate that a stream has not been processed (REFUSED_STREAM) unless it "
    "can guarantee that fact",
)
def test_failures_of_a_worker_are_not_refusals(client):
    """A request that reached a worker which then closed: 502, and a POST was sent once."""
    response = answered(client, b"", close=1)
    assert response.status == 502 and response.reset in (None, NO_ERROR)


# --- content --------------------------------------------------------------------------------------


@RFC.follows(
    "8.1",
    "plain",
    "DATA frames carry content; as in HTTP/1.1 the front changes none of it, nor its codings, "
    "tags and ranges",
)
@pytest.mark.parametrize("framing", ["length", "chunks", "close"])
def test_content_goes_through_byte_by_byte(client, framing):
    """Down, by each framing of the worker's."""
    noise = random.Random(1).randbytes(300001)
    part = b"--b\r\nContent-Range: bytes 0-3/99\r\n\r\nabcd\r\n--b--\r\n"
    for status, lines, body in [
        ("200 OK", ["content-encoding: gzip", 'etag: "a-gzip"', "vary: x"], gzip.compress(noise)),
        ("200 OK", ["content-encoding: br", "cache-control: no-transform"], noise),
        ("206 Partial Content", ["content-type: multipart/byteranges; boundary=b"], part),
    ]:
        if framing == "length":
            lines = [*lines, f"content-length: {len(body)}"]
            answer = response_head(*lines, status=status) + body
        elif framing == "chunks":
            answer = response_head(*lines, CHUNKED, status=status)
            answer += b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
        else:
            answer = response_head(*lines, status=status) + body
        response = answered(
            client, answer, "accept-encoding: identity", close=int(framing == "close")
        )
        assert f"{response.status}" == status[:3] and response.ended
        got = [f"{n}: {v}" for n, v in response.fields if n not in ("date", "x-request-id")]
        assert got == lines
        assert hashlib.sha256(response.body).digest() == hashlib.sha256(body).digest()


@RFC.follows(
    "8.1",
    "plain",
    "Content of a request is forwarded as it comes, by length where one was said, else in chunks",
)
@pytest.mark.parametrize("length", [True, False])
def test_uploads_go_through_byte_by_byte(client, length):
    """More than the windows hold; the worker's checksum judges."""
    body = random.Random(2).randbytes(2_000_003)
    lines = ["content-encoding: gzip"] + [f"content-length: {len(body)}"] * length
    response = client.get(worker.sink(), *lines, method="PUT", body=body)
    assert hashlib.sha256(body).hexdigest().encode() in response.body


@RFC.follows(
    "8.1",
    "plain",
    "413 for content that is larger than what a service takes (RFC 9110, 15.5.14)",
)
def test_content_that_is_too_large(client):
    """By its length at once; by DATA when the limit is passed."""
    fields = http2.request("/small", "content-length: 1025", method="POST")
    assert client.response(client.headers(fields, end=False)).status == 413
    stream = client.headers(http2.request("/small", method="POST"), end=False)
    client.data(stream, b"x" * 1025, end=False)
    response = client.response(stream)
    assert response.status == 413 or response.reset is not None
    assert client.get("/").status == 200


@RFC.follows(
    "8.1",
    "plain",
    "A worker that speaks HTTP/1.0, or ends its content by closing, is translated like others",
)
def test_old_workers(client):
    """No length is made up; the stream ends."""
    response = answered(client, b"HTTP/1.0 200 OK\r\nX-A: a\r\n\r\nhello", close=1)
    assert response.body == b"hello" and response.ended and not response.all("content-length")


# --- 9: connections -------------------------------------------------------------------------------


@RFC.follows("9.1", "plain", "HTTP/2 connections are persistent")
def test_many_requests_on_one_connection(client):
    """Two hundred, a hundred at a time."""
    for _ in range(2):
        streams = [client.ask(f"/{i}") for i in range(100)]
        for i, stream in enumerate(streams):
            assert client.response(stream).body.startswith(f"GET /{i} ".encode())


@RFC.follows(
    "9.1.1",
    "MAY",
    "Connections MAY be reused for requests with multiple different URI authority components "
    "(without TLS: every host that has a route)",
)
def test_several_authorities_on_one_connection(client):
    """Each goes by its own."""
    for host in ("a.test", "b.test:81"):
        assert dump(client, authority=host).one("host") == host


# --- 10: security ---------------------------------------------------------------------------------


@RFC.follows(
    "10.3",
    "MUST",
    "An intermediary that receives any fields that require removal before forwarding MUST remove "
    "or replace those header fields",
)
def test_fields_that_end_here(client):
    """Proxy-*, HTTP2-Settings, claims about the client, look-alikes of them."""
    lines = ["proxy-authorization: x", "http2-settings: AAAA", "x-forwarded-for: 6.6.6.6"]
    lines += ["forwarded: for=6.6.6.6", "transfer_encoding: chunked", "content_length: 5"]
    seen = dump(client, *lines)
    assert not any("6.6.6.6" in line for line in seen.lines)
    gone = {"proxy-authorization", "http2-settings", "transfer_encoding", "content_length"}
    assert not gone & set(seen.names()) and seen.one("x-forwarded-for") == "127.0.0.1"


def calm(client, limit=10):
    """The connection is ended by ENHANCE_YOUR_CALM."""
    assert client.goaway(limit) == ENHANCE_YOUR_CALM


@RFC.follows(
    "10.5",
    "SHOULD",
    "Implementations SHOULD track the use of features that can be abused and set limits on their "
    "use; suspicious activity MAY be treated as a connection error of type ENHANCE_YOUR_CALM",
)
@pytest.mark.parametrize(
    "flood",
    [frame(PING, 0, 0, b"12345678"), settings((INITIAL_WINDOW_SIZE, 99)), window_update(0, 1)]
    + [frame(PRIORITY, 0, 9, b"\0\0\0\0\x10")],
    ids=["ping", "settings", "window-update", "priority"],
)
def test_floods(client, flood):
    """More than a thousand frames that do nothing, in ten seconds."""
    client.send_anyway(flood * 4000)
    calm(client)


@RFC.follows(
    "10.5",
    "SHOULD",
    "Implementations SHOULD set limits: on empty DATA frames without END_STREAM",
)
def test_flood_of_empty_data(client):
    """On one stream."""
    stream = client.headers(http2.request(worker.sink(), method="POST"), end=False)
    client.send_anyway(frame(DATA, 0, stream) * 4000)
    calm(client)


@RFC.follows(
    "10.5",
    "SHOULD",
    "Implementations SHOULD set limits: on streams that the client resets at once",
)
def test_rapid_reset(gate, client):
    """CVE-2023-44487: the connection ends, and no more exchanges are left than the limit."""
    for _ in range(400):
        client.send_anyway(rst_stream(client.ask(worker.slow(1000))))
    calm(client)
    assert gate.admin.metric("kipgate_exchanges", service="echo") <= 101
    with Http2(gate.front) as other:
        assert other.get("/").status == 200


@RFC.follows("10.5", "SHOULD", "Implementations SHOULD set limits: on CONTINUATION frames")
@pytest.mark.parametrize("piece", [b"", b"\x00\x01a\x01b"], ids=["empty", "fields"])
def test_flood_of_continuation(client, piece):
    """CVE-2024-27316: a field block without an end."""
    stream = client.next_stream()
    client.send(frame(HEADERS, END_STREAM, stream, client.block(http2.request("/"))))
    client.send_anyway(frame(CONTINUATION, 0, stream, piece) * 1000)
    calm(client)


@RFC.stricter(
    "6.10",
    "plain",
    "Any number of CONTINUATION frames can be sent, as long as the preceding frame is on the same "
    "stream and is a HEADERS or CONTINUATION frame without the END_HEADERS flag set",
    "a field block has at most 32 frames and 64 KiB, and not more CONTINUATIONs than the library "
    "takes: an endless one costs memory and time before there is a request",
)
def test_continuations_are_limited(client):
    """A few pass; 33 end the connection."""
    stream = client.next_stream()
    client.send(frame(HEADERS, END_STREAM, stream, client.block(http2.request("/"))))
    client.send(frame(CONTINUATION, 0, stream, b"") * 4 + frame(CONTINUATION, END_HEADERS, stream))
    assert client.response(stream).status == 200
    stream = client.next_stream()
    client.send(frame(HEADERS, END_STREAM, stream, client.block(http2.request("/"))))
    client.send_anyway(frame(CONTINUATION, 0, stream, b"") * 31)
    client.send_anyway(frame(CONTINUATION, END_HEADERS, stream))
    calm(client)


@RFC.follows(
    "10.5.1",
    "MUST",
    "A server that receives a larger field block than it is willing to handle can send a 431 "
    "status code; the field block MUST be processed to ensure a consistent connection state",
)
def test_large_field_blocks(client):
    """Decoded size counts, and the number of fields: 431 or a reset, and the connection goes on."""
    value = "a" * 4000
    for more in ([f"x-a: {value}"] * 17, [f"x-{i}: a" for i in range(120)]):
        fields = http2.request("/", *more)
        stream, block = client.next_stream(), client.block(fields)
        assert len(block) < 65536
        client.send(frame(HEADERS, END_STREAM, stream, block[:FRAME_BYTES]))
        for at in range(FRAME_BYTES, len(block), FRAME_BYTES):
            client.send(frame(CONTINUATION, 0, stream, block[at : at + FRAME_BYTES]))
        client.send(frame(CONTINUATION, END_HEADERS, stream))
        response = client.response(stream)
        assert response.status == 431 or response.reset is not None
        assert client.get("/").status == 200


@RFC.follows("10.5.1", "plain", "The limit is that of the uncompressed size of a field section")
def test_hpack_bomb(client):
    """A few bytes on the wire that decode to megabytes: nothing of it is served."""
    client.encoder.encode([("x-bomb", "a" * 3900)])
    stream = client.next_stream()
    block = (
        client.block(http2.request("/"))
        + b"\x40\x01b\x7f\xb9\x1d"
        + b"a" * (127 + 0x39 + 0x1D * 128)
    )
    bomb = block + b"\xbe" * 12000
    client.send_anyway(frame(HEADERS, END_HEADERS | END_STREAM, stream, bomb))
    try:
        response = client.response(stream)
        assert response.status == 431 or response.reset is not None
    except http2.ConnectionError_:
        code = [got.code for got in client.frames if got.kind == GOAWAY][-1]
        assert code in (ENHANCE_YOUR_CALM, COMPRESSION_ERROR, PROTOCOL_ERROR)


RFC.not_applicable(
    "8.4.1",
    "MUST",
    'The server MUST include a method in the ":method" of a push that is safe and cacheable',
    "Kipgate never pushes",
)
RFC.not_applicable(
    "10.6",
    "MUST",
    "Implementations communicating on a secure channel MUST NOT compress content that includes "
    "both confidential and attacker-controlled data",
    "Kipgate compresses no content; HPACK indexing of fields is within RFC 7541's advice",
)
