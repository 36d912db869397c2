# SPDX-License-Identifier: Apache-2.0
"""Kipgate's cold request beside the engine's own create and start. The difficulty: the engine's
times drift with what the machine does, so both are measured in turn, with the same container
settings, and the floor is asked over a kept connection with nothing in between."""
import argparse
import http.client
import json
import pathlib
import re
import socket
import sys
import time
import uuid

from common import (
    BACKEND_IMAGE,
    build_backend,
    engine,
    median,
    percentile,
    preamble,
    program,
    table,
    version,
)
from harness.kipgate import Kipgate
from harness.raw import get


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
        self.request(
            method, "/v1.41" + path, data, {"Content-Type": "application/json"} if data else {}
        )
        response = self.getresponse()
        text = response.read()
        if response.status >= 400:
            sys.exit(f"{method} {path}: {response.status} {text!r}")
        return json.loads(text) if text.strip() else None


def same_settings(inspected):
    """A create request for a container like the one that Kipgate made."""
    config, host = inspected["Config"], inspected["HostConfig"]
    networks = {name: {} for name in inspected["NetworkSettings"]["Networks"]}
    return {
        "Image": config["Image"],
        "Env": config["Env"],
        "HostConfig": host,
        "NetworkingConfig": {"EndpointsConfig": networks},
    }


def address_of(connection, container, network):
    """Where the started container listens."""
    shown = connection.call("GET", f"/containers/{container}/json")
    return shown["NetworkSettings"]["Networks"][network]["IPAddress"], 8080


def floor(connection, settings):
    """The engine alone: create, start, and the first answer of the worker."""
    network = next(iter(settings["NetworkingConfig"]["EndpointsConfig"]))
    name = f"kgbench-{uuid.uuid4().hex[:8]}"
    began = time.perf_counter()
    container = connection.call("POST", f"/containers/create?name={name}", settings)["Id"]
    created = time.perf_counter()
    connection.call("POST", f"/containers/{container}/start")
    started = time.perf_counter()
    where = address_of(connection, container, network)
    while True:
        try:
            get(where, "/", timeout=5)
            break
        except ConnectionError:
            time.sleep(0.0005)
    answered = time.perf_counter()
    connection.call("DELETE", f"/containers/{container}?force=1")
    return {
        "engine create": created - began,
        "engine start": started - created,
        "engine create + start": started - began,
        "the same + first answer": answered - began,
    }


def ours(gate):
    """A cold request: by the client's clock, and by Kipgate's own word."""
    if gate.admin.sleep("backend").status != 200:
        sys.exit("the service could not be put to sleep")
    gate.witness.wait_none(10)
    began = time.perf_counter()
    response = gate.get("/", timeout=60)
    took = time.perf_counter() - began
    timing = re.search(r'desc="cold";dur=([0-9.]+)', response.one("Server-Timing") or "")
    if response.status != 200 or not timing:
        sys.exit(f"no cold answer: {response.status} {response.fields} {response.body[:200]}")
    return {
        "kipgate cold, at the client": took,
        "kipgate cold, Server-Timing": float(timing[1]) / 1000,
    }


ROWS = [
    "engine create",
    "engine start",
    "engine create + start",
    "the same + first answer",
    "kipgate cold, Server-Timing",
    "kipgate cold, at the client",
]


def report(samples, args):
    """Medians and the 95th percentile, and what Kipgate adds."""
    rows = [
        [row, f"{median(samples[row]) * 1000:.1f}", f"{percentile(samples[row], 0.95) * 1000:.1f}"]
        for row in ROWS
    ]
    base = median(samples["engine create + start"])
    added = median(samples["kipgate cold, at the client"]) - base
    rows.append(["kipgate adds to create + start", f"{added * 1000:.1f}", ""])
    rows.append(["kipgate / (create + start)", f"{(base + added) / base:.3f}", ""])
    print(f"{args.rounds} rounds, in turn, milliseconds\n")
    print(table(["", "median", "p95"], rows))


def run(args, host):
    """Kipgate and the engine in turn."""
    service = {"image": BACKEND_IMAGE, "port": 8080, "pull": "never", "idle_timeout": "1h"}
    gate = Kipgate(
        {"backend": service},
        config={"fronts": 1, "log_level": "warn"},
        binary=program(),
        engine=host,
    ).start()
    try:
        ours(gate)  # the first one also makes the network: not counted
        (container,) = gate.witness.containers()
        settings = same_settings(gate.witness.inspect(container["Id"]))
        connection = EngineConnection(host)
        floor(connection, settings)
        samples = {row: [] for row in ROWS}
        for round_ in range(args.rounds):
            pair = [lambda: floor(connection, settings), lambda: ours(gate)]
            for measure in pair if round_ % 2 else reversed(pair):
                for row, seconds in measure().items():
                    samples[row].append(seconds)
        return samples
    finally:
        gate.end()
        gate.discard()


def main():
    """Options, versions, figures."""
    parser = argparse.ArgumentParser(prog="bench/cold.sh", description=__doc__.partition(". ")[0])
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--json", help="also write all samples (seconds) to this file")
    parser.add_argument("--smoke", action="store_true", help="three rounds: does it run at all")
    args = parser.parse_args()
    if args.smoke:
        args.rounds = 3
    preamble(
        version(program(), "version"), version("dockerd", "--version"), version("runc", "--version")
    )
    with engine() as host:
        build_backend(host)
        samples = run(args, host)
    report(samples, args)
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(samples, indent=2))


if __name__ == "__main__":
    main()
