# SPDX-License-Identifier: Apache-2.0
"""What the kernel says about processes: the judge of memory, privileges and descriptors."""
import os
import pathlib
import signal

from harness.waiting import wait_until


def status(pid):
    """Fields of /proc/PID/status."""
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    return {
        key: value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())
    }


def rss_kib(pid):
    """Resident memory in KiB."""
    return int(status(pid)["VmRSS"].split()[0])


def children(pid):
    """Direct children."""
    found = []
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        found += [int(word) for word in (task / "children").read_text().split()]
    return found


def tree(pid):
    """A process and all below it."""
    return [pid] + [p for child in children(pid) for p in tree(child)]


def let_go(pid):
    """Of a process that `strace -D -I 2` started (without -I it would not listen): its strace goes,
    with all descriptors that it inherited, or the process is gone."""

    def tracer():
        try:
            return int(status(pid)["TracerPid"])
        except (FileNotFoundError, ProcessLookupError):
            return 0

    one = tracer()
    if one:
        os.kill(one, signal.SIGTERM)
        wait_until(lambda: not tracer() or not alive(pid), 10, f"{pid} is traced no more", 0.002)


def assert_confined(pid, root=None, user=None):
    """No capability, no new privileges, both filters of a front; not root, or that user of an
    ordinary one's; with a root, only that directory and no capability in reach of a program."""
    said = status(pid)
    reach = ("CapBnd",) if root else ()
    for key in ("CapInh", "CapPrm", "CapEff", "CapAmb", *reach):
        assert int(said[key], 16) == 0, (pid, key, said[key])
    assert (said["NoNewPrivs"], said["Seccomp"]) == ("1", "2"), (pid, said)
    assert said.get("Seccomp_filters", "2") == "2", (pid, said)  # since Linux 5.9
    numbers = {*said["Uid"].split(), *said["Gid"].split(), *said["Groups"].split()}
    if user:
        assert set(said["Uid"].split()) == {str(user)}, (pid, said["Uid"])
    else:
        assert "0" not in numbers, (pid, numbers)
    if root:
        assert os.readlink(f"/proc/{pid}/root") == str(root)
    assert os.stat(f"/proc/{pid}/mem").st_uid == 0, f"{pid} can be traced or dumped"


def watches(pid):
    """What the kernel says of the files that a process watches (inotify): lines with "ino:HEX "."""
    found = ""
    for info in pathlib.Path(f"/proc/{pid}/fdinfo").iterdir():
        try:
            found += "".join(line for line in info.open() if line.startswith("inotify "))
        except FileNotFoundError:
            continue
    return found


def sockets(pid):
    """Inodes of the sockets that a process has open."""
    found = []
    for fd in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = os.readlink(fd)
        except FileNotFoundError:
            continue
        if target.startswith("socket:["):
            found.append(int(target[8:-1]))
    return found


def files(pid):
    """What the descriptors of a process point at."""
    found = []
    for fd in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.append(os.readlink(fd))
        except FileNotFoundError:
            continue
    return found


def unix_peers(path):
    """Inodes of the client ends connected to a listening Unix socket's path. The kernel gives the
    server's end the path; its peer is found by `ss`, which asks the kernel for the pairs."""
    import subprocess

    out = subprocess.run(["ss", "-xHn"], capture_output=True, text=True, check=True).stdout
    peers = set()
    for line in out.splitlines():
        words = line.split()
        # u_str ESTAB 0 0 LOCALPATH LOCALINODE PEERPATH PEERINODE
        if len(words) >= 8 and words[4] == path:
            peers.add(int(words[7]))
    return peers


def cpu_seconds(pid):
    """User and system time used so far."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def alive(pid):
    """Whether the process exists and is no zombie."""
    try:
        return status(pid)["State"][0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # it ended, also while it was read
        return False
