# SPDX-License-Identifier: Apache-2.0
"""The n-th allocation of control or of a front fails, once and from then on, as it starts, on a
cold and a warm request, on a reload. A sample of n, always the same; KIPGATE_LONG=1: every n."""
import functools

import pytest
import walks
from walks import LONG, Rig, all_walks, told, walk, walk_start

SAMPLE = 12  # walks of a path, about


def started(sanitized):
    """A Kipgate that serves."""
    rig = Rig(sanitized)
    try:
        rig.gate.start()
        rig.served()
    except BaseException:
        rig.close()
        raise
    return rig


def counted(make, once):
    """How many allocations the path makes."""
    seen = walks.collections.Counter()
    rig = make()
    try:
        once(rig, 0, seen)
        return rig.gate.page.last[0]
    finally:
        rig.close()


def run(capsys, name, make, once, sample=SAMPLE):
    """All of it; what came of it is told."""
    step = 1 if LONG else max(1, counted(make, once) // sample)
    report = all_walks(name, make, once, step)
    with capsys.disabled():
        print(f"\n{report}")
    assert not report.failures, told(report)


@pytest.mark.parametrize("sticky", [False, True], ids=["once", "from-then-on"])
@pytest.mark.parametrize("whom", ["control", "front"])
@pytest.mark.parametrize("path", list(walks.PATHS))
def test_request(capsys, path, whom, sticky):
    """Nobody ends but with words, and the next one is served."""

    def once(rig, n, seen):
        return walk(rig, path, whom, n, sticky, seen)

    sample = 4 if (path, whom) == ("reload", "front") else SAMPLE
    run(capsys, f"{path} {whom} sticky={sticky}", functools.partial(started, False), once, sample)


@pytest.mark.parametrize("sticky", [False, True], ids=["once", "from-then-on"])
@pytest.mark.parametrize("whom", ["control", *(["front"] if LONG else [])])  # its ends are paused for
def test_start(capsys, whom, sticky):
    """It starts or ends with words; then it starts."""

    def once(rig, n, seen):
        return walk_start(rig, whom, n, sticky, seen)

    make = functools.partial(Rig if whom == "control" else started, False)
    run(capsys, f"start {whom} sticky={sticky}", make, once)
