# SPDX-License-Identifier: Apache-2.0
"""RFC 9110, HTTP semantics, sections 9 to 11 and 15 to 17: methods, context, authentication,
status codes, security. The difficulty: what a worker saw is as telling as what came back, so it
is asked."""
import json

import pytest
from conformance import (
    Table,
    answered,
    dump,
    http1_gate,
    WEBSOCKET,
    PLAIN,
    refused,
    response_head,
    seen_requests,
)

from harness import echo as worker
from harness import raw
from harness.echo import Dump, get, raw_post, raw_target
from harness.kipgate import problem

RFC = Table(9110)


@pytest.fixture(scope="module")
def gate(echo):
    """One front, so that kept worker connections are met again."""
    services = {
        "echo": echo(routes=["/"], idle_timeout="10m"),
        "small": echo(routes=["/small"], max_body="1KiB", idle_timeout="10m"),
        "full": echo(routes=["/full"], queue=0),
    }
    with http1_gate(services) as kipgate:
        yield kipgate


# --- 9: methods -----------------------------------------------------------------------------------


@RFC.follows("9.1", "MUST", "All general-purpose servers MUST support the methods GET and HEAD")
def test_get_and_head(gate):
    """Through to the worker, and for answers of ours."""
    assert raw.request(gate.front, get(worker.zeros(3))).body == b"\0" * 3
    head = raw.request(gate.front, get(worker.zeros(3), method="HEAD"), "HEAD")
    assert head.status == 200 and head.one("Content-Length") == "3"


@RFC.follows(
    "9.1",
    "plain",
    "Extension methods are forwarded by the generic rules; the method is case-sensitive",
)
@pytest.mark.parametrize("method", ["PATCH", "PROPFIND", "REPORT", "MKCOL", "PURGE", "SEARCH"])
def test_registered_extension_methods(gate, method):
    """With content, and the answer is the worker's."""
    seen = dump(gate, get("/x", "Content-Length: 2", method=method) + b"ok", method)
    assert seen.first == f"{method} /x HTTP/1.1" and seen.body == b"ok"


@RFC.stricter(
    "9.1",
    "SHOULD",
    "A request method that is unrecognized or not implemented SHOULD be answered with 501; an "
    "intermediary can forward methods that it does not know",
    "methods outside those that the parser knows are answered with 405, which names in Allow what "
    "is served, and are not forwarded: safety and framing of an unknown method cannot be vouched "
    "for",
)
@pytest.mark.parametrize("method", ["BREW", "get", "X" * 32])
def test_unknown_methods(gate, method):
    """405 with Allow."""
    response = refused(gate, get("/", method=method), 405, "method-not-allowed")
    assert "GET" in response.one("Allow")


@RFC.follows("9.2.2", "MUST", "A proxy MUST NOT automatically retry non-idempotent requests")
def test_post_is_never_repeated(gate):
    """The worker closes without an answer: 502, and it saw the request once."""
    before = seen_requests(gate)
    problem(answered(gate, b"", close=1), 502, "upstream-failed")
    assert seen_requests(gate) - before == 2, "the POST and the one that asks"


@RFC.follows("9.2.2", "SHOULD", "A client SHOULD NOT automatically retry a failed automatic retry")
def test_a_retry_is_not_repeated(gate):
    """A worker that always closes on a GET sees it at most twice, however often it is tried."""
    raw.request(gate.front, get("/"))  # a kept connection, so that there is a retry
    before = seen_requests(gate)
    problem(raw.request(gate.front, get(raw_target(b"", close=1))), 502, "upstream-failed")
    assert seen_requests(gate) - before <= 3, "twice, and the one that asks"


@RFC.follows(
    "9.3.1",
    "SHOULD",
    "A client SHOULD NOT generate content in a GET request (yet content that came is framed by "
    "its fields, and is neither dropped nor taken for a request)",
)
@RFC.follows("6.4.1", "plain", "Content in a request is independent of the method's semantics")
@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "OPTIONS"])
def test_content_with_any_method(gate, method):
    """It reaches the worker; the next request is the next one."""
    with gate.raw() as client:
        body = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
        client.send(get("/sink", f"Content-Length: {len(body)}", method=method) + body + get("/n"))
        response = client.response(method)
        if method != "HEAD":
            assert worker.sunk_bytes(response) == len(body)
        assert Dump(client.response().body).first == "GET /n HTTP/1.1"


@RFC.follows(
    "9.3.2",
    "MUST",
    "The HEAD method is identical to GET except that the server MUST NOT send content in the "
    "response",
)
def test_head_has_no_content(gate):
    """From a worker that sends some, and from ourselves."""
    with gate.raw() as client:
        client.send(get(raw_target(PLAIN, close=1), method="HEAD"))
        assert client.response("HEAD").status == 200
        client.send(get("/next"))
        assert Dump(client.response().body).first == "GET /next HTTP/1.1"
    with gate.raw() as client:
        client.send(get("/a%00", method="HEAD"))
        assert client.response("HEAD").status == 400 and client.ended(5)


@RFC.follows(
    "9.3.2",
    "SHOULD",
    "The server SHOULD send the same header fields in response to a HEAD request as if the method "
    "had been GET",
)
def test_head_has_the_fields_of_get(gate):
    """Also in an answer of ours."""
    names = []
    for method in ("GET", "HEAD"):
        response = raw.request(gate.front, get("/a%00", method=method), method)
        names.append([name for name, _ in response.fields])
    assert names[0] == names[1]


@RFC.stricter(
    "9.3.6",
    "MAY",
    "An origin server MAY accept a CONNECT request, but most origin servers do not implement "
    "CONNECT",
    "405 in every form: a gateway to containers tunnels to nowhere",
)
@pytest.mark.parametrize("target", ["kipgate.test:443", "/", "127.0.0.1:22", ":", "kipgate.test"])
def test_connect_is_refused(gate, target):
    """Before anything else is looked at."""
    refused(gate, get(target, method="CONNECT"), 405, "method-not-allowed")


@RFC.follows(
    "9.3.6",
    "MUST",
    "A server MUST reject a CONNECT request that targets an empty or invalid port number",
)
def test_connect_with_a_bad_port(gate):
    """As every CONNECT."""
    for target in ("kipgate.test:", "kipgate.test:99999", "kipgate.test:x"):
        refused(gate, get(target, method="CONNECT"), 405, "method-not-allowed")


@RFC.follows(
    "9.3.7",
    "MUST",
    "A proxy MUST NOT generate a Max-Forwards header field while forwarding a request unless that "
    "request was received with a Max-Forwards field",
)
def test_options_is_forwarded(gate):
    """With the worker's answer, and without a Max-Forwards of ours."""
    seen = dump(gate, get("/x", method="OPTIONS"), "OPTIONS")
    assert seen.first == "OPTIONS /x HTTP/1.1" and seen.all("Max-Forwards") == []


@RFC.stricter(
    "9.3.8",
    "SHOULD",
    "The final recipient of a TRACE request SHOULD reflect the message received back to the client",
    "405 in every form: a reflected request shows credentials and our own fields to scripts",
)
def test_trace_is_refused(gate):
    """With and without Max-Forwards, which is why 7.6.2 need not be followed for it."""
    for lines in ((), ("Max-Forwards: 0",), ("Max-Forwards: 9",)):
        refused(gate, get("/", *lines, method="TRACE"), 405, "method-not-allowed")


# --- 10: context ----------------------------------------------------------------------------------


@RFC.follows(
    "10.1.1",
    "MAY",
    "A server that receives an Expect field value containing a member other than 100-continue MAY "
    "respond with a 417 (Expectation Failed) status code",
)
def test_other_expectations(gate):
    """417."""
    for value in ("200-ok", "100-continue, x=y"):
        data = get("/", f"Expect: {value}", "Content-Length: 1", method="POST")
        refused(gate, data, 417, "expectation-failed", "POST")


@RFC.follows(
    "10.1.1",
    "MUST",
    "A server that receives a 100-continue expectation in an HTTP/1.0 request MUST ignore that "
    "expectation",
)
def test_expect_in_http_1_0(gate):
    """No 100."""
    data = get(worker.sink(), "Expect: 100-continue", "Content-Length: 2", method="POST") + b"ok"
    response = raw.request(gate.front, data.replace(b"HTTP/1.1", b"HTTP/1.0"), "POST")
    assert worker.sunk_bytes(response) == 2 and response.interim == []


@RFC.follows(
    "10.1.1",
    "MUST",
    "With an indication that request content will follow, an origin server MUST send either an "
    "immediate final status code or an immediate 100 (Continue), and MUST NOT wait for the "
    "content before sending the 100 (Continue) response",
)
def test_expect_is_answered_at_once(gate):
    """A 100 when a worker has the request; a final status where there will be none."""
    with gate.raw() as client:
        client.send(get(worker.sink(), "Expect: 100-Continue", "Content-Length: 2", method="POST"))
        assert client.head(5).status == 100
        assert worker.sunk_bytes(client.send(b"ok").response("POST")) == 2
    with gate.raw() as client:
        client.send(get("/small", "Expect: 100-continue", "Content-Length: 9999", method="POST"))
        response = client.response("POST")
        problem(response, 413, "body-too-large")
        assert response.interim == [] and response.closes


@RFC.follows(
    "10.1.1",
    "MAY",
    "A server MAY omit sending a 100 (Continue) response if it has already received some or all "
    "of the content, or if the framing indicates that there is no content",
)
def test_expect_with_nothing_to_wait_for(gate):
    """None is sent without content; at most one when it came along."""
    response = raw.request(gate.front, get("/", "Expect: 100-continue"))
    assert response.status == 200 and response.interim == []
    data = get(worker.sink(), "Expect: 100-continue", "Content-Length: 2", method="POST") + b"ok"
    assert len(raw.request(gate.front, data, "POST").interim) <= 1


@RFC.follows(
    "10.1.1",
    "MUST",
    "A server that sends a 100 (Continue) response MUST ultimately send a final status code",
)
def test_a_100_is_followed_by_a_final_status(gate):
    """Also when the worker then breaks off."""
    with gate.raw() as client:
        client.send(get("/raw?close=1", "Expect: 100-continue", "Content-Length: 1", method="POST"))
        assert client.head(5).status == 100
        problem(client.send(b"x").response("POST"), 502, "upstream-failed")


@RFC.follows(
    "10.1.1",
    "SHOULD",
    "A server that responds with a final status code before reading the entire request content "
    "SHOULD indicate whether it intends to close the connection or continue reading",
)
def test_early_answer_says_close(gate):
    """`Connection: close`, and the end."""
    with gate.raw() as client:
        client.send(get(worker.early(), "Content-Length: 10000000", method="POST") + b"x" * 1000)
        response = client.response("POST")
        assert response.status == 200 and response.closes and client.ended(5)


RFC.not_applicable(
    "10.1.1",
    "MUST",
    "A proxy MUST either send an immediate final status code or forward the request, with its "
    "100-continue expectation, toward the origin server",
    "towards clients Kipgate is a gateway and follows the origin server's requirement above; it "
    "asks for no 100 of a worker, which gets the content as it comes",
)


@RFC.follows(
    "10.1.3",
    "SHOULD",
    "An intermediary SHOULD NOT modify or delete the Referer header field when the field value "
    "shares the same scheme and host as the target URI",
)
@RFC.follows("10.1.5", "plain", "User-Agent is the user agent's: nothing is added to it")
def test_fields_about_the_user_agent(gate):
    """From, Referer, User-Agent as they came; none is made up."""
    lines = ["From: a@kipgate.test", "Referer: http://kipgate.test/a?b", "User-Agent: x/1 (y) z"]
    seen = dump(gate, get("/", *lines))
    assert [line for line in seen.lines if line in lines] == lines
    assert not {"from", "referer", "user-agent"} & set(dump(gate, get("/")).names())


@RFC.follows(
    "10.1.4",
    "MUST",
    'A sender of TE MUST also send a "TE" connection option; TE is for this hop: only `trailers` '
    "is said anew to the worker",
)
def test_te_is_said_anew(gate):
    """Other codings are not asked of the worker, for we could not undo them."""
    seen = dump(gate, get("/", "Connection: TE", "TE: trailers;q=0.5, gzip;q=0.4, deflate"))
    assert seen.all("TE") == ["trailers"] and seen.one("Connection") == "TE"
    assert dump(gate, get("/", "Connection: TE", "TE: gzip")).all("TE") == []


@RFC.follows("10.2.1", "MUST", "A proxy MUST NOT modify the Allow header field")
def test_allow_is_untouched(gate):
    """Also with methods that Kipgate refuses, and empty."""
    for allow in ("TRACE, BREW,  GET", ""):
        head = response_head(f"Allow: {allow}".rstrip(), "Content-Length: 0", status="405 No")
        assert answered(gate, head).one("Allow") == allow


@RFC.follows(
    "10.2.1",
    "MUST",
    "An origin server MUST generate an Allow header field in a 405 (Method Not Allowed) response",
)
@RFC.follows(
    "15.5.6",
    "MUST",
    "The origin server MUST generate an Allow header field in a 405 response",
)
def test_405_of_ours_has_allow(gate):
    """With the methods that are served."""
    allow = raw.request(gate.front, get("/", method="TRACE")).one("Allow")
    assert {"GET", "HEAD", "OPTIONS"} <= set(allow.split(", ")) and "TRACE" not in allow


@RFC.follows(
    "10.2.4",
    "MAY",
    "An origin server MAY generate a Server header field (Kipgate does not; a worker's is passed)",
)
def test_server_is_the_workers(gate):
    """None of ours."""
    assert raw.request(gate.front, get("/a%00")).all("Server") == []
    assert answered(gate, PLAIN).all("Server") == []


# --- 11: authentication ---------------------------------------------------------------------------


@RFC.follows(
    "11.6.1",
    "MUST",
    "A proxy forwarding a response MUST NOT modify any WWW-Authenticate header fields in that "
    "response",
)
def test_www_authenticate_is_untouched(gate):
    """Several challenges in several lines."""
    challenges = ['Newauth realm="apps", type=1, title="Login, \\"x\\""', 'Basic realm="simple"']
    head = response_head(
        *[f"WWW-Authenticate: {c}" for c in challenges], "Content-Length: 0", status="401 No"
    )
    response = answered(gate, head)
    assert response.status == 401 and response.all("WWW-Authenticate") == challenges


@RFC.follows(
    "11.6.2",
    "MUST",
    "A proxy forwarding a request MUST NOT modify any Authorization header fields in that request",
)
def test_authorization_is_untouched(gate):
    """Whatever its scheme."""
    for value in ("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==", 'Digest username="a,b", uri="/"', "x"):
        assert dump(gate, get("/", f"Authorization: {value}")).one("Authorization") == value
    head = response_head("Authentication-Info: a=b", "Content-Length: 0")
    assert answered(gate, head).one("Authentication-Info") == "a=b"


@RFC.follows(
    "11.7.2",
    "plain",
    "Proxy-Authorization applies only to the next inbound proxy; Proxy-Authenticate and "
    "Proxy-Authentication-Info only to the next outbound client: they end here",
)
def test_proxy_fields_end_here(gate):
    """Both ways, the whole family."""
    lines = [
        "Proxy-Authorization: Basic eDp5",
        "Proxy-Authenticate: Basic",
        "Proxy-X: 1",
        "Proxy: x",
    ]
    assert not [n for n in dump(gate, get("/", *lines)).names() if n.startswith("proxy")]
    response = answered(gate, response_head(*lines, "Content-Length: 0"))
    assert not [name for name, _ in response.fields if name.lower().startswith("proxy")]


RFC.not_applicable(
    "11.7.1",
    "MUST",
    "A proxy MUST send at least one Proxy-Authenticate header field in each 407 response that it "
    "generates",
    "Kipgate generates no 407",
)


# --- 15: status codes -----------------------------------------------------------------------------


@RFC.follows(
    "15",
    "MUST",
    "A client MUST understand the class of any status code; unknown codes of a class go on as "
    "they came",
)
@pytest.mark.parametrize("status", [200, 207, 226, 299, 300, 399, 402, 418, 499, 507, 599])
def test_any_status_is_passed(gate, status):
    """With its phrase and content."""
    head = response_head("Content-Length: 2", status=f"{status} Whatever It Is")
    response = answered(gate, head + b"ok")
    assert (response.status, response.reason) == (status, "Whatever It Is")
    assert response.body == b"ok"


@RFC.follows(
    "15",
    "SHOULD",
    "A client that receives a response with an invalid status code (outside of 100 to 599) SHOULD "
    "process the response as if it had a 5xx status code",
)
@pytest.mark.parametrize("status", ["099 Low", "600 High", "999 Higher", "20 Short"])
def test_invalid_status(gate, status):
    """502."""
    response = answered(gate, response_head("Content-Length: 2", status=status) + b"ok")
    problem(response, 502, "upstream-failed")


@RFC.follows(
    "15.2",
    "MUST",
    "A client MUST be able to parse one or more 1xx responses received prior to a final response, "
    "even if the client does not expect one",
)
@RFC.follows(
    "15.2",
    "MUST",
    "A proxy MUST forward 1xx responses unless the proxy itself requested the generation of the "
    "1xx response",
)
def test_informational_responses_are_forwarded(gate):
    """Known and unknown ones with their fields, in their order, before the final one."""
    answer = b"".join(
        response_head(f"Link: </{n}>", status=f"{n} X") for n in (103, 102, 103, 104, 199)
    )
    response = answered(gate, answer + PLAIN)
    assert [i.status for i in response.interim] == [103, 102, 103, 104, 199]
    assert [i.one("Link") for i in response.interim] == [
        "</103>",
        "</102>",
        "</103>",
        "</104>",
        "</199>",
    ]
    assert response.body == b"ok"


@RFC.stricter(
    "15.2",
    "MUST",
    "A proxy MUST forward 1xx responses",
    "at most 8 of them before a final response (then 502), for they cost the worker nothing and "
    "could go on for ever",
)
def test_a_ninth_informational_response(gate):
    """Eight pass, nine do not."""
    hint = response_head(status="103 Early Hints")
    assert len(answered(gate, hint * 8 + PLAIN).interim) == 8
    with gate.raw() as client:
        response = client.send(raw_post(hint * 9 + PLAIN, close=1)).response("POST")
        problem(response, 502, "upstream-failed")


@RFC.stricter(
    "15.2.1",
    "MUST",
    "A proxy MUST forward 1xx responses (100)",
    "a worker's 100 is dropped: the front answers an expectation itself, once, when a worker has "
    "the request, and a second or unasked 100 confuses clients",
)
def test_a_100_of_a_worker_is_dropped(gate):
    """Asked for or not."""
    assert answered(gate, response_head(status="100 Continue") * 2 + PLAIN).interim == []
    with gate.raw() as client:
        body = response_head(status="100 Continue") + PLAIN
        client.send(raw_post(body, "Expect: 100-continue")[: -len(body)])
        assert client.head(5).status == 100
        assert client.send(body).response("POST").interim == []


@RFC.follows("15.2", "MUST", "A server MUST NOT send a 1xx response to an HTTP/1.0 client")
def test_no_1xx_for_http_1_0(gate):
    """A worker's are dropped."""
    answer = response_head(status="103 Early Hints") + PLAIN
    data = get(raw_target(answer)).replace(b"HTTP/1.1", b"HTTP/1.0")
    response = raw.request(gate.front, data)
    assert response.interim == [] and response.body == b"ok"


@RFC.follows(
    "15.2.2",
    "MUST",
    "The server MUST generate an Upgrade header field in the 101 response that indicates which "
    "protocol(s) will be in effect after this response",
)
def test_101_has_upgrade(gate):
    """And no framing fields."""
    with gate.raw() as client:
        head = client.send(get("/ws", *WEBSOCKET)).final_head()
        assert (head.status, head.one("Upgrade")) == (101, "websocket")
        assert not head.all("Content-Length") and not head.all("Transfer-Encoding")


@RFC.follows(
    "15.3.5",
    "plain",
    "A 204 response is terminated by the end of the header section; it cannot contain content",
)
@RFC.follows(
    "15.4.5",
    "plain",
    "A 304 response is terminated by the end of the header section; it cannot contain content",
)
@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_204_and_304_have_no_content(gate, status):
    """What a worker sends behind them is dropped with its connection."""
    with gate.raw() as client:
        client.send(get(raw_target(response_head('ETag: "a"', status=status) + b"stray", close=1)))
        response = client.response()
        assert f"{response.status} {response.reason}" == status
        assert response.all("Transfer-Encoding") == [] and response.one("ETag") == '"a"'
        client.send(get("/next"))
        assert Dump(client.response().body).first == "GET /next HTTP/1.1"


@RFC.follows(
    "15.3.6",
    "MUST",
    "A server MUST NOT generate content in a 205 response (one that a worker generated "
    "nevertheless goes through by its framing)",
)
def test_205_is_framed_like_others(gate):
    """With a length of zero, chunked without chunks, and with content."""
    for lines, body in [
        (["Content-Length: 0"], b""),
        (["Transfer-Encoding: chunked"], b"0\r\n\r\n"),
        (["Content-Length: 2"], b"ok"),
    ]:
        response = answered(gate, response_head(*lines, status="205 Reset Content") + body)
        assert response.status == 205 and response.body in (b"", b"ok")


@RFC.follows(
    "15.4",
    "plain",
    "Redirections are for the user agent: a gateway follows none and changes no Location",
)
@pytest.mark.parametrize("status", [301, 302, 303, 305, 307, 308])
def test_redirections_are_passed(gate, status):
    """With a Location of any kind."""
    for location in ("http://127.0.0.1:1/x", "/y?z#f", "//other.test", "%zz"):
        head = response_head(f"Location: {location}", "Content-Length: 0", status=f"{status} Moved")
        response = answered(gate, head)
        assert response.status == status and response.one("Location") == location


@RFC.follows(
    "8.3",
    "SHOULD",
    "A sender that generates a message containing content SHOULD generate a Content-Type header "
    "field in that message",
)
@RFC.follows(
    "8.6",
    "SHOULD",
    "An origin server SHOULD send a Content-Length header field when the content size is known "
    "prior to sending the complete header section",
)
@RFC.follows(
    "15.5",
    "SHOULD",
    "Except when responding to a HEAD request, the server SHOULD send a representation containing "
    "an explanation of the error situation",
)
@RFC.follows(
    "15.5.1",
    "plain",
    "400: the server cannot or will not process the request due to something that is perceived to "
    "be a client error",
)
def test_errors_of_ours_are_explained(gate):
    """A problem document (RFC 9457) that says what was wrong."""
    response = raw.request(gate.front, get("/a%00"))
    assert "NUL" in problem(response, 400, "bad-request")["detail"]
    assert response.framing == "length"


@RFC.follows(
    "15.5.14",
    "MAY",
    "413: the server MAY terminate the request, if the protocol version in use allows it; "
    "otherwise, the server MAY close the connection",
)
def test_413_ends_the_connection(gate):
    """By length at once; in chunks when the limit is passed."""
    refused(
        gate, get("/small", "Content-Length: 1025", method="POST"), 413, "body-too-large", "POST"
    )


RFC.not_applicable(
    "15.5.20",
    "MUST",
    "A proxy MUST NOT generate a 421 response",
    "towards clients Kipgate is a gateway, which speaks for the origins that it serves: it "
    "answers 421 under TLS where the host is not the name of the handshake (7.4); a host without "
    "a route is 404",
)


@RFC.follows(
    "15.6.3",
    "plain",
    "502: the server, while acting as a gateway, received an invalid response from an inbound "
    "server",
)
def test_502(gate):
    """With the service's name and without the worker's words."""
    body = problem(answered(gate, b"secret words\r\n\r\n"), 502, "upstream-failed")
    assert "echo" in body["detail"] and "secret" not in json.dumps(body)


@RFC.follows("15.6.4", "MAY", "503: the server MAY send a Retry-After header field")
def test_503_has_retry_after(gate):
    """A service that is cold and lets nobody wait."""
    response = raw.request(gate.front, get("/full"))
    assert response.status == 503 and int(response.one("Retry-After")) >= 1


@RFC.follows(
    "15.6.6",
    "SHOULD",
    "505: the server SHOULD generate a representation that describes why that version is not "
    "supported and what other protocols are supported by that server",
)
def test_505_says_which_versions_are_served(gate):
    """HTTP/1."""
    response = refused(
        gate, get("/").replace(b"HTTP/1.1", b"HTTP/3.0"), 505, "version-not-supported"
    )
    assert b"1.x" in response.body


# --- 16, 17: extensions, security -----------------------------------------------------------------


@RFC.stricter(
    "17.3",
    "plain",
    'Paths may hold "..", encoded slashes and other text that a file system reads in its own way',
    'dot segments in every spelling that a worker might resolve, "%00", "\\" and raw bytes beyond '
    "ASCII are refused with 400, so that nothing climbs out of a matched prefix",
)
@pytest.mark.parametrize(
    "path",
    ["/a/../b", "/a/%2e%2E/b", "/a/..;x/b", "/a%2f..%2fb", "/a/.", "/a%00", "/a\\b", "/\xe9"],
)
def test_paths_that_climb(gate, path):
    """400."""
    refused(gate, get(path), 400, "bad-request")


@RFC.follows(
    "17.5",
    "plain",
    "Attacks via protocol element length: limits are set and told by 414, 431 and 413",
)
def test_length_limits_are_told(gate):
    """n+1 of each."""
    refused(gate, get("/" + "a" * 8192), 414, "uri-too-long")
    refused(gate, get("/", "X-A: " + "a" * 65536), 431, "head-too-large")


@RFC.follows(
    "17.2",
    "plain",
    "Intermediaries are by their nature men in the middle: what one client sent never reaches "
    "another",
)
def test_stray_bytes_of_a_worker_reach_nobody(gate):
    """A second response behind the first is dropped with its connection."""
    answered(gate, PLAIN + PLAIN.replace(b"ok", b"no"), hold=1)
    for _ in range(3):
        assert dump(gate, get("/mine")).first == "GET /mine HTTP/1.1"


@RFC.stricter(
    "17.10",
    "plain",
    "Application handling of field names: a CGI-like mapping makes HTTP_PROXY, a variable that "
    "clients obey, of a field named Proxy",
    "Proxy, and every field whose name begins with Proxy-, ends here in both directions",
)
def test_proxy_field_reaches_no_worker(gate):
    """In any case of letters."""
    seen = dump(gate, get("/", "Proxy: http://evil.test/", "PROXY: x", "Proxy-Anything: x"))
    assert not any("proxy" in name for name in seen.names())
