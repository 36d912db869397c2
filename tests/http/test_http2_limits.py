# SPDX-License-Identifier: Apache-2.0
"""Limits of HTTP/2: deadlines, floods at their edges, clients that do not read. The difficulty is
time: the deadlines are seconds to a minute long, so all scenarios about them run side by side."""
import socket
import struct
import time

import pytest
from conformance_http2 import BOTH

from harness import echo as worker
from harness import http2, proc, settings
from harness.http2 import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    GOAWAY,
    HEADERS,
    PING,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    Http2,
    frame,
    rst_stream,
    window_update,
)
from harness.kipgate import Kipgate
from harness.waiting import Background, wait_until

MIB = 1 << 20
PINGS = frame(PING, 0, 0, b"12345678")


@pytest.fixture(scope="module")
def gate(echo):
    """One front, so that its counters are all."""
    services = {"echo": echo(routes=["kipgate.test"], idle_timeout="10m", concurrency=300)}
    with Kipgate(services, binary=settings.sanitized_bin(), config=BOTH) as kipgate:
        assert kipgate.admin.wake("echo").status == 200
        yield kipgate


@pytest.fixture
def client(gate):
    """One connection."""
    with Http2(gate.front, timeout=20) as connection:
        yield connection


# --- deadlines ------------------------------------------------------------------------------------


def timed(connection, timeout):
    """The code of the last GOAWAY, and how long the connection lasted."""
    began = time.monotonic()
    code = connection.goaway(timeout)
    return code, connection.eof, time.monotonic() - began


def heard(gate, said):
    """All that comes behind some bytes, and how long the connection lasted."""
    with Http2(gate.front, begin=False) as connection:
        connection.send(said)
        began, data, got = time.monotonic(), b"", b"."
        connection.socket.settimeout(20)
        while got:
            got = connection.socket.recv(1 << 16)
            data += got
        return data, time.monotonic() - began


def scenario_preface_alone(gate):
    """No SETTINGS behind it."""
    return heard(gate, PREFACE)


def scenario_half_a_preface(gate):
    """It may still become HTTP/2."""
    return heard(gate, PREFACE[:10])


def scenario_idle(gate):
    """After one answer."""
    with Http2(gate.front) as connection:
        assert connection.get("/").status == 200
        return timed(connection, 90)


def scenario_head_without_an_end(gate):
    """A HEADERS whose CONTINUATION does not come; another stream is under way."""
    with Http2(gate.front) as connection:
        connection.ask(worker.hang())
        connection.quiet(0.3)
        connection.headers(http2.request(), flags=0)
        return timed(connection, 30)


def scenario_body_too_slow(gate):
    """A few bytes now and then; another stream, which waits for its answer, is not blamed."""
    with Http2(gate.front) as connection:
        waits = connection.ask(worker.slow(25000))
        stream = connection.headers(http2.request(worker.sink(), method="POST"), end=False)
        began = time.monotonic()
        while not connection.response_on(stream).status and time.monotonic() - began < 40:
            connection.data(stream, b"abc", end=False)
            connection.quiet(1)
        took = time.monotonic() - began
        return connection.response_on(stream).status, connection.response(waits, 40).status, took


def scenario_body_fast_enough(gate):
    """Over 500 bytes a second it may take as long as it takes."""
    with Http2(gate.front) as connection:
        stream = connection.headers(http2.request(worker.sink(), method="POST"), end=False)
        for _ in range(26):
            connection.data(stream, bytes(1000), end=False)
            connection.quiet(1)
        connection.data(stream)
        return worker.sunk_bytes(connection.response(stream))


def scenario_conversation(gate):
    """The worker has begun to answer; the client has nothing to say for half a minute."""
    with Http2(gate.front) as connection:
        stream = connection.headers(http2.request("/body", method="POST"), end=False)
        connection.data(stream, b"one", end=False)
        connection.until(lambda got: (got.kind, got.stream) == (DATA, stream))
        connection.quiet(25)
        connection.data(stream, b"two")
        return connection.response(stream).body


def scenario_stream_that_is_not_taken(gate):
    """No window for one stream: it is given up after half a minute, the connection is not."""
    with Http2(gate.front, pairs=[(http2.INITIAL_WINDOW_SIZE, 10)]) as connection:
        connection.credit = False
        stream = connection.ask(worker.zeros(MIB))
        began = time.monotonic()
        connection.until(lambda got: (got.kind, got.stream) == (RST_STREAM, stream), 60)
        took = time.monotonic() - began
        connection.credit = True
        return connection.get("/").status, took


def scenario_reader_that_stalls(gate):
    """Windows without end, and nothing is read."""
    pairs = [(http2.INITIAL_WINDOW_SIZE, 2**31 - 1)]
    with Http2(gate.front, pairs=pairs) as connection:
        connection.send(window_update(0, 2**31 - 1 - http2.WINDOW))
        connection.ask(worker.zeros(100 * MIB))
        began = time.monotonic()
        while time.monotonic() - began < 60:
            time.sleep(0.5)
            try:
                connection.socket.send(b"")
                connection.send(frame(PING, ACK, 0, b"12345678"))
            except (BrokenPipeError, ConnectionResetError):
                break
        return time.monotonic() - began


@pytest.fixture(scope="module")
def deadlines(echo):
    """All scenarios, begun at once, on a gate of their own."""
    services = {"echo": echo(routes=["kipgate.test"], idle_timeout="10m", concurrency=300)}
    with Kipgate(services, binary=settings.sanitized_bin(), config=BOTH) as kipgate:
        assert kipgate.admin.wake("echo").status == 200
        scenarios = [value for name, value in globals().items() if name.startswith("scenario_")]
        yield {scenario: Background(scenario, kipgate) for scenario in scenarios}


# --- floods ---------------------------------------------------------------------------------------


def calm(connection, timeout=20):
    """The connection is ended by ENHANCE_YOUR_CALM."""
    assert connection.goaway(timeout) == ENHANCE_YOUR_CALM


def test_pings_below_the_limit_are_answered(client):
    """A thousand in ten seconds is what may be."""
    client.send(PINGS * 990)
    answered = 0
    while answered < 990:
        got = client.read()
        answered += got.kind == PING and got.flags & ACK
    assert client.get("/").status == 200


def test_window_updates_of_a_download_are_no_flood(gate):
    """A client that gives back each frame sends thousands of them."""
    with Http2(gate.front, pairs=[(http2.INITIAL_WINDOW_SIZE, 512)], timeout=60) as connection:
        stream, seen = connection.ask(worker.zeros(2 * MIB)), 0
        while not connection.response_on(stream).ended:
            seen += len(connection.response_on(stream).body)
            connection.response_on(stream).body = b""
            connection.read()
        assert seen + len(connection.response_on(stream).body) == 2 * MIB
        assert sum(got.kind == DATA for got in connection.frames) > 4000
        assert connection.get("/").status == 200


def test_many_small_messages_are_no_flood(client):
    """Each answered with window updates."""
    response = client.get(worker.drip(3000, 1, 1))
    assert len(response.body) == 3000
    assert client.get("/").status == 200


@pytest.mark.parametrize("flood", [PINGS, http2.settings((http2.INITIAL_WINDOW_SIZE, 70000))])
def test_acknowledgements_that_nobody_reads(gate, flood):
    """The client sends for ever and reads nothing: what is kept for it has an end."""
    pids = gate.pids()
    base = max(proc.rss_kib(pid) for pid in pids)
    with Http2(gate.front, timeout=5) as connection:
        for _ in range(200):
            connection.send_anyway(flood * 1000)
        assert max(proc.rss_kib(pid) for pid in pids) - base < 8 * 1024
        calm(connection)


def test_rapid_reset_ends_at_the_limit(gate):
    """CVE-2023-44487: no more than a hundred, and all their work ends."""
    with Http2(gate.front) as connection:
        asked = 0
        try:
            for _ in range(2000):
                connection.send(rst_stream(connection.ask(worker.slow(300))))
                asked += 1
        except OSError:
            pass
        calm(connection)
    wait_until(lambda: gate.admin.metric("kipgate_exchanges", service="echo") == 0, 10, "the end")
    assert "kipgate" in str(gate.admin.metrics())


def test_resets_of_half_the_streams_before_an_answer(client):
    """Fewer than a hundred, but most of what was asked."""
    for index in range(60):
        stream = client.ask(worker.slow(2000))
        if index % 3:
            client.send_anyway(rst_stream(stream))
    calm(client)


def test_resets_of_answers_under_way_are_usual(client):
    """A viewer that jumps about in a film."""
    for _ in range(60):
        stream = client.ask(worker.drip(100000, 100, 100))
        client.until(lambda got, stream=stream: (got.kind, got.stream) == (DATA, stream))
        client.send(rst_stream(stream))
    assert client.get("/").status == 200


def test_streams_that_we_must_reset_count_alike(client):
    """CVE-2025-8671: the client breaks rules instead of resetting."""
    for _ in range(150):
        stream = client.ask(worker.slow(2000))
        client.send_anyway(window_update(stream, 2**31 - 1))
    calm(client)


def test_reset_streams_count_until_their_work_is_over(gate):
    """A hundred at a time; what was reset leaves room only when it is gone."""
    with Http2(gate.front) as connection:
        streams = [connection.ask(worker.hang()) for _ in range(100)]
        assert gate.admin.metric("kipgate_exchanges", service="echo") <= 100
        for stream in streams[:15]:
            connection.send(rst_stream(stream))
        connection.quiet(0.1)
        again = [connection.ask("/") for _ in range(15)]
        assert all(connection.response(stream).status == 200 for stream in again)
    wait_until(lambda: gate.admin.metric("kipgate_exchanges", service="echo") == 0, 10, "the end")


def block_of(client, pieces):
    """A request whose head comes in so many frames."""
    block = client.block(http2.request("/") + [("x-long", "a" * 1000)])
    step = -(-len(block) // pieces)
    cut = [block[i : i + step] for i in range(0, len(block), step)]
    cut += [b""] * (pieces - len(cut))
    stream = client.next_stream()
    client.send_anyway(frame(HEADERS, END_STREAM, stream, cut[0]))
    for index, piece in enumerate(cut[1:], 2):
        flags = END_HEADERS if index == pieces else 0
        client.send_anyway(frame(CONTINUATION, flags, stream, piece))
    return stream


@pytest.mark.parametrize("frames", [2, 31, 32])
def test_heads_in_many_frames(client, frames):
    """Thirty-two are enough for 64 KiB and more."""
    assert client.response(block_of(client, frames)).status == 200


def test_heads_in_too_many_frames(client):
    """Thirty-three are not."""
    block_of(client, 33)
    calm(client)


def test_heads_of_too_many_bytes(client):
    """More than 64 KiB on the wire, whatever it would decode to."""
    client.quiet(0.1)
    stream = client.next_stream()
    block = client.block(http2.request() + [(f"x-{i}", "a" * 30000) for i in range(3)])
    client.send_anyway(frame(HEADERS, END_STREAM, stream, block[:16384]))
    for at in range(16384, len(block), 16384):
        client.send_anyway(frame(CONTINUATION, 0, stream, block[at : at + 16384]))
    calm(client)


def test_a_bomb_of_references(client):
    """Bytes that decode to a hundred times as many: answered where they are a little too many,
    the end where they are far too many."""
    first = [("x-bomb", "a" * 3900)]
    assert client.response(client.headers(http2.request() + first)).status == 200
    assert client.response(client.headers(http2.request() + first * 20)).status == 431
    assert client.get("/").status == 200
    client.headers(http2.request() + first * 15000)
    calm(client)


def test_memory_of_many_idle_connections(gate):
    """Three hundred that have had an answer: what a session costs, and no buffers."""
    pids = gate.pids()
    base = {pid: proc.rss_kib(pid) for pid in pids}
    connections = [Http2(gate.front) for _ in range(300)]
    try:
        for connection in connections:
            assert connection.get("/small").status == 200
        grown = max(proc.rss_kib(pid) - base[pid] for pid in pids)
        assert grown < 300 * 150, f"{grown / 300} KiB a connection under sanitizers"
    finally:
        for connection in connections:
            connection.socket.close()


def test_garbage_behind_the_preface(gate):
    """In any shape it ends the connection, and nothing else."""
    for seed in range(20):
        with Http2(gate.front, begin=False) as connection:
            noise = struct.pack(">Q", seed * 0x9E3779B97F4A7C15 % 2**64) * 500
            connection.send_anyway(PREFACE + http2.settings() + noise)
            try:
                connection.socket.shutdown(socket.SHUT_WR)
            except OSError:
                pass
            connection.goaway()
            assert connection.eof
    with Http2(gate.front) as connection:
        assert connection.get("/").status == 200


# --- what came of the deadlines -------------------------------------------------------------------


def test_preface_without_settings(deadlines):
    """Ten seconds."""
    assert 9 < deadlines[scenario_preface_alone].result(40)[1] < 13


def test_half_a_preface(deadlines):
    """It is a head that did not become whole in ten seconds."""
    data, took = deadlines[scenario_half_a_preface].result(40)
    assert data.startswith(b"HTTP/1.1 408 ") and 9 < took < 13, (data, took)


def test_head_without_an_end(deadlines):
    """Ten seconds from its first frame."""
    code, eof, took = deadlines[scenario_head_without_an_end].result(40)
    assert code == ENHANCE_YOUR_CALM and eof and 9 < took < 13, (code, took)


def test_slow_body(deadlines):
    """408 on its stream; a stream that waits for its worker goes on."""
    slow, other, took = deadlines[scenario_body_too_slow].result(80)
    assert (slow, other) == (408, 200) and 9 < took < 32, (slow, other, took)


def test_slow_but_steady_body(deadlines):
    """It is served."""
    assert deadlines[scenario_body_fast_enough].result(60) == 26000


def test_silence_within_a_conversation(deadlines):
    """Both ways at once: it is as slow as those who talk."""
    assert deadlines[scenario_conversation].result(80) == b"onetwo"


def test_stream_that_is_not_taken(deadlines):
    """Thirty seconds, and up to ten until it is noticed."""
    status, took = deadlines[scenario_stream_that_is_not_taken].result(80)
    assert status == 200 and 28 < took < 45, took


def test_reader_that_stalls(deadlines):
    """Thirty seconds without taking a byte."""
    assert 28 < deadlines[scenario_reader_that_stalls].result(90) < 45


def test_idle_connection(deadlines):
    """A minute after the last answer, by GOAWAY."""
    code, eof, took = deadlines[scenario_idle].result(100)
    assert code == http2.NO_ERROR and eof and 58 < took < 66, (code, took)


def test_zz_the_sanitizers_have_nothing_to_say(gate):
    """Of all the above."""
    assert gate.admin.metric("kipgate_exchanges", service="echo") == 0
    gate.assert_clean()
