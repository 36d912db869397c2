# SPDX-License-Identifier: Apache-2.0
"""Where logs go, where state is kept, and how Kipgate ends, in surroundings that are not as they
should be: nobody reads, a directory is swept, descriptors are missing, an engine hangs."""
import json
import os
import pathlib
import signal
import subprocess
import time

import pytest

from harness import proc, raw, settings
from harness.between import Between
from harness.waiting import Background, wait_until

PROGRAM_LATE_S = 10


def target_of(pid, number):
    """What a descriptor of a process points at."""
    return os.readlink(f"/proc/{pid}/fd/{number}")


def leads_to(pid, number, path):
    """Whether a descriptor is of that file; one that has just been closed is not."""
    try:
        return target_of(pid, number) == str(path)
    except FileNotFoundError:
        return False


def blocks(pid, number):
    """Whether a write by that descriptor may wait."""
    lines = pathlib.Path(f"/proc/{pid}/fdinfo/{number}").read_text().splitlines()
    (flags,) = (line.split()[1] for line in lines if line.startswith("flags:"))
    return not int(flags, 8) & os.O_NONBLOCK


# --- logs -----------------------------------------------------------------------------------------


def test_access_log_into_a_pipe_that_nobody_reads(kipgate, echo):
    """It starts and serves; who begins to read gets the lines from then on, also the next one."""
    gate = kipgate({"echo": echo()}, start=False)
    path = gate.directory / "access.pipe"
    os.mkfifo(path)
    gate.config["access_log"] = str(path)
    gate.start()
    assert gate.get("/nobody").status == 200
    for name in ("/first", "/second"):
        with open(path, encoding="utf-8") as reader:
            assert gate.get(name).status == 200
            lines = (json.loads(line) for line in reader)
            line = next(line for line in lines if line["target"] != "/nobody")
            assert line["target"] == name and line["status"] == 200, line
        assert gate.get("/nobody").status == 200


def test_access_log_that_is_cut(kipgate, echo):
    """Rotated by copying: what comes next is at its begin, without a hole before it."""
    gate = kipgate({"echo": echo()}, start=False)
    path = gate.directory / "access.log"
    gate.config["access_log"] = str(path)
    gate.start()
    for name in ("/first", "/second"):
        assert gate.get(name).status == 200
        line = wait_until(path.read_bytes, 5, "an access log line")
        assert json.loads(line)["target"] == name
        os.truncate(path, 0)


def test_a_start_that_fails_is_told_in_the_form_of_the_log(kipgate, echo):
    """The line that says why it does not run is the one that its reader must not lose."""
    gate = kipgate({"echo": echo()})
    for form in ("json", "text"):
        done = gate.cli("serve", "--log-format", form, timeout=20)
        assert done.returncode == 1
        (line,) = done.stderr.splitlines()
        assert "another Kipgate" in line
        if form == "json":
            said = json.loads(line)
            assert (said["event"], said["level"]) == ("not-started", "error"), said
        else:
            assert line.startswith("kipgate: state_dir "), line


def test_pipes_of_logs_do_not_block(kipgate, echo):
    """Several processes write into one: who finds no room where another one saw some goes on. For
    others that have it open it is as it was."""
    gate = kipgate({"echo": echo()}, start=False, config={"access_log": "-"})
    path = gate.directory / "out.pipe"
    os.mkfifo(path)
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0) as reader:
        start = gate.command
        gate.command = lambda *words: ["sh", "-c", f'exec "$@" >{path}', "sh", *start(*words)]
        gate.start()
        assert gate.get("/").status == 200
        line = wait_until(reader.read, 5, "an access log line")
        assert json.loads(line)["target"] == "/"
        control = gate.process.pid
        assert blocks(control, 1) and not blocks(control, 2)
        for front in gate.fronts():
            logs = [n for n in os.listdir(f"/proc/{front}/fd") if leads_to(front, n, path)]
            assert len(logs) == 1 and not blocks(front, logs[0]) and not blocks(front, 2)


def test_without_standard_descriptors(kipgate, echo):
    """What is meant for standard error goes into no file of ours, and a front inherits none."""
    gate = kipgate({"echo": echo()}, start=False)
    start = gate.command
    gate.command = lambda *words: ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *start(*words)]
    gate.start()
    assert gate.get("/").status == 200
    for pid in (gate.process.pid, *proc.children(gate.process.pid)):
        assert [target_of(pid, number) for number in range(3)] == ["/dev/null"] * 3, pid
    state = gate.directory / "state"
    assert (state / "lock").read_bytes() == b""
    for name in gate.config_path, state / "key":
        assert b"instance-state" not in name.read_bytes()
    gate.config["access_log"] = "-"
    gate.stop()
    gate.spawn()
    assert gate.process.wait(20) == 1, "an access log cannot go into what there is not"


# --- state ----------------------------------------------------------------------------------------


def test_a_front_is_replaced_though_its_directory_was_swept(kipgate, echo):
    """Programs that clean up remove empty directories that nobody has used for long."""
    gate = kipgate({"echo": echo()})
    sockets = gate.directory / "state" / "sockets"
    sockets.rmdir()
    before = gate.fronts()
    os.kill(before[0], signal.SIGKILL)
    wait_until(lambda: len(set(gate.fronts()) - {before[0]}) == 2, 10, "another front")
    wait_until(lambda: gate.admin.status("/readyz") == 200, 10, "it is ready")
    assert gate.get("/").status == 200 and sockets.is_dir()


def test_clocks_are_saved_as_soon_as_they_can_be(kipgate, echo):
    """Without a further change: one that was not saved would be too old after a crash."""
    gate = kipgate({"echo": echo(idle_timeout="10m")})
    state = gate.directory / "state"
    away = gate.directory / "away"
    state.rename(away)
    assert gate.get("/").status == 200
    gate.wait_log(10, event="state-not-saved")
    wait_until(lambda: gate.admin.instances("echo")[0]["reap_in_seconds"], 10, "it idles")
    time.sleep(0.5)  # what there was to save was tried
    away.rename(state)

    def saved():
        lines = (state / "clocks").read_text().splitlines() if (state / "clocks").exists() else []
        return [line for line in lines if line.startswith("kipgate-echo-") and line.endswith(" 0")]

    wait_until(saved, 8, "the clock is saved")


def test_a_rival_is_refused_however_often_it_tries(kipgate, echo):
    """A service manager starts it again and again: the twentieth time it is told the same."""
    gate = kipgate({"echo": echo()})
    other = dict(gate.config, listen=[f"unix:{gate.directory}/other.sock"], admin="off")
    other["state_dir"] = str(gate.directory / "other")
    path = gate.directory / "other.json"
    path.write_text(json.dumps(other))
    for _ in range(20):
        done = subprocess.run(
            [gate.binary, "serve", "--config", str(path)],
            capture_output=True,
            text=True,
            timeout=20,
            env=gate.env,
        )
        assert done.returncode == 1, done.stderr
        assert f"another Kipgate (process {gate.process.pid})" in done.stderr, done.stderr
    assert gate.get("/").status == 200


# --- its end, and its successor -------------------------------------------------------------------


@pytest.fixture
def between():
    """The way to the engine, to be slowed."""
    made = Between(settings.docker_host())
    yield made
    made.stop()


def test_a_second_signal_does_not_wait_for_the_engine(kipgate, echo, between):
    """Which hangs: whoever says it twice means it. What it was doing is found by the next start."""
    gate = kipgate({"echo": echo()}, engine=between.host, witness=settings.docker_host())
    hangs = between.harm(None, times=None, delay=60)
    asked = Background(gate.get, "/", timeout=30)
    wait_until(lambda: hangs.hits and between.count("create"), 10, "a create is under way")
    gate.process.send_signal(signal.SIGTERM)
    gate.wait_log(5, event="draining")
    began = time.monotonic()
    gate.process.send_signal(signal.SIGTERM)
    assert gate.process.wait(30) == 0
    assert time.monotonic() - began < 3
    with pytest.raises((OSError, raw.Broken)):
        asked.result(10)
    between.heal()


def test_all_are_removed_however_long_it_takes(kipgate, echo, between):
    """Ten on an engine that takes 8 s for each and does eight at a time: as long as it goes on, it is
    waited for."""
    service = echo(min_instances=10, max_instances=10)
    gate = kipgate(
        {"echo": service},
        config={"remove_on_exit": True},
        engine=between.host,
        witness=settings.docker_host(),
    )
    wait_until(
        lambda: sum(i["state"] == "ready" for i in gate.admin.instances("echo")) == 10, 60, "ten"
    )
    between.harm("remove", name="kipgate-echo-", times=None, delay=8)
    gate.stop()
    assert gate.witness.containers() == []


def test_a_program_that_hangs_is_given_up(kipgate, echo):
    """SIGUSR2 where "check" never answers: the log says so, and the next SIGUSR2 is heard."""
    gate = kipgate({"echo": echo()})
    gate.config_path.unlink()
    os.mkfifo(gate.config_path)
    began = time.monotonic()
    gate.process.send_signal(signal.SIGUSR2)
    line = gate.wait_log(PROGRAM_LATE_S + 10, event="not-started-anew")
    assert "did not answer" in line["why"] and time.monotonic() - began > PROGRAM_LATE_S - 1, line
    assert gate.get("/").status == 200
    wait_until(lambda: len(proc.children(gate.process.pid)) == 2, 5, "it is ended")
    gate.write_config()
    since = gate.logs.mark()
    gate.process.send_signal(signal.SIGUSR2)
    gate.wait_log(10, since, event="front-attached", front=1)
    gate.wait_ready()
    assert gate.get("/").status == 200
