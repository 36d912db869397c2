# SPDX-License-Identifier: Apache-2.0
"""The admin API as a test asks it."""
import json
import re
import threading
import time

from harness import raw
from harness.waiting import Mailbox


class Admin:
    """Calls of one admin listener, by TCP address or Unix socket."""

    def __init__(self, address):
        self.address = address

    def call(self, method, path, body=None, timeout=60.0):
        """A response; `body` is sent as JSON unless it is bytes already."""
        data = (
            b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        )
        return raw.get(
            self.address,
            path,
            [("Content-Type", "application/json")] if data else (),
            host="localhost",
            method=method,
            body=data,
            timeout=timeout,
        )

    def json(self, path, timeout=10.0):
        """The parsed answer of a GET that must succeed."""
        response = self.call("GET", path, timeout=timeout)
        assert response.status == 200, (response.status, response.body)
        assert response.one("Content-Type").split(";")[0] == "application/json"
        return json.loads(response.body)

    def status(self, path, timeout=10.0):
        """The status of a GET."""
        return self.call("GET", path, timeout=timeout).status

    def service(self, name):
        """Configuration and instances of a service."""
        return self.json(f"/v1/services/{name}")

    def instances(self, name):
        """Instances of a service."""
        return self.service(name)["instances"]

    def wake(self, name, timeout=60.0):
        """The response to a wake."""
        return self.call("POST", f"/v1/services/{name}/wake", timeout=timeout)

    def sleep(self, name, timeout=60.0):
        """The response to a sleep."""
        return self.call("POST", f"/v1/services/{name}/sleep", timeout=timeout)

    def metrics(self):
        """Metric lines as {'name{labels}': value}."""
        response = self.call("GET", "/metrics")
        assert response.status == 200
        return parse_metrics(response.body.decode())

    def metric(self, name, **labels):
        """The sum of a metric over all label sets that contain the given labels."""
        total = 0.0
        for (key, have), value in self.metrics().items():
            if key == name and labels.items() <= dict(have).items():
                total += value
        return total

    def follow(self):
        """Follows /v1/events from now on."""
        return Events(self.address)


LINE = re.compile(r'^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$')
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"(?:,|$)')


def parse_metrics(text):
    """Prometheus text, strictly: a line that is neither comment nor sample fails."""
    samples = {}
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        match = LINE.match(line)
        assert match, f"not a Prometheus sample: {line!r}"
        labels = match.group(2) or ""
        pairs = tuple(sorted(LABEL.findall(labels)))
        assert LABEL.sub("", labels) == "", f"bad labels: {line!r}"
        assert (match.group(1), pairs) not in samples, f"a sample came twice: {line!r}"
        samples[match.group(1), pairs] = float(match.group(3))
    return samples


class Events:
    """The event stream, read on a thread into a mailbox of parsed events."""

    def __init__(self, address):
        self.mailbox = Mailbox()
        self.client = raw.RawClient(address, timeout=3600)
        self.client.send(b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self.head = self.client.final_head(10)
        assert self.head.status == 200, self.head
        assert self.head.one("Content-Type").startswith("text/event-stream")
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        """Takes the chunks apart by their `data:` lines: chunk borders carry no meaning."""
        deadline = time.monotonic() + 3600
        text = b""
        try:
            while True:
                line = self.client._until(b"\r\n", deadline)
                size = int(line, 16)
                if size == 0:
                    return
                text += self.client._exactly(size + 2, deadline)[:-2]
                *whole, text = text.split(b"\n\n")
                for block in whole:
                    self._take(block)
        except (OSError, raw.Broken, ValueError):
            return

    def _take(self, block):
        for line in block.splitlines():
            if line.startswith(b"data:"):
                self.mailbox.put(json.loads(line[5:]))

    def close(self):
        """Hangs up."""
        self.client.close()
