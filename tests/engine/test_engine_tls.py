# SPDX-License-Identifier: Apache-2.0
"""An engine by TLS: whom Kipgate believes, and what it says where it does not. The difficulty: the
engine is the one of all tests, behind a door of our own that shows whatever certificate a test
wants."""
import contextlib
import select
import socket
import ssl
import subprocess
import sys
import threading

import pytest
from cryptography.hazmat.primitives import serialization

from harness import settings
from harness.tls import PEM, Certificate


class Door:
    """Speaks TLS, passes everything on to the engine's socket; one thread per connection."""

    def __init__(self):
        self.path = settings.docker_host().removeprefix("unix://")
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.host = f"tcp://localhost:{self.listener.getsockname()[1]}"
        self.context, self.open, self.lock = None, [], threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def show(self, certificate, clients, directory):
        """From now on shows this certificate, and lets in whom `clients` signed; ends what is open."""
        paths = certificate.write(directory, "engine")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(paths["certificate"], paths["key"])
        context.load_verify_locations(cadata=clients.pem.decode())
        context.verify_mode = ssl.CERT_REQUIRED
        self.context = context
        with self.lock:
            for connection in self.open:
                with contextlib.suppress(OSError):  # its peer was first
                    connection.shutdown(socket.SHUT_RDWR)

    def close(self):
        """Accepts nobody any more."""
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def _accept(self):
        while True:
            try:
                client = self.listener.accept()[0]
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        with client, socket.socket(socket.AF_UNIX) as engine:
            with self.lock:
                self.open.append(client)
            try:
                with self.context.wrap_socket(client.dup(), server_side=True) as secure:
                    engine.connect(self.path)
                    self._relay(secure, engine)
            except OSError:
                pass  # refused, or ended by a test
            with self.lock:
                self.open.remove(client)

    @staticmethod
    def _relay(secure, engine):
        while True:
            ready = [secure] if secure.pending() else select.select([secure, engine], [], [])[0]
            for source, target in ((secure, engine), (engine, secure)):
                if source in ready:
                    data = source.recv(1 << 16)
                    if not data:
                        return
                    target.sendall(data)


@pytest.fixture
def door():
    """Shows nothing yet."""
    made = Door()
    yield made
    made.close()


def material(directory, authority, key_password=None):
    """The directory that DOCKER_CERT_PATH names: whom to believe, and who we are."""
    us = Certificate(common="kipgate", issuer=authority)
    directory.mkdir(exist_ok=True)
    key = us.key_pem
    if key_password:
        encryption = serialization.BestAvailableEncryption(key_password)
        key = us.key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, encryption)
    for name, text in (("ca", authority.pem), ("cert", us.pem), ("key", key)):
        (directory / f"{name}.pem").write_bytes(text)
    return directory


def gate_of(kipgate, door, directory, **more):
    """A Kipgate of that engine; started by the test."""
    env = {"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(directory)}
    return kipgate(
        {}, start=False, engine=door.host, witness=settings.docker_host(), env=env, **more
    )


def program(path, text):
    """A program that does something before it becomes Kipgate."""
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


def test_renewed_as_a_whole(kipgate, door, tmp_path):
    """Another authority with all that it signed, on both sides: the next connection uses it."""
    first, second = (Certificate(common="authority", ca=True) for _ in range(2))
    door.show(Certificate("localhost", issuer=first), first, tmp_path)
    gate = gate_of(kipgate, door, material(tmp_path / "certs", first)).start()
    since = gate.logs.mark()
    door.show(Certificate("localhost", issuer=second), second, tmp_path)
    gate.wait_log(20, since, event="engine-down")
    since = gate.logs.mark()
    material(tmp_path / "certs", second)
    gate.wait_log(20, since, event="engine-up")


def test_another_name(kipgate, door, tmp_path):
    """The certificate is good, but somebody else's."""
    authority = Certificate(common="authority", ca=True)
    door.show(Certificate("elsewhere.test", issuer=authority), authority, tmp_path)
    gate = gate_of(kipgate, door, material(tmp_path / "certs", authority)).start(ready=False)
    assert "'localhost'" in gate.wait_log(event="engine-down")["why"]


def test_no_authority_but_the_one_that_is_named(kipgate, door, tmp_path):
    """Whom the machine believes is not whom Kipgate believes: ca.pem alone counts."""
    ours, public = (Certificate(common=name, ca=True) for name in ("ours", "public"))
    door.show(Certificate("localhost", issuer=public), ours, tmp_path)
    (tmp_path / "public.pem").write_bytes(public.pem)
    digest = subprocess.run(
        ["openssl", "x509", "-noout", "-subject_hash", "-in", tmp_path / "public.pem"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    text = (
        "#!/bin/sh\nexec unshare -m sh -e -c 'mount -t tmpfs none /etc/ssl/certs\n"
        f"cp {tmp_path}/public.pem /etc/ssl/certs/{digest}.0\n"
        f'exec {settings.kipgate_bin()} "$@"\' sh "$@"\n'
    )
    gate = gate_of(
        kipgate,
        door,
        material(tmp_path / "certs", ours),
        binary=program(tmp_path / "kipgate", text),
    ).start(ready=False)
    told = gate.logs.wait(
        lambda line: line.get("event") in ("engine-up", "engine-down"), 10, "what became of it"
    )
    assert told["event"] == "engine-down" and "certificate" in told["why"], told


def test_an_encrypted_key(kipgate, door, tmp_path):
    """Nobody is asked for its password, also where there is a terminal to ask at."""
    authority = Certificate(common="authority", ca=True)
    door.show(Certificate("localhost", issuer=authority), authority, tmp_path)
    text = (
        f"#!{sys.executable}\n"
        "import fcntl, os, sys, termios\n"
        "os.setsid()\n"
        "master, terminal = os.openpty()\n"
        "fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)\n"
        "os.set_inheritable(master, True)\n"
        f"os.execv('{settings.kipgate_bin()}', sys.argv)\n"
    )
    gate = gate_of(
        kipgate,
        door,
        material(tmp_path / "certs", authority, b"password"),
        binary=program(tmp_path / "kipgate", text),
    ).start(ready=False)
    assert "key.pem" in gate.wait_log(event="engine-down")["why"]
