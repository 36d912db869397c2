# SPDX-License-Identifier: Apache-2.0
"""Fronts outlive control: it is killed at any moment, replaced by another program, set up in
another way; not one request fails of it, and what was lent is lent on."""
import errno
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest

from harness import echo as worker
from harness import net, proc, raw
from harness.echo import Dump, get
from harness.kipgate import problem
from harness.load import WarmLoad
from harness.waiting import Background, wait_until


def two_services(echo, idle="500ms"):
    """One that is kept warm by a load, one that starts for each request."""
    return {
        "warm": echo(routes=["/warm"], idle_timeout="10m"),
        "cold": echo(routes=["/cold"], idle_timeout=idle, env=worker.start_delay(300)),
    }


def cold_requests(gate, until, failed):
    """Requests one after the other, each of which finds no instance; gives how many."""
    count = 0
    while not until():
        try:
            response = gate.get("/cold", timeout=30)
            if response.status != 200:
                failed.append((response.status, response.body[:200]))
        except (OSError, raw.Broken) as error:
            failed.append(repr(error))
        count += 1
        gate.witness.wait_none(10, service="cold")
    return count


@pytest.mark.parametrize("how", ["killed", "replaced"])
def test_no_request_fails_of_it(kipgate, echo, how):
    """Twelve times, at moments drawn from one seed, under warm and cold load."""
    gate = kipgate(two_services(echo))
    assert gate.get("/warm").status == 200
    fronts, dice, over, failed = gate.fronts(), random.Random(12), [], []
    load = WarmLoad(gate.front, target="/warm")
    cold = Background(cold_requests, gate, lambda: over, failed)
    for _ in range(12):
        time.sleep(dice.uniform(0.1, 0.9))
        if how == "killed":
            gate.kill9()
            time.sleep(dice.uniform(0, 0.3))
            gate.start()
        else:
            since = gate.logs.mark()
            gate.process.send_signal(signal.SIGUSR2)
            gate.wait_log(10, since, event="front-attached", front=1)
            wait_until(lambda: gate._answers("/readyz"), 20, "the next control", every=0.01)
    over.append(True)
    assert cold.result(60) > 2 and load.stop() > 500
    assert failed == [] and load.failed == []
    assert gate.fronts() == fronts, "the same processes from beginning to end"
    assert len(gate.witness.actions("create", service="warm")) == 1
    gate.witness.wait_none(10, service="cold")


def test_who_waits_is_served_by_the_next_control(kipgate, echo):
    """Killed in the middle of the start that a request waits for."""
    gate = kipgate({"echo": echo(env=worker.start_delay(1500))})
    asked = Background(gate.get, "/waits", timeout=30)
    gate.wait_log(10, event="instance-state", to="probing")
    gate.kill9()
    gate.start()
    response = asked.result(30)
    assert response.status == 200 and Dump(response.body).first == "GET /waits HTTP/1.1"
    assert len(gate.witness.actions("create")) == 1


def test_warm_requests_need_no_control(kipgate, echo):
    """While it is away: kept and new connections, one exchange that lasts, one that waits."""
    gate = kipgate({"echo": echo(concurrency=2, routes=["/"])}, config={"fronts": 1})
    with gate.raw(30) as client:
        assert client.send(get("/")).response().status == 200
        lasting = Background(gate.get, worker.drip(2000, 100, 100), timeout=30)
        wait_until(lambda: gate.admin.metric("kipgate_exchanges", service="echo") == 1, 10, "lasts")
        gate.kill9()
        assert client.send(get("/")).response().status == 200
        assert gate.get("/").status == 200
        gate.start()
        assert client.send(get("/")).response().status == 200
    assert lasting.result(30).status == 200
    wait_until(lambda: gate.admin.metric("kipgate_exchanges", service="echo") == 0, 10, "ended")


def test_admin_says_that_control_is_away(kipgate, echo):
    """Its listener is a front's: asked meanwhile it answers, and goes on with the next control."""
    gate = kipgate({"echo": echo()}, config={"fronts": 1})
    gate.kill9()
    wait_until(lambda: gate.admin.status("/healthz", timeout=5) == 503, 5, "control is away")
    away = gate.admin.call("GET", "/readyz")
    problem = json.loads(away.body)
    assert problem["type"] == "urn:kipgate:draining" and problem["status"] == 503, problem
    assert problem["title"] and problem["detail"] and problem["instance"], problem
    assert int(away.one("Retry-After")) >= 1
    gate.start()
    assert gate.admin.status("/healthz") == 200


@pytest.mark.parametrize("how", ["killed", "replaced"])
def test_who_waits_for_an_answer_of_control_is_told(kipgate, echo, how):
    """Another one comes, but knows nothing of it: told so, whoever asked for a wake can ask again."""
    gate = kipgate({"echo": echo(env=worker.start_delay(3000))})
    asked = Background(gate.admin.call, "POST", "/v1/services/echo/wake")
    gate.wait_log(10, event="instance-state", to="probing")
    if how == "killed":
        gate.kill9()
    else:
        gate.process.send_signal(signal.SIGUSR2)
    away = asked.result(20)
    assert away.status == 503 and int(away.one("Retry-After")) >= 1, away
    assert json.loads(away.body)["type"] == "urn:kipgate:draining"
    if how == "killed":
        gate.start()
    gate.wait_ready()
    assert gate.admin.call("POST", "/v1/services/echo/wake").status == 200
    assert len(gate.witness.actions("create")) == 1


def test_counters_go_on(kipgate, echo):
    """They are the fronts' own memory."""
    gate = kipgate({"echo": echo()})
    for _ in range(7):
        assert gate.get("/").status == 200
    gate.kill9()
    gate.start()
    assert gate.get("/").status == 200
    assert gate.admin.metric("kipgate_requests_total", service="echo", code="200") == 8


def test_a_front_that_died_meanwhile_is_replaced(kipgate, echo):
    """One of two: the other attaches, and a new one takes its place at the same address."""
    gate = kipgate({"echo": echo()})
    assert gate.get("/").status == 200
    first, second = gate.fronts()
    gate.kill9()
    os.kill(first, signal.SIGKILL)
    gate.start()
    wait_until(lambda: len(gate.fronts()) == 2, 10, "two fronts")
    assert second in gate.fronts() and first not in gate.fronts()
    assert all(gate.get("/").status == 200 for _ in range(20))
    os.kill(second, signal.SIGKILL)  # no child of this control, and its loss is seen all the same
    wait_until(lambda: len(set(gate.fronts()) - {second}) == 2, 10, "two new fronts")
    assert all(gate.get("/").status == 200 for _ in range(20))


def test_fronts_of_another_set_up_are_sent_off(kipgate, echo):
    """What they were told at their start cannot be changed: they finish, and others come."""
    gate = kipgate({"echo": echo()})
    assert gate.get("/").status == 200
    container = gate.witness.wait_one(5)["Id"]
    lasting = Background(gate.get, worker.drip(2000, 100, 100), timeout=30)
    wait_until(lambda: gate.admin.metric("kipgate_exchanges", service="echo") == 1, 10, "lasts")
    before = gate.fronts()
    gate.kill9()
    gate.config["fronts"] = 3
    gate.start()
    assert len(gate.fronts()) == 3 and not set(gate.fronts()) & set(before)
    assert gate.get("/").status == 200
    assert lasting.result(30).status == 200
    assert gate.witness.wait_one(5)["Id"] == container
    wait_until(lambda: not any(proc.alive(pid) for pid in before), 10, "they have ended")


def test_a_replaced_program_is_run(kipgate, echo, tmp_path):
    """SIGUSR2 after its file was replaced: the new one runs, under the same process id."""
    program = tmp_path / "kipgate"
    shutil.copy(kipgate({}, start=False).binary, program)
    gate = kipgate({"echo": echo()}, binary=str(program))
    assert gate.get("/").status == 200
    old = os.stat(f"/proc/{gate.process.pid}/exe").st_ino
    other = tmp_path / "other"
    shutil.copy(program, other)
    other.rename(program)
    since = gate.logs.mark()
    gate.process.send_signal(signal.SIGUSR2)
    gate.wait_log(10, since, event="front-attached", front=1)
    wait_until(lambda: gate._answers("/readyz"), 20, "the next control", every=0.01)
    assert os.stat(f"/proc/{gate.process.pid}/exe").st_ino != old
    assert gate.get("/").status == 200
    assert len(gate.witness.actions("create")) == 1


def test_signals_while_it_is_replaced_are_kept(kipgate, echo):
    """Until the next control listens for signals its kernel would end it: by another SIGUSR2, or by a
    SIGHUP. They wait."""
    gate = kipgate({"echo": echo()})
    assert gate.get("/").status == 200
    fronts = gate.fronts()
    for number in (signal.SIGUSR2, signal.SIGHUP) * 3:
        since = gate.logs.mark()
        gate.process.send_signal(signal.SIGUSR2)
        gate.wait_log(10, since, event="starting-anew")
        since = gate.logs.mark()
        gate.process.send_signal(number)
        heard = "starting-anew" if number == signal.SIGUSR2 else "configured"
        gate.wait_log(10, since, event=heard)
        wait_until(lambda: gate._answers("/readyz"), 20, "the next control", every=0.01)
    assert gate.get("/").status == 200
    assert gate.fronts() == fronts


def pairs_of_its_own(gate, pid):
    """Unix sockets of a process that lead to no other process of this Kipgate: both ends are its own,
    or were a former program's."""
    out = subprocess.run(["ss", "-xapnH"], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in out.splitlines() if "pid=" in line]
    holders = {int(row[5]): row[-1] for row in rows if row[1] == "ESTAB"}
    mine = [row for row in rows if row[1] == "ESTAB" and f"pid={pid}," in row[-1]]
    return [row for row in mine if f"pid={pid}," in holders.get(int(row[7]), "")]


def test_no_descriptor_passes_to_another_program(kipgate, echo):
    """What libraries opened in control (a pair of sockets, each) is neither a front's nor that of the
    program that replaces it."""
    gate = kipgate({"echo": echo()})
    before = len(pairs_of_its_own(gate, gate.process.pid))
    for _ in range(3):
        mark = gate.logs.mark()
        gate.process.send_signal(signal.SIGUSR2)
        gate.wait_log(20, mark, event="engine-up")
        gate.wait_ready()
    gate.spawned = 0
    assert len(pairs_of_its_own(gate, gate.process.pid)) == before
    fronts = gate.fronts()
    for pid in fronts:
        subprocess.run(["kill", "-9", str(pid)], check=True)
    wait_until(
        lambda: len(gate.fronts()) == 2 and not set(gate.fronts()) & set(fronts), 20, "successors"
    )
    for pid in gate.fronts():
        wait_until(lambda: "kipgate-counters" in str(proc.files(pid)), 10, "a front that runs")
        assert pairs_of_its_own(gate, pid) == []


def test_a_program_that_is_gone_costs_nothing(kipgate, echo, tmp_path):
    """Said in the log; the old one goes on."""
    program = tmp_path / "kipgate"
    shutil.copy(kipgate({}, start=False).binary, program)
    gate = kipgate({"echo": echo()}, binary=str(program))
    program.unlink()
    gate.process.send_signal(signal.SIGUSR2)
    gate.wait_log(10, event="not-started-anew")
    assert gate.get("/").status == 200


def test_a_configuration_that_is_wrong_costs_nothing(kipgate, echo):
    """Who replaces the program while its file is wrong keeps the one that runs, which says so; the
    next time it is replaced."""
    gate = kipgate({"echo": echo()})
    assert gate.get("/").status == 200
    gate.config_path.write_text('{"services": {"echo": {"imag": "x"}}}')
    gate.process.send_signal(signal.SIGUSR2)
    line = gate.wait_log(10, event="not-started-anew")
    assert "configuration" in line["why"], line
    assert gate.admin.status("/readyz") == 200 and gate.get("/").status == 200
    gate.write_config()
    since = gate.logs.mark()
    gate.process.send_signal(signal.SIGUSR2)
    gate.wait_log(10, since, event="front-attached", front=1)
    gate.wait_ready()
    assert gate.get("/").status == 200


@pytest.mark.parametrize(
    "number, heard", [(signal.SIGHUP, "configured"), (signal.SIGUSR2, "starting-anew")]
)
def test_a_signal_in_the_middle_of_the_start_waits(kipgate, echo, number, heard):
    """Its kernel would end it: whoever starts it need not know from when on it listens for signals."""
    gate = kipgate({"echo": echo()}, start=False)
    os.mkfifo(gate.config_path)
    gate.write_config, write = lambda: None, gate.write_config
    gate.spawn()
    with open(gate.config_path, "w", encoding="ascii") as pipe:  # opens when it is being read
        gate.process.send_signal(number)
        write()
        pipe.write(json.dumps(gate.config))
    gate.wait_log(10, event=heard)
    gate.wait_ready()
    assert gate.get("/").status == 200


PASSES = """#!{python}
import fcntl, os, socket, sys
sockets = [socket.create_server({tcp}), socket.socket(socket.AF_UNIX)]
sockets[1].bind({unix!r})
sockets[1].listen()
for place, fd in enumerate([fcntl.fcntl(s, fcntl.F_DUPFD, 10) for s in sockets], 3):
    os.dup2(fd, place)
    os.close(fd)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="2")
os.execv({kipgate!r}, sys.argv)
"""


@pytest.fixture
def activated(kipgate, echo, tmp_path):
    """A Kipgate to which its sockets were passed, as systemd does; the first of the configuration's
    addresses is another one."""
    gate = kipgate({"echo": echo()}, start=False)
    program = tmp_path / "systemd"
    program.write_text(
        PASSES.format(
            python=sys.executable, tcp=gate.front, unix=gate.front_unix, kipgate=gate.binary
        )
    )
    program.chmod(0o755)
    gate.binary = str(program)
    gate.config["listen"][0] = f"127.0.0.1:{net.free_port()}"
    return gate.start()


@pytest.mark.parametrize("set_up", ["same", "another"])
def test_passed_sockets_are_those_of_the_next_program(activated, set_up):
    """By its fronts, or with others where these are sent off; again and again. A socket's file is
    whoever's who made it."""
    gate = activated
    assert gate.get("/").status == 200
    for level in ("info", "debug", "info"):
        if set_up == "another":
            gate.config["log_level"] = level
            gate.write_config()
        since = gate.logs.mark()
        gate.process.send_signal(signal.SIGUSR2)
        gate.wait_log(20, since, event="engine-up")
        gate.wait_ready()
        assert gate.get("/").status == 200
        assert raw.request(gate.front_unix, get("/")).status == 200
    gate.stop()
    assert os.path.exists(gate.front_unix)


def is_refused(path):
    """Whether nobody listens at this socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as door:
        return door.connect_ex(path) == errno.ECONNREFUSED


def test_fronts_at_their_end_are_not_waited_for(kipgate, echo):
    """Killed while it drains, with exchanges open at both fronts: the next control asks neither, and
    no new client waits for what these would say."""
    gate = kipgate({"echo": echo(concurrency=100)})
    assert gate.get("/").status == 200
    before = gate.fronts()
    lasting = [Background(gate.get, worker.drip(3000, 100, 100), timeout=30) for _ in range(16)]
    wait_until(lambda: gate.admin.metric("kipgate_exchanges", service="echo") == 16, 10, "they last")
    gate.process.send_signal(signal.SIGTERM)
    gate.wait_log(10, event="draining")
    wait_until(lambda: gate.admin.status("/readyz", timeout=5) == 503, 10, "it drains")
    gate.kill9()
    for index in range(2):
        door = str(gate.directory / "state" / f"front-{index}.sock")
        wait_until(lambda path=door: is_refused(path), 3, "its door is closed")
    gate.start()
    assert not set(gate.fronts()) & set(before)
    assert gate.get("/").status == 200
    assert [response.result(30).status for response in lasting] == [200] * 16


def test_only_the_owner_of_control_is_let_in(kipgate, echo):
    """The socket that a front is found by is its owner's alone, and is there only for a control."""
    gate = kipgate({"echo": echo()})
    door = gate.directory / "state" / "front-0.sock"
    assert door.stat().st_mode & 0o777 == 0o600
    gate.stop()
    assert not door.exists()


def test_nobody_waits_for_ever_without_control(kipgate, echo):
    """SIGTERM to a front whose control is gone ends it; what waits gets its answer."""
    gate = kipgate({"echo": echo(env=worker.start_delay(5000))}, config={"fronts": 1})
    asked = Background(gate.get, "/waits", timeout=60)
    gate.wait_log(10, event="instance-state", to="probing")
    (front,) = gate.fronts()
    began = time.monotonic()
    gate.kill9()
    response = asked.result(50)
    problem(response, 503, "draining")
    assert time.monotonic() - began > 29, "another control may come for thirty seconds"
    wait_until(lambda: not proc.alive(front), 10, "the front has ended")
