# SPDX-License-Identifier: Apache-2.0
"""The disk is full (row 19 of the facts): the engine's, Kipgate's own, or both, which are one disk
on most machines. The difficulty: an engine keeps its own files open on it, so it is a small memory
disk that holds the engine's whole directory."""
import os
import pathlib
import shutil
import subprocess
import tempfile
import time

import pytest

from harness import settings
from harness.engine import Engine
from harness.faults import serves, told, unharmed
from harness.kipgate import Kipgate, problem
from harness.waiting import wait_until

DISK_BYTES = 96 << 20


class Disk:
    """A memory disk of its own that can be filled to the last byte."""

    def __init__(self, path):
        self.path = path
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=0755", "tmpfs", path],
            check=True,
        )

    def fill(self):
        """No byte more fits."""
        with open(self.path / "filler", "wb", buffering=0) as file:
            for piece in (1 << 20, 4096, 1):
                try:
                    while True:
                        file.write(bytes(piece))
                except OSError:
                    continue
        assert os.statvfs(self.path).f_bavail == 0

    def free(self):
        """As before."""
        (self.path / "filler").unlink()

    def stop(self):
        """Unmounts it."""
        subprocess.run(["umount", "-l", self.path], check=True)


@pytest.fixture(scope="module")
def disk():
    """The disk."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="kgd"))
    made = Disk(path)
    yield made
    made.stop()
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def small_engine(disk, echo_image):
    """An engine that has only that disk."""
    made = Engine(disk.path / "e")
    made.directory.mkdir()
    try:
        made.start()
        made.copy_image(settings.docker_host(), echo_image)
        yield made
    finally:
        made.stop()


@pytest.mark.parametrize("whose", ["the engine's", "ours", "both"])
def test_disk_full(small_engine, disk, echo, engine_runs, whose):
    """Cold requests are told 503, warm ones do not notice; what cannot be written (clocks, access
    log) is told and does not stop service; it recovers by itself. A fresh start with a full disk
    of our own is refused with words."""
    services = {
        "warm": echo(routes=["/"], idle_timeout="10m"),
        "cold": echo(routes=["/cold"], idle_timeout="10m"),
    }
    own = disk.path / "kipgate"
    own.mkdir(exist_ok=True)
    config = {"sandboxes": "off"}
    if whose != "the engine's":
        config.update(state_dir=str(own / "state"), access_log=str(own / "access.log"))
    host = small_engine.host if whose != "ours" else settings.docker_host()
    with Kipgate(services, engine=host, config=config) as gate:
        assert gate.get("/", timeout=20).status == 200
        disk.fill()
        try:
            with unharmed(gate):
                for _ in range(3):
                    answer = gate.get("/cold", timeout=20)
                    if whose == "ours":
                        assert answer.status == 200, answer.body
                    else:
                        assert answer.status == 503, (answer.status, answer.body)
                        name = (
                            "engine-unavailable" if b"engine-un" in answer.body else "backing-off"
                        )
                        problem(answer, 503, name)
                assert gate.admin.status("/readyz") == 200 == gate.admin.status("/healthz")
                assert len(gate.witness.containers("cold")) == (whose == "ours")
                time.sleep(0.3)
        finally:
            disk.free()
        began = time.monotonic()
        serves(gate, "/cold", within=10)
        told(f"disk full ({whose}): service", time.monotonic() - began)
        if whose != "the engine's":
            assert any("state-not-saved" in line for line in gate.stderr)
            container = gate.witness.wait_one(5, "warm")["Id"]
            gate.kill9()
            gate.start()
            assert gate.get("/").status == 200
            assert gate.witness.wait_one(5, "warm")["Id"] == container
    shutil.rmtree(own)


def test_first_start_on_a_full_disk(disk, echo, kipgate):
    """Nothing can be kept: it says so and does not run."""
    own = disk.path / "kipgate"
    own.mkdir(exist_ok=True)
    gate = kipgate(
        {"echo": echo()}, start=False, config={"state_dir": str(own / "s"), "owner": None}
    )
    disk.fill()
    try:
        gate.spawn()
        assert gate.process.wait(10) in (1, 2)
        wait_until(lambda: "No space left" in gate.tail(), 5, "the reason")
    finally:
        disk.free()
    gate.start()
    assert gate.get("/", timeout=20).status == 200
