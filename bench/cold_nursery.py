# SPDX-License-Identifier: Apache-2.0
"""ContainerNursery beside Kipgate: a Node.js proxy that starts and stops containers by use. The
difficulty: it takes the engine's socket from one fixed path and answers the first request with a
loading page, so it runs in a mount namespace of its own, and is asked until the worker answers."""
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time

from cold_engine import EngineConnection, first_byte
from cold_stages import NotAvailable
from common import ECHO_IMAGE
from harness import net
from harness.raw import Broken
from harness.waiting import TimedOut, wait_until

SOURCE = "https://github.com/ItsEcholot/ContainerNursery"
COMMIT = "cf98c9748d216446a8d6065328aec0522a1a1581"  # 1.9.0 and its last fixes
LOADING_PAGES_PORT = 8080  # not to be configured
ASK_AGAIN_S = 0.01
IN_OWN_MOUNTS = """
mount --bind "$1" "$2" && mount -t tmpfs tmpfs /run && : >/run/docker.sock &&
mount --bind "$2" /run/docker.sock && exec node build/index.js
"""


def _run(directory, *command):
    """A command of the installation; its last words are the reason when it fails."""
    try:
        done = subprocess.run(
            command,
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            env={**os.environ, "GIT_TERMINAL_PROMPT": "0"},
        )
    except subprocess.TimeoutExpired as error:
        raise NotAvailable(f"{' '.join(command[:2])} did not end") from error
    if done.returncode != 0:
        lines = [line for line in done.stdout.splitlines() if line.strip()] or ["no words"]
        raise NotAvailable(f"{' '.join(command[:2])}: {lines[-1].strip()[:120]}")


def install(directory, source):
    """Source at the pinned commit, packages at the versions of its lock file, compiled."""
    missing = [p for p in ("git", "npm", "node", "unshare") if not shutil.which(p)]
    if missing:
        raise NotAvailable(f"not installed: {', '.join(missing)}")
    _run(directory, "git", "clone", "--quiet", "--no-checkout", source, str(directory))
    _run(directory, "git", "checkout", "--quiet", COMMIT)
    _run(directory, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
    _run(directory, "node", "node_modules/typescript/bin/tsc")


class Nursery:
    """Its rows. The container exists throughout: ContainerNursery creates none, it starts one that
    was stopped."""

    rows = ["ContainerNursery: until the worker's answer", "  answers of its own before that"]
    plain = {1}  # this row counts, it has no unit

    def __init__(self, host, source):
        if not host.startswith("unix://"):
            raise NotAvailable("it knows engines on Unix sockets only")
        if not net.refused(("127.0.0.1", LOADING_PAGES_PORT)):
            raise NotAvailable(f"port {LOADING_PAGES_PORT} of this machine is in use")
        self.process = self.container = None
        self.connection = EngineConnection(host)
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="kgn"))
        self.log = None
        try:
            install(self.directory, source)
            self._start(host.removeprefix("unix://"))
        except BaseException:
            self.close()
            raise

    def _start(self, socket):
        inside, outside = net.free_port(), self._port()
        body = {
            "Image": ECHO_IMAGE,
            "HostConfig": {
                "PortBindings": {"8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(inside)}]}
            },
        }
        self.container = self.connection.call("POST", "/containers/create", body)["Id"]
        self.front = ("127.0.0.1", outside)
        (self.directory / "docker.sock").touch()
        (self.directory / "config/config.yml").write_text(self._configuration(inside, outside))
        self.log = open(self.directory / "log", "wb")
        self.process = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", IN_OWN_MOUNTS, "sh"]
            + [socket, str(self.directory / "docker.sock")],
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
            env={**os.environ, "NODE_ENV": "production", "CN_LOG_JSON": "true"},
        )
        try:
            wait_until(self._listens, 20, "ContainerNursery's first answer", every=0.05)
        except (TimedOut, AssertionError) as error:
            raise NotAvailable(str(error)) from error

    @staticmethod
    def _port():
        """It takes no port of the upper range."""
        while True:
            port = net.free_port() % 20000 + 20000
            if net.refused(("127.0.0.1", port)):
                return port

    def _configuration(self, inside, outside):
        return (
            f"proxyListeningPort: {outside}\nproxyHosts:\n  - domain: nursery.test\n"
            f"    containerName: {self.container}\n    proxyHost: 127.0.0.1\n"
            f"    proxyPort: {inside}\n    timeoutSeconds: 1\n"
        )

    def _listens(self):
        if self.process.poll() is not None:
            lines = (self.directory / "log").read_text().splitlines() or ["no words"]
            raise AssertionError(f"ContainerNursery ended: {lines[-1][:200]}")
        return not net.refused(self.front)

    def _asleep(self):
        state = self.connection.call("GET", f"/containers/{self.container}/json")["State"]
        return not state["Running"]

    def measure(self):
        """Its own timer stops the container; then asks until the worker answers. Every answer
        before that one is the loading page, or an error."""
        wait_until(self._asleep, 30, "ContainerNursery stops its container", every=0.05)
        time.sleep(0.3)  # it tells nobody when it knows
        began, others = time.perf_counter(), 0
        while time.perf_counter() - began < 30:
            try:
                at = time.perf_counter()
                took, response = first_byte(self.front, "/small", "nursery.test", 5)
                if response.one("X-Echo-Host"):
                    return [at + took - began, others]
            except (OSError, Broken):
                pass
            others += 1
            time.sleep(ASK_AGAIN_S)
        raise NotAvailable("ContainerNursery's container did not answer within 30 s")

    def close(self):
        """Ends it and removes its container and files."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self.log:
            self.log.close()
        if self.container:
            self.connection.call("DELETE", f"/containers/{self.container}?force=1")
        shutil.rmtree(self.directory, ignore_errors=True)
