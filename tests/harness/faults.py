# SPDX-License-Identifier: Apache-2.0
"""What fault scenarios ask: is what is healthy unharmed, when is service back, and how long did it
take?"""
import contextlib
import os
import time

from harness.load import WarmLoad
from harness.waiting import wait_until

LONG = bool(os.environ.get("KIPGATE_LONG"))  # the variants that take minutes
TIMES = []  # (what, seconds): told at the end of a run


@contextlib.contextmanager
def unharmed(gate, target="/", clients=2, slowest=1.0):
    """Meanwhile no request to a healthy instance fails or waits."""
    load = WarmLoad(gate.front, target, clients=clients)
    wait_until(lambda: load.count > 5, 5, "the prober is under way")
    try:
        yield load
    finally:
        load.stop()
    assert load.failed == [], (load.count, load.failed[:5])
    assert load.count > 20 and load.slowest < slowest, (load.count, load.slowest)


def ready(gate, wanted=200, timeout=15):
    """Until /readyz says so; gives how long that took."""
    began = time.monotonic()
    wait_until(lambda: gate.admin.status("/readyz") == wanted, timeout, f"/readyz {wanted}", 0.005)
    return time.monotonic() - began


def serves(gate, target, timeout=30, within=None):
    """Until a request is answered by a worker; gives how long that took."""
    began = time.monotonic()
    last = []

    def served():
        last[:] = [gate.get(target, timeout=timeout)]
        return last[0].status == 200

    wait_until(served, within or timeout, f"service of {target} again, {last}", 0.05)
    return time.monotonic() - began


def told(what, seconds):
    """Notes how long a recovery took, for the table at the end."""
    TIMES.append((what, seconds))
    return seconds
