# SPDX-License-Identifier: Apache-2.0
"""HTTP/2 end to end: what a client gets through it, by a raw client, curl and nghttp; the rules of
RFC 9113 have their own tests (test_conformance_9113*). The difficulty: whatever becomes of a stream,
the worker's slot must come back."""
import hashlib
import os
import random
import signal
import struct
import subprocess
import time

import pytest
from conformance_http2 import BOTH

from harness import echo as worker
from harness import http2, proc, raw, settings
from harness.http2 import DATA, GOAWAY, END_STREAM, Http2, frame, rst_stream
from harness.kipgate import Kipgate, problem
from harness.tls import Certificate, secure, trusting
from harness.waiting import Background, together, wait_until

MIB = 1 << 20
WEBSOCKET = [(":protocol", "websocket"), ("sec-websocket-version", "13")]


@pytest.fixture(scope="module")
def gate(echo):
    """Services of every kind that matters here; one front, so that its counters are all."""
    services = {
        "echo": echo(routes=["kipgate.test", "127.0.0.1"], idle_timeout="10m", concurrency=200),
        "small": echo(routes=["kipgate.test/small-bodies"], max_body="1KiB", idle_timeout="10m"),
        "hasty": echo(routes=["hasty.test"], request_timeout="500ms", idle_timeout="10m"),
        "held": echo(routes=["held.test"], idle_timeout="10m", env=worker.start_delay(1500)),
    }
    with Kipgate(services, binary=settings.sanitized_bin(), config=BOTH) as kipgate:
        assert kipgate.admin.wake("echo").status == 200
        yield kipgate


@pytest.fixture
def client(gate):
    """One connection."""
    with Http2(gate.front, timeout=20) as connection:
        yield connection


class Answer:
    """A response of HTTP/2 in the shape that `problem` reads."""

    def __init__(self, response):
        self.status, self.body, self.response = response.status, response.body, response
        self.fields = response.fields

    def one(self, name):
        """The value of a field in any case of letters."""
        return self.response.one(name.lower())


def no_exchange_is_left(gate, service="echo"):
    """Slots are back: the service has nothing under way."""
    wait_until(
        lambda: gate.admin.metric("kipgate_exchanges", service=service) == 0,
        10,
        "exchanges that are over",
    )


def run(*words):
    """A program's output."""
    done = subprocess.run(words, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, (words, done.returncode, done.stdout[-500:], done.stderr[-500:])
    return done.stdout


# --- bodies ---------------------------------------------------------------------------------------


def slowly(connection, stream, total, pauses):
    """Reads a body of `total` bytes with small windows and pauses; gives its length."""
    seen = 0
    while seen < total:
        got = connection.read()
        if got.kind == DATA and got.stream == stream:
            seen += len(got.payload)
            connection.responses[stream].body = b""
            if pauses and seen > pauses[0]:
                pauses.pop(0)
                time.sleep(0.5)
    return seen


class Memory:
    """Resident memory of the fronts, against their beginning."""

    def __init__(self, gate):
        self.pids = gate.pids()
        self.base = {pid: proc.rss_kib(pid) for pid in self.pids}

    def growth_kib(self):
        """The most that one has grown."""
        return max(proc.rss_kib(pid) - self.base[pid] for pid in self.pids)


def test_large_download_with_a_reader_that_pauses(gate):
    """100 MB, and memory stays flat while the client gives no window."""
    total = 100 * 1000 * 1000
    with Http2(gate.front, timeout=30) as connection:
        stream = connection.ask(worker.zeros(total))
        memory = Memory(gate)
        assert slowly(connection, stream, total, [total // 4, total // 2]) == total
        assert memory.growth_kib() < 8 * 1024
        assert connection.get("/next").status == 200


def test_large_upload_to_a_worker_that_pauses(gate):
    """100 MB to a worker that is stopped now and then: the windows close, nothing piles up."""
    block, blocks = bytes(MIB), 96
    pids = proc.tree(gate.witness.inspect(gate.admin.instances("echo")[0]["id"])["State"]["Pid"])
    with Http2(gate.front, timeout=30) as connection:
        fields = http2.request(worker.sink(), method="POST")
        stream = connection.headers(fields, end=False)
        memory = Memory(gate)
        for index in range(blocks):
            if index in (20, 60):
                for pid in pids:
                    os.kill(pid, signal.SIGSTOP)
                waker = Background(
                    lambda: (time.sleep(0.7), [os.kill(p, signal.SIGCONT) for p in pids])
                )
                connection.upload(stream, block, end=False)
                waker.result(5)
            else:
                connection.upload(stream, block, end=False)
        connection.data(stream)
        assert worker.sunk_bytes(connection.response(stream)) == blocks * MIB
        assert memory.growth_kib() < 8 * 1024


def test_bodies_arrive_exactly(client):
    """Odd sizes around frames and windows, both ways at once, on many streams."""
    rng = random.Random(5)
    bodies = [rng.randbytes(n) for n in (1, 16383, 16384, 16385, 65535, 65536, 200001)]
    for body in bodies:
        response = client.response(client.ask("/body", method="POST", body=body))
        assert response.status == 200 and response.body == body
    total, digest = worker.sunk(
        client.response(client.ask("/sink", method="POST", body=bodies[-1]))
    )
    assert (total, digest) == (len(bodies[-1]), hashlib.sha256(bodies[-1]).hexdigest())


def test_a_waiting_upload_holds_up_nobody(gate, client):
    """A body for a worker that is still being started fills its own window only."""
    waiting = client.headers(
        http2.request(worker.sink(), method="POST", authority="held.test"), end=False
    )
    client.upload(waiting, bytes(http2.WINDOW), end=False)
    assert client.get("/next").status == 200
    client.upload(waiting, b"end")
    assert worker.sunk_bytes(client.response(waiting, 30)) == http2.WINDOW + 3
    no_exchange_is_left(gate, "held")


def test_streams_go_on_beside_one_that_is_not_read(gate):
    """A stream without a window holds its worker back, not the others."""
    with Http2(gate.front, pairs=[(http2.INITIAL_WINDOW_SIZE, 1000)]) as connection:
        connection.credit = False
        stuck = connection.ask(worker.zeros(10 * MIB))
        others = [connection.ask(worker.zeros(900)) for _ in range(20)]
        assert all(len(connection.response(other).body) == 900 for other in others)
        assert len(connection.response_on(stuck).body) == 1000


def test_first_bytes_reach_the_worker_before_the_last(client):
    """Full duplex, as gRPC asks for it: an echo answers while the request goes on."""
    stream = client.headers(http2.request("/body", method="POST"), end=False)
    for index in range(5):
        piece = b"piece %d" % index
        client.data(stream, piece, end=False)
        client.until(lambda got: got.kind == DATA and got.payload == piece)
    client.data(stream)
    assert client.response(stream).ended


def test_server_sent_events_arrive_at_once(client):
    """Each as its worker sent it."""
    began = time.monotonic()
    stream = client.ask(worker.sse(3, 300))
    client.until(lambda got: got.kind == DATA and got.payload)
    assert time.monotonic() - began < 0.25
    assert client.response(stream).body.count(b"data:") == 3


# --- answers of ours ------------------------------------------------------------------------------


def test_problems(gate, client):
    """The same shapes as in HTTP/1; the connection goes on."""
    problem(Answer(client.get("/", authority="nowhere.test")), 404, "no-route")
    problem(Answer(client.get("/a%00b")), 400, "bad-request")
    problem(Answer(client.get("/", "expect: teapot")), 417, "expectation-failed")
    problem(Answer(client.get("/" + "a" * 9000)), 414, "uri-too-long")
    problem(Answer(client.get("/", *[f"x-{i}: 1" for i in range(101)])), 431, "head-too-large")
    problem(Answer(client.get("/", method="TRACE")), 405, "method-not-allowed")
    problem(Answer(client.get(worker.hang(), authority="hasty.test")), 504, "upstream-timeout")
    problem(Answer(client.get(worker.abort())), 502, "upstream-failed")
    assert client.get("/next").status == 200
    no_exchange_is_left(gate)


def test_problem_to_head_has_no_body(client):
    """But the length that it would have."""
    response = client.get("/", method="HEAD", authority="nowhere.test")
    assert (
        response.status == 404 and response.body == b"" and int(response.one("content-length")) > 0
    )


def test_max_body(gate, client):
    """By its length at once; without one as soon as there is too much of it."""
    fields = http2.request("/small-bodies/sink", "content-length: 1025", method="POST")
    problem(Answer(client.response(client.headers(fields, end=False))), 413, "body-too-large")
    stream = client.headers(http2.request("/small-bodies/sink", method="POST"), end=False)
    client.data(stream, bytes(1024), end=False)
    assert client.quiet(0.3) is not None and not client.response_on(stream).ended
    client.data(stream, b"1", end=False)
    problem(Answer(client.response(stream)), 413, "body-too-large")
    client.until(lambda got: got.kind == http2.RST_STREAM and got.stream == stream)
    exact = client.ask("/small-bodies/sink", method="POST", body=bytes(1024))
    assert worker.sunk_bytes(client.response(exact)) == 1024
    no_exchange_is_left(gate, "small")


def test_head_and_statuses_without_a_body(client):
    """HEAD, 204, 304."""
    response = client.get(worker.zeros(1234), method="HEAD")
    assert (response.status, response.body, response.one("content-length")) == (200, b"", "1234")
    for status in (204, 304):
        response = client.get(f"/status?code={status}")
        assert response.status == status and response.body == b""


def test_refused_requests_are_counted(gate, client):
    """Each once, by its reason."""
    before = gate.admin.metric("kipgate_refused_total", reason="bad-request")
    client.get("/a%00b")
    client.response(client.headers(http2.request("no-slash")))
    assert gate.admin.metric("kipgate_refused_total", reason="bad-request") == before + 2


# --- cold starts ----------------------------------------------------------------------------------


def test_cold_requests_are_held_and_start_one(echo, kipgate):
    """Fifty streams at once on a service that sleeps: one container, all answered."""
    gate = kipgate({"cold": echo(routes=["/"], concurrency=100)}, config=BOTH)
    with Http2(gate.front, timeout=30) as connection:
        streams = [connection.ask("/") for _ in range(50)]
        responses = [connection.response(stream) for stream in streams]
    assert {response.status for response in responses} == {200}
    assert any('desc="cold"' in (r.one("server-timing") or "") for r in responses)
    assert len(gate.witness.actions("create", "cold")) == 1


def test_resets_before_the_worker_is_there_start_one(echo, kipgate):
    """CVE-2023-44487 on a service that sleeps: the streams go, one container stays."""
    services = {"cold": echo(routes=["/"], env=worker.start_delay(800), idle_timeout="10m")}
    gate = kipgate(services, config=BOTH)
    for _ in range(3):
        with Http2(gate.front, timeout=30) as connection:
            for stream in [connection.ask("/") for _ in range(15)]:
                connection.send(rst_stream(stream))
            connection.quiet(0.1)
    with Http2(gate.front, timeout=30) as connection:
        assert connection.get("/").status == 200
    no_exchange_is_left(gate, "cold")
    assert len(gate.witness.actions("create", "cold")) == 1


# --- the end of a stream at each stage ------------------------------------------------------------

STAGES = {
    "waiting for a worker": (("/",), {"authority": "held.test"}, b""),
    "asked": ((worker.hang(),), {}, b""),
    "uploading": ((worker.sink(),), {"method": "POST"}, b"some"),
    "uploading to nobody": (
        (worker.sink(),),
        {"method": "POST", "authority": "held.test"},
        b"some",
    ),
    "responding": ((worker.drip(10000, 10, 50),), {}, b""),
    "responding without a window": ((worker.zeros(10 * MIB),), {}, b""),
    "uploading and responding": (("/body",), {"method": "POST"}, b"some"),
}


@pytest.mark.parametrize("how", ["reset", "end of the connection", "goaway and end"])
@pytest.mark.parametrize("stage", STAGES)
def test_the_slot_comes_back(gate, stage, how):
    """Whatever the client does in the middle."""
    arguments, options, body = STAGES[stage]
    gate.admin.sleep("held")
    with Http2(gate.front) as connection:
        connection.credit = False
        stream = connection.headers(http2.request(*arguments, **options), end=not body)
        if body:
            connection.data(stream, body, end=False)
        connection.quiet(0.15)
        if how == "reset":
            connection.send(rst_stream(stream) + http2.window_update(0, MIB))
            assert connection.get("/next").status == 200
        elif how == "goaway and end":
            connection.send(frame(GOAWAY, 0, 0, struct.pack(">II", 0, 0)))
            connection.quiet(0.05)
    for service in ("echo", "held"):
        no_exchange_is_left(gate, service)


def test_a_worker_that_breaks_off_resets_the_stream(gate, client):
    """Never the clean end of a shorter body."""
    response = client.get("/abort?cl=100&bytes=10")
    assert response.status == 200 and response.reset == http2.INTERNAL_ERROR and not response.ended
    assert client.get("/next").status == 200
    no_exchange_is_left(gate)


def test_many_streams_of_many_connections(gate):
    """All at once, in any order of ends; the books balance."""
    rng = random.Random(7)

    def some():
        with Http2(gate.front, timeout=30) as connection:
            streams = [
                connection.ask(rng.choice(["/small", worker.zeros(30000), worker.slow(20)]))
                for _ in range(60)
            ]
            gone = rng.sample(streams, 8)
            for stream in gone:
                connection.send(rst_stream(stream))  # what crossed it may still come
            done = [connection.response(stream) for stream in streams if stream not in gone]
            return sum(response.ended for response in done)

    assert together([some] * 12, 60) == [52] * 12
    no_exchange_is_left(gate)


def test_connections_to_the_worker_are_kept(gate, client):
    """Ninety at once make ninety; the next ninety make none; what is too much goes by and by."""

    def connections():
        return len(proc.sockets(gate.fronts()[0]))

    for _ in range(3):
        streams = [client.ask(worker.slow(300)) for _ in range(90)]
        assert {client.response(stream).status for stream in streams} == {200}
    before = connections()
    assert before >= 90
    wait_until(lambda: connections() <= before - 20, 10, "fewer kept connections")


# --- drain, reload, switched off ------------------------------------------------------------------


def last_stream(goaway):
    """The last one that is, or will be, served."""
    return struct.unpack(">I", goaway.payload[:4])[0]


def test_drain_ends_streams_first(echo, kipgate):
    """GOAWAY at once; what is asked before that is known, and the answer under way, arrive whole,
    then the connection ends."""
    gate = kipgate({"echo": echo(routes=["/"])}, config=BOTH)
    with Http2(gate.front, timeout=30) as connection:
        assert connection.get("/").status == 200
        stream = connection.ask(worker.drip(400, 10, 40))
        connection.until(lambda got: got.kind == DATA)
        stopping = Background(gate.stop)
        got = connection.until(lambda got: got.kind == GOAWAY)
        assert (got.code, last_stream(got)) == (http2.NO_ERROR, 2**31 - 1)
        crossing = connection.ask("/")  # ahead of the answer to the PING behind the GOAWAY
        assert connection.response(crossing).status == 200
        assert len(connection.response(stream).body) == 400
        assert connection.goaway() == http2.NO_ERROR and connection.eof
        assert last_stream([got for got in connection.frames if got.kind == GOAWAY][-1]) == crossing
        stopping.result(30)


def test_reload_under_streams(echo, kipgate):
    """A stream keeps the service it began with; the connection stays."""
    gate = kipgate({"echo": echo(routes=["/"])}, config=BOTH)
    with Http2(gate.front, timeout=30) as connection:
        stream = connection.ask(worker.drip(300, 10, 30))
        connection.until(lambda got: got.kind == DATA)
        change = {"b": echo(routes=["/b"])}
        assert gate.reload(lambda config: config["services"].update(change)).status == 200
        assert connection.get("/b").status == 200
        assert len(connection.response(stream).body) == 300


def test_prior_knowledge_is_off_unless_asked_for(echo, kipgate):
    """Then the preface is what it is in HTTP/1: a version that is not spoken."""
    gate = kipgate({"echo": echo(routes=["/"])})
    response = raw.request(gate.front, http2.PREFACE + http2.settings())
    problem(response, 505, "version-not-supported")


def test_admin_listener_speaks_http1_only(gate):
    """Whatever the clients' listeners speak."""
    response = raw.request(gate.admin_address, http2.PREFACE + http2.settings())
    problem(response, 505, "version-not-supported")


# --- WebSockets (RFC 8441) ------------------------------------------------------------------------


def masked(payload, opcode=1):
    """A client's frame."""
    mask = b"\x01\x02\x03\x04"
    head = bytes([0x80 | opcode, 0x80 | len(payload)]) + mask
    return head + bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))


def websocket(connection, path="/ws", *more):
    """Asks for a WebSocket; gives its stream."""
    fields = http2.request(path, *more, method="CONNECT")
    return connection.headers(fields + WEBSOCKET, end=False)


def test_websocket(gate, client):
    """Settings say that it is there; bytes go both ways; each half ends by itself."""
    assert dict(client.until(lambda got: got.kind == http2.SETTINGS).settings).get(8) == 1
    stream = websocket(client)
    client.until(lambda got: got.kind == http2.HEADERS)
    response = client.response_on(stream)
    assert response.status == 200 and not response.ended
    assert response.one("sec-websocket-accept") is None
    for text in (b"one", b"x" * 125, b"three"):
        client.data(stream, masked(text), end=False)
        client.until(lambda got, last=text: response.body.endswith(last))
    assert response.body == b"\x81\x03one\x81\x7d" + b"x" * 125 + b"\x81\x05three"
    client.data(stream, masked(struct.pack(">H", 1000), 8), end=False)
    client.until(lambda got: b"\x88" in response.body)
    client.data(stream)
    assert client.response(stream).ended
    no_exchange_is_left(gate)


def test_websocket_with_bytes_ahead(client):
    """Frames that come before the worker has switched wait for it."""
    stream = websocket(client)
    client.data(stream, masked(b"early"), end=False)
    client.until(lambda got: client.response_on(stream).body.endswith(b"early"))
    assert client.response_on(stream).body == b"\x81\x05early"


def test_websocket_refused_by_the_worker(client):
    """Any other answer is passed as it is."""
    stream = websocket(client, "/status?code=403")
    assert client.response(stream).status == 403


def test_websocket_that_the_worker_overlooks(client):
    """To a CONNECT a 200 says that there is a tunnel: one that means something else is an error."""
    answer = Answer(client.response(websocket(client, "/status?code=200")))
    problem(answer, 502, "upstream-failed")


def test_websocket_of_nobody(client):
    """No route; another protocol."""
    fields = http2.request("/ws", method="CONNECT", authority="nowhere.test") + WEBSOCKET
    problem(Answer(client.response(client.headers(fields, end=False))), 404, "no-route")
    fields = http2.request("/ws", method="CONNECT") + [(":protocol", "connect-udp")]
    problem(Answer(client.response(client.headers(fields, end=False))), 501, "not-implemented")


@pytest.mark.parametrize("how", ["reset", "close"])
def test_websocket_that_breaks_off(gate, how):
    """The worker's side goes with it."""
    with Http2(gate.front) as connection:
        stream = websocket(connection)
        connection.data(stream, masked(b"x"), end=False)
        connection.until(lambda got: got.kind == DATA)
        assert gate.admin.metric("kipgate_exchanges", service="echo") == 1
        if how == "reset":
            connection.send(rst_stream(stream))
            assert connection.get("/next").status == 200
    no_exchange_is_left(gate)


def test_many_websockets_on_one_connection(gate, client):
    """And a request beside them."""
    streams = [websocket(client) for _ in range(30)]
    for stream in streams:
        client.data(stream, masked(b"%d" % stream), end=False)
    for stream in streams:
        while len(client.response_on(stream).body) <= 2:
            client.read()
        assert client.response_on(stream).body[2:] == b"%d" % stream
    assert client.get("/next").status == 200
    for stream in streams:
        client.send(frame(DATA, END_STREAM, stream))
    no_exchange_is_left(gate)


# --- by TLS ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def secured(echo, tmp_path_factory):
    """A Kipgate with a certificate for a.test and b.test; `protocols` is what it is by default."""
    config = {"fronts": 1, "protocols": None}
    made = Kipgate({"echo": echo(concurrency=200)}, binary=settings.sanitized_bin(), config=config)
    made.certificate = Certificate("a.test", "b.test", common="own", ca=True)
    with secure(made, made.certificate.write(tmp_path_factory.mktemp("tls"))) as kipgate:
        assert kipgate.admin.wake("echo").status == 200
        yield kipgate


def by_tls(gate, alpn=("h2",), name="a.test"):
    """A connection; HTTP/2 begins where that was agreed on."""
    connection = Http2(gate.tls, begin=False, timeout=20)
    context = trusting(gate.certificate, alpn)
    connection.socket = context.wrap_socket(connection.socket, server_hostname=name)
    if connection.socket.selected_alpn_protocol() == "h2":
        connection.send(http2.PREFACE + http2.settings())
    return connection


def test_by_tls(secured):
    """ALPN chooses; the worker learns of TLS; bodies arrive exactly, both ways at once."""
    body = random.Random(3).randbytes(5 * MIB)
    with by_tls(secured, ("h2", "http/1.1")) as connection:
        assert connection.socket.selected_alpn_protocol() == "h2"
        seen = connection.get("/", authority="a.test").body
        assert b"X-Forwarded-Proto: https" in seen and b"Via: 2 kipgate" in seen
        stream = connection.ask("/sink", method="POST", body=body, authority="a.test")
        total, digest = worker.sunk(connection.response(stream))
        assert (total, digest) == (len(body), hashlib.sha256(body).hexdigest())
        response = connection.get(worker.zeros(3 * MIB), authority="a.test")
        assert response.body == bytes(3 * MIB)
    no_exchange_is_left(secured)


def test_another_host_than_by_tls(secured):
    """421, and the connection goes on."""
    with by_tls(secured) as connection:
        problem(Answer(connection.get("/", authority="b.test")), 421, "misdirected-request")
        assert connection.get("/", authority="a.test").status == 200


@pytest.mark.parametrize("alpn", [("http/1.1",), ()])
def test_http2_that_was_not_agreed_on(secured, alpn):
    """By TLS it is spoken where ALPN says so, and nowhere else."""
    with by_tls(secured, alpn) as connection:
        connection.send(http2.PREFACE + http2.settings())
        assert connection.socket.recv(1000).startswith(b"HTTP/1.1 505 ")


def test_http1_where_http2_was_agreed_on(secured):
    """It is no preface."""
    connection = Http2(secured.tls, begin=False)
    context = trusting(secured.certificate, ("h2",))
    connection.socket = context.wrap_socket(connection.socket, server_hostname="a.test")
    with connection:
        connection.send(worker.get("/"))
        assert connection.goaway() is not None and connection.eof


def test_curl_by_tls(secured):
    """HTTP/2 is what it agrees on, many requests on one connection."""
    file = secured.directory / "ca.pem"
    file.write_bytes(secured.certificate.pem)
    name = f"a.test:{secured.tls[1]}"
    trust = ("--cacert", str(file), "--resolve", f"{name}:127.0.0.1")
    form = ("-w", "%{http_code} %{http_version} ", "-o", "/dev/null")
    assert run("curl", "-sS", *trust, *form, f"https://{name}/[1-20]") == b"200 2 " * 20


# --- clients of others ----------------------------------------------------------------------------


def test_curl(gate, tmp_path):
    """GET, an upload and a download of some size."""
    url = f"http://127.0.0.1:{gate.front[1]}"
    curl = ("curl", "-sS", "--http2-prior-knowledge")
    assert b"Via: 2 kipgate" in run(*curl, url + "/")
    body = tmp_path / "body"
    body.write_bytes(random.Random(1).randbytes(3 * MIB))
    assert run(*curl, "-T", str(body), url + "/body") == body.read_bytes()
    form = ("-w", "%{http_code} %{http_version}", "-o", "/dev/null")
    assert run(*curl, *form, url + worker.zeros(20 * MIB)) == b"200 2"


def test_nghttp(gate, tmp_path):
    """Many streams, priorities, padding, an upload."""
    url = f"http://127.0.0.1:{gate.front[1]}"
    assert len(run("nghttp", "-m", "50", url + worker.zeros(5000))) == 50 * 5000
    assert len(run("nghttp", "-b", "100", "-p", "200", url + worker.zeros(100000))) == 100000
    body = tmp_path / "body"
    body.write_bytes(b"hello" * 50000)
    assert run("nghttp", "-d", str(body), url + "/body") == body.read_bytes()


def test_h2load(gate):
    """Ten thousand requests, each answered."""
    url = f"http://127.0.0.1:{gate.front[1]}/small"
    said = run("h2load", "-n", "10000", "-c", "4", "-m", "20", url)
    assert b"10000 succeeded, 0 failed, 0 errored" in said
    no_exchange_is_left(gate)


def test_zz_the_sanitizers_have_nothing_to_say(gate):
    """Of all the above."""
    gate.assert_clean()
