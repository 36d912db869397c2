# SPDX-License-Identifier: Apache-2.0
"""Every system call that control and a front make on a cold and a warm request and on a reload
fails, once each, with the errors that it may have. strace (see tests/faults/crash_rig.py) counts
calls of a kind from the moment it is attached, and puts the error in the place of the call.
The difficulty: which calls there are is recorded from an undisturbed walk, and the next walk may
make one more or less; a point that is not reached is counted, and is no failure."""
import contextlib
import os
import pathlib
import signal
import subprocess
import tempfile
import time

import pytest
import walks
from system_calls import injection, points_in
from walks import LONG, Rig, judge, told

SAMPLE = 8  # points of a path, about
OFTEN = 6  # times that a call of one kind is failed, at most, in the complete run
# These libuv answers with abort(), and the process ends with words (base/loop.h); of control that
# is an end, too, and its fronts wait for the next one.
FATAL = {"epoll_ctl"}


class Strace:
    """On one process that runs."""

    def __init__(self, pid, directory, words):
        handle, self.path = tempfile.mkstemp(prefix="calls", dir=directory)
        os.close(handle)
        self.strace = subprocess.Popen(
            ["strace", "-o", self.path, *words, "-p", str(pid)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        line = self.strace.stderr.readline()
        assert b"attached" in line, line
        time.sleep(0.01)

    def detach(self):
        """Lets go; gives the text."""
        if self.strace.poll() is None:
            self.strace.send_signal(signal.SIGTERM)
        self.strace.wait(10)
        self.strace.stderr.close()
        return pathlib.Path(self.path).read_text(errors="replace")


def traced(rig, path, whom, words):
    """Walks the path under strace: its text, the outcome, and the rest of the walk to be done."""
    steps = walks.PATHS[path](rig)
    pid = rig.pids()[whom]
    next(steps)
    strace = Strace(pid, rig.directory, words)
    try:
        outcome = next(steps)
    finally:
        text = strace.detach()
    return text, outcome, steps


def points_of(rig, path, whom):
    """(call, number, error) of an undisturbed walk, in order."""
    text, _, steps = traced(rig, path, whom, ["-e", "trace=all"])
    next(steps, None)
    return points_in(text.splitlines(), OFTEN)


def revive(rig):
    """Control that ended with words is started again, as a service manager does."""
    status = rig.gate.process.poll()
    if status is None:
        return False
    assert status == 1, f"control ended with {status}"
    walks.wait_until(lambda: "exhausted" in rig.gate.tail(20), 5, "words about its end")
    rig.gate.left = []
    rig.gate.start()
    return True


def fail_at(rig, path, whom, point, seen):
    """One walk with that call failing."""
    name = point[0]
    since = rig.gate.logs.mark()
    steps = None
    with contextlib.ExitStack() as stack:
        if name in FATAL and whom == "control":
            stack.enter_context(contextlib.suppress(AssertionError))
        text, outcome, steps = traced(rig, path, whom, injection(point))
        seen["reached" if "INJECTED" in text else "not reached"] += 1
    if whom == "control" and name in FATAL and revive(rig):
        seen["control ended"] += 1
        since = rig.gate.logs.mark()
        outcome = "control ended"
    elif steps is not None:
        next(steps, None)
    judge(rig, outcome, since, seen)


def started():
    """A Kipgate that serves."""
    rig = Rig()
    try:
        rig.gate.start()
        rig.served()
    except BaseException:
        rig.close()
        raise
    return rig


@pytest.mark.parametrize("whom", ["control", "front"])
@pytest.mark.parametrize("path", list(walks.PATHS))
def test_system_call(capsys, path, whom):
    """Nobody ends but with words, and the next one is served."""
    report = walks.Report(f"{path} {whom} system calls")
    rig = started()
    try:
        points = points_of(rig, path, whom)
        report.most = len(points)
        every = 1 if LONG else max(1, len(points) // SAMPLE)
        for point in points[every // 2 :: every]:
            report.walked += 1
            try:
                fail_at(rig, path, whom, point, report.seen)
            except Exception as error:
                tail = rig.gate.tail(30)
                report.failures.append(f"{point}: {type(error).__name__}: {error}\n{tail}")
                rig.close()
                rig = started()
        rig.gate.stop()
    finally:
        rig.close()
    with capsys.disabled():
        print(f"\n{report}")
    assert not report.failures, told(report)
