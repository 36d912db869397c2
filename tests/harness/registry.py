# SPDX-License-Identifier: Apache-2.0
"""A real registry on loopback: Debian's docker-registry with a storage directory of its own.
Engines trust registries of 127.0.0.0/8 without TLS."""
import io
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tarfile
import tempfile
import threading
import time
import urllib.error
import urllib.request
import uuid

from harness import net
from harness.waiting import wait_until

LAYER_BYTES = 6 << 20
USER, PASSWORD = "puller", "secret"
HTPASSWD = "puller:$2b$04$Pq3c6.gsDxvBscJwq69QxubQLa77oVecAF2a94OOnO/INz408AnL."


class Registry:
    """Starts at once; `stop` ends it."""

    def __init__(self, auth=False):
        program = shutil.which("docker-registry")
        assert program, "docker-registry is not installed (Debian package docker-registry)"
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="kgr"))
        self.address = f"127.0.0.1:{net.free_port()}"
        config = self.directory / "config.yml"
        config.write_text(self._config(auth))
        self.log = open(self.directory / "log", "wb")
        self.process = subprocess.Popen(
            [program, "serve", str(config)], stdout=self.log, stderr=self.log
        )
        wait_until(self._answers, 15, "the registry's answer", every=0.02)

    def _config(self, auth):
        text = (
            f"version: 0.1\nlog:\n  level: warn\nstorage:\n  filesystem:\n"
            f"    rootdirectory: {self.directory}/data\nhttp:\n  addr: {self.address}\n"
        )
        if auth:
            (self.directory / "htpasswd").write_text(HTPASSWD + "\n")
            text += f"auth:\n  htpasswd:\n    realm: test\n    path: {self.directory}/htpasswd\n"
        return text

    def _answers(self):
        assert self.process.poll() is None, (self.directory / "log").read_text()
        try:
            return urllib.request.urlopen(f"http://{self.address}/v2/", timeout=2).status == 200
        except urllib.error.HTTPError as error:
            return error.code == 401
        except OSError:
            return False

    def push(self, sdk, image, name, auth=False):
        """Pushes a local image under a name of ours, then forgets that name on the engine."""
        reference = f"{self.address}/{name}"
        sdk.images.get(image).tag(reference)
        credentials = {"username": USER, "password": PASSWORD} if auth else None
        for line in sdk.api.push(reference, stream=True, decode=True, auth_config=credentials):
            assert "error" not in line, line
        sdk.api.remove_image(reference)
        return reference

    def suspend(self):
        """It accepts connections and does not answer."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self):
        """It goes on."""
        self.process.send_signal(signal.SIGCONT)

    def stop(self):
        """Ends it and removes what it stored."""
        self.process.kill()
        self.process.wait()
        self.log.close()
        shutil.rmtree(self.directory, ignore_errors=True)


class SlowWay:
    """Forwards connections to the registry, at most `rate` bytes a second from there to here;
    rate 0 holds everything back. After `left` bytes more all is cut, until that is None again."""

    def __init__(self, target):
        self.target, self.rate = target, 1 << 30
        self.left = None
        self.connections = 0
        self.listener = socket.create_server(("127.0.0.1", net.free_port()))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                here, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            there = socket.create_connection(self.target)
            for ends in ((here, there, False), (there, here, True)):
                threading.Thread(target=self._forward, args=ends, daemon=True).start()

    def _forward(self, source, sink, slowly):
        try:
            while data := source.recv(65536):
                while slowly and self.rate == 0:
                    time.sleep(0.02)
                if slowly and not self._allowed(len(data)):
                    break
                sink.sendall(data)
                if slowly:
                    time.sleep(len(data) / (self.rate or 1 << 30))
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def _allowed(self, count):
        if self.left is None:
            return True
        self.left = max(0, self.left - count)
        return self.left > 0

    def stop(self):
        """Takes no more connections."""
        self.listener.close()


def unlike_any(sdk, echo_image):
    """An image with a layer of random bytes, so that it has to travel."""
    made = sdk.api.create_container(echo_image)
    try:
        file = tarfile.TarInfo("random")
        file.size = LAYER_BYTES
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            tar.addfile(file, io.BytesIO(os.urandom(LAYER_BYTES)))
        sdk.api.put_archive(made["Id"], "/", archive.getvalue())
        name = f"kipgate-ahead-{uuid.uuid4().hex[:8]}"
        sdk.api.commit(made["Id"], name, "test")
        return f"{name}:test"
    finally:
        sdk.api.remove_container(made["Id"])
