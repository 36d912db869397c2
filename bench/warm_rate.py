# SPDX-License-Identifier: Apache-2.0
"""Requests a second, CPU time and latencies, beside nginx and HAProxy; and two fronts beside one.
The difficulty: figures drift with what the machine does, so all are measured in turn, round by
round, each time in another order."""
import os

from common import BACKEND_IMAGE, Mark, median, table
from warm_peers import LOAD_CORE, PROXY_CORE, field, kipgate, on_socket, service

KEYS = ["rate", "cpu_us", "p50_us", "p99_us", "one_p50_us", "half_p50_us", "half_p99_us"]
HEADER = ["requests/s", "cpu us/request", "p50 us", "p99 us", "1-conn p50 us"]
HEADER += ["half load: p50 us", "p99 us"]


def measure(bench, peer, half):
    """One round of one proxy: many connections, one, and many at half load."""
    args = bench.args
    before = peer.cpu()
    many = bench.load.full(peer.port, args.connections, args.seconds)
    cpu = peer.cpu() - before
    one = bench.load.full(peer.port, 1, max(1, args.seconds // 2))
    paced = bench.load.paced(peer.port, args.connections, half, args.seconds)
    return {
        "rate": many["rate"],
        "cpu_us": cpu * 1e6 / many["requests"],
        "p50_us": many["p50"],
        "p99_us": many["p99"],
        "one_p50_us": one["p50"],
        "half_p50_us": paced["p50"],
        "half_p99_us": paced["p99"],
    }


def ratios(results, mid):
    """Kipgate's figures by the better peer's, round by round: what drifts does so for both."""
    found = {}
    for key in KEYS:
        pick = max if key == "rate" else min
        best = pick((name for name in mid if name != "kipgate"), key=lambda name: mid[name][key])
        pairs = zip(results["kipgate"], results[best])
        found[key] = median([ours[key] / theirs[key] for ours, theirs in pairs])
    return found


def report(mid, direct, ratio):
    """The table, with the ratios to the better peer."""
    rows = [
        [name] + [f"{m[k]:.{1 if k == 'cpu_us' else 0}f}" for k in KEYS] for name, m in mid.items()
    ]
    if direct:
        rows.append(["(no proxy)", f"{direct:.0f}"] + [""] * (len(KEYS) - 1))
    rows.append(["kipgate / better peer"] + [f"{ratio[k]:.2f}" for k in KEYS])
    print(table([""] + HEADER, rows))
    if direct and direct < 1.2 * mid["kipgate"]["rate"]:
        print("note: the load is near its own limit: CPU time per request is the figure to trust")


def side_by_side(bench, worker):
    """All rounds of the three; gives the ratios to the better peer and all figures."""
    args = bench.args
    with field(bench, worker) as (peers, address):
        fastest = max(bench.load.full(p.port, args.connections, 1)["rate"] for p in peers[1:])
        results, direct = {peer.name: [] for peer in peers}, []
        for round_ in range(args.rounds):
            at = round_ % len(peers)
            for peer in peers[at:] + peers[:at]:
                results[peer.name].append(measure(bench, peer, fastest / 2))
            if ":" in address and not address.startswith(("unix:", "/")):
                direct.append(bench.load.full(address, args.connections, args.seconds)["rate"])
    mid = {
        name: {k: median([r[k] for r in rounds]) for k in KEYS} for name, rounds in results.items()
    }
    ratio = ratios(results, mid)
    report(mid, median(direct) if direct else None, ratio)
    print(f"half load: {fastest / 2:.0f} requests/s, half of what the faster peer did at most\n")
    return ratio, {"medians": mid, "rounds": results}


def tcp(bench):
    """The worker on TCP."""
    ratio, figures = side_by_side(bench, service(BACKEND_IMAGE))
    return figures, [
        Mark("TCP worker: CPU time / better peer's", ratio["cpu_us"], 0.90),
        Mark("TCP worker: requests/s / better peer's", ratio["rate"], 1.0, True),
        Mark("TCP worker: p50 at one connection / better peer's", ratio["one_p50_us"], 1.0),
        Mark("TCP worker: p99 at half load / better peer's", ratio["half_p99_us"], 1.1),
    ]


def unix(bench):
    """The worker on a Unix socket, for the peers too."""
    ratio, figures = side_by_side(bench, on_socket(BACKEND_IMAGE))
    return figures, [
        Mark("Unix worker: CPU time / better peer's", ratio["cpu_us"], 0.80),
        Mark("Unix worker: requests/s / better peer's", ratio["rate"], 1.0, True),
        Mark("Unix worker: p50 at one connection / better peer's", ratio["one_p50_us"], 1.0),
        Mark("Unix worker: p99 at half load / better peer's", ratio["half_p99_us"], 1.1),
    ]


def fronts(bench):
    """Two fronts on two cores beside one; load and worker have a core each."""
    name = "two fronts / one: requests/s"
    if os.cpu_count() < 4:
        why = f"{os.cpu_count()} cores, and four are needed"
        print(f"not available: {why}\n")
        return {"not available": why}, [Mark(name, None, 1.8, True, why)]
    rates = {1: [], 2: []}
    worker = service(BACKEND_IMAGE)
    with kipgate(bench.host, worker, worker_core="3") as (_, one, _), kipgate(
        bench.host, worker, cores=(PROXY_CORE, "2"), worker_core="3"
    ) as (_, two, _):
        for _ in range(bench.args.rounds):
            for count, peer in ((1, one), (2, two)):
                found = bench.load.full(
                    peer.port, bench.args.connections, bench.args.seconds, LOAD_CORE
                )
                rates[count].append(found["rate"])
    mid = {count: median(found) for count, found in rates.items()}
    print(table(["fronts", "requests/s"], [[str(c), f"{r:.0f}"] for c, r in mid.items()]) + "\n")
    return {"rates": rates}, [Mark(name, mid[2] / mid[1], 1.8, True)]
