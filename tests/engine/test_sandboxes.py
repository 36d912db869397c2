# SPDX-License-Identifier: Apache-2.0
"""Parked network namespaces on a real engine: workers join sandboxes, which are kept ready, counted,
adopted and swept. The difficulty: all of it happens off the request path, so tests wait for it."""
import re
import time
import uuid

import pytest

from harness import echo as worker
from harness import seal
from harness.echo import Dump
from harness.waiting import together, wait_until
from harness.witness import OWNER

SANDBOX = "io.kipgate.sandbox"


def sandboxes(gate):
    """Sandboxes of this owner, as the engine lists them."""
    return [c for c in gate.witness.everything() if SANDBOX in c["Labels"]]


def home(container):
    """The id of the container whose network that one has joined; None: it has its own."""
    mode = container["HostConfig"]["NetworkMode"]
    return mode.removeprefix("container:") if mode.startswith("container:") else None


def parked(gate):
    """Running sandboxes that no worker has joined."""
    taken = {home(c) for c in gate.witness.containers()}
    return [c for c in sandboxes(gate) if c["Id"] not in taken and c["State"] == "running"]


def wait_parked(gate, count=1):
    """Until exactly so many are parked, and Kipgate has their addresses, which it asks for when they
    run; gives them."""
    found = []

    def reached():
        found[:] = parked(gate)
        counted = {s: gate.admin.metric("kipgate_sandboxes", state=s) for s in ("parked", "making")}
        return len(found) == count and counted == {"parked": count, "making": 0}

    wait_until(reached, 15, f"{count} parked", every=0.05)
    return found


def remove(gate, container):
    """By hand."""
    gate.witness.client.api.remove_container(container["Id"], force=True)


def test_a_cold_request_is_served_in_a_sandbox(kipgate, echo):
    """The worker joins what was parked, is reached there, and takes it along when it goes."""
    gate = kipgate({"echo": echo(idle_timeout="700ms")})
    ready = wait_parked(gate)[0]
    response = gate.get("/first")
    assert response.status == 200 and Dump(response.body).first == "GET /first HTTP/1.1"
    assert home(gate.witness.wait_one(5, "echo")) == ready["Id"]
    gate.witness.wait_none(5)
    wait_until(lambda: ready["Id"] not in {c["Id"] for c in sandboxes(gate)}, 5, "it went along")
    assert wait_parked(gate)[0]["Id"] != ready["Id"]


def test_a_sandbox_is_as_strict_as_can_be(kipgate, echo):
    """Nothing in it, nothing it may do, and its image came from nowhere but us."""
    gate = kipgate({"echo": echo()})
    found = gate.witness.inspect(wait_parked(gate)[0]["Id"])
    host, config = found["HostConfig"], found["Config"]
    assert re.fullmatch(r"/kipgate-sandbox-[0-9a-f]{12}", found["Name"])
    sealed = {key: config["Labels"].pop(key) for key in (seal.MADE_OF, seal.SEAL)}
    assert all(len(word) == 64 for word in sealed.values())
    assert config["Labels"] == {OWNER: gate.owner, SANDBOX: "1"}
    assert config["User"] == "65534:65534" and host["CapDrop"] == ["ALL"] and not host["CapAdd"]
    assert host["ReadonlyRootfs"] and host["PidsLimit"] <= 16 and host["Memory"] <= 32 << 20
    assert host["SecurityOpt"] == ["no-new-privileges"] and not host["Privileged"]
    assert host["LogConfig"]["Type"] == "none" and host["RestartPolicy"]["Name"] in ("", "no")
    assert not host["Binds"] and not host["PortBindings"] and not config["Volumes"]
    assert config["Hostname"] not in found["Id"]
    image = gate.witness.client.api.inspect_image(found["Image"])
    assert image["Size"] < 4096 and len(image["RootFS"]["Layers"]) == 1
    assert all(tag.startswith("kipgate-sandbox:") for tag in image["RepoTags"])


def test_a_sandbox_ends_at_once_when_it_is_told_to(kipgate, echo):
    """Process 1 hears TERM only if it wants to: a stop by hand takes no ten seconds. It is
    replaced."""
    gate = kipgate({"echo": echo()})
    ready = wait_parked(gate)[0]
    began = time.monotonic()
    gate.witness.client.api.stop(ready["Id"], timeout=10)
    assert time.monotonic() - began < 3
    wait_until(lambda: ready["Id"] not in {c["Id"] for c in parked(gate)}, 5, "it is dropped")
    wait_parked(gate)
    assert gate.get("/").status == 200


def test_no_two_workers_share_one(kipgate, echo):
    """A burst of six services, twice: the second time there is one parked for each."""
    names = [f"s{i}" for i in range(6)]
    gate = kipgate({n: echo(routes=[f"/{n}"], idle_timeout="10m") for n in names})
    wait_parked(gate)
    for _ in range(2):
        answers = together([lambda n=n: gate.get(f"/{n}", timeout=30) for n in names], 60)
        assert [a.status for a in answers] == [200] * 6
        homes = [home(c) for c in gate.witness.containers()]
        joined = [h for h in homes if h]
        assert len(set(joined)) == len(joined) and joined, homes
        assert all(gate.admin.sleep(n).status == 200 for n in names)
        gate.witness.wait_none(15)
        wait_parked(gate, 6)
    assert len(joined) == 6


def test_a_worker_ends_as_gently_as_ever(kipgate, echo):
    """Its own TERM and its own grace: it is not killed with its network."""
    gate = kipgate({"echo": echo(idle_timeout="500ms")})
    wait_parked(gate)
    assert gate.get("/").status == 200
    died = gate.witness.wait("die", 10, "echo")
    assert died["Actor"]["Attributes"]["exitCode"] in ("0", "143")


def test_a_parked_one_removed_by_hand_is_replaced(kipgate, echo):
    """And the request in between is served."""
    gate = kipgate({"echo": echo()})
    ready = wait_parked(gate)[0]
    remove(gate, ready)
    assert gate.get("/").status == 200
    assert wait_parked(gate)[0]["Id"] != ready["Id"]


@pytest.mark.parametrize("how", ["removed", "killed"])
def test_one_that_goes_under_its_worker_takes_the_worker_out_of_service(kipgate, echo, how):
    """Its address may be another's a moment later: the next request gets a new worker."""
    gate = kipgate({"echo": echo(idle_timeout="10m")})
    wait_parked(gate)
    assert gate.get("/").status == 200
    first = gate.witness.wait_one(5, "echo")
    if how == "removed":
        remove(gate, {"Id": home(first)})
    else:
        gate.witness.client.api.kill(home(first))
    gate.witness.wait("destroy", 10, "echo")
    response = gate.get("/again", timeout=20)
    assert response.status == 200 and Dump(response.body).first == "GET /again HTTP/1.1"
    assert gate.witness.wait_one(5, "echo")["Id"] != first["Id"]


@pytest.mark.parametrize("network", ["stays", "removed"])
def test_one_that_was_taken_off_its_network_serves_nobody(kipgate, echo, network):
    """Parked, it is disconnected by hand, as whoever removes a network has to do first. No event
    tells of it; the next request is served all the same, long before its worker would be given up."""
    gate = kipgate({"echo": echo(start_timeout="20s")})
    ready = wait_parked(gate)[0]
    api = gate.witness.client.api
    for name, end in ready["NetworkSettings"]["Networks"].items():
        api.disconnect_container_from_network(ready["Id"], name, force=True)
        if network == "removed":
            api.remove_network(end["NetworkID"])
    began = time.monotonic()
    response = gate.get("/", timeout=40)
    assert response.status == 200 and time.monotonic() - began < 10, response.body
    assert home(gate.witness.wait_one(5, "echo")) != ready["Id"]
    assert gate.admin.sleep("echo").status == 200
    wait_until(lambda: ready["Id"] not in {c["Id"] for c in sandboxes(gate)}, 10, "it is gone")
    assert gate.get("/", timeout=40).status == 200


@pytest.mark.parametrize("network", ["stays", "removed"])
def test_all_that_were_taken_off_their_network_serve_nobody(kipgate, echo, network):
    """Whoever takes one off takes them all: the next request does not try one after the other."""
    names = [f"s{i}" for i in range(3)]
    gate = kipgate({n: echo(routes=[f"/{n}"], idle_timeout="10m") for n in names})
    wait_parked(gate)
    answers = together([lambda n=n: gate.get(f"/{n}", timeout=30) for n in names], 60)
    assert [a.status for a in answers] == [200] * 3
    assert all(gate.admin.sleep(n).status == 200 for n in names)
    ready = {c["Id"]: c for c in wait_parked(gate, 3)}
    api = gate.witness.client.api
    for container in ready.values():
        for name, end in container["NetworkSettings"]["Networks"].items():
            api.disconnect_container_from_network(container["Id"], name, force=True)
            common = end["NetworkID"]
    if network == "removed":
        api.remove_network(common)
    response = gate.get("/s0", timeout=40)
    assert response.status == 200, response.body
    assert home(gate.witness.wait_one(5, "s0")) not in ready


def test_one_that_goes_while_its_worker_boots_is_no_mystery(kipgate, echo):
    """The worker could never be reached there: the request that waits is answered long before it
    would have been given up, and the service works on."""
    gate = kipgate({"echo": echo(env=worker.start_delay(1500), start_timeout="30s")})
    ready = wait_parked(gate)[0]

    def take_away():
        gate.witness.wait("start", 10, "echo")
        remove(gate, ready)

    began = time.monotonic()
    response, _ = together([lambda: gate.get("/", timeout=40), take_away], 60)
    assert response.status in (200, 502) and time.monotonic() - began < 10
    wait_until(lambda: gate.get("/", timeout=30).status == 200, 15, "the service works", every=0.2)
    assert len(gate.witness.containers("echo")) == 1


def test_a_worker_removed_by_hand_takes_its_sandbox_along(kipgate, echo):
    """Nobody else will ever be in it."""
    gate = kipgate({"echo": echo(idle_timeout="10m")})
    wait_parked(gate)
    assert gate.get("/").status == 200
    only = gate.witness.wait_one(5, "echo")
    used = home(only)
    remove(gate, only)
    wait_until(lambda: used not in {c["Id"] for c in sandboxes(gate)}, 10, "it is swept")
    assert gate.get("/", timeout=20).status == 200


def test_sandboxes_off(kipgate, echo):
    """None is made; and what was parked goes when it is switched off."""
    gate = kipgate({"echo": echo()}, config={"sandboxes": "off"})
    assert gate.get("/").status == 200
    time.sleep(0.5)
    assert not sandboxes(gate) and home(gate.witness.wait_one(5)) is None
    gate.config["sandboxes"] = 2
    gate.write_config()
    assert gate.admin.call("POST", "/v1/reload").status == 200
    wait_parked(gate)
    gate.config["sandboxes"] = "off"
    gate.write_config()
    assert gate.admin.call("POST", "/v1/reload").status == 200
    wait_until(lambda: not sandboxes(gate), 10, "none is left")
    assert gate.get("/").status == 200


def test_what_is_parked_goes_at_the_end(kipgate, echo):
    """An orderly end leaves workers with what is theirs, and nothing else."""
    gate = kipgate({"echo": echo(idle_timeout="10m")})
    wait_parked(gate)
    assert gate.get("/").status == 200
    used = home(gate.witness.wait_one(5))
    wait_parked(gate)
    gate.stop()
    assert {c["Id"] for c in sandboxes(gate)} == {used}
    gate.start()
    assert gate.get("/").status == 200 and len(gate.witness.containers()) == 1
    gate.config["remove_on_exit"] = True
    gate.stop()
    gate.start()
    gate.stop()
    assert not gate.witness.everything()


@pytest.mark.parametrize("remove", [True, False])
def test_what_a_killed_run_parked_goes_at_the_end_too(kipgate, echo, remove):
    """Though it is not known yet whether one of its workers uses it: there is none."""
    gate = kipgate({"echo": echo()}, config={"remove_on_exit": remove})
    wait_parked(gate)
    gate.kill9(fronts=True)
    gate.start()
    wait_until(lambda: gate.admin.metric("kipgate_sandboxes", state="parked") >= 1, 10, "it is found")
    gate.stop()
    assert not gate.witness.everything()


def test_kill_9_and_restart_adopts(kipgate, echo):
    """The worker keeps its sandbox and is reached in it; the parked one is kept, too, and no other
    one is made."""
    gate = kipgate({"echo": echo(idle_timeout="10m")})
    wait_parked(gate)
    assert gate.get("/").status == 200
    used = home(gate.witness.wait_one(5, "echo"))
    ready = wait_parked(gate)[0]
    gate.kill9()
    gate.start()
    wait_until(lambda: [i["state"] for i in gate.admin.instances("echo")] == ["ready"], 10, "adopted")
    response = gate.get("/warm")
    assert response.status == 200 and response.one("Server-Timing") is None
    time.sleep(1)
    assert {c["Id"] for c in sandboxes(gate)} == {used, ready["Id"]}
    assert gate.admin.sleep("echo").status == 200
    wait_until(lambda: used not in {c["Id"] for c in sandboxes(gate)}, 10, "it went along")
    assert [c["Id"] for c in sandboxes(gate)] == [ready["Id"]]


def test_kill_9_at_any_moment_leaves_nothing_behind(kipgate, echo):
    """Of eight kills around starts and ends nothing is left but what is parked."""
    gate = kipgate({"echo": echo(idle_timeout="10m")})
    for i in range(8):
        try:
            gate.get("/", timeout=0.03 * i + 0.01)
        except OSError:
            pass  # the answer is not waited for
        gate.kill9()
        gate.start()
        assert gate.get("/", timeout=30).status == 200
        assert gate.admin.sleep("echo").status == 200
    gate.witness.wait_none(5)
    wait_until(lambda: len(sandboxes(gate)) <= 2, 45, "the rest is swept", every=0.2)
    gate.config["remove_on_exit"] = True
    gate.stop()
    gate.start()
    gate.stop()


def test_another_owners_are_not_touched(kipgate, echo):
    """Two installations on one engine, and a container that only looks like a sandbox."""
    one, two = kipgate({"a": echo()}), kipgate({"b": echo()})
    wait_parked(one)
    theirs = wait_parked(two)[0]
    api = one.witness.client.api
    image = one.witness.inspect(theirs["Id"])["Image"]
    like = api.create_container(
        image,
        entrypoint=["/kipgate-sandbox"],
        name=f"lookalike-{uuid.uuid4().hex[:8]}",
        labels={OWNER: one.owner, SANDBOX: "1"},
    )
    try:
        one.kill9()
        one.start()
        assert one.get("/").status == 200
        one.stop()
        assert [c["Id"] for c in parked(two)] == [theirs["Id"]]
        assert api.inspect_container(like["Id"])["State"]["Status"] == "created"
    finally:
        api.remove_container(like["Id"], force=True)
