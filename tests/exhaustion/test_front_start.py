# SPDX-License-Identifier: Apache-2.0
"""Every system call that starts a front fails once: control's for it, those of the child between
fork and exec, the front's own up to its first answer, those of the processes that make its filters.
Where it serves then, it serves confined; else it ends with words and the next one serves.
The difficulty: a front is started by control from control's own program. While control runs, a
script has that program's name: it starts one front under strace, and all others as they are."""
import collections
import contextlib
import os
import pathlib
import signal

import pytest
import walks
from harness import proc
from system_calls import errors_of, injection, points_in
from test_system_calls import Strace
from walks import BOUND, LONG, Background, Rig, told, wait_until

SAMPLE = 8  # points of a walk, about; those that confine come on top
USER = 4713
CONFINE = {"chroot", "chdir", "setgroups", "setresgid", "setresuid", "capset", "unshare"}
MAIN = "rt_sigaction(SIGPIPE"  # the first call of our own: what is before it is the loader's
FATAL = {"epoll_ctl"}  # of control: see test_system_calls.py


class Start:
    """A Kipgate whose next front can be traced from its first call on."""

    def __init__(self, user=None):
        self.user = user
        self.rig = Rig(user=(user, user) if user else None)
        self.gate = self.rig.gate
        self.place = pathlib.Path(self.gate.binary)
        self.program = self.place.with_name("program")
        os.link(self.place, self.program)
        self.armed = self.place.with_name("armed")
        self.calls = self.gate.directory / "calls"
        try:
            self.begin()
        except BaseException:
            self.rig.close()
            raise

    def begin(self):
        """Control, by its own name; then the script takes that."""
        self.place.unlink()
        os.link(self.program, self.place)
        self.gate.left = []
        self.gate.start()
        self.rig.served()
        self._write_script()
        self.descriptors = self._descriptors()

    def again(self):
        """Another control, which lets no front rest."""
        self.gate.stop()
        self.begin()

    def _write_script(self):
        new = self.place.with_name("new")
        new.write_text(f"""#!/bin/sh
[ -e {self.armed} ] && read -r words <{self.armed} && : >{self.armed}
[ -z "$words" ] && exec {self.program} "$@"
exec /usr/bin/strace -D -I 2 -o {self.calls} $words {self.program} "$@"
""")
        new.chmod(0o755)
        os.replace(new, self.place)

    def arm(self, words):
        """The next front only."""
        self.armed.write_text(" ".join(words) + "\n")
        self.armed.chmod(0o666)

    def _descriptors(self):
        return len(os.listdir(f"/proc/{self.gate.process.pid}/fd"))

    def pauses(self):
        """So many fronts came to nothing that control lets time pass before it starts the next."""
        said = [line.get("event") for line in self.gate.logs.all()[self.gate.spawned :]]
        return said.count("front-ended") + said.count("front-not-started") >= 4

    def processes(self):
        """What they do, for a failure's words."""
        pids = [self.gate.process.pid] if ended(self.gate) else self.gate.pids()
        said = []
        for pid in pids:
            with contextlib.suppress(OSError):
                waits = pathlib.Path(f"/proc/{pid}/wchan").read_text()
                call = pathlib.Path(f"/proc/{pid}/syscall").read_text()
                said.append(f"{pid} {proc.status(pid)['State']} in {waits}, {call}")
        return "".join(said)

    def nothing_left(self):
        """No process of it but control and one front, no descriptor too many in control."""
        home = str(self.place.parent)
        ours = {self.gate.process.pid, *self.gate.fronts()}
        wait_until(lambda: alive_from(home) == ours, BOUND, f"only {ours} of it run", 0.02)
        wait_until(lambda: self._descriptors() <= self.descriptors, BOUND, "descriptors", 0.02)


def alive_from(home):
    """Processes whose program lies there."""
    found = set()
    for path in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.readlink(path / "exe").startswith(home):
                found.add(int(path.name))
    return found


# --- who is traced --------------------------------------------------------------------------------


@contextlib.contextmanager
def traced(start, whom, words):
    """Meanwhile a front is started with that party of it under strace; gives what reads the text."""
    words = words if whom in ("control", "front") else ["-f", *words]
    if whom in ("control", "child"):
        strace = Strace(start.gate.process.pid, start.rig.directory, words)
        try:
            yield lambda: pathlib.Path(strace.path).read_text(errors="replace")
        finally:
            strace.detach()
    else:
        start.calls.write_text("")
        start.calls.chmod(0o666)
        start.arm(words)
        yield lambda: start.calls.read_text(errors="replace")
        for pid in start.gate.fronts():
            proc.let_go(pid)


def by_process(text):
    """What `strace -f` wrote, apart, in the order of their first calls."""
    lines = collections.defaultdict(list)
    for line in text.splitlines():
        pid, _, rest = line.partition(" ")
        lines[int(pid)].append(rest.lstrip())
    return lines


def lines_of(text, whom, control):
    """Those of one party. Of a maker only calls that its front does not make: others would fail in
    the front first, for calls are counted in each process."""
    if whom in ("control", "front"):
        return text.splitlines()
    lines = by_process(text)
    if whom == "child":
        child = next(lines[pid] for pid in lines if pid != control)
        ends = next(n for n, line in enumerate(child) if line.startswith("execve("))
        return child[: ends + 1]
    front, *makers = lines.values()
    own = {line.partition("(")[0] for line in front}
    return [line for line in max(makers, key=len) if line.partition("(")[0] not in own]


def points_of(start, whom):
    """Of an undisturbed start; the loader's calls with one error each."""
    with traced(start, whom, ["-e", "trace=all"]) as text:
        since = kill_front(start)
        judge(start, since, collections.Counter())
        lines = lines_of(text(), whom, start.gate.process.pid)
    points = points_in(lines)
    if whom == "front":
        begins = next(n for n, line in enumerate(lines) if line.startswith(MAIN))
        loaders = points_in(lines[:begins])
        points = [p for p in loaders if p[2] == errors_of(p[0])[0]] + points[len(loaders) :]
    return [p for p in points if possible(whom, p)]


def possible(whom, point):
    """What cannot be: a close that leaves its descriptor open (strace's does); an execve of the
    front that strace would take for its own; a failed read, write or wait of control and a child,
    which use pipes of their own and await a child that is there. And the loader crashes (glibc
    2.36) where it gets no memory for its first words."""
    name, number, error = point
    if whom in ("control", "child"):
        return name != "close" and (error == "EINTR" or name not in ("read", "write", "wait4"))
    return name not in ("close", "execve") and (name, number) != ("mmap", 1)


# --- a round --------------------------------------------------------------------------------------


def kill_front(start):
    """That another one is started; gives where the log was."""
    since = start.gate.logs.mark()
    os.kill(start.rig.pids()["front"], signal.SIGKILL)
    return since


def judge(start, since, seen):
    """Who serves now is confined, and who did not serve had words to say."""
    gate = start.gate
    start.rig.served()
    judge_confined(start, start.rig.pids()["front"], seen)
    lines = gate.logs.all()[since:]
    assert not [line for line in lines if line.get("event") == "front-distrusted"], lines
    ends = ends_of(lines)
    failed = [line for line in lines if line.get("event") == "front-not-started"]
    seen["front ended" if ends else "not started" if failed else "served"] += 1
    gate.assert_clean()


def judge_confined(start, pid, seen):
    """All that confine.h promises. Not as root it changes its root where it can."""
    root = f"{start.gate.config['state_dir']}/sockets"
    if start.user and os.readlink(f"/proc/{pid}/root") == "/":
        seen["has its user's root"] += 1
        root = None
    proc.assert_confined(pid, root, start.user)


def ends_of(lines):
    """Ends of fronts but the one that was killed: none by a crash, none without a word."""
    ends = [line for line in lines if line.get("event") == "front-ended"]
    ends = [line for line in ends if line.get("signal", 9) != 9]  # one that attached: none is told
    for line in ends:
        assert line["signal"] == 0 and line["status"] in (1, 127), line
    said = [line for line in lines if walks.is_last_word(line) or is_libcs(line)]
    assert len(said) >= len(ends), (ends, lines)
    return ends


def is_libcs(line):
    """A word of libc or of the loader about a program that it could not start."""
    return "unparsed" in line


def fail_at(start, whom, point, seen):
    """One start with that call failing. strace lets go then: of the next start it would fail one,
    too, and it has all descriptors of the front that it started."""
    gate = start.gate
    with traced(start, whom, injection(point)) as text:
        since = kill_front(start)
        task = Background(start.rig.ask, 2 * BOUND)
        wait_until(lambda: "INJECTED" in text() or task.done(), BOUND, "the call, or an answer")
        seen["reached" if "INJECTED" in text() else "not reached"] += 1
    wait_until(lambda: task.done() or ended(gate), BOUND, "an answer", 0.002)
    if whom == "control" and point[0] in FATAL and ended(gate):
        assert gate.process.returncode == 1, gate.process.returncode
        wait_until(lambda: "exhausted" in gate.tail(20), BOUND, "a word about control's end")
        seen["control ended"] += 1
        start.begin()
        since = gate.spawned
    task.result(BOUND)
    judge(start, since, seen)
    start.nothing_left()
    if start.pauses():
        start.again()


def ended(gate):
    """Control has."""
    return gate.process.poll() is not None


def choose(points):
    """All, or a sample: those that confine, and some others."""
    if LONG:
        return points
    every = max(1, len(points) // SAMPLE)
    chosen = set(points[every // 2 :: every])
    by_prctl = [p for p in points if p[0] == "prctl"]  # most of them drop one of 64 capabilities
    chosen.update(by_prctl[:3], by_prctl[-4:])
    return [p for p in points if p in chosen or p[0] in CONFINE]


WALKS = [(whom, None) for whom in ("control", "child", "front", "maker")]
WALKS += [("front", USER), *([("control", USER), ("child", USER), ("maker", USER)] if LONG else [])]


@pytest.mark.parametrize("whom,user", WALKS)
def test_front_start(capsys, whom, user):
    """Whatever fails: a front that serves is confined, one that ends has said why."""
    report = walks.Report(f"start of a front {whom} {user or 'root'} system calls")
    start = Start(user)
    try:
        points = points_of(start, whom)
        report.most = len(points)
        for point in choose(points):
            report.walked += 1
            try:
                fail_at(start, whom, point, report.seen)
            except Exception as error:
                words = f"{type(error).__name__}: {error}\n{start.gate.tail(30)}"
                report.failures.append(f"{point}: {words}\n{start.processes()}")
                start.rig.close()
                start = Start(user)
        start.gate.stop()
    finally:
        start.rig.close()
    with capsys.disabled():
        print(f"\n{report}")
    assert not report.failures, told(report)
