# SPDX-License-Identifier: Apache-2.0
"""RFC 9110, HTTP semantics, sections 2 to 6: identifiers, fields, messages. The difficulty: a
requirement on "a proxy" is often met by doing nothing, so a test sends what a careless intermediary
would change."""
import re
import time

import pytest
from conformance import (
    Table,
    answered,
    dump,
    http1_gate,
    PLAIN,
    refused,
    response_head,
    seen_requests,
)

from harness import echo as worker
from harness import raw
from harness.echo import Dump, get, raw_post
from harness.kipgate import problem

RFC = Table(9110)
IMF_FIXDATE = re.compile(
    r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d (Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
    r" \d{4} \d\d:\d\d:\d\d GMT"
)


@pytest.fixture(scope="module")
def gate(echo):
    """One front, so that kept worker connections are met again."""
    services = {
        "echo": echo(routes=["/"], idle_timeout="10m"),
    }
    with http1_gate(services) as kipgate:
        yield kipgate


# --- 2 to 4: conformance, roles, identifiers ------------------------------------------------------


@RFC.follows(
    "2.3",
    "MUST",
    "At a minimum, a recipient MUST be able to parse and process protocol element lengths that "
    "are at least as long as the values that it generates for those same elements",
)
def test_what_kipgate_writes_it_can_read(gate):
    """Two Kipgates in a row: what one forwards comes to it once more as it would to the next."""
    seen = dump(gate, get("/", "X-Request-Id: " + "a" * 128))
    again = "\r\n".join([seen.first, *seen.lines]).encode("latin-1") + b"\r\n\r\n"
    assert dump(gate, again).one("X-Request-Id") == "a" * 128


@RFC.follows(
    "3.3",
    "MUST",
    "A server MUST NOT assume that two requests on the same connection are from the same user "
    "agent",
)
def test_requests_of_one_connection_share_nothing(gate):
    """Credentials, cookies and ids of the first do not show in the second."""
    with gate.raw() as client:
        client.send(get("/", "Authorization: Basic eDp5", "Cookie: a=b", "X-Request-Id: first1"))
        client.response()
        seen = Dump(client.send(get("/")).response().body)
    assert not {"authorization", "cookie"} & set(seen.names())
    assert seen.one("X-Request-Id") != "first1"


RFC.not_applicable(
    "3.8",
    "MAY",
    "Any client or server MAY employ a cache",
    "Kipgate has no cache: every answer comes from a worker or is its own",
)


@RFC.follows(
    "4.1",
    "SHOULD",
    "It is RECOMMENDED that all senders and recipients support, at a minimum, URIs with lengths "
    "of 8000 octets in protocol elements",
)
def test_uri_of_8000_octets(gate):
    """As a target, and in a field of the answer."""
    target = "/" + "a" * 7999
    assert dump(gate, get(target)).first == f"GET {target} HTTP/1.1"
    location = "http://kipgate.test" + target
    head = response_head(f"Location: {location}", "Content-Length: 0", status="302 Found")
    assert answered(gate, head).one("Location") == location


@RFC.follows(
    "4.2.1",
    "MUST",
    '"http" URI with an empty host identifier: a recipient that processes such a URI reference '
    "MUST reject it as invalid",
)
def test_http_uri_with_an_empty_host(gate):
    """In absolute form."""
    refused(gate, get("http:///x"), 400, "bad-request")
    refused(gate, get("http://:80/x"), 400, "bad-request")


@RFC.follows(
    "4.2.2",
    "MUST",
    '"https" URI with an empty host identifier: a recipient that processes such a URI reference '
    "MUST reject it as invalid",
)
def test_https_uri_with_an_empty_host(gate):
    """In absolute form."""
    refused(gate, get("https:///x"), 400, "bad-request")


@RFC.stricter(
    "4.2.3",
    "MAY",
    'Any HTTP component MAY perform normalization of "http" and "https" URIs; equivalent ones can '
    "be assumed to identify the same resource",
    "the path is never normalised: routes match its bytes and the same bytes are forwarded, so "
    "that Kipgate and a worker cannot read one target in two ways",
)
def test_paths_are_not_normalised(gate):
    """Escapes keep their spelling; only the host is matched in any case of letters."""
    for path in ("/%7Euser", "/%7euser", "/a//b", "/%41"):
        assert dump(gate, get(path)).first == f"GET {path} HTTP/1.1"


@RFC.follows(
    "4.2.4",
    "SHOULD",
    'Before making use of an "http" or "https" URI reference received from an untrusted source, a '
    "recipient SHOULD parse for userinfo and treat its presence as an error",
)
def test_userinfo_is_an_error(gate):
    """In absolute form and in Host."""
    refused(gate, get("http://user@kipgate.test/"), 400, "bad-request")
    host = get("/").replace(b"Host: kipgate.test", b"Host: user@kipgate.test")
    refused(gate, host, 400, "bad-request")


RFC.not_applicable(
    "4.3.4",
    "MUST",
    "To establish a secured connection to dereference a URI, a client MUST verify that the "
    "service's identity is an acceptable match for the URI's origin server",
    "workers are reached without TLS, at addresses that Kipgate gave them itself",
)


# --- 5: fields ------------------------------------------------------------------------------------


@RFC.follows("5.1", "MUST", "A proxy MUST forward unrecognized header fields")
def test_unknown_fields_are_forwarded(gate):
    """Both ways, with their spelling."""
    lines = ["X-Unheard-Of: 1", "!#$%&'*+-.^`|~: tchars", "x-lower: 2", "X-Empty:"]
    seen = dump(gate, get("/", *lines))
    for line in lines:
        assert line.rstrip() in [got.rstrip() for got in seen.lines]
    response = answered(gate, response_head(*lines, "Content-Length: 0"))
    assert response.one("!#$%&'*+-.^`|~") == "tchars" and response.one("X-Empty") == ""
    assert ("x-lower", "2") in response.fields


@RFC.stricter(
    "5.1",
    "plain",
    'A field name is a token, in which "_" is an ordinary character',
    "a request's field is dropped when its name reads like one of the framing, routing or "
    'identity fields once "_" is taken for "-": a CGI-like worker could not tell them apart',
)
def test_names_with_underscores_that_mean_ours_are_dropped(gate):
    """Others with an underscore pass."""
    seen = dump(gate, get("/", "X_Forwarded_For: 6.6.6.6", "Content_Length: 9", "My_Own: 1"))
    assert "x_forwarded_for" not in seen.names() and "content_length" not in seen.names()
    assert seen.one("My_Own") == "1"


@RFC.follows(
    "5.3",
    "MAY",
    "A recipient MAY combine multiple field lines that have the same field name into one field "
    "line (Kipgate does not, but for Cookie of HTTP/2)",
)
@RFC.follows(
    "5.3",
    "MUST",
    "The order in which field lines with the same name are received is significant; a proxy MUST "
    "NOT change the order of these field line values when forwarding a message",
)
def test_order_of_lines_with_one_name(gate):
    """Both ways, spread among others, in any case of letters, and neither merged nor split."""
    lines = ["X-A: 1", "X-B: 0", "x-a: 2, 3", "X-A: 1", "Accept: b", "Accept: a"]
    seen = dump(gate, get("/", *lines))
    assert seen.all("X-A") == ["1", "2, 3", "1"] and seen.all("Accept") == ["b", "a"]
    response = answered(gate, response_head(*lines, "Content-Length: 0"))
    assert response.all("X-A") == ["1", "2, 3", "1"]


@RFC.follows(
    "5.3",
    "MUST",
    "A sender MUST NOT generate multiple field lines with the same name unless the field is a "
    "list; the exception is Set-Cookie, which cannot be combined",
)
def test_set_cookie_lines_stay_apart(gate):
    """A comma in one is no end of it."""
    cookies = ["a=1; Expires=Wed, 09 Jun 2027 10:18:14 GMT", "b=2", "a=3"]
    head = response_head(*[f"Set-Cookie: {c}" for c in cookies], "Content-Length: 0")
    assert answered(gate, head).all("Set-Cookie") == cookies


@RFC.follows(
    "5.3",
    "MUST",
    "A server MUST NOT apply a request to the target resource until it receives the entire "
    "request header section",
)
def test_nothing_is_forwarded_before_the_head_is_whole(gate):
    """Half a head reaches no worker."""
    before = seen_requests(gate)
    with gate.raw() as client:
        client.send(b"GET /half HTTP/1.1\r\nHost: kipgate.test\r\nX-A: 1\r\n")
        time.sleep(0.1)
        assert seen_requests(gate) - before == 1, "only the one that asks"
        client.send(b"\r\n")
        assert Dump(client.response().body).first == "GET /half HTTP/1.1"


@RFC.follows(
    "5.4",
    "MUST",
    "A server that receives a request header field line, field value, or set of fields larger "
    "than it wishes to process MUST respond with an appropriate 4xx (Client Error) status code",
)
def test_fields_larger_than_the_limits(gate):
    """431 beyond 64 KiB or 100 fields."""
    refused(gate, get("/", "X-A: " + "a" * 66000), 431, "head-too-large")
    refused(gate, get("/", *[f"X-{i}: a" for i in range(100)]), 431, "head-too-large")


@RFC.follows(
    "5.5",
    "MUST",
    "A field value does not include leading or trailing whitespace; a field parsing "
    "implementation MUST exclude such whitespace prior to evaluating the field value",
)
def test_whitespace_around_values(gate):
    """It has no meaning, also where a value is acted upon."""
    data = get("/", "Content-Length:\t 2  ", "X-A: \t a b \t", method="POST") + b"ok"
    seen = dump(gate, data, "POST")
    assert seen.one("X-A") == "a b" and seen.body == b"ok"
    body = b"0\r\n\r\n"
    data = get("/", "Transfer-Encoding:\tchunked\t", "Connection:\tX-B\t", "X-B: 1", method="POST")
    assert "x-b" not in dump(gate, data + body, "POST").names()


@RFC.gap(
    "5.5",
    "MUST",
    "A field parsing implementation MUST exclude leading and trailing whitespace prior to "
    "evaluating the field value (a tab behind a Content-Length)",
    "a Content-Length with a tab behind its digits is refused: 400, or 502 from a worker",
)
@pytest.mark.parametrize("way", ["request", "response"])
def test_tab_behind_a_content_length(gate, way):
    """It has no meaning either."""
    if way == "request":
        assert (
            dump(gate, get("/", "Content-Length: 2\t", method="POST") + b"ok", "POST").body == b"ok"
        )
    else:
        assert answered(gate, response_head("Content-Length: 2\t") + b"ok").body == b"ok"


@RFC.follows(
    "5.5",
    "SHOULD",
    "A recipient SHOULD treat other allowed octets in field content (obs-text) as opaque data",
)
def test_obs_text_is_opaque(gate):
    """Bytes beyond ASCII go through both ways."""
    value = bytes(range(0x80, 0x100)).decode("latin-1")
    assert dump(gate, get("/", f"X-A: {value}")).one("X-A") == value
    assert answered(gate, response_head(f"X-A: {value}", "Content-Length: 0")).one("X-A") == value


@RFC.follows(
    "5.5",
    "MUST",
    "A recipient of CR, LF, or NUL within a field value MUST either reject the message or replace "
    "each of those characters with SP",
)
@pytest.mark.parametrize("byte", ["\r", "\n", "\0"], ids=["cr", "lf", "nul"])
def test_cr_lf_and_nul_in_a_value(gate, byte):
    """Rejected, in requests and responses."""
    refused(gate, get("/", f"X-A: a{byte}b"), 400, "bad-request")
    head = response_head(f"X-A: a{byte}b", "Content-Length: 0")
    problem(answered(gate, head, close=1), 502, "upstream-failed")


@RFC.stricter(
    "5.5",
    "MAY",
    "Field values containing other CTL characters are also invalid; however, recipients MAY "
    "retain such characters when they appear within a safe context",
    "no context is known to be safe for every worker and client: 400, or 502 from a worker",
)
def test_other_controls_in_a_value(gate):
    """One of each kind."""
    for byte in ("\x01", "\x0b", "\x1f", "\x7f"):
        refused(gate, get("/", f"X-A: a{byte}b"), 400, "bad-request")
    problem(answered(gate, response_head("X-A: \x7f", "Content-Length: 0")), 502, "upstream-failed")


@RFC.follows(
    "5.6.1.2",
    "MUST",
    "A recipient MUST parse and ignore a reasonable number of empty list elements (in Connection, "
    "TE and Upgrade)",
)
def test_empty_elements_of_lists(gate):
    """`Connection: , X-Mine,, close,` means X-Mine and close."""
    with gate.raw() as client:
        client.send(get("/", "Connection: , X-Mine ,, close,", "X-Mine: 1", "TE: ,trailers"))
        response = client.response()
        assert response.closes and client.ended(5)
    seen = Dump(response.body)
    assert "x-mine" not in seen.names() and seen.all("TE") == ["trailers"]


@RFC.follows(
    "5.6.1.2",
    "MUST",
    "A recipient MUST parse and ignore a reasonable number of empty list elements (in Expect)",
)
@pytest.mark.parametrize(
    "value", ["100-continue,", ", 100-continue", "100-continue, ,100-continue"]
)
def test_empty_elements_of_expect(gate, value):
    """They mean nothing."""
    with gate.raw() as client:
        client.send(
            get(worker.sink(), f"Expect: {value}", "Content-Length: 1", method="POST") + b"x"
        )
        assert client.response("POST").status == 200


@RFC.stricter(
    "5.6.1.2",
    "MUST",
    "A recipient MUST parse and ignore a reasonable number of empty list elements (in "
    "Transfer-Encoding and Content-Length)",
    "fields that decide where a message ends are taken in one spelling only: 400",
)
def test_empty_elements_of_framing_fields(gate):
    """`, chunked` hides from parsers that look at the first element."""
    for line in ("Transfer-Encoding: , chunked", "Transfer-Encoding: chunked,"):
        refused(gate, get("/", line, method="POST") + b"0\r\n\r\n", 400, "bad-request", "POST")


@RFC.follows(
    "5.6.7",
    "MUST",
    "When a sender generates a field that contains one or more timestamps defined as HTTP-date, "
    "the sender MUST generate those timestamps in the IMF-fixdate format",
)
def test_dates_of_ours_are_imf_fixdates(gate):
    """In answers of ours and in those to which we add a Date."""
    own = raw.request(gate.front, get("http://kipgate.test:x/"))
    for response in (own, answered(gate, PLAIN)):
        assert IMF_FIXDATE.fullmatch(response.one("Date"))


@RFC.stricter(
    "5.1",
    "MUST",
    "A proxy MUST forward unrecognized header fields unless it is specifically configured to "
    "block, or otherwise transform, such fields",
    "X-Request-Id and traceparent are Kipgate's to write: one of a client that is not valid, or "
    "comes twice, is replaced, and a worker's X-Request-Id too: they end up in logs",
)
def test_ids_are_ours(gate):
    """Valid ones of a client pass."""
    for line in ("X-Request-Id: a b", "traceparent: x"):
        assert line not in dump(gate, get("/", line)).lines
    assert dump(gate, get("/", "X-Request-Id: valid-1")).one("X-Request-Id") == "valid-1"
    response = answered(gate, response_head("X-Request-Id: forged", "Content-Length: 0"))
    assert response.one("X-Request-Id") != "forged"


@RFC.stricter(
    "5.4",
    "MAY",
    "A client MAY discard or truncate received field lines that are larger than the client wishes "
    "to process",
    "a response with more than 64 KiB or 100 fields of head is refused as a whole: 502",
)
def test_large_response_heads(gate):
    """Nothing of them is passed."""
    for lines in (["X-A: " + "a" * 66000], [f"X-{i}: a" for i in range(101)]):
        answer = response_head(*lines, "Content-Length: 0")
        problem(answered(gate, answer, close=1), 502, "upstream-failed")


# --- 6: messages ----------------------------------------------------------------------------------


@RFC.follows(
    "6.2",
    "SHOULD",
    "A server SHOULD send a response version equal to the highest version to which the server is "
    "conformant that has a major version less than or equal to the one received in the request",
)
def test_response_version(gate):
    """HTTP/1.1 also to a client of 1.0."""
    data = get(worker.zeros(1))
    for version in (b"HTTP/1.0", b"HTTP/1.1"):
        assert raw.request(gate.front, data.replace(b"HTTP/1.1", version)).version == "HTTP/1.1"


@RFC.follows(
    "6.2",
    "SHOULD",
    "A message with an implemented major and a higher minor version SHOULD be processed as if it "
    "were in the highest minor version to which the recipient is conformant",
)
def test_higher_minor_version(gate):
    """HTTP/1.2 and 1.9 are read as 1.1, requests and responses."""
    for minor in (2, 9):
        seen = dump(gate, get("/").replace(b"HTTP/1.1", b"HTTP/1.%d" % minor))
        assert seen.first == "GET / HTTP/1.1"
        response = answered(gate, PLAIN.replace(b"HTTP/1.1", b"HTTP/1.%d" % minor))
        assert (response.version, response.body) == ("HTTP/1.1", b"ok")


@RFC.follows(
    "6.5.1",
    "MUST",
    "A recipient MUST NOT merge a trailer field into a header section unless its definition "
    "explicitly permits it",
)
def test_trailers_stay_trailers(gate):
    """Both ways: behind the body and nowhere else."""
    body = b"1\r\na\r\n0\r\nX-Sum: 1\r\n\r\n"
    seen = dump(gate, get("/", "Transfer-Encoding: chunked", "TE: trailers", method="POST") + body)
    assert "x-sum" not in seen.names() and seen.body.endswith(b"0\r\nX-Sum: 1\r\n\r\n")
    answer = response_head("Transfer-Encoding: chunked") + body
    response = answered(gate, answer, "TE: trailers")
    assert response.all("X-Sum") == [] and response.trailers == [("X-Sum", "1")]


@RFC.follows(
    "6.5.1",
    "MUST",
    "A sender MUST NOT generate a trailer field unless it knows that the field's definition "
    "permits it to be sent in trailers; framing, routing, authentication, request modifiers, "
    "response controls and content format are not permitted",
)
@pytest.mark.parametrize(
    "name",
    ["Content-Length", "Transfer-Encoding", "Host", "Authorization", "Cache-Control", "Range"]
    + [
        "Content-Encoding",
        "Content-Type",
        "Content-Range",
        "Trailer",
        "Set-Cookie",
        "Max-Forwards",
    ],
)
def test_fields_that_no_trailer_may_be(gate, name):
    """From a client 400; from a worker the response is broken off."""
    body = b"1\r\na\r\n0\r\n" + name.encode() + b": 1\r\n\r\n"
    data = get("/", "Transfer-Encoding: chunked", method="POST") + body
    refused(gate, data, 400, "bad-request", "POST")
    with gate.raw() as client:
        client.send(raw_post(response_head("Transfer-Encoding: chunked") + body, "TE: trailers"))
        with pytest.raises((raw.Broken, ConnectionResetError, AssertionError)):
            response = client.response("POST")
            assert response.status == 200


@RFC.follows(
    "6.5.2",
    "plain",
    "Trailer fields are for recipients who said that they take them (TE: trailers); an "
    "intermediary may discard them on the way to others",
)
def test_trailers_for_who_does_not_take_them(gate):
    """The body comes whole, without them."""
    answer = response_head("Transfer-Encoding: chunked") + b"1\r\na\r\n0\r\nX-Sum: 1\r\n\r\n"
    response = answered(gate, answer)
    assert (response.body, response.trailers) == (b"a", [])


@RFC.follows(
    "6.6.1",
    "MUST",
    "A recipient with a clock that receives a response message without a Date header field MUST "
    "append a corresponding Date header field if it is forwarded downstream",
)
def test_date_is_added_where_it_is_missing(gate):
    """Now, give or take the second."""
    from email.utils import parsedate_to_datetime

    added = parsedate_to_datetime(answered(gate, PLAIN).one("Date")).timestamp()
    assert abs(added - time.time()) < 3


@RFC.follows(
    "6.6.1",
    "MAY",
    "A recipient with a clock that receives a response with an invalid Date header field value "
    "MAY replace that value",
)
def test_date_of_a_worker_is_kept(gate):
    """A valid one and an invalid one: both are the worker's to say."""
    for date in ("Tue, 15 Nov 1994 08:12:31 GMT", "yesterday"):
        assert (
            answered(gate, response_head(f"Date: {date}", "Content-Length: 0")).one("Date") == date
        )


@RFC.follows(
    "6.6.1",
    "MUST",
    "An origin server with a clock MUST generate a Date header field in all 2xx, 3xx, and 4xx "
    "responses",
)
def test_date_in_answers_of_ours(gate):
    """Also in those to what was not understood."""
    for target in ("/a#b", "/a%00"):
        assert raw.request(gate.front, get(target)).one("Date")


@RFC.follows(
    "6.6.2",
    "SHOULD",
    "A sender that intends to generate one or more trailer fields in a message SHOULD generate a "
    "Trailer header field",
)
def test_trailer_field_is_passed_where_trailers_are(gate):
    """Both ways, and dropped where the body goes on without chunks."""
    body = b"0\r\nX-Sum: 1\r\n\r\n"
    lines = ("Transfer-Encoding: chunked", "Trailer: X-Sum")
    assert dump(gate, get("/", *lines, method="POST") + body).one("Trailer") == "X-Sum"
    assert answered(gate, response_head(*lines) + body, "TE: trailers").one("Trailer") == "X-Sum"
    assert dump(gate, get("/", "Trailer: X-Sum")).all("Trailer") == []
