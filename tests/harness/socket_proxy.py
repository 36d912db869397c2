# SPDX-License-Identifier: Apache-2.0
"""A socket proxy that lets the calls of packaging/socket-proxy.env pass to the engine and refuses all
others with 403, as wollomatic/socket-proxy does. The difficulty: whoever hangs up ends the other
side too, else a call that was given up would seem to go on."""
import contextlib
import pathlib
import re
import selectors
import shutil
import socket
import tempfile
import threading
import urllib.parse
from typing import NamedTuple

ALLOW_LIST = pathlib.Path(__file__).parents[2] / "packaging/socket-proxy.env"
REFUSAL = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Call(NamedTuple):
    """One call as it came."""

    method: str
    path: str  # decoded, without the query
    query: dict
    body: bytes


def allow_list(path=ALLOW_LIST):
    """Its regular expressions by method, anchored."""
    lines = [line for line in path.read_text().splitlines() if line.startswith("SP_ALLOW_")]
    pairs = [line.removeprefix("SP_ALLOW_").split("=", 1) for line in lines]
    return {method: re.compile(f"^{words}$") for method, words in pairs}


class SocketProxy:
    """Listens on a Unix socket; `host` is its address as DOCKER_HOST has it."""

    def __init__(self, engine, allowed=None):
        self.engine = engine.removeprefix("unix://")
        self.allowed = allowed or allow_list()
        self.calls, self.refused = [], []
        self.directory = tempfile.mkdtemp(prefix="kgp")
        path = f"{self.directory}/docker.sock"
        self.host = f"unix://{path}"
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(128)
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        """Ends it; calls under way go on to their end."""
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        """One call; the connection ends with it."""
        with client, contextlib.suppress(OSError):
            data = until(client, b"\r\n\r\n")
            if data is None:
                return
            head, _, body = data.partition(b"\r\n\r\n")
            body = whole_body(client, head, body)
            call = parse(head, body)
            pattern = self.allowed.get(call.method)
            allowed = pattern and pattern.match(call.path)
            (self.calls if allowed else self.refused).append(call)
            if not allowed:
                client.sendall(REFUSAL)
                return
            with socket.socket(socket.AF_UNIX) as engine:
                engine.connect(self.engine)
                engine.sendall(closing(head) + body)
                relay(engine, client)


def until(peer, mark):
    """Bytes up to a mark and perhaps beyond; None at an early end."""
    data = b""
    while mark not in data:
        got = peer.recv(1 << 16)
        if not got:
            return None
        data += got
    return data


def field(head, name):
    """Value of a field, lower-case, or ''."""
    found = re.search(rb"\r\n" + name + rb":[ \t]*([^\r\n]*)", head, re.IGNORECASE)
    return found[1].strip().lower() if found else b""


def whole_body(client, head, body):
    """The rest of the body, as it is framed."""
    if field(head, b"expect") == b"100-continue":
        client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    length = int(field(head, b"content-length") or 0)
    chunked = field(head, b"transfer-encoding") == b"chunked"
    while len(body) < length or (chunked and not body.endswith(b"0\r\n\r\n")):
        got = client.recv(1 << 16)
        if not got:
            break
        body += got
    return body


def parse(head, body):
    """What is asked."""
    method, target, _ = head.split(b"\r\n", 1)[0].decode().split(" ")
    path, _, query = target.partition("?")
    pairs = urllib.parse.parse_qsl(query, keep_blank_values=True)
    return Call(method, urllib.parse.unquote(path), dict(pairs), body)


def closing(head):
    """The head as it goes on: one call per connection."""
    lines = [
        line
        for line in head.split(b"\r\n")
        if not line.lower().startswith((b"connection:", b"expect:"))
    ]
    return b"\r\n".join([*lines, b"Connection: close"]) + b"\r\n\r\n"


def relay(engine, client):
    """The answer, until either side ends."""
    with selectors.DefaultSelector() as selector:  # select() knows no descriptor over 1023
        selector.register(engine, selectors.EVENT_READ)
        selector.register(client, selectors.EVENT_READ)
        while True:
            ready = [key.fileobj for key, _ in selector.select()]
            if client in ready and not client.recv(1 << 16):
                return
            if engine in ready:
                data = engine.recv(1 << 16)
                if not data:
                    return
                client.sendall(data)
