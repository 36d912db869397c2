# SPDX-License-Identifier: Apache-2.0
"""Instances that are frozen or stopped instead of removed: by idleness, as spares, for good or for
a while; and what happens when something goes wrong with them meanwhile. The engine's own states and
events are the judge."""
import time

import docker
import pytest

from harness import echo as worker
from harness import raw, settings
from harness.echo import get
from harness.engine import own_engine
from harness.kipgate import Kipgate, problem
from harness.load import Held, WarmLoad
from harness.waiting import Background, together, wait_until


def stage(response):
    """What the request waited for: cold, paused, or None."""
    assert response.status == 200, (response.status, response.fields, response.body[:300])
    timing = response.one("Server-Timing")
    return timing.partition('desc="')[2].partition('"')[0] if timing else None


def frozen(gate, count=1, service="echo", timeout=10):
    """Until the service has exactly so many containers and all are paused, by Kipgate's word and by
    the engine's (which calls it paused until an unpause is over); gives the first id."""
    wait_until(
        lambda: shown(gate, "paused", service) == count,
        timeout,
        f"{count} paused instances of {service}",
        0.01,
    )
    return gate.witness.wait_states(timeout, service, *["paused"] * count)[0]["Id"]


def resumed(gate, times, service="echo"):
    """Whether the metrics count so many resumes; an answer may be a little ahead of them."""
    wait_until(
        lambda: gate.admin.metric("kipgate_resumes_total", service=service) == times,
        5,
        f"{times} resumes",
    )
    return unpaused(gate, service) == times


def reaped(gate, action, times, service="echo"):
    """Until the metrics count so many of that action; more would be wrong as well."""
    wait_until(
        lambda: gate.admin.metric("kipgate_reaped_total", service=service, action=action) == times,
        5,
        f"{times} of {action}",
    )


def shown(gate, state, service="echo"):
    """How many instances the metrics show in a state."""
    return gate.admin.metric("kipgate_instances", service=service, state=state)


def unpaused(gate, service="echo"):
    """How often the engine unpaused a container of the service."""
    return len(gate.witness.actions("unpause", service))


# --- pause_after ----------------------------------------------------------------------------------


def test_paused_then_resumed_then_removed(kipgate, echo):
    """The three stages by one clock: paused after a while without use, resumed by a request, and
    removed when the idle timeout is over, from the last use on."""
    gate = kipgate({"echo": echo(pause_after="300ms", idle_timeout="3s")})
    assert stage(gate.get("/")) == "cold"
    container = frozen(gate)
    assert gate.admin.instances("echo")[0]["state"] == "paused"
    assert shown(gate, "paused") == 1 and shown(gate, "ready") == 0
    response = gate.get("/again")
    ended = time.time()
    assert stage(response) == "paused" and gate.witness.is_from(response, container)
    assert resumed(gate, 1)
    assert frozen(gate) == container, "paused again"
    gone = gate.witness.wait("destroy", 10, "echo")["timeNano"] / 1e9
    assert 2.95 <= gone - ended <= 5.0, gone - ended
    assert gate.witness.made("echo") == 1
    reaped(gate, "remove", 1)


def test_warm_request_before_the_pause_is_warm(kipgate, echo):
    """Each use moves the pause."""
    gate = kipgate({"echo": echo(pause_after="700ms", idle_timeout="1h")})
    assert gate.get("/").status == 200
    for _ in range(6):
        time.sleep(0.3)  # the passing of time is what is tested
        assert stage(gate.get("/")) is None
    assert gate.witness.actions("pause", "echo") == []
    frozen(gate)


def test_busy_instance_is_not_paused(kipgate, echo):
    """An exchange longer than `pause_after`; the pause comes after its end."""
    gate = kipgate({"echo": echo(pause_after="300ms", idle_timeout="1h")})
    response = gate.get(worker.drip(2000, 100, 100), timeout=20)
    ended = time.time()
    assert response.status == 200 and len(response.body) == 2000
    event = gate.witness.wait("pause", 10, "echo")
    assert event["timeNano"] / 1e9 >= ended + 0.25, "not in the middle of the exchange"


def test_many_requests_resume_once(kipgate, echo):
    """Fifty at once over four fronts to a paused instance: one unpause, all answered."""
    gate = kipgate({"echo": echo(pause_after="200ms", idle_timeout="1h")}, config={"fronts": 4})
    assert gate.get("/").status == 200
    for round_ in range(1, 4):
        frozen(gate)
        answers = together([lambda: gate.get("/")] * 50, 30)
        assert [a.status for a in answers] == [200] * 50
        assert resumed(gate, round_)
    assert gate.witness.made("echo") == 1


def test_requests_at_the_instant_of_the_pause(kipgate, echo):
    """Hundreds of requests in eight lanes, each about when the pause is due: none fails. The engine
    tells of pauses late, even of one that is over: no instance is given up for that, and each is
    still paused in the end."""
    lanes, rounds = 8, 60
    gate = kipgate(
        {
            f"s{i}": echo(routes=[f"/s{i}"], pause_after="60ms", idle_timeout="1h")
            for i in range(lanes)
        }
    )

    def lane(index):
        outcomes = []
        with gate.raw(30) as client:
            for round_ in range(rounds):
                outcomes.append(stage(client.send(get(f"/s{index}/x")).response()))
                time.sleep(0.045 + 0.001 * (round_ * 7 % 40))  # around the due instant
        return outcomes[1:]

    outcomes = sum(together([lambda i=i: lane(i) for i in range(lanes)], 120), [])
    assert set(outcomes) == {None, "paused"}, "the instant was hit on both sides, and no other"
    for index in range(lanes):
        frozen(gate, service=f"s{index}")
        assert gate.witness.made(f"s{index}") == 1


def test_body_meets_a_paused_instance(kipgate, echo):
    """A request with a body is written whole to the instance that resumes."""
    gate = kipgate({"echo": echo(pause_after="200ms", idle_timeout="1h")})
    assert gate.get("/").status == 200
    frozen(gate)
    response = gate.get(worker.sink(), method="POST", body=b"x" * 300000)
    assert stage(response) == "paused" and worker.sunk_bytes(response) == 300000


def test_idle_kept_connections_survive_a_pause(kipgate, echo):
    """A client's open connection works before, during and after; nothing is sent to a frozen
    worker without waking it."""
    gate = kipgate({"echo": echo(pause_after="200ms", idle_timeout="1h")})
    with gate.raw(30) as client:
        for round_ in range(5):
            response = client.send(get("/x")).response()
            assert stage(response) == ("paused" if round_ else "cold")
            frozen(gate)
    assert gate.witness.made("echo") == 1


# --- on_idle --------------------------------------------------------------------------------------


def test_on_idle_pause_keeps_the_instance(kipgate, echo):
    """Paused by the idle timeout, still there many of them later, and resumed by a request."""
    gate = kipgate({"echo": echo(on_idle="pause", idle_timeout="300ms")})
    assert gate.get("/").status == 200
    container = frozen(gate)
    time.sleep(1.5)  # five idle timeouts: that nothing happens has no event
    assert frozen(gate) == container and gate.witness.actions("die") == []
    response = gate.get("/")
    assert stage(response) == "paused" and gate.witness.is_from(response, container)
    assert frozen(gate) == container and gate.witness.made("echo") == 1
    reaped(gate, "pause", 2)


def test_on_idle_stop_keeps_the_container(kipgate, echo):
    """Stopped by the idle timeout and kept; the next request starts the same container again."""
    gate = kipgate({"echo": echo(on_idle="stop", idle_timeout="400ms")})
    for round_ in range(3):
        response = gate.get(f"/{round_}", timeout=20)
        assert stage(response) == "cold"
        (container,) = gate.witness.wait_states(10, "echo", "exited")
        assert gate.witness.is_from(response, container["Id"])
        assert gate.witness.made("echo") == 1, "always the same one"
    reaped(gate, "stop", 3)
    assert gate.witness.actions("destroy", "echo") == []


# Like many servers it does not take away its socket when it is told to end, and cannot listen where
# one is.
LEAVES_ITS_SOCKET = r"""
my $server = IO::Socket::UNIX->new(Local => "/run/worker/s", Listen => 16) or die "bind: $!";
while (my $client = $server->accept) {
    while (defined(my $line = <$client>)) { last if $line eq "\r\n" }
    print $client "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
    close $client;
}
"""


def leaves_its_socket(echo, **keys):
    """A service of that worker, which is stopped when it is idle."""
    service = echo(
        image="debian:bookworm-slim",
        entrypoint=["perl", "-MIO::Socket::UNIX", "-e", LEAVES_ITS_SOCKET],
        socket="/run/worker/s",
        on_idle="stop",
        **keys,
    )
    del service["port"]
    return service


def test_stopped_worker_that_left_its_socket_starts_again(kipgate, echo):
    """The directory is ours: what a former life left there does not keep the next from listening."""
    gate = kipgate({"echo": leaves_its_socket(echo, idle_timeout="400ms")})
    for _ in range(3):
        assert stage(gate.get("/", timeout=20)) == "cold"
        gate.witness.wait_states(10, "echo", "exited")
        assert gate.witness.made("echo") == 1, "always the same one"
    gate.stop()
    gate.start()
    assert stage(gate.get("/", timeout=20)) == "cold"
    assert gate.witness.made("echo") == 1


def test_found_paused_it_left_its_socket_and_starts_again(kipgate, echo):
    """The same, where Kipgate was started anew while it was paused, before it was stopped."""
    gate = kipgate({"echo": leaves_its_socket(echo, pause_after="300ms", idle_timeout="6s")})
    assert gate.get("/", timeout=20).status == 200
    frozen(gate)
    gate.kill9()
    gate.start()
    wait_until(lambda: shown(gate, "paused") == 1, 10, "it is found paused")
    gate.witness.wait_states(15, "echo", "exited")
    assert stage(gate.get("/", timeout=20)) == "cold"
    assert gate.witness.made("echo") == 1


def test_paused_on_the_way_to_a_stop(kipgate, echo):
    """`pause_after` before `on_idle` stop: the paused one is stopped when it is due."""
    gate = kipgate({"echo": echo(on_idle="stop", pause_after="300ms", idle_timeout="1500ms")})
    assert gate.get("/").status == 200
    frozen(gate)
    (container,) = gate.witness.wait_states(10, "echo", "exited")
    response = gate.get("/", timeout=20)
    assert stage(response) == "cold" and gate.witness.is_from(response, container["Id"])


def test_sleep_removes_what_is_kept(kipgate, echo):
    """The command ends paused and stopped instances."""
    gate = kipgate(
        {
            "p": echo(routes=["/p"], on_idle="pause", idle_timeout="200ms"),
            "s": echo(routes=["/s"], on_idle="stop", idle_timeout="200ms"),
        }
    )
    assert gate.get("/p").status == 200 and gate.get("/s").status == 200
    frozen(gate, service="p")
    gate.witness.wait_states(10, "s", "exited")
    for name in ("p", "s"):
        assert gate.admin.sleep(name).status == 200
        gate.witness.wait_none(10, name)


def test_wake_resumes(kipgate, echo):
    """POST wake answers when the paused instance is ready, and makes no other one."""
    gate = kipgate({"echo": echo(on_idle="pause", idle_timeout="500ms")})
    assert gate.get("/").status == 200
    frozen(gate)
    assert gate.admin.wake("echo").status == 200
    assert gate.witness.made("echo") == 1 and resumed(gate, 1)
    frozen(gate)


def test_changed_spec_replaces_a_paused_instance(kipgate, echo):
    """A paused instance of an old specification is never resumed for a request."""
    gate = kipgate({"echo": echo(env={"WHO": "old"}, on_idle="pause", idle_timeout="300ms")})
    assert gate.get("/").status == 200
    old = frozen(gate)
    service = gate.config["services"]["echo"]
    assert gate.reload(lambda _: service.update(env=["WHO=new"])).status == 200
    response = gate.get("/env", timeout=20)
    assert response.status == 200 and b"WHO=new" in response.body
    wait_until(lambda: old not in gate.witness.ids("echo"), 10, "the old one is gone", 0.02)


# --- spares ---------------------------------------------------------------------------------------


def test_spare_is_frozen_beyond_the_busy_and_replaced(kipgate, echo):
    """A frozen spare beside each busy instance, up to the maximum; each next request is served by
    the spare, which is then replaced."""
    gate = kipgate({"echo": echo(concurrency=1, max_instances=3, spares=1, idle_timeout="10m")})
    spare = frozen(gate, timeout=20)
    held = Held(gate)
    for busy in (1, 2):
        head = held.more()
        assert 'desc="paused"' in head.one("Server-Timing"), head.fields
        assert gate.witness.is_from(head, spare), "by the very spare"
        found = gate.witness.wait_states(20, "echo", "paused", *["running"] * busy)
        spare = next(c["Id"] for c in found if c["State"] == "paused")
    assert 'desc="paused"' in held.more().one("Server-Timing")
    gate.witness.wait_states(10, "echo", "running", "running", "running")
    assert gate.witness.made("echo") == 3, "no spare where there is no room"
    held.release()


def test_one_is_frozen_whichever_was_ready_first(kipgate, echo):
    """From nothing, one request makes two instances at once. Whichever of them takes it, the other
    one is frozen, ten times."""
    gate = kipgate({"echo": echo(concurrency=1, max_instances=2, spares=1, idle_timeout="10m")})
    for _ in range(10):
        assert gate.admin.sleep("echo").status == 200
        gate.witness.wait_none(10, "echo")
        held = Held(gate, 1)
        gate.witness.wait_states(5, "echo", "paused", "running")
        held.release()


def test_spare_that_is_killed_is_replaced(kipgate, echo):
    """A dead spare is no spare."""
    gate = kipgate({"echo": echo(max_instances=2, spares=1, idle_timeout="10m")})
    spare = frozen(gate, timeout=20)
    gate.witness.client.api.remove_container(spare, force=True)
    wait_until(lambda: spare not in gate.witness.ids("echo"), 10, "it is gone", 0.02)
    assert frozen(gate, timeout=20) != spare
    assert stage(gate.get("/")) == "paused"


def test_spare_is_adopted(kipgate, echo):
    """kill -9 of Kipgate: the spare stays frozen, is not made twice, and serves."""
    gate = kipgate({"echo": echo(max_instances=2, spares=1, idle_timeout="10m")})
    spare = frozen(gate, timeout=20)
    gate.kill9()
    gate.start()
    assert frozen(gate) == spare and unpaused(gate) == 0
    response = gate.get("/")
    assert stage(response) == "paused" and gate.witness.is_from(response, spare)


def test_burst_over_spares_and_more(kipgate, echo):
    """More requests than spares: they get what is frozen first and what is made then; none
    fails."""
    gate = kipgate(
        {"echo": echo(concurrency=1, max_instances=5, spares=2, idle_timeout="10m")},
        config={"fronts": 2},
    )
    frozen(gate, 2, timeout=20)
    answers = together([lambda: gate.get(worker.slow(500), timeout=30)] * 5, 60)
    stages = [stage(a) for a in answers]
    assert stages.count("paused") >= 2, stages
    assert gate.witness.made("echo") <= 5


# --- Kipgate is killed ----------------------------------------------------------------------------


def test_kill_of_kipgate_while_paused(kipgate, echo):
    """The next run finds it paused, leaves it so, and resumes it for a request; its idle clock went
    on."""
    gate = kipgate({"echo": echo(pause_after="300ms", idle_timeout="1h")})
    assert gate.get("/").status == 200
    container = frozen(gate)
    gate.kill9()
    gate.start()
    wait_until(
        lambda: [i["state"] for i in gate.admin.instances("echo")] == ["paused"], 10, "found paused"
    )
    assert frozen(gate) == container and unpaused(gate) == 0
    response = gate.get("/")
    assert stage(response) == "paused" and gate.witness.is_from(response, container)
    assert gate.witness.made("echo") == 1 and frozen(gate) == container


def test_paused_instance_that_became_due_meanwhile_is_removed(kipgate, echo):
    """Kipgate was away longer than the idle timeout."""
    gate = kipgate({"echo": echo(pause_after="200ms", idle_timeout="1500ms")})
    assert gate.get("/").status == 200
    frozen(gate)
    gate.kill9()
    time.sleep(1.6)
    gate.start()
    gate.witness.wait_none(10, "echo")
    assert gate.get("/").status == 200


def test_kill_of_kipgate_while_stopped_and_kept(kipgate, echo):
    """A stopped container is kept over the restart and started again by the next request."""
    gate = kipgate({"echo": echo(on_idle="stop", idle_timeout="300ms")})
    assert gate.get("/").status == 200
    (container,) = gate.witness.wait_states(10, "echo", "exited")
    time.sleep(0.5)  # what is kept is written down a moment later: killed before, it is made anew
    gate.kill9()
    gate.start()
    response = gate.get("/", timeout=20)
    assert response.status == 200 and gate.witness.is_from(response, container["Id"])
    assert gate.witness.made("echo") == 1


def test_kill_of_kipgate_about_the_pause_and_the_resume(kipgate, echo):
    """Thirty kills at moments spread over pause and resume: the service works after each, by one
    container."""
    gate = kipgate({"echo": echo(pause_after="150ms", idle_timeout="1h")})
    assert gate.get("/").status == 200
    for round_ in range(30):
        with gate.raw(20) as client:
            client.send(get("/"))
            time.sleep(0.012 * round_ % 0.3)
            gate.kill9()
        gate.start()
        assert gate.get(f"/{round_}", timeout=20).status == 200, gate.tail()
        assert len(gate.witness.containers("echo")) == 1
    assert gate.witness.made("echo") == 1


# --- others lay hands on it -----------------------------------------------------------------------


@pytest.mark.parametrize("action", ["kill", "remove"])
def test_instance_that_dies_while_paused(kipgate, echo, action):
    """The next request is answered by another one."""
    gate = kipgate({"echo": echo(pause_after="300ms", idle_timeout="1h")})
    for _ in range(2):
        assert gate.get("/", timeout=20).status == 200
        container = frozen(gate)
        mark = gate.witness.events.mark()
        if action == "kill":
            gate.witness.client.api.kill(container)
        else:
            gate.witness.client.api.remove_container(container, force=True)
        gate.witness.wait("die", 10, "echo", mark)
        response = gate.get("/after", timeout=20)
        assert stage(response) == "cold" and not gate.witness.is_from(response, container)
        wait_until(
            lambda: container not in gate.witness.ids("echo"), 10, "the dead one is gone", 0.02
        )
    assert len(gate.witness.containers("echo")) == 1


def test_instance_that_dies_while_it_resumes(kipgate, echo):
    """Removed about the moment of the request, each time that of another service, for repeated
    deaths would make one rest: each is answered, and repeated where that is safe."""
    names = [f"s{i}" for i in range(10)]
    gate = kipgate(
        {n: echo(routes=[f"/{n}"], pause_after="150ms", idle_timeout="1h") for n in names}
    )
    for index, name in enumerate(names):
        assert gate.get(f"/{name}", timeout=30).status == 200
        container = frozen(gate, service=name)
        asked = Background(gate.get, f"/{name}", timeout=30)
        time.sleep(0.002 * index)
        try:
            gate.witness.client.api.remove_container(container, force=True)
        except docker.errors.APIError:  # being removed by Kipgate already
            pass
        answered(asked)
        assert gate.get(f"/{name}", timeout=30).status == 200


def answered(asked):
    """Well, or with the reason; or broken off after the head that the dying worker had sent."""
    try:
        answer = asked.result(40)
    except raw.Broken:
        return
    if answer.status != 200:
        problem(answer, 502, "upstream-failed")


def test_unpaused_by_hand(kipgate, echo):
    """Somebody unpauses it: it serves, nothing is made, and it is paused again when due."""
    gate = kipgate({"echo": echo(pause_after="400ms", idle_timeout="1h")})
    assert gate.get("/").status == 200
    container = frozen(gate)
    mark = gate.witness.events.mark()
    gate.witness.client.api.unpause(container)
    gate.witness.wait("unpause", 5, "echo", mark)
    response = gate.get("/")
    assert response.status == 200 and gate.witness.is_from(response, container)
    assert frozen(gate) == container and gate.witness.made("echo") == 1


def test_unpaused_by_hand_and_left_alone(kipgate, echo):
    """Without any request it is frozen again or removed: it does not run for ever."""
    gate = kipgate({"echo": echo(pause_after="300ms", idle_timeout="4s")})
    assert gate.get("/").status == 200
    container = frozen(gate)
    gate.witness.client.api.unpause(container)
    gate.witness.wait_none(15, "echo")


def test_paused_by_hand_while_warm(kipgate, echo):
    """Somebody pauses a warm instance of a service that never pauses: requests are answered."""
    gate = kipgate({"echo": echo(idle_timeout="10m", request_timeout="5s")})
    assert gate.get("/").status == 200
    (container,) = gate.witness.ids("echo")
    gate.witness.client.api.pause(container)
    gate.witness.wait("pause", 5, "echo")
    wait_until(
        lambda: gate.get("/", timeout=20).status == 200, 20, "service in spite of the pause", 0.1
    )
    wait_until(lambda: gate.witness.states("echo") == ["running"], 15, "one running instance", 0.05)


def test_paused_by_hand_under_load(kipgate, echo):
    """The same while requests come: what hangs is at most what was under way."""
    gate = kipgate({"echo": echo(idle_timeout="10m", request_timeout="5s")})
    assert gate.get("/").status == 200
    (container,) = gate.witness.ids("echo")
    work = WarmLoad(gate.front, clients=4)
    wait_until(lambda: work.count > 50, 10, "fifty requests")
    gate.witness.client.api.pause(container)
    wait_until(lambda: gate.witness.states("echo") == ["running"], 20, "one running instance", 0.05)
    count = work.count
    wait_until(lambda: work.count > count + 50, 20, "fifty more requests")
    work.stop()
    assert len(work.failed) <= 4, work.failed


# --- memory of what is paused ---------------------------------------------------------------------


def test_paused_memory_is_capped_and_the_least_valuable_goes(kipgate, echo):
    """Three paused instances of 30 MiB, alike in size and in what they cost, under a cap of 80 MiB:
    the one that was not used for longest goes."""
    names = ("early", "late", "later")
    gate = kipgate(
        {
            name: echo(
                env={"EAT_AT_BOOT": "30"},
                routes=[f"/{name}"],
                pause_after="500ms",
                idle_timeout="1h",
            )
            for name in names
        },
        config={"paused_memory": "80MiB", "sandboxes": "off"},
    )
    assert gate.get("/early", timeout=30).status == 200 and gate.admin.sleep("early").status == 200
    for name in names:
        assert gate.get(f"/{name}", timeout=30).status == 200
    work = [WarmLoad(gate.front, target=f"/{name}", clients=1) for name in names[1:]]
    frozen(gate, service="early")
    time.sleep(8)  # it becomes old, the others do not
    for load in work:
        load.stop()
        assert load.failed == [], load.failed[:5]
    gate.witness.wait_none(20, "early")
    frozen(gate, service="late")
    frozen(gate, service="later")
    assert stage(gate.get("/early", timeout=20)) == "cold", "it is only cold again"


def test_paused_memory_without_room_removes_instead(kipgate, echo):
    """A cap below one instance: nothing stays paused, nothing fails."""
    gate = kipgate(
        {"echo": echo(env={"EAT_AT_BOOT": "30"}, pause_after="300ms", idle_timeout="1h")},
        config={"paused_memory": "5MiB"},
    )
    for _ in range(3):
        assert stage(gate.get("/", timeout=20)) == "cold"
        gate.witness.wait_none(20, "echo")


# --- the engine is lost ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def engine(echo_image):
    """An engine of this module's own, to be stopped and killed."""
    with own_engine(settings.docker_host(), echo_image) as made:
        yield made


@pytest.fixture
def lossy(engine, echo):
    """A service that pauses soon, on the engine that will be lost."""
    service = echo(pause_after="300ms", idle_timeout="1h", start_timeout="20s")
    with Kipgate({"echo": service}, engine=engine.host) as gate:
        assert gate.get("/", timeout=20).status == 200
        yield gate
    engine.resume()
    if not engine.answers():
        engine.start_dockerd()


def test_engine_hangs_while_resuming(engine, lossy):
    """SIGSTOP before the request: it waits, and is answered by the same instance on return."""
    container = frozen(lossy)
    engine.suspend()
    asked = Background(lossy.get, "/", timeout=40)
    time.sleep(0.5)  # it waits: nobody tells
    assert not asked.done()
    engine.resume()
    response = asked.result(40)
    assert stage(response) == "paused" and lossy.witness.is_from(response, container)


def test_engine_hangs_while_pausing(engine, lossy):
    """SIGSTOP while the pause is on its way: a request in that time is answered on return."""
    for _ in range(3):
        frozen(lossy)
        assert lossy.get("/", timeout=20).status == 200
        engine.suspend()
        time.sleep(0.6)  # the pause becomes due meanwhile: nobody tells
        asked = Background(lossy.get, "/", timeout=40)
        time.sleep(0.4)
        engine.resume()
        assert asked.result(40).status == 200
    wait_until(lambda: len(lossy.witness.containers("echo")) == 1, 10, "one container", 0.05)


def test_engine_is_killed_while_an_instance_is_paused(engine, lossy):
    """A request while it is away is answered when it is back, or with the reason; afterwards there
    is one instance and it serves."""
    frozen(lossy)
    engine.kill_dockerd()
    wait_until(lambda: lossy.admin.status("/readyz") == 503, 5, "not ready", 0.01)
    asked = Background(lossy.get, "/", timeout=40)
    engine.start_dockerd()
    answer = asked.result(40)
    assert answer.status == 200 or b"engine-unavailable" in answer.body, answer.body
    wait_until(lambda: lossy.admin.status("/readyz") == 200, 15, "ready", 0.02)
    assert lossy.get("/", timeout=20).status == 200
    lossy.witness.refollow()
    frozen(lossy, timeout=20)
    assert stage(lossy.get("/")) == "paused"


# --- what contradicts itself ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "keys, named",
    [
        ({"pause_after": "5m"}, "pause_after"),
        ({"pause_after": "2s", "idle_timeout": "1s"}, "pause_after"),
        ({"on_idle": "freeze"}, "on_idle"),
    ],
)
def test_contradictory_times_are_configuration_errors(kipgate, echo, keys, named):
    """Told at the key, and nothing is started."""
    checked = kipgate({"echo": echo(**keys)}, start=False).cli("check")
    assert checked.returncode == 2, checked.stdout
    assert f".{named}" in checked.stderr, checked.stderr
