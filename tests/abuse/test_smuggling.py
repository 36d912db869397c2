# SPDX-License-Identifier: Apache-2.0
"""Front and worker never disagree about where a request ends: the corpus of smuggling before nginx,
Apache, HAProxy, lighttpd and Node. The difficulty: a disagreement shows only in what comes next, so
each payload is followed by a canary on its own connection and by one on another, and in the end the
worker's own log must be, request by request, what the front says that it has passed on."""
import collections
import socket

import pytest

import abuse_corpus as corpus
from abuse_five import SERVERS, path_of
from harness import http2, raw

ROWS = corpus.rows()
BROKEN_OFF = ("HPE_INVALID_EOF_STATE", "ECONNRESET")  # bodies that turn bad once they are under way
SHORT = ("TE alone", "chunk line b'0", "CL b'1", "hosts", "trailer b'x")  # left to the long run


def conversation(gate, row, path, number):
    """Sends a payload with its canary behind it and no more; gives all answers, and the rest."""
    canary = f"GET {path}/same-{number} HTTP/1.1\r\nHost: kipgate.test\r\n\r\n".encode()
    answers = []
    with gate.raw(20) as client:
        client.send_anyway(row.at(path) + canary)
        try:
            client.half_close()
        except OSError:
            pass
        methods = [row.method, "GET"]
        while True:
            try:
                method = methods.pop(0) if methods else "GET"
                answers.append(client.response(method))
            except (raw.Broken, ConnectionResetError, IndexError):
                break
    return answers


def own(answer):
    """Whether an answer of the witness is the one to the request that it answers."""
    assert answer.one("X-Mark") == answer.one("X-Request-Id"), answer.fields
    return True


def try_row(gate, row, path, number):
    """One payload against one server; gives what is wrong, in words."""
    answers = conversation(gate, row, path, number)
    good = [a for a in answers if a.status == 200 and own(a)]
    other = gate.get(f"{path}/other-{number}", timeout=20)
    if other.status != 200 or not own(other) or f"/other-{number} ".encode() not in other.body:
        return f"the next request got {other.status} {other.body!r}"
    if row.verdict == corpus.REFUSED and (good or len(answers) > 1):
        return f"not refused: {[(a.status, a.body) for a in answers]}"
    if row.verdict == corpus.REFUSED and answers and not 400 <= answers[0].status < 600:
        return f"refused by {answers[0].status}"
    if row.verdict != corpus.PASSED:
        return None
    if len(good) != 2:
        return f"{[(a.status, a.body[:90]) for a in answers]} instead of two answers"
    if row.method != "HEAD" and not good[0].body.endswith(f" {row.bytes}\n".encode()):
        return f"the worker saw {good[0].body!r}, not {row.bytes} bytes"
    if f"/same-{number} 0\n".encode() not in good[1].body:
        return f"the canary's answer is {good[1].body!r}"
    return None


def compare(five, server, last):
    """The worker's log against the front's: the same requests, each once, none smuggled."""
    seen = five.seen_with(server, last)
    passed = {line["id"]: line for line in five.passed() if line["service"] == server}
    whole = [line for line in seen if line.get("whole")]
    refused = [line for line in seen if line.get("refused", BROKEN_OFF[0]) not in BROKEN_OFF]
    seen = [line for line in seen if "refused" not in line]
    assert not refused, f"the witness got what is no request: {refused}"
    ids = collections.Counter(line["id"] for line in seen)
    assert not [i for i, n in ids.items() if n > 1], "a request came twice"
    assert set(ids) <= set(passed), "the worker saw what the front did not send"
    assert not [line for line in seen if "smuggled" in line["url"]], "smuggled"
    for line in whole:
        sent = passed[line["id"]]
        target = sent["target"].removeprefix("http://kipgate.test")  # told as the client wrote it
        assert (sent["method"], target) == (line["method"], line["url"]), (sent, line)
    answered = {i for i, line in passed.items() if line["status"] == 200}
    assert answered == {line["id"] for line in whole} & answered, "answered, but never asked"


@pytest.mark.parametrize("server", SERVERS)
def test_front_and_worker_agree_where_a_request_ends(five, server, long_run):
    """Every row of the corpus."""
    rows = [row for row in ROWS if long_run or not row.name.startswith(SHORT)]
    path, wrong = path_of(server), {}
    for number, row in enumerate(rows):
        fault = try_row(five.gate, row, path, number)
        if fault:
            wrong[row.name] = fault
    assert not wrong, "\n".join(f"{name}: {fault}" for name, fault in wrong.items())
    compare(five, server, f"{path}/other-{len(rows) - 1}")


def downgraded(gate, fields, body):
    """What an HTTP/2 request came to: a status, "reset" or "ended"."""
    with http2.Http2(gate.front, timeout=20) as client:
        stream = client.headers(fields, end=not body)
        if body:
            client.data(stream, body)
        try:
            response = client.response(stream)
        except http2.ConnectionError_:
            return "ended"
        return response.status or "reset"


@pytest.mark.parametrize("server", SERVERS)
def test_what_http2_carries_cannot_become_two_requests(five, server):
    """H2.CL, H2.TE, line ends in names, values and pseudo-header fields: nothing of it is passed
    on."""
    path, wrong = path_of(server), {}
    number = 0
    for number, (name, fields, body) in enumerate(corpus.downgrades()):
        fields = [(key, value.replace("@P", path)) for key, value in fields]
        outcome = downgraded(five.gate, fields, body.replace(b"@P", path.encode()))
        late = name == "H2.CL '0'" and outcome == 200  # answered before the content came
        if outcome not in ("reset", "ended", 400, 421, 501) and not late:
            wrong[name] = outcome
        other = five.gate.get(f"{path}/two-{number}", timeout=20)
        if other.status != 200 or not own(other):
            wrong[name] = other.body
    assert not wrong, wrong
    compare(five, server, f"{path}/two-{number}")


def test_requests_in_one_segment_and_in_single_bytes(five):
    """The same two requests, however they are cut: two answers, in order, each its own."""
    for server in SERVERS:
        path = path_of(server)
        head = (
            f"POST {path}/cut HTTP/1.1\r\nHost: kipgate.test\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        data = head.encode() + b"3\r\nabc\r\n0\r\n\r\n" + head.encode() + b"1\r\nx\r\n0\r\n\r\n"
        for size in (1, 7, len(data)):
            with five.gate.raw(20) as client:
                try:
                    client.send_pieces(data, size)
                    first, second = client.response(), client.response()
                except socket.timeout:
                    raise AssertionError((server, size)) from None
            assert own(first) and first.body.endswith(b" 3\n")
            assert own(second) and second.body.endswith(b" 1\n")
