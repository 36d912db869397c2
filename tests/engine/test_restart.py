# SPDX-License-Identifier: Apache-2.0
"""Kipgate itself is killed, stopped, reloaded, doubled; its fronts are killed and looked into. What
exists on the engine is judged by the witness after each."""
import json
import os
import pathlib
import random
import signal
import subprocess
import time

import pytest

from harness import echo as worker
from harness import proc, raw, seal, settings
from harness.calls import child_stops
from harness.echo import Dump, get
from harness.load import WarmLoad
from harness.waiting import Background, together, wait_until
from harness.witness import OWNER, SERVICE, SPEC, client


def adopted_serves(gate):
    """A request is served by what runs; at most it waits for the look at it, never for a start."""
    response = gate.get("/again")
    assert response.status == 200
    assert not response.all("Server-Timing") or worker.waited_ms(response) < 100, response.fields


def test_d9_running_instances_are_adopted_after_a_kill(kipgate, echo):
    """D9: state was lost on restart. The same container serves on, no second one is made."""
    gate = kipgate({"echo": echo(idle_timeout="10m")})
    assert gate.get("/").status == 200
    container = gate.witness.wait_one(5)["Id"]
    for _ in range(3):
        gate.kill9()
        gate.start()
        adopted_serves(gate)
        assert gate.witness.wait_one(5)["Id"] == container
    assert len(gate.witness.actions("create")) == 1


def idle_ones(gate):
    """Instances that are known not to be in use: a former run's fronts have said so."""
    return [i for i in gate.admin.instances("echo") if i["reap_in_seconds"] is not None]


def test_d9_idle_clocks_continue_over_a_restart(kipgate, echo):
    """Half of the idle time before the kill, half after: removed when due from the last use."""
    gate = kipgate({"echo": echo(idle_timeout="4s")})
    assert gate.get("/").status == 200
    used = time.time()
    time.sleep(2)
    gate.kill9()
    gate.start()
    shown = wait_until(lambda: idle_ones(gate), 10, "its adoption, and that no front uses it")[0]
    assert 0.5 < shown["reap_in_seconds"] <= 2.1, shown
    died = gate.witness.wait("destroy", 30)["timeNano"] / 1e9
    assert died - used >= 3.9, died - used


def test_open_exchange_survives_the_kill_of_control(kipgate, echo):
    """The next control adopts the instance and does not reap it under the front that uses it,
    though its idle timeout is long over."""
    gate = kipgate({"echo": echo(idle_timeout="500ms")})
    asked = Background(gate.get, worker.drip(3000, 100, 100), timeout=30)
    wait_until(lambda: gate.admin.metric("kipgate_exchanges", service="echo") == 1, 10, "under way")
    gate.kill9()
    gate.start()
    assert gate.admin.metric("kipgate_exchanges", service="echo") == 1
    response = asked.result(30)
    ended = time.time()
    assert response.status == 200 and len(response.body) == 3000
    died = gate.witness.wait("destroy", 30)["timeNano"] / 1e9
    assert died > ended - 0.05 and len(gate.witness.actions("create")) == 1


def test_instance_that_became_due_meanwhile_is_removed(kipgate, echo):
    """Kipgate was away longer than the idle timeout."""
    gate = kipgate({"echo": echo(idle_timeout="700ms")})
    assert gate.get("/").status == 200
    gate.kill9()
    time.sleep(1.2)
    gate.start()
    gate.witness.wait_none(3)


def test_kill_9_at_fifty_random_moments_of_a_provisioning(kipgate, echo):
    """After each restart at most one container, none orphaned, and the service works. The
    moments are drawn from one seed over the whole time that a provisioning takes here."""
    gate = kipgate({"echo": echo(idle_timeout="10m")})
    dice = random.Random(50)
    began = time.monotonic()
    assert gate.get("/").status == 200
    whole = time.monotonic() - began
    for round_ in range(50):
        assert gate.admin.sleep("echo").status == 200
        gate.witness.wait_none(5)
        with gate.raw(20) as first:
            first.send(get("/"))
            time.sleep(dice.uniform(0, whole * 1.2))
            gate.kill9(fronts=round_ % 2 == 1)
        gate.start()
        response = gate.get(f"/{round_}", timeout=30)
        assert response.status == 200, (round_, response.status, response.body, gate.tail())
        assert Dump(response.body).first == f"GET /{round_} HTTP/1.1"
        found = gate.witness.containers()
        assert len(found) == 1 and found[0]["State"] == "running", (round_, found)


def test_kill_9_in_the_middle_of_a_removal(kipgate, echo):
    """The other end of a life: what was going is gone after the restart."""
    gate = kipgate({"echo": echo(idle_timeout="10m", env=worker.ignore_term())})
    dice = random.Random(51)
    for _ in range(5):
        assert gate.get("/", timeout=20).status == 200
        asleep = Background(lambda: gate.admin.sleep("echo"))
        time.sleep(dice.uniform(0, 1.0))
        gate.kill9()
        outcome(asleep)
        gate.start()
        assert gate.get("/", timeout=20).status == 200
        wait_until(lambda: len(gate.witness.containers()) == 1, 10, "one container", 0.05)


def outcome(task):
    """Waits for a call that may have been answered or cut off."""
    try:
        return task.result(20).status
    except (OSError, raw.Broken):
        return None


@pytest.fixture
def foreigners(echo_image):
    """Containers that look like ours but are not: another owner, no owner, no labels at all."""
    sdk = client(settings.docker_host())
    made = []

    def make(owner, spec="0" * 64):
        ours_but = {OWNER: owner + "x", SERVICE: "echo", SPEC: spec}
        for index, labels in enumerate([ours_but, {SERVICE: "echo", SPEC: spec}, {}]):
            made.append(
                sdk.containers.run(
                    echo_image,
                    detach=True,
                    labels=labels,
                    environment={"PORT": "8080"},
                    name=f"kipgate-echo-{owner[-9:]}{index}",
                )
            )
        return made

    yield make
    for container in made:
        container.remove(force=True)


def test_foreign_containers_are_never_touched(kipgate, echo, foreigners):
    """Over a whole life, a kill, a restart and a sleep."""
    gate = kipgate({"echo": echo(idle_timeout="500ms")}, start=False)
    strangers = foreigners(gate.owner)
    gate.start()
    assert gate.get("/").status == 200
    ours = {c["Id"] for c in gate.witness.containers()}
    assert len(ours) == 1 and not ours & {s.id for s in strangers}
    gate.kill9()
    gate.start()
    gate.witness.wait_none(10)
    assert gate.admin.sleep("echo").status == 200
    for stranger in strangers:
        stranger.reload()
        assert stranger.status == "running" and stranger.attrs["RestartCount"] == 0


def test_half_made_container_of_a_former_run_is_removed_or_finished(kipgate, echo, echo_image):
    """A created, never started container with all our labels."""
    gate = kipgate({"echo": echo()}, start=False)
    sdk = client(settings.docker_host())
    for service in ("echo", "gone"):
        name = f"kipgate-{service}-{gate.owner[-10:]}"
        labels = seal.labels(gate, name, echo_image, service, "1" * 64)
        sdk.api.create_container(echo_image, name=name, labels=labels)
    gate.start()
    wait_until(lambda: not gate.witness.containers("gone"), 10, "the unknown service's is gone")
    assert gate.get("/").status == 200
    wait_until(lambda: len(gate.witness.containers()) == 1, 10, "one container")


def test_two_kipgates_of_two_owners_are_blind_to_each_other(kipgate, echo):
    """Both have a service of the same name; one is put to sleep, the other goes on."""
    one, two = kipgate({"echo": echo()}), kipgate({"echo": echo()})
    together([lambda: one.get("/"), lambda: two.get("/")], 30)
    kept = two.witness.wait_one(5)["Id"]
    assert one.admin.sleep("echo").status == 200
    one.witness.wait_none(5)
    assert two.witness.wait_one(5)["Id"] == kept and two.get("/").one("Server-Timing") is None


def test_second_kipgate_with_the_same_state_refuses_to_start(kipgate, echo):
    """With words, a status, and without harm to the first."""
    gate = kipgate({"echo": echo()})
    assert gate.get("/").status == 200
    other = dict(gate.config, listen=[f"unix:{gate.directory}/other.sock"], admin="off")
    path = gate.directory / "other.json"
    path.write_text(json.dumps(other))
    done = subprocess.run(
        [gate.binary, "serve", "--config", str(path)],
        capture_output=True,
        text=True,
        timeout=20,
        env=gate.env,
    )
    assert done.returncode in (1, 2), done.stderr
    assert "state" in done.stderr and str(gate.config["state_dir"]) in done.stderr
    assert gate.get("/").one("Server-Timing") is None


# --- ends and changes -----------------------------------------------------------------------------


def test_sigterm_drains_and_leaves_instances_running(kipgate, echo):
    """Open exchanges finish, new connections are refused, the container stays for the next
    start."""
    gate = kipgate({"echo": echo()})
    assert gate.get("/").status == 200
    with gate.raw(20) as client_:
        client_.send(get(worker.drip(1000, 100, 100)))
        client_.final_head()
        gate.process.send_signal(signal.SIGTERM)
        wait_until(lambda: refuses(gate), 5, "refusing new connections", 0.01)
    gate.process.wait(20)
    assert gate.process.returncode == 0
    container = gate.witness.wait_one(5)["Id"]
    gate.start()
    adopted_serves(gate)
    assert gate.witness.wait_one(5)["Id"] == container


def refuses(gate):
    """Whether a new connection gets no service."""
    try:
        return gate.get("/", timeout=1).status == 503
    except (OSError, raw.Broken):
        return True


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_an_exchange_finish(kipgate, echo, number):
    """A download of two seconds is whole."""
    gate = kipgate({"echo": echo()})
    asked = Background(gate.get, worker.drip(2000, 100, 100), timeout=20)
    wait_until(lambda: gate.admin.metric("kipgate_exchanges", service="echo") == 1, 10, "under way")
    gate.process.send_signal(number)
    response = asked.result(20)
    assert response.status == 200 and len(response.body) == 2000
    assert gate.process.wait(10) == 0


def test_drain_timeout_bounds_the_drain(kipgate, echo):
    """An exchange that does not end is broken off after `drain_timeout`."""
    gate = kipgate({"echo": echo()}, config={"drain_timeout": "1s"})
    with gate.raw(30) as client_:
        client_.send(get(worker.sse(1000, 100)))
        client_.final_head()
        began = time.monotonic()
        gate.process.send_signal(signal.SIGTERM)
        assert gate.process.wait(10) == 0
        assert 0.9 < time.monotonic() - began < 3


@pytest.mark.parametrize("end", ["drain", "kill"])
def test_what_only_the_connection_ends_is_reset(kipgate, echo, end):
    """HTTP/1.0 knows no other end of such a body: one that is cut by `drain_timeout`, or with its
    front, must not look whole; a whole one ends in order."""
    gate = kipgate({"echo": echo()}, config={"drain_timeout": "1s"})
    with gate.raw() as whole, gate.raw() as cut:
        for client, count in ((whole, 50), (cut, 10000)):
            target = worker.drip(count, 10, 10, chunked=True)
            client.send(get(target).replace(b"HTTP/1.1", b"HTTP/1.0"))
            assert client.final_head().one("Content-Length") is None
        assert len(whole.rest()) == 50 and not whole.was_reset
        if end == "drain":
            gate.process.send_signal(signal.SIGTERM)
        else:
            for front in gate.fronts():
                os.kill(front, signal.SIGKILL)
        cut.rest()
        assert cut.was_reset


def test_second_sigterm_ends_at_once(kipgate, echo):
    """Whoever says it twice means it."""
    gate = kipgate({"echo": echo()})
    with gate.raw(30) as client_:
        client_.send(get(worker.sse(1000, 100)))
        client_.final_head()
        gate.process.send_signal(signal.SIGTERM)
        gate.wait_log(5, event="draining")
        began = time.monotonic()
        gate.process.send_signal(signal.SIGTERM)
        gate.process.wait(10)
        assert time.monotonic() - began < 5  # the exchange would last for 100 s


@pytest.mark.parametrize("remove", [False, True])
def test_signals_until_the_end_change_nothing_of_it(kipgate, remove):
    """Who says it over and over, to the last instant, still reads of an orderly end."""
    gate = kipgate({}, flags=["--remove-on-exit"] if remove else [])
    deadline = time.monotonic() + 10
    while gate.process.poll() is None and time.monotonic() < deadline:
        gate.process.send_signal(signal.SIGTERM)
    assert gate.process.returncode == 0


def test_remove_on_exit(kipgate, echo):
    """The flag takes the instances along."""
    gate = kipgate({"echo": echo()}, flags=["--remove-on-exit"])
    assert gate.get("/").status == 200
    gate.stop()
    assert gate.witness.containers() == []


@pytest.mark.parametrize("how", ["SIGHUP", "POST"])
def test_reload_drops_no_request_and_resets_no_clock(kipgate, echo, how):
    """Services are added and removed under load; the old instance's idle clock goes on."""
    gate = kipgate(
        {
            "echo": echo(routes=["/"], idle_timeout="10m"),
            "still": echo(routes=["/still"], idle_timeout="10m"),
        }
    )
    assert gate.get("/").status == 200 and gate.get("/still").status == 200
    used = time.monotonic()
    load = WarmLoad(gate.front)
    for round_ in range(5):
        gate.config["services"][f"new{round_}"] = echo(routes=[f"/new{round_}"])
        gate.config["services"].pop(f"new{round_ - 1}", None)
        gate.write_config()
        if how == "SIGHUP":
            gate.process.send_signal(signal.SIGHUP)
        else:
            assert gate.admin.call("POST", "/v1/reload").status == 200
        wait_until(
            lambda: gate.admin.status(f"/v1/services/new{round_}") == 200, 5, "the new service"
        )
    wait_until(lambda: load.count > 100, 20, "a hundred requests")
    load.stop()
    assert load.failed == []
    time.sleep(max(0, used + 2.5 - time.monotonic()))  # beyond the lease's linger
    idle = time.monotonic() - used
    shown = gate.admin.instances("still")[0]["idle_seconds"]
    assert idle - 1.2 <= shown <= idle + 0.2, "its clock was not reset"
    assert len(gate.witness.actions("create")) == 2
    assert gate.get("/new4").status == 200
    assert Dump(gate.get("/new3/x").body).first == "GET /new3/x HTTP/1.1"


def test_changed_health_check_serves_who_waits(kipgate, echo):
    """It never passes as it was: put right, it serves those who wait by the container that there
    is."""
    wrong = {"path": "/status?code=500"}
    gate = kipgate({"echo": echo(health=wrong, start_timeout="60s")})
    waits = Background(gate.get, "/", timeout=90)
    wait_until(
        lambda: [i["state"] for i in gate.admin.instances("echo")] == ["probing"], 20, "a probe"
    )
    assert gate.reload(lambda c: c["services"]["echo"].pop("health")).status == 200
    assert waits.result(50).status == 200
    assert gate.witness.made("echo") == 1


def test_changed_spec_drains_the_old_and_starts_the_new(kipgate, echo):
    """Under load: no request fails, old exchanges end on the old instance, new ones meet the
    new."""
    gate = kipgate({"echo": echo(env={"WHO": "old"}, idle_timeout="10m")})
    assert gate.get("/").status == 200
    old = gate.witness.wait_one(5)["Id"]
    slow = Background(gate.get, worker.drip(2000, 100, 100), timeout=30)
    load = WarmLoad(gate.front)
    wait_until(lambda: gate.admin.instances("echo")[0]["exchanges"] >= 1, 5, "the download runs")
    assert (
        gate.reload(
            lambda c: c["services"].update(echo=echo(env={"WHO": "new"}, idle_timeout="10m"))
        ).status
        == 200
    )

    def replaced():
        return any(c["Id"] != old and c["State"] == "running" for c in gate.witness.containers())

    wait_until(replaced, 20, "the new instance", 0.02)
    response = slow.result(30)
    assert response.status == 200 and len(response.body) == 2000, "it ended on the old one"
    new = gate.witness.wait_one(20)["Id"]
    load.stop()
    assert load.failed == [], load.failed[:5]
    assert new != old
    assert "WHO=new" in gate.witness.inspect(new)["Config"]["Env"]
    assert len(gate.witness.actions("create")) == 2


def test_removed_service_is_drained(kipgate, echo):
    """Its open exchange ends well, then its container goes; its route is gone at once."""
    gate = kipgate({"echo": echo(routes=["/"]), "gone": echo(routes=["/gone"], strip_prefix=True)})
    asked = Background(gate.get, "/gone" + worker.drip(1000, 100, 100), timeout=20)
    wait_until(lambda: gate.admin.metric("kipgate_exchanges", service="gone") == 1, 10, "under way")
    assert gate.reload(lambda c: c["services"].pop("gone")).status == 200
    assert Dump(gate.get("/gone/x").body).first == "GET /gone/x HTTP/1.1", "now echo's"
    response = asked.result(20)
    assert response.status == 200 and len(response.body) == 1000
    wait_until(lambda: not gate.witness.containers("gone"), 10, "the removed service's container")


# --- fronts ---------------------------------------------------------------------------------------


def test_what_a_killed_front_had_of_a_removed_service_is_not_counted(kipgate, echo):
    """The service comes back: nothing of it is under way."""
    gone = echo(routes=["/gone"], strip_prefix=True)
    gate = kipgate({"echo": echo(routes=["/"]), "gone": gone}, config={"fronts": 1})
    asked = Background(gate.get, "/gone" + worker.drip(1000, 100, 100), timeout=60)
    wait_until(lambda: gate.admin.metric("kipgate_exchanges", service="gone") == 1, 10, "under way")
    assert gate.reload(lambda c: c["services"].pop("gone")).status == 200
    (front,) = gate.fronts()
    since = gate.logs.mark()
    os.kill(front, signal.SIGKILL)
    gate.wait_log(10, since, event="front-ended")
    gate.wait_ready()
    assert gate.admin.call("PUT", "/v1/services/gone", gone).status == 201
    assert gate.admin.metric("kipgate_exchanges", service="gone") == 0
    with pytest.raises((OSError, raw.Broken)):
        asked.result(60)


def test_killed_front_is_replaced_and_only_its_own_exchanges_are_lost(kipgate, echo):
    """SIGKILL of one of two fronts under load, five times."""
    gate = kipgate({"echo": echo(idle_timeout="10m")}, config={"fronts": 2})
    assert gate.get("/").status == 200
    control = gate.process.pid
    slow = [Background(gate.get, worker.drip(600, 10, 50), timeout=60) for _ in range(8)]
    load = WarmLoad(gate.front, clients=4)
    wait_until(
        lambda: gate.admin.metric("kipgate_exchanges", service="echo") >= 8, 5, "eight downloads"
    )
    victim = gate.fronts()[0]
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: len(gate.fronts()) == 2 and victim not in gate.fronts(), 5, "a new front")
    for task in slow:
        try:
            response = task.result(60)
            assert response.status == 200 and len(response.body) == 600
        except (OSError, raw.Broken):
            pass  # an open exchange of the killed front
    for _ in range(4):
        known = gate.fronts()
        os.kill(known[-1], signal.SIGKILL)
        wait_until(lambda: len(gate.fronts()) == 2 and gate.fronts() != known, 5, "a new front")
    time.sleep(0.3)
    load.stop()
    allowed = 5 * len(load.tasks) * 2
    assert len(load.failed) <= allowed, load.failed
    kinds = {str(f[1])[:16] for f in load.failed}
    assert all("Connection" in k or "Broken" in k for k in kinds), kinds
    assert gate.process.pid == control and gate.process.poll() is None
    assert len(gate.witness.actions("create")) == 1
    for _ in range(20):
        assert gate.get("/").status == 200


def test_front_that_hangs_at_its_start_is_replaced(kipgate, echo):
    """Stopped before it is ready, it is given up after its deadline, and the next one serves whoever
    came to its sockets meanwhile; the other front serves all the time."""
    gate = kipgate({"echo": echo(idle_timeout="10m")}, config={"fronts": 2})
    assert gate.get("/").status == 200
    first, second = gate.fronts()
    with child_stops(gate.process.pid, "seccomp") as hangs:
        os.kill(second, signal.SIGKILL)
        hung = wait_until(hangs, 10, "a front that hangs")
    began = time.monotonic()
    waiting = [Background(gate.get, "/", timeout=60) for _ in range(8)]
    assert gate.admin.status("/readyz") == 503
    distrusted = gate.wait_log(30, event="front-distrusted")
    assert distrusted["why"] == "it hangs at its start" and time.monotonic() - began > 5
    wait_until(lambda: gate.admin.status("/readyz") == 200, 10, "a front that is ready")
    assert {task.result(20).status for task in waiting} == {200}
    assert not proc.alive(hung) and len(gate.fronts()) == 2 and first in gate.fronts()


def test_leases_of_a_killed_front_are_void(kipgate, echo):
    """An instance in use by the killed front only is idle from then on, and is reaped."""
    gate = kipgate({"echo": echo(idle_timeout="1s")}, config={"fronts": 1})
    with gate.raw(20) as client_:
        client_.send(get(worker.sse(1000, 100)))
        client_.final_head()
        time.sleep(1.5)
        assert gate.witness.actions("die") == []
        os.kill(gate.fronts()[0], signal.SIGKILL)
        gate.witness.wait("destroy", 4)
    wait_until(lambda: ok(gate), 5, "service by the new front", 0.05)


def ok(gate):
    """Whether a request is served now."""
    try:
        return gate.get("/", timeout=10).status == 200
    except (OSError, raw.Broken):
        return False


def test_waiting_requests_of_a_killed_front_do_not_hang_the_others(kipgate, echo):
    """Both fronts have waiters; one dies: the other's are served."""
    gate = kipgate({"echo": echo(env=worker.start_delay(1500))}, config={"fronts": 2})
    asked = [Background(gate.get, "/", timeout=30) for _ in range(20)]
    wait_until(lambda: gate.admin.metric("kipgate_waiting", service="echo") == 20, 5, "20 waiting")
    os.kill(gate.fronts()[0], signal.SIGKILL)
    outcomes = []
    for task in asked:
        try:
            outcomes.append(task.result(30).status)
        except (OSError, raw.Broken):
            outcomes.append(0)
    assert set(outcomes) <= {0, 200} and outcomes.count(200) >= 1, outcomes
    assert len(gate.witness.actions("create")) == 1


def test_fronts_hold_no_engine_socket_and_few_privileges(kipgate, echo):
    """Another user, no capabilities, no new privileges, a seccomp filter, no engine descriptor."""
    gate = kipgate({"echo": echo()}, config={"fronts": 2})
    assert gate.get("/").status == 200
    engine = proc.unix_peers(gate.host.removeprefix("unix://"))
    assert engine & set(proc.sockets(gate.process.pid)), "control holds the engine's socket"
    fronts = gate.fronts()
    assert len(fronts) == 2
    for pid in fronts:
        status = proc.status(pid)
        assert status["NoNewPrivs"] == "1" and status["Seccomp"] == "2", status
        assert int(status["CapEff"], 16) == 0 and int(status["CapPrm"], 16) == 0
        if os.geteuid() == 0:
            assert "0" not in status["Uid"].split() and "0" not in status["Gid"].split(), status[
                "Uid"
            ]
            assert status["Groups"].split() in ([], [status["Gid"].split()[0]])
        assert not engine & set(proc.sockets(pid)), "a front holds the engine's socket"
        assert not any("docker" in f or "owner" in f for f in proc.files(pid)), proc.files(pid)
        if os.geteuid() == 0:
            assert not os.path.samefile(f"/proc/{pid}/root", "/"), "the file system is out of reach"


def engine_calls(gate):
    """How many engine calls were made so far."""
    return gate.admin.metric("kipgate_engine_call_seconds_count")


def test_warm_requests_make_no_engine_call(kipgate, echo):
    """Two thousand warm requests: not one call more, and control hardly runs."""
    gate = kipgate({"echo": echo(idle_timeout="10m")}, config={"sandboxes": "off"})
    assert gate.get("/").status == 200
    before, cpu = engine_calls(gate), proc.cpu_seconds(gate.process.pid)
    with gate.raw() as client_:
        for _ in range(2000):
            assert client_.send(get("/")).response().status == 200
    assert engine_calls(gate) - before <= 1, "at most the regular look at the list"
    assert proc.cpu_seconds(gate.process.pid) - cpu < 0.2


def test_descriptors_and_memory_are_given_back(kipgate, echo):
    """Cold starts and connections later, nothing is left open in any process."""
    gate = kipgate({"echo": echo(idle_timeout="10m")}, config={"fronts": 1})
    assert gate.get("/").status == 200 and gate.admin.sleep("echo").status == 200
    before = {pid: len(proc.files(pid)) for pid in gate.pids()}
    for _ in range(5):
        assert gate.get("/").status == 200
        assert gate.admin.sleep("echo").status == 200
    for _ in range(100):
        gate.get("/", timeout=20)
    assert gate.admin.sleep("echo").status == 200
    wait_until(
        lambda: all(len(proc.files(p)) <= n + 2 for p, n in before.items()),
        10,
        "descriptors are back where they were",
        0.1,
    )


def test_storm_of_sighup(kipgate, echo):
    """Row 33: two hundred reloads; it lives, serves, and has the last configuration."""
    gate = kipgate({"echo": echo()})
    assert gate.get("/").status == 200
    load = WarmLoad(gate.front, clients=2)
    for _ in range(200):
        gate.process.send_signal(signal.SIGHUP)
        time.sleep(0.002)
    gate.config["services"]["last"] = echo(routes=["/last"])
    gate.config["services"]["echo"]["routes"] = ["/"]
    gate.write_config()
    gate.process.send_signal(signal.SIGHUP)
    wait_until(lambda: gate.admin.status("/v1/services/last") == 200, 10, "the last configuration")
    load.stop()
    assert load.failed == [] and len(gate.witness.actions("create")) == 1


def test_stopped_and_continued_kipgate_does_not_reap_what_was_busy(kipgate, echo):
    """Row 33: SIGSTOP of all its processes for longer than the idle timeout."""
    gate = kipgate({"echo": echo(idle_timeout="1s")})
    asked = Background(gate.get, worker.slow(3000), timeout=20)
    wait_until(lambda: gate.admin.metric("kipgate_exchanges", service="echo") == 1, 10, "under way")
    pids = gate.pids()
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(2)
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
    assert asked.result(20).status == 200 and len(gate.witness.actions("create")) == 1


def test_state_directory_survives_a_half_written_file(kipgate, echo):
    """Garbage in a state file is told and does not keep Kipgate from starting or adopting; but for
    who we are: without the owner and the key everything of ours would be strange to us."""
    gate = kipgate({"echo": echo(idle_timeout="10m")})
    assert gate.get("/").status == 200
    container = gate.witness.wait_one(5)["Id"]
    gate.kill9()
    for path in pathlib.Path(gate.config["state_dir"]).iterdir():
        if path.is_file() and path.stat().st_size and path.name not in ("owner", "key"):
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    gate.start()
    adopted_serves(gate)
    assert gate.witness.wait_one(5)["Id"] == container
