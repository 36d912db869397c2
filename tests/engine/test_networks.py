# SPDX-License-Identifier: Apache-2.0
"""Networks that Kipgate makes: one of all, and one for each group of services that need each other,
on which these find each other by name. That nobody else reaches them is for
tests/abuse/test_wall.py, whose engine has a firewall."""
import docker
import pytest

from harness.asker import asker
from harness.waiting import together, wait_until

ICC = "com.docker.network.bridge.enable_icc"


def networks_of(gate, service):
    """Names of the networks that the service's one worker is on; of its sandbox, where it has one."""
    (container,) = gate.witness.containers(service)
    seen = gate.witness.inspect(container["Id"])
    mode = seen["HostConfig"]["NetworkMode"]
    if mode.startswith("container:"):
        seen = gate.witness.inspect(mode.partition(":")[2])
    return set(seen["NetworkSettings"]["Networks"])


def networks(gate):
    """Of this owner: whether workers see each other there, by name."""
    return {n["Name"]: n["Options"][ICC] == "true" for n in gate.witness.networks()}


def the_id(gate, service):
    """Id of the service's one container."""
    (container,) = gate.witness.containers(service)
    return container["Id"]


def ask(gate, route, host, path="/whoami"):
    """What that service's worker is told by another one."""
    return gate.get(f"{route}/{host}/8080{path}", timeout=60)


def reaches(gate, route, service):
    """Whether that service's worker is answered by the one worker of the other service."""
    answer = ask(gate, route, service)
    host = gate.witness.inspect(the_id(gate, service))["Config"]["Hostname"]
    return answer.status == 200 and host.encode() in answer.body


def tied(echo, **more):
    """Two groups and one by itself."""
    services = {
        "app": asker(routes=["/app"], needs=["db"]),
        "db": echo(idle_timeout="10m"),
        "shop": asker(routes=["/shop"], needs=["cache"]),
        "cache": echo(idle_timeout="10m"),
        "lone": asker(routes=["/lone"]),
    }
    for service in services.values():
        service["strip_prefix"] = "routes" in service
    return {**services, **more}


def test_what_is_needed_is_reached_by_its_name(kipgate, echo):
    """The worker of a request asks the worker that its service needs, and passes on what that says;
    who is not of the group does not even know the name."""
    gate = kipgate(tied(echo))
    assert reaches(gate, "/app", "db") and reaches(gate, "/shop", "cache")
    strangers = [("/lone", "db"), ("/app", "cache"), ("/shop", "db"), ("/app", "lone")]
    answers = together([lambda p=pair: ask(gate, *p) for pair in strangers], 60)
    assert [a.status for a in answers] == [502] * 4
    assert networks_of(gate, "app") == networks_of(gate, "db")
    assert networks_of(gate, "shop") == networks_of(gate, "cache")
    groups = networks_of(gate, "app") | networks_of(gate, "shop")
    (common,) = networks_of(gate, "lone")
    assert networks(gate) == {common: False, **dict.fromkeys(groups, True)} and len(groups) == 2
    chosen = [n["Labels"].get("io.kipgate.addresses") for n in gate.witness.networks()]
    assert chosen == ["chosen"] * 3, "and on each of them addresses are given in turn"
    gate.reload(lambda config: config.update(remove_on_exit=True))
    gate.stop()
    assert networks(gate) == {}, "they go with Kipgate"


def test_a_chain_is_one_group(kipgate, echo):
    """web needs app needs db, which web asks as well; all by one request."""
    gate = kipgate(
        {
            "web": asker(routes=["/"], needs=["app"]),
            "app": asker(needs=["db"]),
            "db": echo(),
        }
    )
    answer = gate.get("/app/8080/db/8080/whoami", timeout=60)
    assert answer.status == 200 and answer.body.count(b"HTTP/1.") == 2, answer.body
    assert reaches(gate, "", "db")
    assert len(set.union(*(networks_of(gate, name) for name in ("web", "app", "db")))) == 1


def test_the_group_is_found_again_after_a_kill(kipgate, echo):
    """Killed and started: the same containers are adopted at the addresses of their network."""
    gate = kipgate(tied(echo))
    assert reaches(gate, "/app", "db")
    before = the_id(gate, "app"), the_id(gate, "db")
    gate.kill9()
    gate.start()
    assert reaches(gate, "/app", "db")
    assert (the_id(gate, "app"), the_id(gate, "db")) == before


def test_a_changed_group_is_another_network(kipgate, echo):
    """Who joins a group is made anew on its network, and those that were there stay as they are;
    when nobody needs anybody any more all are on the network of all, and the group's is removed."""
    gate = kipgate(tied(echo))
    assert reaches(gate, "/app", "db") and ask(gate, "/lone", "db").status == 502
    before = the_id(gate, "app"), the_id(gate, "db"), the_id(gate, "lone")
    gate.reload(lambda config: config["services"]["lone"].update(needs=["db"]))
    wait_until(lambda: gate.get("/lone", timeout=60).status == 200, 30, "an answer")
    wait_until(lambda: len(gate.witness.containers("lone")) == 1, 30, "the old one's end")
    assert the_id(gate, "lone") != before[2] and reaches(gate, "/lone", "db")
    assert (the_id(gate, "app"), the_id(gate, "db")) == before[:2]
    assert networks_of(gate, "lone") == networks_of(gate, "db")
    (group,) = networks_of(gate, "db")

    def untie(config):
        for name in ("lone", "app"):
            del config["services"][name]["needs"]
        config["services"]["db"]["routes"] = ["/db"]

    gate.reload(untie)
    assert gate.get("/app", timeout=60).status == 200
    assert gate.get("/db/whoami", timeout=60).status == 200
    wait_until(lambda: group not in networks(gate), 40, "the end of the group's network")
    for name in ("app", "db"):
        wait_until(lambda n=name: len(gate.witness.containers(n)) == 1, 30, "the old one's end")
        assert networks(gate)[networks_of(gate, name).pop()] is False


@pytest.mark.parametrize("on_idle", ["remove", "stop"])
def test_a_network_that_somebody_removed_is_made_again(kipgate, echo, on_idle):
    """While nothing runs on it. Containers that were stopped on it can never be started on another
    one: they are made again, and no request fails for it."""
    services = tied(echo)
    for name in ("app", "db"):
        services[name].update(on_idle=on_idle, idle_timeout="500ms")
    gate = kipgate(services)
    assert ask(gate, "/app", "db").status == 200
    (group,) = {n for n, open_ in networks(gate).items() if open_}
    for name in ("app", "db"):
        gate.witness.wait_states(20, name, *(["exited"] if on_idle == "stop" else []))
    gate.witness.client.api.remove_network(group)
    gate.reload(lambda config: [config["services"][n].pop("idle_timeout") for n in ("app", "db")])
    assert ask(gate, "/app", "db").status == 200
    assert networks_of(gate, "app") == {group} and reaches(gate, "/app", "db")


def test_what_is_stopped_is_started_on_its_network_again(kipgate, echo):
    """Kipgate ends, and leaves the networks that stopped containers are on: they could be started
    on no other. The next one starts these same containers."""
    services = tied(echo, alone=asker(routes=["/alone"], strip_prefix=True))
    kept = ("app", "db", "alone")
    for name in kept:
        services[name].update(on_idle="stop", idle_timeout="500ms")
    gate = kipgate(services, config={"sandboxes": "off"})
    assert ask(gate, "/app", "db").status == 200 and gate.get("/alone", timeout=60).status == 200
    for name in kept:
        gate.witness.wait_states(20, name, "exited")
    before, made = {name: the_id(gate, name) for name in kept}, networks(gate)
    gate.stop()
    assert networks(gate) == made
    gate.start()
    assert ask(gate, "/app", "db").status == 200 and gate.get("/alone", timeout=60).status == 200
    assert {name: the_id(gate, name) for name in kept} == before


def test_a_network_of_that_name_that_is_not_ours_is_left_alone(kipgate, echo):
    """Somebody else has one: it is told, services run on the network of all, and it stays."""
    gate = kipgate(tied(echo))
    assert gate.get("/lone", timeout=60).status == 200
    (common,) = networks_of(gate, "lone")
    api = gate.witness.client.api
    foreign = api.create_network(f"{common}-db")["Id"]
    try:
        assert gate.get("/app", timeout=60).status == 200
        gate.wait_log(10, event="engine-network-foreign", network=f"{common}-db")
        assert networks_of(gate, "app") == networks_of(gate, "db") == {common}
        assert gate.stop() is None
        assert api.inspect_network(foreign)["Id"] == foreign
    finally:
        gate.witness.remove_all()
        api.remove_network(foreign)
    with pytest.raises(docker.errors.NotFound):
        api.inspect_network(foreign)
