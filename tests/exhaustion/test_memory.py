# SPDX-License-Identifier: Apache-2.0
"""What one request costs a front in memory, at the worst that its client can make of it: never more
than four times the limits that hold it (base/limits.h). The kernel's books judge, by the private
memory of the process, over many connections that do the same.
The difficulty: the process must be warm first, or its first pages would be the requests'."""
import pathlib
import re

import pytest
from harness import echo, http2, proc
from harness.tls import Certificate, TlsClient, secure, trusting
from harness.waiting import wait_until
from walks import Rig

CLIENTS = 100
FACTOR = 4
HEADER = pathlib.Path(__file__).parents[2] / "base/limits.h"
LIMIT = re.compile(r"^#define (KG_\w+) \(?(\d+)(?: \* (\d+))?(?: \* (\d+))?\)?", re.MULTILINE)


def limits():
    """Numbers of the header, by name."""
    found = {}
    for name, *factors in LIMIT.findall(HEADER.read_text()):
        found[name] = 1
        for factor in filter(None, factors):
            found[name] *= int(factor)
    return found


def private_kib(pid):
    """Memory that is the process's alone."""
    text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(n) for n in re.findall(r"^Private_\w+:\s+(\d+) kB", text, re.MULTILINE))


HEAD = b"POST /%s HTTP/1.1\r\nHost: kipgate.test\r\n"
CHUNKED = HEAD % b"sink" + b"Transfer-Encoding: chunked\r\n\r\n"


def fields(size):
    """Lines of fields that take so many bytes in all, fewer than are allowed."""
    line = b"X-F: " + b"f" * 993 + b"\r\n"
    return line * (size // len(line))


def block(size):
    """Fields of HTTP/2 as literals that are not indexed, in a block of about that size."""
    one = b"\x00\x03x-f" + b"\x7f\xe8\x06" + b"f" * 999
    return b"\x82\x86\x84\x41\x01a" + one * (size // len(one))


def http2_head(size):
    """A header block in pieces, without its end."""
    whole = block(size)
    pieces = [whole[at : at + 8000] for at in range(0, len(whole), 8000)]
    frames = [http2.frame(http2.HEADERS, 0, 1, pieces[0])]
    frames += [http2.frame(http2.CONTINUATION, 0, 1, piece) for piece in pieces[1:]]
    return http2.PREFACE + http2.settings() + b"".join(frames)


KIB = 1024
# name: what is said, and the limits that hold it
CASES = {
    "a head without an end": (HEAD % b"x" + fields(60 * KIB), ["HEAD"]),
    "trailers without an end": (CHUNKED + b"0\r\n" + fields(60 * KIB), ["HEAD", "REPLAY"]),
    "extensions without an end": (CHUNKED + b"1;" + b"e" * 4000, ["HEAD", "REPLAY"]),
    "a body that stops": (
        HEAD % b"hang" + b"Content-Length: 10000000\r\n\r\n" + b"b" * 200000,
        ["HEAD", "READ", "REPLAY"],
    ),
    "a flood of requests": (
        f"GET {echo.hang()} HTTP/1.1\r\nHost: a\r\n\r\n".encode() * 2000,
        ["HEAD", "READ", "REPLAY"],
    ),
    "a reader that does not read": (
        f"GET {echo.zeros(50000000)} HTTP/1.1\r\nHost: a\r\n\r\n".encode(),
        ["HEAD", "READ", "REPLAY"],
    ),
    "HTTP/2, a head without an end": (http2_head(60 * KIB), ["HEAD", "READ"]),
}
NAMES = {
    "HEAD": "KG_MAX_HEAD_BYTES",
    "READ": "KG_READ_BUFFER_BYTES",
    "REPLAY": "KG_REPLAY_BODY_BYTES",
}


@pytest.fixture
def rig(tmp_path):
    """A Kipgate that serves, by TLS too; new for each case, for memory that was freed is kept."""
    made = Rig()
    certificate = Certificate("a.test")
    secure(made.gate, certificate.write(tmp_path))
    made.context = trusting(certificate)
    try:
        made.gate.start()
        made.served()
        yield made
        made.gate.stop()
    finally:
        made.close()


def flooded(rig, said, tls):
    """Private KiB of the front with that many clients who have said it, as it settles."""
    pid = rig.pids()["front"]
    clients = []
    for _ in range(CLIENTS):
        client = TlsClient(rig.gate.tls, rig.context) if tls else rig.gate.raw(receive_buffer=4096)
        client.socket.settimeout(0.2)
        try:
            client.socket.sendall(said)
        except (TimeoutError, OSError):  # as much as it takes
            pass
        clients.append(client)
    seen = [0, 0, 0]

    def settled():
        seen[:] = [*seen[1:], private_kib(pid)]
        return max(seen) - min(seen) < 64

    wait_until(settled, 20, "memory that stays", 0.1)
    for client in clients:
        client.close()
    return max(seen)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("name", CASES)
def test_memory_of_a_request(capsys, rig, name, tls):
    """Its share of what the front grows by."""
    said, held_by = CASES[name]
    if tls and name.startswith("HTTP/2"):
        pytest.skip("its frames are those of the plain one")
    allowed = FACTOR * sum(limits()[NAMES[key]] for key in held_by)
    rig.served()
    before = private_kib(rig.pids()["front"])
    grown = (flooded(rig, said, tls) - before) * KIB / CLIENTS
    with capsys.disabled():
        print(f"\n{name}{', TLS' if tls else ''}: {grown / KIB:.1f} KiB of {allowed / KIB:.0f} KiB")
    assert grown <= allowed
    assert proc.alive(rig.pids()["front"])
    rig.served()
