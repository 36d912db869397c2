# SPDX-License-Identifier: Apache-2.0
"""Images are pulled ahead of time: from a registry on loopback, through a way that a test makes
slow or cuts. The difficulty: what is pulled must not be on the engine in any form before, so that
something travels."""
import time

import docker
import pytest

from harness import registry, settings
from harness.kipgate import problem
from harness.waiting import Background, together, wait_until
from harness.witness import client

@pytest.fixture(scope="module")
def sdk():
    """A client of the private engine."""
    return client(settings.docker_host(), 60)


@pytest.fixture
def made_registry():
    """Asks for no password."""
    made = registry.Registry()
    yield made
    made.stop()


@pytest.fixture
def way(made_registry):
    """The way from the engine to the registry."""
    host, port = made_registry.address.split(":")
    made = registry.SlowWay((host, int(port)))
    yield made
    made.stop()


@pytest.fixture(scope="module")
def pulled(sdk):
    """References that tests had pulled: removed once no instance of them is left."""
    references = []
    yield references
    for reference in references:
        try:
            sdk.api.remove_image(reference, force=True)
        except docker.errors.ImageNotFound:
            pass


@pytest.fixture
def pushed(sdk, echo_image, made_registry, way, pulled):
    """Makes references that are in the registry, behind the way, and not on the engine."""

    def make():
        source = registry.unlike_any(sdk, echo_image)
        name = f"{source.partition(':')[0]}:1"
        made_registry.push(sdk, source, name)
        sdk.api.remove_image(source, force=True)
        pulled.append(f"{way.address}/{name}")
        assert not present(sdk, pulled[-1])
        return pulled[-1]

    return make


def present(sdk, reference):
    """Whether the engine has it."""
    try:
        sdk.images.get(reference)
        return True
    except docker.errors.ImageNotFound:
        return False


def details(events, kind):
    """The details of the events of a kind, so far."""
    return [e["detail"] for e in events.mailbox.all() if e["event"] == kind]


def test_there_before_anybody_asks(kipgate, echo, sdk, pushed):
    """Configured and never requested: there after a while, and no container was made for it."""
    reference = pushed()
    gate = kipgate({"echo": echo(image=reference, pull="missing")})
    wait_until(lambda: present(sdk, reference), 30, "the image is pulled ahead of time")
    assert gate.witness.actions("create") == []
    answer = gate.get("/", timeout=20)
    assert answer.status == 200
    assert gate.admin.metric("kipgate_cold_start_seconds_count", service="echo", phase="pull") == 0


def test_never_is_not_pulled(kipgate, echo, sdk, pushed, way):
    """Where pulling is off, the registry is not even asked."""
    reference = pushed()
    kipgate({"echo": echo(image=reference, pull="never")})
    time.sleep(1.5)
    assert not present(sdk, reference) and way.connections == 0


def test_progress_is_told(kipgate, echo, sdk, pushed, way):
    """GET /v1/events tells of the begin, how far it is, and the end."""
    reference = pushed()
    way.rate = 0
    gate = kipgate({"echo": echo(image=reference, pull="missing")})
    events = gate.admin.follow()
    way.rate = 2 << 20
    wait_until(lambda: present(sdk, reference), 30, "the image is pulled ahead of time")
    wait_until(
        lambda: any(reference in d and "pulled" in d for d in details(events, "image")),
        5,
        "the end is told",
    )
    assert any("MiB" in d for d in details(events, "pull")), events.mailbox.all()
    assert any("pulling" in line and reference in line for line in gate.stderr)
    events.close()


def test_requests_during_a_slow_pull_wait(kipgate, echo, sdk, pushed, way):
    """They share the pull that is under way; start_timeout does not count meanwhile."""
    reference = pushed()
    way.rate = 0
    gate = kipgate({"echo": echo(image=reference, pull="missing", start_timeout="2s")})
    wait_until(lambda: way.connections > 0, 5, "the pull has begun")
    asked = Background(lambda: together([lambda: gate.get("/", timeout=60)] * 10, 60))
    wait_until(lambda: gate.admin.metric("kipgate_waiting", service="echo") == 10, 5, "they wait")
    time.sleep(2.5)
    way.rate = 4 << 20
    assert [a.status for a in asked.result(60)] == [200] * 10
    assert len(gate.witness.actions("create")) == 1


def test_a_request_has_its_own_deadline(kipgate, echo, pushed, way):
    """The pull ahead has been under way for long: a request still waits its whole pull_timeout."""
    reference = pushed()
    way.rate = 0
    gate = kipgate({"echo": echo(image=reference, pull="missing", pull_timeout="4s")})
    time.sleep(3)
    began = time.monotonic()
    problem(gate.get("/", timeout=30), 502, "image-unavailable")
    assert 3.8 < time.monotonic() - began < 6


def test_once_for_several_services(kipgate, echo, sdk, pushed, way):
    """Services that share an image share its pull."""
    reference = pushed()
    services = {
        f"s{n}": echo(image=reference, pull="missing", routes=[f"/{n}"]) for n in range(8)
    }
    gate = kipgate(services)
    wait_until(lambda: present(sdk, reference), 30, "the image is pulled ahead of time")
    time.sleep(0.5)
    begun = [line for line in gate.stderr if '"pulling"' in line]
    assert len(begun) == 1, begun


def test_a_reload_adds_an_image(kipgate, echo, sdk, pushed):
    """A service that comes by SIGHUP or by PUT has its image pulled, too."""
    first, second, third = pushed(), pushed(), pushed()
    gate = kipgate({"a": echo(image=first, pull="missing", routes=["/a"])})
    wait_until(lambda: present(sdk, first), 30, "the first image")
    assert not present(sdk, second)
    gate.config["services"]["b"] = echo(image=second, pull="missing", routes=["/b"])
    gate.write_config()
    assert gate.admin.call("POST", "/v1/reload").status == 200
    wait_until(lambda: present(sdk, second), 30, "the second image")
    body = echo(image=third, pull="missing", routes=["/c"])
    assert gate.admin.call("PUT", "/v1/services/c", body).status in (200, 201)
    wait_until(lambda: present(sdk, third), 30, "the third image")


def test_a_failure_is_told_and_tried_again(
    kipgate, echo, sdk, echo_image, made_registry, way, pulled
):
    """Not in the registry yet: told with the engine's words; there soon after it was pushed."""
    source = registry.unlike_any(sdk, echo_image)
    name = f"{source.partition(':')[0]}:1"
    reference = f"{way.address}/{name}"
    gate = kipgate({"echo": echo(image=reference, pull="missing")})
    wait_until(
        lambda: any('"failed"' in line and reference in line for line in gate.stderr),
        10,
        "the failure is logged",
    )
    made_registry.push(sdk, source, name)
    sdk.api.remove_image(source, force=True)
    pulled.append(reference)
    wait_until(lambda: present(sdk, reference), 20, "the image, once it can be had")


def test_a_drain_does_not_wait_for_a_pull(kipgate, echo, pushed, way):
    """SIGTERM while an image is being pulled."""
    reference = pushed()
    way.rate = 0
    gate = kipgate({"echo": echo(image=reference, pull="missing")})
    wait_until(lambda: way.connections > 0, 5, "the pull has begun")
    began = time.monotonic()
    gate.stop()
    assert time.monotonic() - began < 3
