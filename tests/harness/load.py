# SPDX-License-Identifier: Apache-2.0
"""Loads of bounded size. The difficulty: a thousand clients in one Python process must not be
slower to begin than what they measure, so they are coroutines that connect first and speak
together."""
import asyncio
import threading
import time

from harness import raw
from harness.echo import get, sse
from harness.waiting import Background


async def _one(address, data, go, timeout):
    """Connects, waits for the word, asks once and reads to the end."""
    reader, writer = await asyncio.wait_for(asyncio.open_connection(*address), timeout)
    await go.wait()
    writer.write(data)
    try:
        return await asyncio.wait_for(reader.read(-1), timeout)
    finally:
        writer.close()


async def _burst(address, datas, timeout):
    go = asyncio.Event()
    tasks = [asyncio.ensure_future(_one(address, data, go, timeout)) for data in datas]
    await asyncio.sleep(0)
    started = asyncio.get_running_loop().create_task(_say(go))
    done = await asyncio.gather(*tasks, return_exceptions=True)
    await started
    return done


async def _say(go):
    """Gives the connections a moment to be made, then lets all speak at once."""
    await asyncio.sleep(0.5)
    go.set()


def burst(address, datas, timeout=60):
    """All requests at once, each on its own connection (they must ask for `Connection: close`).
    Gives the raw answers, or the exception, in order."""
    return asyncio.run(_burst(address, datas, timeout))


class WarmLoad:
    """Requests one after the other on kept connections until told to stop. Every failure is kept;
    `failed` must stay empty. A connection that the front closed between two requests is opened
    again: only an answer that was owed and did not come is a failure."""

    def __init__(self, address, target="/", clients=4, host="kipgate.test", pause=0.002):
        self.address, self.pause = address, pause
        self.data = f"GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
        self.stopped = threading.Event()
        self.count, self.failed, self.slowest, self.bodies = 0, [], 0.0, set()
        self.lock = threading.Lock()
        self.tasks = [Background(self._run) for _ in range(clients)]

    def _run(self):
        client = None
        while not self.stopped.is_set():
            began = time.monotonic()
            try:
                client = client or raw.RawClient(self.address, 15)
                response = client.send(self.data).response()
                ok = response.status == 200
                error = None if ok else (response.status, response.body[:200])
                if response.closes:
                    client.close()
                    client = None
            except (OSError, raw.Broken) as problem:
                error, client = repr(problem), None
            self._note(error, time.monotonic() - began)
            time.sleep(self.pause)
        if client:
            client.close()

    def _note(self, error, took):
        with self.lock:
            self.count += 1
            self.slowest = max(self.slowest, took)
            if error:
                self.failed.append((time.monotonic(), error))

    def stop(self):
        """Ends the load; gives how many requests were made."""
        self.stopped.set()
        for task in self.tasks:
            task.result(30)
        return self.count


class Held:
    """Requests that last until told, each on a connection of its own."""

    def __init__(self, gate, count=0):
        self.gate, self.clients = gate, []
        for _ in range(count):
            self.more()

    def more(self):
        """One more, which is being answered when this returns."""
        client = self.gate.raw(30)
        client.send(get(sse(100000, 200)))
        head = client.final_head(30)
        assert head.status == 200, head
        self.clients.append(client)
        return head

    def release(self, count=None):
        """Ends some of them, the oldest first, or all."""
        count = len(self.clients) if count is None else count
        going, self.clients = self.clients[:count], self.clients[count:]
        for client in going:
            client.close()
