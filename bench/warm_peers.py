# SPDX-License-Identifier: Apache-2.0
"""Kipgate, nginx and HAProxy as the benches start them. The difficulty: they must do the same work,
so the peers write the fields that Kipgate writes, log nothing, keep connections on both sides, and
are one worker process on the same core."""
import contextlib
import pathlib
import resource
import subprocess
import sys

from common import program
from harness import net, proc, raw
from harness.kipgate import Kipgate
from harness.waiting import wait_until

PROXY_CORE, LOAD_CORE = "0", "1"
TRACE = "b7ad6b7169203331-01"
SOCKET = "/run/kipgate/worker.sock"

NGINX = """
user root;
daemon off; master_process on; worker_processes 1; pid {dir}/nginx.pid;
error_log {dir}/nginx.log warn; worker_rlimit_nofile {files};
events {{ worker_connections {connections}; }}
http {{
  access_log off; server_tokens off; tcp_nodelay on; keepalive_requests 1000000000;
  client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/f;
  uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
  client_max_body_size 0; proxy_request_buffering off; proxy_max_temp_file_size 0;
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
  maxconn {connections}
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

MOST_CONNECTIONS = 4096


class Peer:
    """A proxy that runs: its address and the processes whose time and memory count."""

    def __init__(self, name, port, pids):
        self.name, self.port, self.pids = name, port, pids

    def cpu(self):
        """Seconds used so far by all its processes."""
        return sum(proc.cpu_seconds(pid) for pid in self.pids() if proc.alive(pid))

    def server(self):
        """The one process that serves clients: the last that was started."""
        return self.pids()[-1]

    def sockets(self):
        """How many sockets all its processes have."""
        return sum(len(proc.sockets(pid)) for pid in self.pids())


def pin(pid, core):
    """All threads of a process to one core."""
    subprocess.run(["taskset", "-acp", core, str(pid)], check=True, stdout=subprocess.DEVNULL)


def answers(port, process=None):
    """Whether a request is answered there."""
    if process is not None and process.poll() is not None:
        sys.exit(f"{process.args[3]} ended: {process.stderr.read().decode()}")
    try:
        return raw.get(("127.0.0.1", port), "/", timeout=5).status == 200
    except OSError:
        return False


def spawn_peer(name, text, command, directory, worker, connections):
    """Starts nginx or HAProxy on the proxy core."""
    port = net.free_port()
    path = pathlib.Path(directory) / f"{name}.conf"
    path.write_text(
        text.format(
            dir=directory,
            worker=worker,
            port=port,
            trace=TRACE,
            connections=connections,
            files=resource.getrlimit(resource.RLIMIT_NOFILE)[1],
        )
    )
    process = subprocess.Popen(
        ["taskset", "-c", PROXY_CORE, *command, str(path)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    wait_until(lambda: answers(port, process), 10, f"{name}'s first answer", every=0.05)
    return Peer(name, port, lambda: proc.tree(process.pid)), process


def service(image, **more):
    """A service that nothing disturbs while it is measured."""
    plain = {"image": image, "port": 8080, "pull": "never", "idle_timeout": "1h"}
    return {**plain, "concurrency": 1000, **more}


def on_socket(image):
    """The same, on a Unix socket."""
    plain = service(image, socket=SOCKET, env=[f"SOCKET={SOCKET}"])
    del plain["port"]
    return plain


@contextlib.contextmanager
def kipgate(
    host, worker, others=None, cores=(PROXY_CORE,), worker_core=LOAD_CORE, prepare=lambda gate: None
):
    """One front for each core, control beside the first, the worker awake on the load's core; what
    `prepare` changes comes before the start. Gives the gate, it as a peer, and its worker's
    address."""
    gate = Kipgate(
        {"worker": worker, **(others or {})},
        config={"fronts": len(cores), "log_level": "warn", "sandboxes": "off"},
        binary=program(),
        engine=host,
    )
    try:
        prepare(gate)
        gate.start()
        pin(gate.process.pid, cores[0])
        for pid, core in zip(gate.fronts(), cores):
            pin(pid, core)
        response = gate.admin.wake("worker")
        if response.status != 200:
            sys.exit(f"the worker did not start: {response.body.decode()}")
        (instance,) = gate.admin.instances("worker")
        (container,) = gate.witness.containers("worker")
        for pid in proc.tree(gate.witness.inspect(container["Id"])["State"]["Pid"]):
            pin(pid, worker_core)
        yield gate, Peer("kipgate", gate.front[1], gate.pids), instance["address"]
    finally:
        gate.end()
        gate.discard()


@contextlib.contextmanager
def field(
    bench,
    worker,
    names=("nginx", "haproxy"),
    connections=MOST_CONNECTIONS,
    cores=(PROXY_CORE,),
):
    """Kipgate and its peers before the same worker. Gives them and the worker's address."""
    prefix = {"nginx": "unix:", "haproxy": "unix@"}
    start = {
        "nginx": (NGINX, ["nginx", "-p", bench.directory, "-c"]),
        "haproxy": (HAPROXY, ["haproxy", "-f"]),
    }
    processes = []
    with kipgate(bench.host, worker, cores=cores) as (_, gate, address):
        try:
            peers = [gate]
            for name in names:
                there = address.removeprefix("unix:")
                there = prefix[name] + there if there.startswith("/") else there
                peer, process = spawn_peer(name, *start[name], bench.directory, there, connections)
                peers.append(peer)
                processes.append(process)
            yield peers, address
        finally:
            for process in processes:
                process.terminate()
                process.wait(10)
