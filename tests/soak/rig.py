# SPDX-License-Identifier: Apache-2.0
"""What the prober, the reuse of addresses and the soak share: the compiled client, who kills
workers and remembers when, and the judge who says whether what broke had to break.
The difficulty: a kill is not an instant. Its window opens before the order is given and closes when
the container's first process, and with it its sockets, has ended and the engine says so: before
that nobody can know. The clock is the client's own (monotonic): windows and requests compare."""
import collections
import hashlib
import ipaddress
import os
import pathlib
import random
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

import docker  # noqa: E402

from harness import settings  # noqa: E402  (needs the path above)
from harness.waiting import wait_until  # noqa: E402
from harness.witness import OWNER  # noqa: E402

# A front may have a request on its way to a worker whose end it has not read yet.
NOTICE_S = 0.25
ALL = "*"
CLASSES = ("right", "failed", "cut", "dropped", "refused", "wrong")

Line = collections.namedtuple("Line", "kind service nonce begin end method host status why")
Kill = collections.namedtuple("Kill", "service begin end how host")


def make_network(gate, subnets, **labels):
    """The network that this Kipgate would make for itself, with the first of these ranges that is
    free on the machine."""
    client, last = docker.DockerClient(base_url=gate.host, version="auto"), "all are taken"
    name = "kipgate-" + hashlib.sha256(gate.owner.encode()).hexdigest()[:8]
    taken = subprocess.run(["ip", "-4", "-o", "address"], capture_output=True, text=True, check=True)
    for subnet in subnets:
        gateway = str(next(ipaddress.ip_network(subnet).hosts()))
        if f" {gateway}/" in taken.stdout:  # of another engine's, which this one does not see
            continue
        pool = docker.types.IPAMPool(subnet=subnet, gateway=gateway)
        try:
            client.networks.create(
                name,
                driver="bridge",
                ipam=docker.types.IPAMConfig(pool_configs=[pool]),
                labels={OWNER: gate.owner, **labels},
                options={"com.docker.network.bridge.enable_icc": "false"},
            )
            return
        except docker.errors.APIError as error:  # another network has these addresses
            last = error
    raise AssertionError(f"no network could be made: {last}")


def main(parser, run):
    """What the three have in common: a seed that is told, what is wrong, the exit status. Ended by
    SIGTERM they clean up, as by Ctrl-C."""
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    words = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    print(f"seed {words.seed}", flush=True)
    wrong = run(words)
    for text in wrong[:50]:
        print(f"WRONG: {text}")
    print(f"{len(wrong)} things are wrong" if wrong else "all is well")
    sys.exit(1 if wrong else 0)


def now_us():
    """The client's clock."""
    return time.monotonic_ns() // 1000


def service(name, env=(), **more):
    """The configuration of an echo service that knows its own name."""
    return {
        "image": settings.echo_image(),
        "port": 8080,
        "pull": "never",
        "routes": [f"/{name}"],
        "env": [f"SERVICE={name}", *env],
        **more,
    }


# --- the client ---------------------------------------------------------------------------------


def compile_prober(directory):
    """The client's program."""
    program = pathlib.Path(directory) / "prober"
    source = str(pathlib.Path(__file__).parent / "prober.c")
    words = ["cc", "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-o", str(program), source]
    subprocess.run(words, check=True)
    return program


def numbers(words):
    """key=value words as numbers."""
    return {key: int(value) for key, value in (word.split("=") for word in words)}


class Prober:
    """A run of the client. `odd` is every request that did not end right, `totals` and `services`
    are the counts at its end."""

    def __init__(self, port, seed, requests, seconds, loads, say=None):
        self.directory = tempfile.TemporaryDirectory(prefix="kgp")
        self.program = compile_prober(self.directory.name)
        self.odd, self.services, self.totals, self.progress = [], {}, None, {}
        self.say, self.last_said = say, time.monotonic()
        words = [str(self.program), str(port), str(seed), str(requests), str(seconds), *loads]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self):
        for line in self.process.stdout:
            words = line.split()
            if words[0] == "progress":
                self._progress(numbers(words[1:]))
            elif words[0] == "done":
                self.totals = numbers(words[1:])
            elif words[0] == "service":
                self.services[words[1]] = numbers(words[2:])
            else:
                times, status = map(int, words[2:5]), int(words[7])
                self.odd.append(Line(*words[:2], *times, *words[5:7], status, " ".join(words[8:])))

    def _progress(self, counts):
        self.progress = counts
        if self.say and time.monotonic() - self.last_said > 15:
            self.last_said = time.monotonic()
            self.say(counts)

    def running(self):
        """Whether it still asks."""
        return self.process.poll() is None

    def end(self, timeout=300):
        """No new requests; until those under way have ended."""
        if self.running():
            self.process.terminate()
        return self.wait(timeout)

    def wait(self, timeout):
        """Until it has asked all that it was to ask."""
        try:
            status = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"the client did not end within {timeout} s") from None
        self.thread.join(30)
        self.directory.cleanup()
        assert status == 0 and self.totals, f"the client failed: status {status}"
        return self.totals


# --- who kills ------------------------------------------------------------------------------------


def await_end(pidfd, timeout):
    """Until a process has ended: its descriptors, thus its sockets, are closed by then."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(timeout * 1000))


def first_child(pid):
    """The worker below a container's init, or the process itself."""
    try:
        words = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        words = []
    return int(words[0]) if words else pid


class Killer:
    """Kills ready workers of a Kipgate at random and remembers the windows."""

    WAYS = ("worker", "container", "docker-kill", "docker-remove")

    def __init__(self, gate, seed):
        self.gate, self.random = gate, random.Random(seed)
        self.client = docker.DockerClient(base_url=gate.host, version="auto", timeout=60)
        self.kills, self.lock = [], threading.Lock()
        self.ended, self.killed = collections.Counter(), collections.defaultdict(set)
        self.mark = 0

    def ready(self, service):
        """Ids of a service's ready instances, by Kipgate's own word."""
        found = self.gate.admin.instances(service)
        return [i["id"] for i in found if i["state"] == "ready" and i["id"]]

    def kill_any(self, services):
        """Kills a ready worker of one of them."""
        names = [name for name in services if self.may_kill(name) and self.ready(name)]
        if names:
            self.kill_one(self.random.choice(names))

    def may_kill(self, service):
        """Three that end in a row soon after they were ready make a service rest, as they should:
        after two a worker is left alone until it was reaped. It is counted as Kipgate counts, by
        what its log says happened, and what it has still to say."""
        lines = self.gate.logs.all()[self.mark :]
        self.mark += len(lines)
        for line in lines:
            if line.get("event") != "instance-state" or line["to"] not in ("removing", "stopping"):
                continue
            self.killed[line["service"]].discard(line["instance"])
            if line["from"] == "ready":
                self.ended[line["service"]] += 1
            if line["to"] == "stopping":
                self.ended[line["service"]] = 0
        return self.ended[service] + len(self.killed[service]) < 2

    def forget(self):
        """Another control counts anew; what was ordered under the last one it may never tell."""
        self.killed.clear()

    def kill_one(self, service, ways=WAYS):
        """Kills a ready worker of the service; None when there is none (any more)."""
        ids = self.ready(service)
        if not ids:
            return None
        target = self.random.choice(ids)
        try:
            seen = self.client.api.inspect_container(target)
        except docker.errors.NotFound:
            return None
        pid = seen["State"]["Pid"]
        try:
            pidfd = os.pidfd_open(pid) if pid else -1
        except ProcessLookupError:
            pidfd = -1
        if pidfd < 0:
            return None
        try:
            return self._kill(service, target, pid, pidfd, seen, self.random.choice(ways))
        finally:
            os.close(pidfd)

    def _kill(self, service, target, pid, pidfd, seen, how):
        self.killed[service].add(seen["Name"].lstrip("/"))
        begin = now_us()
        try:
            if how == "worker":
                os.kill(first_child(pid), signal.SIGKILL)
            elif how == "container":
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            elif how == "docker-kill":
                self.client.api.kill(target)
            else:
                self.client.api.remove_container(target, force=True)
        except (ProcessLookupError, docker.errors.APIError):
            pass  # it went by itself meanwhile
        assert await_end(pidfd, 20), f"a killed container lives on: {target} ({how})"
        wait_until(lambda: not self._runs(target), 60, f"the engine's word that {target} has ended")
        kill = Kill(service, begin, now_us(), how, seen["Config"]["Hostname"])
        with self.lock:
            self.kills.append(kill)
        return kill

    def _runs(self, target):
        try:
            return self.client.api.inspect_container(target)["State"]["Running"]
        except docker.errors.NotFound:
            return False


# --- the judge ------------------------------------------------------------------------------------


def explained(line, windows):
    """Whether the request was open within one of its service's windows, or of one that is of all
    (the end of a front): those that name a worker explain nothing of another worker's answers."""
    for window in windows:
        late = NOTICE_S * 1e6
        if line.method == "GET" and window.service != ALL:
            late = 0  # it is sent again, to the next worker
        if (
            window.service in (line.service, ALL)
            and line.begin <= window.end + late
            and line.end >= window.begin
            and (line.host in ("-", window.host) or not window.host)
        ):
            return True
    return False


def table(title, rows):
    """A table of two columns."""
    width = max(len(str(name)) for name, _ in rows)
    print(f"\n{title}")
    for name, value in rows:
        print(f"  {name:<{width}}  {value}")
    sys.stdout.flush()


Miscount = collections.namedtuple("Miscount", "service status client fronts")


def miscounts(services, gate):
    """Where the fronts' own counters are not what the clients saw."""
    found, metrics = [], gate.admin.metrics()
    for name, counts in services.items():
        for code in {k for k in counts if k.isdigit()} | codes_of(metrics, name):
            labels = (("code", code), ("service", name))
            theirs = int(metrics.get(("kipgate_requests_total", labels), 0))
            if counts.get(code, 0) != theirs:
                found.append(Miscount(name, code, counts.get(code, 0), theirs))
    return found


def codes_of(metrics, service):
    """Status codes that the fronts counted for a service."""
    return {
        dict(labels)["code"]
        for name, labels in metrics
        if name == "kipgate_requests_total" and dict(labels)["service"] == service
    }


def total(metrics, name, **labels):
    """The sum of a metric over all that has these labels."""
    return int(
        sum(
            value
            for (key, have), value in metrics.items()
            if key == name and labels.items() <= dict(have).items()
        )
    )
