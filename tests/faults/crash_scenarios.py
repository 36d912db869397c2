# SPDX-License-Identifier: Apache-2.0
"""The paths along which Kipgate is killed (crash_points.py says how). The difficulty: each must
begin in the same state every time, whatever the last kill left."""
import pathlib
import signal
import time
from typing import NamedTuple

from crash_rig import RECOVERY, Scenario, calls_in, strace_words
from harness import proc, raw
from harness.kipgate import Kipgate
from harness.waiting import Background, wait_until

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
    good = ("reaped",)

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
    """Sent to sleep by the admin API (whose answers come from control alone)."""

    name = "sleep"
    good = (200, 503, "Broken", "ConnectionResetError", "ConnectionRefusedError")

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
    keeps = True
    service = {"idle_timeout": "10m", "pause_after": "300ms"}
    settle = 0.1
    good = ("paused",)

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
    keeps = True
    service = {"idle_timeout": "10m", "pause_after": "200ms"}

    def prepare(self):
        assert self.ask("/warm") == 200
        wait_until(lambda: "(Paused)" in str(self.ours()), 10, "a paused instance", 0.005)
        time.sleep(0.15)  # what follows the pause


class Stop(Scenario):
    """Stopped and kept when idle."""

    name = "stop"
    service = {"idle_timeout": "400ms", "on_idle": "stop"}
    good = ("stopped",)

    def prepare(self):
        assert self.ask("/warm") == 200

    def act(self):
        wait_until(lambda: self._stopped(self.ours()), 10, "a stopped instance", 0.005)
        return "stopped"

    @staticmethod
    def _stopped(there):
        """Kept; or removed, where it is not known what became of the order."""
        return not there or "exited" in str(there)


class StopStart(Stop):
    """A request for a stopped instance."""

    name = "stop-start"
    good = (200,)
    keeps = True

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
        wait_until(self._renewed, RECOVERY, "it has the new settings", 0.05)

    def _renewed(self):
        """A front may use what it has until it is told; then the old one goes."""
        assert self.ask("/renewed") == 200
        envs = [self.gate.witness.inspect(c["Id"])["Config"]["Env"] for c in self.ours()]
        return len(envs) == 1 and f"WHO=round{self.rounds}" in envs[0]


class Start(Scenario):
    """Kipgate's own start, with a running instance of the run before to be adopted."""

    name = "start"
    keeps = True
    settle = 0.3

    def prepare(self):
        assert self.ask("/warm") == 200
        self.gate.kill9()

    def _walk(self, point, prepared=False):
        """strace starts it (-D: as its own child, so that the process is the one we wait for) and lets
        go at the path's end: a point that was not reached by then must not come later."""
        if not prepared:
            self.prepare()
        path = self.gate.directory / f"start{self.rounds}"
        words = ["strace", "-D", "-I", "2", *strace_words(str(path), point)[1:]]
        self.gate.command = lambda *verb: [*words, *Kipgate.command(self.gate, *verb)]
        self.gate.spawn()
        del self.gate.command
        ends = None
        while self.gate.process.poll() is None and not (ends and time.monotonic() > ends):
            ends = ends or (self._up() and time.monotonic() + self.settle)
            time.sleep(0.005)
        proc.let_go(self.gate.process.pid)
        if self.gate.process.poll() is None:
            self.outcomes["started"] += 1
            if point is None:
                self.gate.kill9()
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
        self.renew()
        self.sleep()

    def renew(self):
        """Another control: it would let a front that is killed every few seconds rest for longer
        each time."""
        if self.rounds:
            self.gate.stop()
            self.gate.start()
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

    def check(self, began):
        assert self.gate.process.poll() is None, "control lives"
        super().check(began)


class FrontWarm(FrontCold):
    """The same with an instance that is ready."""

    name = "front-warm"
    keeps = True

    def prepare(self):
        super().prepare()
        assert self.ask("/warm") == 200


class FrontReap(FrontCold):
    """A front is killed while its slots linger, are returned and recalled, up to the removal."""

    name = "front-reap"
    service = {"idle_timeout": "500ms", "concurrency": 3}

    def prepare(self):
        self.renew()
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
        self.renew()
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
