# SPDX-License-Identifier: Apache-2.0
"""More than one instance of a service: made when waiting requests need one, bounded, exact in what
each of them sees at once, and given up again. Judged by the workers' own counts and the engine's
events."""
import json
import time

import pytest

from harness import echo as worker
from harness import load, raw
from harness.echo import get
from harness.load import Held, WarmLoad
from harness.waiting import Background, together, wait_until

ADDRESS_PORT = 8080


def running(gate, timeout, count, service="echo"):
    """Until exactly so many containers run; gives their ids."""
    found = gate.witness.wait_states(timeout, service, *["running"] * count)
    return {container["Id"] for container in found}


def peaks(gate, service="echo"):
    """The most requests that each worker saw at once, asked of the workers themselves."""
    seen = {}
    for container in gate.witness.containers(service):
        networks = gate.witness.inspect(container["Id"])["NetworkSettings"]["Networks"]
        address = next(iter(networks.values()))["IPAddress"]
        said = json.loads(raw.get((address, ADDRESS_PORT), "/whoami").body)
        seen[container["Id"]] = (said["peak"], said["requests"])
    return seen


def settled(gate, count, service="echo"):
    """Until the instances are back: none has an exchange or a lease out."""

    def idle():
        found = gate.admin.instances(service)
        return len(found) == count and all(
            i["exchanges"] == 0 and (i["reap_in_seconds"] or -1) >= 0 for i in found
        )

    wait_until(idle, 10, f"{count} idle instances", 0.02)


# --- exactness ------------------------------------------------------------------------------------


def test_concurrency_one_is_exact_over_four_fronts(kipgate, echo):
    """Under load from sixteen clients no worker ever has two requests at once."""
    gate = kipgate(
        {"echo": echo(concurrency=1, max_instances=4, idle_timeout="10m")}, config={"fronts": 4}
    )
    work = WarmLoad(gate.front, target=worker.slow(5), clients=16, pause=0)
    wait_until(lambda: work.count >= 1500 or work.failed, 90, "1,500 requests")
    work.stop()
    assert work.failed == [], work.failed[:5]
    seen = peaks(gate)
    assert {peak for peak, _ in seen.values()} == {1}, seen
    assert 2 <= len(seen) <= 4 and gate.witness.made("echo") == len(seen), seen
    assert sum(requests - 1 for _, requests in seen.values()) == work.count, "none was sent twice"


def test_concurrency_three_is_exact_too(kipgate, echo):
    """The same with three at once: reached, never exceeded."""
    gate = kipgate(
        {"echo": echo(concurrency=3, max_instances=2, idle_timeout="10m")}, config={"fronts": 4}
    )
    work = WarmLoad(gate.front, target=worker.slow(20), clients=16, pause=0)
    wait_until(lambda: work.count >= 600 or work.failed, 60, "600 requests")
    work.stop()
    assert work.failed == [], work.failed[:5]
    assert {peak for peak, _ in peaks(gate).values()} == {3}, peaks(gate)


# --- up -------------------------------------------------------------------------------------------


def test_another_instance_only_when_more_wait_than_are_coming(kipgate, echo):
    """Two slots an instance: the first two requests make one, the third a second, the fourth
    none."""
    gate = kipgate(
        {"echo": echo(env=worker.start_delay(1500), concurrency=2, max_instances=5)},
        config={"fronts": 2},
    )
    asked, makes = [], []
    for waiting in range(1, 5):
        asked.append(Background(gate.get, worker.slow(1500), timeout=30))
        wait_until(
            lambda n=waiting: gate.admin.metric("kipgate_waiting", service="echo") == n,
            5,
            f"{waiting} waiting requests",
        )
        expected = (waiting + 1) // 2
        wait_until(lambda n=expected: gate.witness.made("echo") >= n, 5, f"{expected} containers")
        makes.append(gate.witness.made("echo"))
    assert [task.result(30).status for task in asked] == [200] * 4
    assert makes == [1, 1, 2, 2] and gate.witness.made("echo") == 2


def test_idle_slots_are_used_before_anything_is_made(kipgate, echo):
    """Four slots of two instances take four requests; the fifth needs a third instance."""
    gate = kipgate(
        {"echo": echo(concurrency=2, max_instances=5, idle_timeout="10m")}, config={"fronts": 2}
    )
    held = Held(gate, 4)
    assert gate.witness.made("echo") == 2
    held.release()
    settled(gate, 2)
    again = Held(gate, 4)
    assert gate.witness.made("echo") == 2
    head = again.more()
    assert gate.witness.made("echo") == 3 and head.one("Server-Timing")
    again.release()


def test_requests_go_to_the_least_loaded(kipgate, echo):
    """Six held requests on two instances of ten slots each: three and three, as the workers count
    (who are asked one more)."""
    gate = kipgate({"echo": two_ready(echo)}, config={"fronts": 1})
    wait_until(lambda: ready_count(gate) == 2, 15, "two ready instances")
    held = Held(gate, 6)
    assert [peak for peak, _ in peaks(gate).values()] == [4, 4]
    held.release()


def test_api_tells_the_exchanges_of_each_instance(kipgate, echo):
    """Not those of the whole service."""
    gate = kipgate({"echo": two_ready(echo)}, config={"fronts": 1})
    wait_until(lambda: ready_count(gate) == 2, 15, "two ready instances")
    held = Held(gate, 6)
    assert sorted(i["exchanges"] for i in exchanges(gate, 6)) == [3, 3]
    held.release()


def two_ready(echo):
    """A service with two instances of ten slots."""
    return echo(concurrency=10, max_instances=2, min_instances=2, idle_timeout="10m")


def ready_count(gate, service="echo"):
    """Instances that are ready, by the API."""
    return sum(1 for i in gate.admin.instances(service) if i["state"] == "ready")


def exchanges(gate, total, service="echo"):
    """The instances once the API counts so many exchanges."""
    return wait_until(
        lambda: (lambda found: found if sum(i["exchanges"] for i in found) == total else None)(
            gate.admin.instances(service)
        ),
        5,
        f"{total} exchanges",
    )


def test_max_instances_is_a_bound(kipgate, echo):
    """Twelve requests at once for two instances of one slot: two containers, all answered."""
    gate = kipgate({"echo": echo(concurrency=1, max_instances=2)}, config={"fronts": 4})
    answers = load.burst(
        gate.front, [get(worker.slow(100), "Connection: close") for _ in range(12)]
    )
    assert all(not isinstance(a, Exception) and a.startswith(b"HTTP/1.1 200 ") for a in answers)
    assert gate.witness.made("echo") == 2 and len(gate.witness.containers("echo")) == 2


def test_no_request_waits_while_a_slot_is_free(kipgate, echo):
    """One instance is busy, the other free: requests on new connections, so over all fronts, each
    get the free slot, wherever it was last; nothing is made for them."""
    gate = kipgate(
        {"echo": echo(concurrency=1, max_instances=2, idle_timeout="10m")}, config={"fronts": 4}
    )
    held = Held(gate, 2)
    held.release(1)
    began = time.monotonic()
    for _ in range(40):
        assert gate.get("/small").status == 200
    assert time.monotonic() - began < 10, "none waited for a slot to linger out"
    assert gate.witness.made("echo") == 2
    held.release()


def test_a_thousand_first_requests_make_what_they_need(kipgate, echo):
    """A thousand at once, 250 slots an instance, at most four: four are made, all are answered."""
    gate = kipgate({"echo": echo(queue=2000, concurrency=250, max_instances=4)})
    datas = [get("/small", "Connection: close") for _ in range(1000)]
    answers = load.burst(gate.front, datas)
    wrong = [a for a in answers if isinstance(a, Exception) or b" 200 " not in a[:20]]
    assert not wrong, (len(wrong), wrong[:3])
    assert 1 <= gate.witness.made("echo") <= 4


def test_starts_in_flight_are_capped_over_all_services(kipgate, echo):
    """Eight services are asked for at once with `max_starts` 2: never are more than two between
    their create and their start, by the engine's clock."""
    names = [f"s{i}" for i in range(8)]
    gate = kipgate({n: echo(routes=[f"/{n}"]) for n in names}, config={"max_starts": 2})
    answers = together([lambda n=n: gate.get(f"/{n}", timeout=60) for n in names], 90)
    assert [a.status for a in answers] == [200] * 8
    started = lambda: [event for n in names for event in gate.witness.actions("start", n)]
    wait_until(lambda: len(started()) == 8, 10, "the engine's word of the last start")
    moments = [
        (event["timeNano"], step)
        for action, step in (("create", 1), ("start", -1))
        for name in names
        for event in gate.witness.actions(action, name)
    ]
    flying = most = 0
    for _, step in sorted(moments):
        flying += step
        most = max(most, flying)
    assert flying == 0 and 1 <= most <= 2, most


# --- min_instances --------------------------------------------------------------------------------


def test_min_instances_are_there_without_a_request(kipgate, echo):
    """From the start, beyond the idle timeout, and again after one of them was killed."""
    gate = kipgate({"echo": echo(min_instances=2, max_instances=3, idle_timeout="500ms")})
    before = running(gate, 15, 2)
    wait_until(lambda: ready_count(gate) == 2, 10, "two ready instances")
    time.sleep(1.5)  # three idle timeouts: that nothing happens has no event
    assert gate.witness.actions("die") == [] and running(gate, 1, 2) == before
    victim = sorted(before)[0]
    gate.witness.client.api.kill(victim)
    gate.witness.wait("die", 5)
    wait_until(lambda: victim not in gate.witness.ids("echo"), 15, "the killed one is gone", 0.02)
    after = running(gate, 15, 2)
    assert len(after & before) == 1 and gate.witness.made("echo") == 3
    assert gate.get("/").one("Server-Timing") is None


def test_min_instances_are_adopted_after_a_kill_of_kipgate(kipgate, echo):
    """Not made again, not reaped."""
    gate = kipgate({"echo": echo(min_instances=2, max_instances=2, idle_timeout="500ms")})
    before = running(gate, 15, 2)
    wait_until(lambda: ready_count(gate) == 2, 10, "two ready instances")
    gate.kill9()
    gate.start()
    assert gate.get("/").status == 200
    wait_until(lambda: ready_count(gate) == 2, 10, "two ready instances")
    assert gate.witness.ids("echo") == before and gate.witness.made("echo") == 2


def test_all_instances_of_a_scaled_service_are_adopted(kipgate, echo):
    """Three instances in use, kill -9: the next run has the same three and uses them."""
    gate = kipgate({"echo": echo(concurrency=1, max_instances=3, idle_timeout="10m")})
    Held(gate, 3).release()
    before = running(gate, 5, 3)
    gate.kill9()
    gate.start()
    wait_until(lambda: ready_count(gate) == 3, 10, "three ready instances")
    held = Held(gate, 3)
    assert gate.witness.ids("echo") == before and gate.witness.made("echo") == 3
    held.release()


def test_min_instances_after_a_reload(kipgate, echo):
    """Raised, then lowered at run time: instances come, and go when idle, without a failure."""
    gate = kipgate({"echo": echo(max_instances=3, idle_timeout="700ms")})
    assert gate.get("/").status == 200
    work = WarmLoad(gate.front)
    service = gate.config["services"]["echo"]
    assert gate.reload(lambda _: service.update(min_instances=3)).status == 200
    running(gate, 20, 3)
    assert gate.reload(lambda _: service.update(min_instances=0)).status == 200
    running(gate, 60, 1)
    work.stop()
    assert work.failed == [], work.failed[:5]


# --- down -----------------------------------------------------------------------------------------


def test_scale_in_leaves_the_one_in_use(kipgate, echo):
    """Four instances for a peak of which one request goes on: the three others are given up, though
    nobody comes any more, and the one in use stays until it is idle itself."""
    gate = kipgate({"echo": echo(concurrency=1, max_instances=4, idle_timeout="1s")})
    held, ages = Held(gate), []
    for _ in range(4):
        held.more()
        (new,) = gate.witness.ids("echo") - set(ages)
        ages.append(new)
    first = held.clients.pop(0)
    held.release()
    assert running(gate, 90, 1) == {ages[0]}
    gone = [event["Actor"]["ID"] for event in gate.witness.actions("die", "echo")]
    assert gone == ages[:0:-1], (gone, ages)
    first.close()
    gate.witness.wait_none(15, "echo")


def test_scale_in_takes_the_youngest(kipgate, echo):
    """Two requests at a time where four instances are: two are enough, and the two youngest go."""
    gate = kipgate(
        {"echo": echo(concurrency=1, max_instances=4, idle_timeout="4s")}, config={"fronts": 1}
    )
    held, ages = Held(gate), []
    for _ in range(4):
        held.more()
        (new,) = gate.witness.ids("echo") - set(ages)
        ages.append(new)
    held.release()
    work = WarmLoad(gate.front, target=worker.slow(50), clients=2, pause=0)
    running(gate, 90, 2)
    work.stop()
    assert work.failed == [], work.failed[:5]
    gone = [event["Actor"]["ID"] for event in gate.witness.actions("die", "echo")]
    assert gone[:2] == ages[:1:-1], (gone, ages)


def test_scale_in_under_load_leaves_what_is_needed(kipgate, echo):
    """Four instances for a peak, then one request at a time: one instance is left, whichever is in
    use then, and no request fails meanwhile."""
    gate = kipgate({"echo": echo(concurrency=1, max_instances=4, idle_timeout="1s")})
    Held(gate, 4).release()
    work = WarmLoad(gate.front, clients=1, pause=0.02)
    running(gate, 90, 1)
    count = work.count
    wait_until(lambda: work.count > count + 50, 20, "fifty requests to the one that is left")
    work.stop()
    assert work.failed == [], work.failed[:5]
    assert gate.witness.made("echo") == 4, "no instance was given up too early"
    gate.witness.wait_none(15, "echo")


def test_no_request_fails_while_instances_come_and_go(kipgate, echo):
    """Peaks of eight over a light load, with an idle timeout as short as the pauses between: the
    service scales in and out, and no request fails."""
    gate = kipgate(
        {"echo": echo(concurrency=1, max_instances=4, idle_timeout="300ms")}, config={"fronts": 4}
    )
    work = WarmLoad(gate.front, target=worker.slow(10), clients=2)
    for _ in range(4):
        answers = together([lambda: gate.get(worker.slow(300), timeout=30)] * 8, 60)
        assert [a.status for a in answers] == [200] * 8
        time.sleep(1.5)  # time to scale in; how far is not asked
    work.stop()
    assert work.failed == [], work.failed[:5]
    assert len(gate.witness.containers("echo")) <= 4
    assert {peak for peak, _ in peaks(gate).values()} == {1}


def test_all_go_when_nobody_comes(kipgate, echo):
    """After a peak and then nothing at all, no container is left."""
    gate = kipgate({"echo": echo(concurrency=1, max_instances=4, idle_timeout="500ms")})
    Held(gate, 4).release()
    gate.witness.wait_none(60, "echo")
    assert gate.witness.made("echo") == 4


# --- what goes wrong ------------------------------------------------------------------------------


def test_one_of_several_dies_under_load(kipgate, echo):
    """A killed instance costs at most what was under way on it, answered with the reason or broken
    off; the others go on, and it is replaced when it is needed."""
    gate = kipgate(
        {"echo": echo(concurrency=4, max_instances=3, min_instances=3, idle_timeout="10m")},
        config={"fronts": 2},
    )
    before = running(gate, 20, 3)
    wait_until(lambda: ready_count(gate) == 3, 10, "three ready instances")
    work = WarmLoad(gate.front, target=worker.slow(5), clients=6)
    wait_until(lambda: work.count > 100, 20, "a hundred requests")
    gate.witness.client.api.kill(sorted(before)[1])
    gate.witness.wait("die", 5)
    wait_until(
        lambda: sorted(before)[1] not in gate.witness.ids("echo"),
        15,
        "the killed one is gone",
        0.02,
    )
    running(gate, 20, 3)
    work.stop()
    assert len(work.failed) <= 4, "at most the four exchanges that it had"
    assert all(error[0] == 502 or "Broken" in error for _, error in work.failed), work.failed


def test_second_instance_that_cannot_start_harms_nobody(kipgate, echo):
    """The engine loses the image's name while one instance runs: what waits for a second one is
    served by the first when it is free."""
    gate = kipgate({"echo": echo(concurrency=1, max_instances=2, idle_timeout="10m")})
    held = Held(gate, 1)
    sdk = gate.witness.client
    image = sdk.images.get(gate.config["services"]["echo"]["image"])
    other = f"kipgate-gone:{gate.owner}"
    image.tag(other)
    try:
        service = gate.config["services"]["echo"]
        held.release()
        assert gate.reload(lambda _: service.update(image=other)).status == 200
        assert gate.get("/", timeout=30).status == 200
        held = Held(gate, 1)
        sdk.api.remove_image(other, noprune=True)
        waiting = Background(gate.get, "/second", timeout=30)
        wait_until(
            lambda: waiting.done() or gate.admin.metric("kipgate_waiting", service="echo") == 1,
            5,
            "a waiting request",
        )
        held.release()
        answer = waiting.result(30)
        assert answer.status in (200, 502), (answer.status, answer.body)
        assert gate.get("/third", timeout=30).status == 200, "the first one serves on"
    finally:
        try:
            sdk.api.remove_image(other, noprune=True)
        except Exception:  # gone already, which is the point of the test
            pass


@pytest.mark.parametrize(
    "keys, named",
    [
        ({"min_instances": 3, "max_instances": 2}, "min_instances"),
        ({"min_instances": 2}, "min_instances"),
        ({"spares": 2}, "spares"),
        ({"spares": 2, "min_instances": 1, "max_instances": 2}, "spares"),
        ({"max_instances": 0}, "max_instances"),
    ],
)
def test_contradictory_numbers_are_configuration_errors(kipgate, echo, keys, named):
    """Told at the key, and nothing is started."""
    checked = kipgate({"echo": echo(**keys)}, start=False).cli("check")
    assert checked.returncode == 2, checked.stdout
    assert f".{named}" in checked.stderr, checked.stderr
