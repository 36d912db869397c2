# SPDX-License-Identifier: Apache-2.0
"""The quickstart, as a newcomer runs it: what it says, and that it leaves nothing behind."""
import os
import pathlib
import re
import shutil
import signal
import subprocess
import time

import pytest

from harness import settings
from harness.waiting import wait_until
from harness.witness import OWNER, client

ROOT = pathlib.Path(__file__).parents[2]
QUICKSTART = ROOT / "examples/quickstart.sh"
IMAGE = "kipgate-image-worker:quickstart"


def quickstart(command=QUICKSTART, cwd=None, **env):
    """Runs it on the tests' engine."""
    env = settings.clean_environment(**{"DOCKER_HOST": settings.docker_host(), **env})
    return subprocess.run(
        [str(command)], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300,
        cwd=cwd, env=env)


@pytest.fixture
def sdk():
    """Also forgets the image that the quickstart leaves on its user's engine."""
    made = client(settings.docker_host())
    yield made
    for _ in made.images.list(IMAGE):
        made.images.remove(IMAGE)  # by its name: the tests' own image worker may be the same image


def left_on(sdk):
    """What would be left of a quickstart's Kipgate."""
    owned = {"label": OWNER}
    # not containers.list(), which looks at each: others' may go meanwhile
    names = [c["Names"][0][1:] for c in sdk.api.containers(all=True, filters=owned)]
    names += [n.name for n in sdk.networks.list(filters=owned)]
    return {name for name in names if name.startswith("kipgate-qs") or "images" in name}


def in_tmp():
    """Its working directories."""
    return set(pathlib.Path("/tmp").glob("kgq.*"))


def lived_in_shell(directory):
    """What a user's shell may have: a proxy that leads nowhere, CDPATH, an engine that only a
    context of the docker client names; and the quickstart called by a link from elsewhere."""
    (directory / "bin").mkdir()
    (directory / "bin/try").symlink_to(QUICKSTART)
    env = {"DOCKER_CONFIG": str(directory / "docker"), "DOCKER_HOST": ""}
    create = ["create", "tests", "--docker", f"host={settings.docker_host()}"]
    for words in (create, ["use", "tests"]):
        subprocess.run(["docker", "context", *words], check=True, capture_output=True,
                       env={**os.environ, **env})
    nowhere = "http://127.0.0.1:9"
    return {"command": "bin/try", "cwd": directory, "CDPATH": str(directory),
            "http_proxy": nowhere, "ALL_PROXY": nowhere, **env}


def test_quickstart_shows_a_cold_a_warm_request_and_the_removal(sdk, tmp_path):
    """Twice: safe to run again, from wherever, and the second finds everything built."""
    before = in_tmp()
    for more in ({}, lived_in_shell(tmp_path)):
        done = quickstart(KIPGATE_BIN=os.path.abspath(settings.kipgate_bin()), **more)
        assert done.returncode == 0, done.stdout + done.stderr
        assert re.search(r'^cold request: 200 in [\d.]+ s '
                         r'\(Server-Timing: kipgate;desc="cold";dur=[\d.]+\)$', done.stdout, re.M)
        assert re.search(r"^warm request: 200 in [\d.]+ s *$", done.stdout, re.M)
        assert "1600x1200 -> 200x150" in done.stdout
        assert re.search(r"^removed: kipgate-images-\w+", done.stdout, re.M)
        assert done.stdout.endswith("quickstart: done\n")
        assert left_on(sdk) == set() and in_tmp() == before


def test_quickstart_says_what_failed_and_cleans_up(sdk, tmp_path):
    """A program that ends at once: one line says so, and nothing is left."""
    broken = tmp_path / "kipgate"
    broken.write_text("#!/bin/sh\n[ \"$1\" = version ] && echo broken || exit 1\n")
    broken.chmod(0o755)
    before = in_tmp()
    done = quickstart(KIPGATE_BIN=str(broken))
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "quickstart: Kipgate did not become ready"
    assert left_on(sdk) == set() and in_tmp() == before
    assert os.path.exists(broken)


# Two at once in one directory would spoil it: it takes its time to find that out.
CMAKE = """#!/bin/sh
case $1 in
-S) exec mkdir -p "$4" ;;
--build) mkdir "$2/busy" && sleep 1 && cp {program} "$2/kipgate" && rmdir "$2/busy" ;;
esac
"""


def test_two_at_once_build_one_after_the_other(sdk, tmp_path):
    """From one checkout, as two terminals would. (What is built here cannot serve.)"""
    before = in_tmp()
    for part in ("examples", "packaging"):
        shutil.copytree(ROOT / part, tmp_path / part)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/cmake").write_text(CMAKE.format(program=shutil.which("false")))
    (tmp_path / "bin/cmake").chmod(0o755)
    env = settings.clean_environment(
        DOCKER_HOST=settings.docker_host(), PATH=f"{tmp_path}/bin:{os.environ['PATH']}")
    both = [subprocess.Popen([str(tmp_path / "examples/quickstart.sh")], env=env, text=True,
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT) for _ in range(2)]
    for text in [one.communicate(timeout=120)[0] for one in both]:
        assert text.endswith("quickstart: Kipgate did not become ready\n"), text
    assert left_on(sdk) == set() and in_tmp() == before


def those_in(directory):
    """Processes that have a path in this directory on their command line."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes()
        except OSError:
            continue
        if f"{directory}/".encode() in words:
            found.append(int(path.parent.name))
    return found


def runs_containerd(directory):
    """The private engine has begun to start."""
    return (directory / "engine/containerd.pid").exists()


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_its_engine_starts_leaves_nothing(number):
    """Neither the engine nor its files; also where the signal comes again and again."""
    before = in_tmp()
    env = settings.clean_environment(
        DOCKER_HOST="unix:///nowhere/docker.sock", KIPGATE_BIN=settings.kipgate_bin())
    process = subprocess.Popen(
        [str(QUICKSTART)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, env=env,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL))  # whatever started the tests
    try:
        wait_until(lambda: in_tmp() - before, 60, "its directory", 0.01)
        (directory,) = in_tmp() - before
        wait_until(lambda: runs_containerd(directory), 60, "its engine's start", 0.01)
        while process.poll() is None:
            process.send_signal(number)
            time.sleep(0.1)
        assert process.returncode == 128 + number, process.stdout.read()
        assert those_in(directory) == [] and in_tmp() == before
    finally:
        process.kill()
        for pid in those_in(directory):
            os.kill(pid, signal.SIGKILL)


def test_a_private_engine_is_not_asked_as_the_users_own_would_be():
    """What the user's shell says of an engine behind TLS; and one where `su` made a root of the user,
    with the user's PATH."""
    before = in_tmp()
    env = settings.clean_environment(
        DOCKER_HOST="tcp://127.0.0.1:9", DOCKER_TLS_VERIFY="1", DOCKER_CERT_PATH="/nowhere",
        PATH="/usr/local/bin:/usr/bin:/bin", KIPGATE_BIN=settings.kipgate_bin())
    with subprocess.Popen(
            [str(QUICKSTART)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, env=env) as process:
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith("version "):
                process.terminate()
        assert process.wait(120) == 143, "".join(lines)
    assert any(re.match(r"version \d", line) for line in lines), "".join(lines)
    assert in_tmp() == before
