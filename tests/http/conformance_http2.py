# SPDX-License-Identifier: Apache-2.0
"""What the tests of HTTP/2 share: a front that speaks it, and how breaches may be answered. The
difficulty: RFC 9113 leaves open whether an error ends the stream or the connection (5.4.1), and
whether a malformed request is answered or reset (8.1.1)."""
import contextlib

from conformance import seen_requests

from harness import http2, settings
from harness.http2 import GOAWAY, PROTOCOL_ERROR, RST_STREAM, SETTINGS, Http2
from harness.kipgate import Kipgate

BOTH = {"fronts": 1, "protocols": ["h2c", "h2", "http/1.1"]}


@contextlib.contextmanager
def http2_gate(services):
    """A Kipgate with one front that speaks both versions on a plain listener."""
    with Kipgate(services, binary=settings.sanitized_bin(), config=BOTH) as gate:
        assert gate.admin.wake("echo").status == 200
        yield gate


def connection_error(client, *codes, timeout=5):
    """The connection ends, with a GOAWAY that has one of these codes."""
    code = client.goaway(timeout)
    assert code in codes, (code, client.frames[-5:])


def stream_error(client, stream, *codes):
    """The stream is reset with one of these codes, or the connection ends with one of them."""
    try:
        got = client.until(
            lambda got: got.kind == GOAWAY or (got.kind, got.stream) == (RST_STREAM, stream)
        )
    except http2.ConnectionError_:
        raise AssertionError(f"the connection ended without a word: {client.frames[-5:]}") from None
    assert got.code in codes, got


def served(client, path="/next"):
    """The connection goes on: another request gets its answer."""
    response = client.get(path)
    assert response.status == 200 and response.body.startswith(f"GET {path} HTTP/1.1".encode())


def malformed(client, stream):
    """A stream error of type PROTOCOL_ERROR, perhaps behind a 400; or a connection error."""
    try:
        response = client.response(stream)
    except http2.ConnectionError_:
        assert {got.code for got in client.frames if got.kind == GOAWAY} == {PROTOCOL_ERROR}
        return
    assert response.reset == PROTOCOL_ERROR or response.status == 400, response


def never_forwarded(gate, client, fields, end=True):
    """A request of these fields is malformed and reaches no worker."""
    before = seen_requests(gate)
    malformed(client, client.headers(fields, end=end))
    assert seen_requests(gate) - before == 1, "only the one that asks"


@contextlib.contextmanager
def settled(gate):
    """A connection on which both sides' SETTINGS were acknowledged."""
    with Http2(gate.front) as client:
        client.until(lambda got: got.kind == SETTINGS and got.flags & http2.ACK)
        yield client
