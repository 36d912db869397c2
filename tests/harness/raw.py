# SPDX-License-Identifier: Apache-2.0
"""An HTTP/1 client that says exactly the bytes it is given and hides nothing of what comes back.
The difficulty: it must be stricter than what it tests, so it has its own small parser."""
import dataclasses
import socket
import struct
import time


class Broken(AssertionError):
    """The bytes that came are not a whole, well-formed response."""


@dataclasses.dataclass
class Response:
    """One response as it came."""

    version: str
    status: int
    reason: str
    fields: list
    body: bytes = b""
    trailers: list = dataclasses.field(default_factory=list)
    framing: str = "none"  # none, length, chunked, close
    interim: list = dataclasses.field(default_factory=list)
    raw_head: bytes = b""

    def all(self, name):
        """Every value of a field, in order."""
        return [value for key, value in self.fields if key.lower() == name.lower()]

    def one(self, name):
        """The value of a field that must not come twice; None when absent."""
        values = self.all(name)
        if len(values) > 1:
            raise Broken(f"{name} came {len(values)} times: {values}")
        return values[0] if values else None

    @property
    def closes(self):
        """Whether the sender says that this was the last one on the connection."""
        tokens = [t.strip().lower() for v in self.all("Connection") for t in v.split(",")]
        return "close" in tokens or (self.version == "HTTP/1.0" and "keep-alive" not in tokens)


def parse_fields(lines):
    """Name and value of each field line; raises on anything sloppy."""
    fields = []
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not name or name != name.strip() or b" " in name:
            raise Broken(f"bad field line {line!r}")
        fields.append((name.decode("latin-1"), value.strip(b" \t").decode("latin-1")))
    return fields


def parse_head(head):
    """A response's head without its empty line."""
    lines = head.split(b"\r\n")
    if any(b"\n" in line or b"\r" in line for line in lines):
        raise Broken(f"a bare CR or LF in {head!r}")
    parts = lines[0].split(b" ", 2)
    if len(parts) < 2 or parts[0] not in (b"HTTP/1.1", b"HTTP/1.0") or len(parts[1]) != 3:
        raise Broken(f"bad status line {lines[0]!r}")
    reason = parts[2] if len(parts) == 3 else b""
    return Response(
        parts[0].decode(),
        int(parts[1]),
        reason.decode("latin-1"),
        parse_fields(lines[1:]),
        raw_head=head,
    )


class RawClient:
    """One connection. Every read has a deadline; a deadline that passes is socket.timeout."""

    def __init__(self, address, timeout=10.0, receive_buffer=None):
        """`address` is (host, port) or the path of a Unix socket."""
        unix = isinstance(address, str)
        self.socket = socket.socket(socket.AF_UNIX if unix else socket.AF_INET)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.timeout = timeout
        self.socket.settimeout(timeout)
        self.socket.connect(address)
        if not unix:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.pending = b""
        self.eof = False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Ends the connection (FIN)."""
        self.socket.close()

    def reset(self):
        """Ends the connection with a RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def half_close(self):
        """Says that nothing more will be sent."""
        self.socket.shutdown(socket.SHUT_WR)

    def send(self, data):
        """Sends all bytes."""
        self.socket.settimeout(self.timeout)
        self.socket.sendall(data)
        return self

    def send_anyway(self, data):
        """Sends what the peer still takes: it may have refused and closed already."""
        try:
            self.send(data)
        except (BrokenPipeError, ConnectionResetError, socket.timeout):
            pass
        return self

    def send_pieces(self, data, size, pause=0.0):
        """Sends in segments of `size` bytes."""
        for at in range(0, len(data), size):
            self.send(data[at : at + size])
            if pause:
                time.sleep(pause)
        return self

    def fill(self, deadline):
        """Reads once. False at the end of the stream; a reset raises ConnectionResetError."""
        if self.eof:
            return False
        left = deadline - time.monotonic()
        if left <= 0:
            raise socket.timeout(f"nothing more came; so far {self.pending[:200]!r}")
        self.socket.settimeout(left)
        got = self.socket.recv(1 << 16)
        if not got:
            self.eof = True
            return False
        self.pending += got
        return True

    def _until(self, mark, deadline):
        """Bytes up to a mark, which is taken too."""
        while mark not in self.pending:
            if not self.fill(deadline):
                raise Broken(f"the stream ended before {mark!r}: {self.pending[:300]!r}")
        taken, _, self.pending = self.pending.partition(mark)
        return taken

    def _exactly(self, count, deadline):
        """That many bytes."""
        while len(self.pending) < count:
            if not self.fill(deadline):
                raise Broken(f"the stream ended {count - len(self.pending)} bytes short of {count}")
        taken, self.pending = self.pending[:count], self.pending[count:]
        return taken

    def head(self, timeout=None):
        """The next head, interim ones included, without its body."""
        deadline = time.monotonic() + (timeout or self.timeout)
        return parse_head(self._until(b"\r\n\r\n", deadline))

    def final_head(self, timeout=None):
        """The next final head; interim ones are kept in `interim`."""
        interim = []
        while True:
            response = self.head(timeout)
            if response.status >= 200 or response.status == 101:
                response.interim = interim
                return response
            interim.append(response)

    def response(self, method="GET", timeout=None):
        """The next whole response."""
        deadline = time.monotonic() + (timeout or self.timeout)
        response = self.final_head(timeout)
        self.body_of(response, method, deadline)
        return response

    def body_of(self, response, method, deadline):
        """Reads the body that belongs to a head, by its framing."""
        encodings, lengths = response.all("Transfer-Encoding"), response.all("Content-Length")
        if encodings and lengths:
            raise Broken("Content-Length and Transfer-Encoding together")
        if method == "HEAD" or response.status in (101, 204, 304):
            return
        if encodings:
            if [e.lower() for e in encodings] != ["chunked"]:
                raise Broken(f"Transfer-Encoding {encodings}")
            response.framing = "chunked"
            self._chunks(response, deadline)
        elif lengths:
            if len(lengths) != 1 or not lengths[0].isdigit():
                raise Broken(f"Content-Length {lengths}")
            response.framing = "length"
            response.body = self._exactly(int(lengths[0]), deadline)
        else:
            response.framing = "close"
            while self.fill(deadline):
                pass
            response.body, self.pending = self.pending, b""

    def _chunks(self, response, deadline):
        """A chunked body with its trailers. No chunk extension may ever come through."""
        pieces = []
        while True:
            line = self._until(b"\r\n", deadline)
            if not line or line.strip(b"0123456789abcdefABCDEF"):
                raise Broken(f"bad chunk line {line!r}")
            size = int(line, 16)
            if size == 0:
                break
            pieces.append(self._exactly(size, deadline))
            if self._exactly(2, deadline) != b"\r\n":
                raise Broken("a chunk without its end")
        response.body = b"".join(pieces)
        lines = []
        while True:
            line = self._until(b"\r\n", deadline)
            if not line:
                break
            lines.append(line)
        response.trailers = parse_fields(lines)

    def rest(self, timeout=None):
        """Everything until the stream ends; "reset" is told from an orderly end by `was_reset`."""
        deadline = time.monotonic() + (timeout or self.timeout)
        self.was_reset = False
        try:
            while self.fill(deadline):
                pass
        except ConnectionResetError:
            self.was_reset = True
            self.eof = True
        taken, self.pending = self.pending, b""
        return taken

    def ended(self, timeout=None):
        """Whether nothing but the end comes now (an orderly one or a reset)."""
        return self.rest(timeout) == b""


def request(address, data, method="GET", timeout=10.0):
    """One connection, one request, one whole response."""
    with RawClient(address, timeout) as client:
        return client.send(data).response(method)


def get(address, target="/", fields=(), host="kipgate.test", timeout=10.0, method="GET", body=b""):
    """A plain request on a connection of its own."""
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in fields]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    data = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body
    return request(address, data, method, timeout)
