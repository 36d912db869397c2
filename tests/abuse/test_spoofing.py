# SPDX-License-Identifier: Apache-2.0
"""Strangers' containers in our clothes: our name pattern, our labels, all labels of a live
instance. They are reported, and never routed to, stopped or removed. The difficulty: that nothing
happens has no event, so each is looked at after a whole life of ours, a kill and a restart."""
import os
import time
import uuid

import docker
import pytest

from harness import echo as worker
from harness import seal, settings
from harness.waiting import wait_until
from harness.witness import OWNER, SERVICE, SPEC, client


@pytest.fixture
def stranger(echo_image):
    """Makes running containers of the echo image: stranger(name, labels, **settings)."""
    sdk = client(settings.docker_host())
    made = []

    def make(name, labels, image=echo_image, **more):
        name = name or f"stranger-{uuid.uuid4().hex[:10]}"
        environment = {"PORT": "8080"}
        settings_ = {"name": name, "labels": labels, "environment": environment, **more}
        made.append(sdk.containers.run(image, detach=True, **settings_))
        return made[-1]

    yield make
    for container in made:
        try:
            container.remove(force=True)
        except docker.errors.NotFound:
            pass


def life(container):
    """What would change if anybody touched it."""
    container.reload()
    state = container.attrs["State"]
    return container.name, state["Status"], state["Pid"], state["StartedAt"]


def whole_life(gate, untouched):
    """Kipgate serves, is killed, serves again, sleeps and stops: the strangers see nothing of
    it."""
    before = {c.id: life(c) for c in untouched}

    def served():
        response = gate.get("/", timeout=60)
        assert response.status == 200, (response.status, response.body)
        host = worker.host(response)
        assert not any(c.id.startswith(host) for c in untouched), "sent to a stranger"

    served()
    gate.kill9()
    gate.start()
    served()
    assert gate.admin.sleep("echo").status == 200
    gate.stop()
    assert {c.id: life(c) for c in untouched} == before


def reported(gate, containers):
    """Each is told of in the log, with the reason."""
    for container in containers:
        line = gate.wait_log(60, event="container-foreign", id=container.id)
        assert line["why"], line


def labels_of(gate, container):
    """All labels of a container."""
    return dict(gate.witness.inspect(container)["Config"]["Labels"])


def test_all_labels_of_a_live_instance_copied(kipgate, echo, stranger):
    """With any name: one of our pattern, the original's with another end, one of its own."""
    gate = kipgate({"echo": echo(idle_timeout="10m")}, config={"sandboxes": "off"})
    assert gate.get("/").status == 200
    live = gate.witness.wait_one(5)
    labels = labels_of(gate, live["Id"])
    assert seal.SEAL in labels and seal.MADE_OF in labels
    name = live["Names"][0].lstrip("/")
    other = name[:-1] + ("0" if name[-1] != "0" else "1")
    copies = [stranger(other, labels), stranger(None, labels)]
    copies.append(stranger(f"kipgate-echo-{uuid.uuid4().hex[:10]}", labels))
    reported(gate, copies)
    whole_life(gate, copies)


def test_the_name_and_all_labels_of_one_that_is_gone(kipgate, echo, stranger, echo_image):
    """Kipgate is down; its instance is removed, and a stranger takes its name and its labels, but
    is made of something else: a file system of the host's, a capability, another image."""
    sdk = client(settings.docker_host())
    sdk.images.get(echo_image).tag("kipgate-abuse-other", "test")
    mount = {"volumes": {"/tmp": {"bind": "/host", "mode": "ro"}}}
    others = [{"image": "kipgate-abuse-other:test"}, mount, {"cap_add": ["NET_ADMIN"]}]
    if os.environ.get("KIPGATE_LONG") != "1":
        others = others[:2]
    gate = kipgate({"echo": echo(idle_timeout="10m")}, config={"sandboxes": "off"})
    for more in others:
        assert gate.get("/", timeout=60).status == 200
        live, begun = gate.witness.wait_one(10), time.monotonic()
        labels, name = labels_of(gate, live["Id"]), live["Names"][0].lstrip("/")
        gate.kill9(fronts=True)
        gate.witness.client.api.remove_container(live["Id"], force=True)
        # the engine repeats to the next control what was in the last second: news of the one that is
        # gone would put off the look at its copy until the next list
        wait_until(lambda: time.monotonic() > begun + 1.5, 10, "old news is old", every=0.05)
        copy = stranger(name, labels, **more)
        before = life(copy)
        gate.start()
        reported(gate, [copy])
        response = gate.get("/", timeout=60)
        assert response.status == 200 and not copy.id.startswith(worker.host(response)), more
        assert gate.admin.sleep("echo").status == 200
        assert life(copy) == before
        copy.remove(force=True)


def test_names_and_labels_without_a_seal(kipgate, echo, stranger):
    """Our name pattern and our labels, owner and current spec included; an old build's container
    is like that, too: it may be anybody's."""
    gate = kipgate({"echo": echo(idle_timeout="10m")}, config={"sandboxes": "off"})
    assert gate.get("/").status == 200
    spec = labels_of(gate, gate.witness.wait_one(5)["Id"])[SPEC]
    bare = {OWNER: gate.owner, SERVICE: "echo", SPEC: spec}
    forged = {**bare, seal.MADE_OF: "0" * 64, seal.SEAL: "0" * 64}
    suffixes = [uuid.uuid4().hex[:10] for _ in range(2)]
    copies = [stranger(f"kipgate-echo-{s}", l) for s, l in zip(suffixes, (bare, forged))]
    box = {OWNER: gate.owner, "io.kipgate.sandbox": "1"}
    copies.append(stranger(f"kipgate-sandbox-{uuid.uuid4().hex[:12]}", box))
    reported(gate, copies[:2])
    whole_life(gate, copies)


def test_a_container_of_ours_is_known_again(kipgate, echo, stranger, echo_image):
    """What the seal is for: made by hand with the right one, it is taken over; by another key it
    is not."""
    gate = kipgate({"echo": echo(idle_timeout="10m")}, config={"sandboxes": "off"})
    assert gate.get("/").status == 200
    live = gate.witness.wait_one(5)
    labels, name = labels_of(gate, live["Id"]), live["Names"][0].lstrip("/")
    made = seal.labels(gate, name, echo_image, "echo", labels[SPEC])
    assert made == {key: labels[key] for key in made}, "the documented seal"
    gate.kill9()
    gate.start()
    assert worker.host(gate.get("/", timeout=30)) == live["Id"][:12]
    gate.kill9(fronts=True)
    key = gate.directory / "state" / "key"
    assert key.stat().st_mode & 0o777 == 0o600
    key.write_text("f" * 64)
    gate.start()
    gate.wait_log(20, event="container-foreign", id=live["Id"])
    assert worker.host(gate.get("/", timeout=30)) != live["Id"][:12]
