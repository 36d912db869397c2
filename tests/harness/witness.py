# SPDX-License-Identifier: Apache-2.0
"""An independent witness of what exists on the engine: the Docker SDK, never Kipgate's own
client."""
import threading
import time

import docker

from harness.waiting import Mailbox, TimedOut, wait_until

OWNER = "io.kipgate.owner"
SERVICE = "io.kipgate.service"
SPEC = "io.kipgate.spec"


def client(host, timeout=30):
    """A client of the engine at that address."""
    return docker.DockerClient(base_url=host, version="auto", timeout=timeout)


class Witness:
    """What exists and what happened to containers of one owner."""

    def __init__(self, host, owner):
        self.host = host
        self.owner = owner
        self.client = client(host)
        self.events = Mailbox()
        self._stream = None
        self._follow()

    def _follow(self):
        """Follows the engine's events from now on, on a thread."""
        self._stream = self.client.events(
            decode=True, since=int(time.time()), filters={"label": f"{OWNER}={self.owner}"}
        )
        threading.Thread(target=self._read, args=(self._stream,), daemon=True).start()

    def _read(self, stream):
        try:
            for event in stream:
                event["seen"] = time.monotonic()
                self.events.put(event)
        except Exception:  # the engine went or the stream was closed: no more events
            pass

    def refollow(self):
        """After the engine came back."""
        self.close()
        self.client = client(self.host)
        self._follow()

    def close(self):
        """Ends the stream."""
        try:
            self._stream.close()
        except Exception:
            pass

    def everything(self):
        """All containers of this owner: instances, and what is kept ready for them."""
        return self.client.api.containers(all=True, filters={"label": [f"{OWNER}={self.owner}"]})

    def containers(self, service=None, all=True):
        """Instances of this owner (of one service), as the engine lists them."""
        wanted = f"{SERVICE}={service}" if service else SERVICE
        return self.client.api.containers(
            all=all, filters={"label": [f"{OWNER}={self.owner}", wanted]}
        )

    def states(self, service):
        """States of the service's containers as the engine lists them, sorted."""
        return sorted(c["State"] for c in self.containers(service))

    def ids(self, service):
        """Ids of the service's containers."""
        return {c["Id"] for c in self.containers(service)}

    def is_from(self, response, container):
        """Did that container answer? Its hostname is its sandbox's, where it joined one."""
        host = response.one("X-Echo-Host")
        assert host, response.fields
        try:
            return self.client.api.inspect_container(container)["Config"]["Hostname"] == host
        except docker.errors.NotFound:
            return False

    def made(self, service):
        """How many containers were created for the service so far."""
        return len(self.actions("create", service))

    def wait_states(self, timeout, service, *states):
        """Until the service has containers in exactly these states; gives them."""
        last = []

        def reached():
            last[:] = self.containers(service)
            return sorted(c["State"] for c in last) == sorted(states)

        try:
            wait_until(reached, timeout, f"containers of {service}: {sorted(states)}", every=0.02)
        except TimedOut as error:
            raise TimedOut(f"{error}; they are {[c['State'] for c in last]}") from None
        return last

    def inspect(self, container_id):
        """Everything about a container."""
        return self.client.api.inspect_container(container_id)

    def actions(self, action, service=None, since=0):
        """Events of one kind of instances' containers."""
        return [e for e in self.events.all()[since:] if self._is(e, action, service)]

    @staticmethod
    def _is(event, action, service):
        labels = event.get("Actor", {}).get("Attributes", {})
        return (
            event.get("Type") == "container"
            and event.get("Action") == action
            and SERVICE in labels
            and service in (None, labels[SERVICE])
        )

    def wait(self, action, timeout, service=None, since=0):
        """The first container event of that kind from `since` (a mark of `events`) on."""
        return self.events.wait(
            lambda e: self._is(e, action, service),
            timeout,
            f"engine event {action} of {service or self.owner}",
            since,
        )

    def wait_none(self, timeout, service=None):
        """Until no instance of the owner (or service) exists."""
        wait_until(
            lambda: not self.containers(service),
            timeout,
            f"no container of {service or self.owner} left",
            every=0.02,
        )

    def wait_one(self, timeout, service=None):
        """Until exactly one container runs; gives it."""

        def one():
            found = self.containers(service)
            return found[0] if len(found) == 1 and found[0]["State"] == "running" else None

        return wait_until(one, timeout, f"one running container of {service or self.owner}", 0.02)

    def remove_all(self):
        """Clean-up after a test: containers, and the network that was made for them."""
        for container in self.everything():
            try:
                self.client.api.remove_container(container["Id"], force=True)
            except docker.errors.APIError:
                pass
        for network in self.networks():
            try:
                self.client.api.remove_network(network["Id"])
            except docker.errors.APIError:
                pass

    def networks(self):
        """Networks of this owner."""
        return self.client.api.networks(filters={"label": f"{OWNER}={self.owner}"})
