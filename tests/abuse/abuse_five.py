# SPDX-License-Identifier: Apache-2.0
"""Five servers of Debian's as workers. The difficulty: what they saw must come from themselves, so
a witness behind each of them says what it was asked."""
import json

from harness import settings
from harness.waiting import together, wait_until

SERVERS = ("nginx", "apache", "haproxy", "lighttpd", "node")


def path_of(server):
    """The path of a server's service: of one length for all, which the payloads count on."""
    return "/" + server.ljust(8, "-")


def image():
    """The image of the five servers, present on the private engine."""
    return settings.need("KIPGATE_ABUSE_WORKER", "name of the abuse tests' workers' image")


def service(server, **more):
    """The configuration of one of the five."""
    return {
        "image": image(),
        "command": [server],
        "port": 8080,
        "pull": "never",
        "routes": [path_of(server)],
        "idle_timeout": "30m",
        "start_timeout": "120s",
        **more,
    }


class Five:
    """Kipgate with the five servers, all awake."""

    def __init__(self, gate):
        self.gate = gate
        self.access = gate.directory / "access.log"
        self.ids = {}

    def wake(self):
        """Starts them all and sees each answer."""
        together([lambda s=s: self.gate.admin.wake(s, 120) for s in SERVERS], 180)
        for server in SERVERS:
            assert self.gate.get(path_of(server) + "/first", timeout=60).status == 200, server
            self.ids[server] = self.gate.witness.containers(server)[0]["Id"]
        return self

    def seen(self, server):
        """What the witness behind a server was asked, in order."""
        container = self.gate.witness.client.containers.get(self.ids[server])
        lines = container.logs(stdout=True, stderr=False).decode().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def seen_with(self, server, last):
        """The same, once it has told of a certain path: logs arrive a moment later."""

        def told():
            lines = self.seen(server)
            return lines if any(line.get("url") == last for line in lines) else None

        return wait_until(told, 30, f"{server}'s log of {last}", every=0.1)

    def passed(self):
        """Lines of the front's access log."""
        return [json.loads(line) for line in self.access.read_text().splitlines()]
