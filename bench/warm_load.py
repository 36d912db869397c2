# SPDX-License-Identifier: Apache-2.0
"""The loads of the warm bench, all on the load's core: wrk as fast as it goes, a constant rate,
connections that are held. The difficulty: a load that met an error measured something else, so it
ends the bench."""
import contextlib
import json
import pathlib
import subprocess
import sys

from common import compile_c
from warm_peers import LOAD_CORE

LUA = """
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('JSON {"requests":%d,"us":%d,"p50":%d,"p99":%d,"bad":%d}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    e.connect + e.read + e.write + e.status + e.timeout))
end
"""


class Load:
    """What is made once in the bench's directory: wrk's report and the compiled load."""

    def __init__(self, directory):
        self.lua = pathlib.Path(directory) / "report.lua"
        self.program = pathlib.Path(directory) / "warm_load"
        self.lua.write_text(LUA)
        compile_c("warm_load.c", self.program)

    def full(self, address, connections, seconds, core=LOAD_CORE):
        """One run of wrk; `address` is a port of loopback or host:port."""
        address = f"127.0.0.1:{address}" if isinstance(address, int) else address
        command = ["taskset", "-c", core, "wrk", "-t1", f"-c{connections}", f"-d{seconds}s"]
        command += ["-s", str(self.lua), f"http://{address}/"]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for line in done.stdout.splitlines():
            if line.startswith("JSON "):
                found = json.loads(line[5:])
                if found["bad"]:
                    sys.exit(f"{address} gave {found['bad']} errors: no figures from that")
                return {**found, "rate": found["requests"] / (found["us"] / 1e6)}
        sys.exit(f"wrk said nothing usable: {done.stdout}")

    def _own(self, *words):
        return ["taskset", "-c", LOAD_CORE, str(self.program), *map(str, words)]

    def paced(self, port, connections, rate, seconds):
        """One run at a constant rate; latencies count from when a request was due."""
        command = self._own("pace", port, connections, rate, seconds)
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"the load at a constant rate failed: {done.stderr}")
        return json.loads(done.stdout)

    @contextlib.contextmanager
    def held(self, port, connections):
        """That many kept connections, each of which had a request and its answer."""
        process = subprocess.Popen(
            self._own("hold", port, connections),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            if not process.stdout.readline():
                sys.exit(f"{connections} connections could not be made")
            yield
        finally:
            process.stdin.close()
            process.wait(60)
