# SPDX-License-Identifier: Apache-2.0
"""Where logs go, where state is kept, and how Kipgate ends, in surroundings that are not as they
should be: nobody reads, a directory is swept, descriptors are missing, an engine hangs."""
import json
import os
import pathlib
import signal
import subprocess
import time

import pytest

from harness import proc, settings
from harness.between import Between
from harness.waiting import Background, wait_until

PROGRAM_LATE_S = 10


def target_of(pid, number):
    """What a descriptor of a process points at."""
    return os.readlink(f"/proc/{pid}/fd/{number}")


def blocks(pid, number):
    """Whether a write by that descriptor may wait."""
    lines = pathlib.Path(f"/proc/{pid}/fdinfo/{number}").read_text().splitlines()
    (flags,) = (line.split()[1] for line in lines if line.startswith("flags:"))
    return not int(flags, 8) & os.O_NONBLOCK


# --- logs -----------------------------------------------------------------------------------------


def test_access_log_that_is_cut(kipgate, echo):
    """Rotated by copying: what comes next is at its begin, without a hole before it."""
    gate = kipgate({"echo": echo()}, start=False)
    path = gate.directory / "access.log"
    gate.config["access_log"] = str(path)
    gate.start()
    for name in ("/first", "/second"):
        assert gate.get(name).status == 200
        line = wait_until(path.read_bytes, 5, "an access log line")
        assert json.loads(line)["target"] == name
        os.truncate(path, 0)


# --- state ----------------------------------------------------------------------------------------


# --- its end, and its successor -------------------------------------------------------------------


@pytest.fixture
def between():
    """The way to the engine, to be slowed."""
    made = Between(settings.docker_host())
    yield made
    made.stop()
