# SPDX-License-Identifier: Apache-2.0
"""A Kipgate whose allocations fail when told to: the program `kipgate-failing` of a build, with its
page (failing.h tells its layout, too). The difficulty: a front has neither environment nor files,
so the page lies beside a copy of the program, and is mapped before main."""
import mmap
import os
import pathlib
import shutil
import struct
import tempfile

from harness import settings
from harness.kipgate import Kipgate

TELL = int(os.environ.get("EXHAUST_TELL", "0"))  # failed allocations told by a backtrace
NEXT_CONTROL, NEXT_FRONT = -1, -2
LAYOUT = struct.Struct("iiqqqq")  # whom, sticky, at, count, failed, how many to tell of


class Page:
    """The words that the program reads at each allocation."""

    def __init__(self, path):
        self.last = (0, 0)
        path.write_bytes(bytes(4096))
        path.chmod(0o666)
        with open(path, "r+b") as file:
            self.page = mmap.mmap(file.fileno(), 4096)

    def arm(self, whom, at=0, sticky=False):
        """From now on; `at` 0 only counts."""
        self.page[4 : LAYOUT.size] = LAYOUT.pack(0, sticky, at, 0, 0, TELL)[4:]
        self.page[:4] = struct.pack("i", whom)

    def whom(self):
        """Whose allocations fail: a process, once it has begun."""
        return struct.unpack("i", self.page[:4])[0]

    def stop(self):
        """How many were asked for, and how many of them failed."""
        self.page[:4] = struct.pack("i", 0)
        self.last = LAYOUT.unpack(self.page[: LAYOUT.size])[3:5]
        return self.last


def failing_kipgate(services, sanitized=False, config=None, user=None):
    """A Kipgate (not started) and its page."""
    built = settings.sanitized_bin() if sanitized else settings.kipgate_bin()
    source = pathlib.Path(built).parent / "tests/exhaustion/kipgate-failing"
    assert source.exists(), f"{source} was not built"
    home = pathlib.Path(tempfile.mkdtemp(prefix="kgf"))
    home.chmod(0o755)
    program = shutil.copy(source, home / "kipgate")
    page = Page(home / "kipgate.page")
    config = {"fronts": 1, **(config or {})}
    gate = Kipgate(services, binary=str(program), config=config, user=user)
    gate.page, gate.home = page, home
    return gate
