# SPDX-License-Identifier: Apache-2.0
"""Clients of a soak that the prober is not: server-sent events, WebSockets, HTTP/2 and TLS, each a
thread that asks one after the other. The difficulty: what they count must be what the prober
counts, so each exchange ends in one of its classes, with its times."""
import collections
import json
import os
import random
import socket
import ssl
import struct
import threading
import time

import rig
from harness import http2, raw
from harness.echo import get
from harness.tls import TlsClient

REASON = "urn:kipgate:"
HOST = "kipgate.test"
REPEATED = ("sse", "tls")  # plain GETs: what is on its way to a dead worker is sent again
KEY = "dGhlIHNhbXBsZSBub25jZQ=="


def soon():
    """When an exchange must be over."""
    return time.monotonic() + 60


class Ended(Exception):
    """An exchange ended otherwise than right: class and words."""

    def __init__(self, kind, why):
        super().__init__(why)
        self.kind, self.why = kind, why


class Talker:
    """Speaks in one way to one service until told to stop."""

    def __init__(self, how, service, address, seed, context=None):
        self.how, self.service, self.address, self.context = how, service, address, context
        self.random, self.stopped = random.Random(seed), threading.Event()
        self.counts, self.codes = collections.Counter(), collections.Counter()
        self.odd, self.errors, self.nonce = [], [], seed * 1000000
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        try:
            while not self.stopped.wait(self.random.uniform(0, 0.4)):
                self._one()
        except BaseException as error:  # told by `stop`
            self.errors.append(error)

    def stop(self):
        """Ends it after the exchange under way."""
        self.stopped.set()
        self.thread.join(120)
        assert not self.thread.is_alive(), f"an exchange of {self.how} has no end"
        if self.errors:
            raise self.errors[0]

    def _one(self):
        """One exchange, counted."""
        self.nonce += 1
        self.host, self.status = "-", 0
        begin, kind, why = rig.now_us(), "right", ""
        try:
            getattr(self, "_" + self.how)()
        except Ended as ended:
            kind, why = ended.kind, ended.why
        except socket.timeout:
            kind, why = "wrong", "no end in sight"
        except (OSError, raw.Broken, http2.ConnectionError_, http2.Broken, ssl.SSLError) as error:
            kind, why = "cut" if self.status else "dropped", repr(error)[:200]
        self.counts[kind] += 1
        self.counts["sent"] += 1
        if self.status:
            self.codes[str(self.status)] += 1
        if kind != "right":
            self.odd.append(
                rig.Line(
                    *(kind, self.service, self.nonce, begin, rig.now_us()),
                    *("GET" if self.how in REPEATED else "POST", self.host, self.status),
                    f"{self.how}: {why}",
                )
            )

    # --- judging ---------------------------------------------------------------------------------

    def _head(self, response, wanted=200):
        """What is known when a head has come."""
        self.status = response.status
        self.host = response.one(self._name("X-Echo-Host")) or "-"
        if response.status == wanted == 101:
            return
        if response.one(self._name("Content-Type")) == "application/problem+json":
            return
        self._right(response.status == wanted, "its status")
        self._right(response.one(self._name("X-Echo-Nonce")) == str(self.nonce), "its request")
        self._right(response.one(self._name("X-Echo-Service")) == self.service, "its service")

    def _name(self, name):
        return name.lower() if self.how == "http2" else name

    @staticmethod
    def _right(good, what):
        if not good:
            raise Ended("wrong", f"not {what}")

    def _body(self, response, wanted):
        """What is known when it is whole."""
        if response.one(self._name("Content-Type")) == "application/problem+json":
            reason = json.loads(response.body)["type"].removeprefix(REASON)
            raise Ended("failed" if reason == "upstream-failed" else "refused", reason)
        self._right(response.body == wanted, "its content")

    def _fields(self):
        return f"X-Nonce: {self.nonce}"

    # --- ways ------------------------------------------------------------------------------------

    def _sse(self):
        """Events over a while."""
        with raw.RawClient(self.address, 60) as client:
            client.send(get(f"/{self.service}/sse?n=10&ms=20", self._fields()))
            response = client.final_head(60)
            self._head(response)
            client.body_of(response, "GET", soon())
            events = [f"id: {n}\ndata: event {n}\n\n" for n in range(10)]
            self._body(response, "".join(events).encode())

    def _websocket(self):
        """A handshake, some frames that come back, a close."""
        with raw.RawClient(self.address, 60) as client:
            fields = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13")
            words = (*fields, f"Sec-WebSocket-Key: {KEY}", self._fields())
            client.send(get(f"/{self.service}/ws", *words))
            response = client.final_head(60)
            self._head(response, 101)
            if response.status != 101:
                client.body_of(response, "GET", soon())
                self._body(response, b"")
            for number in range(5):
                self._frame(client, 0x81, f"{self.nonce} {number}".encode())
            self._frame(client, 0x88, struct.pack(">H", 1000))

    def _frame(self, client, first, payload):
        mask = os.urandom(4)
        masked = bytes(b ^ mask[n % 4] for n, b in enumerate(payload))
        client.send(struct.pack(">BB", first, 0x80 | len(payload)) + mask + masked)
        back = client._exactly(2 + len(payload), soon())
        self._right(back == struct.pack(">BB", first, len(payload)) + payload, "its frame")

    def _http2(self):
        """A body that comes back on a stream."""
        with http2.Http2(self.address, timeout=60) as client:
            body = str(self.nonce).encode() * self.random.randrange(1, 3000)
            path = f"/{self.service}/body"
            stream = client.ask(path, f"x-nonce: {self.nonce}", method="POST", body=body)
            try:
                response = client.response(stream)
            finally:
                self.status = client.response_on(stream).status
            if response.reset is not None:
                raise Ended("cut" if self.status else "dropped", f"reset {response.reset}")
            self._head(response)
            self._body(response, body)

    def _tls(self):
        """A handshake and a download."""
        with TlsClient(self.address, self.context, HOST, timeout=60) as client:
            client.send(get(f"/{self.service}/drip?bytes=20&ms=0", self._fields()))
            response = client.final_head(60)
            self._head(response)
            client.body_of(response, "GET", soon())
            self._body(response, b"000000000\n111111111\n")
