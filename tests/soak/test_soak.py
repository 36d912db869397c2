# SPDX-License-Identifier: Apache-2.0
"""The prober, the reuse of addresses and the soak, each for some seconds, by the same scripts that
run for long (README.md)."""
import pathlib
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).parent


@pytest.mark.parametrize(
    "script,words",
    [("prober", ["20000"]), ("reuse", ["12"]), ("soak", ["0.25"])],
    ids=["prober", "reuse", "soak"],
)
def test_smoke(script, words, echo_image):
    """Nothing is wrong, nothing lost, all balances."""
    command = [sys.executable, str(HERE / f"{script}.py"), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    assert "all is well" in done.stdout
