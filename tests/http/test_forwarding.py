# SPDX-License-Identifier: Apache-2.0
"""Forwarding: what the worker sees and what the client gets, byte for byte, both ways."""
import hashlib
import json
import random
import re
import time

import pytest
import websocket

from harness import echo as worker
from harness import raw, settings
from harness.echo import Dump, get, raw_post, raw_target
from harness.kipgate import Kipgate, problem
from harness.waiting import together

TRACEPARENT = re.compile(r"^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$")


@pytest.fixture(scope="module")
def gate(echo):
    """Services for every kind of route; each starts at its first request."""
    services = {
        "echo": echo(routes=["kipgate.test"], idle_timeout="10m"),
        "stripped": echo(routes=["/strip"], strip_prefix=True, idle_timeout="10m"),
        "inner": echo(routes=["/strip/inner"], idle_timeout="10m"),
        "exact": echo(routes=["exact.test", "exact.test/deep"], idle_timeout="10m"),
        "wild": echo(routes=["*.wild.test"], idle_timeout="10m"),
        "small": echo(routes=["/small-bodies"], max_body="1KiB", idle_timeout="10m"),
        "hasty": echo(routes=["hasty.test"], request_timeout="500ms", idle_timeout="10m"),
    }
    with Kipgate(services, binary=settings.sanitized_bin()) as kipgate:
        assert kipgate.admin.wake("echo").status == 200
        yield kipgate


def dump(gate, data, method="GET"):
    """Sends bytes; gives what the worker received."""
    response = raw.request(gate.front, data, method)
    assert response.status == 200, (response.status, response.body[:500])
    return Dump(response.body)


# --- D1, D2 ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND"])
def test_d1_method_path_query_headers_and_body_are_forwarded(gate, method):
    """D1: only `GET /` was forwarded, all else dropped."""
    body = b"a=1&b=2"
    data = (
        get(
            "/some/deep/path%20x?q=1&q=2&r=%2F&s",
            "X-One: 1",
            f"Content-Length: {len(body)}",
            "Content-Type: application/x-www-form-urlencoded",
            method=method,
        )
        + body
    )
    seen = dump(gate, data)
    assert seen.first == f"{method} /some/deep/path%20x?q=1&q=2&r=%2F&s HTTP/1.1"
    assert seen.one("X-One") == "1" and seen.one("Host") == "kipgate.test"
    assert seen.one("Content-Type") == "application/x-www-form-urlencoded"
    assert seen.one("Content-Length") == "7" and seen.body == body


def test_d2_binary_bodies_and_repeated_headers_survive_both_ways(gate):
    """D2: responses were text, binary bodies and headers lost."""
    body = bytes(range(256)) * 300 + random.Random(2).randbytes(100001)
    head = (
        "HTTP/1.1 207 Multi Status\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2; Path=/\r\n"
        "X-High: caf\xe9\r\nX-Empty:\r\nContent-Type: image/jpeg\r\nVary: a\r\nVary: b\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode("latin-1")
    response = raw.request(gate.front, raw_post(head + body), "POST")
    assert (response.status, response.reason) == (207, "Multi Status")
    assert response.all("Set-Cookie") == ["a=1", "b=2; Path=/"]
    assert response.all("Vary") == ["a", "b"]
    assert response.one("X-High") == "caf\xe9" and response.one("X-Empty") == ""
    assert response.one("Content-Type") == "image/jpeg" and response.body == body


def test_d2_request_bodies_arrive_exactly(gate):
    """A binary megabyte by length and in chunks; the worker's checksum judges."""
    body = random.Random(3).randbytes(1 << 20)
    digest = hashlib.sha256(body).hexdigest()
    by_length = get(worker.sink(), f"Content-Length: {len(body)}", method="POST") + body
    pieces = [body[at : at + 40001] for at in range(0, len(body), 40001)]
    chunked = (
        get(worker.sink(), "Transfer-Encoding: chunked", method="POST")
        + b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
        + b"0\r\n\r\n"
    )
    for data in (by_length, chunked):
        response = raw.request(gate.front, data, "POST")
        assert worker.sunk(response) == (len(body), digest)


def test_repeated_request_fields_keep_their_order(gate):
    """Duplicates are neither merged nor reordered."""
    seen = dump(gate, get("/", "X-A: 1", "Accept: a", "X-A: 2", "Accept: b", "X-A: 1"))
    assert seen.all("X-A") == ["1", "2", "1"] and seen.all("Accept") == ["a", "b"]


# --- header rules ---------------------------------------------------------------------------------


def test_forwarded_fields_are_written(gate):
    """X-Forwarded-For, -Proto, -Host and Via, each once."""
    seen = dump(gate, get("/"))
    assert seen.one("X-Forwarded-For") == "127.0.0.1"
    assert seen.one("X-Forwarded-Proto") == "http"
    assert seen.one("X-Forwarded-Host") == "kipgate.test"
    assert seen.one("Via") == "1.1 kipgate"


def test_forwarded_fields_of_a_client_are_overwritten(gate):
    """Who the client is, is not the client's to say."""
    claims = [
        "X-Forwarded-For: 6.6.6.6",
        "x-forwarded-for: 7.7.7.7",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Host: evil.test",
        "X-Forwarded-Port: 1",
        "Forwarded: for=6.6.6.6",
        "X-Real-IP: 6.6.6.6",
        "X-Forwarded-Server: evil.test",
    ]
    seen = dump(gate, get("/", *claims))
    assert seen.one("X-Forwarded-For") == "127.0.0.1"
    assert seen.one("X-Forwarded-Proto") == "http"
    assert seen.one("X-Forwarded-Host") == "kipgate.test"
    assert not any("6.6.6.6" in line or "evil" in line for line in seen.lines)


def test_connection_cannot_remove_our_fields(gate):
    """`Connection: close, X-Forwarded-For` and its like."""
    named = (
        "X-Forwarded-For, X-Forwarded-Proto, X-Forwarded-Host, Via, X-Request-Id, traceparent, Host"
    )
    seen = dump(gate, get("/", f"Connection: close, {named}"))
    for name in named.split(", "):
        assert seen.one(name)


def test_connection_cannot_remove_the_length(gate):
    """Else the body would become the next request."""
    seen = dump(
        gate, get("/", "Connection: Content-Length", "Content-Length: 5", method="POST") + b"hello"
    )
    assert seen.one("Content-Length") == "5" and seen.body == b"hello"


def test_hop_by_hop_fields_end_here(gate):
    """Those known and those that Connection names; no other."""
    seen = dump(
        gate,
        get(
            "/",
            "Connection: keep-alive, X-Mine, x-two",
            "X-Mine: 1",
            "X-TWO: 2",
            "Keep-Alive: timeout=5",
            "Proxy-Authorization: Basic eA==",
            "Proxy-Connection: keep-alive",
            "TE: trailers, gzip",
            "HTTP2-Settings: AAA",
            "Upgrade: h2c",
            "X-Three: 3",
        ),
    )
    names = seen.names()
    for gone in (
        "x-mine",
        "x-two",
        "keep-alive",
        "proxy-authorization",
        "proxy-connection",
        "http2-settings",
        "upgrade",
    ):
        assert gone not in names
    assert seen.all("TE") in ([], ["trailers"])
    assert seen.one("X-Three") == "3"
    assert "x-mine" not in " ".join(seen.all("Connection")).lower()


def test_hop_by_hop_fields_of_a_worker_end_here(gate):
    """In the other direction too."""
    data = (
        b"HTTP/1.1 200 OK\r\nConnection: X-Mine, keep-alive\r\nX-Mine: 1\r\n"
        b"Keep-Alive: timeout=9\r\n"
        b"Proxy-Authenticate: Basic\r\nUpgrade: h2c\r\nX-Kept: 2\r\nContent-Length: 0\r\n\r\n"
    )
    response = raw.request(gate.front, raw_post(data), "POST")
    for gone in ("X-Mine", "Keep-Alive", "Proxy-Authenticate", "Upgrade"):
        assert response.all(gone) == []
    assert response.one("X-Kept") == "2"


def test_via_of_a_client_is_kept_and_ours_added(gate):
    """Via is a list over all hops."""
    seen = dump(gate, get("/", "Via: 1.0 fred"))
    assert ", ".join(seen.all("Via")) == "1.0 fred, 1.1 kipgate"


def test_host_is_unchanged(gate):
    """With its port and case."""
    data = get("/").replace(b"Host: kipgate.test", b"Host: KipGate.Test:8080")
    assert dump(gate, data).one("Host") == "KipGate.Test:8080"


def test_request_id_is_made_and_told_to_both(gate):
    """Another one for every request."""
    seen = set()
    for _ in range(5):
        response = raw.request(gate.front, get("/"))
        made = response.one("X-Request-Id")
        assert len(made) >= 16 and Dump(response.body).one("X-Request-Id") == made
        seen.add(made)
    assert len(seen) == 5


def test_request_id_of_a_client_is_kept_if_valid(gate):
    """For the worker, the client, and the request's own log line."""
    response = raw.request(gate.front, get("/", "X-Request-Id: abc-123_X.y"))
    assert response.one("X-Request-Id") == "abc-123_X.y"
    assert Dump(response.body).one("X-Request-Id") == "abc-123_X.y"


@pytest.mark.parametrize(
    "lines",
    [
        ["X-Request-Id: " + "a" * 129],
        ["X-Request-Id: a b"],
        ["X-Request-Id: "],
        ['X-Request-Id: a"b'],
        ["X-Request-Id: one1", "X-Request-Id: two2"],
        ["X-Request-Id: caf\xe9"],
    ],
    ids=["long", "space", "empty", "quote", "twice", "not-ascii"],
)
def test_request_id_that_is_not_valid_is_replaced(gate, lines):
    """It would end up in logs and problem bodies."""
    response = raw.request(gate.front, get("/", *lines))
    made = response.one("X-Request-Id")
    assert Dump(response.body).one("X-Request-Id") == made
    assert all(made not in line for line in lines)


def test_traceparent_is_made_or_kept(gate):
    """W3C trace context."""
    assert TRACEPARENT.match(dump(gate, get("/")).one("traceparent"))
    valid = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    seen = dump(gate, get("/", f"traceparent: {valid}", "tracestate: a=b"))
    assert seen.one("traceparent") == valid and seen.one("tracestate") == "a=b"


@pytest.mark.parametrize(
    "value",
    [
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
        "x",
        "",
    ],
)
def test_traceparent_that_is_not_valid_is_replaced(gate, value):
    """All zero, a forbidden version, upper case, nonsense."""
    made = dump(gate, get("/", f"traceparent: {value}")).one("traceparent")
    assert TRACEPARENT.match(made) and made != value


def test_warm_request_has_no_server_timing(gate):
    """Only a request that waited for an instance has one."""
    assert raw.request(gate.front, get("/")).one("Server-Timing") is None


# --- framing and connections ----------------------------------------------------------------------


@pytest.mark.parametrize("status", [204, 304])
def test_statuses_without_a_body(gate, status):
    """The connection goes on behind them."""
    with gate.raw() as client:
        data = f"HTTP/1.1 {status} X\r\nETag: \"a\"\r\n\r\n".encode()
        client.send(get(raw_target(data)) + get("/next"))
        response = client.response()
        assert response.status == status and response.one("ETag") == '"a"'
        assert response.all("Transfer-Encoding") == []
        assert Dump(client.response().body).first == "GET /next HTTP/1.1"


def test_head_request(gate):
    """The head of a GET, no body, the connection goes on."""
    with gate.raw() as client:
        client.send(get(worker.zeros(12345), method="HEAD") + get("/next"))
        response = client.response("HEAD")
        assert response.status == 200 and response.one("Content-Length") == "12345"
        assert Dump(client.response().body).first == "GET /next HTTP/1.1"


def test_chunked_both_ways_with_trailers(gate):
    """A body of unknown length with a trailer; the answer's trailer to who asked for it."""
    body = b"4\r\nwiki\r\n5\r\npedia\r\n0\r\nX-Sum: 9\r\n\r\n"
    seen = dump(
        gate, get("/", "Transfer-Encoding: chunked", "Trailer: X-Sum", method="POST") + body
    )
    assert seen.one("Transfer-Encoding") == "chunked" and seen.all("Content-Length") == []
    assert seen.one("Trailer") == "X-Sum"
    assert seen.body.endswith(b"0\r\nX-Sum: 9\r\n\r\n")
    assert b"wiki" in seen.body and b"pedia" in seen.body
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n"
    response = raw.request(gate.front, raw_post(answer, "TE: trailers"), "POST")
    assert (response.framing, response.body, response.trailers) == (
        "chunked",
        b"abc",
        [("X-T", "1")],
    )


def test_expect_continue_is_answered_once(gate):
    """The client waits for the 100; the worker gets the whole body."""
    with gate.raw() as client:
        client.send(get(worker.sink(), "Expect: 100-continue", "Content-Length: 5", method="POST"))
        assert client.head(5).status == 100
        client.send(b"hello")
        response = client.response("POST")
        assert response.interim == []
        assert worker.sunk(response) == (5, hashlib.sha256(b"hello").hexdigest())


def test_expect_continue_on_1_0_is_ignored(gate):
    """HTTP/1.0 has no interim answers."""
    data = get(worker.sink(), "Expect: 100-continue", "Content-Length: 5", method="POST") + b"hello"
    response = raw.request(gate.front, data.replace(b"HTTP/1.1", b"HTTP/1.0"), "POST")
    assert response.status == 200 and response.interim == []


def test_expect_continue_with_the_body_already_there(gate):
    """At most one 100, one answer, and the connection is still in step."""
    with gate.raw() as client:
        client.send(
            get(worker.sink(), "Expect: 100-continue", "Content-Length: 5", method="POST")
            + b"hello"
        )
        response = client.response("POST")
        assert response.status == 200 and len(response.interim) <= 1
        client.send(get("/next"))
        assert Dump(client.response().body).first == "GET /next HTTP/1.1"


def test_early_hints(gate):
    """103 is optional; what comes must be whole, and the final answer right."""
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"
    data = hints + b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    response = raw.request(gate.front, get(raw_target(data)))
    assert (response.status, response.body) == (200, b"ok")
    for interim in response.interim:
        assert interim.status == 103 and interim.all("Link") == ["</a.css>"]


def test_pipelined_requests_are_answered_in_order(gate):
    """The first is the slowest; bodies lie between."""
    with gate.raw() as client:
        data = get(worker.slow(200))
        for i in range(30):
            body = b"x" * i
            data += get(f"/p/{i}", f"Content-Length: {i}", method="POST") + body
        client.send(data)
        assert client.response().status == 200
        for i in range(30):
            seen = Dump(client.response().body)
            assert seen.first == f"POST /p/{i} HTTP/1.1" and seen.body == b"x" * i


def test_pipelined_requests_to_different_services(gate):
    """Each goes to its own; the order is the client's."""
    with gate.raw(30) as client:
        other = get("/strip/b").replace(b"kipgate.test", b"other.test")
        client.send(get("/a") + other + get("/c"))
        firsts = [Dump(client.response().body).first for _ in range(3)]
    assert firsts == ["GET /a HTTP/1.1", "GET /b HTTP/1.1", "GET /c HTTP/1.1"]


def test_connection_is_kept_and_closed_when_asked(gate):
    """1.1 keeps unless told otherwise."""
    with gate.raw() as client:
        for i in range(50):
            client.send(get(f"/{i}"))
            assert not client.response().closes
        client.send(get("/last", "Connection: close"))
        assert client.response().closes and client.ended(5)


@pytest.mark.parametrize(
    "lines,kept", [((), False), (("Connection: keep-alive",), True)], ids=["plain", "keep-alive"]
)
def test_http_1_0(gate, lines, kept):
    """Answered, not chunked; kept only when asked for."""
    with gate.raw() as client:
        client.send(get(worker.zeros(100), *lines).replace(b"HTTP/1.1", b"HTTP/1.0"))
        response = client.response()
        assert response.status == 200 and response.body == b"\0" * 100 or len(response.body) == 100
        assert response.all("Transfer-Encoding") == []
        if response.closes:
            assert not kept and client.ended(5)
        else:
            client.send(get("/", *lines).replace(b"HTTP/1.1", b"HTTP/1.0"))
            assert client.response().status == 200


def test_http_1_0_gets_a_chunked_answer_until_close(gate):
    """The end of the connection ends the body, even when keep-alive was asked for."""
    data = get(worker.drip(3000, 1000, 5, chunked=True), "Connection: keep-alive")
    response = raw.request(gate.front, data.replace(b"HTTP/1.1", b"HTTP/1.0"))
    assert response.framing == "close" and len(response.body) == 3000


def test_http_1_0_without_host(gate):
    """Allowed by 1.0; routed by its path."""
    response = raw.request(gate.front, b"GET /strip/x HTTP/1.0\r\n\r\n", timeout=30)
    assert response.status == 200 and Dump(response.body).first == "GET /x HTTP/1.1"


def test_unix_socket_front(gate):
    """The same service on `unix:`; there is no client address to forward."""
    response = raw.request(gate.front_unix, get("/u"))
    seen = Dump(response.body)
    assert response.status == 200 and seen.first == "GET /u HTTP/1.1"
    assert (
        seen.all("X-Forwarded-For") in ([], ["unix:"]) and seen.one("X-Forwarded-Proto") == "http"
    )


def test_half_closed_client_gets_its_answer(gate):
    """A client that is done sending is not gone."""
    with gate.raw() as client:
        client.send(get(worker.slow(300)))
        client.half_close()
        assert client.response().status == 200


def test_half_closed_client_gets_all_pipelined_answers(gate):
    """Also those behind the first."""
    with gate.raw() as client:
        client.send(get(worker.slow(100)) + get("/a") + get("/b"))
        client.half_close()
        assert [client.response().status for _ in range(3)] == [200] * 3
        assert client.ended(5)


def test_request_in_single_bytes(gate):
    """Head and body in segments of one byte each."""
    data = get("/bytes", "Content-Length: 10", "X-A: b", method="POST") + b"0123456789"
    with gate.raw() as client:
        client.send_pieces(data, 1)
        seen = Dump(client.response().body)
    assert seen.first == "POST /bytes HTTP/1.1" and seen.body == b"0123456789"


def test_worker_sees_that_the_client_went(gate):
    """A client that resets in the middle leaves no exchange behind."""
    with gate.raw() as client:
        client.send(get(worker.drip(1 << 20, 10, 20)))
        client.final_head()
        client.reset()
    gone(gate)


def test_client_that_resets_its_upload_leaves_no_exchange(gate):
    """Half a body, then a RST."""
    client = gate.raw()
    client.send(get(worker.sink(), "Content-Length: 1000000", method="POST") + b"x" * 1000)
    client.reset()
    gone(gate)


def gone(gate):
    """Until no exchange of the service is counted any more."""
    from harness.waiting import wait_until

    wait_until(
        lambda: gate.admin.metric("kipgate_exchanges", service="echo") == 0,
        5,
        "no exchange left",
        every=0.02,
    )


# --- streams --------------------------------------------------------------------------------------


def test_server_sent_events_arrive_at_once(gate):
    """Each event is with the client before the worker sends the next one."""
    with gate.raw() as client:
        began = time.monotonic()
        client.send(get(worker.sse(4, 300), "Accept: text/event-stream"))
        head = client.final_head()
        assert head.one("Content-Type").startswith("text/event-stream")
        times = []
        for _ in range(4):
            client._until(b"\n\n", began + 10)
            times.append(time.monotonic() - began)
    for index, at in enumerate(times):
        assert 0.3 * index - 0.05 <= at < 0.3 * index + 0.2, times


def test_request_body_streams(gate):
    """The worker gets the first part of a body while the rest is still unsent: it answers to it."""
    with gate.raw() as client:
        client.send(get(worker.early(), "Content-Length: 100", method="POST") + b"x" * 10)
        assert client.response().status == 200


def test_websocket(gate):
    """A real client: text, binary, fragments of size, ping, close."""
    url = f"ws://{gate.front[0]}:{gate.front[1]}/ws"
    socket = websocket.create_connection(url, host="kipgate.test", timeout=10)
    for text in ("hello", "x" * 60000):
        socket.send(text)
        assert socket.recv() == text
    blob = random.Random(4).randbytes(65000)
    socket.send_binary(blob)
    assert socket.recv() == blob
    socket.ping("p")
    opcode, frame = socket.recv_data_frame(True)
    assert opcode == websocket.ABNF.OPCODE_PONG and frame.data == b"p"
    socket.close()


def test_websocket_switches_only_after_the_workers_101(gate):
    """Another answer stays HTTP, and the connection is still in step."""
    upgrade = (
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    )
    with gate.raw() as client:
        client.send(get("/no-websocket-here", *upgrade))
        response = client.response()
        assert response.status == 200
        seen = Dump(response.body)
        assert seen.one("Upgrade").lower() == "websocket"
        client.send(get("/next"))
        assert Dump(client.response().body).first == "GET /next HTTP/1.1"


@pytest.mark.parametrize("protocol", ["h2c", "TLS/1.3", "foo"])
def test_other_upgrades_are_ignored(gate, protocol):
    """Only websocket is passed on."""
    seen = dump(
        gate,
        get(
            "/",
            "Connection: Upgrade, HTTP2-Settings",
            f"Upgrade: {protocol}",
            "HTTP2-Settings: AAMAAABkAAQAAP__",
        ),
    )
    assert seen.all("Upgrade") == [] and seen.all("HTTP2-Settings") == []


def test_websocket_by_post_is_no_upgrade(gate):
    """GET, 1.1 and no body, or it is a plain request."""
    seen = dump(
        gate,
        get("/", "Connection: Upgrade", "Upgrade: websocket", "Content-Length: 1", method="POST")
        + b"x",
    )
    assert seen.all("Upgrade") == [] and seen.body == b"x"


def test_websocket_bytes_after_the_upgrade_are_opaque(gate):
    """What looks like a request inside the tunnel is none."""
    upgrade = get(
        "/ws",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    )
    text = b"GET /x HTTP/1.1\r\n\r\n"
    frame = bytes([0x81, 0x80 | len(text), 0, 0, 0, 0]) + text
    with gate.raw() as client:
        client.send(upgrade + frame)
        head = client.final_head()
        assert head.status == 101 and head.one("Upgrade").lower() == "websocket"
        assert head.one("Sec-WebSocket-Accept") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        assert (
            client._exactly(2 + len(text), time.monotonic() + 5) == bytes([0x81, len(text)]) + text
        )


# --- routes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host,target,service,seen",
    [
        ("kipgate.test", "/x", "echo", "/x"),
        ("KIPGATE.TEST:99", "/x", "echo", "/x"),
        ("other.test", "/strip", "stripped", "/"),
        ("other.test", "/strip/", "stripped", "/"),
        ("other.test", "/strip/a?b", "stripped", "/a?b"),
        ("other.test", "/strip?b", "stripped", "/?b"),
        ("other.test", "/strip/inner/a", "inner", "/strip/inner/a"),
        ("other.test", "/strip/innermost", "stripped", "/innermost"),
        ("exact.test", "/strip/a", "exact", "/strip/a"),
        ("exact.test", "/deep", "exact", "/deep"),
        ("a.wild.test", "/a", "wild", "/a"),
        ("a.b.wild.test", "/a", "wild", "/a"),
    ],
)
def test_routes(gate, host, target, service, seen):
    """By host and by prefix; the longest wins; a prefix ends at a segment."""
    data = get(target).replace(b"Host: kipgate.test", f"Host: {host}".encode())
    response = raw.request(gate.front, data, timeout=30)
    assert Dump(response.body).first == f"GET {seen} HTTP/1.1"
    assert gate.admin.metric("kipgate_requests_total", service=service, code="200") >= 1


@pytest.mark.parametrize(
    "host,target",
    [
        ("other.test", "/"),
        ("other.test", "/stripped"),
        ("wild.test", "/a"),
        ("sub.exact.test", "/"),
        ("kipgate.test.evil", "/"),
        ("127.0.0.1", "/x"),
        ("localhost:80", "/"),
    ],
)
def test_no_route(gate, host, target):
    """404, and the connection goes on."""
    with gate.raw() as client:
        client.send(get(target).replace(b"Host: kipgate.test", f"Host: {host}".encode()))
        problem(client.response(), 404, "no-route")
        client.send(get("/next"))
        assert client.response().status == 200


# --- limits ---------------------------------------------------------------------------------------


def test_max_body_is_inclusive(gate):
    """n passes, n+1 does not: by length at once, in chunks when it is reached."""

    def post(lines, body):
        return raw.request(
            gate.front,
            get("/small-bodies", *lines, method="POST").replace(b"kipgate.test", b"other.test")
            + body,
            "POST",
            timeout=30,
        )

    assert post(["Content-Length: 1024"], b"x" * 1024).status == 200
    problem(post(["Content-Length: 1025"], b""), 413, "body-too-large")
    chunked = ["Transfer-Encoding: chunked"]
    assert post(chunked, b"400\r\n" + b"x" * 1024 + b"\r\n0\r\n\r\n").status == 200
    over = post(chunked, b"400\r\n" + b"x" * 1024 + b"\r\n1\r\nx\r\n0\r\n\r\n")
    body = problem(over, 413, "body-too-large")
    assert over.closes and "small" in body["detail"]


def test_request_timeout_counts_to_the_head_only(gate):
    """No head in time: 504. A body that takes longer than the timeout is fine."""

    def slow_body():
        data = get(worker.drip(1000, 100, 100)).replace(b"kipgate.test", b"hasty.test")
        return raw.request(gate.front, data, timeout=30)

    def never():
        data = get(worker.hang()).replace(b"kipgate.test", b"hasty.test")
        return raw.request(gate.front, data, timeout=30)

    assert gate.admin.wake("hasty").status == 200
    slow, refused = together([slow_body, never], 30)
    assert slow.status == 200 and len(slow.body) == 1000
    assert "hasty" in problem(refused, 504, "upstream-timeout")["detail"]


def test_problem_shape(gate):
    """RFC 9457, for a client that reads it."""
    data = get("/").replace(b"kipgate.test", b"other.test")
    response = raw.request(gate.front, data + b"")
    body = problem(response, 404, "no-route")
    assert set(body) >= {"type", "title", "status", "detail", "instance"}
    assert json.dumps(body)
    head = raw.request(gate.front, data.replace(b"GET", b"HEAD"), "HEAD")
    assert head.status == 404 and head.one("Content-Type").startswith("application/problem+json")


def test_zz_the_sanitizers_have_nothing_to_say(gate):
    """After all of the above."""
    gate.assert_clean()
