# SPDX-License-Identifier: Apache-2.0
"""RFC 9110, HTTP semantics, sections 8 and 12 to 14: representations, negotiation, conditions,
ranges. The worker's business alone: the front stays byte-exact, as checksums at the far end show.
The difficulty: content must look like what careless intermediaries touch."""
import gzip
import hashlib
import random

import pytest
from conformance import Table, answered, dump, http1_gate, refused, response_head

from harness import echo as worker
from harness import raw
from harness.echo import get, raw_post
from harness.kipgate import problem

RFC = Table(9110)


@pytest.fixture(scope="module")
def gate(echo):
    """One front, so that kept worker connections are met again."""
    services = {
        "echo": echo(routes=["/"], idle_timeout="10m"),
    }
    with http1_gate(services) as kipgate:
        yield kipgate


# --- 8: representations ---------------------------------------------------------------------------


def bodies():
    """Content that careless intermediaries touch."""
    text = b"a line\nanother\r\n" * 500
    noise = random.Random(8).randbytes(70001)
    part = b"--b\r\nContent-Type: text/plain\r\nContent-Range: bytes 0-3/99\r\n\r\nabcd\r\n"
    yield "gzip", "200 OK", ["Content-Encoding: gzip"], gzip.compress(text)
    yield "x-gzip", "200 OK", ["Content-Encoding: x-gzip"], gzip.compress(text)
    yield "br", "200 OK", ["Content-Encoding: br", 'ETag: "abc-br"'], noise
    yield "two", "200 OK", ["Content-Encoding: zstd, gzip"], gzip.compress(noise)
    yield "false", "200 OK", ["Content-Encoding: gzip"], b"this is no gzip at all"
    yield "text", "200 OK", ["Content-Type: text/html"], text * 20
    yield "range", "206 Partial Content", ["Content-Range: bytes 5-9/70001"], noise[5:10]
    yield "ranges", "206 Partial Content", ["Content-Type: multipart/byteranges; boundary=b"], (
        part + part + b"--b--\r\n"
    )
    yield "head-like", "200 OK", ["Content-Type: message/http"], b"GET / HTTP/1.1\r\n\r\n"


BODIES = [pytest.param(*rest, id=name) for name, *rest in bodies()]


def without_ours(response):
    """The fields that came, without those that Kipgate adds."""
    ours = {"x-request-id", "date"}
    return [(name, value) for name, value in response.fields if name.lower() not in ours]


@RFC.follows(
    "8.4",
    "MUST",
    "Content-Encoding is a characteristic of the representation: the sender that applied the "
    "encodings MUST generate it, and nobody on the way applies, removes or renames one",
)
@RFC.follows(
    "8.8.3",
    "plain",
    "An entity tag differs from coding to coding; as the front applies none it never changes one",
)
@pytest.mark.parametrize("accept", ["gzip, br;q=0.5", "identity", "*;q=0", ""], ids=repr)
@pytest.mark.parametrize("status,lines,body", BODIES)
def test_content_goes_through_byte_by_byte(gate, status, lines, body, accept):
    """By length: the same fields and bytes, whatever the client would accept."""
    lines = [*lines, f"Content-Length: {len(body)}"]
    response = answered(
        gate, response_head(*lines, status=status) + body, f"Accept-Encoding: {accept}"
    )
    assert f"{response.status} {response.reason}" == status
    assert [f"{name}: {value}" for name, value in without_ours(response)] == lines
    assert hashlib.sha256(response.body).digest() == hashlib.sha256(body).digest()


@RFC.follows(
    "8.1",
    "plain",
    "representation-data := Content-Encoding( Content-Type( data ) ): transfer codings are the "
    "message's and change nothing of it",
)
@pytest.mark.parametrize("status,lines,body", BODIES)
def test_chunked_content_goes_through_byte_by_byte(gate, status, lines, body):
    """Chunks may be cut anew; what is in them is not touched, and no length is made up."""
    coded = b"".join(
        b"%x\r\n%s\r\n" % (len(body[at : at + 4099]), body[at : at + 4099])
        for at in range(0, len(body), 4099)
    )
    head = response_head(*lines, "Transfer-Encoding: chunked", status=status)
    response = answered(gate, head + coded + b"0\r\n\r\n")
    assert response.body == body and response.framing == "chunked"
    fields = [f"{name}: {value}" for name, value in without_ours(response)]
    assert fields == [*lines, "Transfer-Encoding: chunked"]


@RFC.follows(
    "8.4",
    "MAY",
    "An origin server MAY respond with 415 if a representation in the request message has a "
    "content coding that is not acceptable (the front never does: the worker judges)",
)
def test_coded_request_content_goes_through(gate):
    """gzip and unknown codings; the worker's checksum judges."""
    body = gzip.compress(random.Random(9).randbytes(100000))
    for coding in ("gzip", "never-heard-of"):
        lines = (f"Content-Encoding: {coding}", f"Content-Length: {len(body)}")
        response = raw.request(gate.front, get(worker.sink(), *lines, method="PUT") + body, "PUT")
        assert worker.sunk(response) == (len(body), hashlib.sha256(body).hexdigest())
        seen = dump(gate, get("/", f"Content-Encoding: {coding}", method="PUT"), "PUT")
        assert seen.one("Content-Encoding") == coding


@RFC.follows(
    "8.6",
    "MUST",
    "A recipient MUST anticipate potentially large decimal numerals and prevent parsing errors "
    "due to integer conversion overflows",
)
def test_large_content_lengths(gate):
    """2^63-1 is a length (too much to wait for here); beyond it 400."""
    for value in (2**63, 2**64 + 5, 10**40):
        data = get("/", f"Content-Length: {value}", method="POST")
        refused(gate, data, 400, "bad-request", "POST")
    head = response_head(f"Content-Length: {2**63 - 1}")
    with gate.raw() as client:
        client.send(raw_post(head + b"x" * 10, hold=1))
        assert client.final_head().one("Content-Length") == str(2**63 - 1)
        client.reset()


@RFC.follows(
    "8.6",
    "MUST",
    "A server MUST NOT send a Content-Length header field in any response with a status code of "
    "1xx (Informational) or 204 (No Content)",
)
def test_no_content_length_in_1xx_and_204(gate):
    """A worker's is dropped."""
    hint = response_head("Content-Length: 3", "Link: </a>", status="103 Early Hints")
    response = answered(gate, hint + response_head("Content-Length: 3", status="204 No Content"))
    assert response.status == 204 and response.all("Content-Length") == []
    assert [i.all("Content-Length") for i in response.interim] == [[]]


@RFC.follows(
    "8.6",
    "MAY",
    "A server MAY send a Content-Length header field in a response to a HEAD request and in a "
    "304: the length that the content would have had",
)
def test_content_length_of_head_and_304(gate):
    """The worker's goes on; none is made up."""
    head = answered(gate, response_head("Content-Length: 12345"), method="HEAD")
    assert head.one("Content-Length") == "12345"
    assert answered(gate, response_head("X-A: a"), method="HEAD").all("Content-Length") == []
    same = answered(gate, response_head("Content-Length: 77", status="304 Not Modified"))
    assert same.status == 304 and same.one("Content-Length") == "77"
    assert answered(gate, response_head(status="304 Not Modified")).all("Content-Length") == []


@RFC.follows(
    "8.6",
    "MUST",
    "A sender MUST NOT forward a message with a Content-Length header field value that is known "
    "to be incorrect, or that does not match its grammar",
)
@pytest.mark.parametrize("value", ["+5", "5a", "0x5", "", "5;a", "5 5"])
def test_content_length_that_is_no_number(gate, value):
    """400 from a client, 502 from a worker."""
    data = get("/", f"Content-Length: {value}", method="POST") + b"hello"
    refused(gate, data, 400, "bad-request", "POST")
    head = response_head(f"Content-Length: {value}")
    problem(answered(gate, head + b"hello"), 502, "upstream-failed")


@RFC.stricter(
    "8.6",
    "MAY",
    'A Content-Length consisting of the same decimal value repeated as a list ("42, 42") MAY '
    "either be rejected or be replaced with a single instance",
    "rejected: whoever sends it twice is not sure of it, and the next parser may take the other "
    "one",
)
def test_repeated_content_length(gate):
    """As a list and as two lines, both ways."""
    for lines in (["Content-Length: 5, 5"], ["Content-Length: 5", "content-length: 5"]):
        refused(gate, get("/", *lines, method="POST") + b"hello", 400, "bad-request", "POST")
        problem(answered(gate, response_head(*lines) + b"hello"), 502, "upstream-failed")


# --- 12 to 14: negotiation, conditions, ranges ----------------------------------------------------


@RFC.follows(
    "12.5.3",
    "plain",
    "Accept-Encoding and the other Accept fields are between the user agent and the origin "
    "server: what is acceptable is not narrowed or widened on the way",
)
def test_accept_fields_are_untouched(gate):
    """As they came, in their order; none is made up."""
    lines = [
        "Accept: text/*;q=0.3, */*;q=0.5",
        "Accept-Encoding: gzip;q=1.0, identity; q=0.5, *;q=0",
    ]
    lines += ["Accept-Encoding:", "Accept-Language: da, en-gb;q=0.8", "Accept-Charset: x"]
    seen = dump(gate, get("/", *lines))
    got = [line.rstrip() for line in seen.lines if line.startswith("Accept")]
    assert got == lines
    assert not [n for n in dump(gate, get("/")).names() if n.startswith("accept")]


@RFC.follows("12.5.5", "MUST", 'A proxy MUST NOT generate "*" in a Vary field value')
def test_vary_is_the_workers(gate):
    """Passed as it came; none is added, not even with a Content-Encoding."""
    for lines in ([], ["Vary: *"], ["Vary: Accept-Encoding", "Vary: Cookie"]):
        head = response_head("Content-Encoding: gzip", *lines, "Content-Length: 0")
        assert [f"Vary: {v}" for v in answered(gate, head).all("Vary")] == lines


@RFC.follows(
    "15.4.5",
    "SHOULD",
    "If the conditional request originated with an outbound client, the proxy SHOULD forward the "
    "304 (Not Modified) response to that client",
)
@RFC.follows(
    "13.2.1",
    "MUST",
    "A server that is not the origin server and cannot act as a cache MUST NOT evaluate the "
    "conditional request header fields, and it MUST forward them if the request is forwarded",
)
def test_conditions_are_forwarded(gate):
    """All five, even contradictory ones; the worker's 304 and 412 come back."""
    lines = [
        'If-Match: "a", W/"b"',
        "If-None-Match: *",
        "If-Modified-Since: Sat, 29 Oct 1994 19:43:31 GMT",
        "If-Unmodified-Since: never",
        'If-Range: "c"',
    ]
    seen = dump(gate, get("/", *lines))
    assert [line for line in seen.lines if line.startswith("If-")] == lines
    for status in ("304 Not Modified", "412 Precondition Failed"):
        response = answered(gate, response_head('ETag: "a"', "Content-Length: 0", status=status))
        assert f"{response.status} {response.reason}" == status and response.one("ETag") == '"a"'


@RFC.follows(
    "14.2",
    "MAY",
    "A proxy MAY discard a Range header field that contains a range unit it does not understand "
    "(the front discards none)",
)
@pytest.mark.parametrize("value", ["bytes=0-499", "bytes=0-0,-1, 5-", "lines=1-2", "bytes=9-1"])
def test_range_is_forwarded(gate, value):
    """Whatever it says: the worker judges."""
    assert dump(gate, get("/", f"Range: {value}")).one("Range") == value


@RFC.follows(
    "14.4",
    "SHOULD",
    "A proxy that receives a 206 with a Content-Range whose range unit it does not understand "
    "SHOULD forward it downstream",
)
def test_content_range_is_forwarded(gate):
    """Known and unknown units, 206 and 416."""
    for status, value in [
        ("206 Partial Content", "bytes 0-1/2"),
        ("206 Partial Content", "lines 1-2/9"),
        ("416 Range Not Satisfiable", "bytes */47022"),
    ]:
        head = response_head(f"Content-Range: {value}", "Content-Length: 2", status=status)
        response = answered(gate, head + b"ok")
        assert response.one("Content-Range") == value and response.body == b"ok"


@RFC.follows(
    "14.5",
    "plain",
    "Content-Range in a PUT is the origin server's to refuse or understand",
)
def test_content_range_of_a_request_is_forwarded(gate):
    """As it came."""
    data = get("/", "Content-Range: bytes 0-1/2", "Content-Length: 2", method="PUT") + b"ok"
    assert dump(gate, data, "PUT").one("Content-Range") == "bytes 0-1/2"
