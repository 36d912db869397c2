# SPDX-License-Identifier: Apache-2.0
"""What a front can do, tried from inside those that run, and what it has. The difficulty: started
as root it gives up root, started by an ordinary user it has control's own user, and neither may
reach the engine, a file, a process or a signal."""
import os
import platform
import signal
import socket
import struct

import pytest

from harness import echo as worker
from harness import engine_socket, inject, proc
from harness.waiting import wait_until

USER = 4712
GROUP = 4711
X86 = pytest.mark.skipif(platform.machine() != "x86_64", reason="numbers of x86-64")
SECRET = "a-word-that-nobody-else-may-hear"


@pytest.fixture
def reachable_engine():
    """The engine's socket is a group's, as packages of Docker make it."""
    with engine_socket.of_group(GROUP) as path:
        yield path


@pytest.fixture(params=["root", "user"])
def gate(request, kipgate, echo, reachable_engine):
    """Kipgate as either starts it, with a worker on a Unix socket that has answered."""
    user = (USER, GROUP) if request.param == "user" else None
    services = {
        "tcp": echo(routes=["/tcp"]),
        "unix": echo(routes=["/"], env=worker.on_socket("/run/w/w.sock"), socket="/run/w/w.sock"),
    }
    del services["unix"]["port"]
    made = kipgate(services, user=user, env={"WORD": SECRET})
    for path in ("/tcp", "/"):
        response = made.get(path, timeout=30)
        assert response.status == 200, (path, response.body, made.tail(20))
    return made


def at_unix(path):
    """A struct sockaddr_un."""
    return struct.pack("H108s", socket.AF_UNIX, path.encode())


def at_port(port):
    """A struct sockaddr_in of loopback."""
    return struct.pack("!HH4s8x", 0, port, socket.inet_aton("127.0.0.1")).replace(
        b"\0\0", struct.pack("H", socket.AF_INET), 1
    )


def attempts(control, engine):
    """name -> what is tried with a call function, and how it must end."""
    stream = socket.SOCK_STREAM
    memory = 0x22  # private, anonymous

    def by_socket(call, family, then):
        fd = call(41, family, stream, 0)
        assert fd >= 0, (family, fd)
        try:
            return then(fd)
        finally:
            call(3, fd)

    return {
        "open": (lambda c: c(257, -100, b"/etc/passwd", os.O_RDONLY), "EPERM"),
        "open, by the old call": (lambda c: c(2, b"/etc/passwd", os.O_RDONLY), "EPERM"),
        "creat": (lambda c: c(85, b"/kipgate-no", 0o600), "EPERM"),
        "openat2": (lambda c: c(437, -100, b"/", b"\0" * 24, 24), "EPERM"),
        "stat": (lambda c: c(4, b"/etc/passwd", b"\0" * 200), "EPERM"),
        "its memory": (lambda c: c(257, -100, b"/proc/self/mem", os.O_RDWR), "EPERM"),
        "memfd_create": (lambda c: c(319, b"x", 0), "EPERM"),
        "execve": (lambda c: c(59, b"/bin/true", 0, 0), "EPERM"),
        "fork": (lambda c: c(57), "EPERM"),
        "vfork": (lambda c: c(58), "EPERM"),
        "clone": (lambda c: c(56, signal.SIGCHLD, 0, 0, 0, 0), "EPERM"),
        "kill": (lambda c: c(62, control, signal.SIGTERM), "EPERM"),
        "tgkill": (lambda c: c(234, control, control, signal.SIGTERM), "EPERM"),
        "pidfd_open": (lambda c: c(434, control, 0), "EPERM"),
        "ptrace": (lambda c: c(101, 16, control, 0, 0), "EPERM"),
        "prlimit": (lambda c: c(302, control, 7, b"\1" * 16, 0), "EPERM"),
        "mmap of code": (lambda c: c(9, 0, 4096, 5, memory, -1, 0), "EPERM"),
        "setuid": (lambda c: c(105, 0), "EPERM"),
        "unshare": (lambda c: c(272, 0x10000000), "EPERM"),
        "io_uring_setup": (lambda c: c(425, 1, b"\0" * 120), "EPERM"),
        "bpf": (lambda c: c(321, 0, b"\0" * 64, 64), "EPERM"),
        "prctl": (lambda c: c(157, 4, 1, 0, 0, 0), "EPERM"),
        "netlink": (lambda c: c(41, socket.AF_NETLINK, 3, 0), "EPERM"),
        "datagrams": (lambda c: c(41, socket.AF_INET, socket.SOCK_DGRAM, 0), "EPERM"),
        "bind": (
            lambda c: by_socket(c, socket.AF_INET, lambda fd: c(49, fd, at_port(0), 16)),
            "EPERM",
        ),
        "listen": (lambda c: by_socket(c, socket.AF_INET, lambda fd: c(50, fd, 1)), "EPERM"),
        "signals by a socket": (
            lambda c: by_socket(c, socket.AF_INET, lambda fd: c(72, fd, 8, control)),
            "EPERM",
        ),
        "the engine's socket": (
            lambda c: by_socket(c, socket.AF_UNIX, lambda fd: c(42, fd, at_unix(engine), 110)),
            "ENOENT",
        ),
        "out of its root": (
            lambda c: by_socket(
                c, socket.AF_UNIX, lambda fd: c(42, fd, at_unix("/../.." + engine), 110)
            ),
            "ENOENT",
        ),
    }


@X86
def test_a_front_that_runs_can_do_none_of_this(gate, reachable_engine):
    """Tried in the process that serves, which serves on."""
    for pid in gate.fronts():
        tried = attempts(gate.process.pid, reachable_engine)
        with inject.held(pid) as call:
            assert call(39) == pid, "the one call that must work"
            ends = {name: inject.named(act(call)) for name, (act, _) in tried.items()}
        assert ends == {name: end for name, (_, end) in tried.items()}
    for path in ("/tcp", "/"):
        assert gate.get(path).status == 200
    assert len(gate.fronts()) == 2 and gate.process.poll() is None


def test_what_a_front_has(gate, reachable_engine):
    """Identity, capabilities, root and descriptors, as the kernel tells them."""
    state = gate.config["state_dir"]
    as_user = proc.status(gate.process.pid)["Uid"].split()[0] == str(USER)
    control = set(proc.sockets(gate.process.pid))
    assert control & proc.unix_peers(reachable_engine), "control holds the engine's socket"
    for pid in gate.fronts():
        proc.assert_confined(pid, f"{state}/sockets", USER if as_user else None)
        files = {f for f in proc.files(pid) if f.startswith("/")}
        lock = {f for f in files if f.startswith(f"{state}/front")}
        assert len(lock) == 1 and files - lock <= {"/dev/null", "/memfd:kipgate-counters (deleted)"}
        assert not set(proc.sockets(pid)) & proc.unix_peers(reachable_engine)


def test_nothing_of_control_is_told_to_others(gate, reachable_engine):
    """Its environment is not its fronts', nor its workers'; its files are its own."""
    for pid in gate.fronts():
        environment = open(f"/proc/{pid}/environ", "rb").read()
        assert SECRET.encode() not in environment and not environment.strip(b"\0"), environment
        assert open(f"/proc/{pid}/cmdline").read().split("\0")[:-1] == ["kipgate", "front"]
    for container in gate.witness.containers():
        env = gate.witness.inspect(container["Id"])["Config"]["Env"]
        assert SECRET not in str(env) and not [e for e in env if e.startswith("KIPGATE")], env
    assert not [line for line in gate.stderr if SECRET in line]
    assert os.stat(f"/proc/{gate.process.pid}/mem").st_uid == 0, "control can be traced or dumped"
    for directory, _, names in os.walk(gate.config["state_dir"]):
        if "/sockets" not in directory:
            for name in names:
                mode = os.lstat(f"{directory}/{name}").st_mode & 0o777
                assert mode == 0o600, (name, oct(mode))


def test_a_front_of_an_ordinary_user_attaches_to_the_next_control(gate):
    """In a namespace of its own it still knows its control by its user."""
    fronts = gate.fronts()
    gate.kill9()
    gate.start()
    wait_until(lambda: gate.fronts() == fronts, 10, "both fronts go on")
    assert gate.get("/").status == 200 and gate.get("/tcp").status == 200


def test_a_worker_cannot_lead_a_front_to_the_engine(gate, reachable_engine):
    """The worker rules its socket's directory: a link there to the engine's leads nowhere."""
    (container,) = gate.witness.containers("unix")
    (bind,) = gate.witness.inspect(container["Id"])["HostConfig"]["Binds"]
    path = bind.split(":")[0] + "/w.sock"
    os.unlink(path)
    os.symlink(reachable_engine, path)
    busy = [gate.raw() for _ in range(8)]  # kept connections are in use, so new ones are made
    for client in busy:
        client.send(b"GET /slow?ms=1500 HTTP/1.1\r\nHost: kipgate.test\r\n\r\n")
    answers = [client.response(timeout=30) for client in busy]
    for client in busy:
        client.close()
    answers.append(gate.get("/_ping", timeout=30))
    assert {502} <= {a.status for a in answers} <= {200, 502}, [a.status for a in answers]
    assert not [a for a in answers if "Docker" in str(a.fields)], "the engine answered"
