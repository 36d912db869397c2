# SPDX-License-Identifier: Apache-2.0
"""What a worker may answer: every row of the rules. A breach before the first byte went to the
client is a 502; later the client's connection is broken off, never ended as if complete; and
that worker connection is never used again. The worker here is scripted: it sends the bytes that
it is told."""
import json
import random
import time

import pytest

from harness import settings
from harness.echo import Dump, get, raw_post, raw_target
from harness.kipgate import Kipgate, problem
from harness.raw import Broken, request
from harness.waiting import together

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture(scope="module")
def gate(echo):
    """One front, so that a poisoned connection would be met again by the next request. So what is
    answered whole does not end its connection: a POST that met it as it ends would fail."""
    services = {
        "echo": echo(routes=["/"], idle_timeout="10m"),
        "hasty": echo(routes=["hasty.test"], idle_timeout="10m", request_timeout="700ms"),
        "drowsy": echo(routes=["drowsy.test"], idle_timeout="10m", env={"IDLE_CLOSE_MS": "20"}),
    }
    with Kipgate(services, binary=settings.sanitized_bin(), config={"fronts": 1}) as kipgate:
        for name in services:
            assert kipgate.admin.wake(name).status == 200
        yield kipgate


def answer(*lines, body=b"", status="HTTP/1.1 200 OK"):
    """A response's bytes."""
    whole = [status, *lines]
    return (
        b"".join(
            (line if isinstance(line, bytes) else line.encode("latin-1")) + b"\r\n"
            for line in whole
        )
        + b"\r\n"
        + body
    )


def chunks(data, *lines):
    """A chunked response with these raw bytes as its body."""
    return answer("Transfer-Encoding: chunked", *lines, body=data)


def framing():
    """Heads whose end of body is doubtful."""
    te = "Transfer-Encoding: chunked"
    yield "cl-and-te", answer("Content-Length: 5", te, body=b"0\r\n\r\n")
    yield "te-and-cl", answer(te, "Content-Length: 5", body=b"0\r\n\r\n")
    yield "te-on-1.0", answer(te, status="HTTP/1.0 200 OK", body=b"0\r\n\r\n")
    for value in ["gzip", "gzip, chunked", "identity", "", "chunked, chunked", "xchunked"]:
        yield f"te-{value.replace(', ', '+') or 'empty'}", answer(
            f"Transfer-Encoding: {value}", body=b"0\r\n\r\n"
        )
    yield "te-twice", answer(te, te, body=b"0\r\n\r\n")
    for value in ["5, 5", "5, 6", "+5", "-5", "5 5", "0x5", "", "5a", str(2**63), "9" * 30]:
        yield f"cl-{value.replace(', ', '+').replace(' ', '_') or 'empty'}", answer(
            f"Content-Length: {value}", body=b"hello"
        )
    yield "cl-twice-same", answer("Content-Length: 5", "Content-Length: 5", body=b"hello")
    yield "cl-twice-different", answer("Content-Length: 5", "Content-Length: 6", body=b"hello!")


def syntax():
    """Bytes that no head may have."""
    cl = "Content-Length: 2"
    yield "lf-only", b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok"
    yield "lf-after-status", b"HTTP/1.1 200 OK\nContent-Length: 2\r\n\r\nok"
    yield "lf-after-field", b"HTTP/1.1 200 OK\r\nContent-Length: 2\nX-A: a\r\n\r\nok"
    yield "lf-ends-head", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\nok"
    yield "cr-in-value", answer(cl, b"X-A: a\rb", body=b"ok")
    yield "cr-in-reason", answer(cl, status="HTTP/1.1 200 O\rK", body=b"ok")
    yield "fold", answer(cl, "X-A: a", " b", body=b"ok")
    yield "fold-tab", answer(cl, "X-A: a", "\tb", body=b"ok")
    yield "space-before-colon", answer("Content-Length : 2", body=b"ok")
    yield "space-before-name", answer(" Content-Length: 2", body=b"ok")
    yield "space-in-name", answer(cl, "X A: a", body=b"ok")
    yield "empty-name", answer(cl, ": a", body=b"ok")
    yield "no-colon", answer(cl, "X-A", body=b"ok")
    for byte in [0, 1, 8, 11, 12, 27, 31, 127]:
        yield f"value-byte-{byte:02x}", answer(cl, b"X-A: a" + bytes([byte]), body=b"ok")
    for byte in [0, 1, 11, 127]:
        yield f"reason-byte-{byte:02x}", answer(
            cl, status=b"HTTP/1.1 200 O" + bytes([byte]), body=b"ok"
        )
    for name, status in [
        ("2.0", "HTTP/2.0 200 OK"),
        ("0.9", "HTTP/0.9 200 OK"),
        ("lower", "http/1.1 200 OK"),
        ("no-status", "HTTP/1.1 OK"),
        ("two-digits", "HTTP/1.1 20 OK"),
        ("four-digits", "HTTP/1.1 2000 OK"),
        ("099", "HTTP/1.1 099 Low"),
        ("600", "HTTP/1.1 600 High"),
        ("000", "HTTP/1.1 000 Zero"),
        ("letters", "HTTP/1.1 2xx OK"),
        ("two-spaces", "HTTP/1.1  200 OK"),
        ("icy", "ICY 200 OK"),
        ("empty-line-first", "\r\nHTTP/1.1 200 OK"),
    ]:
        yield f"status-{name}", answer(cl, status=status, body=b"ok")
    yield "not-http", b"220 mail.test ESMTP\r\n\r\n"
    yield "tls", b"\x15\x03\x01\x00\x02\x02\x46"
    yield "zeros", b"\x00" * 100


def sizes():
    """Heads over the limits."""
    cl = "Content-Length: 2"
    base = len(answer(cl, "X-A: "))
    yield "head-64KiB+1", answer(cl, "X-A: " + "a" * (65536 - base + 1), body=b"ok")
    yield "head-many-lines", answer(cl, *[f"X-{i}: " + "a" * 1000 for i in range(80)], body=b"ok")
    yield "head-without-end", b"HTTP/1.1 200 OK\r\nX-A: " + b"a" * 200000
    yield "fields-101", answer(cl, *[f"X-{i}: a" for i in range(100)], body=b"ok")


def informational():
    """Interim responses beyond what was asked for."""
    yield "101-unasked", answer(
        "Upgrade: websocket", "Connection: upgrade", status="HTTP/1.1 101 Switching Protocols"
    )
    yield "101-bare", answer(status="HTTP/1.1 101 Switching Protocols") + OK
    yield "1xx-nine", answer(status="HTTP/1.1 103 Early Hints") * 9 + OK
    yield "1xx-nine-100", answer(status="HTTP/1.1 100 Continue") * 9 + OK
    yield "103-then-garbage", b"HTTP/1.1 103 Early Hints\r\nX A: a\r\n\r\n" + OK


def endings():
    """Workers that close before a whole head."""
    yield "nothing", b""
    yield "half-status-line", b"HTTP/1.1 2"
    yield "half-head", b"HTTP/1.1 200 OK\r\nContent-Len"
    yield "only-interim", answer(status="HTTP/1.1 100 Continue")


REFUSED = [
    pytest.param(data, id=name)
    for rows in (framing, syntax, sizes, informational, endings)
    for name, data in rows()
]


def next_is_fine(gate):
    """The next request gets its own answer, on a worker connection that is not poisoned."""
    response = request(gate.front, get("/after"))
    assert response.status == 200 and Dump(response.body).first == "GET /after HTTP/1.1"


@pytest.mark.parametrize("data", REFUSED)
def test_breach_before_anything_was_sent_is_502(gate, data):
    """Nothing of it reaches the client, and the worker's connection is closed."""
    with gate.raw() as client:
        client.send(raw_post(data, close=1))
        while True:  # interim answers that were fine may have come before
            response = client.final_head()
            client.body_of(response, "POST", time.monotonic() + 5)
            break
        body = problem(response, 502, "upstream-failed")
        assert "echo" in body["detail"]
    next_is_fine(gate)


@pytest.mark.parametrize("data", REFUSED[::7])
def test_breach_is_the_same_when_the_worker_stays_connected(gate, data):
    """The worker keeps the connection open: the verdict must not wait for its end. Rows that are
    only incomplete wait for the deadline instead and have tests of their own."""
    if data in (b"", b"HTTP/1.1 2") or b"\r\n\r\n" not in data:
        data = answer("Content-Length: 2", "X A: a", body=b"ok")
    with gate.raw() as client:
        client.send(raw_post(data, hold=1))
        problem(client.response(), 502, "upstream-failed")
    next_is_fine(gate)


def broken_bodies():
    """Bodies that go wrong after the head was sent on. The second value is what may have come."""
    yield "cl-short", answer("Content-Length: 10", body=b"hello"), b"hello"
    yield "chunk-short", chunks(b"5\r\nhel"), b"hel"
    yield "no-last-chunk", chunks(b"5\r\nhello\r\n"), b"hello"
    yield "half-last-chunk", chunks(b"5\r\nhello\r\n0\r\n"), b"hello"
    for name, line in [
        ("plus", b"+1"),
        ("underscore", b"1_0"),
        ("0x", b"0x1"),
        ("space", b" 1"),
        ("trailing-space", b"1 "),
        ("empty", b""),
        ("17-digits", b"0" * 16 + b"1"),
        ("letters", b"xyz"),
        ("minus", b"-1"),
    ]:
        yield f"chunk-size-{name}", chunks(
            b"5\r\nhello\r\n" + line + b"\r\na\r\n0\r\n\r\n"
        ), b"hello"
    yield "chunk-lf", chunks(b"5\r\nhello\r\n1\na\r\n0\r\n\r\n"), b"hello"
    yield "chunk-no-crlf", chunks(b"5\r\nhelloX\r\n0\r\n\r\n"), b"hello"
    yield "chunk-exts-over-4KiB", chunks(
        b"5\r\nhello\r\n1;" + b"a" * 4100 + b"\r\na\r\n0\r\n\r\n"
    ), b"hello"
    for field in [
        b"Content-Length: 5",
        b"Transfer-Encoding: chunked",
        b"Host: x",
        b"Set-Cookie: a=b",
        b"Connection: close",
    ]:
        name = field.partition(b":")[0].decode().lower()
        yield f"trailer-{name}", chunks(b"5\r\nhello\r\n0\r\n" + field + b"\r\n\r\n"), b"hello"
    yield "trailer-fold", chunks(b"5\r\nhello\r\n0\r\nX-A: a\r\n b\r\n\r\n"), b"hello"
    yield "trailer-nul", chunks(b"5\r\nhello\r\n0\r\nX-A: \x00\r\n\r\n"), b"hello"


@pytest.mark.parametrize("data,may", [pytest.param(d, m, id=n) for n, d, m in broken_bodies()])
def test_broken_body_is_broken_off_for_the_client(gate, data, may):
    """No final chunk, no full length: the client can tell that it is not whole. When nothing
    went out yet, a 502 is right too."""
    with gate.raw() as client:
        client.send(raw_post(data, close=1))
        try:
            head = client.final_head()
        except ConnectionResetError:
            head = None  # broken off together with its head: as clear as can be
        if head is not None and head.status == 502:
            client.body_of(head, "POST", time.monotonic() + 5)
            problem(head, 502, "upstream-failed")
        elif head is not None:
            must_not_be_whole(client, head, may)
    next_is_fine(gate)


def must_not_be_whole(client, head, may):
    """Reads the body of a passed head; it must break off."""
    assert head.status == 200
    try:
        client.body_of(head, "POST", time.monotonic() + 5)
    except (Broken, ConnectionResetError):
        assert client.pending in b"" or client.pending in may or len(client.pending) < 64
        return
    raise AssertionError(f"it was ended as if complete: {head}")


@pytest.mark.parametrize("reset", [0, 1])
def test_break_after_much_of_the_body(gate, reset):
    """The head and a megabyte are with the client when the worker goes."""
    with gate.raw() as client:
        data = answer("Content-Length: 2000000", body=b"x" * 900000)
        switches = {"reset": 1} if reset else {"close": 1}
        client.send(raw_post(data, **switches))
        head = client.final_head()
        assert head.one("Content-Length") == "2000000"
        with pytest.raises((Broken, ConnectionResetError)):
            client.body_of(head, "POST", time.monotonic() + 10)
    next_is_fine(gate)


# --- bodies that are none -------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
@pytest.mark.parametrize("field", ["Content-Length: 5", "Transfer-Encoding: chunked", "X-A: a"])
def test_no_body_whatever_the_fields_say(gate, status, field):
    """204 and 304: the bytes behind the head are no body, and their connection is dropped."""
    with gate.raw() as client:
        data = answer(field, status=f"HTTP/1.1 {status}", body=b"HTTP/1.1 200 OK\r\n\r\nstray")
        client.send(get(raw_target(data, close=1)))
        response = client.response()
        assert response.status == int(status[:3])
        assert response.body == b""
        client.send(get("/after"))
        assert Dump(client.response().body).first == "GET /after HTTP/1.1"


@pytest.mark.parametrize(
    "lines", [("Content-Length: 5",), ("Transfer-Encoding: chunked",), ()], ids=["cl", "te", "none"]
)
def test_head_has_no_body_whatever_the_fields_say(gate, lines):
    """The answer to a HEAD ends with its head."""
    with gate.raw() as client:
        client.send(get(raw_target(answer(*lines), close=1), method="HEAD"))
        response = client.response("HEAD")
        assert response.status == 200
        if lines == ("Content-Length: 5",):
            assert response.one("Content-Length") == "5"
        if not response.closes:
            client.send(get("/after"))
            assert Dump(client.response().body).first == "GET /after HTTP/1.1"


@pytest.mark.parametrize(
    "extra", [b"x", OK, b"\r\n\r\n", b"0\r\n\r\n"], ids=["x", "response", "crlf", "chunk"]
)
@pytest.mark.parametrize("framed", ["cl", "chunked", "204"])
def test_extra_bytes_poison_the_worker_connection(gate, extra, framed):
    """They are dropped with their connection and never become somebody's answer."""
    data = {
        "cl": OK,
        "chunked": chunks(b"2\r\nok\r\n0\r\n\r\n"),
        "204": answer(status="HTTP/1.1 204 No Content"),
    }[framed]
    with gate.raw() as client:
        client.send(raw_post(data + extra, hold=1))
        response = client.response()
        assert response.status in (200, 204) and response.body in (b"ok", b"")
    for _ in range(3):
        next_is_fine(gate)


@pytest.mark.parametrize("ending", [{"close": 1}, {"reset": 1}], ids=["closed", "reset"])
def test_body_until_close(gate, ending):
    """Neither length nor chunks: the end of the connection is the end; a reset is not."""
    with gate.raw() as client:
        client.send(raw_post(answer("X-A: a", body=b"hello"), **ending))
        try:
            response = client.response()
        except (Broken, ConnectionResetError):
            assert "reset" in ending
            return
        assert (response.status, response.body) == (200, b"hello") or (
            response.status == 502 and "reset" in ending
        )


# --- interim responses ----------------------------------------------------------------------------


def test_eight_interim_responses_are_within_the_cap(gate):
    """n of the limit; n+1 is a row above."""
    with gate.raw() as client:
        client.send(raw_post(answer(status="HTTP/1.1 103 Early Hints") * 8 + OK))
        response = client.response()
        assert (response.status, response.body) == (200, b"ok")
        assert [i.status for i in response.interim] in ([], [103] * 8)


def test_unasked_100_is_not_passed(gate):
    """A 100 goes only to a client that asked."""
    with gate.raw() as client:
        client.send(raw_post(answer(status="HTTP/1.1 100 Continue") + OK))
        response = client.response()
        assert response.status == 200 and response.interim == []


def test_interim_responses_do_not_reach_a_client_of_1_0(gate):
    """HTTP/1.0 knows none."""
    data = answer("Link: </a>", status="HTTP/1.1 103 Early Hints") + OK
    response = request(gate.front, get(raw_target(data)).replace(b"HTTP/1.1", b"HTTP/1.0"))
    assert response.status == 200 and response.interim == [] and response.body == b"ok"


# --- deadlines, retries ---------------------------------------------------------------------------


def test_head_not_complete_in_time_is_504(gate):
    """Nothing, half a head, or an endless trickle of interim responses: all at once, to save
    time."""
    half = b"HTTP/1.1 200 OK\r\nX-A: a\r\n"

    def one(data, **switches):
        def ask():
            began = time.monotonic()
            with gate.raw() as client:
                client.send(
                    raw_post(data, **switches).replace(b"Host: kipgate.test", b"Host: hasty.test")
                )
                problem(client.response(), 504, "upstream-timeout")
            return time.monotonic() - began

        return ask

    took = together(
        [
            one(b"", hold=1),
            one(half, hold=1),
            one(half + b"X-B: b\r\n" * 40, split=7),
            one(answer(status="HTTP/1.1 103 Early Hints"), hold=1),
        ],
        20,
    )
    assert all(0.6 < t < 3 for t in took), took


def test_reused_connection_that_closes_is_retried_once_when_safe(gate):
    """The worker closes kept connections after 20 ms of idleness: as a request is written,
    sometimes. A safe request does not notice; the pauses are drawn around that instant."""
    dice = random.Random(3)
    with gate.raw() as client:
        for i in range(250):
            request_ = get(f"/{i}").replace(b"kipgate.test", b"drowsy.test")
            response = client.send(request_).response()
            assert response.status == 200 and Dump(response.body).first == f"GET /{i} HTTP/1.1"
            time.sleep(dice.uniform(0.019, 0.0215))


def test_unsafe_request_is_never_sent_twice(gate):
    """A POST whose worker closes without an answer: 502, and the worker saw it once."""
    mark = f"/count-{time.monotonic_ns()}"
    before = json.loads(request(gate.front, get("/whoami")).body)["requests"]
    with gate.raw() as client:
        client.send(raw_post(b"", "X-Mark: " + mark, close=1))
        problem(client.response(), 502, "upstream-failed")
    after = json.loads(request(gate.front, get("/whoami")).body)["requests"]
    assert after - before == 2, "one POST and one whoami"


def test_early_response_while_the_body_still_comes(gate):
    """The worker answers without reading: the client gets it whole, then the connection ends."""
    with gate.raw() as client:
        client.send(
            b"POST /early HTTP/1.1\r\nHost: kipgate.test\r\nContent-Length: 10000000\r\n\r\n"
        )
        client.send(b"x" * 1000)
        response = client.response()
        assert response.status == 200
        client.send_anyway(b"x" * 1000)
        assert client.ended(5)
    next_is_fine(gate)


# --- what is passed -------------------------------------------------------------------------------


def test_chunk_extensions_of_a_worker_are_not_passed(gate):
    """The body is chunked anew (the raw client refuses extensions)."""
    with gate.raw() as client:
        client.send(raw_post(chunks(b'5;a="b c"\r\nhello\r\n0;x\r\n\r\n')))
        assert client.response().body == b"hello"


def test_trailers_of_a_worker_are_passed(gate):
    """To a client that said TE: trailers."""
    with gate.raw() as client:
        client.send(
            raw_post(
                chunks(
                    b"5\r\nhello\r\n0\r\nGrpc-Status: 0\r\nX-S: 1\r\n\r\n", "Trailer: Grpc-Status"
                ),
                "TE: trailers",
            )
        )
        response = client.response()
        assert response.body == b"hello"
        assert response.trailers == [("Grpc-Status", "0"), ("X-S", "1")]


def test_trailers_do_not_break_a_client_of_1_0(gate):
    """It gets the body, ended by the close."""
    data = get(raw_target(chunks(b"5\r\nhello\r\n0\r\nX-S: 1\r\n\r\n")))
    response = request(gate.front, data.replace(b"HTTP/1.1", b"HTTP/1.0"))
    assert response.body == b"hello" and response.framing == "close"


def test_limits_of_a_head_are_taken(gate):
    """n of fields and bytes; n+1 are rows above."""
    many = answer("Content-Length: 2", *[f"X-{i}: a" for i in range(99)], body=b"ok")
    base = len(answer("Content-Length: 2", "X-A: "))
    long = answer("Content-Length: 2", "X-A: " + "a" * (65536 - base), body=b"ok")
    for data in (many, long):
        assert request(gate.front, raw_post(data), "POST").body == b"ok"


def test_head_in_single_bytes(gate):
    """The worker's head comes in segments of one byte."""
    data = answer("Content-Length: 2", "X-A: a", body=b"ok")
    response = request(gate.front, raw_post(data, split=1), "POST")
    assert response.one("X-A") == "a" and response.body == b"ok"


def test_zz_the_sanitizers_have_nothing_to_say(gate):
    """After all of the above."""
    gate.assert_clean()
