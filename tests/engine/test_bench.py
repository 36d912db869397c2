# SPDX-License-Identifier: Apache-2.0
"""The benches run and print all their rows. How fast anything is, is not judged here."""
import os
import pathlib
import re
import subprocess

from harness import settings

BENCH = pathlib.Path(__file__).parents[2] / "bench"


def run(name, tmp_path):
    """A bench in its short mode; gives what it printed."""
    env = {
        **os.environ,
        "KIPGATE_BIN": settings.kipgate_bin(),
        "DOCKER_HOST": settings.docker_host(),
    }
    done = subprocess.run(
        [str(BENCH / name), "--smoke", "--json", str(tmp_path / "figures.json")],
        capture_output=True,
        text=True,
        timeout=120,
        env=env,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "command:" in done.stdout and "version:" in done.stdout
    assert (tmp_path / "figures.json").stat().st_size > 0
    return done.stdout


def figures(text, row):
    """The numbers of a row."""
    line = next((line for line in text.splitlines() if line.startswith(row)), None)
    assert line is not None, (row, text)
    return [float(word) for word in re.findall(r"\d+(?:\.\d+)?", line[len(row) :])]


def test_warm_bench_prints_all_rows(tmp_path):
    """Three proxies, five figures each, all above zero."""
    text = run("warm.sh", tmp_path)
    for row in ("kipgate", "nginx", "haproxy", "kipgate / better peer"):
        numbers = figures(text, row)
        assert len(numbers) == 5 and all(n > 0 for n in numbers), (row, numbers)


def test_cold_bench_prints_all_rows(tmp_path):
    """The engine's floor and Kipgate's cold request."""
    text = run("cold.sh", tmp_path)
    for row in (
        "engine create",
        "engine start",
        "engine create + start",
        "the same + first answer",
        "kipgate cold, Server-Timing",
        "kipgate cold, at the client",
    ):
        numbers = figures(text, row)
        assert len(numbers) == 2 and all(n > 0 for n in numbers), (row, numbers)
