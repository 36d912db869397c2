# SPDX-License-Identifier: Apache-2.0
"""Images that cannot be had (rows 15 and 16 of the facts): the registry is down, hangs, or the pull
is cut half-way. Registries that answer are in tests/engine/test_pull.py."""
import time

import docker
import pytest

from harness import registry
from harness.faults import LONG, serves, told, unharmed
from harness.kipgate import problem
from harness.waiting import Background, wait_until


@pytest.fixture
def made_registry():
    """Asks for no password."""
    made = registry.Registry()
    yield made
    made.stop()


@pytest.fixture
def way(made_registry):
    """The way from the engine to it."""
    host, port = made_registry.address.split(":")
    made = registry.SlowWay((host, int(port)))
    yield made
    made.stop()


@pytest.fixture
def reference(engine, engine_runs, echo_image, made_registry, way):
    """An image that is in the registry, behind the way, and not on the engine."""
    sdk = engine.client(60)
    source = registry.unlike_any(sdk, echo_image)
    name = f"{source.partition(':')[0]}:1"
    made_registry.push(sdk, source, name)
    sdk.api.remove_image(source, force=True)
    yield f"{way.address}/{name}"
    try:
        sdk.api.remove_image(f"{way.address}/{name}", force=True)
    except docker.errors.ImageNotFound:
        pass


def test_registry_down_and_back(engine, make_gate, echo, reference, way):
    """Row 16: told with the engine's words, at once, and not tried in a loop; served when it is
    back, without anybody's doing."""
    way.left = 0
    gate = make_gate(engine.host, cold=echo(image=reference, pull="missing"))
    with unharmed(gate):
        began = time.monotonic()
        problem(gate.get("/cold", timeout=30), 502, "image-unavailable")
        assert time.monotonic() - began < 5
        tries = way.connections
        problem(gate.get("/cold", timeout=30), 503, "backing-off")
        assert way.connections == tries, "no try during the back-off"
        time.sleep(1)
        assert way.connections - tries < 20
        way.left = None
        told("registry back: service", serves(gate, "/cold"))
    assert gate.witness.made("cold") == 1


@pytest.mark.parametrize("share", [0.1, 0.7] if LONG else [0.7])
def test_pull_cut_half_way(engine, make_gate, echo, reference, way, share):
    """The engine tries again by itself, or says why not in a stream that began with 200: never a
    container of half an image; served when the way is whole again."""
    way.left = int(share * registry.LAYER_BYTES)
    gate = make_gate(engine.host, cold=echo(image=reference, pull="missing", pull_timeout="3s"))
    with unharmed(gate):
        began = time.monotonic()
        problem(gate.get("/cold", timeout=30), 502, "image-unavailable")
        assert time.monotonic() - began < 6
        assert gate.witness.made("cold") == 0
        way.left = None
        told("pull cut half-way: service", serves(gate, "/cold", within=20))
    assert gate.witness.made("cold") == 1


def test_pull_that_stands_still(engine, make_gate, echo, reference, way):
    """Nothing comes: ended by pull_timeout. Another service with another image does not wait."""
    way.rate = 0
    gate = make_gate(
        engine.host,
        cold=echo(image=reference, pull="missing", pull_timeout="2s"),
        other=echo(),
    )
    with unharmed(gate):
        began = time.monotonic()
        asked = Background(gate.get, "/cold", timeout=30)
        assert gate.get("/other", timeout=10).status == 200
        problem(asked.result(30), 502, "image-unavailable")
        assert 1.8 < time.monotonic() - began < 4
        way.rate = 1 << 30
        told("a pull that stood still: service", serves(gate, "/cold", within=20))


def test_engine_killed_in_the_middle_of_a_pull(engine, make_gate, echo, reference, way):
    """The pull is asked for again on return, within the same wait."""
    way.rate = 1 << 20
    gate = make_gate(engine.host, cold=echo(image=reference, pull="missing"))
    with unharmed(gate):
        asked = Background(gate.get, "/cold", timeout=60)
        wait_until(lambda: way.connections > 0, 10, "the pull is under way")
        time.sleep(1)
        engine.kill_dockerd()
        way.rate = 1 << 30
        engine.start_dockerd()
        began = time.monotonic()
        assert asked.result(60).status == 200
        told("killed in a pull: the waiting request", time.monotonic() - began)


def test_image_missing(engine, make_gate, echo):
    """Row 15: nothing to pull from: told at once; it appears, and the service works."""
    name = "kipgate-appears-later:test"
    gate = make_gate(engine.host, cold=echo(image=name, pull="never"))
    sdk = engine.client()
    with unharmed(gate):
        began = time.monotonic()
        problem(gate.get("/cold", timeout=20), 502, "image-unavailable")
        assert time.monotonic() - began < 1
        sdk.images.get(gate.config["services"]["warm"]["image"]).tag(name)
        try:
            told("a missing image appears: service", serves(gate, "/cold"))
            assert gate.admin.sleep("cold").status == 200
        finally:
            sdk.images.remove(name)
