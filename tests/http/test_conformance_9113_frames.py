# SPDX-License-Identifier: Apache-2.0
"""RFC 9113, HTTP/2, sections 6 and 7: each type of frame, flow control, error codes. The
difficulty: every rule is tried by breaking it, so each test has a connection of its own."""

import pytest
from conformance import Table
from conformance_http2 import connection_error, http2_gate, served, settled, stream_error

from harness import echo as worker
from harness import http2
from harness.http2 import ACK, CONTINUATION, DATA, ENABLE_PUSH, END_HEADERS, END_STREAM
from harness.http2 import FLOW_CONTROL_ERROR, FRAME_BYTES, FRAME_SIZE_ERROR, GOAWAY, HEADERS
from harness.http2 import Http2, INITIAL_WINDOW_SIZE, MAX_CONCURRENT_STREAMS, MAX_FRAME_SIZE
from harness.http2 import MAX_HEADER_LIST_SIZE, NO_ERROR, PADDED, PING, PRIORITY, PROTOCOL_ERROR
from harness.http2 import PUSH_PROMISE, WINDOW, frame, rst_stream, settings, window_update

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


# --- 6: frame definitions -------------------------------------------------------------------------


@RFC.follows(
    "6.1",
    "MUST",
    "If a DATA frame is received whose Stream Identifier field is 0x00, the recipient MUST "
    "respond with a connection error of type PROTOCOL_ERROR (HEADERS, RST_STREAM and CONTINUATION "
    "alike)",
)
@pytest.mark.parametrize(
    "data",
    [frame(DATA, 0, 0, b"x"), frame(HEADERS, 5, 0, b"\x82\x86\x84\x41\x01a"), rst_stream(0)]
    + [frame(CONTINUATION, 4, 0, b"")],
    ids=["data", "headers", "rst-stream", "continuation"],
)
def test_frames_of_streams_on_stream_0(client, data):
    """Each kind."""
    client.send_anyway(data)
    connection_error(client, PROTOCOL_ERROR)


@RFC.follows(
    "6.3",
    "MUST",
    "If a PRIORITY frame is received with a stream identifier of 0x00, the recipient MUST respond "
    "with a connection error of type PROTOCOL_ERROR",
)
def test_priority_on_stream_0(client):
    """Its size is right."""
    client.send_anyway(frame(PRIORITY, 0, 0, b"\0\0\0\1\x10"))
    connection_error(client, PROTOCOL_ERROR)


@RFC.follows(
    "6.1",
    "MUST",
    "If the length of the padding is the length of the frame payload or greater, the recipient "
    "MUST treat this as a connection error of type PROTOCOL_ERROR (DATA and HEADERS)",
)
@pytest.mark.parametrize("kind", [DATA, HEADERS])
@pytest.mark.parametrize("payload", [b"\x05abcd", b"\xffab", b"\x01"])
def test_too_much_padding(client, kind, payload):
    """As long as the payload, and longer."""
    if kind == DATA:
        stream = client.headers(http2.request("/sink", method="POST"), end=False)
    else:
        stream = client.next_stream()
    client.send_anyway(frame(kind, PADDED | END_HEADERS, stream, payload))
    connection_error(client, PROTOCOL_ERROR, FRAME_SIZE_ERROR)


@RFC.follows(
    "6.1",
    "plain",
    "Padding is no content; it counts to flow control (DATA and HEADERS may be padded, also by 0)",
)
@RFC.follows(
    "10.7",
    "MAY",
    "Intermediaries MAY drop padding for HEADERS frames; padding of DATA ends where it is "
    "translated to HTTP/1.1",
)
def test_padding_is_dropped(client):
    """Neither content nor fields."""
    stream = client.next_stream()
    block = client.block(http2.request("/body", method="POST"))
    client.send(frame(HEADERS, PADDED | END_HEADERS, stream, b"\x09" + block + b"\0" * 9))
    client.send(frame(DATA, PADDED, stream, b"\x00ab") + frame(DATA, PADDED, stream, b"\x03\0\0\0"))
    client.send(frame(DATA, PADDED | END_STREAM, stream, b"\xffcd" + b"\0" * 255))
    assert client.response(stream).body == b"abcd"


@RFC.follows(
    "6.1",
    "plain",
    "The entire DATA frame payload, padding included, is given back to the flow-control windows",
)
def test_padding_is_given_back(client):
    """More padding than either window holds goes through one stream."""
    stream = client.headers(http2.request(worker.sink(), method="POST"), end=False)
    for _ in range(8000):
        while client.window(stream) < 257:
            client.read()
        client.send(frame(DATA, PADDED, stream, b"\xffx" + b"\0" * 255))
        client.windows[0] -= 257
        client.windows[stream] -= 257
    client.data(stream)
    assert b'"bytes":8000,' in client.response(stream).body


@RFC.follows(
    "6.3",
    "MUST",
    "A PRIORITY frame with a length other than 5 octets MUST be treated as a stream error of type "
    "FRAME_SIZE_ERROR",
)
def test_priority_of_a_wrong_size(client):
    """4 and 6."""
    stream = client.ask(worker.hang())
    client.send_anyway(frame(PRIORITY, 0, stream, b"\0\0\0\0"))
    stream_error(client, stream, FRAME_SIZE_ERROR)


@RFC.follows(
    "6.5",
    "MUST",
    "Receipt of a SETTINGS frame with the ACK flag set and a length field value other than 0 MUST "
    "be treated as a connection error of type FRAME_SIZE_ERROR",
)
def test_settings_ack_with_a_payload(client):
    """One setting in it."""
    client.send_anyway(settings((INITIAL_WINDOW_SIZE, 1), flags=ACK))
    connection_error(client, FRAME_SIZE_ERROR)


@RFC.follows(
    "6.5",
    "MUST",
    "If an endpoint receives a SETTINGS frame whose Stream Identifier field is anything other "
    "than 0x00, the endpoint MUST respond with a connection error of type PROTOCOL_ERROR (PING "
    "and GOAWAY alike)",
)
@pytest.mark.parametrize(
    "data",
    [settings(stream=1), frame(PING, 0, 1, b"12345678"), frame(GOAWAY, 0, 1, b"\0" * 8)],
    ids=["settings", "ping", "goaway"],
)
def test_frames_of_the_connection_on_a_stream(client, data):
    """Each kind."""
    client.ask(worker.hang())
    client.send_anyway(data)
    connection_error(client, PROTOCOL_ERROR)


@RFC.follows(
    "6.5.2",
    "MUST",
    "SETTINGS_ENABLE_PUSH: any value other than 0 or 1, and SETTINGS_MAX_FRAME_SIZE: values "
    "outside of 2^14 to 2^24-1, MUST be treated as a connection error of type PROTOCOL_ERROR",
)
@pytest.mark.parametrize(
    "pair", [(ENABLE_PUSH, 2), (MAX_FRAME_SIZE, 16383), (MAX_FRAME_SIZE, 1 << 24)], ids=str
)
def test_settings_out_of_range(client, pair):
    """Connection errors."""
    client.send_anyway(settings(pair))
    connection_error(client, PROTOCOL_ERROR)


@RFC.follows(
    "6.5.2",
    "MUST",
    "SETTINGS_INITIAL_WINDOW_SIZE: values above 2^31-1 MUST be treated as a connection error of "
    "type FLOW_CONTROL_ERROR",
)
def test_initial_window_out_of_range(client):
    """2^31."""
    client.send_anyway(settings((INITIAL_WINDOW_SIZE, 1 << 31)))
    connection_error(client, FLOW_CONTROL_ERROR)


@RFC.follows(
    "6.5.2",
    "MUST",
    "A server MUST NOT explicitly set SETTINGS_ENABLE_PUSH to 1; its SETTINGS_MAX_FRAME_SIZE is "
    "between 2^14 and 2^24-1",
)
def test_settings_of_the_server(client):
    """With the limits that are documented: 100 streams, 64 KiB of fields and of stream window."""
    pairs = dict(client.frames[0].settings)
    assert pairs.get(ENABLE_PUSH, 0) == 0
    assert FRAME_BYTES <= pairs.get(MAX_FRAME_SIZE, FRAME_BYTES) < 1 << 24
    assert pairs[MAX_CONCURRENT_STREAMS] == 100
    assert pairs[MAX_HEADER_LIST_SIZE] == 65536
    assert pairs.get(INITIAL_WINDOW_SIZE, WINDOW) in (WINDOW, 65536)
    assert client.get("/").status and client.windows[0] == 1 << 20, "the connection's window"


@RFC.follows(
    "6.5.2",
    "plain",
    "SETTINGS_MAX_FRAME_SIZE is the largest payload that the sender of the setting takes",
)
def test_frames_of_the_server_fit(client):
    """The client here refuses a frame of more than 16384, the default."""
    assert len(client.get(worker.zeros(300000)).body) == 300000


@RFC.follows(
    "6.5.3",
    "MUST",
    "The values in the SETTINGS frame MUST be processed in the order they appear",
)
def test_order_of_settings(gate):
    """The last value of one setting counts."""
    with Http2(gate.front, [(INITIAL_WINDOW_SIZE, 5), (INITIAL_WINDOW_SIZE, 77)]) as client:
        client.credit = False
        stream = client.ask(worker.zeros(1000))
        client.until(lambda f: f.kind == DATA)
        client.quiet(0.1)
        assert len(client.response_on(stream).body) == 77


@RFC.follows(
    "6.6",
    "MUST",
    "PUSH_PROMISE MUST NOT be sent if the SETTINGS_ENABLE_PUSH of the peer is set to 0",
)
@RFC.follows(
    "8.4",
    "plain",
    "Server push is optional: Kipgate never pushes, and a worker's Link stays a field",
)
def test_nothing_is_pushed(client):
    """Even to a client that would take it (the client here refuses PUSH_PROMISE)."""
    client.send(settings((ENABLE_PUSH, 1)))
    served(client)


@RFC.follows(
    "8.4",
    "MUST",
    "Servers MUST treat the receipt of a PUSH_PROMISE frame as a connection error of type "
    "PROTOCOL_ERROR",
)
def test_push_by_a_client(client):
    """On an open stream."""
    stream = client.ask(worker.hang())
    block = b"\0\0\0\2" + client.block(http2.request("/"))
    client.send_anyway(frame(PUSH_PROMISE, END_HEADERS, stream, block))
    connection_error(client, PROTOCOL_ERROR)


@RFC.follows(
    "6.7",
    "MUST",
    "Receivers of a PING frame that does not include an ACK flag MUST send a PING frame with the "
    "ACK flag set in response, with an identical frame payload; and MUST NOT respond to one that "
    "has it",
)
def test_ping(client):
    """Each is answered once, an acknowledgment is not."""
    client.send(frame(PING, ACK, 0, b"unasked.") + frame(PING, 0, 0, b"\x00\xffpings\n"))
    got = client.until(lambda f: f.kind == PING)
    assert got.flags == ACK and got.payload == b"\x00\xffpings\n"
    assert not [f for f in client.quiet(0.05) if f.kind == PING]


@RFC.follows(
    "6.8",
    "plain",
    "A GOAWAY of the client ends nothing that is under way: its streams are answered",
)
def test_goaway_of_a_client(client):
    """The request before it, and the end of its response."""
    stream = client.ask(worker.slow(100))
    client.send(frame(GOAWAY, 0, 0, b"\0" * 8 + b"debug data"))
    assert client.response(stream).status == 200


@RFC.follows(
    "6.8",
    "SHOULD",
    "A server that is attempting to gracefully shut down a connection SHOULD send a GOAWAY with "
    "NO_ERROR; streams under way are finished",
)
@RFC.follows(
    "9.1",
    "SHOULD",
    "When either endpoint chooses to close the transport-layer TCP connection, the terminating "
    "endpoint SHOULD first send a GOAWAY frame",
)
def test_graceful_shutdown(echo):
    """A Kipgate that is asked to end: the answer comes whole, and a GOAWAY without an error."""
    with http2_gate({"echo": echo(routes=["/"])}) as kipgate:
        with Http2(kipgate.front) as client:
            stream = client.ask(worker.slow(500))
            client.quiet(0.1)
            kipgate.process.terminate()
            assert client.response(stream).status == 200
            assert client.goaway() == NO_ERROR


@RFC.follows(
    "6.9",
    "MUST",
    "A receiver MUST treat the receipt of a WINDOW_UPDATE frame with a flow-control window "
    "increment of 0 as a stream error of type PROTOCOL_ERROR; on the connection as a connection "
    "error",
)
@pytest.mark.parametrize("on", ["stream", "connection"])
def test_window_update_of_0(client, on):
    """Both."""
    stream = client.ask(worker.hang())
    client.send_anyway(window_update(stream if on == "stream" else 0, 0))
    if on == "stream":
        stream_error(client, stream, PROTOCOL_ERROR)
    else:
        connection_error(client, PROTOCOL_ERROR)


@RFC.follows(
    "6.9",
    "MAY",
    "A receiver MAY respond with a stream error or connection error of type FLOW_CONTROL_ERROR if "
    "it is unable to accept a frame (one beyond the window that it gave)",
)
def test_content_beyond_the_window(client):
    """While an instance is being started nothing of it can flow on."""
    stream = client.headers(http2.request("/late", method="POST"), end=False)
    for _ in range(16):
        client.data(stream, b"x" * FRAME_BYTES, end=False)
    stream_error(client, stream, FLOW_CONTROL_ERROR)


@RFC.follows(
    "6.9.1",
    "MUST",
    "If a sender receives a WINDOW_UPDATE that causes a flow-control window to exceed 2^31-1, it "
    "MUST terminate either the stream (RST_STREAM) or the connection (GOAWAY) with "
    "FLOW_CONTROL_ERROR",
)
@pytest.mark.parametrize("on", ["stream", "connection"])
def test_window_overflow(client, on):
    """By the largest increment there is."""
    stream = client.ask(worker.hang())
    client.send_anyway(window_update(stream if on == "stream" else 0, 2**31 - 1))
    if on == "stream":
        stream_error(client, stream, FLOW_CONTROL_ERROR)
    else:
        connection_error(client, FLOW_CONTROL_ERROR)


@RFC.follows(
    "6.9.1",
    "MAY",
    "Frames with zero length with the END_STREAM flag set MAY be sent if there is no available "
    "space in either flow-control window",
)
def test_the_end_needs_no_window(gate):
    """A response without content ends although nothing may flow."""
    with Http2(gate.front, [(INITIAL_WINDOW_SIZE, 0)]) as client:
        for path in (worker.zeros(0), "/status?code=204"):
            assert client.get(path).ended


@RFC.follows(
    "6.9.2",
    "MUST",
    "When the value of SETTINGS_INITIAL_WINDOW_SIZE changes, a receiver MUST adjust the size of "
    "all stream flow-control windows by the difference; a window may become negative",
)
def test_initial_window_changes(gate):
    """Larger, then smaller than what was used, then larger again."""
    with Http2(gate.front, [(INITIAL_WINDOW_SIZE, 100)]) as client:
        client.credit = False
        stream = client.ask(worker.zeros(1000))
        client.until(lambda f: f.kind == DATA)
        for size, total in [(300, 300), (50, 300), (310, 310), (1000, 1000)]:
            client.send(settings((INITIAL_WINDOW_SIZE, size)))
            client.quiet(0.08)
            assert len(client.response_on(stream).body) == total


@RFC.gap(
    "6.9.2",
    "MUST",
    "An endpoint MUST treat a change to SETTINGS_INITIAL_WINDOW_SIZE that causes any flow-control "
    "window to exceed the maximum size as a connection error of type FLOW_CONTROL_ERROR",
    "the stream is reset with FLOW_CONTROL_ERROR and the connection goes on, as nghttp2 does",
)
def test_initial_window_overflow(client):
    """A stream's window that was enlarged before."""
    stream = client.ask(worker.hang())
    client.send(window_update(stream, 2**31 - 1 - WINDOW))
    client.send_anyway(settings((INITIAL_WINDOW_SIZE, WINDOW + 1)))
    connection_error(client, FLOW_CONTROL_ERROR, timeout=0.5)


@RFC.follows(
    "6.10",
    "plain",
    "CONTINUATION frames continue a sequence of field block fragments; any number can be sent as "
    "long as the preceding frame is on the same stream without END_HEADERS",
)
def test_continuation(client):
    """A block in pieces of a few bytes, and an empty one."""
    stream = client.next_stream()
    block = client.block(http2.request("/", "x-long: " + "a" * 100))
    step = len(block) // 5
    pieces = [block[at : at + step] for at in range(0, len(block), step)]
    client.send(frame(HEADERS, END_STREAM, stream, pieces[0]) + frame(CONTINUATION, 0, stream, b""))
    for piece in pieces[1:-1]:
        client.send(frame(CONTINUATION, 0, stream, piece))
    client.send(frame(CONTINUATION, END_HEADERS, stream, pieces[-1]))
    assert b"x-long: " + b"a" * 100 in client.response(stream).body


@RFC.follows(
    "6.10",
    "MUST",
    "A CONTINUATION frame MUST be preceded by a HEADERS, PUSH_PROMISE or CONTINUATION frame "
    "without the END_HEADERS flag set; a violation is a connection error of type PROTOCOL_ERROR",
)
def test_continuation_of_nothing(client):
    """Behind a block that has ended."""
    stream = client.ask(worker.hang())
    client.send_anyway(frame(CONTINUATION, END_HEADERS, stream, b""))
    connection_error(client, PROTOCOL_ERROR)


@RFC.follows(
    "6.5.3",
    "MAY",
    "If the sender of a SETTINGS frame does not receive an acknowledgment within a reasonable "
    "amount of time, it MAY issue a connection error of type SETTINGS_TIMEOUT (Kipgate does not: "
    "its limits hold from the first frame on)",
)
def test_settings_never_acknowledged(gate):
    """Requests are served all the same."""
    with Http2(gate.front) as client:
        stream = client.ask("/")
        client.send_anyway = lambda data: client  # from here on nothing more is sent
        assert client.response(stream).status == 200
