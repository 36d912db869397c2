# SPDX-License-Identifier: Apache-2.0
"""What kills a Kipgate at one point of a path and judges what its next run makes of what was left.
strace 6.1 takes part in it as follows. `-e inject=CALL:signal=KILL:when=N` sends the signal when
the process enters its N-th CALL (counted for each kind of call, and for each process, from the
moment strace is attached); the kernel sees the signal before it does anything of the call, so the
call does not happen. There is no way to kill on the way out, and none is needed: what a single
thread does between two system calls nobody else can see, so to be killed after one call is to be
killed before the next. Killing before every call of a recorded sequence is therefore every point
there is, and (CALL, N) finds it again when the calls of other kinds around it vary a little.
The difficulty: the last word on what exists must not be Kipgate's. The Docker SDK says it, and a
container is an orphan if the engine has it and Kipgate does not name it."""
import collections
import os
import pathlib
import re
import signal
import subprocess
import tempfile
import time
from typing import NamedTuple

import docker

from harness import proc, raw, settings
from harness.echo import Dump
from harness.kipgate import Kipgate
from harness.waiting import Background, wait_until
from harness.witness import OWNER, SERVICE, SPEC

RECOVERY = 5.0  # seconds from the start after a kill until all is as it should be
SANDBOX = "io.kipgate.sandbox"
CALL = re.compile(r"^(\w+)\(")


class Point(NamedTuple):
    """Before the `number`-th call of that name."""

    call: str
    number: int

    def __str__(self):
        return f"{self.call}#{self.number}"


# --- strace ---------------------------------------------------------------------------------------


class Tracer:
    """strace on one process that runs already; with a point, it kills there."""

    def __init__(self, pid, directory, point=None):
        self.pid = pid
        handle, self.path = tempfile.mkstemp(prefix="calls", dir=directory)
        os.close(handle)
        self.strace = subprocess.Popen(
            [*strace_words(self.path, point), "-p", str(pid)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        line = self.strace.stderr.readline()
        assert b"attached" in line, line
        time.sleep(0.01)  # it is stopped once, and goes on

    def detach(self):
        """Lets go of the process, if it still lives."""
        if self.strace.poll() is None:
            self.strace.send_signal(signal.SIGTERM)
        self.strace.wait(10)
        self.strace.stderr.close()

    def calls(self):
        """Names of the calls in their order."""
        return calls_in(self.path)


def strace_words(path, point):
    """The beginning of a command line."""
    if point is None:
        return ["strace", "-o", path, "-e", "trace=all"]
    inject = f"inject={point.call}:signal=KILL:when={point.number}"
    return ["strace", "-o", path, "-e", f"trace={point.call}", "-e", inject]


def calls_in(path):
    """Names of the recorded calls in their order."""
    lines = pathlib.Path(path).read_text(errors="replace").splitlines()
    return [match[1] for match in map(CALL.match, lines) if match]


def points_of(recordings):
    """Every call of the longest recording in order, then what only others had."""
    points = {}
    for calls in sorted(recordings, key=len, reverse=True):
        seen = collections.Counter()
        for name in calls:
            seen[name] += 1
            points[Point(name, seen[name])] = True
    return list(points)


# --- containers that are not ours -----------------------------------------------------------------


class Foreigners:
    """Containers that look like ours. They must be as they are from the first look to the last."""

    def __init__(self, witness, owner, image):
        self.api = witness.client.api
        suffix = owner[-10:]
        claims = {OWNER: owner, SERVICE: "echo", SPEC: "0" * 64}
        other = {**claims, OWNER: owner + "x"}
        looks = [
            (f"kipgate-echo-{suffix[:-1]}x", claims),  # our labels, a name nearly ours
            (f"echo-{owner}", claims),
            (f"kipgate-echo-{suffix}", other),  # our kind of name, another owner
            (f"kipgate-sandbox-00{suffix}", {OWNER: owner + "x", SANDBOX: "1"}),
            (f"kipgate-echo-{suffix[::-1]}", {}),
        ]
        self.ids = {self._make(image, name, labels) for name, labels in looks}
        self.before = self.look()

    def _make(self, image, name, labels):
        alone = self.api.create_host_config(network_mode="none")  # it starts faster
        made = self.api.create_container(image, name=name, labels=labels, host_config=alone)
        self.api.start(made["Id"])
        return made["Id"]

    def look(self):
        """What matters of each."""
        seen = {}
        for one in sorted(self.ids):
            whole = self.api.inspect_container(one)
            state = whole["State"]
            seen[one] = whole["Name"], state["Status"], state["Pid"], state["StartedAt"]
        return seen

    def check(self):
        """Nothing was done to them."""
        assert self.look() == self.before, (self.look(), self.before)

    def remove(self):
        """At the end."""
        for one in self.ids:
            self.api.remove_container(one, force=True)


# --- one Kipgate that is killed again and again ---------------------------------------------------


class Scenario:
    """One path: how to get to its beginning, what sets it off, what must be after it."""

    name = ""
    sandboxes = "off"
    service = {"idle_timeout": "10m"}
    config = {}
    settle = 0.25  # seconds that the traced process goes on after the path's end
    leaves = 1  # containers of the service after recovery, before the next request: at most
    good = (200,)  # outcomes of a walk during which control was killed
    keeps = False  # the instance that is there at first must serve on, whatever happens to control

    def __init__(self):
        self.rounds = 0
        self.outcomes = collections.Counter()
        self.recovered = []
        self.foreigners = self.walked = None
        service = {"image": settings.echo_image(), "port": 8080, "pull": "never", **self.service}
        config = {"sandboxes": self.sandboxes, **self.config}
        self.gate = Kipgate({"echo": service}, config=config)

    # --- what scenarios differ in -----------------------------------------------------------------

    def prepare(self):
        """To the state in which the path begins."""
        self.sleep()
        self.park()

    def act(self):
        """Walks the path; gives what is counted as its outcome."""
        return self.ask(f"/{self.rounds}")

    def targets(self):
        """Processes that are traced; all with the same point."""
        return [self.gate.process.pid]

    def after(self):
        """More that must hold when all is well again."""

    # --- means ------------------------------------------------------------------------------------

    def ask(self, target="/", timeout=20):
        """A status, or how the exchange broke."""
        try:
            response = self.gate.get(target, timeout=timeout)
        except (OSError, raw.Broken) as error:
            return type(error).__name__
        if response.status == 200:
            assert Dump(response.body).first == f"GET {target} HTTP/1.1"
        return response.status

    def ours(self):
        """Instances, as the engine says."""
        return [
            c for c in self.gate.witness.containers("echo") if c["Id"] not in self.foreigners.ids
        ]

    def sleep(self):
        """No instance, and nobody remembers one."""
        assert self.gate.admin.sleep("echo").status == 200
        wait_until(lambda: not self.ours(), RECOVERY, "no instance after a sleep", 0.01)

    def park(self):
        """A sandbox that the next worker will join. What a killed run left is parked only when it
        has been watched for a while: too long to wait for, so it is removed by hand."""
        if self.sandboxes == "off":
            return
        homes = {home(c) for c in self.ours()}
        free = [c for c in self.sandboxes_there() if c["Id"] not in homes]
        mark = self.gate.logs.mark() if free else 0
        for one in free:
            try:
                self.gate.witness.client.api.remove_container(one["Id"], force=True)
            except docker.errors.NotFound:
                pass  # Kipgate was about to remove it as well
        self.gate.wait_log(15, since=mark, event="sandbox-parked")
        time.sleep(0.03)  # its last calls

    def sandboxes_there(self):
        """Sandboxes, as the engine says."""
        return [c for c in self.gate.witness.everything() if SANDBOX in c["Labels"]]

    # --- a round ----------------------------------------------------------------------------------

    def start(self):
        """The first run."""
        self.gate.start()
        self.foreigners = Foreigners(self.gate.witness, self.gate.owner, settings.echo_image())
        return self

    def record(self):
        """Calls of the targets on an undisturbed walk."""
        tracers = self._walk(None)
        return [tracer.calls() for tracer in tracers]

    def round(self, point):
        """Kills there and sees what comes of it; False if the walk ended before the point."""
        self.rounds += 1
        self.prepare()
        self.kept = {c["Id"] for c in self.ours()}
        tracers = self._walk(point, prepared=True)
        killed = [t.pid for t in tracers if not proc.alive(t.pid)]
        began = time.monotonic()
        if self.gate.process.poll() is not None:
            self.gate.start()
            self.answered()
        self.check(began)
        if killed:
            self.recovered.append(time.monotonic() - began)
        return bool(killed)

    def answered(self):
        """What was under way when control was killed is answered by the next one: fronts live on."""
        if self.walked is None:
            return
        outcome = self.walked.result(40)
        self.outcomes[outcome] += 1
        assert outcome in self.good, f"under way when control was killed: {outcome}"

    def _walk(self, point, prepared=False):
        if not prepared:
            self.prepare()
        tracers = [Tracer(pid, self.gate.directory, point) for pid in self.targets()]
        task = Background(self.act)
        try:
            wait_until(lambda: task.done() or self._dead(tracers), 40, "the path's end", 0.002)
            ends = time.monotonic() + self.settle
            while time.monotonic() < ends and not self._dead(tracers):
                time.sleep(0.002)
        finally:
            for tracer in tracers:
                tracer.detach()
        self.gate.process.poll()
        self.walked = task
        if self.gate.process.poll() is None:
            self.outcomes[task.result(40)] += 1
        return tracers

    @staticmethod
    def _dead(tracers):
        return any(not proc.alive(tracer.pid) for tracer in tracers)

    # --- judgement --------------------------------------------------------------------------------

    def check(self, began):
        """As an independent client of the engine sees it."""
        left = max(0.01, began + RECOVERY - time.monotonic())
        wait_until(lambda: len(self.ours()) <= self.leaves, left, f"<= {self.leaves} instances")
        answer = self.ask(f"/next{self.rounds}")
        assert answer == 200, f"the next request: {answer}"
        wait_until(self._whole, RECOVERY, "one instance, known, in a network of its own", 0.02)
        if self.keeps:
            time.sleep(0.1)  # what a late or repeated word of the engine might do
            assert {c["Id"] for c in self.ours()} == self.kept, "a healthy instance was replaced"
        self.after()
        self.foreigners.check()

    def _whole(self):
        """One instance that Kipgate knows; sandboxes that are used once, or wait."""
        there, known = self.ours(), self.gate.admin.instances("echo")
        if len(there) != 1 or there[0]["State"] != "running":
            return None
        if [i["id"] for i in known] != [there[0]["Id"]]:
            return None
        shelters = {c["Id"]: c["State"] for c in self.sandboxes_there()}
        if any(state != "running" for state in shelters.values()):
            return None
        joined = home(there[0])
        return joined is None or shelters.get(joined) == "running"

    def finish(self):
        """After the last round: nothing is left but what is to be there."""
        self.sleep()
        wait_until(self._tidy, 10, "sandboxes are parked or gone", 0.1)
        wait_until(lambda: not self.strangers(), 10, "only this run's processes", 0.1)
        files = sorted(p.name for p in pathlib.Path(self.gate.config["state_dir"]).iterdir())
        assert len([f for f in files if f.startswith("fronts-")]) <= 2, files
        self.gate.stop()
        self.foreigners.check()

    def _tidy(self):
        found = self.sandboxes_there()
        return len(found) <= 3 and all(c["State"] == "running" for c in found)

    def strangers(self):
        """Processes that use the state directory and are not of the present run."""
        ours = set(self.gate.pids()) if proc.alive(self.gate.process.pid) else set()
        state = self.gate.config["state_dir"]
        found = []
        for path in pathlib.Path("/proc").glob("[0-9]*"):
            pid = int(path.name)
            try:
                if pid not in ours and any(f.startswith(state) for f in proc.files(pid)):
                    found.append(pid)
            except OSError:  # it ended, or is out of our reach
                continue
        return found

    def discard(self):
        """However it went."""
        if self.foreigners:
            self.foreigners.remove()
        if self.gate.process and self.gate.process.poll() is None:
            self.gate.end()
        for pid in self.strangers():
            os.kill(pid, signal.SIGKILL)
        self.gate.discard()


def home(container):
    """The id of the container whose network that one has joined; None: it has its own."""
    mode = container["HostConfig"]["NetworkMode"]
    return mode.removeprefix("container:") if mode.startswith("container:") else None
