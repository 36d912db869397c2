# SPDX-License-Identifier: Apache-2.0
"""An engine that was killed in the middle of a start forgets the worker, which lives on and keeps
its address (row 25 of the facts). The difficulty is to hit that moment: so the engine's own record
of a worker that runs is made to be what it is then."""
import contextlib
import http.client
import ipaddress
import json
import os
import signal

from harness import proc
from harness.faults import ready
from harness.waiting import wait_until

ROUNDS = 12


def forget(engine, container_id):
    """While dockerd is dead: in its record the container was never started."""
    record = engine.directory / f"data/containers/{container_id}/config.v2.json"
    config = json.loads(record.read_text())
    config["State"].update(Running=False, Pid=0, StartedAt="0001-01-01T00:00:00Z")
    config["NetworkSettings"]["Networks"] = {}
    record.write_text(json.dumps(config))


@contextlib.contextmanager
def orphan(pid):
    """It ends with the test, whoever else knows of it."""
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not proc.alive(pid), 10, "the end of the forgotten worker")


def host_at(address):
    """The host name of the worker that answers there."""
    connection = http.client.HTTPConnection(address, 8080, timeout=10)
    with contextlib.closing(connection):
        connection.request("GET", "/")
        return connection.getresponse().getheader("X-Echo-Host")


def test_a_forgotten_worker_answers_for_nobody(engine, make_gate, echo):
    """Whatever is asked for is answered by the container that the engine has for it, though the
    forgotten one still answers at the address that an engine would give to the next."""
    gate = make_gate(
        engine.host, {"sandboxes": "off"}, warm=False, lost=echo(), found=echo(idle_timeout="10m")
    )
    assert gate.get("/lost", timeout=20).status == 200
    (container,) = gate.witness.ids("lost")
    seen = gate.witness.inspect(container)
    (end,) = seen["NetworkSettings"]["Networks"].values()
    host = host_at(end["IPAddress"])
    with orphan(seen["State"]["Pid"]):
        engine.kill_dockerd()
        forget(engine, container)
        engine.start_dockerd()
        gate.witness.refollow()
        ready(gate)
        gate.witness.wait_none(20, "lost")
        for _ in range(ROUNDS):
            response = gate.get("/found", timeout=30)
            assert response.status == 200, response.body
            (now,) = gate.witness.ids("found")
            assert gate.witness.is_from(response, now), response.fields
            assert host_at(end["IPAddress"]) == host, "the forgotten one is still there"
            assert gate.admin.sleep("found").status == 200
            gate.witness.wait_none(10, "found")
        assert gate.get("/lost", timeout=20).one("X-Echo-Host") != host
        assert ipaddress.ip_address(end["IPAddress"]) not in addresses(gate)


def addresses(gate):
    """Of all containers of that Kipgate that run."""
    ends = [
        end
        for c in gate.witness.containers(all=False)
        for end in gate.witness.inspect(c["Id"])["NetworkSettings"]["Networks"].values()
    ]
    return [ipaddress.ip_address(end["IPAddress"]) for end in ends]
