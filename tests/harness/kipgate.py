# SPDX-License-Identifier: Apache-2.0
"""One Kipgate under test. The difficulty: it must be told apart from every other one on the
machine and engine, so it has its own state, ports, sockets and owner label, and it must not be
left behind."""
import json
import os
import pathlib
import resource
import shutil
import signal
import subprocess
import tempfile
import threading
import uuid

from harness import net, proc, raw, settings
from harness.admin import Admin
from harness.waiting import Mailbox, wait_until
from harness.witness import Witness

SANITIZER_WORDS = ("AddressSanitizer", "LeakSanitizer", "runtime error:", "Assertion")
# What libc says of a spoilt heap or stack, at the beginning of a line.
LIBC_WORDS = ("free(): ", "malloc", "realloc(): ", "munmap_chunk(): ", "double free", "corrupted ")
LIBC_WORDS += ("*** stack smashing", "*** buffer overflow")


class Kipgate:
    """Starts in `start`, ends in `stop` (or by the context manager)."""

    def __init__(
        self,
        services=None,
        config=None,
        binary=None,
        env=None,
        flags=(),
        nofile=None,
        admin_tcp=False,
        engine=None,
        witness=None,
        user=None,
    ):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="kg"))
        self.directory.chmod(0o755)
        self.owner = f"test-{uuid.uuid4().hex[:12]}"
        self.binary = binary or settings.kipgate_bin()
        self.host = engine or settings.docker_host()
        self.front = ("127.0.0.1", net.free_port())
        self.front_unix = str(self.directory / "front.sock")
        self.admin_address = (
            ("127.0.0.1", net.free_port()) if admin_tcp else str(self.directory / "admin.sock")
        )
        self.admin = Admin(self.admin_address)
        self.config_path = self.directory / "kipgate.json"
        self.config = self._configuration(services or {}, config or {})
        self.env = settings.clean_environment(**(env or {}))
        self.flags = list(flags)
        self.nofile = nofile
        self.user = user  # (uid, gid) of an ordinary user to run as
        if user:
            os.chown(self.directory, *user)
            self.binary = binary or copy_for_all(self.directory)
        self.logs = Mailbox()
        self.stderr = []
        self.process = None
        self.left, self.spawned = [], 0  # fronts without control; log lines of earlier ones
        self.witness = Witness(witness or self.host, self.owner)

    def _configuration(self, services, more):
        listen = self.admin_address
        admin = f"unix:{listen}" if isinstance(listen, str) else f"{listen[0]}:{listen[1]}"
        base = {
            "listen": [f"{self.front[0]}:{self.front[1]}", f"unix:{self.front_unix}"],
            "admin": admin,
            "engine": self.host,
            "owner": self.owner,
            "state_dir": str(self.directory / "state"),
            "fronts": 2,
            "log_level": "debug",
            "log_format": "json",
            "services": services,
        }
        merged = {**base, **more}
        return {key: value for key, value in merged.items() if value is not None}

    def __enter__(self):
        return self.start()

    def __exit__(self, kind, *_):
        try:
            if self.process and self.process.poll() is None:
                self.stop() if kind is None else self.end()
        finally:
            self.discard()

    # --- the process -----------------------------------------------------------------------------

    def write_config(self):
        """Writes the configuration file from `config`; more than one thread may."""
        temporary = self.config_path.with_suffix(f".new{threading.get_ident()}")
        temporary.write_text(json.dumps(self.config, indent=2))
        temporary.rename(self.config_path)

    def command(self, *words):
        """The command line of a CLI call of this Kipgate."""
        return [self.binary, *words, "--config", str(self.config_path)]

    def cli(self, *words, timeout=60, env=None):
        """Runs a command of the CLI to its end."""
        self.write_config()
        return subprocess.run(
            self.command(*words),
            capture_output=True,
            text=True,
            timeout=timeout,
            env={**self.env, **(env or {})},
        )

    def spawn(self):
        """Starts the process without waiting for it."""
        self.write_config()
        self.spawned = self.logs.mark()
        limit = (
            (lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (self.nofile, self.nofile)))
            if self.nofile
            else None
        )
        self.process = subprocess.Popen(
            self.command("serve") + self.flags,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            preexec_fn=limit,
            **self._identity(),
        )
        threading.Thread(target=self._read_logs, args=(self.process.stderr,), daemon=True).start()
        return self

    def _identity(self):
        """Of the process, for subprocess."""
        if not self.user:
            return {}
        return {"user": self.user[0], "group": self.user[1], "extra_groups": []}

    def start(self, ready=True, timeout=20):
        """Starts and waits until it is ready (or only alive)."""
        self.spawn()
        self.wait_ready("/readyz" if ready else "/healthz", timeout)
        self.left = []  # attached to this one, or sent off by it
        return self

    def wait_ready(self, path="/readyz", timeout=20):
        """Waits until it says that it is ready."""
        wait_until(lambda: self._answers(path), timeout, "Kipgate's readiness", every=0.01)

    def _answers(self, path):
        assert self.process.poll() is None, f"kipgate ended:\n{self.tail()}"
        try:
            return self.admin.status(path, timeout=2) == 200
        except (OSError, raw.Broken):
            return False

    def _read_logs(self, stream):
        for line in stream:
            text = line.decode("utf-8", "replace").rstrip("\n")
            self.stderr.append(text)
            try:
                self.logs.put(json.loads(text))
            except ValueError:
                self.logs.put({"unparsed": text})

    def tail(self, lines=40):
        """The last of standard error, for a failure's words."""
        return "\n".join(self.stderr[-lines:])

    def stop(self, timeout=60):
        """SIGTERM; it must drain and end with status 0, without a sanitizer's word."""
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGABRT)
            raise AssertionError(
                f"kipgate did not end within {timeout} s of SIGTERM:\n{self.tail()}"
            )
        assert status == 0, f"exit status {status} after SIGTERM:\n{self.tail()}"
        self.assert_clean()

    def assert_clean(self):
        """No sanitizer report, failed assertion or word of a spoilt heap in what it wrote."""
        bad = [
            line
            for line in self.stderr
            if any(word in line for word in SANITIZER_WORDS) or line.startswith(LIBC_WORDS)
        ]
        assert not bad, "\n".join([f"not clean: {bad[:5]}", *self.stderr[-200:]])

    def kill9(self, fronts=False):
        """SIGKILL of the control process; its fronts go on, or are killed with it."""
        self.left = self.fronts()
        self.process.kill()
        self.process.wait()
        if fronts:
            self._kill_left()

    def _kill_left(self):
        """Ends fronts that have no control."""
        for pid in self.left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        wait_until(
            lambda: not any(proc.alive(pid) for pid in self.left), 10, "fronts end", every=0.01
        )
        self.left = []

    def end(self):
        """Ends it somehow: clean-up after a failure."""
        if self.process and self.process.poll() is None:
            self.kill9()
        self._kill_left()

    def discard(self):
        """Removes its containers and files."""
        if self.process and self.process.poll() is not None:
            self._kill_left()
        try:
            self.witness.remove_all()
        except Exception as error:  # the engine may be gone in an engine test
            print(f"clean-up: {error}")
        self.witness.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def fronts(self):
        """Process ids of the fronts: those it started, and those of an earlier control."""
        attached = [
            line["pid"]
            for line in self.logs.all()[self.spawned :]
            if line.get("event") == "front-attached" and proc.alive(line["pid"])
        ]
        return sorted({*proc.children(self.process.pid), *attached})

    def pids(self):
        """Control and fronts."""
        return [self.process.pid, *self.fronts()]

    # --- what tests ask --------------------------------------------------------------------------

    def get(self, target="/", **kwargs):
        """A request through the front on a connection of its own."""
        return raw.get(self.front, target, **kwargs)

    def raw(self, timeout=10.0, **kwargs):
        """A connection to the front."""
        return raw.RawClient(self.front, timeout, **kwargs)

    def wait_log(self, timeout=10, since=0, **fields):
        """The first log line that has all these fields."""
        return self.logs.wait(
            lambda line: fields.items() <= line.items(), timeout, f"log line {fields}", since
        )

    def reload(self, change):
        """Changes the configuration by change(config) and reloads; gives the answer."""
        change(self.config)
        self.write_config()
        return self.admin.call("POST", "/v1/reload")


def copy_for_all(directory):
    """The program under test where an ordinary user reaches it: it may have been built below /root."""
    path = shutil.copy(settings.kipgate_bin(), directory / "program")
    os.chmod(path, 0o755)
    return str(path)


def problem(response, status, reason):
    """Checks an answer made by Kipgate; gives its parsed body."""
    assert response.status == status, (response.status, response.fields, response.body[:500])
    assert response.one("Content-Type").split(";")[0] == "application/problem+json"
    body = json.loads(response.body)
    assert body["type"] == f"urn:kipgate:{reason}", body
    assert body["status"] == status, body
    assert body["title"] and isinstance(body["title"], str), body
    assert body["instance"] and body["instance"] == response.one("X-Request-Id"), body
    if status in (429, 503):
        after = response.one("Retry-After")
        assert after is not None and after.isdigit() and int(after) >= 1, f"Retry-After: {after}"
    return body


def eventually_warm(gate, service, target="/", host="kipgate.test", timeout=30):
    """Wakes a service and sees a request answered."""
    response = gate.admin.wake(service, timeout)
    assert response.status == 200, (response.status, response.body)
    return gate.get(target, host=host, timeout=timeout)
