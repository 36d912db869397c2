# SPDX-License-Identifier: Apache-2.0
"""RFC 9112, HTTP/1.1, sections 6 to 8: where messages end. The difficulty: a wrong end shows only
in what is taken for the next message, so the next one is always asked for."""
import random

import pytest
from conformance import (
    broken_off,
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
)

from harness import echo as worker
from harness import raw
from harness.echo import Dump, get, raw_post, raw_target
from harness.kipgate import problem
from harness.raw import Broken
from harness.waiting import wait_until

RFC = Table(9112)


@pytest.fixture(scope="module")
def gate(echo):
    """One front, so that kept worker connections are met again."""
    services = {
        "echo": echo(routes=["/"], idle_timeout="10m"),
    }
    with http1_gate(services) as kipgate:
        yield kipgate


# --- 6: content -----------------------------------------------------------------------------------


@RFC.follows(
    "6",
    "plain",
    "The presence of content in a request is signaled by a Content-Length or Transfer-Encoding "
    "field, whatever the method",
)
def test_post_without_either_has_no_content(gate):
    """What follows is the next request."""
    with gate.raw() as client:
        client.send(post() + get("/next"))
        assert Dump(client.response().body).body == b""
        assert Dump(client.response().body).first == "GET /next HTTP/1.1"


@RFC.follows("6.1", "MUST", "A recipient MUST be able to parse the chunked transfer coding")
@RFC.follows(
    "7.1",
    "MUST",
    "A recipient MUST be able to parse and decode the chunked transfer coding",
)
def test_chunked_both_ways(gate):
    """Chunks of many sizes, upper and lower hex, leading zeros, in pieces."""
    body = random.Random(6).randbytes(30000)
    cuts = [0, 1, 16, 17, 272, 5000, 29999, 30000]
    coded = b""
    for at, end in zip(cuts, cuts[1:]):
        size = (b"%X" if at % 2 else b"000%x") % (end - at)
        coded += size + b"\r\n" + body[at:end] + b"\r\n"
    coded += b"0\r\n\r\n"
    with gate.raw() as client:
        client.send_pieces(post(CHUNKED, target=worker.sink(), body=coded), 777)
        assert worker.sunk_bytes(client.response("POST")) == 30000
    response = answered(gate, response_head(CHUNKED) + coded, split=777)
    assert response.body == body


@RFC.follows(
    "6.1",
    "MUST",
    "A sender MUST NOT apply the chunked transfer coding more than once to a message body",
)
def test_chunked_once(gate):
    """One coding goes out, and one came in or the message is refused."""
    coded = b"2\r\nok\r\n0\r\n\r\n"
    assert dump(gate, post(CHUNKED, body=coded), "POST").all("Transfer-Encoding") == ["chunked"]
    assert answered(gate, response_head(CHUNKED) + coded).all("Transfer-Encoding") == ["chunked"]
    refused(
        gate, post("Transfer-Encoding: chunked, chunked", body=coded), 400, "bad-request", "POST"
    )


@RFC.follows(
    "6.1",
    "MAY",
    "Transfer-Encoding MAY be sent in a response to a HEAD request or in a 304 (Kipgate leaves it "
    "out)",
)
def test_transfer_encoding_of_head_and_304(gate):
    """The worker's ends here."""
    head = answered(gate, response_head(CHUNKED), method="HEAD")
    same = answered(gate, response_head(CHUNKED, status="304 Not Modified"))
    assert head.all("Transfer-Encoding") == [] and same.all("Transfer-Encoding") == []


@RFC.follows(
    "6.1",
    "MUST",
    "A server MUST NOT send a Transfer-Encoding header field in any response with a status code "
    "of 1xx or 204",
)
def test_no_transfer_encoding_in_1xx_and_204(gate):
    """A worker's is dropped."""
    hint = response_head(CHUNKED, status="103 Early Hints")
    response = answered(gate, hint + response_head(CHUNKED, status="204 No Content"))
    assert response.status == 204 and response.all("Transfer-Encoding") == []
    assert [i.all("Transfer-Encoding") for i in response.interim] == [[]]


@RFC.follows(
    "6.1",
    "SHOULD",
    "A server that receives a request message with a transfer coding it does not understand "
    "SHOULD respond with 501 (Not Implemented)",
)
@pytest.mark.parametrize("value", ["gzip, chunked", "x, chunked", "identity, chunked"])
def test_unknown_transfer_codings(gate, value):
    """501."""
    data = post(f"Transfer-Encoding: {value}", body=b"0\r\n\r\n")
    refused(gate, data, 501, "not-implemented", "POST")


@RFC.stricter(
    "6.1",
    "MAY",
    "Any recipient MAY decode the received transfer codings: gzip, deflate and compress are "
    "defined for messages",
    "only chunked is decoded: compression is the worker's business, as a content coding. 501 from "
    "a client, 502 from a worker",
)
def test_compression_as_a_transfer_coding(gate):
    """Also followed by chunked."""
    for value in ("gzip, chunked", "deflate, chunked", "compress, chunked"):
        data = post(f"Transfer-Encoding: {value}", body=b"0\r\n\r\n")
        refused(gate, data, 501, "not-implemented", "POST")
        answer = response_head(f"Transfer-Encoding: {value}") + b"0\r\n\r\n"
        problem(answered(gate, answer), 502, "upstream-failed")


@RFC.follows(
    "6.1",
    "MUST",
    "A server MUST NOT send a response containing Transfer-Encoding unless the corresponding "
    "request indicates HTTP/1.1 (or later minor revisions)",
)
def test_no_chunks_for_http_1_0(gate):
    """The content of a chunked answer ends with the connection."""
    data = get(
        raw_target(response_head(CHUNKED) + b"2\r\nok\r\n0\r\n\r\n"), "Connection: keep-alive"
    )
    response = raw.request(gate.front, data.replace(b"HTTP/1.1", b"HTTP/1.0"))
    assert (response.framing, response.body, response.closes) == ("close", b"ok", True)


@RFC.stricter(
    "6.1",
    "MAY",
    "A server MAY reject a request that contains both Content-Length and Transfer-Encoding or "
    "process it in accordance with the Transfer-Encoding alone; it MUST close the connection "
    "after responding",
    "rejected with 400: it ought to be handled as an error, says 6.3",
)
@pytest.mark.parametrize("order", [1, -1], ids=["cl-te", "te-cl"])
def test_both_framings_in_a_request(gate, order):
    """In both orders; what follows is not taken for a request."""
    lines = ["Content-Length: 5", CHUNKED][::order]
    data = post(*lines, body=b"0\r\n\r\n") + get("/smuggled")
    refused(gate, data, 400, "bad-request", "POST")


@RFC.follows(
    "6.1",
    "MUST",
    "A server or client that receives an HTTP/1.0 message containing a Transfer-Encoding header "
    "field MUST treat the message as if the framing is faulty and close the connection",
)
def test_transfer_encoding_in_http_1_0(gate):
    """400 from a client, 502 from a worker."""
    data = post(CHUNKED, body=b"0\r\n\r\n").replace(b"HTTP/1.1", b"HTTP/1.0")
    refused(gate, data, 400, "bad-request", "POST")
    answer = (response_head(CHUNKED) + b"0\r\n\r\n").replace(b"HTTP/1.1", b"HTTP/1.0")
    problem(answered(gate, answer), 502, "upstream-failed")


@RFC.follows(
    "6.2",
    "MUST",
    "A sender MUST NOT send a Content-Length header field in any message that contains a "
    "Transfer-Encoding header field",
)
def test_one_framing_goes_out(gate):
    """Both ways; the raw client refuses a response with both."""
    seen = dump(gate, post(CHUNKED, body=b"2\r\nok\r\n0\r\n\r\n"), "POST")
    assert seen.all("Content-Length") == [] and seen.one("Transfer-Encoding") == "chunked"
    seen = dump(gate, post("Content-Length: 2", body=b"ok"), "POST")
    assert seen.all("Transfer-Encoding") == [] and seen.one("Content-Length") == "2"
    assert answered(gate, response_head(CHUNKED) + b"0\r\n\r\n").all("Content-Length") == []


@RFC.follows(
    "6.3",
    "plain",
    "1. Any response to a HEAD request and any response with a 1xx, 204, or 304 status code is "
    "always terminated by the first empty line after the header fields, regardless of the header "
    "fields",
)
@pytest.mark.parametrize("line", ["Content-Length: 9", CHUNKED, "X-A: a"])
def test_length_step_1(gate, line):
    """The connection is in step behind each of them."""
    with gate.raw() as client:
        client.send(get(raw_target(response_head(line)), method="HEAD"))
        assert client.response("HEAD").status == 200
        for status in ("204 No Content", "304 Not Modified"):
            client.send(get(raw_target(response_head(line, status=status))))
            assert client.response().body == b""
        answer = response_head(line, status="103 Early Hints") + PLAIN
        assert client.send(get(raw_target(answer))).response().body == b"ok"
        next_is_served(client)


RFC.not_applicable(
    "6.3",
    "MUST",
    "2. Any 2xx response to a CONNECT request: a client MUST ignore any Content-Length or "
    "Transfer-Encoding header fields received in such a message",
    "CONNECT is refused and never sent to a worker",
)


@RFC.stricter(
    "6.3",
    "MUST",
    "3. Transfer-Encoding overrides Content-Length; an intermediary that chooses to forward the "
    "message MUST first remove the received Content-Length field",
    "a response with both is not forwarded: 502, and that worker connection is not used again",
)
def test_length_step_3(gate):
    """In both orders."""
    for lines in (["Content-Length: 5", CHUNKED], [CHUNKED, "Content-Length: 5"]):
        problem(answered(gate, response_head(*lines) + b"0\r\n\r\n"), 502, "upstream-failed")


@RFC.stricter(
    "6.3",
    "plain",
    "4. If a Transfer-Encoding header field is present in a response and the chunked transfer "
    "coding is not the final encoding, the length is determined by reading the connection until "
    "it is closed",
    "502: the coding could not be undone for a client that does not know it",
)
def test_length_step_4_of_responses(gate):
    """gzip alone, and chunked that is not last."""
    for value in ("gzip", "chunked, gzip", "identity"):
        answer = response_head(f"Transfer-Encoding: {value}") + b"x"
        problem(answered(gate, answer, close=1), 502, "upstream-failed")


@RFC.follows(
    "6.3",
    "MUST",
    "4. If a Transfer-Encoding header field is present in a request and the chunked transfer "
    "coding is not the final encoding, the server MUST respond with the 400 (Bad Request) status "
    "code and then close the connection",
)
@pytest.mark.parametrize(
    "value", ["chunked, gzip", "chunked, chunked", "", "chunked;a=b", "chunked x"]
)
def test_length_step_4_of_requests(gate, value):
    """400."""
    refused(
        gate, post(f"Transfer-Encoding: {value}", body=b"0\r\n\r\n"), 400, "bad-request", "POST"
    )


@RFC.gap(
    "6.3",
    "MUST",
    "4. If Transfer-Encoding is present in a request and chunked is not the final encoding, the "
    "server MUST respond with 400 (an unknown coding alone)",
    "an unknown coding without chunked behind it gets 501, as 6.1 asks for unknown codings, not "
    "400",
)
@pytest.mark.parametrize("value", ["gzip", "identity", "xchunked"])
def test_length_step_4_of_requests_with_an_unknown_coding(gate, value):
    """400."""
    refused(
        gate, post(f"Transfer-Encoding: {value}", body=b"0\r\n\r\n"), 400, "bad-request", "POST"
    )


@RFC.follows(
    "6.3",
    "MUST",
    "5. A message without Transfer-Encoding and with an invalid Content-Length is an "
    "unrecoverable error: in a request the server MUST respond with 400 and close the connection; "
    "in a response the proxy MUST close the connection to the server, discard the response, and "
    "send a 502",
)
@pytest.mark.parametrize("value", ["five", "-1", "5, 6", "5,", "1e3", str(2**64)])
def test_length_step_5(gate, value):
    """Both ways."""
    refused(gate, post(f"Content-Length: {value}", body=b"hello"), 400, "bad-request", "POST")
    before = worker_connections(gate)
    answer = response_head(f"Content-Length: {value}") + b"hello"
    problem(answered(gate, answer, hold=1), 502, "upstream-failed")
    assert worker_connections(gate) == before + 1, "the one with the breach was closed"


@RFC.follows(
    "6.3",
    "MUST",
    "6. If the sender closes the connection or the recipient times out before the indicated "
    "number of octets are received, the recipient MUST consider the message to be incomplete and "
    "close the connection",
)
def test_length_step_6(gate):
    """A response that ends early is broken off for the client too; a request leaves no exchange."""
    broken_off(gate, response_head("Content-Length: 10") + b"hello", close=1)
    with gate.raw() as client:
        client.send(post("Content-Length: 10", target=worker.sink(), body=b"hello"))
        client.half_close()
        assert b"200" not in client.rest(5)
    wait_until(
        lambda: gate.admin.metric("kipgate_exchanges", service="echo") == 0, 5, "no exchange left"
    )


@RFC.follows(
    "6.3",
    "plain",
    "7. If this is a request message and none of the above are true, then the message body length "
    "is zero",
)
def test_length_step_7(gate):
    """Towards the worker too: no framing field is made up."""
    seen = dump(gate, post())
    assert seen.all("Content-Length") == [] and seen.all("Transfer-Encoding") == []


@RFC.follows(
    "6.3",
    "plain",
    "8. Otherwise, a response's length is determined by the number of octets received prior to "
    "the server closing the connection",
)
@RFC.follows(
    "6.3",
    "SHOULD",
    "A server SHOULD generate encoding or length-delimited messages whenever possible, since a "
    "close-delimited one cannot be told from one that was interrupted",
)
def test_length_step_8(gate):
    """The client gets chunks and keeps its connection; a reset of the worker is no end."""
    with gate.raw() as client:
        client.send(raw_post(response_head("X-A: a") + b"hello", close=1))
        response = client.response("POST")
        assert (response.framing, response.body) == ("chunked", b"hello")
        next_is_served(client)
    with gate.raw() as client:
        client.send(raw_post(response_head("X-A: a") + b"x" * 100000, reset=1))
        with pytest.raises((Broken, ConnectionResetError)):
            assert client.response("POST").status == 502
            raise ConnectionResetError


@RFC.follows(
    "6.3",
    "MAY",
    "A server MAY reject a request that contains a message body but not a Content-Length by "
    "responding with 411 (the front does not; a worker's 411 goes through)",
)
def test_411_is_the_workers(gate):
    """Chunks are forwarded as chunks, so the worker can say so."""
    response = answered(gate, response_head("Content-Length: 0", status="411 Length Required"))
    assert response.status == 411


@RFC.follows(
    "6.3",
    "MUST",
    "If the final response has been completely received and there remains additional data to "
    "read, a client MUST NOT process, cache, or forward such extra data as a separate response",
)
@pytest.mark.parametrize("answer", [PLAIN, response_head(CHUNKED) + b"2\r\nok\r\n0\r\n\r\n"])
def test_extra_data_behind_a_response(gate, answer):
    """Neither at once nor later."""
    assert answered(gate, answer + PLAIN.replace(b"ok", b"no"), hold=1).body == b"ok"
    for _ in range(3):
        assert dump(gate, get("/after")).first == "GET /after HTTP/1.1"


# --- 7: transfer codings --------------------------------------------------------------------------


@RFC.follows(
    "7.1",
    "MUST",
    "Recipients MUST anticipate potentially large hexadecimal numerals and prevent parsing errors "
    "due to integer conversion overflows",
)
@pytest.mark.parametrize("size", [b"8" + b"0" * 15, b"f" * 16, b"1" + b"0" * 16, b"f" * 40])
def test_huge_chunk_sizes(gate, size):
    """2^63 and beyond: 400, or broken off."""
    with gate.raw() as client:
        client.send_anyway(post(CHUNKED, body=size + b"\r\nx"))
        assert client.response("POST").status == 400 and client.ended(5)
    broken_off(gate, response_head(CHUNKED) + b"2\r\nok\r\n" + size + b"\r\nx", hold=1)


@RFC.stricter(
    "7.1",
    "plain",
    "chunk-size = 1*HEXDIG: any number of digits, leading zeros included",
    "16 digits at most: 400, or broken off",
)
def test_chunk_size_digits(gate):
    """Sixteen pass, seventeen do not."""
    body = b"0" * 15 + b"2\r\nok\r\n0\r\n\r\n"
    assert b"ok" in dump(gate, post(CHUNKED, body=body), "POST").body
    refused(gate, post(CHUNKED, body=b"0" + body), 400, "bad-request", "POST")


@RFC.follows(
    "7.1",
    "SHOULD",
    "The chunked coding does not define any parameters. Their presence SHOULD be treated as an "
    "error",
)
def test_parameters_of_chunked(gate):
    """400, 502."""
    data = post("Transfer-Encoding: chunked;q=1", body=b"0\r\n\r\n")
    refused(gate, data, 400, "bad-request", "POST")
    answer = response_head("Transfer-Encoding: chunked;q=1") + b"0\r\n\r\n"
    problem(answered(gate, answer), 502, "upstream-failed")


@RFC.follows(
    "7.1",
    "plain",
    "A chunk is its size, CRLF, that many octets, CRLF: nothing else is taken for one",
)
@pytest.mark.parametrize(
    "body",
    [b"2\nok\r\n0\r\n\r\n", b"2\r\nok\n0\r\n\r\n", b"2\r\nok0\r\n\r\n", b"0x2\r\nok\r\n0\r\n\r\n"]
    + [
        b"+2\r\nok\r\n0\r\n\r\n",
        b"2\r\nokk\r\n0\r\n\r\n",
        b"\r\n",
        b"2\r\nok\r\n0\r\n\n",
        b";a\r\n",
    ],
)
def test_broken_chunks(gate, body):
    """400 and the end."""
    refused(gate, post(CHUNKED, body=body) + get("/smuggled"), 400, "bad-request", "POST")


@RFC.follows("7.1.1", "MUST", "A recipient MUST ignore unrecognized chunk extensions")
def test_chunk_extensions_are_ignored(gate):
    """With quoted strings and bad whitespace in them; they are not forwarded."""
    body = b'2;a;b=c;d="e;\\"\r"; f = g\r\nok\r\n0;last\r\n\r\n'.replace(b'\r"', b'"')
    seen = dump(gate, post(CHUNKED, body=body), "POST")
    assert seen.body == b"2\r\nok\r\n0\r\n\r\n"
    assert answered(gate, response_head(CHUNKED) + body).body == b"ok", "the raw client takes none"


@RFC.stricter(
    "7.1.1",
    "plain",
    "A recipient ought to limit the total length of chunk extensions received in a request to an "
    "amount reasonable for the services provided",
    "4 KiB in a message, both ways: 400, or broken off",
)
def test_chunk_extensions_are_limited(gate):
    """In total."""
    many = b"".join(b"1;" + b"a" * 200 + b"\r\nx\r\n" for _ in range(21)) + b"0\r\n\r\n"
    refused(gate, post(CHUNKED, body=many), 400, "bad-request", "POST")
    broken_off(gate, response_head(CHUNKED) + many)


@RFC.stricter(
    "7.1.1",
    "plain",
    'chunk-ext = *( BWS ";" BWS chunk-ext-name ... ): whitespace between a chunk size and its ";" '
    "is bad whitespace that recipients parse",
    '400: "1 ;a" and "1 " differ by what a parser makes of the space',
)
def test_whitespace_behind_a_chunk_size(gate):
    """With and without an extension."""
    for line in (b"2 ;a=b", b"2\t;a", b"2 "):
        body = line + b"\r\nok\r\n0\r\n\r\n"
        refused(gate, post(CHUNKED, body=body), 400, "bad-request", "POST")


@RFC.follows(
    "7.1.2",
    "MUST",
    "A recipient that retains a received trailer field MUST either store/forward the trailer "
    "field separately from the received header fields or merge it if its definition permits that",
)
def test_trailers_are_forwarded_as_trailers(gate):
    """Their order and doublets too."""
    tail = b"X-B: 1\r\nX-A: 2\r\nx-b: 3\r\n\r\n"
    seen = dump(gate, post(CHUNKED, body=b"2\r\nok\r\n0\r\n" + tail), "POST")
    assert seen.body.endswith(b"0\r\n" + tail)
    answer = response_head(CHUNKED) + b"2\r\nok\r\n0\r\n" + tail
    assert answered(gate, answer, "TE: trailers").trailers == [
        ("X-B", "1"),
        ("X-A", "2"),
        ("x-b", "3"),
    ]


@RFC.stricter(
    "7.1.2",
    "MAY",
    "A recipient that removes the chunked coding MAY selectively retain or discard trailer fields",
    "a framing, routing, authentication or control field in a trailer section is not discarded "
    "but refused: 400, or broken off; and trailers count to the limits of their head",
)
def test_forbidden_trailers(gate):
    """Each kind."""
    for name in (b"Content-Length", b"Host", b"Authorization", b"Connection", b"X-Forwarded-For"):
        body = b"2\r\nok\r\n0\r\n" + name + b": 1\r\n\r\n"
        refused(gate, post(CHUNKED, body=body), 400, "bad-request", "POST")
    many = b"".join(b"X-%d: a\r\n" % i for i in range(101))
    refused(gate, post(CHUNKED, body=b"0\r\n" + many + b"\r\n"), 431, "head-too-large", "POST")


@RFC.follows(
    "7.1.3",
    "plain",
    "Decoding chunked: Content-Length becomes known and Transfer-Encoding goes, where a recipient "
    "decodes for good; Kipgate chunks anew for HTTP/1.1 and never makes up a length",
)
def test_decoded_content_for_http_1_0(gate):
    """No fields of framing, the content as it was, no trailers."""
    answer = response_head(CHUNKED) + b"2\r\nok\r\n0\r\nX-T: 1\r\n\r\n"
    data = get(raw_target(answer)).replace(b"HTTP/1.1", b"HTTP/1.0")
    response = raw.request(gate.front, data)
    assert response.body == b"ok" and response.framing == "close"


@RFC.follows(
    "7.4",
    "MUST",
    "A client MUST NOT send the chunked transfer coding name in TE, and a sender of TE MUST also "
    'send a "TE" connection option',
)
def test_te_towards_the_worker(gate):
    """`trailers` alone, listed in Connection."""
    seen = dump(gate, get("/", "TE: chunked, trailers, gzip", "Connection: TE"))
    assert seen.all("TE") == ["trailers"] and seen.one("Connection") == "TE"
    assert dump(gate, get("/", "TE: chunked")).all("TE") == []


# --- 8: incomplete messages -----------------------------------------------------------------------


@RFC.follows(
    "8",
    "MAY",
    "A server that receives an incomplete request message, usually due to a canceled request or a "
    "triggered timeout exception, MAY send an error response prior to closing the connection",
)
def test_incomplete_requests(gate):
    """A client that ends in the middle of a head or a content gets nothing done."""
    for data in (get("/")[:-2], post(CHUNKED, target=worker.sink(), body=b"5\r\nhel")):
        with gate.raw() as client:
            client.send(data)
            client.half_close()
            got = client.rest(5)
            assert got == b"" or got.startswith(b"HTTP/1.1 4")


@RFC.follows(
    "8",
    "MUST",
    "A client that receives an incomplete response message MUST record the message as incomplete "
    "(a gateway must not pass it as if complete)",
)
@pytest.mark.parametrize(
    "body", [b"5\r\nhel", b"5\r\nhello\r\n", b"5\r\nhello\r\n0\r\n", b"5\r\nhello\r\nx"]
)
def test_incomplete_chunked_responses(gate, body):
    """No last chunk goes out."""
    broken_off(gate, response_head(CHUNKED) + b"2\r\nok\r\n" + body, close=1)
