# SPDX-License-Identifier: Apache-2.0
"""A sample of the crash points, always the same: every k-th of each path, so that all paths together
take some two minutes (KIPGATE_LONG=1: every point of each; tests/faults/crash.sh does it by hand).
The difficulty: recordings of a path differ a little, so a sample is spread over its length, and the
points of two runs may differ by a call or two."""
import os
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import crash_points  # noqa: E402  (needs the path above)

LONG = bool(os.environ.get("KIPGATE_LONG"))
SAMPLE = 3  # points of a path, about


@pytest.mark.parametrize("kind", crash_points.SCENARIOS, ids=lambda kind: kind.name)
def test_crash_points(kind, capsys):
    """No failure at any point tried; how many there are is told."""
    report = crash_points.run(kind, sample=None if LONG else SAMPLE)
    with capsys.disabled():
        print(f"\n{report}")
    assert not report.failures, "\n".join(f"{point}: {what}" for point, what in report.failures)
    assert report.killed >= 1
