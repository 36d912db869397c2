# SPDX-License-Identifier: Apache-2.0
"""Memory of idle connections, and bodies of 100 MB both ways. The difficulty: what a process needs
is what is there beyond before, over all its processes, with shared pages counted once."""
import pathlib
import socket
import sys
import time

from common import BACKEND_IMAGE, BULK_IMAGE, Mark, median, table
from harness import proc
from harness.waiting import wait_until
from warm_peers import PROXY_CORE, field, service

MB = 1e6
KIB = 1024


def pss_bytes(pids):
    """Memory of these processes; shared pages are split among those that share them."""
    total = 0
    for pid in pids:
        for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * KIB
    return total


# --- idle connections -----------------------------------------------------------------------------


def hold(bench, peer, count):
    """Memory before, and what that many kept connections add to it."""
    before, sockets = pss_bytes(peer.pids()), peer.sockets()
    with bench.load.held(peer.port, count):
        there = peer.sockets() - sockets
        if there < count:
            sys.exit(f"{peer.name}: {there} sockets of {count} connections")
        added = pss_bytes(peer.pids()) - before
    wait_until(lambda: peer.sockets() < sockets + 100, 30, f"{peer.name} closed what was held")
    return before, added


def idle(bench):
    """10,000 kept connections that have nothing to do; Kipgate's are shared by two fronts, as a
    front's clients may take half of its descriptors."""
    count = 200 if bench.args.smoke else 10000
    found = {}
    two = (PROXY_CORE, PROXY_CORE)
    with field(bench, service(BACKEND_IMAGE), ("nginx",), count + 1000, two) as (peers, _):
        for peer in peers:
            found[peer.name] = hold(bench, peer, count)
    rows = [
        [name, f"{before / MB:.1f}", f"{added / MB:.1f}", f"{added / count:.0f}"]
        for name, (before, added) in found.items()
    ]
    print(table([f"{count} idle connections", "MB before", "MB more", "bytes each"], rows) + "\n")
    mark = Mark(f"{count} idle kept connections: MB", found["kipgate"][1] / MB, 20)
    return {name: dict(zip(("before", "added"), f)) for name, f in found.items()}, [mark]


# --- large bodies ---------------------------------------------------------------------------------


class Bulk:
    """A client of the bulk worker on one connection."""

    PIECE = bytes(1 << 20)

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), 60)
        self.into = memoryview(bytearray(1 << 20))

    def _head(self):
        """The body's length and how much of it came with the head."""
        got = b""
        while b"\r\n\r\n" not in got:
            more = self.socket.recv(65536)
            if not more:
                sys.exit(f"the connection ended in a head: {got!r}")
            got += more
        head, _, body = got.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            sys.exit(f"a bulk transfer was refused: {head!r}")
        lines = head.lower().split(b"\r\n")
        length = next(line for line in lines if line.startswith(b"content-length:"))
        return int(length.split(b":")[1]), len(body)

    def _read(self, pause):
        length, got = self._head()
        if pause:
            time.sleep(pause)
        while got < length:
            n = self.socket.recv_into(self.into)
            if n == 0:
                sys.exit(f"a body broke off after {got} of {length} bytes")
            got += n

    def down(self, size, pause=0):
        """Reads a body of that size, perhaps only after a while."""
        self.socket.sendall(f"GET /{size} HTTP/1.1\r\nHost: bulk\r\n\r\n".encode())
        self._read(pause)

    def up(self, size):
        """Sends a body of that size."""
        head = f"POST / HTTP/1.1\r\nHost: bulk\r\nContent-Length: {size}\r\n\r\n"
        self.socket.sendall(head.encode())
        for at in range(0, size, len(self.PIECE)):
            self.socket.sendall(self.PIECE[: size - at])
        self._read(0)


def move(peer, size, verb):
    """MB/s of one transfer, CPU ms it cost, and how far the server's memory rose, in bytes."""
    client, pid = Bulk(peer.port), peer.server()
    getattr(client, verb)(KIB)  # the way is open
    pathlib.Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak is counted anew
    before, cpu, began = proc.rss_kib(pid), peer.cpu(), time.perf_counter()
    getattr(client, verb)(size)
    took = time.perf_counter() - began
    cpu = peer.cpu() - cpu
    if verb == "down":
        client.down(size, pause=0.3)  # a client that does not read
    peak = int(proc.status(pid)["VmHWM"].split()[0])
    client.socket.close()
    return {"rate": size / MB / took, "cpu_ms": cpu * 1e3, "rise": max(0, peak - before) * KIB}


def bodies(bench):
    """Bodies of 100 MB, one at a time."""
    size, rounds = (10, 1) if bench.args.smoke else (100, 2 * bench.args.rounds)
    found, marks = {}, []
    with field(bench, service(BULK_IMAGE)) as (peers, _):
        for round_ in range(rounds):
            at = round_ % len(peers)
            for peer in peers[at:] + peers[:at]:
                for verb in ("down", "up"):
                    one = move(peer, size * int(MB), verb)
                    found.setdefault((peer.name, verb), []).append(one)
    mid = {key: {k: median([r[k] for r in all_]) for k in all_[0]} for key, all_ in found.items()}
    rows = [
        [f"{name}, {verb}", f"{m['rate']:.0f}", f"{m['cpu_ms']:.0f}", f"{m['rise'] / MB:.1f}"]
        for (name, verb), m in mid.items()
    ]
    print(table([f"bodies of {size} MB", "MB/s", "cpu ms", "memory rose MB"], rows) + "\n")
    for verb in ("down", "up"):
        ratio = mid["kipgate", verb]["rate"] / mid["nginx", verb]["rate"]
        rise = max(r["rise"] for r in found["kipgate", verb]) / MB
        marks.append(Mark(f"{size} MB {verb}: throughput / nginx's", ratio, 0.9, True))
        marks.append(Mark(f"{size} MB {verb}: memory rose, MB", rise, 2))
    return {f"{name} {verb}": rounds for (name, verb), rounds in found.items()}, marks
