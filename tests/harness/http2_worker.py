# SPDX-License-Identifier: Apache-2.0
"""A worker of HTTP/2 in a test's own hands: every frame that it sends is the test's. The
difficulty: Kipgate connects only to containers, so one relays bytes to a Unix socket of ours."""
import dataclasses
import pathlib
import shutil
import socket
import struct
import tempfile
import threading

import hpack

from harness import http2
from harness.http2 import ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PADDED, PING
from harness.http2 import PREFACE, PRIORITIZED, SETTINGS, Frame, frame, settings
from harness.waiting import Mailbox

RELAY = """
use strict; use IO::Socket::INET; use IO::Socket::UNIX; use IO::Select;
$SIG{CHLD} = 'IGNORE'; $SIG{TERM} = sub { exit };
my $listener = IO::Socket::INET->new(LocalPort => 8080, Listen => 64, ReuseAddr => 1) or die;
while (my $near = $listener->accept) {
    next if fork;
    my $far = IO::Socket::UNIX->new(Peer => '/far/worker.sock') or exit;
    my $open = IO::Select->new($near, $far);
    my %other = ($near => $far, $far => $near);
    while (my @ready = $open->can_read) {
        for my $from (@ready) {
            my $n = sysread $from, my $bytes, 65536;
            if (!$n) {
                shutdown $other{$from}, 1;
                $open->remove($from);
                exit if !$open->count;
            }
            for (my $at = 0; $at < ($n || 0);) {
                $at += syswrite($other{$from}, $bytes, $n - $at, $at) || exit;
            }
        }
    }
    exit;
}
"""


@dataclasses.dataclass
class Request:
    """A request on a stream, as far as it has come."""

    connection: object
    stream: int
    fields: list = dataclasses.field(default_factory=list)
    body: bytes = b""
    trailers: list = dataclasses.field(default_factory=list)
    ended: bool = False

    def all(self, name):
        """Every value of a field, in order."""
        return [value for key, value in self.fields if key == name]

    @property
    def path(self):
        """The :path."""
        return (self.all(":path") or [""])[0]


class Connection(threading.Thread):
    """One connection of Kipgate's. SETTINGS and PING are acknowledged, windows not given back."""

    def __init__(self, worker, made):
        super().__init__(daemon=True)
        self.worker, self.socket = worker, made
        self.encoder, self.decoder = hpack.Encoder(), hpack.Decoder()
        self.frames = Mailbox()
        self.preface = b""
        self.requests = {}
        self.ended = threading.Event()
        self._block = b""
        self._lock = threading.Lock()  # blocks must go out in the order in which they were made

    def send(self, data):
        """Sends bytes; a connection that is gone takes them silently."""
        try:
            self.socket.sendall(data)
        except OSError:
            pass

    def close(self):
        """Ends it."""
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def headers(self, stream, fields, end=False):
        """Sends a HEADERS frame; names are sent as they are."""
        flags = END_HEADERS | (END_STREAM if end else 0)
        with self._lock:
            self.send(frame(HEADERS, flags, stream, self.encoder.encode(fields, huffman=False)))

    def data(self, stream, payload=b"", end=True):
        """Sends a DATA frame."""
        self.send(frame(DATA, END_STREAM if end else 0, stream, payload))

    def answer(self, stream, body=b"ok", *more):
        """Sends a whole response; `more` are pairs."""
        self.headers(stream, [(":status", "200"), ("content-length", str(len(body))), *more])
        self.data(stream, body)

    def _exactly(self, count):
        data = b""
        while len(data) < count:
            got = self.socket.recv(count - len(data))
            if not got:
                raise EOFError
            data += got
        return data

    def run(self):
        """Reads to the end."""
        try:
            self.preface = self._exactly(len(PREFACE))
            self.send(settings(*self.worker.settings))
            while True:
                word, flags, stream = struct.unpack(">IBI", self._exactly(9))
                got = Frame(word & 0xFF, flags, stream, self._exactly(word >> 8))
                self._note(got)
                self.frames.put(got)
        except (EOFError, OSError):
            pass
        finally:
            self.ended.set()
            self.socket.close()

    def _note(self, got):
        if got.kind == SETTINGS and not got.flags & ACK:
            self.send(settings(flags=ACK))
        elif got.kind == PING and not got.flags & ACK:
            self.send(frame(PING, ACK, 0, got.payload))
        elif got.kind in (HEADERS, CONTINUATION):
            self._note_block(got)
        elif got.kind == DATA and got.stream in self.requests:
            request, payload = self.requests[got.stream], got.payload
            if got.flags & PADDED:
                payload = payload[1 : len(payload) - payload[0]]
            request.body += payload
            self._note_end(request, got.flags)

    def _note_block(self, got):
        payload = got.payload
        if got.kind == HEADERS:
            if got.flags & PADDED:
                payload = payload[1 : len(payload) - payload[0]]
            if got.flags & PRIORITIZED:
                payload = payload[5:]
            self._block, self._flags = b"", got.flags
        self._block += payload
        if not got.flags & END_HEADERS:
            return
        decoded = self.decoder.decode(self._block, raw=True)
        fields = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in decoded]
        request = self.requests.get(got.stream)
        if request:
            request.trailers = fields
        else:
            request = self.requests[got.stream] = Request(self, got.stream, fields)
            self.worker.begun.put(request)
            begin = self.worker.on_begin.get(request.path)
            if begin:
                begin(self, request)
        self._note_end(request, self._flags)

    def _note_end(self, request, flags):
        if not flags & END_STREAM:
            return
        request.ended = True
        self.worker.requests.put(request)
        handler = self.worker.on_end.get(request.path)
        if handler:
            handler(self, request)
        elif request.path not in self.worker.on_begin:
            self.answer(request.stream, f"{request.stream}".encode())


class Http2Worker:
    """Serves until `close`. `on_end[path]` is called as (connection, request) when a request is
    whole, `on_begin[path]` when its head is; without either it is answered with its stream."""

    def __init__(self, image):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="kgw"))
        self.directory.chmod(0o755)
        path = self.directory / "worker.sock"
        self.settings = ()
        self.begun, self.requests = Mailbox(), Mailbox()
        self.on_begin, self.on_end = {}, {}
        self.connections = []
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        path.chmod(0o777)
        self.listener.listen(64)
        self.service = {
            "image": image,
            "pull": "never",
            "command": ["perl", "-e", RELAY],
            "port": 8080,
            "volumes": [f"{self.directory}:/far"],
            "protocol": "h2c",
            "idle_timeout": "10m",
        }
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                made = self.listener.accept()[0]
            except OSError:
                return
            connection = Connection(self, made)
            self.connections.append(connection)
            connection.start()

    def close(self):
        """Ends all."""
        self.listener.close()
        for connection in self.connections:
            connection.close()
        shutil.rmtree(self.directory, ignore_errors=True)


def gives_back(connection, stream, count):
    """Windows of a stream and its connection."""
    connection.send(http2.window_update(0, count) + http2.window_update(stream, count))
