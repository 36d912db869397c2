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
        timeout=240,
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


MARKS = (
    "TCP worker: CPU time",
    "TCP worker: requests/s",
    "TCP worker: p50 at one connection",
    "TCP worker: p99 at half load",
    "Unix worker: CPU time",
    "Unix worker: requests/s",
    "Unix worker: p50 at one connection",
    "Unix worker: p99 at half load",
    "two fronts / one",
    "reads a request",
    "writes a request",
    "epoll_ctl a request",
    "clock reads a request (system calls)",
    "clock reads a request (ours, by any way)",
    "malloc a request",
    "100 services / one: CPU time",
    "100 services / one: instructions",
    "200 idle kept connections",
    "10 MB down: throughput",
    "10 MB down: memory rose",
    "10 MB up: throughput",
    "10 MB up: memory rose",
)


def test_warm_bench_prints_all_rows_and_marks(tmp_path):
    """Three proxies, on either kind of worker; every mark with its verdict."""
    text = run("warm.sh", tmp_path)
    for row in ("kipgate", "nginx", "haproxy", "kipgate / better peer"):
        numbers = figures(text, row)
        assert len(numbers) == 7 and all(n > 0 for n in numbers), (row, numbers)
    verdicts = text[text.index("\nmark ") :].splitlines()
    for mark in MARKS:
        line = next((line for line in verdicts if line.startswith(mark)), None)
        assert line is not None, (mark, text)
        assert line.endswith((" met", " MISSED")) or "not available: " in line, line


def test_tls_bench_prints_all_rows(tmp_path):
    """Both servers, with rate and time of four kinds of load, and their ratios."""
    text = run("tls.sh", tmp_path)
    for row in ("kipgate", "nginx", "kipgate / nginx"):
        numbers = figures(text, f"{row}  ")
        assert len(numbers) == 8 and all(n > 0 for n in numbers), (row, numbers)


def test_http2_bench_prints_all_rows(tmp_path):
    """Both servers, with time and rate of both shapes of load; every mark with its verdict."""
    text = run("http2.sh", tmp_path)
    for server in ("kipgate", "nginx"):
        for shape in ("8 connections of 32 streams", "64 connections of 1 stream"):
            numbers = figures(text, f"{server}, {shape}")
            assert len(numbers) >= 2 and all(n > 0 for n in numbers[-2:]), (server, numbers)
            assert f"CPU by nginx's, {shape}" in text and f"rate by nginx's, {shape}" in text


def test_cold_bench_prints_all_rows(tmp_path):
    """The engine's floor and every stage of sleep; the peer is left out with words."""
    text = run("cold.sh", tmp_path)
    for row in (
        "engine: create + start, default bridge",
        "engine: create + start, Kipgate's network",
        "engine: unpause",
        "kipgate: cold, plain",
        "kipgate: paused instance",
        "kipgate: paused spare",
        "kipgate: running spare",
        "kipgate: 16 services at once, plain, the last",
        "kipgate: 16 services at once, default, the last",
        "kipgate: 1000 first requests at once, the last",
    ):
        numbers = figures(text, row)
        assert len(numbers) == 3 and all(n > 0 for n in numbers), (row, numbers)
    assert "ContainerNursery: left out on the command line" in text
    assert "MISSED" in text or " met" in text
