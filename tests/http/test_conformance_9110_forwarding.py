# SPDX-License-Identifier: Apache-2.0
"""RFC 9110, HTTP semantics, section 7: routing and forwarding. The difficulty: what ends at this
hop and what must go on is told apart by name alone, in every spelling that peers use."""
import gzip
import random

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

from harness import raw
from harness.echo import Dump, get, raw_target
from harness.kipgate import problem

RFC = Table(9110)


@pytest.fixture(scope="module")
def gate(echo):
    """One front, so that kept worker connections are met again."""
    services = {
        "echo": echo(routes=["/"], idle_timeout="10m"),
        "prefixed": echo(routes=["/strip"], strip_prefix=True, idle_timeout="10m"),
    }
    with http1_gate(services) as kipgate:
        yield kipgate


# --- 7: routing and forwarding --------------------------------------------------------------------


@RFC.follows(
    "7.1",
    "MUST",
    "The asterisk and authority forms of request targets MUST NOT be used with other methods "
    "(than OPTIONS and CONNECT)",
)
def test_special_forms_with_other_methods(gate):
    """400."""
    refused(gate, get("*"), 400, "bad-request")
    refused(gate, get("kipgate.test:80"), 400, "bad-request")


@RFC.follows(
    "7.7",
    "MUST",
    "A proxy MUST NOT change the host name if the target URI contains a fully qualified domain "
    "name",
)
@RFC.follows(
    "7.2",
    "plain",
    "The Host field is critical information for handling a request: the target's host and port go "
    "to the next server as they came",
)
def test_host_is_forwarded_unchanged(gate):
    """Its case and port too."""
    data = get("/").replace(b"Host: kipgate.test", b"Host: KipGate.Test:8080")
    assert dump(gate, data).one("Host") == "KipGate.Test:8080"


@RFC.stricter(
    "7.2",
    "plain",
    'Host = uri-host [ ":" port ], where uri-host may be any registered name, percent-encoded and '
    "with sub-delims, or an IPvFuture literal",
    'only names of letters, digits, "-", "_" and ".", IPv4 addresses and IPv6 literals are hosts: '
    "routes are exact look-ups, and all else is read differently by different parsers",
)
@pytest.mark.parametrize("host", ["a%41.test", "a,b.test", "a!b", "a~b", "[v1.x]", "a;b", ""])
def test_odd_hosts(gate, host):
    """400; the empty one too, for an http URI has no empty host."""
    data = get("/").replace(b"Host: kipgate.test", f"Host: {host}".encode())
    refused(gate, data, 400, "bad-request")


@RFC.follows(
    "7.3.3",
    "plain",
    "A gateway's choice of the inbound server is its own; the upstream address never comes from "
    "the request",
)
def test_the_request_does_not_name_the_upstream(gate):
    """A Host or an absolute target with somebody's address is only looked up among the routes."""
    data = get("http://127.0.0.1:1/").replace(b"Host: kipgate.test", b"Host: 127.0.0.1:1")
    assert dump(gate, data).first == "GET / HTTP/1.1", "the route / takes every host"
    data = get("/").replace(b"kipgate.test", b"169.254.169.254")
    assert dump(gate, data).one("Host") == "169.254.169.254"


@RFC.follows(
    "7.4",
    "MUST",
    'A request for an "https" resource MUST be rejected unless it has been received over a '
    "connection that has been secured",
)
def test_https_target_on_a_plain_connection(gate):
    """400 or 421."""
    assert raw.request(gate.front, get("https://kipgate.test/")).status in (400, 421)


RFC.not_applicable(
    "7.6",
    "MUST",
    "An intermediary MUST NOT forward a message to itself unless it is protected from an infinite "
    "request loop",
    "a front connects only to addresses of instances that its own control started, never to itself",
)


@RFC.follows(
    "7.6.1",
    "MUST",
    "Intermediaries MUST, for each connection-option in Connection, remove any header field(s) "
    "with the same name, and then remove the Connection header field itself (or replace it)",
)
def test_connection_options_end_here(gate):
    """Both ways, any case of letters, several lines of Connection."""
    lines = [
        "Connection: X-One, keep-alive",
        "Connection: x-tWo",
        "X-One: 1",
        "x-two: 2",
        "X-Two: 3",
    ]
    seen = dump(gate, get("/", *lines, "X-Kept: 4"))
    assert not {"x-one", "x-two", "connection"} & set(seen.names()) and seen.one("X-Kept") == "4"
    response = answered(gate, response_head(*lines, "X-Kept: 4", "Content-Length: 0"))
    assert not response.all("X-One") and not response.all("X-Two")
    assert not response.all("Connection") and response.one("X-Kept") == "4"


@RFC.follows(
    "7.6.1",
    "MUST",
    "Intermediaries MUST, for each connection-option in Connection, remove any trailer field(s) "
    "with the same name",
)
@pytest.mark.parametrize("way", ["request", "response"])
def test_connection_options_end_trailers_too(gate, way):
    """Both ways."""
    body = b"1\r\na\r\n0\r\nX-One: 1\r\nX-Kept: 2\r\n\r\n"
    lines = ("Transfer-Encoding: chunked", "Connection: X-One")
    if way == "request":
        seen = dump(gate, get("/", *lines, "TE: trailers", method="POST") + body, "POST")
        assert seen.body.endswith(b"0\r\nX-Kept: 2\r\n\r\n")
    else:
        response = answered(gate, response_head(*lines) + body, "TE: trailers")
        assert response.trailers == [("X-Kept", "2")]


@RFC.stricter(
    "7.6.1",
    "MUST",
    "Intermediaries MUST remove any header field(s) named in Connection; a sender MUST NOT name a "
    "field that is intended for all recipients of the content, such as Cache-Control",
    "such a Connection is not obeyed for fields that are end to end by definition, that frame the "
    "message or that Kipgate writes itself: else `Connection: close, X-Forwarded-For` would hide "
    "the client, and `Connection: Authorization` its rights",
)
def test_connection_cannot_remove_what_is_for_all(gate):
    """Framing, credentials, the client's address."""
    named = [
        "Content-Length",
        "Authorization",
        "Cookie",
        "X-Forwarded-For",
        "Host",
        "Cache-Control",
    ]
    lines = ["Authorization: Basic eDp5", "Cookie: a=b", "Cache-Control: no-cache"]
    data = get("/", "Connection: " + ", ".join(named), *lines, "Content-Length: 2", method="POST")
    seen = dump(gate, data + b"ok", "POST")
    for name in named:
        assert seen.one(name)
    assert seen.body == b"ok"


@RFC.stricter(
    "7.6.1",
    "plain",
    "Connection = #connection-option: any number of them",
    "at most 32, each a token: 400, or 502 from a worker",
)
def test_too_many_connection_options(gate):
    """32 pass, 33 do not; what is no token does not."""
    names = [f"X-{i}" for i in range(33)]
    assert dump(gate, get("/", "Connection: " + ", ".join(names[:32])))
    refused(gate, get("/", "Connection: " + ", ".join(names)), 400, "bad-request")
    refused(gate, get("/", "Connection: a b"), 400, "bad-request")


@RFC.follows(
    "7.6.1",
    "SHOULD",
    "Intermediaries SHOULD remove or replace fields that are known to require removal before "
    "forwarding, whether or not they appear as a connection-option (Proxy-Connection, Keep-Alive, "
    "TE, Transfer-Encoding, Upgrade)",
)
def test_hop_by_hop_fields_without_connection(gate):
    """Both ways."""
    lines = ["Proxy-Connection: keep-alive", "Keep-Alive: timeout=5", "Upgrade: foo/1"]
    seen = dump(gate, get("/", *lines, "TE: gzip", "HTTP2-Settings: AAAA"))
    gone = {"proxy-connection", "keep-alive", "upgrade", "te", "http2-settings"}
    assert not gone & set(seen.names())
    response = answered(gate, response_head(*lines, "Content-Length: 0"))
    assert not gone & {name.lower() for name, _ in response.fields}


@RFC.follows(
    "7.6.1",
    "MUST",
    "When a field aside from Connection is used to supply control information for or about the "
    "current connection, the sender MUST list the corresponding field name within Connection",
)
def test_our_own_options_are_listed(gate):
    """TE and Upgrade towards the worker, Upgrade towards the client."""
    seen = dump(gate, get("/", "TE: trailers"))
    assert seen.one("TE") == "trailers" and seen.one("Connection").lower() == "te"
    upgrade = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13")
    seen = dump(gate, get("/", *upgrade, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="))
    assert seen.one("Connection").lower() == "upgrade"
    with gate.raw() as client:
        client.send(get("/ws", *upgrade, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="))
        assert client.final_head().one("Connection").lower() == "upgrade"


@RFC.follows(
    "7.6.2",
    "MUST",
    "Each intermediary that receives an OPTIONS request containing a Max-Forwards header field "
    "MUST check and update its value prior to forwarding the request",
)
def test_max_forwards_is_counted_down(gate):
    """Five become four."""
    seen = dump(gate, get("/", "Max-Forwards: 5", method="OPTIONS"), "OPTIONS")
    assert seen.one("Max-Forwards") == "4"


@RFC.follows(
    "7.6.2",
    "MUST",
    "If the received value is zero (0), the intermediary MUST NOT forward the request; instead, "
    "the intermediary MUST respond as the final recipient",
)
def test_max_forwards_zero_ends_here(gate):
    """The worker does not see it."""
    before = seen_requests(gate)
    response = raw.request(gate.front, get("/", "Max-Forwards: 0", method="OPTIONS"), "OPTIONS")
    assert response.status in (200, 204) and not response.all("X-Echo-Host")
    assert seen_requests(gate) - before == 1, "only the one that asks"


@RFC.follows(
    "7.6.2",
    "MAY",
    "A recipient MAY ignore a Max-Forwards header field received with any other request methods",
)
def test_max_forwards_with_other_methods(gate):
    """Passed on as it came."""
    assert dump(gate, get("/", "Max-Forwards: 0")).one("Max-Forwards") == "0"


@RFC.follows(
    "7.6.3",
    "MAY",
    "If the real host is considered to be sensitive information, a sender MAY replace it with a "
    "pseudonym",
)
@RFC.follows(
    "7.6.3",
    "MUST",
    "A sender MUST NOT combine Via members that have different received-protocol values (none are "
    "combined)",
)
@RFC.follows(
    "7.6.3",
    "MUST",
    "An HTTP-to-HTTP gateway MUST send an appropriate Via header field in each inbound request "
    "message",
)
def test_via_is_added_with_the_received_version(gate):
    """Behind those of others, which stay as they are."""
    assert dump(gate, get("/")).all("Via") == ["1.1 kipgate"]
    old = get("/").replace(b"HTTP/1.1", b"HTTP/1.0")
    assert dump(gate, old).all("Via") == ["1.0 kipgate"]
    others = "1.0 fred, 1.1 p.example.net (Apache/1.1)"
    seen = dump(gate, get("/", f"Via: {others}"))
    assert ", ".join(seen.all("Via")) == others + ", 1.1 kipgate"


@RFC.follows(
    "7.6.3",
    "MAY",
    "An HTTP-to-HTTP gateway MAY send a Via header field in forwarded response messages",
)
def test_via_of_responses(gate):
    """A worker's goes through; none is added."""
    head = response_head("Via: 1.1 inner", "Content-Length: 0")
    assert answered(gate, head).all("Via") == ["1.1 inner"]
    assert answered(gate, PLAIN).all("Via") == []


@RFC.follows(
    "7.7",
    "MUST",
    'A proxy MUST NOT modify the "absolute-path" and "query" parts of the received target URI '
    "when forwarding it",
)
@pytest.mark.parametrize(
    "target", ["/a//b;c=d/%2F%41?", '/?a=b&&c=%zz[]|{}^`"<>\\', "/a?b?c=/../d", "/:@!$&'()*+,=~"]
)
def test_target_goes_on_byte_by_byte(gate, target):
    """Escapes, doubled slashes, an empty query, anything in a query."""
    assert dump(gate, get(target)).first == f"GET {target} HTTP/1.1"


@RFC.follows(
    "7.7",
    "plain",
    "A gateway's mapping of its own namespace is configuration: only `strip_prefix` changes a "
    "path, and only by the matched prefix",
)
def test_strip_prefix_takes_the_prefix_alone(gate):
    """The rest stays byte by byte."""
    seen = dump(gate, get("/strip/a//%41;b?c"))
    assert seen.first == "GET /a//%41;b?c HTTP/1.1"


@RFC.follows(
    "7.7",
    "MUST",
    "A proxy MUST NOT transform the content of a response message that contains a no-transform "
    "cache directive",
)
def test_content_is_never_transformed(gate):
    """With and without no-transform: the bytes that the worker sent, whatever they claim to be."""
    body = gzip.compress(random.Random(7).randbytes(5000))
    for lines in (["Cache-Control: no-transform"], []):
        head = response_head(
            "Content-Type: text/html",
            "Content-Encoding: gzip",
            *lines,
            f"Content-Length: {len(body)}",
        )
        response = answered(gate, head + body)
        assert response.body == body and response.all("Warning") == []


END_TO_END = [
    'Content-Type: text/html;  charset="UTF-8"',
    "Content-Language: de, en",
    "Content-Location: ../there",
    "Last-Modified: Tue, 15 Nov 1994 12:45:26 GMT",
    'ETag: W/"a,b"',
    "Vary: Accept-Encoding, *",
    'Cache-Control: private="x, y", max-age=3',
    "Expires: 0",
    "Age: 17",
    "Server: Apache/2 (Unix)",
    "Accept-Ranges: bytes",
    "Allow: GET, BREW",
    "Location: http://other.test/#fragment",
    "Retry-After: 120",
    "Link: </a.css>; rel=preload",
    "Refresh: 1",
    "Alt-Svc: clear",
]


@RFC.follows(
    "7.7",
    "SHOULD",
    "A proxy SHOULD NOT modify header fields that provide information about the endpoints of the "
    "communication chain, the resource state, or the selected representation",
)
def test_end_to_end_fields_of_responses_are_untouched(gate):
    """All as they came, none twice, in their order."""
    response = answered(gate, response_head(*END_TO_END, "Content-Length: 0"))
    names = {line.partition(":")[0] for line in END_TO_END}
    got = [f"{name}: {value}" for name, value in response.fields if name in names]
    assert got == END_TO_END


@RFC.stricter(
    "7.7",
    "SHOULD",
    "A proxy SHOULD NOT modify header fields that provide information about the endpoints of the "
    "communication chain, unless deemed necessary for privacy or security",
    "X-Forwarded-*, Forwarded, X-Real-IP and X-Kipgate-* of a client are replaced or dropped: who "
    "the client is, is not the client's to say",
)
def test_claims_about_the_client_are_ours(gate):
    """What came does not reach the worker."""
    claims = ["X-Forwarded-For: 6.6.6.6", "Forwarded: for=6.6.6.6", "X-Real-IP: 6.6.6.6"]
    seen = dump(gate, get("/", *claims, "X-Forwarded-Port: 6666", "X-Kipgate-Service: 6.6.6.6"))
    assert not any("6.6" in line or "6666" in line for line in seen.lines)
    assert seen.one("X-Forwarded-For") == "127.0.0.1"


@RFC.follows(
    "7.8",
    "SHOULD",
    "Recipients SHOULD use case-insensitive comparison when matching each protocol-name to "
    "supported protocols",
)
def test_upgrade_in_any_case_of_letters(gate):
    """`WebSocket` among others in a list."""
    lines = [
        line.replace("WebSocket", "foo/2, WEBsocket") if "Upgrade:" in line else line
        for line in WEBSOCKET
    ]
    with gate.raw() as client:
        client.send(get("/ws", *lines))
        head = client.final_head()
        assert head.status == 101 and head.one("Upgrade") == "websocket"


@RFC.follows(
    "7.8",
    "MUST",
    "A server that sends a 101 (Switching Protocols) response MUST send an Upgrade header field, "
    "and MUST NOT switch to a protocol that was not indicated by the client",
)
@pytest.mark.parametrize(
    "lines", [(), ("Connection: upgrade", "Upgrade: foo")], ids=["none", "other"]
)
def test_101_of_a_worker_that_breaks_the_rules(gate, lines):
    """502, both when it is unasked and when it names another protocol or none."""
    switch = response_head(*lines, status="101 Switching Protocols")
    for fields in ((), WEBSOCKET):
        response = raw.request(gate.front, get(raw_target(switch, close=1), *fields))
        problem(response, 502, "upstream-failed")


@RFC.follows(
    "7.8",
    "MUST",
    "A server that sends a 426 (Upgrade Required) response MUST send an Upgrade header field to "
    "indicate the acceptable protocols",
)
def test_426_names_the_protocol(gate):
    """A worker that wants a WebSocket."""
    lines = ("Connection: upgrade", "Upgrade: websocket", "Content-Length: 0")
    response = answered(gate, response_head(*lines, status="426 Upgrade Required"))
    assert response.status == 426 and response.one("Upgrade") == "websocket"
    assert "upgrade" in response.one("Connection").lower()


@RFC.stricter(
    "7.8",
    "MAY",
    "A server MAY ignore a received Upgrade header field",
    "only `websocket` is passed on, for GET on HTTP/1.1 without content; h2c and TLS by Upgrade "
    "are ignored, for whoever gets a tunnel past the checks can smuggle requests through it",
)
@pytest.mark.parametrize("protocol", ["h2c", "TLS/1.2", "foo/1"])
def test_other_protocols_are_not_offered_to_workers(gate, protocol):
    """An ordinary request it is."""
    seen = dump(gate, get("/", "Connection: Upgrade", f"Upgrade: {protocol}"))
    assert seen.all("Upgrade") == [] and seen.all("Connection") == []


@RFC.follows(
    "7.8",
    "MUST",
    "A server that receives an Upgrade header field in an HTTP/1.0 request MUST ignore that "
    "Upgrade field",
)
def test_upgrade_in_http_1_0(gate):
    """No 101, no Upgrade to the worker."""
    seen = dump(gate, get("/", *WEBSOCKET).replace(b"HTTP/1.1", b"HTTP/1.0"))
    assert seen.all("Upgrade") == []


@RFC.follows(
    "7.8",
    "MUST",
    'A sender of Upgrade MUST also send an "Upgrade" connection option (one that comes without is '
    "not acted upon)",
)
def test_upgrade_without_its_option(gate):
    """No switch."""
    seen = dump(gate, get("/", *WEBSOCKET[1:]))
    assert seen.all("Upgrade") == []


@RFC.stricter(
    "7.8",
    "MUST",
    'If a server receives both an Upgrade and an Expect header field with the "100-continue" '
    "expectation, the server MUST send a 100 (Continue) response before sending a 101",
    "a switch is only made for requests without content, for which 10.1.1 lets a 100 be omitted: "
    "with content the Upgrade is ignored, and the 100 is sent",
)
def test_upgrade_with_expect(gate):
    """Never a 101 before a 100 that was due."""
    with gate.raw() as client:
        data = get("/", *WEBSOCKET, "Expect: 100-continue", "Content-Length: 1")
        client.send(data)
        assert client.head().status == 100
        seen = Dump(client.send(b"x").response().body)
    assert seen.all("Upgrade") == [] and seen.body == b"x"
