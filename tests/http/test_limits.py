# SPDX-License-Identifier: Apache-2.0
"""Deadlines, caps and flat memory. The difficulty is time: the deadlines are seconds to a minute
long, so all of them run at once on threads from the module's start, and the tests at its end only
ask what came of them. In the meantime caps and bodies of 2 GiB are tested."""
import os
import signal
import socket
import threading
import time

import pytest

from harness import echo as worker
from harness import proc, raw
from harness.echo import Dump, get
from harness.kipgate import Kipgate, problem
from harness.waiting import Background, together, wait_until

GIB2 = 2 << 30


@pytest.fixture(scope="module")
def gate(echo):
    """One service, woken."""
    with Kipgate({"echo": echo(idle_timeout="10m", concurrency=1000)}) as kipgate:
        assert kipgate.admin.wake("echo").status == 200
        yield kipgate


@pytest.fixture(scope="module", autouse=True)
def deadlines(gate):
    """All deadline scenarios, begun at once."""
    scenarios = {
        name: function for name, function in globals().items() if name.startswith("scenario_")
    }
    return {name: Background(function, gate) for name, function in scenarios.items()}


def until_end(client, limit):
    """What came until the end, whether it was a reset, and how long it took."""
    began = time.monotonic()
    data = client.rest(limit)
    return data, client.was_reset, time.monotonic() - began


def scenario_head_too_slow(gate):
    """Ten seconds in total from the first byte, however it trickles."""
    with gate.raw(20) as client:
        began = time.monotonic()
        data = get("/", "X-A: " + "a" * 100)
        try:
            for byte in data[:40]:
                client.send(bytes([byte]))
                client.socket.settimeout(0.4)
                try:
                    got = client.socket.recv(4096)
                    client.pending += got
                    break
                except socket.timeout:
                    pass
        except (BrokenPipeError, ConnectionResetError):
            pass
        return client.response(), client.ended(5), time.monotonic() - began


def scenario_first_byte_missing(gate):
    """A connection without a byte."""
    with gate.raw(30) as client:
        return until_end(client, 25)


def scenario_keepalive_idle(gate):
    """A kept connection without another request."""
    with gate.raw(90) as client:
        client.send(get("/"))
        assert client.response().status == 200
        return until_end(client, 80)


def scenario_body_too_slow(gate):
    """About 100 bytes a second."""
    with gate.raw(60) as client:
        began = time.monotonic()
        client.send(get(worker.sink(), "Content-Length: 100000", method="POST"))
        client.socket.settimeout(0.1)
        while time.monotonic() - began < 45:
            try:
                client.socket.sendall(b"x" * 10)
                got = client.socket.recv(4096)
                client.pending += got
                client.eof = not got
                break
            except socket.timeout:
                continue
            except (BrokenPipeError, ConnectionResetError):
                break
        took = time.monotonic() - began
        return client.rest(5), took


def scenario_body_fast_enough(gate):
    """About 1,000 bytes a second for 26 seconds: slow, yet allowed."""
    with gate.raw(60) as client:
        client.send(get(worker.sink(), "Content-Length: 26000", method="POST"))
        client.send_pieces(b"x" * 26000, 100, 0.1)
        return client.response("POST")


def scenario_silent_reader(gate):
    """A client that never reads its gigabyte."""
    with gate.raw(90, receive_buffer=4096) as client:
        client.send(get(worker.zeros(1 << 30)))
        began = time.monotonic()
        wait_until(lambda: gone(client), 60, "the stalled connection's end", every=0.2)
        return time.monotonic() - began


def gone(client):
    """Whether the peer has closed or reset, seen without reading: TCP_INFO's state."""
    state = client.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
    return state != 1  # TCP_ESTABLISHED


# --- caps -----------------------------------------------------------------------------------------


def test_connections_beyond_the_cap_are_shed_and_the_rest_is_served(echo, kipgate):
    """Few descriptors: beyond the cap a connection is refused or has to wait, those within are
    served, and what is kept in reserve still lets a cold service start."""
    capped = kipgate({"echo": echo()}, config={"fronts": 1}, nofile=256)
    held = [socket.create_connection(capped.front, 5) for _ in range(400)]
    try:
        wait_until(
            lambda: capped.admin.status("/healthz") == 200, 5, "the admin API under the flood"
        )
        assert capped.admin.wake("echo").status == 200, "engine and worker use the reserve"
        before = [proc.cpu_seconds(pid) for pid in capped.pids()]
        began = time.monotonic()
        held[0].sendall(get("/"))
        assert held[0].recv(12) == b"HTTP/1.1 200"
        refused = sum(1 for s in held[250:] if shed(s))
        waited = time.monotonic() - began
        used = sum(proc.cpu_seconds(pid) for pid in capped.pids()) - sum(before)
        assert used <= 0.2 * waited + 0.1, "no spinning at the limit"
        assert refused in (0, 150) or refused > 100, refused
    finally:
        for s in held:
            s.close()
    wait_until(lambda: ok(capped), 5, "service after the flood", every=0.05)


def shed(s):
    """Whether this connection was closed or answered with a 503."""
    s.settimeout(0.02)
    try:
        return s.recv(12) in (b"", b"HTTP/1.1 503")
    except socket.timeout:
        return False
    except ConnectionResetError:
        return True


def ok(gate):
    """Whether a plain request works."""
    try:
        return gate.get("/", timeout=2).status == 200
    except (OSError, raw.Broken):
        return False


def test_concurrency_is_exact_over_all_fronts(echo, kipgate):
    """Never more exchanges at the worker than the service allows; the others wait and are
    served."""
    limited = kipgate({"echo": echo(concurrency=3, queue=100)}, config={"fronts": 2})
    assert limited.admin.wake("echo").status == 200
    most = [0]
    stop = threading.Event()

    def watch():
        while not stop.is_set():
            now = limited.admin.metric("kipgate_exchanges", service="echo")
            most[0] = max(most[0], now)

    watcher = Background(watch)
    answers = together([lambda: limited.get(worker.slow(150), timeout=30)] * 24, 40)
    stop.set()
    watcher.result(10)
    assert [a.status for a in answers] == [200] * 24
    peaks = worker.peak(limited.get("/whoami"))
    assert peaks <= 4, "three at once (and the one that asks)"
    assert 2 <= most[0] <= 3, most


# --- flat memory ----------------------------------------------------------------------------------


class Memory:
    """The most resident memory, beyond the beginning, of any process of a Kipgate, in KiB."""

    def __init__(self, gate):
        self.pids = gate.pids()
        self.base = {pid: proc.rss_kib(pid) for pid in self.pids}
        self.most = 0
        self.stop = threading.Event()
        self.task = Background(self._watch)

    def _watch(self):
        while not self.stop.wait(0.02):
            for pid in self.pids:
                self.most = max(self.most, proc.rss_kib(pid) - self.base[pid])

    def end(self):
        """Stops watching and gives the growth."""
        self.stop.set()
        self.task.result(5)
        return self.most


def test_two_gib_down_through_a_reader_that_pauses(gate):
    """Memory stays flat while the reader sleeps: back-pressure reaches the worker."""
    memory = Memory(gate)
    buffer = bytearray(1 << 20)
    with gate.raw(60, receive_buffer=1 << 16) as client:
        client.send(get(worker.zeros(GIB2)))
        head = client.final_head()
        assert head.one("Content-Length") == str(GIB2)
        left, pause_at = GIB2 - len(client.pending), 4
        client.socket.settimeout(30)
        while left:
            got = client.socket.recv_into(buffer, min(len(buffer), left))
            assert got, f"ended {left} bytes short"
            left -= got
            if GIB2 - left > pause_at * (GIB2 // 20):
                pause_at += 4
                time.sleep(0.6)
        client.pending = b""
        client.send(get("/next"))
        assert Dump(client.response().body).first == "GET /next HTTP/1.1"
    assert memory.end() < 8 * 1024, "resident memory grew (KiB)"


def test_two_gib_up_to_a_worker_that_pauses(gate):
    """The worker is stopped several times in the middle; memory stays flat."""
    memory = Memory(gate)
    pids = proc.tree(gate.witness.inspect(gate.admin.instances("echo")[0]["id"])["State"]["Pid"])
    block = bytes(1 << 20)
    with gate.raw(60) as client:
        client.send(get(worker.sink(), f"Content-Length: {GIB2}", method="POST"))
        for index in range(GIB2 // len(block)):
            if index % 512 == 256:
                signal_all(pids, signal.SIGSTOP)
                timer = threading.Timer(0.6, signal_all, (pids, signal.SIGCONT))
                timer.start()
            client.socket.settimeout(30)
            client.socket.sendall(block)
        response = client.response("POST", 30)
        assert worker.sunk_bytes(response) == GIB2
    assert memory.end() < 8 * 1024, "resident memory grew (KiB)"


def signal_all(pids, number):
    """To every process of a worker."""
    for pid in pids:
        os.kill(pid, number)


def test_many_connections_cost_little(gate):
    """Five hundred kept connections that have had an answer: a few KiB each, not a buffer each."""
    memory = Memory(gate)
    clients = [gate.raw(10) for _ in range(500)]
    try:
        for client in clients:
            client.send(get("/small"))
        for client in clients:
            assert client.response().status == 200
    finally:
        for client in clients:
            client.close()
    assert memory.end() < 500 * 40, "more than 40 KiB a connection"


# --- what came of the deadlines -------------------------------------------------------------------


def test_slow_head_gets_408(deadlines):
    """Ten seconds from the first byte to the last of the head."""
    response, ended, took = deadlines["scenario_head_too_slow"].result(30)
    problem(response, 408, "request-timeout")
    assert response.closes and ended and 9 < took < 13, took


def test_silent_connection_is_closed_without_a_word(deadlines):
    """Ten seconds without a byte."""
    data, _, took = deadlines["scenario_first_byte_missing"].result(30)
    assert data == b"" and 9 < took < 13, (data, took)


def test_slow_body_is_cut(deadlines):
    """Under 500 bytes a second after the grace: 408 where an answer is still possible."""
    data, took = deadlines["scenario_body_too_slow"].result(60)
    assert 9 < took < 25, took
    assert data == b"" or data.startswith(b"HTTP/1.1 408"), data[:100]


def test_slow_but_steady_body_is_served(deadlines):
    """Over the asked rate it may take as long as it takes."""
    response = deadlines["scenario_body_fast_enough"].result(60)
    assert worker.sunk_bytes(response) == 26000


def test_reader_that_stalls_is_cut(deadlines):
    """Thirty seconds without taking a byte."""
    took = deadlines["scenario_silent_reader"].result(70)
    assert 28 < took < 40, took


def test_idle_kept_connection_is_closed_without_a_word(deadlines):
    """A minute after the last answer."""
    data, _, took = deadlines["scenario_keepalive_idle"].result(90)
    assert data == b"" and 58 < took < 66, (data, took)
