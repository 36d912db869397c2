# SPDX-License-Identifier: Apache-2.0
"""Kipgate, nginx and HAProxy side by side on one core. The difficulty is fairness: one worker
process each on the same core, the same container behind all, the same fields written, rounds
interleaved and their order turned, CPU time taken from the kernel's own count of each proxy's
processes."""
import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

from common import (
    BACKEND_IMAGE,
    build_backend,
    engine,
    median,
    need,
    preamble,
    program,
    table,
    version,
)
from harness import net, proc, raw
from harness.kipgate import Kipgate
from harness.waiting import wait_until

PROXY_CORE, LOAD_CORE = "0", "1"
TRACE = "b7ad6b7169203331-01"

NGINX = """
daemon off; master_process on; worker_processes 1; pid {dir}/nginx.pid;
error_log {dir}/nginx.log warn; worker_rlimit_nofile 8192;
events {{ worker_connections 4096; }}
http {{
  access_log off; server_tokens off; tcp_nodelay on; keepalive_requests 1000000000;
  client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/f;
  uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
  upstream worker {{ server {worker}; keepalive 64; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://worker; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header Host $http_host; proxy_set_header X-Forwarded-For $remote_addr;
      proxy_set_header X-Forwarded-Proto $scheme; proxy_set_header X-Forwarded-Host $http_host;
      proxy_set_header Via "1.1 nginx"; proxy_set_header X-Request-Id $request_id;
      proxy_set_header traceparent "00-$request_id-{trace}"; add_header X-Request-Id $request_id;
    }}
  }}
}}
"""

HAPROXY = """
global
  nbthread 1
  maxconn 4096
defaults
  mode http
  timeout client 60s
  timeout server 300s
  timeout connect 5s
  option http-keep-alive
frontend front
  bind 127.0.0.1:{port}
  unique-id-format %[rand(4294967295),hex]%[rand(4294967295),hex]
  unique-id-header X-Request-Id
  http-request set-header X-Forwarded-For %[src]
  http-request set-header X-Forwarded-Proto http
  http-request set-header X-Forwarded-Host %[req.hdr(host)]
  http-request set-header Via "1.1 haproxy"
  http-request set-header traceparent "00-%[unique-id]-{trace}"
  http-response set-header X-Request-Id %[unique-id]
  default_backend worker
backend worker
  http-reuse always
  server worker {worker}
"""

LUA = """
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('JSON {"requests":%d,"us":%d,"p50":%d,"p99":%d,"bad":%d}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    e.connect + e.read + e.write + e.status + e.timeout))
end
"""


class Peer:
    """A proxy that runs: its address and the processes whose time counts."""

    def __init__(self, name, port, pids):
        self.name, self.port, self.pids = name, port, pids

    def cpu(self):
        """Seconds used so far by all its processes."""
        return sum(proc.cpu_seconds(pid) for pid in self.pids() if proc.alive(pid))


def pin(pid, core):
    """All threads of a process to one core."""
    subprocess.run(["taskset", "-acp", core, str(pid)], check=True, stdout=subprocess.DEVNULL)


def spawn_peer(name, text, command, directory, worker):
    """Starts nginx or HAProxy on the proxy core."""
    port = net.free_port()
    path = pathlib.Path(directory) / f"{name}.conf"
    path.write_text(text.format(dir=directory, worker=worker, port=port, trace=TRACE))
    process = subprocess.Popen(
        ["taskset", "-c", PROXY_CORE, *command, str(path)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    wait_until(lambda: answers(port, process), 10, f"{name}'s first answer", every=0.05)
    return Peer(name, port, lambda: proc.tree(process.pid)), process


def answers(port, process=None):
    """Whether a request is answered there."""
    if process is not None and process.poll() is not None:
        sys.exit(f"{process.args[3]} ended: {process.stderr.read().decode()}")
    try:
        return raw.get(("127.0.0.1", port), "/", timeout=5).status == 200
    except OSError:
        return False


def start_kipgate(host):
    """One front, pinned together with its control, and its worker on the load's core."""
    service = {
        "image": BACKEND_IMAGE,
        "port": 8080,
        "pull": "never",
        "idle_timeout": "1h",
        "concurrency": 1000,
    }
    gate = Kipgate(
        {"backend": service},
        config={"fronts": 1, "log_level": "warn"},
        binary=program(),
        engine=host,
    )
    gate.start()
    for pid in gate.pids():
        pin(pid, PROXY_CORE)
    response = gate.admin.wake("backend")
    if response.status != 200:
        sys.exit(f"the worker did not start: {response.body.decode()}")
    (instance,) = gate.admin.instances("backend")
    (container,) = gate.witness.containers("backend")
    for pid in proc.tree(gate.witness.inspect(container["Id"])["State"]["Pid"]):
        pin(pid, LOAD_CORE)
    return gate, instance["address"]


def load(port, connections, seconds, lua):
    """One run of wrk on the load core."""
    done = subprocess.run(
        [
            "taskset",
            "-c",
            LOAD_CORE,
            "wrk",
            "-t1",
            f"-c{connections}",
            f"-d{seconds}s",
            "-s",
            lua,
            f"http://127.0.0.1:{port}/",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    for line in done.stdout.splitlines():
        if line.startswith("JSON "):
            return json.loads(line[5:])
    sys.exit(f"wrk said nothing usable: {done.stdout}")


def measure(peer, args, lua):
    """One round of one proxy: many connections, then one."""
    before = peer.cpu()
    many = load(peer.port, args.connections, args.seconds, lua)
    cpu = peer.cpu() - before
    one = load(peer.port, 1, max(1, args.seconds // 2), lua)
    if many["bad"] or one["bad"]:
        sys.exit(f"{peer.name} gave {many['bad'] + one['bad']} errors: no figures from that")
    return {
        "rate": many["requests"] / (many["us"] / 1e6),
        "cpu_us": cpu * 1e6 / many["requests"],
        "p50_us": many["p50"],
        "p99_us": many["p99"],
        "one_p50_us": one["p50"],
    }


class Direct:
    """The backend without a proxy: what the load and the backend can do at most."""

    name = "(no proxy)"

    def __init__(self, worker):
        self.worker = worker

    def measure(self, args, lua):
        """As `measure`, without CPU time: there is no proxy."""
        done = subprocess.run(
            [
                "taskset",
                "-c",
                LOAD_CORE,
                "wrk",
                "-t1",
                f"-c{args.connections}",
                f"-d{args.seconds}s",
                "-s",
                lua,
                f"http://{self.worker}/",
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        line = next(line for line in done.stdout.splitlines() if line.startswith("JSON "))
        many = json.loads(line[5:])
        return many["requests"] / (many["us"] / 1e6)


def report(results, direct, args):
    """The table, and ratios against the better peer."""
    keys = ["rate", "cpu_us", "p50_us", "p99_us", "one_p50_us"]
    mid = {
        name: {k: median([r[k] for r in rounds]) for k in keys} for name, rounds in results.items()
    }
    rows = [
        [name] + [f"{m['rate']:.0f}"] + [f"{m[k]:.1f}" for k in keys[1:]] for name, m in mid.items()
    ]
    rows.append(["(no proxy)", f"{direct:.0f}", "", "", "", ""])
    peers = [m for name, m in mid.items() if name != "kipgate"]
    best = {k: (max if k == "rate" else min)(p[k] for p in peers) for k in keys}
    rows.append(["kipgate / better peer"] + [f"{mid['kipgate'][k] / best[k]:.2f}" for k in keys])
    header = ["", "requests/s", "cpu us/request", "p50 us", "p99 us", "1-conn p50 us"]
    print(
        f"medians of {args.rounds} rounds of {args.seconds} s, {args.connections} connections, "
        f"proxy on core {PROXY_CORE}, load and worker on core {LOAD_CORE}\n"
    )
    print(table(header, rows))
    if direct < 1.2 * mid["kipgate"]["rate"]:
        print("note: the load is near its own limit: CPU time per request is the figure to trust")
    return mid


def run(args, host, directory):
    """Starts all, measures in turn, stops all."""
    gate, processes = None, []
    try:
        gate, worker = start_kipgate(host)
        lua = os.path.join(directory, "report.lua")
        pathlib.Path(lua).write_text(LUA)
        nginx, process = spawn_peer(
            "nginx", NGINX, ["nginx", "-p", directory, "-c"], directory, worker
        )
        processes.append(process)
        haproxy, process = spawn_peer("haproxy", HAPROXY, ["haproxy", "-f"], directory, worker)
        processes.append(process)
        peers = [Peer("kipgate", gate.front[1], gate.pids), nginx, haproxy]
        results, direct = {p.name: [] for p in peers}, []
        for round_ in range(args.rounds):
            turned = peers[round_ % len(peers) :] + peers[: round_ % len(peers)]
            for peer in turned:
                results[peer.name].append(measure(peer, args, lua))
            direct.append(Direct(worker).measure(args, lua))
        return report(results, median(direct), args), results
    finally:
        for process in processes:
            process.terminate()
            process.wait(10)
        if gate:
            gate.end()
            gate.discard()


def main():
    """Options, versions, figures."""
    parser = argparse.ArgumentParser(prog="bench/warm.sh", description=__doc__.partition(". ")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5, help="of one measurement")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--json", help="also write all rounds to this file")
    parser.add_argument("--smoke", action="store_true", help="one short round: does it run at all")
    args = parser.parse_args()
    if args.smoke:
        args.rounds, args.seconds = 1, 1
    need("nginx", "haproxy", "wrk", "taskset")
    if os.cpu_count() < 2:
        sys.exit("two cores are needed: one for the proxy, one for the load")
    preamble(
        version(program(), "version"),
        version("nginx", "-v"),
        version("haproxy", "-v"),
        version("wrk", "-v"),
    )
    began, directory = time.time(), tempfile.mkdtemp(prefix="kgw")
    os.chmod(directory, 0o755)
    try:
        with engine() as host:
            build_backend(host)
            mid, rounds = run(args, host, directory)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps({"medians": mid, "rounds": rounds}, indent=2))
    print(f"\ntook {time.time() - began:.0f} s")


if __name__ == "__main__":
    main()
