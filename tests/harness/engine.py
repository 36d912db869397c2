# SPDX-License-Identifier: Apache-2.0
"""An engine of a test's own, to be killed, stopped and restarted. The difficulty: a restart
after a kill must use the very command line that packaging/engine.sh chose, so it is read from
the kernel."""
import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile

from harness import proc
from harness.waiting import wait_until
from harness.witness import client

SCRIPT = pathlib.Path(__file__).parents[2] / "packaging/engine.sh"


class Engine:
    """containerd and dockerd below one directory, with live-restore."""

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        self.host = f"unix://{self.directory}/docker.sock"
        self.command = None
        self.dockerd = self.containerd = None  # our own children after the first restart
        self.containerd_command = None

    def _script(self, verb, *words):
        done = subprocess.run(
            [str(SCRIPT), verb, str(self.directory), *words],
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=120,
        )
        assert done.returncode == 0, f"engine.sh {verb}: {done.stdout}"

    def start(self):
        """Starts both and waits until the engine answers."""
        self._script("start", "--live-restore")
        self.command = self._command_of(self.pid())
        return self

    @staticmethod
    def _command_of(pid):
        raw = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
        return [word.decode() for word in raw.split(b"\0")[:-1]]

    def pid(self):
        """Process id of dockerd."""
        if self.dockerd:
            return self.dockerd.pid
        return int((self.directory / "dockerd.pid").read_text())

    def signal(self, number):
        """Sends a signal to dockerd alone."""
        os.kill(self.pid(), number)

    def kill_dockerd(self):
        """kill -9 of dockerd alone; its containers go on."""
        pid = self.pid()
        if proc.alive(pid):
            self.signal(signal.SIGKILL)
        self._wait_end(self.dockerd, pid)

    @staticmethod
    def _wait_end(child, pid):
        if child:
            child.wait()
        wait_until(lambda: not proc.alive(pid), 15, "the end of an engine's process")

    def end_dockerd(self):
        """SIGTERM: it ends its containers first, unless it was told to leave them."""
        pid = self.pid()
        self.signal(signal.SIGTERM)
        self._wait_end(self.dockerd, pid)

    def kill_containerd(self):
        """kill -9 of containerd alone: dockerd and the containers go on."""
        pid = int((self.directory / "containerd.pid").read_text())
        self.containerd_command = self._command_of(pid)
        os.kill(pid, signal.SIGKILL)
        self._wait_end(self.containerd, pid)

    def containerd_gone(self):
        """Whether it has been killed and has ended."""
        return not proc.alive(int((self.directory / "containerd.pid").read_text()))

    def start_containerd(self):
        """Starts containerd again; dockerd finds it."""
        self.containerd = self._spawn("containerd", self.containerd_command)

    def _spawn(self, name, command):
        with open(self.directory / f"{name}.log", "ab") as log:
            child = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )
        (self.directory / f"{name}.pid").write_text(f"{child.pid}\n")
        return child

    def start_dockerd(self, live_restore=True):
        """Starts dockerd again, as after a crash."""
        (self.directory / "docker.pid").unlink(missing_ok=True)
        command = [w for w in self.command if live_restore or w != "--live-restore"]
        self.dockerd = self._spawn("dockerd", command)
        wait_until(self._came_up, 30, "the engine's answer to a ping", every=0.02)

    def _came_up(self):
        assert self.dockerd.poll() is None, f"dockerd ended, see {self.directory}/dockerd.log"
        return self.answers()

    def answers(self):
        """Whether it answers a ping."""
        try:
            return client(self.host, 5).ping()
        except Exception:  # not there yet: the SDK raises what its HTTP library raises
            return False

    def suspend(self):
        """SIGSTOP: connections are accepted, nothing answers."""
        self.signal(signal.SIGSTOP)

    def resume(self):
        """SIGCONT."""
        self.signal(signal.SIGCONT)

    def client(self, timeout=30):
        """A witness's client."""
        return client(self.host, timeout)

    def copy_image(self, source_host, image):
        """Brings an image over from another engine."""
        data = client(source_host).images.get(image).save(named=image)
        self.client().images.load(b"".join(data))

    def stop(self):
        """Ends it and removes all that it made."""
        self._script("stop")
        for child in (self.dockerd, self.containerd):
            if child:
                child.wait(10)


@contextlib.contextmanager
def own_engine(source_host, *images):
    """An engine of a module's own with these images of another one, removed at the end."""
    directory = pathlib.Path(tempfile.mkdtemp(prefix="kge"))
    made = Engine(directory)
    try:
        made.start()
        for image in images:
            made.copy_image(source_host, image)
        yield made
    finally:
        made.stop()
        shutil.rmtree(directory, ignore_errors=True)
