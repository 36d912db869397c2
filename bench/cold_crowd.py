# SPDX-License-Identifier: Apache-2.0
"""Many first requests at once. The difficulty: a thousand clients in one Python process take time
of their own, so all are connected before the first of them speaks, and the time that the client
needs for the same answers from a warm service is measured, too."""
import asyncio
import concurrent.futures
import os
import sys
import time
import uuid

from cold_engine import EngineConnection, address_of, listening
from cold_stages import close_gate, open_gate, parked, service, sleep, wait_for

BURST = 16
CROWD = 1000


async def _one(connection, data, began):
    """Sends, reads to the end; gives the seconds to the first byte."""
    reader, writer = connection
    writer.write(data)
    first = await asyncio.wait_for(reader.read(1 << 16), 60)
    took = time.perf_counter() - began
    rest = await asyncio.wait_for(reader.read(-1), 60)
    writer.close()
    return took, first + rest


async def _all(address, datas):
    connections = [await asyncio.open_connection(*address) for _ in datas]
    began = time.perf_counter()
    return await asyncio.gather(
        *[_one(connection, data, began) for connection, data in zip(connections, datas)]
    )


def at_once(address, targets):
    """All requests at once; seconds to the first byte of each, and all must be answered."""
    datas = [
        f"GET {target} HTTP/1.1\r\nHost: kipgate.test\r\nConnection: close\r\n\r\n".encode()
        for target in targets
    ]
    answers = asyncio.run(_all(address, datas))
    wrong = [answer[:300] for _, answer in answers if not answer.startswith(b"HTTP/1.1 200 ")]
    if wrong:
        sys.exit(f"{len(wrong)} of {len(answers)} were not answered well, as {wrong[0]}")
    return [took for took, _ in answers]


class EngineBurst:
    """The engine's floor of a burst: as many starts at once as Kipgate allows itself."""

    rows = [f"engine: {BURST} containers, each", f"engine: {BURST} containers, the last"]

    def __init__(self, host, settings):
        self.host, self.settings = host, settings
        self.made = []

    def _one(self, began):
        connection = EngineConnection(self.host)
        container = connection.call(
            "POST", f"/containers/create?name=kgbench-{uuid.uuid4().hex[:8]}", self.settings
        )["Id"]
        self.made.append(container)
        connection.call("POST", f"/containers/{container}/start")
        listening(address_of(connection, container))
        connection.close()
        return time.perf_counter() - began

    def measure(self):
        """All of them; gives a list for each row."""
        began = time.perf_counter()
        with concurrent.futures.ThreadPoolExecutor(2 * os.cpu_count()) as pool:
            took = list(pool.map(self._one, [began] * BURST))
        self.remove()
        return [took, [max(took)]]

    def remove(self):
        """What was made goes."""
        connection = EngineConnection(self.host)
        for container in self.made:
            connection.call("DELETE", f"/containers/{container}?force=1")
        self.made = []

    def close(self):
        """Nothing is left."""
        self.remove()


class Burst:
    """First requests to different services at once."""

    def __init__(self, host, words, **top):
        self.rows = [
            f"kipgate: {BURST} services at once, {words}, each",
            f"kipgate: {BURST} services at once, {words}, the last",
        ]
        self.names = [f"s{index}" for index in range(BURST)]
        self.parks = not top
        self.gate = open_gate(host, {name: service(f"/{name}/") for name in self.names}, **top)
        at_once(self.gate.front, ["/s0/"])
        if self.parks:
            wait_for(lambda: parked(self.gate), "a parked network namespace")

    def measure(self):
        """All to sleep, then all at once; gives a list for each row."""
        for name in self.names:
            sleep(self.gate, name)
        if self.parks:
            wait_for(lambda: parked(self.gate), "a parked network namespace")
        took = at_once(self.gate.front, [f"/{name}/" for name in self.names])
        return [took, [max(took)]]

    def close(self):
        """Ends its Kipgate."""
        close_gate(self.gate)


class Crowd:
    """Simultaneous first requests to one service."""

    def __init__(self, host):
        self.rows = [
            f"kipgate: {CROWD} first requests at once, each",
            f"kipgate: {CROWD} first requests at once, the last",
            f"kipgate: {CROWD} warm requests at once, the last",
        ]
        self.gate = open_gate(host, {"crowd": service(queue=2 * CROWD, concurrency=2 * CROWD)})

    def measure(self):
        """Asleep, then all at once, then all again; exactly one container is made."""
        sleep(self.gate, "crowd")
        before = len(self.gate.witness.actions("create", "crowd"))
        cold = at_once(self.gate.front, ["/small"] * CROWD)
        warm = at_once(self.gate.front, ["/small"] * CROWD)
        made = len(self.gate.witness.actions("create", "crowd")) - before
        if made != 1:
            sys.exit(f"{CROWD} simultaneous first requests made {made} containers")
        return [cold, [max(cold)], [max(warm)]]

    def close(self):
        """Ends its Kipgate."""
        close_gate(self.gate)
