# SPDX-License-Identifier: Apache-2.0
"""RFC 9113, HTTP/2, towards workers that speak it: Kipgate is the client here. The difficulty: the
worker must be able to break every rule, so it is the test itself, behind a relay in a container."""
import struct
import time

import pytest
from conformance import Table, post, refused

from harness import raw
from harness.echo import get
from harness.http2 import ACK, CONTINUATION, DATA, ENABLE_PUSH, END_HEADERS, FLOW_CONTROL_ERROR
from harness.http2 import FRAME_BYTES, GOAWAY, HEADERS, INITIAL_WINDOW_SIZE, INTERNAL_ERROR
from harness.http2 import MAX_CONCURRENT_STREAMS, NO_ERROR, PING, PREFACE, PROTOCOL_ERROR
from harness.http2 import PUSH_PROMISE, REFUSED_STREAM, RST_STREAM, SETTINGS, WINDOW, frame
from harness.http2 import rst_stream, window_update
from harness.http2_worker import Http2Worker, gives_back
from harness.kipgate import Kipgate, problem
from harness.settings import sanitized_bin
from harness.waiting import Background, together, wait_until

RFC = Table(9113)
BASE_IMAGE = "debian:bookworm-slim"


@pytest.fixture(scope="module")
def peer():
    """The worker."""
    made = Http2Worker(BASE_IMAGE)
    yield made
    made.close()


@pytest.fixture(scope="module")
def gate(peer):
    """One front in front of it."""
    services = {"echo": {**peer.service, "routes": ["/"], "concurrency": 1000}}
    config = {"fronts": 1}
    with Kipgate(services, config, sanitized_bin()) as kipgate:
        assert kipgate.admin.wake("echo").status == 200
        yield kipgate


@pytest.fixture(autouse=True)
def fresh(peer):
    """Each test begins with a connection of its own: those before are closed."""
    peer.settings = ()
    for connection in peer.connections:
        connection.close()
    wait_until(lambda: all(c.ended.is_set() for c in peer.connections), 5, "no old connection")
    peer.connections.clear()
    time.sleep(0.02)  # Kipgate sees their end, too


def ask(gate, path="/", *lines, method="GET", body=b""):
    """A request over HTTP/1.1 on a connection of its own."""
    if body:
        lines = [*lines, f"Content-Length: {len(body)}"]
    return raw.request(gate.front, get(path, *lines, method=method) + body, method)


def asked(peer, gate, path, *lines, **how):
    """Sends a request; gives it as the worker saw it."""
    mark = peer.requests.mark()
    assert ask(gate, path, *lines, **how).status == 200
    return peer.requests.wait(lambda request: request.path == path.split("#")[0], 5, path, mark)


def answered(peer, gate, path, answer, *lines, method="GET"):
    """The client's view of what answer(connection, request) sends."""
    peer.on_end[path] = answer
    return ask(gate, path, *lines, method=method)


def ok(gate):
    """The next request is served."""
    assert ask(gate, "/fine").status == 200


# --- connection -----------------------------------------------------------------------------------


@RFC.follows(
    "3.4",
    "MUST",
    "The client connection preface starts with a sequence of 24 octets; this sequence MUST be "
    "followed by a SETTINGS frame",
)
@RFC.follows("6.5.2", "plain", "SETTINGS_ENABLE_PUSH of 0: Kipgate takes no pushes")
def test_preface_of_a_client(peer, gate):
    """And the worker's SETTINGS are acknowledged."""
    ok(gate)
    connection = peer.connections[-1]
    frames = connection.frames.all()
    assert connection.preface == PREFACE and frames[0].kind == SETTINGS and frames[0].stream == 0
    assert (ENABLE_PUSH, 0) in frames[0].settings
    connection.frames.wait(lambda f: f.kind == SETTINGS and f.flags & ACK, 5, "an ACK")


@RFC.follows(
    "5.1.1",
    "MUST",
    "Streams initiated by a client MUST use odd-numbered stream identifiers",
)
def test_stream_identifiers_of_a_client(peer, gate):
    """Odd and growing, on one connection that is kept."""
    for _ in range(3):
        ok(gate)
    assert len(peer.connections) == 1
    streams = [f.stream for f in peer.connections[0].frames.all() if f.kind == HEADERS]
    assert streams == sorted(set(streams)) and all(stream % 2 for stream in streams)


@RFC.follows(
    "5.1.2",
    "MUST",
    "Endpoints MUST NOT exceed the limit set by their peer (concurrent streams)",
)
def test_concurrency_of_a_worker(peer, gate):
    """Two at a time: six requests are all served, and once the limit is acknowledged none is opened
    beyond it."""
    peer.settings = [(MAX_CONCURRENT_STREAMS, 2)]
    open_now, beyond = {}, []

    def slow(connection, request):
        known = any(f.kind == SETTINGS and f.flags & ACK for f in connection.frames.all())
        streams = open_now.setdefault(connection, set())
        streams.add(request.stream)
        if known and len(streams) > 2:
            beyond.append(request)

        def later():
            time.sleep(0.05)
            streams.discard(request.stream)
            connection.answer(request.stream)

        Background(later)

    peer.on_end["/slow"] = slow
    for _ in range(2):
        got = together([lambda: ask(gate, "/slow")] * 6, 10)
        assert [r.status for r in got] == [200] * 6, [r.body for r in got if r.status != 200]
    assert beyond == []


@RFC.follows(
    "6.7",
    "MUST",
    "Receivers of a PING frame MUST send a PING frame with the ACK flag set in response (to a "
    "worker)",
)
def test_ping_of_a_worker(peer, gate):
    """Also while nothing is asked."""
    ok(gate)
    connection = peer.connections[-1]
    connection.send(frame(PING, 0, 0, b"worker!!"))
    got = connection.frames.wait(lambda f: f.kind == PING, 5, "a PING")
    assert got.flags == ACK and got.payload == b"worker!!"


@RFC.follows(
    "6.8",
    "MUST",
    "Receivers of a GOAWAY frame MUST NOT open additional streams on the connection",
)
def test_goaway_of_a_worker(peer, gate):
    """The next request goes on another connection."""
    ok(gate)
    first = peer.connections[-1]
    first.send(frame(GOAWAY, 0, 0, struct.pack(">II", 1, NO_ERROR)))
    time.sleep(0.05)
    before = first.frames.mark()
    ok(gate)
    assert len(peer.connections) == 2
    assert not [f for f in first.frames.all()[before:] if f.kind == HEADERS]


@RFC.follows(
    "8.7",
    "MAY",
    "Requests that have not been processed have not failed; clients MAY automatically retry them, "
    "even those with non-idempotent methods",
)
@pytest.mark.parametrize("how", ["refused", "goaway"])
def test_requests_that_were_not_processed(peer, gate, how):
    """A POST that the worker says it did nothing of is served by a second try."""
    tries = []

    def begin(connection, request):
        tries.append(request.stream)
        if len(tries) > 1:
            connection.answer(request.stream)
        elif how == "refused":
            connection.send(rst_stream(request.stream, REFUSED_STREAM))
        else:
            connection.send(frame(GOAWAY, 0, 0, struct.pack(">II", 0, NO_ERROR)))

    peer.on_end[f"/{how}"] = begin
    assert ask(gate, f"/{how}", method="POST", body=b"ok").status == 200 and len(tries) == 2


@RFC.follows(
    "8.7",
    "plain",
    "A request that might have been processed is not repeated unless it is safe to",
)
def test_requests_that_might_have_been_processed(peer, gate):
    """A POST whose stream the worker resets, or whose connection ends: 502, asked once."""
    for path, end in [
        ("/reset", lambda c, r: c.send(rst_stream(r.stream, INTERNAL_ERROR))),
        ("/ends", lambda c, r: c.close()),
    ]:
        mark = peer.requests.mark()
        peer.on_end[path] = end
        problem(ask(gate, path, method="POST", body=b"ok"), 502, "upstream-failed")
        assert len(peer.requests.all()[mark:]) == 1


# --- requests -------------------------------------------------------------------------------------


@RFC.follows(
    "8.3.1",
    "MUST",
    'An intermediary that forwards a request over HTTP/2 MUST construct an ":authority" '
    "pseudo-header field using the authority information from the control data of the original "
    "request",
)
@RFC.follows(
    "8.3.1",
    "MUST",
    'All HTTP/2 requests MUST include exactly one valid value for the ":method", ":scheme", and '
    '":path" pseudo-header fields (towards workers)',
)
def test_control_data_of_requests(peer, gate):
    """Pseudo-fields first, once each, and no Host beside them that says otherwise."""
    seen = asked(peer, gate, "/a%20b?c=//", "X-A: 1", method="PUT", body=b"ok")
    names = [name for name, _ in seen.fields]
    assert sorted(names[:4]) == [":authority", ":method", ":path", ":scheme"]
    assert not [name for name in names[4:] if name.startswith(":")]
    assert seen.all(":method") == ["PUT"] and seen.all(":authority") == ["kipgate.test"]
    assert seen.all(":scheme") == ["http"] and seen.all("host") in ([], ["kipgate.test"])
    assert seen.body == b"ok" and seen.all("content-length") == ["2"]


@RFC.follows(
    "8.2",
    "MUST",
    "Field names MUST be converted to lowercase when constructing an HTTP/2 message (for a worker)",
)
@RFC.follows(
    "8.2.2",
    "MUST",
    "An endpoint MUST NOT generate an HTTP/2 message containing connection-specific header fields",
)
def test_fields_of_requests(peer, gate):
    """Trailers too; only `te: trailers` is said."""
    lines = [
        "X-UPPER: A",
        "Connection: keep-alive, X-Mine",
        "X-Mine: 1",
        "Keep-Alive: 5",
        "Upgrade: x",
    ]
    lines += ["TE: trailers, gzip", "Proxy-Connection: x", "Transfer-Encoding: chunked"]
    mark = peer.requests.mark()
    data = post(*lines, target="/fields", body=b"2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n")
    assert raw.request(gate.front, data, "POST").status == 200
    seen = peer.requests.wait(lambda request: request.path == "/fields", 5, "it", mark)
    names = [name for name, _ in seen.fields]
    assert names == [name.lower() for name in names] and seen.all("x-upper") == ["A"]
    gone = {
        "connection",
        "x-mine",
        "keep-alive",
        "upgrade",
        "proxy-connection",
        "transfer-encoding",
    }
    assert not gone & set(names) and seen.all("te") == ["trailers"]
    assert seen.body == b"ok" and seen.trailers == [("x-sum", "1")]


@RFC.follows(
    "5.2.1",
    "MUST",
    "A sender MUST respect flow-control limits imposed by a receiver (a worker)",
)
def test_windows_of_a_worker(peer, gate):
    """Ten octets, ten more, then all; on the connection's window likewise."""
    peer.settings = [(INITIAL_WINDOW_SIZE, 10)]
    ok(gate)
    begun = peer.begun.mark()
    peer.on_end["/window"] = lambda c, r: c.answer(r.stream)
    body = b"x" * 100000
    client = Background(ask, gate, "/window", method="POST", body=body)
    request = peer.begun.wait(lambda r: r.path == "/window", 5, "the head", begun)
    connection, stream = request.connection, request.stream
    wait_until(lambda: len(request.body) == 10, 5, "the first ten")
    time.sleep(0.05)
    assert len(request.body) == 10
    connection.send(window_update(stream, 10))
    wait_until(lambda: len(request.body) == 20, 5, "ten more")
    connection.send(window_update(stream, 1 << 20))
    wait_until(lambda: len(request.body) == WINDOW, 5, "the connection's window")
    time.sleep(0.05)
    assert len(request.body) == WINDOW
    gives_back(connection, stream, 1 << 20)
    assert client.result(5).status == 200 and request.body == body


@RFC.follows(
    "4.1",
    "MUST",
    "Values greater than 2^14 (16,384) MUST NOT be sent unless the receiver has set a larger "
    "value for SETTINGS_MAX_FRAME_SIZE",
)
def test_frames_for_a_worker_fit(peer, gate):
    """DATA, and HEADERS with CONTINUATION."""
    line = "X-A: " + "a" * 40000
    seen = asked(peer, gate, "/large", line, method="POST", body=b"x" * 60000)
    assert seen.all("x-a") == ["a" * 40000] and len(seen.body) == 60000
    assert max(len(f.payload) for f in seen.connection.frames.all()) <= FRAME_BYTES


# --- responses ------------------------------------------------------------------------------------


@RFC.follows(
    "8.1",
    "plain",
    "A response is HEADERS, DATA and perhaps trailers; the client of HTTP/1.1 gets the same "
    "message",
)
def test_responses_are_translated(peer, gate):
    """By length, of unknown length, without content, with interim responses and trailers."""

    def answer(c, r):
        c.headers(r.stream, [(":status", "103"), ("link", "</a>")])
        c.headers(r.stream, [(":status", "207"), ("x-a", "1"), ("x-a", "2"), ("set-cookie", "a=b")])
        c.data(r.stream, b"hel", end=False)
        c.data(r.stream, b"", end=False)
        c.data(r.stream, b"lo", end=False)
        c.headers(r.stream, [("x-sum", "1")], end=True)

    response = answered(peer, gate, "/whole", answer, "TE: trailers")
    assert (response.status, response.body, response.framing) == (207, b"hello", "chunked")
    assert response.all("X-A") == ["1", "2"] and response.trailers == [("x-sum", "1")]
    assert [(i.status, i.one("link")) for i in response.interim] == [(103, "</a>")]
    response = answered(peer, gate, "/length", lambda c, r: c.answer(r.stream, b"hello"))
    assert (response.body, response.framing) == (b"hello", "length")
    empty = answered(
        peer, gate, "/empty", lambda c, r: c.headers(r.stream, [(":status", "204")], end=True)
    )
    assert empty.status == 204 and not empty.all("Transfer-Encoding")
    head = answered(
        peer,
        gate,
        "/head",
        lambda c, r: c.headers(r.stream, [(":status", "200"), ("content-length", "99")], end=True),
        method="HEAD",
    )
    assert head.one("Content-Length") == "99"


MALFORMED = {
    "no-status": [("x-a", "1")],
    "status-twice": [(":status", "200"), (":status", "200")],
    "status-behind": [("x-a", "1"), (":status", "200")],
    "request-pseudo": [(":status", "200"), (":path", "/")],
    "unknown-pseudo": [(":status", "200"), (":x", "1")],
    "status-101": [(":status", "101")],
    "status-letters": [(":status", "abc")],
    "upper-case": [(":status", "200"), ("X-A", "1")],
    "line-end": [(":status", "200"), ("x-a", "1\r\nx-evil: 1")],
    "nul": [(":status", "200"), ("x-a", "1\0")],
    "space": [(":status", "200"), ("x-a", " 1")],
    "connection": [(":status", "200"), ("connection", "close")],
    "transfer-encoding": [(":status", "200"), ("transfer-encoding", "chunked")],
    "length-twice": [(":status", "200"), ("content-length", "1"), ("content-length", "2")],
    "length-letters": [(":status", "200"), ("content-length", "1a")],
}


@RFC.follows(
    "8.1.1",
    "MUST",
    "Clients MUST NOT accept a malformed response; malformed responses MUST be treated as a "
    "stream error of type PROTOCOL_ERROR",
)
@pytest.mark.parametrize("fields", MALFORMED.values(), ids=MALFORMED)
def test_malformed_responses(peer, gate, fields):
    """502; the next request is served."""

    def answer(c, r):
        c.headers(r.stream, fields)
        c.data(r.stream, b"x")

    problem(answered(peer, gate, "/malformed", answer), 502, "upstream-failed")
    ok(gate)


@RFC.follows(
    "8.1.1",
    "MUST",
    "A response whose content-length does not equal the sum of the DATA frame payload lengths "
    "MUST be treated as malformed",
)
@pytest.mark.parametrize("length,body", [(9, b"hello"), (3, b"hello"), (1, b"")], ids=str)
def test_length_of_responses(peer, gate, length, body):
    """502, or broken off: never a whole response."""

    def answer(c, r):
        c.headers(r.stream, [(":status", "200"), ("content-length", str(length))])
        c.data(r.stream, body)

    try:
        problem(answered(peer, gate, "/length-lies", answer), 502, "upstream-failed")
    except (raw.Broken, ConnectionResetError):
        pass
    ok(gate)


@RFC.follows(
    "8.1",
    "MUST",
    "An endpoint that receives a HEADERS frame without the END_STREAM flag set after receiving a "
    "final status code, or pseudo-header fields in trailers, MUST treat the response as malformed",
)
@pytest.mark.parametrize("kind", ["no-end", "pseudo", "framing"])
def test_malformed_trailers(peer, gate, kind):
    """Broken off, or 502."""

    def answer(c, r):
        c.headers(r.stream, [(":status", "200")])
        c.data(r.stream, b"hello", end=False)
        fields = {"no-end": [("x-a", "1")], "pseudo": [(":status", "200")]}
        c.headers(r.stream, fields.get(kind, [("content-length", "5")]), end=kind != "no-end")

    try:
        problem(answered(peer, gate, "/trailers", answer), 502, "upstream-failed")
    except (raw.Broken, ConnectionResetError):
        pass
    ok(gate)


@RFC.follows(
    "8.1",
    "plain",
    "A stream that is reset, or whose connection ends, before END_STREAM carries no whole response",
)
@pytest.mark.parametrize("how", ["reset", "close", "goaway"])
def test_incomplete_responses(peer, gate, how):
    """Broken off behind a head, for the client too."""

    def answer(c, r):
        c.headers(r.stream, [(":status", "200")])
        c.data(r.stream, b"hello", end=False)
        time.sleep(0.05)
        if how == "reset":
            c.send(rst_stream(r.stream, INTERNAL_ERROR))
        elif how == "goaway":
            c.send(frame(GOAWAY, 0, 0, struct.pack(">II", r.stream, INTERNAL_ERROR)))
            c.close()
        else:
            c.close()

    with pytest.raises((raw.Broken, ConnectionResetError)):
        answered(peer, gate, "/incomplete", answer)
    ok(gate)


CONNECTION_ERRORS = {
    "settings-size": frame(SETTINGS, 0, 0, b"12345"),
    "data-on-0": frame(DATA, 0, 0, b"x"),
    "window-of-0": window_update(0, 0),
    "hpack": frame(HEADERS, END_HEADERS, 1, b"\x80"),
    "continuation": frame(CONTINUATION, END_HEADERS, 1, b""),
    "too-large": frame(DATA, 0, 1, b"x" * (FRAME_BYTES + 1)),
    "http1": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
}


@RFC.follows(
    "5.4.1",
    "MUST",
    "An endpoint that encounters a connection error SHOULD first send a GOAWAY frame; after that "
    "it MUST close the TCP connection (to a worker)",
)
@pytest.mark.parametrize("data", CONNECTION_ERRORS.values(), ids=CONNECTION_ERRORS)
def test_connection_errors_of_a_worker(peer, gate, data):
    """502 for the request, that connection ends, the next request has another."""
    response = answered(peer, gate, "/broken", lambda c, r: c.send(data), method="POST")
    problem(response, 502, "upstream-failed")
    assert peer.connections[0].ended.wait(5)
    ok(gate)


@RFC.follows(
    "6.6",
    "MUST",
    "An endpoint that has set SETTINGS_ENABLE_PUSH to 0 and has received acknowledgment MUST "
    "treat the receipt of a PUSH_PROMISE frame as a connection error of type PROTOCOL_ERROR",
)
def test_push_of_a_worker(peer, gate):
    """GOAWAY, and the end."""

    def answer(c, r):
        fields = [(":method", "GET"), (":scheme", "http"), (":path", "/p"), (":authority", "a")]
        block = struct.pack(">I", 2) + c.encoder.encode(fields)
        c.send(frame(PUSH_PROMISE, END_HEADERS, r.stream, block))

    problem(answered(peer, gate, "/push", answer, method="POST"), 502, "upstream-failed")
    assert peer.connections[0].ended.wait(5)
    codes = [f.code for f in peer.connections[0].frames.all() if f.kind == GOAWAY]
    assert codes == [PROTOCOL_ERROR]


@RFC.follows(
    "4.1",
    "MUST",
    "Implementations MUST ignore and discard frames of unknown types (from a worker)",
)
@RFC.follows("6.5.2", "MUST", "Any unknown or unsupported setting MUST be ignored (of a worker)")
def test_unknown_frames_of_a_worker(peer, gate):
    """Between the frames of a response."""
    peer.settings = [(0xFFFF, 7)]

    def answer(c, r):
        c.send(frame(0x42, 0xFF, 0, b"?") + frame(0x42, 0, r.stream, b"?"))
        c.answer(r.stream, b"fine")

    assert answered(peer, gate, "/unknown", answer).body == b"fine"


@RFC.follows(
    "6.9.1",
    "plain",
    "Kipgate's own windows hold for workers: content beyond them is an error, and what a slow "
    "client does not take is not asked for",
)
def test_content_beyond_our_windows(peer, gate):
    """A client that does not read, and a worker that does not care about windows."""
    sent = []

    def answer(c, r):
        c.headers(r.stream, [(":status", "200")])
        for _ in range(1600):
            c.data(r.stream, b"x" * FRAME_BYTES, end=False)
        sent.append(True)

    peer.on_end["/flood"] = answer
    with gate.raw(10, receive_buffer=4096) as client:
        client.send(get("/flood"))
        client.final_head()
        first = peer.connections[0]
        got = first.frames.wait(
            lambda f: f.kind in (RST_STREAM, GOAWAY), 10, "an error of flow control"
        )
        assert got.code == FLOW_CONTROL_ERROR
        client.reset()
    ok(gate)


@RFC.follows(
    "10.3",
    "plain",
    "What HTTP/1.1 refuses is refused before a worker of HTTP/2 is asked, too",
)
def test_bad_requests_reach_no_worker(peer, gate):
    """A few of each kind."""
    mark = peer.begun.mark()
    for data in (get("/a%00"), get("/", "X A: b"), post("Content-Length: 5", "Content-Length: 6")):
        refused(gate, data, 400, "bad-request")
    assert peer.begun.all()[mark:] == []
