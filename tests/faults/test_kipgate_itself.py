# SPDX-License-Identifier: Apache-2.0
"""What the machine and its administrator do to Kipgate (rows 27, 29, 30 of the facts): the wall
clock jumps, descriptors run out, another Kipgate lives on the same engine."""
import json
import mmap
import pathlib
import struct
import subprocess
import time

import pytest

from harness import echo as worker
from harness import proc, raw
from harness.echo import get
from harness.faults import told, unharmed
from harness.kipgate import Kipgate
from harness.waiting import Background, together, wait_until

HOUR = 3600


# --- the wall clock -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    """The preloaded clock, built."""
    made = tmp_path_factory.mktemp("clock") / "clock_shim.so"
    source = pathlib.Path(__file__).with_name("clock_shim.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", made, source, "-ldl"], check=True)
    return made


class Clock:
    """The page that says how far the clock is off."""

    def __init__(self, path):
        path.write_bytes(bytes(4096))
        path.chmod(0o644)
        with open(path, "r+b") as file:
            self.page = mmap.mmap(file.fileno(), 4096)

    def set(self, seconds):
        """From now on it is off by that much."""
        self.page[:8] = struct.pack("q", seconds)


def logged_hour(gate):
    """How far the last log line's time is from the machine's, in hours."""
    stamp = json.loads(gate.stderr[-1])["time"]
    then = time.mktime(time.strptime(stamp[:19], "%Y-%m-%dT%H:%M:%S")) - time.timezone
    return round((then - time.time()) / HOUR)


def idle(gate, service):
    """Its instance, once its idle clock runs."""
    shown = gate.admin.instances(service)[0]
    return shown if shown["reap_in_seconds"] is not None else None


def test_clock_stepped(engine, shim, tmp_path, echo):
    """Row 27: by an hour both ways, and by a thousand days: no worker is reaped early or late, no
    request fails or times out, cold starts go on, the event stream too."""
    steps = (1, -1, 24000, -24000)
    clock = Clock(tmp_path / "offset")
    tmp_path.chmod(0o755)
    services = {
        "warm": echo(routes=["/"], idle_timeout="10m"),
        "brief": echo(routes=["/brief"], idle_timeout="1s"),
        "cold": echo(routes=["/cold"], idle_timeout="10m"),
    }
    env = {"LD_PRELOAD": str(shim), "CLOCK_SHIM": str(tmp_path / "offset")}
    with Kipgate(services, engine=engine.host, env=env) as gate:
        assert gate.get("/", timeout=20).status == 200
        with unharmed(gate):
            slow = Background(gate.get, worker.slow(2500), timeout=20)
            for step in steps:
                assert gate.get("/brief", timeout=20).status == 200
                used = time.time()
                mark = gate.witness.events.mark()
                clock.set(step * HOUR)
                assert gate.get("/cold", timeout=20).status == 200
                assert logged_hour(gate) == step, "the shim is in force"
                assert gate.admin.sleep("cold").status == 200
                died = gate.witness.wait("die", 6, "brief", mark)["timeNano"] / 1e9
                assert 0.9 < died - used < 2.5, died - used
                gate.witness.wait_none(5, "brief")
            assert slow.result(20).status == 200
        shown = wait_until(lambda: idle(gate, "warm"), 5, "the lease is back", 0.05)
        assert shown["idle_seconds"] < 60 and 500 < shown["reap_in_seconds"] <= 600, shown
        assert gate.admin.status("/readyz") == 200


# --- descriptors ----------------------------------------------------------------------------------


def cpu_share(pids, seconds):
    """Of one core, over that time."""
    before = sum(proc.cpu_seconds(pid) for pid in pids)
    time.sleep(seconds)
    return (sum(proc.cpu_seconds(pid) for pid in pids) - before) / seconds


def test_descriptors_exhausted(engine, make_gate, echo):
    """Row 30: more clients than descriptors: those that are served go on being served, a cold
    service is started (the reserve is for that), Kipgate does not spin, and is back at once."""
    services = {
        "warm": echo(routes=["/"], idle_timeout="10m"),
        "cold": echo(routes=["/cold"], idle_timeout="10m"),
    }
    with Kipgate(services, engine=engine.host, config={"fronts": 1}, nofile=160) as gate:
        assert gate.get("/", timeout=20).status == 200
        ours = gate.raw(20)
        assert ours.send(get("/")).response().status == 200
        crowd = []
        for _ in range(300):
            crowd.append(gate.raw(20))
            crowd[-1].send_anyway(b"GET / HTTP/1.1\r\nHost: kipg")  # for ten seconds
        assert cpu_share(gate.pids(), 1.0) < 0.2
        for _ in range(20):
            assert ours.send(get("/")).response().status == 200
        assert ours.send(get("/cold")).response(timeout=20).status == 200, "the reserve"
        assert gate.admin.status("/healthz") == 200
        for client in crowd:
            client.close()
        began = time.monotonic()
        wait_until(lambda: served(gate), 5, "service to new clients", 0.02)
        assert told("descriptors exhausted: service", time.monotonic() - began) < 1
        assert gate.process.poll() is None
        ours.close()


def served(gate):
    """Whether a new client is served."""
    try:
        return gate.get("/", timeout=1).status == 200
    except (OSError, raw.Broken):
        return False


# --- two of them ----------------------------------------------------------------------------------


def test_two_owners_on_one_engine(engine, make_gate, echo):
    """Row 29: both have services of the same names; one sleeps, reaps, is killed and started: the
    other's containers stay as they are."""
    one = make_gate(engine.host, cold=echo(idle_timeout="10m"))
    two = make_gate(engine.host, cold=echo(idle_timeout="10m"))
    together([lambda g=g: g.get("/cold", timeout=20) for g in (one, two)], 30)
    kept = {c["Id"] for c in two.witness.everything()}
    instances = {c["Id"] for c in two.witness.containers()}
    with unharmed(two):
        for _ in range(3):
            assert one.admin.sleep("cold").status == 200
            assert one.get("/cold", timeout=20).status == 200
        one.kill9()
        one.start()
        assert one.get("/cold", timeout=20).status == 200
        one.stop()
        one.witness.remove_all()
    assert {c["Id"] for c in two.witness.containers()} == instances
    assert kept <= {c["Id"] for c in two.witness.everything()}
    assert two.get("/cold").one("Server-Timing") is None
    one.start()


def second(gate, state_dir, **changes):
    """Runs another Kipgate with this one's configuration and another state directory to its end."""
    other = dict(gate.config, listen=[f"unix:{gate.directory}/other.sock"], admin="off")
    other.update(state_dir=str(state_dir), **changes)
    path = gate.directory / "other.json"
    path.write_text(json.dumps(other))
    return subprocess.run(
        [gate.binary, "serve", "--config", str(path)],
        capture_output=True,
        text=True,
        timeout=20,
        env=gate.env,
    )


@pytest.mark.parametrize("how", ["the same state directory", "a copied one", "the same owner key"])
def test_same_owner_by_mistake(engine, make_gate, echo, how):
    """Row 29: the second one refuses to start, with words, before it touches anything; after the
    first one's end, by kill -9 even, it would start."""
    gate = make_gate(engine.host, start=False, cold=echo(idle_timeout="10m"))
    if how != "the same owner key":
        gate.config.pop("owner")
    with gate:
        if "owner" not in gate.config:
            gate.witness.close()
            gate.owner = (gate.directory / "state/owner").read_text().strip()
            gate.witness.owner = gate.owner
            gate.witness.refollow()
        assert gate.get("/cold", timeout=20).status == 200
        kept = {c["Id"] for c in gate.witness.everything()}
        state = gate.directory / "state"
        if how != "the same state directory":
            state = gate.directory / "state2"
            state.mkdir()
        if how == "a copied one":
            (state / "owner").write_text(gate.owner)
        with unharmed(gate):
            time.sleep(0.5)
            done = second(gate, state)
            assert done.returncode in (1, 2), (done.returncode, done.stderr)
            assert "another Kipgate" in done.stderr, done.stderr
        assert kept <= {c["Id"] for c in gate.witness.everything()}
        gate.kill9()
        gate.start()
        assert gate.get("/cold", timeout=20).status == 200
