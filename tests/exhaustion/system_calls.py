# SPDX-License-Identifier: Apache-2.0
"""Which errors a system call may have, and the points of a recorded walk: each call in its order,
with each of its errors. The difficulty: only what can happen is to be survived, so calls that
cannot fail, and those of strace's own part in it, are spared."""
import collections
import re

CALL = re.compile(r"^(\w+)\(")
LOCK = re.compile(r'^(read|write)\(\d+, "\*", 1\)')  # libuv's, in a pipe
# Never failed: an end of the process, a return from a signal, the clock (no call to the kernel
# where it is fast), what strace itself waits on, a wait that a signal cannot break; and those that
# always succeed, at least with what libc and libuv pass to them.
SPARED = {"exit_group", "rt_sigreturn", "restart_syscall", "clock_gettime", "gettimeofday"}
SPARED |= {"getpid", "getppid", "gettid", "getuid", "geteuid", "getgid", "getegid", "alarm"}
SPARED |= {"set_tid_address", "rt_sigprocmask", "rt_sigaction", "futex"}
NOTHING = "0"  # what brk says of want: less than it was asked for
ERRORS = {
    "accept4": ["EMFILE", "ENFILE", "ECONNABORTED", "ENOBUFS", "EINTR"],
    "socket": ["EMFILE", "ENFILE", "ENOBUFS"],
    "connect": ["EAGAIN", "ECONNREFUSED", "EADDRNOTAVAIL"],
    "read": ["EINTR", "EAGAIN", "ECONNRESET"],
    "recvfrom": ["EINTR", "EAGAIN", "ECONNRESET"],
    "recvmsg": ["EINTR", "EAGAIN", "ENOMEM"],
    "write": ["EINTR", "EAGAIN", "EPIPE", "ENOSPC"],
    "writev": ["EINTR", "EAGAIN", "EPIPE"],
    "sendto": ["EINTR", "EAGAIN", "ENOBUFS", "EPIPE"],
    "sendmsg": ["EINTR", "EAGAIN", "ENOBUFS", "EPIPE"],
    "epoll_ctl": ["ENOMEM", "ENOSPC"],
    "epoll_wait": ["EINTR"],
    "epoll_pwait": ["EINTR"],
    "poll": ["EINTR", "ENOMEM"],
    "openat": ["EMFILE", "ENFILE", "EACCES", "ENOMEM"],
    "mmap": ["ENOMEM"],
    "mprotect": ["ENOMEM"],
    "brk": [NOTHING],
    "fsync": ["EIO", "ENOSPC"],
    "fdatasync": ["EIO", "ENOSPC"],
    "rename": ["EIO", "ENOSPC"],
    "renameat": ["EIO", "ENOSPC"],
    "unlink": ["EIO"],
    "getrandom": ["EINTR", "EAGAIN"],
    "pipe2": ["EMFILE", "ENFILE"],
    "eventfd2": ["EMFILE", "ENFILE"],
    "fcntl": ["EMFILE", "ENOMEM"],
    "ioctl": ["ENOMEM"],
    "setsockopt": ["ENOMEM"],
    "getsockopt": ["ENOBUFS"],
    "shutdown": ["ENOTCONN"],
    "clone": ["EAGAIN", "ENOMEM"],
    "execve": ["EACCES", "ENOMEM"],
    "wait4": ["EINTR", "ECHILD"],
    "prctl": ["ENOMEM"],
    "setresuid": ["EAGAIN"],
}
OTHERWISE = ["ENOMEM"]


def errors_of(name):
    """That a call of this kind may have, the likeliest first."""
    return ERRORS.get(name, OTHERWISE)


def points_in(lines, often=None):
    """(call, number, error) in order; of calls of one kind the first `often`, all if None. Without
    those of a signal's handler, and of the lock that it takes: pipes of the process's own, which
    are whole and have room, and libuv takes that for granted."""
    seen, points, handled, before = collections.Counter(), [], False, ""
    for line in lines:
        match, lock = CALL.match(line), bool(LOCK.match(line))
        name = match[1] if match else None
        handled = (lock and before.startswith("--- SIG")) or (handled and name != "rt_sigreturn")
        before = line
        if name is None or name in SPARED:
            continue
        seen[name] += 1
        if not (handled or lock) and (often is None or seen[name] <= often):
            points += [(name, seen[name], error) for error in errors_of(name)]
    return points


def injection(point):
    """Words for strace: of calls of that kind the n-th fails; how many there are is counted in each
    process for itself, and over an execve."""
    name, number, error = point
    how = f"retval={error}" if error == NOTHING else f"error={error}"
    return ["-e", f"trace={name}", "-e", f"inject={name}:{how}:when={number}"]
