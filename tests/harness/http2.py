# SPDX-License-Identifier: Apache-2.0
"""An HTTP/2 client (RFC 9113) that sends exactly the frames it is told and shows all that come
back. The difficulty: it must be able to break every rule, so frames are bytes here and only
HPACK comes from a library; what the server may not do is refused while reading."""
import dataclasses
import socket
import struct
import time

import hpack

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS = 0, 1, 2, 3, 4
PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 5, 6, 7, 8, 9
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITIZED = 0x1, 0x1, 0x4, 0x8, 0x20

HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS = 1, 2, 3
INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = 4, 5, 6

NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR = 0, 1, 2, 3
STREAM_CLOSED, FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL = 5, 6, 7, 8
COMPRESSION_ERROR, ENHANCE_YOUR_CALM = 9, 11

FRAME_BYTES = 16384  # the most that a peer may send unless it is told otherwise
WINDOW = 65535


class Broken(AssertionError):
    """The server sent what no server may send."""


class ConnectionError_(Exception):
    """The server ended the connection while something else was awaited."""


@dataclasses.dataclass
class Frame:
    """One frame as it came."""

    kind: int
    flags: int
    stream: int
    payload: bytes

    @property
    def code(self):
        """The error code of a RST_STREAM or GOAWAY."""
        at = 4 if self.kind == GOAWAY else 0
        return struct.unpack(">I", self.payload[at : at + 4])[0]

    @property
    def settings(self):
        """Pairs of a SETTINGS frame, in order."""
        return [
            struct.unpack(">HI", self.payload[at : at + 6]) for at in range(0, len(self.payload), 6)
        ]


@dataclasses.dataclass
class Response:
    """What came on a stream."""

    status: int = 0
    fields: list = dataclasses.field(default_factory=list)
    body: bytes = b""
    trailers: list = dataclasses.field(default_factory=list)
    interim: list = dataclasses.field(default_factory=list)
    ended: bool = False
    reset: int | None = None  # the code of the RST_STREAM that came

    def all(self, name):
        """Every value of a field, in order."""
        return [value for key, value in self.fields if key == name]

    def one(self, name):
        """The value of a field that must not come twice; None when absent."""
        values = self.all(name)
        if len(values) > 1:
            raise Broken(f"{name} came {len(values)} times: {values}")
        return values[0] if values else None


def frame(kind, flags=0, stream=0, payload=b"", length=None):
    """A frame's bytes; `length` may lie."""
    n = len(payload) if length is None else length
    return struct.pack(">IBI", n << 8 | kind, flags, stream) + payload


def settings(*pairs, flags=0, stream=0):
    """A SETTINGS frame's bytes."""
    return frame(SETTINGS, flags, stream, b"".join(struct.pack(">HI", *pair) for pair in pairs))


def window_update(stream, increment):
    """A WINDOW_UPDATE frame's bytes."""
    return frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", increment))


def rst_stream(stream, code=CANCEL):
    """A RST_STREAM frame's bytes."""
    return frame(RST_STREAM, 0, stream, struct.pack(">I", code))


class Http2:
    """One connection. Every read has a deadline; one that passes is socket.timeout."""

    def __init__(self, address, pairs=(), timeout=5.0, begin=True):
        """`begin`: sends the preface with SETTINGS of `pairs` at once."""
        self.timeout = timeout
        self.socket = self.connect(address)
        self.encoder = hpack.Encoder()
        self.decoder = hpack.Decoder()
        self.decoder.max_header_list_size = 1 << 20
        self.pending = b""
        self.frames = []  # all that came, in order
        self.responses = {}
        self.last_stream = -1
        self.credit = True  # whether what came is given back by WINDOW_UPDATE
        self.eof = False
        self.windows = {0: WINDOW}  # what the server still takes, by stream
        self.initial_window = WINDOW
        self._block = None  # of a HEADERS that CONTINUATION goes on
        if begin:
            self.send(PREFACE + settings(*pairs))

    def connect(self, address):
        """A socket that is connected to (host, port) or the path of a Unix socket."""
        unix = isinstance(address, str)
        made = socket.socket(socket.AF_UNIX if unix else socket.AF_INET)
        made.settimeout(self.timeout)
        made.connect(address)
        if not unix:
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    # --- sending ---------------------------------------------------------------------------------

    def send(self, data):
        """Sends all bytes."""
        self.socket.settimeout(self.timeout)
        self.socket.sendall(data)
        return self

    def send_anyway(self, data):
        """Sends what the server still takes."""
        try:
            self.send(data)
        except (BrokenPipeError, ConnectionResetError, socket.timeout):
            pass
        return self

    def next_stream(self):
        """The identifier of the next request's stream."""
        self.last_stream += 2
        return self.last_stream

    def block(self, fields):
        """A field block; names are sent as they are."""
        return self.encoder.encode(fields, huffman=False)

    def headers(self, fields, end=True, stream=None, flags=END_HEADERS):
        """Sends a HEADERS frame and gives its stream."""
        stream = stream or self.next_stream()
        flags |= END_STREAM if end else 0
        self.send_anyway(frame(HEADERS, flags, stream, self.block(fields)))
        return stream

    def data(self, stream, payload=b"", end=True):
        """Sends a DATA frame, however large."""
        return self.send_anyway(frame(DATA, END_STREAM if end else 0, stream, payload))

    def ask(self, path="/", *more, method="GET", body=None, authority="kipgate.test"):
        """Sends a request; gives its stream."""
        fields = request(path, *more, method=method, authority=authority)
        stream = self.headers(fields, end=body is None)
        if body is not None:
            self.upload(stream, body)
        return stream

    def window(self, stream):
        """How many bytes may be sent on a stream now."""
        return min(self.windows[0], self.windows.setdefault(stream, self.initial_window))

    def upload(self, stream, body, end=True):
        """Sends content within the server's windows, waiting for them."""
        at, deadline = 0, time.monotonic() + self.timeout
        while True:
            n = min(self.window(stream), FRAME_BYTES, len(body) - at)
            if n > 0 or at == len(body):
                self.data(stream, body[at : at + n], end and at + n == len(body))
                self.windows[0] -= n
                self.windows[stream] -= n
                at += n
                if at == len(body):
                    return
            else:
                self.read(max(0.001, deadline - time.monotonic()))

    # --- receiving -------------------------------------------------------------------------------

    def _exactly(self, count, deadline):
        while len(self.pending) < count:
            left = deadline - time.monotonic()
            if left <= 0:
                raise socket.timeout(f"nothing more came; frames so far: {self.frames[-5:]}")
            self.socket.settimeout(left)
            try:
                got = self.socket.recv(1 << 16)
            except ConnectionResetError:
                got = b""
            if not got:
                self.eof = True
                raise ConnectionError_(f"the connection ended; frames: {self.frames[-5:]}")
            self.pending += got
        taken, self.pending = self.pending[:count], self.pending[count:]
        return taken

    def read(self, timeout=None):
        """The next frame; its effects on streams are noted, SETTINGS and PING are acknowledged."""
        deadline = time.monotonic() + (timeout or self.timeout)
        head = self._exactly(9, deadline)
        word, flags, stream = struct.unpack(">IBI", head)
        if word >> 8 > FRAME_BYTES:
            raise Broken(f"a frame of {word >> 8} bytes")
        got = Frame(word & 0xFF, flags, stream, self._exactly(word >> 8, deadline))
        if stream >> 31:
            raise Broken("the reserved bit is set")
        self.frames.append(got)
        self._note(got)
        return got

    def _note(self, got):
        if len(self.frames) == 1 and (got.kind != SETTINGS or got.flags & ACK):
            raise Broken(f"the first frame is no SETTINGS: {got}")
        if self._block is not None and got.kind != CONTINUATION:
            raise Broken(f"a frame within a field block: {got}")
        if got.kind == SETTINGS and not got.flags & ACK:
            self.send_anyway(settings(flags=ACK))
            self._note_settings(got)
        elif got.kind == PING and not got.flags & ACK:
            self.send_anyway(frame(PING, ACK, 0, got.payload))
        elif got.kind == PUSH_PROMISE:
            raise Broken("a push")
        elif got.kind in (HEADERS, CONTINUATION):
            self._note_block(got)
        elif got.kind == DATA:
            self._note_data(got)
        elif got.kind == RST_STREAM:
            self.response_on(got.stream).reset = got.code
        elif got.kind == WINDOW_UPDATE:
            increment = struct.unpack(">I", got.payload)[0]
            self.windows[got.stream] = self.windows.get(got.stream, self.initial_window) + increment

    def _note_settings(self, got):
        for key, value in got.settings:
            if key == INITIAL_WINDOW_SIZE:
                for stream in [s for s in self.windows if s]:
                    self.windows[stream] += value - self.initial_window
                self.initial_window = value

    def response_on(self, stream):
        """What came on a stream so far."""
        return self.responses.setdefault(stream, Response())

    def _note_block(self, got):
        payload, response = got.payload, self.response_on(got.stream)
        if response.ended or response.reset is not None:
            raise Broken(f"a field block behind the end of stream {got.stream}")
        if got.kind == HEADERS and got.flags & PADDED:
            payload = payload[1 : len(payload) - payload[0]]
        if got.kind == HEADERS and got.flags & PRIORITIZED:
            payload = payload[5:]
        if got.kind == HEADERS:
            self._block, self._block_ends = b"", bool(got.flags & END_STREAM)
        self._block += payload
        if not got.flags & END_HEADERS:
            return
        decoded = self.decoder.decode(self._block, raw=True)
        fields = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in decoded]
        self._block = None
        self._note_fields(response, fields)
        response.ended = self._block_ends

    def _note_fields(self, response, fields):
        for name, value in fields:
            if name != name.lower() or value != value.strip(" \t"):
                raise Broken(f"field {name!r}: {value!r}")
            if name in ("connection", "keep-alive", "transfer-encoding", "upgrade"):
                raise Broken(f"connection-specific field {name!r}")
        pseudo = [name for name, _ in fields if name.startswith(":")]
        if response.status >= 200:
            if pseudo or not self._block_ends:
                raise Broken(f"trailers {fields}, end of stream {self._block_ends}")
            response.trailers = fields
            return
        if pseudo != [":status"] or fields[0][0] != ":status":
            raise Broken(f"pseudo-header fields {pseudo}")
        status = int(fields[0][1])
        if status < 200:
            response.interim.append((status, fields[1:]))
            if self._block_ends:
                raise Broken("an interim response ends the stream")
        else:
            response.status, response.fields = status, fields[1:]

    def _note_data(self, got):
        response, payload = self.response_on(got.stream), got.payload
        if response.status == 0 or response.ended or response.reset is not None:
            raise Broken(f"DATA out of place on stream {got.stream}")
        if got.flags & PADDED:
            payload = payload[1 : len(payload) - payload[0]]
        response.body += payload
        response.ended = bool(got.flags & END_STREAM)
        if self.credit and got.payload:
            updates = window_update(0, len(got.payload))
            if not response.ended:
                updates += window_update(got.stream, len(got.payload))
            self.send_anyway(updates)

    def until(self, wanted, timeout=None):
        """Reads until wanted(frame) holds; gives that frame."""
        deadline = time.monotonic() + (timeout or self.timeout)
        while True:
            got = self.read(max(0.001, deadline - time.monotonic()))
            if wanted(got):
                return got

    def response(self, stream, timeout=None):
        """The whole response on a stream, or what came before it was reset."""
        response = self.response_on(stream)
        deadline = time.monotonic() + (timeout or self.timeout)
        while not response.ended and response.reset is None:
            self.read(max(0.001, deadline - time.monotonic()))
        return response

    def get(self, path="/", *more, **how):
        """A request and its response."""
        return self.response(self.ask(path, *more, **how))

    def quiet(self, seconds):
        """Frames that came within a while."""
        before, deadline = len(self.frames), time.monotonic() + seconds
        try:
            while time.monotonic() < deadline:
                self.read(max(0.001, deadline - time.monotonic()))
        except socket.timeout:
            pass
        return self.frames[before:]

    def goaway(self, timeout=None):
        """Reads to the end of the connection; gives the code of the last GOAWAY, or None."""
        try:
            self.until(lambda got: False, timeout)
        except ConnectionError_:
            pass
        codes = [got.code for got in self.frames if got.kind == GOAWAY]
        return codes[-1] if codes else None


def request(path="/", *more, method="GET", authority="kipgate.test", scheme="http"):
    """The fields of a request; `more` are "name: value" lines."""
    fields = [(":method", method), (":scheme", scheme), (":path", path), (":authority", authority)]
    return fields + [tuple(line.split(": ", 1)) for line in more]
