# SPDX-License-Identifier: Apache-2.0
"""RFC 9113, HTTP/2, sections 3 to 5: the preface, the form of frames, streams. The difficulty:
every rule is tried by breaking it, so each test has a connection of its own."""
import struct
import time

import pytest
from conformance import Table
from conformance_http2 import connection_error, http2_gate, served, settled, stream_error

from harness import echo as worker
from harness import http2, raw
from harness.echo import get
from harness.http2 import ACK, COMPRESSION_ERROR, CONTINUATION, DATA, END_HEADERS, END_STREAM
from harness.http2 import FRAME_BYTES, FRAME_SIZE_ERROR, GOAWAY, HEADERS, HEADER_TABLE_SIZE, Http2
from harness.http2 import INITIAL_WINDOW_SIZE, PING, PREFACE, PRIORITIZED, PRIORITY
from harness.http2 import PROTOCOL_ERROR, REFUSED_STREAM, RST_STREAM, SETTINGS, STREAM_CLOSED
from harness.http2 import WINDOW, WINDOW_UPDATE, frame, rst_stream, settings, window_update

RFC = Table(9113)


@pytest.fixture(scope="module")
def gate(echo):
    """One front that speaks both versions on a plain listener."""
    services = {
        "echo": echo(routes=["/"], idle_timeout="10m", concurrency=1000),
        "late": echo(routes=["/late"], env=worker.start_delay(3000)),
    }
    with http2_gate(services) as kipgate:
        yield kipgate


@pytest.fixture
def client(gate):
    """A connection on which the server's preface was read."""
    with settled(gate) as connection:
        yield connection


# --- 3: starting ----------------------------------------------------------------------------------


@RFC.follows(
    "3.3",
    "MUST",
    "A client that knows that a server supports HTTP/2 can send the connection preface and "
    "immediately HTTP/2 frames; the server MUST send a connection preface",
)
@RFC.follows(
    "3.4",
    "MUST",
    "The server connection preface consists of a potentially empty SETTINGS frame that MUST be "
    "the first frame the server sends",
)
def test_prior_knowledge(gate):
    """Frames may follow the client's preface before anything was received (the client refuses any
    other first frame)."""
    with Http2(gate.front) as client:
        served(client)
        assert client.frames[0].kind == SETTINGS


@RFC.follows(
    "3.3",
    "plain",
    "Without the preface the connection is one of HTTP/1.1, on the same port",
)
def test_both_versions_on_one_port(gate):
    """Also a request whose method begins like the preface."""
    assert raw.request(gate.front, get("/")).status == 200
    data = get("/", method="PROPFIND")
    with gate.raw() as client:
        client.send(data[:3])
        time.sleep(0.05)
        assert client.send(data[3:]).response().status == 200


@RFC.follows("3.4", "plain", "The preface may come in any number of pieces")
def test_preface_in_pieces(gate):
    """A byte at a time."""
    with Http2(gate.front, begin=False) as client:
        for byte in PREFACE + settings():
            client.send(bytes([byte]))
        served(client)


@RFC.follows(
    "3.4",
    "MUST",
    "The SETTINGS frames received from a peer as part of the connection preface MUST be "
    "acknowledged",
)
@RFC.follows(
    "6.5.3",
    "MUST",
    "Once all values have been processed, the recipient MUST immediately emit a SETTINGS frame "
    "with the ACK flag set",
)
def test_settings_are_acknowledged(client):
    """Each once, without a payload."""
    acks = [f for f in client.frames if f.kind == SETTINGS and f.flags & ACK]
    assert len(acks) == 1 and acks[0].payload == b""
    client.send(settings((INITIAL_WINDOW_SIZE, 1000)))
    assert client.until(lambda f: f.kind == SETTINGS and f.flags & ACK).payload == b""


@RFC.follows(
    "3.4",
    "MUST",
    "Clients and servers MUST treat an invalid connection preface as a connection error of type "
    "PROTOCOL_ERROR; a GOAWAY frame MAY be omitted in this case",
)
@pytest.mark.parametrize(
    "begin",
    [
        b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n" + settings(),
        PREFACE + frame(PING, 0, 0, b"12345678"),
        PREFACE + frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x82\x86\x84\x41\x01a"),
        PREFACE + settings(flags=ACK),
    ],
    ids=["not-sm", "ping-first", "headers-first", "ack-first"],
)
def test_invalid_preface(gate, begin):
    """The connection ends; where HTTP/1.1 is served too it may say so in that version."""
    with gate.raw(5) as client:
        client.send_anyway(begin)
        got = client.rest(5)
        assert b"HTTP/1.1 200" not in got
        if got[3:4] == b"\x04":  # a server preface: then a GOAWAY behind it, or nothing
            assert frame(SETTINGS, ACK) not in got[9:] or b"\x07" in got


# --- 4: frames ------------------------------------------------------------------------------------


@RFC.follows("4.1", "MUST", "Implementations MUST ignore and discard frames of unknown types")
@RFC.follows(
    "5.5",
    "MUST",
    "Implementations MUST discard frames that have unknown or unsupported types",
)
def test_unknown_frames(client):
    """On the connection and on streams, open or not."""
    for kind in (0x0B, 0x42, 0xFF):
        client.send(frame(kind, 0xFF, 0, b"what"))
    stream = client.headers(http2.request("/", method="POST"), end=False)
    client.send(frame(0x42, 0, stream, b"x" * 100))
    client.data(stream, b"ok")
    assert client.response(stream).body.endswith(b"ok\r\n0\r\n\r\n")
    served(client)


@RFC.follows("4.1", "MUST", "Unused flags MUST be ignored on receipt")
@RFC.follows(
    "4.1",
    "MUST",
    "The reserved bit MUST remain unset when sending and MUST be ignored when receiving",
)
def test_unused_bits(client):
    """In a request's frames, a PING and SETTINGS; the client refuses a reserved bit that is set."""
    stream = client.next_stream()
    block = client.block(http2.request("/"))
    client.send(frame(HEADERS, 0xD2 | END_HEADERS | END_STREAM, stream | 1 << 31, block))
    assert client.response(stream).status == 200
    client.send(frame(PING, 0xFE, 1 << 31, b"12345678"))
    assert client.until(lambda f: f.kind == PING).payload == b"12345678"


@RFC.follows(
    "4.2",
    "MUST",
    "All implementations MUST be capable of receiving and minimally processing frames up to 2^14 "
    "octets in length, plus the 9-octet frame header",
)
def test_frames_of_16384_octets(client):
    """DATA and HEADERS."""
    response = client.get(worker.sink(), method="POST", body=b"x" * FRAME_BYTES)
    assert b'"bytes":16384' in response.body
    fields = http2.request("/", "x-a: " + "a" * 16200)
    assert len(client.block(fields)) <= FRAME_BYTES
    assert client.response(client.headers(fields)).status == 200


@RFC.follows(
    "4.2",
    "MUST",
    "An endpoint MUST send an error code of FRAME_SIZE_ERROR if a frame exceeds the size defined "
    "in SETTINGS_MAX_FRAME_SIZE; in a frame that could alter the state of the entire connection "
    "it MUST be treated as a connection error",
)
@pytest.mark.parametrize("kind", [DATA, HEADERS, SETTINGS, PING, 0x42])
def test_frames_that_are_too_large(client, kind):
    """One octet more than SETTINGS_MAX_FRAME_SIZE (16384 by default)."""
    stream = 0 if kind in (SETTINGS, PING) else client.next_stream()
    if kind == DATA:
        client.headers(http2.request("/sink", method="POST"), end=False, stream=stream)
    client.send_anyway(frame(kind, 0, stream, b"\0" * (FRAME_BYTES + 1)))
    if kind == DATA:
        stream_error(client, stream, FRAME_SIZE_ERROR)
    else:
        connection_error(client, FRAME_SIZE_ERROR)


@RFC.follows(
    "4.2",
    "MUST",
    "An endpoint MUST send an error code of FRAME_SIZE_ERROR if a frame is too small to contain "
    "mandatory frame data or exceeds any limit defined for the frame type",
)
@pytest.mark.parametrize(
    "kind,length,stream",
    [(PING, 7, 0), (PING, 9, 0), (SETTINGS, 5, 0), (SETTINGS, 7, 0), (WINDOW_UPDATE, 3, 0)]
    + [(WINDOW_UPDATE, 5, 0), (RST_STREAM, 3, 1), (RST_STREAM, 5, 1), (GOAWAY, 7, 0)],
)
def test_frames_of_a_wrong_size(client, kind, length, stream):
    """Connection errors all of them."""
    if stream:
        client.headers(http2.request(worker.hang()))
    client.send_anyway(frame(kind, 0, stream, b"\0" * length))
    connection_error(client, FRAME_SIZE_ERROR)


@RFC.follows(
    "4.3",
    "MUST",
    "A decoding error in a field block MUST be treated as a connection error of type "
    "COMPRESSION_ERROR",
)
@pytest.mark.parametrize(
    "block",
    [b"\x80", b"\xff\xff\xff\xff\xff\x0f", b"\xc6\xc6", b"\x00\x85\xff\xff\xff\xff\xff\x00"]
    + [b"\x3f\xe1\xff\xff\x0f", b"\x82\x86\x84\x41\x7fab", b"\x82\x86\x84\x20\x41\x01a"],
    ids=["index-0", "index-huge", "index-unset", "huffman-eos", "table-size", "cut", "late-size"],
)
def test_blocks_that_do_not_decompress(client, block):
    """Each kind of error of RFC 7541."""
    client.send_anyway(frame(HEADERS, END_HEADERS | END_STREAM, client.next_stream(), block))
    connection_error(client, COMPRESSION_ERROR)


@RFC.follows(
    "4.3",
    "MUST",
    "Field blocks MUST be transmitted as a contiguous sequence of frames, with no interleaved "
    "frames of any other type or from any other stream",
)
@RFC.follows(
    "6.2",
    "MUST",
    "A HEADERS frame without the END_HEADERS flag set MUST be followed by a CONTINUATION frame "
    "for the same stream; anything else is a connection error of type PROTOCOL_ERROR",
)
@pytest.mark.parametrize(
    "between",
    [frame(PING, 0, 0, b"12345678"), frame(DATA, 0, 1, b"x"), frame(CONTINUATION, 4, 3, b"")]
    + [frame(HEADERS, 5, 3, b"\x82\x86\x84\x41\x01a"), settings(), frame(0x42, 0, 0, b"")],
    ids=["ping", "data", "other-stream", "headers", "settings", "unknown"],
)
def test_frames_within_a_field_block(client, between):
    """Extension frames too (5.5)."""
    stream = client.next_stream()
    client.send(frame(HEADERS, END_STREAM, stream, client.block(http2.request("/"))[:4]))
    client.send_anyway(between)
    connection_error(client, PROTOCOL_ERROR)


@RFC.follows(
    "4.3.1",
    "MUST",
    "Once an endpoint acknowledges a change to SETTINGS_HEADER_TABLE_SIZE that reduces the "
    "maximum, its encoder MUST keep to it and start the next field block with a size update",
)
def test_header_table_size(gate):
    """None at all, then some again: every response can be decoded."""
    with Http2(gate.front) as client:
        for size in (4096, 0, 100, 65536):
            client.decoder.max_allowed_table_size = max(size, client.decoder.header_table_size)
            client.send(settings((HEADER_TABLE_SIZE, size)))
            client.until(lambda f: f.kind == SETTINGS and f.flags & ACK)
            client.decoder.max_allowed_table_size = size
            for _ in range(3):
                served(client)
            assert client.decoder.header_table_size <= size


# --- 5: streams -----------------------------------------------------------------------------------


@RFC.follows(
    "5.1",
    "MUST",
    "idle: receiving any frame other than HEADERS or PRIORITY on a stream in this state MUST be "
    "treated as a connection error of type PROTOCOL_ERROR",
)
@pytest.mark.parametrize(
    "data",
    [frame(DATA, 0, 5, b"x"), rst_stream(5), window_update(5, 1), frame(CONTINUATION, 4, 5, b"")],
    ids=["data", "rst-stream", "window-update", "continuation"],
)
def test_frames_on_idle_streams(client, data):
    """Nothing has opened stream 5."""
    client.send_anyway(data)
    connection_error(client, PROTOCOL_ERROR)


@RFC.follows(
    "5.1",
    "MUST",
    "half-closed (remote): if an endpoint receives additional frames, other than WINDOW_UPDATE, "
    "PRIORITY, or RST_STREAM, it MUST respond with a stream error of type STREAM_CLOSED",
)
@pytest.mark.parametrize("kind", ["data", "headers"])
def test_frames_behind_the_end_of_a_request(client, kind):
    """While the answer is still awaited."""
    stream = client.ask(worker.hang())
    if kind == "data":
        client.data(stream, b"x")
    else:
        client.headers([("x-a", "1")], stream=stream)
    stream_error(client, stream, STREAM_CLOSED)


@RFC.follows(
    "5.1",
    "plain",
    "WINDOW_UPDATE, PRIORITY and RST_STREAM are no error on a half-closed (remote) stream",
)
def test_frames_that_may_come_behind_the_end_of_a_request(client):
    """The response still comes whole."""
    stream = client.ask(worker.slow(100))
    client.send(window_update(stream, 1000) + frame(PRIORITY, 0, stream, b"\0\0\0\0\x10"))
    assert client.response(stream).status == 200
    stream = client.ask(worker.slow(100))
    client.send(rst_stream(stream))
    served(client)


@RFC.follows(
    "5.1",
    "MAY",
    "closed: an endpoint MAY treat receipt of any other type of frame (than PRIORITY) on a closed "
    "stream as a connection error of type STREAM_CLOSED",
)
@pytest.mark.parametrize("kind", ["data", "headers"])
def test_frames_on_closed_streams(client, kind):
    """An error of either kind, or ignored; never a second response."""
    stream = client.ask("/")
    client.response(stream)
    if kind == "data":
        client.data(stream, b"x")
    else:
        client.headers(http2.request("/again"), stream=stream)
    try:
        client.quiet(0.1)
    except http2.ConnectionError_:
        pass
    codes = [f.code for f in client.frames if f.kind in (GOAWAY, RST_STREAM)]
    assert set(codes) <= {STREAM_CLOSED, PROTOCOL_ERROR}
    assert client.response_on(stream).body.count(b"HTTP/1.1") == 1


@RFC.follows(
    "5.1",
    "MUST",
    "closed: an endpoint that sends or has received a RST_STREAM MUST minimally process and then "
    "discard frames that were on their way",
)
def test_frames_that_crossed_a_reset(client):
    """WINDOW_UPDATE and PRIORITY behind our own reset."""
    stream = client.ask(worker.zeros(10**9))
    client.until(lambda f: f.kind == DATA)
    client.credit = False
    client.send(rst_stream(stream) + window_update(stream, 100) + rst_stream(stream))
    client.send(frame(PRIORITY, 0, stream, b"\0\0\0\0\x10"))
    client.responses.clear()
    client.send(frame(PING, 0, 0, b"in step?"))
    client.responses[stream] = http2.Response(status=200)
    client.until(lambda f: f.kind == PING)
    client.send(window_update(0, 1 << 20))
    served(client)


@RFC.follows(
    "5.1.1",
    "MUST",
    "Streams initiated by a client MUST use odd-numbered stream identifiers, each greater than "
    "all before; an unexpected stream identifier MUST be answered with a connection error of type "
    "PROTOCOL_ERROR",
)
def test_even_stream_identifiers(client):
    """They are the server's."""
    client.response(client.headers(http2.request("/"), stream=7))
    client.headers(http2.request("/"), stream=8)
    connection_error(client, PROTOCOL_ERROR)


@RFC.gap(
    "5.1.1",
    "MUST",
    "An endpoint that receives an unexpected stream identifier MUST respond with a connection "
    "error of type PROTOCOL_ERROR (one that is smaller than the last)",
    "a HEADERS frame on a smaller identifier that was never used is ignored, as nghttp2 does",
)
def test_stream_identifiers_that_go_back(client):
    """3 behind 7."""
    client.response(client.headers(http2.request("/"), stream=7))
    client.headers(http2.request("/"), stream=3)
    connection_error(client, PROTOCOL_ERROR, STREAM_CLOSED, timeout=0.5)


@RFC.follows(
    "5.1.1",
    "plain",
    "The first use of a new stream identifier implicitly closes all lower idle streams; any gap "
    "is allowed, up to 2^31-1",
)
def test_gaps_between_stream_identifiers(client):
    """1, then 1001, then the last there is."""
    for stream in (1, 1001, 2**31 - 1):
        assert client.response(client.headers(http2.request("/"), stream=stream)).status == 200


@RFC.follows(
    "5.1.2",
    "MUST",
    "An endpoint that receives a HEADERS frame that causes its advertised concurrent stream limit "
    "to be exceeded MUST treat this as a stream error of type PROTOCOL_ERROR or REFUSED_STREAM",
)
def test_too_many_streams(client):
    """The 101st; where it was refused on its stream, the others are served and one that ended makes
    room."""
    streams = [client.ask(worker.slow(400)) for _ in range(101)]
    stream_error(client, streams[-1], REFUSED_STREAM, PROTOCOL_ERROR)
    if not any(got.kind == GOAWAY for got in client.frames):
        for stream in streams[:-1]:
            assert client.response(stream).status == 200
        served(client)


@RFC.follows("5.2.1", "MUST", "A sender MUST respect flow-control limits imposed by a receiver")
@RFC.follows(
    "6.9.1",
    "MUST",
    "The sender MUST NOT send a flow-controlled frame with a length that exceeds the space "
    "available in either of the flow-control windows advertised by the receiver",
)
def test_windows_are_respected(gate):
    """Not a byte without a window; then as many as were given; then the connection's limit."""
    with Http2(gate.front, [(INITIAL_WINDOW_SIZE, 0)]) as client:
        client.credit = False
        stream = client.ask(worker.zeros(200000))
        client.until(lambda f: f.kind == HEADERS)
        assert not [f for f in client.quiet(0.1) if f.kind == DATA and f.payload]
        client.send(window_update(stream, 1000))
        client.quiet(0.1)
        assert len(client.response_on(stream).body) == 1000
        client.send(window_update(stream, 10**6))
        client.quiet(0.1)
        assert len(client.response_on(stream).body) == WINDOW, "the connection's window"
        client.send(window_update(0, 10**6))
        assert len(client.response(stream).body) == 200000


@RFC.follows(
    "5.2.2",
    "MUST",
    "Endpoints MUST read and process HTTP/2 frames as soon as data is available: one stream that "
    "stalls does not hold up others",
)
def test_a_stalled_stream_holds_up_nobody(gate):
    """A response that may not flow, and a request that the worker does not read."""
    with Http2(gate.front, [(INITIAL_WINDOW_SIZE, 0)]) as client:
        client.ask(worker.zeros(1000))
        hanging = client.headers(http2.request(worker.hang(), method="POST"), end=False)
        client.data(hanging, b"x" * 1000, end=False)
        stream = client.ask("/", method="HEAD")
        assert client.response(stream).status == 200
        client.send(frame(PING, 0, 0, b"in step?"))
        client.until(lambda f: f.kind == PING)


@RFC.follows(
    "5.3.2",
    "plain",
    "Priority signals of RFC 7540 are deprecated: they are parsed and change nothing",
)
@RFC.follows(
    "6.3",
    "plain",
    "A PRIORITY frame can be sent for a stream in any state, idle and closed ones included",
)
def test_priorities_are_ignored(client):
    """Frames on idle and closed streams, and in HEADERS."""
    client.send(
        frame(PRIORITY, 0, 99, b"\x80\0\0\x01\xff") + frame(PRIORITY, 0, 1, b"\0\0\0\x63\x01")
    )
    stream = client.next_stream()
    block = b"\x80\0\0\x63\x10" + client.block(http2.request("/"))
    client.send(frame(HEADERS, END_HEADERS | END_STREAM | PRIORITIZED, stream, block))
    assert client.response(stream).status == 200
    client.send(frame(PRIORITY, 0, stream, b"\0\0\0\0\x10"))
    served(client)


@RFC.follows(
    "5.4.1",
    "MUST",
    "An endpoint that encounters a connection error SHOULD first send a GOAWAY frame with the "
    "identifier of the last stream that it successfully received; after it the endpoint MUST "
    "close the TCP connection",
)
def test_after_a_connection_error(client):
    """The last stream is named; requests behind the error are not served."""
    client.response(client.headers(http2.request("/"), stream=5))
    client.send_anyway(frame(DATA, 0, 0, b"x"))
    client.headers(http2.request("/behind"), stream=7)
    connection_error(client, PROTOCOL_ERROR)
    goaway = [f for f in client.frames if f.kind == GOAWAY][-1]
    assert struct.unpack(">I", goaway.payload[:4])[0] == 5 and 7 not in client.responses


@RFC.follows(
    "5.4.2",
    "MUST",
    "To avoid looping, an endpoint MUST NOT send a RST_STREAM in response to a RST_STREAM frame",
)
@RFC.follows(
    "6.4",
    "MUST",
    "After receiving a RST_STREAM on a stream, the receiver MUST NOT send additional frames for "
    "that stream, except for PRIORITY",
)
def test_reset_by_the_client(client):
    """Before the worker answered: nothing comes."""
    stream = client.ask(worker.slow(100))
    client.send(rst_stream(stream))
    assert not [f for f in client.quiet(0.25) if f.stream == stream]
    served(client)


@RFC.follows(
    "5.5",
    "MUST",
    "Implementations MUST ignore unknown or unsupported values in all extensible protocol elements",
)
@RFC.follows(
    "6.5.2",
    "MUST",
    "An endpoint that receives a SETTINGS frame with any unknown or unsupported identifier MUST "
    "ignore that setting",
)
@RFC.follows(
    "7",
    "MUST",
    "Unknown or unsupported error codes MUST NOT trigger any special behavior",
)
def test_unknown_values(client):
    """Settings, and error codes."""
    client.send(settings((0, 1), (7, 2), (0xFFFF, 2**32 - 1)))
    stream = client.ask(worker.hang())
    client.send(rst_stream(stream, 0xFFFFFFFF))
    served(client)
