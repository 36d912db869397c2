# SPDX-License-Identifier: Apache-2.0
"""The engine is lost, hangs, comes back, and others lay hands on our containers. The engine here
is one of this module's own: containerd and dockerd apart, with live-restore, to be killed and
stopped."""
import pathlib
import shutil
import tempfile
import time

import docker
import pytest

from harness import echo as worker
from harness import settings
from harness.echo import Dump
from harness.engine import Engine
from harness.kipgate import Kipgate, problem
from harness.load import WarmLoad
from harness.waiting import Background, together, wait_until


@pytest.fixture(scope="module")
def engine(echo_image):
    """An engine of our own with the echo image on it."""
    directory = pathlib.Path(tempfile.mkdtemp(prefix="kge"))
    made = Engine(directory)
    try:
        made.start()
        made.copy_image(settings.docker_host(), echo_image)
        yield made
    finally:
        made.stop()
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(autouse=True)
def engine_runs(engine):
    """Whatever a test did or failed to do: the next one finds an engine that runs."""
    yield
    if not engine.answers():
        engine.start_dockerd()


@pytest.fixture
def gate(engine, engine_runs, echo):
    """A warm service, and cold ones: reaped soon, patient, impatient."""
    services = {
        "warm": echo(routes=["/"], idle_timeout="10m"),
        "cold": echo(routes=["/cold"], idle_timeout="1s"),
        "later": echo(routes=["/later"], start_timeout="15s"),
        "hasty": echo(routes=["/hasty"], start_timeout="1s", idle_timeout="1h"),
    }
    with Kipgate(services, engine=engine.host) as kipgate:
        assert kipgate.admin.wake("warm").status == 200
        yield kipgate
        wait_until(lambda: kipgate.admin.status("/readyz") == 200, 15, "readiness at the end", 0.02)


def ready(gate, wanted, timeout):
    """Until /readyz says so; gives how long that took."""
    began = time.monotonic()
    wait_until(lambda: gate.admin.status("/readyz") == wanted, timeout, f"/readyz {wanted}", 0.005)
    return time.monotonic() - began


def test_loss_and_return_of_the_engine_under_warm_load(engine, gate):
    """kill -9 of dockerd three times: no warm request fails, /readyz tells the truth, the same
    instance goes on, cold requests work again at once."""
    before = gate.witness.containers("warm")[0]["Id"]
    load = WarmLoad(gate.front)
    try:
        for _ in range(3):
            engine.kill_dockerd()
            ready(gate, 503, 3)
            assert gate.admin.metric("kipgate_engine_up") == 0
            problem(gate.get("/hasty", timeout=40), 503, "engine-unavailable")
            assert gate.admin.status("/healthz") == 200
            engine.start_dockerd()
            assert ready(gate, 200, 10) < 2.5, "back to green soon after the engine answers"
            assert gate.admin.metric("kipgate_engine_up") == 1
            wait_until(
                lambda: gate.get("/cold", timeout=40).status == 200, 10, "a cold request", 0.1
            )
    finally:
        count = load.stop()
    assert load.failed == [] and count > 200, (count, load.failed[:5])
    gate.witness.refollow()
    assert [c["Id"] for c in gate.witness.containers("warm")] == [before]


def test_cold_request_waits_for_the_engines_return(engine, gate):
    """A waiting cold request is served when the engine returns within its deadline."""
    engine.kill_dockerd()
    ready(gate, 503, 3)
    waiting = Background(gate.get, "/later", timeout=40)
    engine.start_dockerd()
    assert waiting.result(40).status == 200
    assert len(gate.witness.containers("later")) == 1


def test_engine_stopped_for_ten_seconds(engine, gate):
    """SIGSTOP: it accepts and does not answer. Warm traffic does not notice, cold requests end in
    their deadline, and afterwards nothing exists twice."""
    load = WarmLoad(gate.front)
    try:
        engine.suspend()
        began = time.monotonic()
        asked = [Background(gate.get, "/later", timeout=60) for _ in range(5)]
        ready(gate, 503, 14)
        while time.monotonic() - began < 10:
            assert gate.admin.status("/healthz") == 200
            time.sleep(0.2)
        engine.resume()
        ready(gate, 200, 10)
        answers = [task.result(60) for task in asked]
    finally:
        engine.resume()
        load.stop()
    assert load.failed == [], load.failed[:5]
    assert load.slowest < 1.0, "no warm request waited for the engine"
    for answer in answers:
        if answer.status != 200:
            assert answer.status in (503, 504) and answer.one("Retry-After") or answer.status == 504
    wait_until(lambda: gate.get("/later", timeout=20).status == 200, 30, "service again", 0.2)
    assert len(gate.witness.containers("later")) == 1, "no ghost of a create that timed out"


def test_engine_stopped_in_the_middle_of_a_start(engine, gate):
    """The outcome of a create is unknown: it is asked for by name, never made twice."""
    for _ in range(3):
        asked = Background(gate.get, "/cold", timeout=60)
        time.sleep(0.03)
        engine.suspend()
        time.sleep(1.0)
        engine.resume()
        assert asked.result(60).status == 200
        assert len(gate.witness.containers("cold")) == 1
        gate.witness.wait_none(15, "cold")


def test_engine_killed_in_the_middle_of_starts(engine, gate):
    """Row 5 of the facts: a killed engine may leave a container it never told of."""
    for pause in (0.005, 0.05, 0.15):
        asked = [Background(gate.get, f"/{n}", timeout=60) for n in ("cold", "later") for _ in "ab"]
        time.sleep(pause)
        engine.kill_dockerd()
        engine.start_dockerd()
        gate.witness.refollow()
        answers = [task.result(60) for task in asked]
        assert all(a.status in (200, 502, 503, 504) for a in answers)
        wait_until(lambda: gate.get("/cold", timeout=30).status == 200, 30, "service again", 0.2)
        wait_until(lambda: len(gate.witness.containers("cold")) <= 1, 10, "no ghost", 0.1)
        assert gate.admin.sleep("later").status == 200
        wait_until(lambda: not gate.witness.containers("later"), 15, "no ghost of `later`", 0.1)
        gate.witness.wait_none(15, "cold")


# --- other hands ----------------------------------------------------------------------------------


def warm_container(gate):
    """The warm service's container."""
    return gate.witness.wait_one(10, "warm")["Id"]


def test_container_removed_by_hand_under_load(gate):
    """Open exchanges on it are lost; every later request is served by a new one."""
    container = warm_container(gate)
    gate.witness.client.api.remove_container(container, force=True)
    answers = [gate.get("/", timeout=20) for _ in range(5)]
    assert [a.status for a in answers] == [200] * 5
    assert warm_container(gate) != container


def test_container_paused_by_hand(gate):
    """Requests wait or are sent elsewhere; nothing hangs for ever, and it works after."""
    container = warm_container(gate)
    mark = gate.witness.events.mark()
    gate.witness.client.api.pause(container)
    gate.witness.wait("pause", 5, since=mark)
    asked = Background(gate.get, "/", timeout=40)
    time.sleep(0.5)
    try:
        gate.witness.client.api.unpause(container)
    except docker.errors.APIError as error:  # Kipgate has replaced it, which is fine as well
        assert "not paused" in str(error) or "No such" in str(error) or "not running" in str(error)
    assert asked.result(40).status == 200
    assert gate.get("/", timeout=20).status == 200
    gate.witness.wait_one(15, "warm")


def test_container_renamed_by_hand(gate):
    """Still ours by its id: it goes on serving and is reaped."""
    container = warm_container(gate)
    gate.witness.client.api.rename(container, f"renamed-{container[:8]}")
    assert gate.get("/").status == 200 and warm_container(gate) == container
    assert gate.admin.sleep("warm").status == 200
    gate.witness.wait_none(15, "warm")


def test_container_restarted_by_hand(gate):
    """It may come back at another address: the next request is right whatever happened."""
    container = warm_container(gate)
    try:
        gate.witness.client.api.restart(container, timeout=1)
    except docker.errors.APIError as error:  # Kipgate removed it between its end and its start
        assert "removal" in str(error) or "No such" in str(error), error
    for i in range(5):
        response = gate.get(f"/{i}", timeout=20)
        assert response.status == 200 and Dump(response.body).first == f"GET /{i} HTTP/1.1"
    gate.witness.wait_one(15, "warm")


def test_address_of_a_dead_worker_given_to_a_stranger(gate, engine, echo_image):
    """The engine gives a freed address to the next container: no request of ours may go there."""
    container = warm_container(gate)
    address = gate.witness.inspect(container)["NetworkSettings"]
    network = next(iter(address["Networks"]))
    sdk = gate.witness.client
    mark = gate.witness.events.mark()
    sdk.api.remove_container(container, force=True)
    stranger = sdk.containers.run(
        echo_image, detach=True, network=network, environment={"PORT": "8080"}
    )
    try:
        gate.witness.wait("destroy", 5, since=mark)
        for i in range(10):
            response = gate.get(f"/{i}", timeout=20)
            assert response.status == 200
            assert not stranger.id.startswith(worker.host(response)), "sent to a stranger"
    finally:
        stranger.remove(force=True)


def test_worker_that_runs_out_of_memory(engine, echo, kipgate):
    """Killed by the kernel in the middle of a request: 502 for that one, a new worker for the
    next."""
    gate = kipgate({"echo": echo(memory="32MiB")}, engine=engine.host)
    assert gate.get("/").status == 200
    container = gate.witness.wait_one(5)["Id"]
    problem(gate.get(worker.oom(), method="POST", body=b"x", timeout=30), 502, "upstream-failed")
    gate.witness.wait("die", 5)
    assert gate.get("/", timeout=20).status == 200
    assert gate.witness.wait_one(10)["Id"] != container


def test_name_conflict_with_a_stranger(engine, gate, echo_image):
    """Strangers hold names that begin like ours; they are never touched."""
    sdk = gate.witness.client
    strangers = [sdk.containers.create(echo_image, name=f"kipgate-cold-{i}") for i in range(3)]
    try:
        assert gate.get("/cold", timeout=20).status == 200
        gate.witness.wait_none(15, "cold")
        assert all(sdk.containers.get(s.id).status == "created" for s in strangers)
    finally:
        for stranger in strangers:
            stranger.remove(force=True)


def test_several_services_wake_together(engine, echo, kipgate):
    """Twelve cold services at once through the cap on starts: all served, one container each."""
    names = [f"n{i}" for i in range(12)]
    gate = kipgate({n: echo(routes=[f"/{n}"]) for n in names}, engine=engine.host)
    answers = together([lambda n=n: gate.get(f"/{n}", timeout=60) for n in names], 90)
    assert [a.status for a in answers] == [200] * 12
    assert len(gate.witness.containers()) == 12


def test_worker_that_ignores_term_does_not_hold_up_others(engine, echo, kipgate):
    """Row 21: the stop is bounded by its grace, and another service is reaped meanwhile in time."""
    gate = kipgate(
        {
            "deaf": echo(routes=["/deaf"], env=worker.ignore_term(), idle_timeout="500ms"),
            "fine": echo(routes=["/fine"], idle_timeout="500ms"),
        },
        engine=engine.host,
    )
    together([lambda n=n: gate.get(f"/{n}", timeout=20) for n in ("deaf", "fine")], 30)
    gate.witness.wait("destroy", 4, "fine")
    gate.witness.wait("destroy", 6, "deaf")


def test_cold_request_answers_while_the_queue_is_dead(gate, engine):
    """The engine is gone for good within the deadline: every waiting request is answered."""
    engine.kill_dockerd()
    try:
        answers = together([lambda: gate.get("/hasty", timeout=60)] * 10, 90)
        assert {a.status for a in answers} <= {503, 504}
    finally:
        engine.start_dockerd()
        gate.witness.refollow()
