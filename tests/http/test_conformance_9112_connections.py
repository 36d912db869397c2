# SPDX-License-Identifier: Apache-2.0
"""RFC 9112, HTTP/1.1, sections 9 and 11: what becomes of connections, and smuggling. The
difficulty: both sides of the front have connections of their own, and the worker is asked how many
it saw."""
import time

import pytest
from conformance import (
    next_is_served,
    post,
    Table,
    answered,
    dump,
    http1_gate,
    PLAIN,
    worker_connections,
    CHUNKED,
    refused,
    response_head,
    seen_requests,
)

from harness import echo as worker
from harness import raw
from harness.echo import Dump, get, raw_post, raw_target
from harness.kipgate import problem
from harness.waiting import Background, wait_until

RFC = Table(9112)


@pytest.fixture(scope="module")
def gate(echo):
    """One front, so that kept worker connections are met again."""
    services = {
        "echo": echo(routes=["/"], idle_timeout="10m"),
        "hasty": echo(routes=["hasty.test"], request_timeout="500ms", idle_timeout="10m"),
        "leaving": echo(routes=["leaving.test"], env={"CLOSE_AFTER_N": "1"}, idle_timeout="10m"),
    }
    with http1_gate(services) as kipgate:
        yield kipgate


# --- 9: connections -------------------------------------------------------------------------------


@RFC.follows(
    "9.2",
    "MUST",
    "A client MUST associate each received response message on that connection to the first "
    "outstanding request that has not yet received a final (non-1xx) response",
)
def test_responses_belong_to_their_requests(gate):
    """Over kept worker connections, with interim responses between."""
    with gate.raw() as client:
        for i in range(20):
            hint = response_head(status="103 Early Hints")
            client.send(get(raw_target(hint + PLAIN.replace(b"ok", b"%02d" % i))))
            assert client.response().body == b"%02d" % i


@RFC.follows(
    "9.2",
    "MUST",
    "If a client receives data on a connection that doesn't have outstanding requests, the client "
    "MUST NOT consider that data to be a valid response; the client SHOULD close the connection",
)
def test_unasked_data_of_a_worker(gate):
    """What comes while the connection is kept."""
    answer = PLAIN + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
    assert answered(gate, answer, split=len(PLAIN), hold=1).body == b"ok"
    time.sleep(0.05)
    for i in range(3):
        assert dump(gate, get(f"/{i}")).first == f"GET /{i} HTTP/1.1"


@RFC.follows(
    "9.5",
    "SHOULD",
    "A server SHOULD sustain persistent connections, when possible, and allow flow control to "
    "resolve temporary overloads",
)
@RFC.follows("9.3", "SHOULD", "HTTP implementations SHOULD support persistent connections")
def test_connections_persist(gate):
    """Towards the client and towards the worker."""
    before = worker_connections(gate)
    with gate.raw() as client:
        for i in range(20):
            next_is_served(client, f"/{i}")
    assert worker_connections(gate) == before


@RFC.follows(
    "9.6",
    "MUST",
    'A client that receives a "close" connection option MUST cease sending requests on that '
    "connection and close the connection after reading the response message",
)
@RFC.follows(
    "9.3",
    "plain",
    'If the "close" connection option is present, the connection will not persist after the '
    "current response (in a worker's response, in any case of letters)",
)
def test_close_of_a_worker_is_obeyed(gate):
    """Its connection is not used again; the client's goes on."""
    before = worker_connections(gate)
    with gate.raw() as client:
        answer = response_head("Connection: X, CLOSE", "Content-Length: 2") + b"ok"
        response = client.send(raw_post(answer)).response("POST")
        assert response.body == b"ok" and not response.closes
        next_is_served(client)
    assert worker_connections(gate) == before + 1


@RFC.follows(
    "9.3",
    "MUST",
    "A server MUST read the entire request message body or close the connection after sending its "
    "response",
)
def test_unread_content_is_no_request(gate):
    """A small rest is read; before a large one the connection ends."""
    smuggled = get("/smuggled")
    with gate.raw() as client:
        target = get("/a#b", f"Content-Length: {len(smuggled)}", method="POST")
        client.send_anyway(target + smuggled)
        assert client.response("POST").status == 400 and client.ended(5)
    with gate.raw() as client:
        client.send(post("Content-Length: 1000000", target=worker.early(), body=b"x" * 999))
        response = client.response("POST")
        assert response.closes and client.ended(5)


@RFC.follows(
    "9.3",
    "MUST",
    "A client MUST read the entire response message body if it intends to reuse the same "
    "connection for a subsequent request",
)
def test_a_response_that_was_not_read_to_its_end(gate):
    """The client left in the middle: that worker connection is not used again."""
    before = worker_connections(gate)
    with gate.raw() as client:
        client.send(get(worker.drip(1 << 20, 1000, 10)))
        client.final_head()
        client.reset()
    wait_until(
        lambda: gate.admin.metric("kipgate_exchanges", service="echo") == 0, 5, "no exchange left"
    )
    with gate.raw() as client:
        next_is_served(client)
    assert worker_connections(gate) == before + 1


RFC.not_applicable(
    "9.3",
    "MUST",
    "A proxy server MUST NOT maintain a persistent connection with an HTTP/1.0 client",
    "meant for proxies that the client chose, behind which a blind relay of Keep-Alive could "
    "hang: Kipgate is a gateway and honours keep-alive of 1.0 clients as an origin server may",
)


@RFC.follows(
    "9.3",
    "plain",
    'If the received protocol is HTTP/1.0, the connection persists only where "keep-alive" is '
    "present and the recipient is not a proxy",
)
def test_http_1_0_persists_when_asked(gate):
    """Closed by default; kept and told so when asked for."""
    old = get(worker.zeros(2)).replace(b"HTTP/1.1", b"HTTP/1.0")
    with gate.raw() as client:
        assert client.send(old).response().closes and client.ended(5)
    kept = get(worker.zeros(2), "Connection: keep-alive").replace(b"HTTP/1.1", b"HTTP/1.0")
    with gate.raw() as client:
        for _ in range(3):
            assert client.send(kept).response().one("Connection") == "keep-alive"


@RFC.follows(
    "9.3.1",
    "plain",
    "When an inbound connection is closed prematurely, a client can retry an idempotent request "
    "on a new one; never one that might have been processed and is not idempotent",
)
def test_retries(gate):
    """The worker closes after each answer without a word; safe requests do not notice."""
    with gate.raw() as client:
        for i in range(30):
            request = get(f"/{i}").replace(b"kipgate.test", b"leaving.test")
            assert client.send(request).response().status == 200
    before = seen_requests(gate)
    problem(answered(gate, b"", close=1), 502, "upstream-failed")
    assert seen_requests(gate) - before == 2, "the POST once, and the one that asks"


@RFC.follows(
    "9.3.2",
    "MUST",
    "A server MAY process a sequence of pipelined requests in parallel if they all have safe "
    "methods, but it MUST send the corresponding responses in the same order that the requests "
    "were received",
)
def test_pipelined_requests(gate):
    """The first is the slowest; contents lie between."""
    with gate.raw() as client:
        data = get(worker.slow(100))
        for i in range(10):
            data += post(f"Content-Length: {i}", target=f"/{i}", body=b"x" * i)
        client.send(data)
        client.response()
        firsts = [Dump(client.response().body).first for _ in range(10)]
    assert firsts == [f"POST /{i} HTTP/1.1" for i in range(10)]


@RFC.follows(
    "9.3.2",
    "SHOULD",
    "A user agent SHOULD NOT pipeline requests after a non-idempotent method (towards workers "
    "Kipgate pipelines nothing)",
)
def test_nothing_is_pipelined_to_workers(gate):
    """The second request of a client is not sent before the first has its answer."""
    before = seen_requests(gate)
    with gate.raw() as client:
        client.send(get(worker.slow(300)) + get("/second"))
        time.sleep(0.1)
        assert seen_requests(gate) - before == 2, "the slow one, and the one that asks"
        client.response()
        assert Dump(client.response().body).first == "GET /second HTTP/1.1"


@RFC.follows(
    "9.5",
    "SHOULD",
    "Implementations SHOULD constantly monitor open connections for a received closure signal and "
    "respond to it as appropriate",
)
def test_a_client_that_went_is_noticed(gate):
    """In the middle of an answer."""
    with gate.raw() as client:
        client.send(get(worker.drip(1 << 20, 10, 20)))
        client.final_head()
        client.reset()
    wait_until(
        lambda: gate.admin.metric("kipgate_exchanges", service="echo") == 0, 5, "no exchange left"
    )


@RFC.follows(
    "9.5",
    "SHOULD",
    "A client sending a message body SHOULD monitor the network connection for an error response "
    "while it is transmitting the request",
)
def test_an_early_answer_of_a_worker_is_seen(gate):
    """While the content is still coming."""
    with gate.raw() as client:
        client.send(post("Content-Length: 100", target=worker.early(403), body=b"x"))
        assert client.response("POST").status == 403


@RFC.follows(
    "9.5",
    "SHOULD",
    "A client or server that wishes to time out SHOULD issue a graceful close on the connection",
)
def test_a_worker_that_does_not_answer(gate):
    """504 to the client, whose connection goes on; its exchange is over for the worker."""
    with gate.raw() as client:
        data = get(worker.hang()).replace(b"kipgate.test", b"hasty.test")
        problem(client.send(data).response(), 504, "upstream-timeout")
        next_is_served(client)


@RFC.follows(
    "9.6",
    "MUST",
    'A server that receives a "close" connection option MUST initiate closure of the connection '
    'after it sends the final response; it SHOULD send a "close" connection option in it, and '
    "MUST NOT process any further requests received on that connection",
)
def test_close_of_a_client(gate):
    """What is pipelined behind it is not served, and reaches no worker."""
    before = seen_requests(gate)
    with gate.raw() as client:
        client.send(get("/last", "Connection: close") + get("/further"))
        response = client.response()
        assert response.closes and client.ended(5) and not client.was_reset
    assert seen_requests(gate) - before == 2, "the last, and the one that asks"


@RFC.follows(
    "9.6",
    "MUST",
    'A server that sends a "close" connection option MUST initiate closure of the connection '
    "after it sends the response containing it, and MUST NOT process any further requests",
)
@RFC.follows(
    "9.6",
    "SHOULD",
    'A sender SHOULD send a Connection header field containing the "close" connection option when '
    "it intends to close a connection",
)
def test_close_of_ours(gate):
    """Behind a refusal."""
    before = seen_requests(gate)
    refused(gate, get("/a#b") + get("/further"), 400, "bad-request")
    assert seen_requests(gate) - before == 1, "only the one that asks"


@RFC.follows(
    "9.6",
    "plain",
    "To avoid the TCP reset problem, servers typically close a connection in stages: first the "
    "write side, then the read side once the client has closed or a while has passed",
)
def test_closing_in_stages(gate):
    """A client that is still sending gets the answer and no reset."""
    with gate.raw() as client:
        client.send_anyway(post("Content-Length: 1", "Content-Length: 2") + b"x" * 60000)
        assert client.response("POST").status == 400
        assert client.ended(5) and not client.was_reset


@pytest.fixture(scope="module", autouse=True)
def slow(gate):
    """Two clients that begin with the module: one is silent, one sends half a head."""
    clients = [gate.raw(20), gate.raw(20)]
    clients[1].send(get("/")[:-2])
    yield [Background(client.rest, 15) for client in clients]
    for client in clients:
        client.close()


@RFC.stricter(
    "9.5",
    "MAY",
    "A client, server, or proxy MAY close the transport connection at any time; the RFC sets no "
    "time limits",
    "a head is whole within 10 s of its first byte (408), a silent connection ends after 10 s, a "
    "kept one after 60 s; content comes at 500 bytes/s or more after the first 10 s (408), and a "
    "client takes something every 30 s",
)
def test_slow_clients(slow):
    """The limits of 10 s; the others have tests of their own."""
    silent, half = [client.result(15) for client in slow]
    assert silent == b"" and half.startswith(b"HTTP/1.1 408 ") and b"Connection: close" in half


# --- 11: security ---------------------------------------------------------------------------------


@RFC.follows(
    "11.1",
    "plain",
    "Response splitting: what a client sends never makes a line of a response",
)
def test_response_splitting(gate):
    """Escaped line ends stay escaped; the request id, which is told back, takes no other byte."""
    response = raw.request(gate.front, get("/a%0d%0aX-Evil:%201", "X-Request-Id: a%0d%0aX-Evil: 1"))
    assert response.all("X-Evil") == [] and "%" not in response.one("X-Request-Id")


@RFC.follows(
    "11.2",
    "plain",
    "Request smuggling exploits differences in protocol parsing among recipients: what is "
    "ambiguous is refused before a worker is asked",
)
@pytest.mark.parametrize(
    "lines",
    [
        ["Content-Length: 5", CHUNKED],
        ["Transfer-Encoding: xchunked", "Content-Length: 5"],
        ["Transfer-Encoding : chunked", "Content-Length: 5"],
        ["Transfer-Encoding:\x0bchunked"],
        ["X: x\nTransfer-Encoding: chunked"],
        ["Transfer-Encoding", " : chunked"],
        [CHUNKED, "Transfer-Encoding: x"],
        ["Content-Length: 0", "Content-Length: 44"],
    ],
    ids=str,
)
def test_smuggling(gate, lines):
    """No worker sees any of it."""
    before = seen_requests(gate)
    with gate.raw() as client:
        client.send_anyway(post(*lines, body=b"0\r\n\r\n") + get("/smuggled"))
        assert client.response("POST").status in (400, 501) and client.ended(5)
    assert seen_requests(gate) - before == 1, "only the one that asks"
