# SPDX-License-Identifier: Apache-2.0
"""Floods of connections, requests, heads, chunks and frames: others are served meanwhile, all of
them right, and memory stays bounded. The difficulty: a loaded machine is slow anyway, so what is
counted are wrong answers and KiB, never milliseconds."""
import contextlib
import socket
import struct

import pytest

from abuse_clients import Idlers, close_all, connect_many, ended, others_served
from harness import echo as worker
from harness import http2, raw, tls
from harness.http2 import Http2, frame, rst_stream
from harness.kipgate import Kipgate
from harness.waiting import together

MIB_KIB = 1024
IDLE = 20000
HEAD = "GET /honest HTTP/1.1\r\nHost: kipgate.test\r\n"


@pytest.fixture(scope="module")
def gate(echo):
    """Three fronts: each has places for half of its descriptors, which are as many as ours. A service
    that is awake."""
    services = {"echo": echo(routes=["kipgate.test"], idle_timeout="30m", concurrency=1000)}
    config = {"fronts": 3, "protocols": ["h2", "http/1.1", "h2c"]}
    with Kipgate(services, config=config, nofile=IDLE) as kipgate:
        assert kipgate.admin.wake("echo").status == 200
        assert kipgate.get("/honest").status == 200
        yield kipgate


# --- connections ----------------------------------------------------------------------------------


def test_twenty_thousand_connections_that_say_nothing(gate):
    """Others are served beside them; each costs little, and all are ended by the limits."""
    with others_served(gate, least=50, grows_kib=IDLE * 4), contextlib.ExitStack() as held:
        silent = held.enter_context(Idlers(gate.front, IDLE // 2, ""))
        half = held.enter_context(Idlers(gate.front, IDLE // 2, "GET /honest HT"))
        assert (silent.connected(), half.connected()) == (IDLE // 2, IDLE // 2)
        assert gate.get("/honest").status == 200
        assert (silent.ended(), half.ended()) == (IDLE // 2, IDLE // 2)


def slam(address, count, how):
    """So many connections, one after the other, each ended at once."""
    for number in range(count):
        with contextlib.suppress(OSError):
            one = socket.create_connection(address, 10)
            if how == "request":
                one.sendall(HEAD.encode() + b"\r\n")
            if how == "reset" or number % 2:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            one.close()


def test_connections_that_end_at_once(gate):
    """By a close or a reset, with or without a request."""
    with others_served(gate, grows_kib=16 * MIB_KIB):
        together(
            [lambda h=h: slam(gate.front, 1500, h) for h in ("close", "reset", "request")], 120
        )


def test_handshakes_that_stop_half_way(kipgate, echo):
    """A ClientHello without its end, records of nothing, and no byte at all: ended by the
    limits."""
    gate = kipgate({"echo": echo(idle_timeout="30m")}, start=False)
    address = tls.secure(gate, tls.Certificate("a.test").write(gate.directory)).tls
    gate.start()
    assert gate.get("/honest", timeout=30).status == 200
    half = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 40
    made = []
    with others_served(gate, grows_kib=64 * MIB_KIB):
        for first in (half, b"\x16\x03\x01\x00\x00", b""):
            made += connect_many(address, 300, first=first)
        assert ended(made, len(made), 60) == len(made)
    close_all(made)


def test_connections_of_one_address_are_capped_exactly(kipgate, echo):
    """n are served, the next is told 503, another address is not concerned, and one that ends
    makes room."""
    gate = kipgate(
        {"echo": echo(idle_timeout="30m")}, config={"fronts": 1, "max_connections_per_client": 5}
    )
    assert gate.get("/honest").status == 200

    def ask(client):
        return client.send(HEAD.encode() + b"\r\n").response().status

    def other(address):
        made = socket.create_connection(gate.front, 10, (address, 0))
        made.sendall(HEAD.encode() + b"Connection: close\r\n\r\n")
        with contextlib.closing(made):
            return made.recv(12)

    with contextlib.ExitStack() as held:
        clients = [held.enter_context(gate.raw()) for _ in range(5)]
        assert [ask(client) for client in clients] == [200] * 5
        with gate.raw() as sixth:
            assert sixth.response().status == 503 and sixth.ended()
        assert other("127.0.0.2") == b"HTTP/1.1 200"
        assert [ask(client) for client in clients] == [200] * 5
        clients[0].close()
        for _ in range(200):  # the front sees the end when it comes to it
            with gate.raw() as again:
                if ask(again) == 200:
                    break
        else:
            raise AssertionError("no room was made")


# --- requests -------------------------------------------------------------------------------------


def test_ten_thousand_requests_in_one_go_and_nothing_read(gate):
    """One is in work at a time and the rest stays unread: the front keeps none of it."""
    data = (HEAD + "\r\n").encode() * 10000
    made = []
    with others_served(gate, grows_kib=24 * MIB_KIB):
        for _ in range(20):
            one = socket.create_connection(gate.front, 10)
            one.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                for at in range(0, len(data), 1 << 16):
                    one.send(data[at : at + (1 << 16)])
            made.append(one)
    close_all(made)


def endless(address, begin, piece, pieces=400):
    """What comes back when something has no end, and how many bytes of it were taken."""
    with raw.RawClient(address, 30) as client:
        sent = len(begin)
        client.send(begin)
        try:
            for _ in range(pieces):
                client.send(piece)
                sent += len(piece)
        except (BrokenPipeError, ConnectionResetError):
            pass
        return client.rest(30)[:12], sent


CHUNKED = b"POST /sink HTTP/1.1\r\nHost: kipgate.test\r\nTransfer-Encoding: chunked\r\n\r\n"
ENDLESS = {
    "one field": (HEAD.encode() + b"X: ", b"y" * 65536, b"431"),
    "fields": (HEAD.encode(), b"X: y\r\n" * 8192, b"431"),
    "one name": (HEAD.encode(), b"y" * 65536, b"431"),
    "target": (b"GET /", b"y" * 65536, b"414"),
    "method": (b"", b"G" * 65536, b"400"),
    "empty lines": (b"", b"\r\n" * 32768, b"400"),
    "chunk extensions": (CHUNKED, b"1;" + b"e" * 300 + b"\r\nx\r\n", b"400"),
    "one chunk extension": (CHUNKED + b"1;", b"e" * 65536, b"400"),
    "chunk size": (CHUNKED, b"0" * 65536, b"400"),
    "trailers": (CHUNKED + b"0\r\n", b"X: y\r\n" * 8192, b"4"),
}


def test_what_has_no_end_is_refused(gate):
    """All at once, three of each: heads, chunk extensions, trailers. Each is answered or cut, and
    little of it is taken."""

    def one(name):
        begin, piece, status = ENDLESS[name]
        said, sent = endless(gate.front, begin, piece)
        assert said == b"" or said.split(b" ")[-1].startswith(status), (name, said)
        assert said or sent < len(begin) + 400 * len(piece), (name, sent)
        return name

    with others_served(gate, grows_kib=24 * MIB_KIB):
        together([lambda n=n: one(n) for n in ENDLESS for _ in range(3)], 120)


def test_chunks_of_one_byte(gate):
    """Fifty thousand of them are a body like any other."""
    with others_served(gate, grows_kib=24 * MIB_KIB), gate.raw(60) as client:
        client.send(CHUNKED + b"1\r\nx\r\n" * 50000 + b"0\r\n\r\n")
        assert worker.sunk_bytes(client.response()) == 50000


# --- HTTP/2 ---------------------------------------------------------------------------------------


def rapid_reset(client):
    """CVE-2023-44487."""
    client.send_anyway(rst_stream(client.ask(worker.slow(300))))


def continuations(client):
    """CVE-2024-27316: a head without an end."""
    if not client.responses:
        client.headers(http2.request("/"), flags=0)
        client.response_on(1)
    client.send_anyway(frame(http2.CONTINUATION, 0, 1, b"\x00\x01x\x01y") * 16)


def pings(client):
    """Each would be answered."""
    client.send_anyway(frame(http2.PING, 0, 0, b"12345678") * 100)


def many_settings(client):
    """CVE-2019-9515."""
    client.send_anyway(http2.settings((http2.INITIAL_WINDOW_SIZE, 70000)) * 100)


def empty_data(client):
    """CVE-2019-9518."""
    if not client.responses:
        client.headers(http2.request("/sink", method="POST"), end=False)
        client.response_on(1)
    client.send_anyway(frame(http2.DATA, 0, 1) * 100)


def priorities(client):
    """Of streams that are not there."""
    client.send_anyway(frame(http2.PRIORITY, 0, 7, b"\0\0\0\0\x10") * 100)


def closed_windows(client):
    """Requests for much, and no window to send it by: CVE-2019-9511, 9517."""
    if not client.responses:
        client.send_anyway(http2.settings((http2.INITIAL_WINDOW_SIZE, 1)))
        client.response_on(0)
    if client.last_stream < 190:
        client.ask(worker.zeros(1 << 20))
    client.send_anyway(http2.window_update(client.last_stream, 1))


def wide_windows(client):
    """Windows beyond what they may be."""
    stream = client.ask(worker.zeros(1 << 20))
    client.send_anyway(http2.window_update(stream, 0x7FFFFFFF))


FLOODS = (rapid_reset, continuations, pings, many_settings, empty_data, priorities, wide_windows)


def flood_until_ended(gate, flood):
    """Goes on until the front has ended the connection; it must."""
    with Http2(gate.front, timeout=30) as client:
        for _ in range(3000):
            before = client.socket
            flood(client)
            try:
                before.sendall(b"")
                before.settimeout(0.001)
                if not before.recv(1 << 16):
                    return
            except (socket.timeout, BlockingIOError):
                continue
            except OSError:
                return
    raise AssertionError(f"{flood.__name__}: never ended")


def test_floods_of_frames(gate):
    """Two connections of each at once, for as long as the front bears them."""
    with others_served(gate, grows_kib=48 * MIB_KIB):
        together([lambda f=f: flood_until_ended(gate, f) for f in FLOODS for _ in range(2)], 120)


def test_windows_that_stay_closed(gate):
    """Of what ninety streams of a MiB each could send, no more than one read of each is kept for a
    client that takes none of it."""
    with contextlib.ExitStack() as held, others_served(gate, grows_kib=900 * 128):
        clients = [held.enter_context(Http2(gate.front, timeout=30)) for _ in range(10)]
        for client in clients:
            for _ in range(90):
                closed_windows(client)
