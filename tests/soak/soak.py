#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Mixed load and random faults, one after the other, for some minutes (soak.sh); then all must
balance: requests, containers, descriptors, memory, leases.
The difficulty: what a fault may break and what not differs by fault, so each leaves a window that
says so; and an engine is among what is harmed, so it is one of our own."""
import argparse
import collections
import os
import random
import signal
import subprocess
import time

import docker

import prober
import rig
import talkers
from harness import proc, settings
from harness.engine import own_engine
from harness.kipgate import Kipgate
from harness.tls import Certificate, secure, trusting
from harness.waiting import TimedOut, wait_until
from harness.witness import OWNER

LOADS = [load.format(burst=120, half=60) for load in prober.LOADS]
LOADS = [load.rsplit(":", 1)[0] + ":4" for load in LOADS] + ["tight:12:100:100:900:20"]
WAYS = ("sse", "websocket", "http2", "tls")
# What Kipgate may answer when the engine does not; queue-full is of the tight service alone.
REFUSALS = ("engine-unavailable", "start-timeout", "instance-exited", "backing-off")
MEMORY_FACTOR, MEMORY_MORE_KIB = 1.25, 8192  # of what was resident after the warm-up
AFTERMATH_S = 15.0  # what an engine's fault may lead to after it is over
LIMIT_S = 60
# As many addresses as an engine gives a network unless it is told otherwise: so many starts is one
# kept from others whose worker a killed engine has forgotten.
WIDE = [f"10.127.{n}.0/20" for n in range(0, 256, 16)]
FRONTS = 2


def services():
    """Those of the prober, one with a small queue, one for those who speak otherwise."""
    return {
        **prober.services(),
        "tight": rig.service("tight", concurrency=2, queue=4, idle_timeout="100ms"),
        "talk": rig.service("talk", idle_timeout="100ms"),
    }


# --- faults ---------------------------------------------------------------------------------------


class Faults:
    """Does one after the other, chosen by the seed, and remembers their windows."""

    KINDS = {
        "kill": 10,
        "pause": 3,
        "reload": 6,
        "front": 2,
        "control": 2,
        "anew": 1,
        "engine_stopped": 1,
        "engine_killed": 1,
    }

    def __init__(self, gate, engine, seed):
        self.gate, self.engine, self.random = gate, engine, random.Random(seed)
        self.killer = rig.Killer(gate, seed + 1)
        self.names = [load.split(":")[0] for load in LOADS] + ["talk"]
        self.counts, self.windows, self.away = collections.Counter(), [], []

    def one(self):
        """One fault, over when this returns."""
        kind = self.random.choices(list(self.KINDS), list(self.KINDS.values()))[0]
        getattr(self, "_" + kind)()
        self.counts[kind] += 1

    def all_windows(self):
        """Of kills, too."""
        return self.windows + self.killer.kills

    def _kill(self):
        self.killer.kill_any(self.names)

    def _reload(self):
        prober.change(self.gate, self.counts["reload"])
        self.gate.write_config()
        mark = self.gate.logs.mark()
        self.gate.process.send_signal(signal.SIGHUP)
        self.gate.wait_log(LIMIT_S, mark, event="configured")

    def _pause(self):
        """By hand: it is taken out of service, and what was open on it breaks off."""
        names = [name for name in self.names if self.killer.ready(name)]
        if not names:
            return
        name = self.random.choice(names)
        api = self.killer.client.api
        try:
            seen = api.inspect_container(self.killer.ready(name)[0])
            pidfd = os.pidfd_open(seen["State"]["Pid"])
        except (IndexError, ProcessLookupError, ValueError, OSError, docker.errors.APIError):
            return
        begin = rig.now_us()
        try:
            api.pause(seen["Id"])
            assert rig.await_end(pidfd, LIMIT_S), f"a paused container of {name} stays"
        except docker.errors.APIError:
            pass  # it went by itself
        finally:
            os.close(pidfd)
        host = seen["Config"]["Hostname"]
        self.windows.append(rig.Kill(name, begin, rig.now_us(), "pause", host))

    def _front(self):
        """kill -9: what is open on it is lost, and nothing else."""
        pid = self.random.choice(self.gate.fronts())
        pidfd = os.pidfd_open(pid)
        begin = rig.now_us()
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        rig.await_end(pidfd, LIMIT_S)
        os.close(pidfd)
        self.windows.append(rig.Kill(rig.ALL, begin, rig.now_us(), "front", ""))
        wait_until(lambda: len(self.gate.fronts()) == FRONTS, LIMIT_S, "its successor", 0.01)

    def _control(self):
        """kill -9: fronts outlive it; nothing breaks."""
        self.gate.kill9()
        time.sleep(self.random.uniform(0, 1))
        self.gate.start(timeout=LIMIT_S)
        self.killer.forget()

    def _anew(self):
        """It replaces itself by its program's file."""
        mark = self.gate.logs.mark()
        self.gate.spawned = mark
        self.gate.process.send_signal(signal.SIGUSR2)
        self.gate.wait_log(LIMIT_S, mark, event="engine-up")
        self.killer.forget()
        self.gate.wait_ready(timeout=LIMIT_S)

    def _engine_stopped(self):
        begin = rig.now_us()
        self.engine.suspend()
        time.sleep(self.random.uniform(2, 5))
        self.engine.resume()
        self._engine_back(begin, "stopped")

    def _engine_killed(self):
        begin = rig.now_us()
        self.engine.kill_dockerd()
        time.sleep(self.random.uniform(0, 1))
        self.engine.start_dockerd()
        self._engine_back(begin, "killed")

    def _engine_back(self, begin, how):
        self.gate.wait_ready(timeout=LIMIT_S)
        late = rig.now_us() + int(AFTERMATH_S * 1e6)
        self.away.append(rig.Kill(rig.ALL, begin, late, f"engine {how}", ""))
        self.killer.client = docker.DockerClient(
            base_url=self.gate.host, version="auto", timeout=60
        )


# --- what must balance ----------------------------------------------------------------------------


def descriptors(pid, engine):
    """How many are open. Not counted: kept connections to the engine, which come and go; that a
    listener of all fronts came from each of them; the watch of sockets, made when first needed."""
    kept = {f"socket:[{inode}]" for inode in proc.unix_peers(engine)}
    names = proc.files(pid)
    sockets = {name for name in names if name.startswith("socket:")}
    others = [n for n in names if not n.startswith("socket:") and n != "anon_inode:inotify"]
    return len(sockets - kept) + len(others)


def measure(gate, engine):
    """Descriptors and memory of control and of the fronts, the latter at most."""
    path = str(engine.directory / "docker.sock")
    fronts = gate.fronts()
    return {
        "control's descriptors": descriptors(gate.process.pid, path),
        "fronts' descriptors": sorted(descriptors(pid, path) for pid in fronts),
        "control's memory": proc.rss_kib(gate.process.pid),
        "fronts' memory": max(proc.rss_kib(pid) for pid in fronts),
    }


def left_on_engine(gate):
    """Containers of this owner, as the Docker CLI lists them."""
    words = ["docker", "-H", gate.host, "ps", "-aq", "--filter", f"label={OWNER}={gate.owner}"]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()


def lay_down(gate):
    """The configuration under which nothing is kept: what is stopped or parked goes, too."""
    gate.config["sandboxes"] = "off"
    for service in gate.config["services"].values():
        service.pop("on_idle", None)
    gate.write_config()
    answer = gate.admin.call("POST", "/v1/reload")
    assert answer.status == 200, answer.body


def until(what, condition, wrong):
    """Waits; what does not come true is wrong."""
    try:
        wait_until(condition, LIMIT_S, what, 0.05)
    except TimedOut as error:
        wrong.append(str(error))


def balance(gate, engine, start, warm):
    """After the load: everything is back. What is not."""
    wrong, end = [], {}

    def descriptors_back():
        end.update(measure(gate, engine))
        return all(end[key] == start[key] for key in start if "descriptors" in key)

    lay_down(gate)
    until("containers of the owner: 0", lambda: not left_on_engine(gate), wrong)
    metrics = gate.admin.metrics()
    for name in ("kipgate_exchanges", "kipgate_waiting", "kipgate_instances"):
        if rig.total(metrics, name) != 0:
            wrong.append(f"{name} is {rig.total(metrics, name)}")
    until(f"descriptors as at the start, {start}", descriptors_back, wrong)
    for key in ("control's memory", "fronts' memory"):
        bound = warm[key] * MEMORY_FACTOR + MEMORY_MORE_KIB
        if end[key] > bound:
            wrong.append(f"{key}: {end[key]} KiB, after the warm-up {warm[key]}: over {bound:.0f}")
    rig.table(
        "balance: at the start, warm, at the end", [(k, (start[k], warm[k], end[k])) for k in end]
    )
    return wrong


# --- accounts -------------------------------------------------------------------------------------


class Account:
    """What all clients together saw."""

    def __init__(self, asked, talking):
        self.odd = asked.odd + [line for talker in talking for line in talker.odd]
        self.classes = collections.Counter({k: asked.totals[k] for k in ("sent", *rig.CLASSES)})
        self.services = {name: collections.Counter(c) for name, c in asked.services.items()}
        for talker in talking:
            self.classes.update(talker.counts)
            self.services.setdefault(talker.service, collections.Counter()).update(talker.codes)

    def unexplained(self, faults):
        """Requests that ended as they must not."""
        windows, found = faults.all_windows(), []
        for line in self.odd:
            if line.kind in ("failed", "cut"):
                good = rig.explained(line, windows)
            elif line.kind == "dropped":
                good = rig.explained(line, faults.windows)
            elif line.kind == "refused":
                full = line.service == "tight" and line.why.endswith("queue-full")
                good = full or (
                    line.why.split()[-1] in REFUSALS and rig.explained(line, faults.away)
                )
            else:
                good = False
            if not good:
                found.append(f"unexplained: {line}")
        return found

    def in_front_windows(self, faults):
        """How many requests a front's end may have taken along uncounted."""
        fronts = [window for window in faults.windows if window.service == rig.ALL]
        return len(fronts) + sum(rig.explained(line, fronts) for line in self.odd)


def differences(account, gate, may_miss):
    """Where the fronts' counters are not the clients': a front's end takes some along."""
    found = rig.miscounts(account.services, gate)
    missing = sum(abs(m.client - m.fronts) for m in found)
    return [] if missing <= may_miss else [f"{m}; {may_miss} in all may be" for m in found]


def report(account, faults, events, seconds):
    """Prints what was done and how it went."""
    reasons = collections.Counter(
        line.why.split()[-1] for line in account.odd if line.kind == "refused"
    )
    rig.table(
        "soak",
        [
            ("requests", account.classes["sent"]),
            ("answered right", account.classes["right"]),
            ("502", account.classes["failed"]),
            ("cut", account.classes["cut"]),
            ("dropped", account.classes["dropped"]),
            ("refused", dict(reasons)),
            ("wrong", account.classes["wrong"]),
            ("cold starts", events["cold"]),
            ("reaped, stopped, replaced", events["gone"]),
            ("faults", dict(faults.counts)),
            ("workers killed", len(faults.killer.kills)),
            ("seconds", f"{seconds:.0f}"),
        ],
    )


def happened(gate):
    """Cold starts and ends of instances, by the log: counters of control end with it."""
    lines = [line for line in gate.logs.all() if line.get("event") == "instance-state"]
    return {
        "cold": sum(line["from"] == "probing" and line["to"] == "ready" for line in lines),
        "gone": sum(line["to"] == "stopping" for line in lines),
    }


# --- the whole ------------------------------------------------------------------------------------


def load(gate, engine, seed, seconds, certificate):
    """Load and faults; gives the clients, the faults and what was measured when it was warm."""
    asked = rig.Prober(gate.front[1], seed, 1 << 60, seconds + 3600, LOADS, say=print)
    addresses = {"tls": gate.tls}
    talking = [
        talkers.Talker(way, "talk", addresses.get(way, gate.front), seed + n, trusting(certificate))
        for n, way in enumerate(WAYS)
    ]
    faults = Faults(gate, engine, seed)
    began, warm = time.monotonic(), None
    try:
        while time.monotonic() - began < seconds:
            time.sleep(faults.random.uniform(0.1, 1.2))
            if warm is None and time.monotonic() - began > seconds / 5:
                warm = measure(gate, engine)
            faults.one()
    finally:
        for talker in talking:
            talker.stopped.set()
        asked.end()
        for talker in talking:
            talker.stop()
    return asked, talking, faults, warm


def run(seconds, seed):
    """The whole; what is wrong."""
    certificate = Certificate(talkers.HOST)
    with own_engine(settings.docker_host(), settings.echo_image()) as engine:
        protocols = ["h2", "http/1.1", "h2c"]
        gate = Kipgate(services(), engine=engine.host, config={"log_level": "info"})
        secure(gate, certificate.write(gate.directory), protocols=protocols)
        rig.make_network(gate, WIDE, **{"io.kipgate.addresses": "chosen"})
        with gate:
            start, began = measure(gate, engine), time.monotonic()
            asked, talking, faults, warm = load(gate, engine, seed, seconds, certificate)
            gate.wait_ready(timeout=LIMIT_S)
            account = Account(asked, talking)
            report(account, faults, happened(gate), time.monotonic() - began)
            wrong = account.unexplained(faults)
            ended = sum(account.classes[kind] for kind in rig.CLASSES)
            if ended != account.classes["sent"]:
                wrong.append(f"{account.classes['sent'] - ended} requests without an end")
            wrong += differences(account, gate, account.in_front_windows(faults))
            return wrong + balance(gate, engine, start, warm)


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("minutes", type=float, nargs="?", default=10)
    rig.main(parser, lambda words: run(words.minutes * 60, words.seed))


if __name__ == "__main__":
    main()
