# SPDX-License-Identifier: Apache-2.0
"""Slow heads, slow bodies and slow readers as slowhttptest makes them, all three at once: others
are served all the while, and those who never come to an end are ended by us. The difficulty: the
tool tells little, so what is left of its connections is read from the front's own count."""
import re
import subprocess

import pytest

from abuse_clients import others_served
from harness.kipgate import Kipgate
from harness.waiting import wait_until

CONNECTIONS = 300
SECONDS = 40  # if the front did not end them, the tool would after that


def slow(gate, target, *words):
    """Starts the tool."""
    url = f"http://{gate.front[0]}:{gate.front[1]}{target}"
    counts = ["-c", str(CONNECTIONS), "-r", str(CONNECTIONS), "-l", str(SECONDS), "-p", "30"]
    return subprocess.Popen(
        ["slowhttptest", *words, *counts, "-u", url],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def said(process):
    """Its last report, without colours."""
    out = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", process.communicate(timeout=SECONDS * 3)[0])
    return out[out.rfind("slow HTTP test status") :]


def connections(gate):
    """Clients' connections of all fronts now."""
    return gate.admin.metric("kipgate_connections")


@pytest.fixture
def gate(echo):
    """Awake; any host."""
    services = {"echo": echo(idle_timeout="30m", concurrency=2000)}
    with Kipgate(services, config={"fronts": 2}) as kipgate:
        assert kipgate.admin.wake("echo").status == 200
        yield kipgate


def test_slow_heads_bodies_and_readers(gate):
    """Slowloris and R-U-Dead-Yet are ended within the limits (10 s for a head; 500 bytes a second
    after 10 s for a body); readers that take a few bytes a second are served at their pace and
    cost no more."""
    with others_served(gate, least=100, grows_kib=3 * CONNECTIONS * 256):
        heads = slow(gate, "/honest", "-H", "-i", "1", "-x", "24")
        bodies = slow(gate, "/sink", "-B", "-i", "1", "-s", "8192", "-x", "10")
        readers = slow(
            gate, "/zeros?bytes=1000000", "-X", "-n", "2", "-z", "16", "-w", "64", "-y", "256"
        )
        try:
            reports = said(heads), said(bodies)
        finally:
            readers.terminate()
            for process in (heads, bodies):
                process.kill()
            last = said(readers)
    for report in reports:
        assert "No open connections left" in report, report
        assert re.search(r"service available:\s+YES", report), report
    assert re.search(r"service available:\s+YES", last) or not last, last
    wait_until(lambda: connections(gate) <= 5, 60, "their connections are gone", every=0.1)
