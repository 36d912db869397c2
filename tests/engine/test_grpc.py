# SPDX-License-Identifier: Apache-2.0
"""gRPC end to end: the library's own client through Kipgate to the library's own server, which
starts at the first call. The difficulty: nothing of this is ours but what lies between them."""
import queue
import subprocess
import threading
import time

import grpc
import pytest

from harness import raw, settings
from harness.kipgate import Kipgate, problem
from harness.waiting import together, wait_until

MIB = 1024 * 1024
LARGE = [("grpc.max_receive_message_length", 64 * MIB), ("grpc.max_send_message_length", 64 * MIB)]
H2C = {"protocols": ["h2c", "http/1.1"]}


def service(**more):
    """The configuration of the worker in examples/grpc-worker."""
    image = settings.grpc_worker()
    return {"image": image, "port": 50051, "pull": "never", "protocol": "h2c", **more}


def channel(gate, *options):
    """A channel with a connection of its own."""
    port = gate.front[1]
    return grpc.insecure_channel(
        f"127.0.0.1:{port}", options=[*LARGE, *options, ("grpc.use_local_subchannel_pool", 1)]
    )


class Calls:
    """The worker's methods as a client of generated code has them."""

    def __init__(self, gate, *options):
        self.channel = channel(gate, *options)

    def __getattr__(self, name):
        kind = {
            "Count": "unary_stream",
            "BreakOff": "unary_stream",
            "Total": "stream_unary",
            "Early": "stream_unary",
            "Chat": "stream_stream",
        }.get(name, "unary_unary")
        return getattr(self.channel, kind)(f"/example.Bytes/{name}")


class Requests:
    """Messages of a call, said one by one."""

    def __init__(self):
        self.queue = queue.Queue()

    def __iter__(self):
        return iter(self.queue.get, None)

    def say(self, message):
        """One more; None ends them."""
        self.queue.put(message)


@pytest.fixture(scope="module")
def gate():
    """One that most tests share."""
    with Kipgate({"grpc": service(idle_timeout="10m")}, config=H2C) as made:
        yield made


@pytest.fixture
def calls(gate):
    """The shared worker's methods."""
    made = Calls(gate)
    yield made
    made.channel.close()


def refused(code, call, *args, **kwargs):
    """The call must end with that status; gives its words."""
    with pytest.raises(grpc.RpcError) as error:
        result = call(*args, timeout=30, **kwargs)
        if not isinstance(result, bytes):
            list(result)
    assert error.value.code() == code, error.value
    return error.value.details()


# --- kinds of calls -------------------------------------------------------------------------------


def test_first_call_makes_the_worker(kipgate):
    """Cold, with many at once: one container, and every call is answered."""
    gate = kipgate({"grpc": service()}, config=H2C)
    began = time.monotonic()
    answers = together([lambda n=n: Calls(gate).Echo(b"%d" % n, timeout=30) for n in range(20)], 60)
    assert answers == [b"%d" % n for n in range(20)]
    assert gate.witness.made("grpc") == 1
    assert time.monotonic() - began < 30


def test_unary_with_metadata_both_ways(calls):
    """Initial and trailing metadata, text and binary."""
    answer, call = calls.Echo.with_call(b"hello", metadata=[("x-echo", "said")], timeout=30)
    assert answer == b"hello"
    first = dict(call.initial_metadata())
    assert first["x-echo"] == "said" and "x-request-id" in first
    last = dict(call.trailing_metadata())
    assert last["x-echo-last"] == "said" and last["x-bytes-bin"] == b"said"
    assert calls.Echo(b"", timeout=30) == b""


def test_server_streaming(calls):
    """Each message as it is made, and the trailers behind the last."""
    call = calls.Count(b"5 100", timeout=30)
    seen = []
    for message in call:
        seen.append((message, time.monotonic()))
    assert [message for message, _ in seen] == [b"0", b"1", b"2", b"3", b"4"]
    assert seen[-1][1] - seen[0][1] > 0.3
    assert dict(call.trailing_metadata())["x-count"] == "5"
    assert len(list(calls.Count(b"20000", timeout=60))) == 20000


def test_client_streaming(calls):
    """Many messages in, one out; also one that comes before the last of them."""
    assert calls.Total(iter([b"x" * 1000] * 2000), timeout=30) == b"2000 2000000"
    requests = Requests()
    requests.say(b"first")
    assert calls.Early(iter(requests), timeout=30) == b"enough: first"
    requests.say(None)


def test_both_ways_at_once(calls):
    """A conversation: each word waits for the answer to the one before."""
    requests = Requests()
    answers = calls.Chat(iter(requests), timeout=30)
    for number in range(50):
        requests.say(b"word %d" % number)
        assert next(answers) == b"WORD %d" % number
    requests.say(None)
    assert list(answers) == []
    assert answers.code() == grpc.StatusCode.OK


def test_large_messages(calls):
    """4 MiB as they are usual, and 32 MiB."""
    for size in (4 * MIB, 32 * MIB):
        message = bytes(range(256)) * (size // 256)
        assert calls.Echo(message, timeout=60) == message


def test_many_streams_at_once(gate):
    """Slow ones and quick ones on one connection and its one session."""
    calls = Calls(gate)
    slow = [calls.Count(b"10 100", timeout=30) for _ in range(20)]
    quick = together([lambda n=n: calls.Echo(b"%d" % n, timeout=30) for n in range(100)], 60)
    assert quick == [b"%d" % n for n in range(100)]
    assert all(len(list(call)) == 10 for call in slow)
    calls.channel.close()


def test_slow_readers_hold_only_themselves(kipgate):
    """Streams that nobody reads fill their own windows, and not the one of the session they share
    with others."""
    gate = kipgate({"grpc": service()}, config={**H2C, "fronts": 1})
    small = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 65535)]
    slow = [Calls(gate, *small) for _ in range(40)]
    unread = [calls.Count(b"1000000 0 10000", timeout=60) for calls in slow]
    assert all(next(call).strip() == b"0" for call in unread)
    time.sleep(2)
    quick = Calls(gate)
    for _ in range(3):
        assert quick.Large(b"1000000", timeout=10) == b"x" * 1000000
    for call in unread:
        call.cancel()
    for calls in [*slow, quick]:
        calls.channel.close()


# --- statuses, deadlines --------------------------------------------------------------------------


def test_statuses(calls):
    """Trailers alone, trailers behind messages, and words that are not ASCII."""
    code = grpc.StatusCode
    assert refused(code.FAILED_PRECONDITION, calls.Fail, "völlig 100%".encode()) == "völlig 100%"
    call = calls.BreakOff(b"", timeout=30)
    assert [next(call) for _ in range(3)] == [b"0", b"1", b"2"]
    with pytest.raises(grpc.RpcError) as error:
        next(call)
    assert error.value.code() == code.DATA_LOSS and error.value.details() == "three is enough"
    refused(code.UNIMPLEMENTED, calls.Nothing, b"")


def given_up(gate):
    """How many calls the worker saw given up."""
    container = gate.witness.wait_one(10, "grpc")
    return gate.witness.client.api.logs(container["Id"]).count(b"given up")


def test_deadline_and_cancel_reach_the_worker(gate, calls):
    """Who gives up frees the worker's thread at once, not when it would have answered."""
    calls.Echo(b"", timeout=30)
    before = given_up(gate)
    with pytest.raises(grpc.RpcError) as error:
        calls.Slow(b"20000", timeout=0.3)
    assert error.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    wait_until(lambda: given_up(gate) == before + 1, 5, "the deadline's end", every=0.05)
    future = calls.Slow.future(b"20000", timeout=30)
    time.sleep(0.2)
    future.cancel()
    wait_until(lambda: given_up(gate) == before + 2, 5, "the cancelled call's end", every=0.05)
    assert calls.Echo(b"still", timeout=30) == b"still"


def test_our_own_refusals_are_statuses(kipgate):
    """What Kipgate itself answers is told by its HTTP status, which clients know how to read."""
    gate = kipgate(
        {"grpc": service(image="kipgate.test/none:1", routes=["/example.Bytes"])}, config=H2C
    )
    calls = Calls(gate)
    refused(grpc.StatusCode.UNAVAILABLE, calls.Echo, b"")
    refused(grpc.StatusCode.UNIMPLEMENTED, calls.channel.unary_unary("/other/Call"), b"")
    calls.channel.close()


# --- the worker's life ----------------------------------------------------------------------------


def test_an_open_stream_is_use(kipgate):
    """A worker is not idle while a stream is open, however long nothing moves on it."""
    gate = kipgate({"grpc": service(idle_timeout="1s")}, config=H2C)
    calls = Calls(gate)
    requests = Requests()
    answers = calls.Chat(iter(requests), timeout=60)
    requests.say(b"a")
    assert next(answers) == b"A"
    time.sleep(4)
    requests.say(b"b")
    assert next(answers) == b"B"
    assert gate.witness.made("grpc") == 1
    requests.say(None)
    assert list(answers) == []
    gate.witness.wait_none(15, "grpc")
    assert calls.Echo(b"again", timeout=30) == b"again"
    assert gate.witness.made("grpc") == 2
    calls.channel.close()


def test_worker_that_dies_under_a_stream(kipgate):
    """The call fails, and never looks whole; the next one has a new worker."""
    gate = kipgate({"grpc": service()}, config=H2C)
    calls = Calls(gate)
    call = calls.Count(b"1000 50", timeout=60)
    assert next(call) == b"0"
    gate.witness.client.api.kill(gate.witness.wait_one(10, "grpc")["Id"])
    with pytest.raises(grpc.RpcError) as error:
        list(call)
    assert error.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL)
    assert calls.Echo(b"again", timeout=30) == b"again"
    assert gate.witness.made("grpc") == 2
    calls.channel.close()


def test_paused_worker(kipgate):
    """A session outlives the worker's sleep."""
    gate = kipgate({"grpc": service(idle_timeout="1s", on_idle="pause")}, config=H2C)
    calls = Calls(gate)
    assert calls.Echo(b"a", timeout=30) == b"a"
    gate.witness.wait_states(15, "grpc", "paused")
    assert calls.Echo(b"b", timeout=30) == b"b"
    assert gate.witness.made("grpc") == 1
    calls.channel.close()


def test_drain_lets_calls_finish(kipgate):
    """SIGTERM while a stream is open: its messages still come, all of them."""
    gate = kipgate({"grpc": service()}, config=H2C)
    calls = Calls(gate)
    call = calls.Count(b"20 100", timeout=60)
    assert next(call) == b"0"
    stopping = threading.Thread(target=gate.stop)
    stopping.start()
    assert len(list(call)) == 19
    calls.channel.close()
    stopping.join()


def test_ready_by_a_path(kipgate):
    """A health path is asked over HTTP/2, too; and without one, a worker that does not speak it."""
    gate = kipgate(
        {
            "grpc": service(
                routes=["/example.Bytes"], health={"path": "/health", "status": "200-499"}
            ),
            "wrong": {
                "image": settings.echo_image(),
                "port": 8080,
                "pull": "never",
                "protocol": "h2c",
                "routes": ["/wrong"],
            },
        },
        config=H2C,
    )
    assert Calls(gate).Echo(b"a", timeout=30) == b"a"
    body = problem(gate.get("/wrong"), 502, "upstream-failed")
    assert "does not speak HTTP/2" in body["detail"]


# --- other clients --------------------------------------------------------------------------------


def grpc_message(payload):
    """One message as it lies in a body."""
    return b"\0" + len(payload).to_bytes(4, "big") + payload


def test_client_of_http1_gets_the_trailers(gate):
    """The same call by hand over HTTP/1.1: trailers are there for who asks."""
    head = (
        b"POST /example.Bytes/Echo HTTP/1.1\r\nHost: kipgate.test\r\nTE: trailers\r\n"
        b"Connection: TE\r\nContent-Type: application/grpc\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    message = grpc_message(b"by hand")
    with gate.raw(timeout=30) as client:
        client.send(head + b"%x\r\n" % len(message) + message + b"\r\n0\r\n\r\n")
        response = client.response("POST")
    assert response.status == 200 and response.framing == "chunked"
    assert response.one("Content-Type") == "application/grpc"
    assert response.body == message
    assert ("grpc-status", "0") in response.trailers
    response = raw.get(gate.front, "/example.Bytes/Nothing", timeout=30)
    assert response.status < 500


def test_grpc_over_tls(kipgate, tmp_path):
    """The same by TLS and ALPN."""
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
         "-keyout", key, "-out", certificate, "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost"],
        check=True, capture_output=True,
    )  # fmt: skip
    gate = kipgate({"grpc": service()}, start=False)
    gate.config["listen"] = [f"https://127.0.0.1:{gate.front[1]}"]
    gate.config["certificates"] = [{"certificate": str(certificate), "key": str(key)}]
    gate.start()
    secure = grpc.secure_channel(
        f"localhost:{gate.front[1]}", grpc.ssl_channel_credentials(certificate.read_bytes())
    )
    echo = secure.unary_unary("/example.Bytes/Echo")
    assert echo(b"secret", timeout=30) == b"secret"
    secure.close()
