# SPDX-License-Identifier: Apache-2.0
"""The system calls of a warm request, as the kernel sees them made by a real front. How many there
are is behaviour, not speed. The difficulty: strace slows the front, so every connection, those to the
worker too, has had its first request before the counting begins."""
from harness import calls
from harness.echo import get, raw_target, slow

CONNECTIONS, ROUNDS = 20, 100
# Head and body in one piece: in two, the front would rightly make two reads and writes of it.
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def ask_all(clients, target=raw_target(ANSWER)):
    """A request on each, all at once, and their answers."""
    for client in clients:
        client.send(get(target))
    for client in clients:
        assert client.response().status == 200


def test_a_warm_request_is_two_reads_and_two_writes(kipgate, echo):
    """2,000 requests on kept connections; nothing but epoll_wait may come to that."""
    gate = kipgate({"w": echo(concurrency=100)}, config={"fronts": 1})
    (front,) = gate.fronts()
    clients = [gate.raw(30) for _ in range(CONNECTIONS)]
    ask_all(clients, slow(500))  # none is answered before all are asked: each has its connection
    ask_all(clients)
    with calls.counted(front) as made:
        for _ in range(ROUNDS):
            ask_all(clients)
    requests, kinds = ROUNDS * CONNECTIONS, made.kinds()
    for client in clients:
        client.close()
    assert 2.0 <= kinds["reads"] / requests <= 2.1, made.names
    assert 2.0 <= kinds["writes"] / requests <= 2.1, made.names
    assert kinds["epoll_ctl"] / requests <= 0.1, made.names
    assert kinds["clock"] == 0 and kinds["memory"] == 0, made.names
    assert kinds["others"] / requests <= 0.01, made.names
