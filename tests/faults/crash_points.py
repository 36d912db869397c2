#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""SIGKILL between every two system calls of a provisioning, a removal, a reload, a start; then a
look at what a next run makes of what was left.

    tests/faults/crash.sh [--full] [SCENARIO...]     (see there; --list names the scenarios)

strace 6.1 takes part in it as follows. `-e inject=CALL:signal=KILL:when=N` sends the signal when
the process enters its N-th CALL (counted for each kind of call, and for each process, from the
moment strace is attached); the kernel sees the signal before it does anything of the call, so the
call does not happen. There is no way to kill on the way out, and none is needed: what a single
thread does between two system calls nobody else can see, so to be killed after one call is to be
killed before the next. Killing before every call of a recorded sequence is therefore every point
there is, and (CALL, N) finds it again when the calls of other kinds around it vary a little.

The difficulty: the last word on what exists must not be Kipgate's. The Docker SDK says it, and a
container is an orphan if the engine has it and Kipgate does not name it."""
import argparse
import collections
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

import docker

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from harness import proc, raw, settings  # noqa: E402  (needs the path above)
from harness.echo import Dump  # noqa: E402
from harness.kipgate import Kipgate  # noqa: E402
from harness.waiting import Background, TimedOut, wait_until  # noqa: E402
from harness.witness import OWNER, SERVICE, SPEC  # noqa: E402

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
        made = self.api.create_container(image, name=name, labels=labels, environment=["PORT=8080"])
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

    def __init__(self):
        self.rounds = 0
        self.outcomes = collections.Counter()
        self.recovered = []
        self.foreigners = None
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
        for one in free:
            try:
                self.gate.witness.client.api.remove_container(one["Id"], force=True)
            except docker.errors.NotFound:
                pass  # Kipgate was about to remove it as well
        mark = self.gate.logs.mark() if free else 0
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
        before = self.targets_now = None
        self.prepare()
        before = self.gate.process
        tracers = self._walk(point, prepared=True)
        killed = [t.pid for t in tracers if not proc.alive(t.pid)]
        began = time.monotonic()
        if before.poll() is not None:
            self.gate.start()
        self.check(began)
        if killed:
            self.recovered.append(time.monotonic() - began)
        return bool(killed)

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
        if self.gate.process.poll() is None or task.done():
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
        if any(state not in ("running", "created") for state in shelters.values()):
            return None
        joined = home(there[0])
        return joined is None or shelters.get(joined) == "running"

    def finish(self):
        """After the last round: nothing is left but what is to be there."""
        self.sleep()
        wait_until(self._tidy, 45, "sandboxes are parked or gone", 0.2)
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


# --- control: provisioning ------------------------------------------------------------------------


class Cold(Scenario):
    """A request for a service without an instance."""

    name = "cold"


class ColdJoined(Cold):
    """The same into a parked network."""

    name = "cold-joined"
    sandboxes = "auto"


class ColdSlow(Cold):
    """The worker listens late: the kill meets a front that probes."""

    name = "cold-slow"
    service = {"idle_timeout": "10m", "env": ["START_DELAY_MS=300"]}


# --- control: reaping -----------------------------------------------------------------------------


class Reap(Scenario):
    """From the answer to the removal, by idleness."""

    name = "reap"
    service = {"idle_timeout": "400ms"}

    def prepare(self):
        self.sleep()
        self.park()
        assert self.ask("/warm") == 200

    def act(self):
        wait_until(lambda: not self.ours(), 10, "the end of an idle instance", 0.005)
        return "reaped"

    def check(self, began):
        left = max(0.01, began + RECOVERY - time.monotonic())
        wait_until(lambda: not self.ours(), left, "what was due is removed", 0.01)
        answer = self.ask(f"/next{self.rounds}")
        assert answer == 200, f"the next request: {answer}"
        self.foreigners.check()


class ReapJoined(Reap):
    """The same with a parked network that goes along."""

    name = "reap-joined"
    sandboxes = "auto"


class Sleep(Scenario):
    """Sent to sleep by the admin API."""

    name = "sleep"

    def prepare(self):
        assert self.ask("/warm") == 200

    def act(self):
        try:
            return self.gate.admin.sleep("echo").status
        except (OSError, raw.Broken) as error:
            return type(error).__name__


class Pause(Scenario):
    """Frozen when idle."""

    name = "pause"
    service = {"idle_timeout": "10m", "pause_after": "300ms"}
    settle = 0.1

    def prepare(self):
        assert self.ask("/warm") == 200

    def act(self):
        wait_until(lambda: "(Paused)" in str(self.ours()), 10, "a paused instance", 0.005)
        return "paused"

    def after(self):
        wait_until(lambda: "(Paused)" in str(self.ours()), RECOVERY, "paused again", 0.02)


class Resume(Scenario):
    """A request for a frozen instance."""

    name = "resume"
    service = {"idle_timeout": "10m", "pause_after": "200ms"}

    def prepare(self):
        assert self.ask("/warm") == 200
        wait_until(lambda: "(Paused)" in str(self.ours()), 10, "a paused instance", 0.005)
        time.sleep(0.15)  # what follows the pause


class Stop(Scenario):
    """Stopped and kept when idle."""

    name = "stop"
    service = {"idle_timeout": "400ms", "on_idle": "stop"}

    def prepare(self):
        assert self.ask("/warm") == 200

    def act(self):
        wait_until(lambda: "exited" in str(self.ours()), 10, "a stopped instance", 0.005)
        return "stopped"


class StopStart(Stop):
    """A request for a stopped instance."""

    name = "stop-start"

    def prepare(self):
        super().prepare()
        Stop.act(self)
        time.sleep(0.2)

    def act(self):
        return Scenario.act(self)


# --- control: other paths -------------------------------------------------------------------------


class Reload(Scenario):
    """The service changes under a warm instance: the old one drains, the next request gets a new
    one."""

    name = "reload"

    def prepare(self):
        assert self.ask("/warm") == 200

    def act(self):
        self.gate.config["services"]["echo"]["env"] = [f"WHO=round{self.rounds}"]
        self.gate.write_config()
        if self.gate.process.poll() is None:
            self.gate.process.send_signal(signal.SIGHUP)
        time.sleep(0.02)
        return super().act()

    def after(self):
        found = self.gate.witness.inspect(self.ours()[0]["Id"])
        assert f"WHO=round{self.rounds}" in found["Config"]["Env"], "it has the new settings"


class Start(Scenario):
    """Kipgate's own start, with a running instance of the run before to be adopted."""

    name = "start"
    settle = 0.3

    def prepare(self):
        assert self.ask("/warm") == 200
        self.gate.kill9(wait_for_fronts=False)
        wait_until(lambda: not self.strangers(), 10, "the killed run's fronts end", 0.01)

    def _walk(self, point, prepared=False):
        """strace starts it (-D: as its own child, so that the process is the one we wait for)."""
        if not prepared:
            self.prepare()
        path = self.gate.directory / f"start{self.rounds}"
        words = [strace_words(str(path), point)[0], "-D", *strace_words(str(path), point)[1:]]
        self.gate.command = lambda *verb: [*words, *Kipgate.command(self.gate, *verb)]
        self.gate.spawn()
        del self.gate.command
        ends = None
        while self.gate.process.poll() is None and (ends is None or time.monotonic() < ends):
            ends = ends or (self._up() and time.monotonic() + self.settle)
            time.sleep(0.005)
        if self.gate.process.poll() is None:
            self.outcomes["started"] += 1
            if point is None:
                self.gate.kill9(wait_for_fronts=False)
        return [Started(self.gate.process.pid, path)]

    def _up(self):
        try:
            return self.gate.admin.status("/readyz", timeout=2) == 200
        except (OSError, raw.Broken):
            return False

    def record(self):
        calls = [tracer.calls() for tracer in self._walk(None)]
        self.gate.start()
        return calls


class Started(NamedTuple):
    """What `Tracer` is, for a process that strace itself started."""

    pid: int
    path: pathlib.Path

    def calls(self):
        """Names of the calls in their order."""
        return calls_in(self.path)


class StartJoined(Start):
    """The same, with parked networks."""

    name = "start-joined"
    sandboxes = "auto"


# --- fronts ---------------------------------------------------------------------------------------


class FrontCold(Scenario):
    """Several requests for a cold service over two fronts, one of which is killed."""

    name = "front-cold"
    config = {"fronts": 2}
    service = {"idle_timeout": "10m", "concurrency": 3}
    clients = 6

    def prepare(self):
        self.sleep()
        wait_until(lambda: len(self.gate.fronts()) == 2, 5, "two fronts")

    def targets(self):
        return self.gate.fronts()[self.rounds % 2 :][:1]

    def act(self):
        tasks = [Background(self.ask, f"/{self.rounds}/{n}") for n in range(self.clients)]
        answers = [task.result(30) for task in tasks]
        assert set(answers) <= {200, "Broken", "ConnectionResetError"}, answers
        for answer in answers:
            self.outcomes[f"client: {answer}"] += 1
        return "walked"

    def after(self):
        """Two fronts again, no slot out for good: all that there are can be had, and the clock
        runs."""
        wait_until(lambda: len(self.gate.fronts()) == 2, RECOVERY, "two fronts again", 0.01)
        tasks = [Background(self.ask, f"/all{n}?ms=20") for n in range(self.clients)]
        assert [task.result(20) for task in tasks] == [200] * self.clients
        wait_until(self._balanced, RECOVERY, "every slot is back", 0.05)

    def _balanced(self):
        (one,) = self.gate.admin.instances("echo")
        waiting = self.gate.admin.service("echo")["waiting"]
        return one["exchanges"] == 0 and one["reap_in_seconds"] is not None and waiting == 0

    def round(self, point):
        control = self.gate.process.pid
        killed = super().round(point)
        assert self.gate.process.pid == control and self.gate.process.poll() is None
        return killed


class FrontWarm(FrontCold):
    """The same with an instance that is ready."""

    name = "front-warm"

    def prepare(self):
        super().prepare()
        assert self.ask("/warm") == 200


class FrontReap(FrontCold):
    """A front is killed while its slots linger, are returned and recalled, up to the removal."""

    name = "front-reap"
    service = {"idle_timeout": "500ms", "concurrency": 3}

    def prepare(self):
        wait_until(lambda: len(self.gate.fronts()) == 2, 5, "two fronts")
        tasks = [Background(self.ask, f"/warm{n}") for n in range(self.clients)]
        assert [task.result(20) for task in tasks] == [200] * self.clients

    def act(self):
        wait_until(lambda: not self.ours(), 10, "the end of an idle instance", 0.005)
        return "reaped"

    def after(self):
        wait_until(lambda: len(self.gate.fronts()) == 2, RECOVERY, "two fronts again", 0.01)
        wait_until(lambda: not self.ours(), RECOVERY, "idle again, and reaped", 0.02)


class FrontReload(FrontCold):
    """A front is killed while it is told of a new configuration, under requests."""

    name = "front-reload"

    def prepare(self):
        wait_until(lambda: len(self.gate.fronts()) == 2, 5, "two fronts")
        assert self.ask("/warm") == 200

    def act(self):
        self.gate.config["services"]["echo"]["env"] = [f"WHO=round{self.rounds}"]
        self.gate.write_config()
        self.gate.process.send_signal(signal.SIGHUP)
        return super().act()


SCENARIOS = [
    Cold,
    ColdJoined,
    ColdSlow,
    Reap,
    ReapJoined,
    Sleep,
    Pause,
    Resume,
    Stop,
    StopStart,
    Reload,
    Start,
    StartJoined,
    FrontCold,
    FrontWarm,
    FrontReap,
    FrontReload,
]


# --- many rounds ----------------------------------------------------------------------------------


class Report:
    """What came of one scenario."""

    def __init__(self, name):
        self.name, self.points, self.tried, self.killed = name, 0, 0, 0
        self.failures, self.recovered, self.outcomes = [], [], collections.Counter()
        self.began = time.monotonic()

    def take(self, scenario):
        """Adds what one Kipgate went through."""
        self.recovered += scenario.recovered
        self.outcomes += scenario.outcomes

    def __str__(self):
        times = sorted(self.recovered) or [0.0]
        said = ", ".join(f"{n} x {what}" for what, n in sorted(self.outcomes.items(), key=str))
        return (
            f"{self.name}: {self.points} points, {self.tried} tried, {self.killed} killed, "
            f"{len(self.failures)} failed; well again after {times[len(times) // 2]:.2f} s "
            f"(median), {times[-1]:.2f} s (most); walks: {said}; "
            f"{time.monotonic() - self.began:.0f} s"
        )


def fresh(kind):
    """A scenario that has been walked twice undisturbed, and its points."""
    scenario = kind().start()
    try:
        recordings = [calls for _ in range(2) for calls in scenario.record()]
    except BaseException:
        print(scenario.gate.tail(), flush=True)
        scenario.discard()
        raise
    return scenario, points_of(recordings)


def close(scenario, report):
    """The end of one Kipgate; what is wrong then is a failure too."""
    report.take(scenario)
    try:
        scenario.finish()
    except Exception as error:
        report.failures.append(("the end", f"{type(error).__name__}: {error}"))
    finally:
        scenario.discard()


def run(kind, every=1, offset=0, only=None, tell=lambda words: None):
    """All points of a scenario, or every k-th; a failure costs the Kipgate, not the rest."""
    report = Report(kind.name)
    scenario, points = fresh(kind)
    report.points = len(points)
    for point in only or points[offset % every :: every]:
        report.tried += 1
        try:
            report.killed += scenario.round(point)
        except Exception as error:
            words = f"{type(error).__name__}: {error}"
            report.failures.append((str(point), f"{words}\n{scenario.gate.tail(60)}"))
            tell(f"{kind.name} {point}: {words}")
            report.take(scenario)
            scenario.discard()
            scenario, _ = fresh(kind)
    close(scenario, report)
    tell(str(report))
    return report


def main():
    """The command line."""
    by_name = {kind.name: kind for kind in SCENARIOS}
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("scenario", nargs="*", help="all of them, if none is named")
    parser.add_argument("--full", action="store_true", help="every point, not every 8th")
    parser.add_argument("--every", type=int, default=8, metavar="K", help="every K-th point")
    parser.add_argument("--point", action="append", metavar="CALL#N", help="these points only")
    parser.add_argument("--list", action="store_true", help="name the scenarios")
    words = parser.parse_args()
    if words.list:
        for kind in SCENARIOS:
            print(f"{kind.name:14} {kind.__doc__.splitlines()[0]}")
        return 0
    only = [Point(p.partition("#")[0], int(p.partition("#")[2])) for p in words.point or ()]
    reports = []
    for name in words.scenario or by_name:
        every = 1 if words.full else words.every
        reports.append(run(by_name[name], every, only=only, tell=lambda t: print(t, flush=True)))
    failures = [(r.name, *f) for r in reports for f in r.failures]
    for name, point, what in failures:
        print(f"\nFAILED {name} at {point}: {what}")
    print(f"\n{sum(r.tried for r in reports)} points, {len(failures)} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
