# SPDX-License-Identifier: Apache-2.0
"""Thousands of connections from one process, and an honest client beside them. The difficulty: one
address has too few ports, so they come from many addresses of loopback, and nothing may wait for
one."""
import contextlib
import os
import pathlib
import resource
import selectors
import socket
import subprocess
import sys
import time

from harness import proc, raw
from harness.load import WarmLoad

PER_ADDRESS = 4000


class Idlers:
    """A process of its own with so many idle connections: one process may not have them all."""

    def __init__(self, address, count, first):
        command = [sys.executable, __file__, address[0], str(address[1]), str(count), first]
        harness = str(pathlib.Path(__file__).parents[1])
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": harness}
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def connected(self):
        """How many there are, once all are."""
        return int(self.process.stdout.readline())

    def ended(self):
        """How many the front has ended by its limits; waits for all."""
        return int(self.process.stdout.readline())


def idle():
    """What such a process does."""
    host, port, count, first = sys.argv[1:]
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    made = connect_many((host, int(port)), int(count), first.encode())
    print(len(made), flush=True)
    print(ended(made, len(made), 90), flush=True)


def connect_many(address, count, first=b"", timeout=60):
    """So many connections, all of which have sent `first`. Each is a socket that does not block."""
    made, deadline = [], time.monotonic() + timeout
    while len(made) < count:
        assert time.monotonic() < deadline, f"{len(made)} of {count} connections in {timeout} s"
        one = socket.socket()
        one.settimeout(10)
        one.bind((f"127.{os.getpid() % 200 + 1}.1.{1 + len(made) // PER_ADDRESS}", 0))
        one.connect(address)
        if first:
            one.sendall(first)
        one.setblocking(False)
        made.append(one)
    return made


def ended(sockets, wanted, timeout):
    """How many of these have been ended by the peer, waiting until it is `wanted`."""
    selector, done = selectors.DefaultSelector(), set()
    for one in sockets:
        selector.register(one, selectors.EVENT_READ)
    deadline = time.monotonic() + timeout
    while len(done) < wanted and time.monotonic() < deadline:
        for key, _ in selector.select(0.2):
            try:
                data = key.fileobj.recv(1 << 16)
            except BlockingIOError:
                continue
            except OSError:
                data = b""
            if not data:
                selector.unregister(key.fileobj)
                done.add(key.fileobj)
    selector.close()
    return len(done)


def close_all(sockets):
    """Ends them."""
    for one in sockets:
        one.close()


def rss_kib(gate):
    """Resident memory of control and fronts."""
    return sum(proc.rss_kib(pid) for pid in gate.pids())


@contextlib.contextmanager
def others_served(gate, target="/honest", least=20, grows_kib=None):
    """While the body runs, honest clients are served, all of them right; at the end so are new
    ones. Memory grows by no more than `grows_kib` over all processes."""
    before = rss_kib(gate)
    load = WarmLoad(gate.front, target, clients=2, pause=0.01)
    try:
        yield load
        deadline = time.monotonic() + 60
        while load.count < least and time.monotonic() < deadline and not load.failed:
            time.sleep(0.02)
    finally:
        load.stop()
    assert not load.failed, load.failed[:3]
    assert load.count >= least, load.count
    assert raw.get(gate.front, target).status == 200
    grown = rss_kib(gate) - before
    assert grows_kib is None or grown <= grows_kib, f"{grown} KiB more than before"


if __name__ == "__main__":
    idle()
