# SPDX-License-Identifier: Apache-2.0
"""What stands between Kipgate and the engine and does harm to chosen calls: a Unix socket that
forwards. The difficulty: harm must hit a call at a known step of it, so each request is read
whole, gets a connection of its own to the engine, and its container is known by name."""
import json
import pathlib
import re
import select
import shutil
import socket
import struct
import tempfile
import threading
import time
import urllib.parse

EVENTS = "/events"


class Request:
    """One call as it came; `name` is the container's where that is known."""

    def __init__(self, head, body, names):
        first, *self.fields = head.decode("latin-1").split("\r\n")
        self.method, target, self.version = first.split(" ")
        self.path = re.sub(r"^/v1\.[0-9]+", "", target)
        self.target, self.body = target, body
        self.what, _, query = self.path.partition("?")
        self.name = urllib.parse.parse_qs(query).get("name", [None])[0]
        match = re.match(r"/containers/([^/]+)", self.what)
        if match and not self.name:
            self.name = names.get(match[1], match[1])
        self.verb = self._verb()

    def _verb(self):
        """create, start, stop, remove, look, list, ping, events, or the path itself."""
        if self.what.startswith("/containers/"):
            last = self.what.rpartition("/")[2]
            if self.method == "DELETE":
                return "remove"
            return {"json": "list" if self.what == "/containers/json" else "look"}.get(last, last)
        return {"/_ping": "ping", EVENTS: "events", "/info": "info"}.get(self.what, self.what)

    def forwarded(self):
        """Its bytes, asking for the end of the connection."""
        kept = [f for f in self.fields if not f.lower().startswith("connection:")]
        lines = [f"{self.method} {self.target} {self.version}", *kept, "Connection: close"]
        return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + self.body


class Harm:
    """What is done to the calls that match, at most `times` of them (None: all).
    before(), after(), answered(): called when the call has arrived, `after_s` after it was
    forwarded, and when its answer has been passed on. delay: seconds before it is forwarded, unless
    its caller hangs up (stubborn: nevertheless, and then its answer is awaited).
    reset: "before" (nothing reaches the engine), "after" (done, no answer) or a number of bytes of
    the answer. answer: bytes instead of the engine's. change: function of the answer's pieces."""

    def __init__(self, matches, times=1, **what):
        self.matches, self.left = matches, times
        self.before = self.after = self.answered = None
        self.after_s, self.delay, self.reset, self.answer, self.change = 0.0, 0.0, None, None, None
        self.stubborn = False
        self.hits = 0
        self.done = threading.Event()  # what was to be done to a call has been done
        self.__dict__.update(what)


NONE = Harm(None)


def reset(connection):
    """Ends a connection so that the peer can tell."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


class Between:
    """Listens on a socket of its own; `host` is its address."""

    def __init__(self, engine_host):
        self.engine = engine_host.removeprefix("unix://")
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="kgb"))
        self.path = self.directory / "engine.sock"
        self.host = f"unix://{self.path}"
        self.harms, self.names, self.seen = [], {}, []
        self.lock = threading.Lock()
        self.open, self.streams = set(), set()
        self.mute = False  # events are read and not passed on
        self.listener = None
        self.back()

    # --- what a test says ------------------------------------------------------------------------

    def harm(self, verb, name="", times=1, **what):
        """Harms calls of that verb (None: all) on containers whose name has that beginning."""

        def matches(r):
            return verb in (None, r.verb) and (r.name or "").startswith(name)

        made = Harm(matches, times, **what)
        with self.lock:
            self.harms.append(made)
        return made

    def heal(self):
        """No more harm."""
        with self.lock:
            self.harms.clear()
        self.mute = False

    def cut_events(self):
        """Ends the event streams that are open."""
        self._cut(self.streams)

    def gone(self):
        """The socket is gone from the file system, and so are all connections."""
        self.path.unlink()
        self.listener.close()
        self._cut(self.open)

    def back(self):
        """The socket is there (again)."""
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(self.path))
        self.listener.listen(64)
        threading.Thread(target=self._accept, args=(self.listener,), daemon=True).start()

    def stop(self):
        """Ends all."""
        self.listener.close()
        self._cut(self.open)
        shutil.rmtree(self.directory, ignore_errors=True)

    def count(self, verb, name=""):
        """How many such calls came."""
        return sum(r.verb == verb and (r.name or "").startswith(name) for r in list(self.seen))

    # --- a connection ----------------------------------------------------------------------------

    def _cut(self, which):
        with self.lock:
            victims = list(which)
        for one in victims:
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def _accept(self, listener):
        while True:
            try:
                here, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(here,), daemon=True).start()

    def _serve(self, here):
        with self.lock:
            self.open.add(here)
        try:
            request = self._read(here)
            if request:
                self.seen.append(request)
                self._pass(here, request, self._harm_of(request))
        except OSError:
            pass
        finally:
            with self.lock:
                self.open.discard(here)
                self.streams.discard(here)
            here.close()

    def _read(self, here):
        data = b""
        while b"\r\n\r\n" not in data:
            more = here.recv(65536)
            if not more:
                return None
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        match = re.search(rb"(?i)\r\ncontent-length: *([0-9]+)", head)
        while match and len(body) < int(match[1]):
            more = here.recv(65536)
            if not more:
                return None
            body += more
        return Request(head, body, self.names)

    def _harm_of(self, request):
        with self.lock:
            for harm in self.harms:
                if harm.left != 0 and harm.matches(request):
                    harm.left = None if harm.left is None else harm.left - 1
                    harm.hits += 1
                    return harm
        return NONE

    def _pass(self, here, request, harm):
        if harm.before:
            harm.before()
            harm.done.set()
        if self._client_left(here, harm.delay, harm.stubborn):
            return
        if harm.reset == "before":
            return reset(here)
        if harm.answer is not None:
            here.sendall(harm.answer)
            return
        with socket.socket(socket.AF_UNIX) as there:
            there.connect(self.engine)
            there.sendall(request.forwarded())
            if harm.after:
                time.sleep(harm.after_s)
                harm.after()
                harm.done.set()
            self._relay(here, there, request, harm)
        if harm.answered:
            here.shutdown(socket.SHUT_WR)
            harm.answered()
            harm.done.set()

    @staticmethod
    def _client_left(here, seconds, stubborn):
        """Waits, but not for who has hung up; a stubborn one goes on all the same."""
        if stubborn:
            time.sleep(seconds)
            return False
        return bool(seconds and select.select([here], [], [], seconds)[0])

    def _relay(self, here, there, request, harm):
        passed = 0
        with self.lock:
            if request.verb == "events":
                self.streams.add(here)
        while True:
            readable = select.select([there] if harm.stubborn else [here, there], [], [])[0]
            if here in readable and not harm.stubborn:  # it says no more, so this is its end
                return
            data = there.recv(65536)
            if not data:
                return
            if request.verb == "create":
                self._learn(request, data)
            if harm.reset == "after":
                return reset(here)
            if isinstance(harm.reset, int):
                data = data[: harm.reset - passed]
            passed += len(data)
            if not (self.mute and request.verb == "events" and passed > len(data)):
                for piece in harm.change(data) if harm.change else [data]:
                    here.sendall(piece)
            if passed == harm.reset:
                return reset(here)

    def _learn(self, request, data):
        match = re.search(rb'"Id":"([0-9a-f]{64})"', data)
        if match:
            self.names[match[1].decode()] = request.name


def answer(status, body, kind="application/json", **fields):
    """The bytes of an answer."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [
        f"HTTP/1.1 {status} X",
        f"Content-Type: {kind}",
        f"Content-Length: {fields.pop('length', len(data))}",
        "Connection: close",
        *[f"{key}: {value}" for key, value in fields.items()],
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + data
