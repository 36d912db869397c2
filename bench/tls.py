# SPDX-License-Identifier: Apache-2.0
"""What TLS costs at Kipgate and at nginx: full and resumed handshakes, and bulk both ways. The
difficulty: the same certificate, versions, ciphers and curves on both, tickets on both, one process
each on one core; and a client costs as much as the server, so what counts is the server's own
time."""
import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

from common import BULK_IMAGE, build_bulk, compile_c, engine, median, need, preamble, program
from common import table, version
from harness import net
from harness.tls import Certificate, secure
from warm_peers import LOAD_CORE, NGINX, PROXY_CORE, kipgate, service, spawn_peer

MB = 1e6
BODY_BYTES = 100_000_000
NAME = "bench.test"
CIPHERS = (
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"
    "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384"
)
NGINX_TLS = """
    listen 127.0.0.1:{tls} ssl; ssl_certificate {certificate}; ssl_certificate_key {key};
    ssl_protocols TLSv1.2 TLSv1.3; ssl_prefer_server_ciphers on; ssl_session_cache off;
    ssl_session_tickets on; ssl_ciphers {ciphers}; ssl_ecdh_curve X25519:prime256v1:secp384r1;
    ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384;
"""
WHAT = ["full", "resumed", "down", "up"]


def options():
    """The command line."""
    parser = argparse.ArgumentParser(prog="bench/tls.sh", description=__doc__.partition(". ")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4, help="of one measurement")
    parser.add_argument("--clients", type=int, default=16, help="that shake hands at once")
    parser.add_argument("--version", choices=["1.2", "1.3"], default="1.3")
    parser.add_argument("--key", choices=["ecdsa", "rsa"], default="ecdsa")
    parser.add_argument("--json", help="also write all rounds to this file")
    parser.add_argument("--smoke", action="store_true", help="one short round: does it run at all")
    args = parser.parse_args()
    if args.smoke:
        args.rounds, args.seconds = 1, 0.5
    return args


class Measured:
    """One kind of load on one peer: rate and the server's seconds for each."""

    def __init__(self, args, binary, peer, what):
        cpu = peer.cpu()
        size = str(BODY_BYTES if what in ("down", "up") else args.clients)
        command = [binary, str(peer.tls), args.version, str(args.seconds), what, size]
        done = subprocess.run(
            ["taskset", "-c", LOAD_CORE, *command], capture_output=True, text=True, check=True
        )
        count, failed, seconds = done.stdout.split()
        if int(failed) or not int(count):
            sys.exit(f"{peer.name}, {what}: {count} went well, {failed} did not")
        self.rate = int(count) / float(seconds)
        self.cpu = (peer.cpu() - cpu) / int(count)


def nginx(args, directory, worker, paths):
    """nginx with a TLS listener beside the plain one."""
    port = net.free_port()
    more = NGINX_TLS.format(tls=port, ciphers=CIPHERS, **paths)
    text = NGINX.replace("    listen 127.0.0.1:{port};", "    listen 127.0.0.1:{port};" + more)
    peer, process = spawn_peer("nginx", text, ["nginx", "-p", directory, "-c"], directory, worker,
                               1024)
    peer.tls = port
    return peer, process


def figures(found, name, what):
    """Medians of rate and time."""
    rounds = [one[name][what] for one in found]
    return median([m.rate for m in rounds]), median([m.cpu for m in rounds])


def row(title, pairs):
    """Handshakes/s and us each; MB/s and ms for each GB."""
    cells = [title]
    for what, (rate, cpu) in zip(WHAT, pairs):
        bulk = what in ("down", "up")
        cells += [f"{rate * BODY_BYTES / MB:.0f}" if bulk else f"{rate:.0f}"]
        cells += [f"{cpu * 1e12 / BODY_BYTES:.0f}" if bulk else f"{cpu * 1e6:.0f}"]
    return cells


def show(found):
    """The table, with ratios of medians."""
    pairs = {name: [figures(found, name, what) for what in WHAT] for name in ("kipgate", "nginx")}
    header = ["", "full/s", "CPU us", "resumed/s", "CPU us", "down MB/s", "CPU ms/GB"]
    header += ["up MB/s", "CPU ms/GB"]
    ratios = ["kipgate / nginx"]
    for ours, theirs in zip(pairs["kipgate"], pairs["nginx"]):
        ratios += [f"{a / b:.2f}" if b else "-" for a, b in zip(ours, theirs)]
    print(table(header, [row(name, p) for name, p in pairs.items()] + [ratios]))


def measure(args, peers, binary):
    """All rounds, the peers in turns."""
    found = []
    for _ in range(args.rounds):
        one = {peer.name: {} for peer in peers}
        for what in WHAT:
            for peer in peers:
                one[peer.name][what] = Measured(args, binary, peer, what)
        found.append(one)
        peers.reverse()
    return found


def run(args, host, directory):
    """Starts both, measures, ends both."""
    binary = str(pathlib.Path(directory) / "tls_load")
    compile_c("tls_load.c", binary, "-pthread", "-Wl,--no-as-needed", "-lssl", "-lcrypto")
    certificate = Certificate(NAME, rsa_bits=2048 if args.key == "rsa" else 0)
    paths = certificate.write(pathlib.Path(directory))
    process = None
    with kipgate(
        host, service(BULK_IMAGE), prepare=lambda gate: secure(gate, paths)
    ) as (gate, ours, address):
        try:
            ours.tls = gate.tls[1]
            peer, process = nginx(args, directory, address, paths)
            return measure(args, [ours, peer], binary)
        finally:
            if process:
                process.terminate()
                process.wait(10)


def main():
    """Versions, figures, ratios."""
    args = options()
    need("nginx", "taskset", "openssl")
    if os.cpu_count() < 2:
        sys.exit("two cores are needed: one for the server, one for the clients")
    versions = [(program(), "version"), ("nginx", "-v"), ("openssl", "version")]
    preamble(*(version(*command) for command in versions))
    print(
        f"medians of {args.rounds} rounds of {args.seconds:g} s, TLS {args.version}, {args.key} "
        f"key, {args.clients} clients, server on core {PROXY_CORE}, clients and worker on core "
        f"{LOAD_CORE}\n"
    )
    began, directory = time.time(), tempfile.mkdtemp(prefix="kgt")
    os.chmod(directory, 0o755)
    try:
        with engine() as host:
            build_bulk(host)
            found = run(args, host, directory)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    show(found)
    if args.json:
        plain = [{n: {w: vars(m) for w, m in all_.items()} for n, all_ in r.items()} for r in found]
        pathlib.Path(args.json).write_text(json.dumps(plain, indent=2))
    print(f"\ntook {time.time() - began:.0f} s")


if __name__ == "__main__":
    main()
