# SPDX-License-Identifier: Apache-2.0
"""Addresses of workers on Kipgate's own network: each rests until all others have had their turn,
and one that somebody has is passed over. The difficulty: whose turn is next must be known to put
somebody else there."""
import contextlib
import ipaddress


def range_of(gate):
    """The network of that Kipgate, and the addresses that its workers may have."""
    (network,) = gate.witness.client.networks.list(
        filters={"label": [f"io.kipgate.owner={gate.owner}"]}
    )
    network.reload()
    config = network.attrs["IPAM"]["Config"][0]
    return network, [
        host
        for host in ipaddress.ip_network(config["Subnet"]).hosts()
        if str(host) != config["Gateway"]
    ]


def address_of(gate, service):
    """Where the service's one container is."""
    (container,) = gate.witness.containers(service)
    (end,) = gate.witness.inspect(container["Id"])["NetworkSettings"]["Networks"].values()
    return ipaddress.ip_address(end["IPAddress"])


def after(hosts, address, steps=1):
    """The address that many turns later."""
    return hosts[(hosts.index(address) + steps) % len(hosts)]


def plain(echo, *names, **more):
    """Services whose workers open their own networks."""
    return {name: echo(routes=[f"/{name}"], **more) for name in names}


def test_each_worker_has_the_next_address(kipgate, echo):
    """Also when the one before is gone and its address is free."""
    gate = kipgate(plain(echo, "a", "b"), config={"sandboxes": "off"})
    assert gate.get("/a", timeout=20).status == 200
    _, hosts = range_of(gate)
    first = address_of(gate, "a")
    for turn in range(1, 4):
        assert gate.admin.sleep("a").status == 200
        gate.witness.wait_none(10, "a")
        assert gate.get("/a", timeout=20).status == 200
        assert address_of(gate, "a") == after(hosts, first, turn)


def test_an_address_that_somebody_has_is_passed_over(kipgate, echo, echo_image):
    """A stranger sits where the next two workers would be: the request is served all the same, by
    one worker behind the stranger."""
    gate = kipgate(plain(echo, "a", "b"), config={"sandboxes": "off"})
    assert gate.get("/a", timeout=20).status == 200
    network, hosts = range_of(gate)
    taken = [after(hosts, address_of(gate, "a"), turn) for turn in (1, 2)]
    with contextlib.ExitStack() as stack:
        for address in taken:
            stranger = gate.witness.client.containers.create(echo_image)
            stack.callback(stranger.remove, force=True)
            network.connect(stranger, ipv4_address=str(address))
            stranger.start()
        response = gate.get("/b", timeout=30)
        assert response.status == 200, response.body
        assert address_of(gate, "b") == after(hosts, taken[-1])
        assert len(gate.witness.containers("b")) == 1
        assert gate.witness.made("b") == 3


def test_a_network_that_was_removed_comes_back_with_its_addresses(kipgate, echo):
    """By somebody who cleaned up: what was about to be made fits the new one."""
    gate = kipgate(plain(echo, "a", "b"), config={"sandboxes": "off"})
    assert gate.get("/a", timeout=20).status == 200
    network, hosts = range_of(gate)
    last = address_of(gate, "a")
    assert gate.admin.sleep("a").status == 200
    gate.witness.wait_none(10, "a")
    network.remove()
    assert gate.get("/b", timeout=20).status == 200
    assert range_of(gate)[1] == hosts
    assert address_of(gate, "b") == after(hosts, last)
