# SPDX-License-Identifier: Apache-2.0
"""Pulling for real, from a registry on loopback. The image pulled is one that shares no name with
what the engine has; each test pushes it under a name of its own."""
import base64
import json
import time
import uuid

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


@pytest.fixture(scope="module")
def source(sdk, echo_image):
    """An image that exists nowhere else: the echo worker's with a label that is new every time, so
    that its configuration, at least, has to travel."""
    made = sdk.api.create_container(echo_image)
    try:
        name = f"kipgate-pull-{uuid.uuid4().hex[:8]}"
        sdk.api.commit(made["Id"], name, "test", changes=f"LABEL mark={name}")
    finally:
        sdk.api.remove_container(made["Id"])
    yield f"{name}:test"
    sdk.api.remove_image(f"{name}:test", force=True)


def pushed(sdk, source, made, name, auth=False):
    """Pushes and makes sure that the engine does not have it any more under that name."""
    reference = made.push(sdk, source, name, auth)
    with pytest.raises(docker.errors.ImageNotFound):
        sdk.images.get(reference)
    return reference


@pytest.fixture
def open_registry():
    """Asks for no password."""
    made = registry.Registry()
    yield made
    made.stop()


@pytest.fixture
def closed_registry():
    """Asks for a password."""
    made = registry.Registry(auth=True)
    yield made
    made.stop()


def forget(sdk, reference):
    """Clean-up of what a test pulled."""
    try:
        sdk.api.remove_image(reference, force=True)
    except docker.errors.ImageNotFound:
        pass


def test_first_request_pulls_the_image(kipgate, echo, sdk, source, open_registry):
    """Not present: pulled, once, by twenty simultaneous requests; then served by all."""
    reference = pushed(sdk, source, open_registry, "a/echo:1")
    open_registry.suspend()  # else it might be there before the requests
    gate = kipgate({"echo": echo(image=reference, pull="missing")})
    events = gate.admin.follow()
    asked = Background(lambda: together([lambda: gate.get("/", timeout=60)] * 20, 90))
    wait_until(lambda: gate.admin.metric("kipgate_waiting", service="echo") == 20, 5, "they wait")
    open_registry.resume()
    answers = asked.result(90)
    assert [a.status for a in answers] == [200] * 20
    assert sdk.images.get(reference)
    assert len(gate.witness.actions("create")) == 1
    assert any("pull" in json.dumps(e).lower() for e in events.mailbox.all())
    assert gate.admin.metric("kipgate_cold_start_seconds_count", service="echo", phase="pull") == 1
    events.close()
    forget(sdk, reference)


def test_pull_by_digest(kipgate, echo, sdk, source, open_registry):
    """A reference with a digest."""
    reference = open_registry.push(sdk, source, "b/echo:1")
    digest = sdk.images.pull(reference).attrs["RepoDigests"]
    by_digest = next(d for d in digest if d.startswith(open_registry.address))
    forget(sdk, reference)
    gate = kipgate({"echo": echo(image=by_digest, pull="missing")})
    assert gate.get("/", timeout=60).status == 200
    forget(sdk, by_digest)


def docker_config(gate, address, password=registry.PASSWORD):
    """Writes the credentials where DOCKER_CONFIG says, as `docker login` does."""
    directory = gate.directory / "docker"
    directory.mkdir()
    token = base64.b64encode(f"{registry.USER}:{password}".encode()).decode()
    (directory / "config.json").write_text(json.dumps({"auths": {address: {"auth": token}}}))
    gate.env["DOCKER_CONFIG"] = str(directory)


def test_pull_with_credentials(kipgate, echo, sdk, source, closed_registry):
    """From DOCKER_CONFIG; the password is in no log line."""
    reference = pushed(sdk, source, closed_registry, "c/echo:1", auth=True)
    gate = kipgate({"echo": echo(image=reference, pull="missing")}, start=False)
    docker_config(gate, closed_registry.address)
    gate.start()
    assert gate.get("/", timeout=60).status == 200
    text = "\n".join(gate.stderr)
    token = base64.b64encode(f"{registry.USER}:{registry.PASSWORD}".encode()).decode()
    assert registry.PASSWORD not in text and token not in text
    forget(sdk, reference)


@pytest.mark.parametrize("password", [None, "wrong"])
def test_pull_without_the_right_credentials(kipgate, echo, sdk, source, closed_registry, password):
    """Refused by the registry: image-unavailable, with the engine's words."""
    reference = pushed(sdk, source, closed_registry, "d/echo:1", auth=True)
    gate = kipgate({"echo": echo(image=reference, pull="missing")}, start=False)
    if password:
        docker_config(gate, closed_registry.address, password)
    else:
        gate.env["DOCKER_CONFIG"] = str(gate.directory / "none")
    gate.start()
    body = problem(gate.get("/", timeout=60), 502, "image-unavailable")
    assert "echo" in body["detail"]
    assert any(word in body["detail"].lower() for word in ("auth", "denied", "credential")), body


def test_tag_that_does_not_exist(kipgate, echo, sdk, source, open_registry):
    """image-unavailable, then backing-off: the registry is not asked in a loop."""
    reference = pushed(sdk, source, open_registry, "e/echo:1")
    gate = kipgate({"echo": echo(image=reference.removesuffix(":1") + ":nope", pull="missing")})
    body = problem(gate.get("/", timeout=60), 502, "image-unavailable")
    assert "echo" in body["detail"]
    problem(gate.get("/"), 503, "backing-off")
    assert gate.witness.actions("create") == []


def test_pull_never(kipgate, echo, sdk, source, open_registry):
    """Present in the registry, but pulling is off."""
    reference = pushed(sdk, source, open_registry, "f/echo:1")
    gate = kipgate({"echo": echo(image=reference, pull="never")})
    problem(gate.get("/", timeout=20), 502, "image-unavailable")
    with pytest.raises(docker.errors.ImageNotFound):
        sdk.images.get(reference)


def test_pull_always_takes_the_newer_image(kipgate, echo, sdk, echo_image, source, open_registry):
    """The tag moved in the registry: the next start runs what it points at now."""
    reference = open_registry.push(sdk, echo_image, "g/echo:1")
    sdk.images.pull(reference)
    gate = kipgate({"echo": echo(image=reference, pull="always")})
    assert gate.get("/", timeout=60).status == 200
    first = gate.witness.inspect(gate.witness.wait_one(5)["Id"])["Image"]
    sdk.images.get(source).tag(reference)
    for line in sdk.api.push(reference, stream=True, decode=True):
        assert "error" not in line, line
    sdk.images.get(echo_image).tag(reference)
    assert gate.admin.sleep("echo").status == 200
    assert gate.get("/", timeout=60).status == 200
    assert gate.witness.inspect(gate.witness.wait_one(5)["Id"])["Image"] != first
    forget(sdk, reference)


def test_pull_timeout(kipgate, echo, sdk, source, open_registry):
    """The registry accepts and never answers: refused after pull_timeout; start_timeout is not
    counted meanwhile."""
    reference = pushed(sdk, source, open_registry, "h/echo:1")
    open_registry.suspend()
    gate = kipgate(
        {"echo": echo(image=reference, pull="missing", pull_timeout="2s", start_timeout="1s")}
    )
    began = time.monotonic()
    problem(gate.get("/", timeout=30), 502, "image-unavailable")
    assert 1.8 < time.monotonic() - began < 5


def test_slow_pull_is_not_counted_to_the_start_timeout(kipgate, echo, sdk, source, open_registry):
    """The registry stands still for longer than start_timeout, then goes on: served."""
    reference = pushed(sdk, source, open_registry, "i/echo:1")
    open_registry.suspend()
    gate = kipgate({"echo": echo(image=reference, pull="missing", start_timeout="2s")})
    asked = Background(gate.get, "/", timeout=60)
    wait_until(lambda: gate.admin.metric("kipgate_waiting", service="echo") == 1, 5, "it waits")
    time.sleep(2.5)
    open_registry.resume()
    assert asked.result(60).status == 200
    forget(sdk, reference)
