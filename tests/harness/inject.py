# SPDX-License-Identifier: Apache-2.0
"""System calls put into a process that runs: not what a filter says it does, but what this very
process can do. The difficulty: it must go on afterwards as if nothing had happened. x86-64 only."""
import contextlib
import ctypes
import errno
import os
import struct

from harness.waiting import wait_until

ATTACH, DETACH, STEP, GET, SET = 16, 17, 9, 12, 13
ALL_KINDS = 0x40000000  # __WALL
WORDS = 27  # of struct user_regs_struct
ORIG_RAX, RAX, RIP, RSP = 15, 10, 16, 19
ARGUMENTS = (14, 13, 12, 7, 9, 8)  # rdi rsi rdx r10 r8 r9
RED_ZONE = 65536  # below the stack's end: nobody's
LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
LIBC.ptrace.restype = ctypes.c_long


def ptrace(request, pid, data=None):
    """The call itself; an error raises."""
    if LIBC.ptrace(request, pid, None, data) == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), f"ptrace {request}")


class Injected:
    """A process that is held until `release`; the thread that made this makes the calls."""

    def __init__(self, pid):
        self.pid = pid
        ptrace(ATTACH, self.pid)
        os.waitpid(self.pid, ALL_KINDS)
        self.memory = os.open(f"/proc/{self.pid}/mem", os.O_RDWR)
        self.saved = self._registers()
        self.gate = self.saved[RIP] - 2

    def sleeps(self):
        """Was it stopped within a call?"""
        return os.pread(self.memory, 2, self.gate) == b"\x0f\x05"

    def release(self):
        """It goes on as if nothing had happened."""
        self._set(self.saved)
        os.close(self.memory)
        ptrace(DETACH, self.pid)

    def _registers(self):
        data = (ctypes.c_ulong * WORDS)()
        ptrace(GET, self.pid, ctypes.addressof(data))
        return list(data)

    def _set(self, registers):
        data = (ctypes.c_ulong * WORDS)(*registers)
        ptrace(SET, self.pid, ctypes.addressof(data))

    def call(self, number, *arguments):
        """Its result, -errno for an error. Bytes are lent by address."""
        registers = list(self.saved)
        registers[ORIG_RAX] = (1 << 64) - 1  # the call that it sleeps in is not begun anew
        registers[RAX], registers[RIP] = number, self.gate
        at = registers[RSP] - RED_ZONE & ~15
        for place, value in zip(ARGUMENTS, arguments):
            if isinstance(value, bytes):
                os.pwrite(self.memory, value + b"\0", at)
                value, at = at, at + len(value) + 16 & ~15
            registers[place] = value % (1 << 64)
        self._set(registers)
        ptrace(STEP, self.pid)
        os.waitpid(self.pid, ALL_KINDS)
        return struct.unpack("q", struct.pack("Q", self._registers()[RAX]))[0]


@contextlib.contextmanager
def held(pid):
    """Gives the function that makes calls in the process, once it sleeps in one of its own."""
    found = []

    def sleeps():
        one = Injected(pid)
        if one.sleeps():
            found.append(one)
        else:
            one.release()
        return found

    wait_until(sleeps, 10, f"process {pid} sleeps in a call", 0.01)
    try:
        yield found[0].call
    finally:
        found[0].release()


def named(result):
    """The error's name of a call's result."""
    return errno.errorcode[-result] if result < 0 else "done"
