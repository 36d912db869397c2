# SPDX-License-Identifier: Apache-2.0
"""The echo worker's switches as tests use them (see examples/echo-worker/README.md)."""
import base64
import json
import re
import urllib.parse


def raw_target(answer, **switches):
    """Target of a request that the worker answers with exactly these bytes."""
    coded = base64.urlsafe_b64encode(answer).decode().rstrip("=")
    query = {"b64": coded, **{key: str(value) for key, value in switches.items()}}
    return "/raw?" + urllib.parse.urlencode(query)


def raw_post(answer, *fields, **switches):
    """A POST whose body is the exact answer: for answers that do not fit a target."""
    query = urllib.parse.urlencode(switches)
    lines = [
        f"POST /raw?{query} HTTP/1.1",
        "Host: kipgate.test",
        f"Content-Length: {len(answer)}",
        *fields,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + answer


def get(target, *fields, method="GET"):
    """A request's bytes."""
    lines = [f"{method} {target} HTTP/1.1", "Host: kipgate.test", *fields]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"


class Dump:
    """What the worker received, taken apart."""

    def __init__(self, received):
        head, _, self.body = received.partition(b"\r\n\r\n")
        self.first, *self.lines = head.decode("latin-1").split("\r\n")

    def all(self, name):
        """Values of a field, in order."""
        pairs = (line.partition(":") for line in self.lines)
        return [value.strip() for key, _, value in pairs if key.lower() == name.lower()]

    def one(self, name):
        """The value of a field that came exactly once."""
        values = self.all(name)
        assert len(values) == 1, (name, values, self.lines)
        return values[0]

    def names(self):
        """Lower-case names, in order."""
        return [line.partition(":")[0].lower() for line in self.lines]


def slow(ms):
    """Answers after that many milliseconds."""
    return f"/slow?ms={ms}"


def hang():
    """Never answers."""
    return "/hang"


def zeros(count):
    """A body of that many bytes."""
    return f"/zeros?bytes={count}"


def drip(count, chunk, ms, chunked=False):
    """A body of `count` bytes, `chunk` of them every `ms` milliseconds."""
    return f"/drip?bytes={count}&chunk={chunk}&ms={ms}" + ("&chunked=1" if chunked else "")


def sse(count, ms):
    """Server-sent events, one every `ms` milliseconds, the first at once."""
    return f"/sse?n={count}&ms={ms}"


def sink():
    """Reads the body and tells its length and checksum."""
    return "/sink"


def early(status=200):
    """Answers without reading the body."""
    return f"/early?status={status}"


def sunk(response):
    """Length and SHA-256 of the body that the worker read."""
    assert response.status == 200, (response.status, response.body)
    said = json.loads(response.body)
    return said["bytes"], said["sha256"]


def sunk_bytes(response):
    """Length of the body that the worker read."""
    assert response.status == 200, (response.status, response.body)
    return json.loads(response.body)["bytes"]


def peak(response):
    """The most requests that the worker had at once since its start."""
    return json.loads(response.body)["peak"]


def waited_ms(response):
    """How long a request says that it waited for an instance."""
    match = re.fullmatch(
        r'kipgate;desc="(cold|paused)";dur=(\d+(?:\.\d+)?)', response.one("Server-Timing") or ""
    )
    assert match, response.fields
    return float(match[2])


# --- environment of the worker --------------------------------------------------------------------


def start_delay(ms):
    """Listens only after that long."""
    return {"START_DELAY_MS": str(ms)}


def health_after(ms):
    """/health answers 503 until then."""
    return {"HEALTH_AFTER_MS": str(ms)}


def on_socket(path):
    """Listens on a Unix socket."""
    return {"SOCKET": path}


def exit_at_boot(code):
    """Ends at once with that status."""
    return {"EXIT_AT_BOOT": str(code)}


def never_listen():
    """Runs but never listens."""
    return {"NEVER_LISTEN": "1"}


def oom_at_boot():
    """Eats memory until the kernel ends it."""
    return {"OOM_AT_BOOT": "1"}


def accept_only():
    """Accepts connections and never answers."""
    return {"ACCEPT_ONLY": "1"}


def ignore_term():
    """Ignores SIGTERM."""
    return {"IGNORE_TERM": "1"}


def abort():
    """Closes without an answer."""
    return "/abort"


def oom():
    """Eats memory until the kernel ends the worker."""
    return "/oom"


def host(response):
    """The answering worker's container, by the hostname that it says."""
    name = response.one("X-Echo-Host")
    assert name, response.fields
    return name
