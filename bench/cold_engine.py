# SPDX-License-Identifier: Apache-2.0
"""The engine's own share of a cold start. The difficulty: it must be asked exactly as Kipgate asks
(the same settings, a kept connection, nothing in between), or the floor is none."""
import http.client
import json
import socket
import sys
import time
import uuid

import common  # noqa: F401  (puts the harness within reach)
from harness.raw import RawClient

PORT = 8080


class EngineConnection(http.client.HTTPConnection):
    """HTTP over the engine's Unix socket, or TCP."""

    def __init__(self, host):
        super().__init__("engine", timeout=60)
        self.where = host

    def connect(self):
        if self.where.startswith("unix://"):
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.connect(self.where[len("unix://") :])
        else:
            address, _, port = self.where[len("tcp://") :].rpartition(":")
            self.sock = socket.create_connection((address, int(port)))

    def call(self, method, path, body=None):
        """One call; gives the parsed answer."""
        data = json.dumps(body) if body is not None else None
        self.request(method, path, data, {"Content-Type": "application/json"} if data else {})
        response = self.getresponse()
        text = response.read()
        if response.status >= 400:
            sys.exit(f"{method} {path}: {response.status} {text!r}")
        return json.loads(text) if text.strip() else None


def settings_of(inspected, network=None):
    """A create request for a container like the one that Kipgate made; `network` puts it elsewhere:
    the name of a network, or container:ID."""
    config, host = inspected["Config"], dict(inspected["HostConfig"])
    wanted = {"Image": config["Image"], "Env": config["Env"], "HostConfig": host}
    if network is None:
        names = {name: {} for name in inspected["NetworkSettings"]["Networks"]}
        wanted["NetworkingConfig"] = {"EndpointsConfig": names}
    else:
        host["NetworkMode"] = network
    return wanted


def address_of(connection, container):
    """Where the started container listens."""
    networks = connection.call("GET", f"/containers/{container}/json")["NetworkSettings"][
        "Networks"
    ]
    return next(iter(networks.values()))["IPAddress"], PORT


def first_byte(address, target="/", host="kipgate.test", timeout=60):
    """Seconds from the request's last byte to the response's first, and the response. The
    connection is there before: what is measured is the answer."""
    with RawClient(address, timeout) as client:
        data = f"GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
        began = time.perf_counter()
        client.send(data)
        client.fill(time.monotonic() + timeout)
        took = time.perf_counter() - began
        return took, client.response()


def listening(address):
    """Until the worker accepts; whether it did at the first try. Unreachable it may be for a moment,
    for the kernel still knows that the address's last holder is gone."""
    first, until = True, time.monotonic() + 20
    while True:
        try:
            socket.create_connection(address, 5).close()
            return first
        except OSError:
            if time.monotonic() > until:
                raise
            first = False


class Floor:
    """Create, start and the first answer of the worker, without Kipgate."""

    def __init__(self, host, label, settings, shared=None):
        """`shared` is the address of the namespace that the container joins, if it does."""
        self.connection = EngineConnection(host)
        self.label, self.settings, self.shared = label, settings, shared
        self.rows = [f"engine: create + start, {label}", "  the same, to the first answer"]
        self.parts = {"create": [], "start": [], "listen": []}

    def measure(self):
        """One container's life; gives a figure for each row."""
        name = f"kgbench-{uuid.uuid4().hex[:8]}"
        began = time.perf_counter()
        container = self.connection.call("POST", f"/containers/create?name={name}", self.settings)[
            "Id"
        ]
        created = time.perf_counter()
        self.connection.call("POST", f"/containers/{container}/start")
        started = time.perf_counter()
        where = self.shared or address_of(self.connection, container)
        at_once = listening(where)
        heard = time.perf_counter()
        status = first_byte(where)[1].status
        answered = time.perf_counter()
        self.connection.call("DELETE", f"/containers/{container}?force=1")
        if status != 200:
            sys.exit(f"the worker answered {status}")
        self.parts["create"].append(created - began)
        self.parts["start"].append(started - created)
        self.parts["listen"].append(0 if at_once else heard - started)
        return [started - began, answered - began]

    def close(self):
        """Nothing is left."""
        self.connection.close()


class Joined(Floor):
    """Containers that join the namespace of one that does nothing."""

    def __init__(self, host, settings):
        self.parked = None
        idle = dict(settings, Env=[*settings["Env"], "NEVER_LISTEN=1"])
        connection = EngineConnection(host)
        self.parked = connection.call("POST", "/containers/create", idle)["Id"]
        connection.call("POST", f"/containers/{self.parked}/start")
        where = address_of(connection, self.parked)
        inside = {key: value for key, value in settings.items() if key != "NetworkingConfig"}
        inside["HostConfig"] = dict(settings["HostConfig"], NetworkMode=f"container:{self.parked}")
        super().__init__(host, "in a namespace that is there", inside, where)

    def close(self):
        """The parked one goes too."""
        self.connection.call("DELETE", f"/containers/{self.parked}?force=1")
        super().close()


class Unpause:
    """The engine's own pause and unpause of one container."""

    rows = ["engine: unpause", "  the same, to the first answer"]

    def __init__(self, host, settings):
        self.connection = EngineConnection(host)
        self.container = self.connection.call("POST", "/containers/create", settings)["Id"]
        self.connection.call("POST", f"/containers/{self.container}/start")
        self.where = address_of(self.connection, self.container)
        listening(self.where)

    def measure(self):
        """Pauses, then measures the way back."""
        self.connection.call("POST", f"/containers/{self.container}/pause")
        began = time.perf_counter()
        self.connection.call("POST", f"/containers/{self.container}/unpause")
        running = time.perf_counter()
        first_byte(self.where)
        return [running - began, time.perf_counter() - began]

    def close(self):
        """Removes it."""
        self.connection.call("DELETE", f"/containers/{self.container}?force=1")
        self.connection.close()
