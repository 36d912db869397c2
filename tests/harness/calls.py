# SPDX-License-Identifier: Apache-2.0
"""System calls of a process, counted by strace while a test or a bench does something. The
difficulty: strace is there only once it says so, and its table comes only when it has let go."""
import contextlib
import pathlib
import re
import signal
import subprocess
import tempfile

KINDS = {
    "reads": ("read", "readv", "recvfrom", "recvmsg"),
    "writes": ("write", "writev", "sendto", "sendmsg"),
    "epoll_ctl": ("epoll_ctl",),
    "epoll_wait": ("epoll_wait", "epoll_pwait"),
    "clock": ("clock_gettime", "gettimeofday", "time"),
    "memory": ("brk", "mmap", "munmap", "mremap", "madvise"),
}


class Calls:
    """How often each system call was made; filled when the counting ends."""

    def __init__(self):
        self.names = {}

    def _read(self, text):
        """Takes strace's table: share, seconds, us/call, calls, errors perhaps, name."""
        for line in text.splitlines():
            words = line.split()
            if len(words) >= 5 and re.fullmatch(r"[\d.]+", words[0]) and words[-1] != "total":
                self.names[words[-1]] = int(words[3])

    def kinds(self):
        """Calls by kind; what has no kind is `others`."""
        found = {kind: 0 for kind in (*KINDS, "others")}
        for name, count in self.names.items():
            found[next((k for k, names in KINDS.items() if name in names), "others")] += count
        return found


@contextlib.contextmanager
def counted(pid):
    """Counts the system calls of a process and its threads while inside."""
    calls = Calls()
    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory) / "calls"
        process = subprocess.Popen(
            ["strace", "-c", "-f", "-p", str(pid), "-o", str(path)],
            stderr=subprocess.PIPE,
            text=True,
        )
        said = process.stderr.readline()
        assert "attached" in said, f"strace: {said}"
        try:
            yield calls
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(10)
            process.stderr.close()
        calls._read(path.read_text())


@contextlib.contextmanager
def child_stops(pid, name):
    """The next child of that process is stopped before its first call of that name, and stays so;
    inside one waits for that: gives its process id."""
    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory) / "calls"
        inject = f"inject={name}:signal=STOP:when=1"
        words = ["-f", "-e", f"trace={name}", "-e", inject, "-p", str(pid), "-o", str(path)]
        process = subprocess.Popen(["strace", *words], stderr=subprocess.PIPE, text=True)
        said = process.stderr.readline()
        assert "attached" in said, f"strace: {said}"
        try:
            yield lambda: _stopped(path.read_text())
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(10)
            process.stderr.close()


def _stopped(text):
    """Who stopped; 0: nobody yet."""
    found = re.search(r"^(\d+) +--- stopped by SIGSTOP", text, re.M)
    return int(found[1]) if found else 0
