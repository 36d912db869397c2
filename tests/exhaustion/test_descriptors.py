# SPDX-License-Identifier: Apache-2.0
"""Without descriptors: by plain connections, by HTTP/2 and by TLS. Nobody spins, those that are
served go on being served, and service is back within a second of relief. (What a cold start needs
then is in tests/faults/test_kipgate_itself.py.)"""
import resource
import time

import pytest
from harness import http2, proc, raw
from harness.echo import get
from harness.tls import Certificate, TlsClient, secure, trusting
from harness.waiting import Background, wait_until
from walks import Rig

NOFILE = 160
CROWD = 300


@pytest.fixture(scope="module")
def rig(tmp_path_factory):
    """A Kipgate with few descriptors."""
    made = Rig()
    certificate = Certificate("a.test")
    secure(made.gate, certificate.write(tmp_path_factory.mktemp("tls")))
    made.context = trusting(certificate)
    made.gate.nofile = NOFILE
    try:
        made.gate.start()
        made.served()
        yield made
        made.gate.stop()
    finally:
        made.close()


def cpu_share(pids, seconds):
    """Of one core, over that time."""
    before = sum(proc.cpu_seconds(pid) for pid in pids)
    time.sleep(seconds)
    return (sum(proc.cpu_seconds(pid) for pid in pids) - before) / seconds


SAID = {
    "plain": b"GET / HTTP/1.1\r\nHost: kipg",
    "http2": http2.PREFACE + http2.settings(),
    "tls": b"\x16\x03\x01\x02\x00\x01",  # the beginning of a handshake
}


def served(rig, tls):
    """Whether a new client is."""
    try:
        if not tls:
            return rig.gate.get("/", timeout=1).status == 200
        with TlsClient(rig.gate.tls, rig.context, timeout=1) as client:
            return client.ask().status == 200
    except (OSError, raw.Broken):
        return False


@pytest.mark.parametrize("how", SAID)
def test_at_the_limit(rig, how):
    """More of them than there are descriptors."""
    gate, tls = rig.gate, how == "tls"
    ours = gate.raw(20)
    assert ours.send(get("/")).response().status == 200
    crowd = []
    for _ in range(CROWD):
        crowd.append(raw.RawClient(gate.tls if tls else gate.front, 20))
        crowd[-1].send_anyway(SAID[how])
    assert cpu_share(gate.pids(), 1.0) < 0.2
    for _ in range(20):
        assert ours.send(get("/")).response().status == 200
    for client in crowd:
        client.close()
    began = time.monotonic()
    wait_until(lambda: served(rig, tls), 5, "service to new clients", 0.02)
    assert time.monotonic() - began < 1
    ours.close()


def test_control_has_none_left(rig):
    """Its limit falls below what is open, for a while: what is warm is served, and by fronts alone.
    (Fronts may not be given another limit from outside; that accepting fails for want of descriptors
    is in test_system_calls.py.)"""
    gate, pid = rig.gate, rig.gate.process.pid
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        asleep = Background(gate.admin.sleep, "echo")  # and a start, which needs the engine
        assert cpu_share(gate.pids(), 1.0) < 0.2
        waits = Background(gate.get, "/", timeout=20)
        assert cpu_share(gate.pids(), 1.0) < 0.2
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
    began = time.monotonic()
    wait_until(lambda: served(rig, False), 5, "service to new clients", 0.02)
    assert time.monotonic() - began < 1
    assert asleep.result(20).status == 200
    assert waits.result(20).status in (200, 503)
