# SPDX-License-Identifier: Apache-2.0
"""HTTP/2 by Kipgate and by nginx, side by side on one core: CPU time of a request, requests a second.
The difficulty: the worker speaks HTTP/1.1 to both, so what is compared is the clients' side; rounds
alternate, for the machine drifts."""
import argparse
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

from common import BACKEND_IMAGE, Mark, build_backend, engine, marks_table, median, need
from common import preamble, program, table, version
from harness import net
from warm_peers import LOAD_CORE, NGINX, PROXY_CORE, kipgate, service, spawn_peer

SHAPES = {"8 connections of 32 streams": (8, 32), "64 connections of 1 stream": (64, 1)}
CONNECTIONS = 4096


def options():
    """The command line."""
    parser = argparse.ArgumentParser(prog="bench/http2.sh", description=__doc__.partition(". ")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5, help="of one measurement")
    parser.add_argument("--json", help="also write all rounds to this file")
    parser.add_argument("--smoke", action="store_true", help="one short round: does it run at all")
    args = parser.parse_args()
    if args.smoke:
        args.rounds, args.seconds = 1, 1
    return args


def load(peer, port, shape, seconds):
    """One measurement: requests a second, CPU time of each in microseconds."""
    clients, streams = SHAPES[shape]
    command = ["taskset", "-c", LOAD_CORE, "h2load", "-D", str(seconds), "-c", str(clients)]
    before = peer.cpu()
    said = subprocess.run(
        [*command, "-m", str(streams), f"http://127.0.0.1:{port}/"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    used = peer.cpu() - before
    done, failed = re.search(r"(\d+) succeeded, (\d+) failed", said).groups()
    carried = int(re.search(r"\((\d+)\) data", said)[1])
    if int(failed) or not int(done) or carried < int(done):
        sys.exit(f"{peer.name}: {done} requests succeeded and {failed} failed\n{said}")
    return {"rate": int(done) / seconds, "cpu_us": used * 1e6 / int(done)}


def measure(args, peers):
    """All rounds of all shapes: {shape: {name: [figures]}}."""
    found = {shape: {peer.name: [] for peer, _ in peers} for shape in SHAPES}
    for shape, by_name in found.items():
        for round_ in range(-1, args.rounds):
            order = peers if round_ % 2 else peers[::-1]
            for peer, port in order:
                figures = load(peer, port, shape, args.seconds if round_ >= 0 else 1)
                if round_ >= 0:  # the round before the first only warms up
                    by_name[peer.name].append(figures)
    return found


def report(found):
    """A table of medians, and the marks."""
    rows, marks = [], []
    for shape, by_name in found.items():
        middle = {
            name: {key: median([r[key] for r in rounds]) for key in ("cpu_us", "rate")}
            for name, rounds in by_name.items()
        }
        for name, m in middle.items():
            rows.append([f"{name}, {shape}", f"{m['cpu_us']:.1f}", f"{m['rate']:.0f}"])
        ours, theirs = middle["kipgate"], middle["nginx"]
        marks += [
            Mark(f"CPU by nginx's, {shape}", ours["cpu_us"] / theirs["cpu_us"], 1.0),
            Mark(f"rate by nginx's, {shape}", ours["rate"] / theirs["rate"], 1.0, at_least=True),
        ]
    print(table(["", "CPU us", "requests/s"], rows) + "\n")
    print(marks_table(marks))
    return marks


def speak_both(gate):
    """Prior knowledge on the plain listener."""
    gate.config["protocols"] = ["http/1.1", "h2c"]


def main():
    """Versions, figures, marks."""
    args = options()
    need("nginx", "h2load", "taskset")
    if os.cpu_count() < 2:
        sys.exit("two cores are needed: one for the proxy, one for the load")
    preamble(version(program(), "version"), version("nginx", "-v"), version("h2load", "--version"))
    print(
        f"medians of {args.rounds} rounds of {args.seconds} s, proxy on core {PROXY_CORE}, load and "
        f"worker on core {LOAD_CORE}\n"
    )
    directory, port = tempfile.mkdtemp(prefix="kgh"), net.free_port()
    os.chmod(directory, 0o755)
    listen = "listen 127.0.0.1:{port};"
    text = NGINX.replace(listen, f"{listen} listen 127.0.0.1:{port} http2;")
    text = text.replace("keepalive 64", "keepalive 1024")  # one for each stream, as Kipgate has
    process = None
    try:
        with engine() as host:
            build_backend(host)
            with kipgate(host, service(BACKEND_IMAGE), prepare=speak_both) as (_, gate, address):
                command = ["nginx", "-p", directory, "-c"]
                nginx, process = spawn_peer("nginx", text, command, directory, address, CONNECTIONS)
                found = measure(args, [(gate, gate.port), (nginx, port)])
                marks = report(found)
    finally:
        if process:
            process.terminate()
            process.wait(10)
        shutil.rmtree(directory, ignore_errors=True)
    if args.json:
        figures = {"rounds": found, "marks": [mark.row() for mark in marks]}
        pathlib.Path(args.json).write_text(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
