# SPDX-License-Identifier: Apache-2.0
"""The engine's socket as packages of Docker make it: a group's. The difficulty: it is the socket of
all tests, also of those that run beside this one, and each must find it as it was."""
import contextlib
import fcntl
import os
import stat

from harness import settings


@contextlib.contextmanager
def of_group(group):
    """Gives its path; no other test changes it meanwhile."""
    path = settings.docker_host().removeprefix("unix://")
    directory = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        before = os.stat(path)
        try:
            os.chown(path, before.st_uid, group)
            os.chmod(path, 0o660)
            yield path
        finally:
            os.chown(path, before.st_uid, before.st_gid)
            os.chmod(path, stat.S_IMODE(before.st_mode))
    finally:
        os.close(directory)
