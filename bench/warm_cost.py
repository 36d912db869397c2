# SPDX-License-Identifier: Apache-2.0
"""What a warm request costs whatever the machine: its system calls, and that many services cost no
more than one. The difficulty: strace slows what it counts, so here only counts are taken; and clock
reads and allocations are no system calls, so those come from the counting test."""
import contextlib
import pathlib
import re
import subprocess
import time

import instructions
from common import BACKEND_IMAGE, Mark, median, program, table
from harness.calls import counted
from warm_peers import field, kipgate, service


def allocations():
    """Allocations and clock reads beyond the loop's, a request, from the counting test."""
    test = pathlib.Path(program()).parent / "tests/orchestrator_warm"
    if not test.is_file():
        return None, f"{test} is not built"
    said = subprocess.run([str(test)], capture_output=True, text=True, env={"CK_FORK": "no"}).stdout
    counts = re.findall(
        r"(\d+) requests: .* in (\d+) turns, (\d+) clock reads, (\d+) allocations", said
    )
    if not counts:
        return None, f"{test} printed no counts"
    requests, turns, clock, made = (sum(int(c[i]) for c in counts) for i in range(4))
    return {"made": made / requests, "clock": max(0, clock - 2 * turns) / requests}, ""


def calls(bench):
    """System calls of a warm request, at 64 kept connections."""
    found = {}
    with field(bench, service(BACKEND_IMAGE)) as (peers, _):
        for peer in peers:
            bench.load.full(peer.port, bench.args.connections, 1)  # the worker's connections
            with counted(peer.server()) as made:
                load = bench.load.full(peer.port, bench.args.connections, bench.args.seconds)
            kinds = made.kinds()
            found[peer.name] = {kind: n / load["requests"] for kind, n in kinds.items()}
    header = ["system calls a request", *kinds]
    rows = [[name] + [f"{n:.3f}" for n in counts.values()] for name, counts in found.items()]
    print(table(header, rows) + "\n")
    ours = found["kipgate"]
    heap, why = allocations()
    marks = [
        Mark("reads a request", ours["reads"], 2.1),
        Mark("writes a request", ours["writes"], 2.1),
        Mark("epoll_ctl a request", ours["epoll_ctl"], 0.1),
        Mark("clock reads a request (system calls)", ours["clock"], 0),
        Mark("clock reads a request (ours, by any way)", heap and heap["clock"], 0, note=why),
        Mark("malloc a request", heap and heap["made"], 0, note=why),
    ]
    return found, marks


# --- many services --------------------------------------------------------------------------------


def many(count):
    """Services beside the one that is asked: each with routes by name and by path."""
    return {
        f"other-{i}": service(BACKEND_IMAGE, routes=[f"host-{i}.example.org/a", f"/p{i}/"])
        for i in range(count - 1)
    }


def services(bench):
    """CPU time of a request with 1, 100 and 5,000 services, in turn."""
    counts = (1, 100) if bench.args.smoke else (1, 100, 5000)
    found = {count: [] for count in counts}
    with contextlib.ExitStack() as stack:
        peers = {}
        for count in counts:
            worker = service(BACKEND_IMAGE, routes=["/"])
            gate = kipgate(bench.host, worker, others=many(count))
            peers[count] = stack.enter_context(gate)[1]
            time.sleep(0.5)  # what begins with a start is over
        for round_ in range(bench.args.rounds):
            at = round_ % len(counts)
            for count in counts[at:] + counts[:at]:
                before = peers[count].cpu()
                load = bench.load.full(
                    peers[count].port, bench.args.connections, bench.args.seconds
                )
                cpu = (peers[count].cpu() - before) * 1e6 / load["requests"]
                found[count].append({"cpu_us": cpu, "rate": load["rate"]})
    return found, report_services(found, counts)


def exact(count):
    """Instructions of a request with so many services, where that can be counted."""
    test = pathlib.Path(program()).parent / "tests/orchestrator_warm"
    try:
        return instructions.per_request(str(test), "small", count)[instructions.GUARDED]
    except (OSError, SystemExit):
        return None


def report_services(found, counts):
    """The table, and the marks of the largest count against one."""
    mid = {c: {k: median([r[k] for r in found[c]]) for k in found[c][0]} for c in counts}
    ours = {c: exact(c) for c in counts}
    rows = [
        [f"{c} (routes: {2 * c - 1})", f"{m['cpu_us']:.1f}", f"{m['rate']:.0f}"]
        + [f"{ours[c]:.0f}" if ours[c] else "-"]
        for c, m in mid.items()
    ]
    print(table(["services", "cpu us/request", "requests/s", "instructions, ours"], rows) + "\n")
    last, name = counts[-1], f"{counts[-1]} services / one"
    exactly = ours[last] / ours[1] if ours[1] and ours[last] else None
    return [
        Mark(f"{name}: CPU time", mid[last]["cpu_us"] / mid[1]["cpu_us"], 1.05),
        Mark(f"{name}: instructions", exactly, 1.05, note="no valgrind or no counting test"),
    ]
