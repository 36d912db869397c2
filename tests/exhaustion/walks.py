# SPDX-License-Identifier: Apache-2.0
"""A path of the whole Kipgate, walked with one thing failing, and what must come of it: an answer or
a visible end, processes that live on (or end with words, and are started again), the next request
served right, books that balance. The difficulty: thousands of walks, of which one that fails must
not spoil the next: it costs its Kipgate, and another one goes on."""
import collections
import contextlib
import json
import os
import pathlib
import shutil
import tempfile
import time

from failing import NEXT_CONTROL, NEXT_FRONT, failing_kipgate
from harness import proc, raw
from harness.echo import Dump
from harness.http2 import ConnectionError_, Http2
from harness.waiting import Background, TimedOut, wait_until
from paper_engine import PaperEngine

LONG = bool(os.environ.get("KIPGATE_LONG"))
PROTOCOLS = ["http/1.1", "h2", "h2c"]
BOUND = 12.0  # seconds for an answer, or for the next one to be right
RELIEF = 0.3  # so long lasts want that does not end by itself
REFUSALS = {502, 503, 504}


class Rig:
    """A paper engine and a Kipgate on it."""

    def __init__(self, sanitized=False, user=None):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="kgx"))
        self.directory.chmod(0o755)
        self.engine = PaperEngine(self.directory)
        self.extra = 0
        services = {"echo": self.service("/")}
        config = {"sandboxes": "off", "engine": self.engine.host, "protocols": PROTOCOLS}
        self.gate = failing_kipgate(services, sanitized, config, user)
        self.asked = 0

    def service(self, route):
        """One on the paper engine's worker."""
        return {
            "image": "paper:1",
            "port": self.engine.port,
            "pull": "never",
            "routes": [route],
            "idle_timeout": "10m",
        }

    def close(self):
        """However it went."""
        self.gate.end()
        self.gate.discard()
        self.engine.close()
        shutil.rmtree(self.gate.home, ignore_errors=True)
        shutil.rmtree(self.directory, ignore_errors=True)

    def ask(self, timeout=BOUND):
        """A status, or how the exchange broke; a 200 must be the right one."""
        self.asked += 1
        target = f"/{self.asked}"
        try:
            response = self.gate.get(target, timeout=timeout)
        except TimeoutError:
            raise AssertionError(f"no answer within {timeout} s") from None
        except (OSError, raw.Broken) as error:
            return type(error).__name__
        if response.status == 200:
            assert Dump(response.body).first == f"GET {target} HTTP/1.1", response.body[:200]
        else:
            assert json.loads(response.body)["status"] == response.status
        return response.status

    def served(self):
        """The next request is, soon."""
        last = []

        def right():
            last[:] = [self.ask()]
            assert last[0] == 200 or last[0] in REFUSALS or isinstance(last[0], str), last
            return last[0] == 200

        wait_until(right, BOUND, f"the next request is served, {last}", 0.02)

    def books(self):
        """At most one container, and Kipgate knows it."""
        wait_until(self._balance, BOUND, "one container, and known", 0.02)

    def _balance(self):
        there = [c["Id"] for c in self.engine.there()]
        return len(there) == 1 and [i["id"] for i in self.gate.admin.instances("echo")] == there

    def asleep(self):
        """No instance."""
        assert self.gate.admin.sleep("echo").status == 200
        wait_until(lambda: not self.engine.there(), BOUND, "no container after a sleep")

    def pids(self):
        """Of control and the front, once there is one."""
        front = wait_until(self.gate.fronts, BOUND, "a front")
        return {"control": self.gate.process.pid, "front": front[0]}


# --- paths ------------------------------------------------------------------------------------------


def cold(rig):
    """A request for a service without an instance."""
    rig.asleep()
    yield
    yield relieved(rig, rig.ask)


def warm(rig):
    """A request for an instance that is ready."""
    rig.served()
    yield
    yield relieved(rig, rig.ask)


def warm_http2(rig):
    """A stream of a session that has carried one, for an instance that is ready."""
    rig.served()
    with Http2(rig.gate.front, timeout=BOUND) as client:
        assert ask_stream(rig, client) == 200
        yield
        yield relieved(rig, lambda: ask_stream(rig, client))


def ask_stream(rig, client):
    """A status, or how the stream or its session broke; a 200 must be the right one, and whole."""
    rig.asked += 1
    target = f"/{rig.asked}"
    try:
        response = client.get(target)
    except TimeoutError:
        raise AssertionError(f"no answer within {BOUND} s") from None
    except (OSError, ConnectionError_) as error:
        return type(error).__name__
    if response.reset is not None:
        return f"reset {response.reset}"
    if response.status == 200:
        assert Dump(response.body).first == f"GET {target} HTTP/1.1", response.body[:200]
    else:
        assert json.loads(response.body)["status"] == response.status
    return response.status


def reload(rig):
    """The configuration is read again, with another service in it."""
    rig.extra += 1
    rig.gate.config["services"] = {
        "echo": rig.service("/"),
        f"other{rig.extra}": rig.service(f"/other{rig.extra}"),
    }
    rig.gate.write_config()
    yield
    yield relieved(rig, lambda: post_reload(rig))
    # what failed is done again, and is in force then
    wait_until(lambda: reloaded(rig), BOUND, "the next reload succeeds", 0.05)
    target = f"/other{rig.extra}"
    wait_until(lambda: rig.gate.get(target, timeout=BOUND).status == 200, BOUND, target, 0.05)
    assert rig.gate.admin.sleep(f"other{rig.extra}").status == 200


def post_reload(rig):
    """The status of a reload, or how it broke off."""
    try:
        return rig.gate.admin.call("POST", "/v1/reload", timeout=BOUND).status
    except TimeoutError:
        raise AssertionError("no answer to a reload") from None
    except (OSError, raw.Broken) as error:
        return type(error).__name__


def reloaded(rig):
    """Whether a reload is taken."""
    return post_reload(rig) == 200


def relieved(rig, ask):
    """The outcome; want that lasts ends after a while."""
    task = Background(ask)
    with contextlib.suppress(TimedOut):
        wait_until(task.done, RELIEF, "an answer in want")
    time.sleep(0.005)  # what follows the answer
    rig.gate.page.stop()
    outcome = task.result(2 * BOUND)
    assert outcome in (200, 400, 500) or outcome in REFUSALS or isinstance(outcome, str), outcome
    return outcome


PATHS = {"cold": cold, "warm": warm, "warm-http2": warm_http2, "reload": reload}


# --- one walk ---------------------------------------------------------------------------------------


def ended_well(rig, since):
    """What fronts ended by, since that log line: status 1 with words, or by control (SIGKILL), which
    trusts no front any more to which it lost a message; never by a crash."""
    lines = rig.gate.logs.all()[since:]
    ends = [line for line in lines if line.get("event") == "front-ended"]
    ends = [line for line in ends if line.get("signal", 9) != 9]  # of one that attached none is told
    for line in ends:
        assert line["signal"] == 0 and line["status"] == 1, line
    said = [line for line in lines if is_last_word(line)]
    assert len(said) >= len(ends), (ends, lines)
    return len(ends)


def is_last_word(line):
    """Of a front; before it is set up its lines are plain ones."""
    words = ("exhausted", "front-not-started")
    return line.get("event") in words or any(w in line.get("unparsed", "") for w in words)


def judge(rig, outcome, since, seen):
    """After the harm is over."""
    assert rig.gate.process.poll() is None, f"control ended: {rig.gate.process.returncode}"
    rig.served()
    rig.books()
    seen[outcome] += 1
    ends = ended_well(rig, since)
    if ends:
        seen["front ended"] += ends
    rig.gate.assert_clean()


def walk(rig, path, whom, at, sticky, seen):
    """How many allocations failed on it."""
    since = rig.gate.logs.mark()
    steps = PATHS[path](rig)
    pid = rig.pids()[whom]
    next(steps)
    rig.gate.page.arm(pid, at, sticky)
    try:
        outcome = next(steps)
    finally:
        rig.gate.page.stop()
    failed = rig.gate.page.last[1]
    next(steps, None)
    judge(rig, outcome, since, seen)
    return failed


def walk_start(rig, whom, at, sticky, seen):
    """The same for a start: of Kipgate as a whole, or of a front."""
    gate = rig.gate
    since = gate.logs.mark()
    if gate.process and gate.process.poll() is None and whom == "front":
        gate.page.arm(NEXT_FRONT, at, sticky)
        os.kill(rig.pids()["front"], 9)
        wait_until(lambda: gate.page.whom() > 0, BOUND, "the next front")
        outcome = await_front(rig)
    else:
        gate.page.arm(NEXT_CONTROL, at, sticky)
        gate.spawn()
        outcome = await_control(rig)
    failed = gate.page.stop()[1]
    if gate.process.poll() is not None:
        gate.end()
        since = gate.logs.mark()
        gate.start()
    rig.served()
    seen[outcome] += 1
    gate.assert_clean()
    ended_well(rig, since)
    if whom == "control":
        rig.books()
        gate.stop()
    elif pauses(gate):
        gate.stop()
        gate.start()
        rig.served()
    return failed


def pauses(gate):
    """Whether so many fronts have ended that control lets time pass before it starts the next."""
    return len([1 for line in run_of(gate) if line.get("event") == "front-ended"]) >= 4


def run_of(gate):
    """Log lines of this control."""
    return gate.logs.all()[gate.spawned :]


def await_control(rig):
    """Ready, or ended with status 1 or 2 and a word about it."""
    gate = rig.gate
    until = time.monotonic() + BOUND
    while time.monotonic() < until:
        status = gate.process.poll()
        if status is not None:
            assert status in (1, 2), f"exit status {status}: {gate.tail()}"
            wait_until(lambda: has_last_word(gate), BOUND, "a last word")
            return f"ended with {status}"
        try:
            if gate.admin.status("/readyz", timeout=2) == 200:
                return "ready"
        except (OSError, raw.Broken):
            pass
        time.sleep(0.002)
    return "not ready"


def has_last_word(gate):
    """About its end, of control."""
    words = gate.tail(8).lower()
    return "memory" in words or "exhausted" in words


def await_front(rig):
    """Serves, or ended."""
    pid = rig.gate.page.whom()
    began = time.monotonic()
    while time.monotonic() < began + BOUND and proc.alive(pid):
        if time.monotonic() > began + 10 * RELIEF:  # want that does not end by itself
            rig.gate.page.stop()
        with contextlib.suppress(AssertionError):  # it may be gone, and the next one is paused for
            if rig.ask(timeout=2) == 200:
                return "served"
        time.sleep(0.002)
    wait_until(lambda: not proc.alive(pid), 2, "a front that neither serves nor ends")
    return "front ended"


# --- all of a path ----------------------------------------------------------------------------------


class Report:
    """What came of a path's walks."""

    def __init__(self, name):
        self.name, self.walked, self.most = name, 0, 0
        self.seen, self.failures = collections.Counter(), []
        self.began = time.monotonic()

    def __str__(self):
        said = ", ".join(f"{n} x {what}" for what, n in sorted(self.seen.items(), key=str))
        took = time.monotonic() - self.began
        return (
            f"{self.name}: {self.walked} walks, {self.most} points, "
            f"{len(self.failures)} failures; {said}; {took:.0f} s"
        )


def all_walks(name, make, once, step, most_failures=10):
    """Walks with n = 1, 1 + step, ... until nothing fails any more; once(rig, n, seen) says."""
    report = Report(name)
    rig = make()
    n = 1
    try:
        while True:
            try:
                failed = once(rig, n, report.seen)
            except Exception as error:
                tail = rig.gate.tail(30)
                report.failures.append(f"n = {n}: {type(error).__name__}: {error}\n{tail}")
                rig.close()
                if len(report.failures) >= most_failures:
                    return report
                rig = make()
                failed = 1
            report.walked += 1
            if failed == 0:
                break
            report.most = n
            n += step
        if rig.gate.process.poll() is None:
            rig.gate.stop()
    finally:
        rig.close()
    return report


def told(report):
    """Words of its failures."""
    return "\n\n".join(report.failures)


