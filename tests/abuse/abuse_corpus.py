# SPDX-License-Identifier: Apache-2.0
"""Requests that two servers may end at different places: every published class of smuggling. The
difficulty: a row must say what is right, not what happens; REFUSED rows cost a worker nothing,
PASSED rows reach it as exactly one request with that body."""
import dataclasses

REFUSED, PASSED = "refused", "passed"

SMUGGLED = b"GET @P/smuggled HTTP/1.1\r\nHost: kipgate.test\r\nX-Ignore: x\r\n\r\n"
LENGTH = str(len(SMUGGLED.replace(b"@P", b"/12345678"))).encode()


@dataclasses.dataclass
class Row:
    """One payload. `bytes`: of the body that the worker must have seen, where one is passed."""

    name: str
    data: bytes
    verdict: str = REFUSED
    bytes: int | None = None
    method: str = "POST"

    def at(self, path):
        """The payload for the service below that path of nine bytes."""
        assert len(path) == 9
        return self.data.replace(b"@P", path.encode())


def post(*fields, body=b"", version=b"HTTP/1.1", method=b"POST", end=b"\r\n"):
    """A request with these field lines as they are."""
    lines = [method + b" @P/payload " + version, b"Host: kipgate.test", *fields]
    return end.join(lines) + end + end + body


CHUNKED = b"Transfer-Encoding: chunked"
CL = b"Content-Length: " + LENGTH
END = b"0\r\n\r\n"


def chunk(line, data=b"abc", end=b"\r\n"):
    """A chunked request whose first chunk has this line; a smuggled request lies behind it."""
    return post(CHUNKED, body=line + b"\r\n" + data + end + END + SMUGGLED)


def refused(name, data, method="POST"):
    """A row."""
    return Row(name, data, REFUSED, None, method)


def passed(name, data, count, method="POST"):
    """A row."""
    return Row(name, data, PASSED, count, method)


def both_framings():
    """Content-Length and Transfer-Encoding together, and codings in disguise."""
    hidden = END + SMUGGLED
    length = b"Content-Length: %d" % (len(hidden.replace(b"@P", b"/12345678")))
    yield refused("CL.TE", post(length, CHUNKED, body=hidden))
    yield refused("TE.CL", post(CHUNKED, b"Content-Length: 4", body=b"5c\r\n" + SMUGGLED + END))
    disguises = [
        b"Transfer-Encoding: xchunked",
        b"Transfer-Encoding : chunked",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x",
        b"Transfer-Encoding: x\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding:\tchunked\x0b",
        b" Transfer-Encoding: chunked",
        b"\tTransfer-Encoding: chunked",
        b"X: x\nTransfer-Encoding: chunked",
        b"X: x\rTransfer-Encoding: chunked",
        b"X: x\r\rTransfer-Encoding: chunked",
        b"Transfer-Encoding\r\n: chunked",
        b"Transfer-Encoding:\r\n chunked",
        b"Transfer-Encoding: identity, chunked",
        b"Transfer-Encoding: chunked, identity",
        b"Transfer-Encoding: chunked, chunked",
        b"Transfer-Encoding: gzip, chunked",
        b"Transfer-Encoding: , chunked",
        b"Transfer-Encoding: chunked,",
        b"Transfer-Encoding: identity",
        b"Transfer-Encoding:",
        b'Transfer-Encoding: "chunked"',
        b"Transfer-Encoding: 'chunked'",
        b"Transfer-Encoding: chunked;q=1",
        b"Transfer-Encoding: chun\x00ked",
        b"Transfer-Encoding: chunked\x00",
        b"Transfer-Encoding: \xffchunked",
        b"Transfer-Encoding\x00: chunked",
        b"Transfer-Enc\xc3\xb8ding: chunked\r\nTransfer-Encoding: x",
        b"Transfer-Encoding: c\x68unked\x7f",
    ]
    for line in disguises:
        yield refused(f"TE.TE {line!r}", post(line, length, body=hidden))
        yield refused(f"TE alone {line!r}", post(line, body=hidden))
    yield refused("TE on HTTP/1.0", post(CHUNKED, body=hidden, version=b"HTTP/1.0"))
    yield refused("CL and TE on HTTP/1.0", post(length, CHUNKED, body=hidden, version=b"HTTP/1.0"))


def lengths():
    """Content-Length in every wrong form; CL.0 and 0.CL by right ones."""
    yield passed("CL.0", post(CL, body=SMUGGLED), int(LENGTH))
    yield passed("CL.0 on GET", post(CL, body=SMUGGLED, method=b"GET"), int(LENGTH), "GET")
    yield passed("CL.0 kept alive", post(CL, b"Connection: keep-alive", body=SMUGGLED), int(LENGTH))
    yield passed(
        "GET with chunks", post(CHUNKED, body=b"3\r\nabc\r\n" + END, method=b"GET"), 3, "GET"
    )
    yield passed(
        "DELETE with a body", post(CL, body=SMUGGLED, method=b"DELETE"), int(LENGTH), "DELETE"
    )
    yield passed(
        "OPTIONS with a body", post(CL, body=SMUGGLED, method=b"OPTIONS"), int(LENGTH), "OPTIONS"
    )
    yield passed("CL with leading zeros", post(b"Content-Length: 003", body=b"abc"), 3)
    yield refused("CL in tabs", post(b"Content-Length: \t 3 \t", body=b"abc" + SMUGGLED))
    wrong = [b"+3", b"-3", b"0x3", b"3 3", b"3,3", b"3, 3", b"3;", b"3.0", b"3e0", b"", b"abc"]
    wrong += [b"\xb3", b"3\x00", b"9223372036854775808", b"18446744073709551619", b"1" * 40, b"_3"]
    for value in wrong:
        yield refused(
            f"CL {value[:24]!r}", post(b"Content-Length: " + value, body=b"abc" + SMUGGLED)
        )
    twice = [(b"3", b"3"), (b"0", LENGTH), (LENGTH, b"0"), (b"3", b""), (b"", b"3")]
    for one, two in twice:
        fields = (b"Content-Length: " + one, b"content-length: " + two)
        yield refused(f"CL twice {one!r} {two!r}", post(*fields, body=SMUGGLED))
    disguises = [b"Content-Length : 3", b" Content-Length: 3", b"Content-Length\t: 3"]
    disguises += [b"Content-Length: 3\r\n 0", b"X: x\nContent-Length: 3", b"Content-Length\x00: 3"]
    for line in disguises:
        yield refused(f"CL in disguise {line!r}", post(line, body=b"abc" + SMUGGLED))
        yield refused(f"0.CL {line!r}", post(b"Content-Length: 0", line, body=b"abc" + SMUGGLED))
    for name in (b"Content_Length", b"Content-Length_", b"Content.Length"):
        # not a framing field, and not to be taken for one behind us
        yield passed(f"named {name!r}", post(name + b": 40", b"Content-Length: 3", body=b"abc"), 3)


def chunks():
    """Chunk lines, data, extensions (TERM.EXT, EXT.TERM, TERM.SPILL, SPILL.TERM) and trailers."""
    lines = [b"0x3", b"+3", b"-3", b" 3", b"3 ", b"\t3", b"3\t", b"3_", b"_3", b"", b"g", b"3 x"]
    lines += [b"0" * 17 + b"3", b"1" + b"0" * 15 + b"3", b"f" * 16, b"f" * 17, b"3.0", b"3\x00"]
    lines += [
        b"3;x\n",
        b"3\n",
        b"3;\nx",
        b"3;a\rb",
        b"3;\x00",
        b"3\r",
        b'3;a="b\nc"',
        b'3;a="\x7f"',
    ]
    for line in lines:
        yield refused(f"chunk line {line[:24]!r}", chunk(line))
    for ends in (b"\n", b"\r", b"", b"xx", b"\r\r", b"\n\n", b"x\r\n", b"\r\nx"):
        yield refused(f"chunk's end {ends!r}", chunk(b"3", end=ends))
    yield refused("line end alone", post(CHUNKED, body=b"3\nabc\n0\n\n" + SMUGGLED))
    yield refused("last chunk by LF", post(CHUNKED, body=b"3\r\nabc\r\n0\n\r\n" + SMUGGLED))
    yield refused("end of the body by LF", post(CHUNKED, body=b"3\r\nabc\r\n0\r\n\n" + SMUGGLED))
    yield refused("end of the body by CR", post(CHUNKED, body=b"0\r\n\r" + SMUGGLED))
    yield refused("TERM.EXT", post(CHUNKED, body=b"2;\nxx\r\n5b\r\nab\r\n0\r\n\r\n" + SMUGGLED))
    yield refused("EXT.TERM", post(CHUNKED, body=b"2;\nab\r\n0\r\n\r\n" + SMUGGLED))
    spill = b"5\r\nAAAAAXX2\r\n45\r\n0\r\n\r\n" + SMUGGLED
    yield refused("TERM.SPILL", post(CHUNKED, body=spill))
    yield refused("ONE.TWO", post(CHUNKED, body=b"3\r\nabcX0\r\n\r\n" + SMUGGLED))
    good = b'3;a=b;c="d;e"\r\nabc\r\n0;f\r\n\r\n'
    yield passed("extensions as they should be", post(CHUNKED, body=good), 3)
    yield passed("zeros before a size", post(CHUNKED, body=b"0003\r\nabc\r\n000\r\n\r\n"), 3)
    yield passed(
        "chunks in either case",
        post(b"transfer-encoding: CHUNKED", body=b"a\r\n0123456789\r\nA\r\n0123456789\r\n" + END),
        20,
    )
    for name in (
        b"Content-Length: 9",
        b"Transfer-Encoding: chunked",
        b"Host: evil",
        b"Connection: close",
    ):
        body = b"3\r\nabc\r\n0\r\n" + name + b"\r\n\r\n" + SMUGGLED
        yield refused(f"trailer {name!r}", post(CHUNKED, body=body))
    for line in (
        b" x: y",
        b"x : y",
        b"x\n: y",
        b"x: y\n",
        b"x: \x00",
        b": y",
        b"nothing",
        b"x: y\r\n z",
    ):
        yield refused(
            f"trailer {line!r}", post(CHUNKED, body=b"0\r\n" + line + b"\r\n\r\n" + SMUGGLED)
        )
    yield passed("a trailer", post(CHUNKED, body=b"3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n"), 3)


def heads():
    """Line ends, spaces, folds, versions, targets, hosts."""
    yield refused("LF alone", post(b"X: y", body=SMUGGLED, method=b"GET", end=b"\n"), "GET")
    yield refused("CR alone", post(b"X: y", body=SMUGGLED, method=b"GET", end=b"\r"), "GET")
    for line in (
        b"X: a\nY: b",
        b"X: a\rY: b",
        b"X: a\x00b",
        b"X : a",
        b": a",
        b"X",
        b"X: a\r\n b",
        b"X\x7f: a",
    ):
        yield refused(f"line {line!r}", post(line, body=SMUGGLED, method=b"GET"), "GET")
    yield refused(
        "LF ends the head",
        b"GET @P/payload HTTP/1.1\r\nHost: kipgate.test\r\nX: y\n\n" + SMUGGLED,
        "GET",
    )
    yield refused(
        "CR CR LF ends the head",
        b"GET @P/payload HTTP/1.1\r\nHost: kipgate.test\r\r\n\r\n" + SMUGGLED,
        "GET",
    )
    for line in (
        b"GET @P/payload",
        b"GET  @P/payload HTTP/1.1",
        b"GET @P/pay load HTTP/1.1",
        b"GET\t@P/payload HTTP/1.1",
        b"GET @P/payload\tHTTP/1.1",
        b"GET @P/payload HTTP/1.1 ",
        b" GET @P/payload HTTP/1.1",
        b"GET @P/payload HTTP/1.10",
        b"GET @P/payload HTTP/01.1",
        b"GET @P/payload HTTP/2.0",
        b"GET @P/payload http/1.1",
        b"GET @P/payload HTTP/0.9",
        b"GET @P/pay\x00load HTTP/1.1",
        b"GET @P/pay\xffload HTTP/1.1",
        b"G\x00T @P/payload HTTP/1.1",
        b"GET / HTTP/1.1\nX: @P/payload HTTP/1.1",
        b"CONNECT kipgate.test:80 HTTP/1.1",
        b"TRACE @P/payload HTTP/1.1",
        b"GET kipgate.test@P/payload HTTP/1.1",
        b"GET http://evil@P/payload HTTP/1.1",
        b"GET http://user@kipgate.test@P/payload HTTP/1.1",
        b"GET //evil@P/payload HTTP/1.1\r\nHost: other",
    ):
        yield refused(f"{line[:44]!r}", line + b"\r\nHost: kipgate.test\r\n\r\n" + SMUGGLED, "GET")
    for hosts in (
        b"",
        b"Host: kipgate.test\r\nHost: evil\r\n",
        b"Host: a b\r\n",
        b"Host: a/b\r\n",
        b"Host : a\r\n",
        b"Host: a,b\r\n",
    ):
        yield refused(
            f"hosts {hosts!r}", b"GET @P/payload HTTP/1.1\r\n" + hosts + b"\r\n" + SMUGGLED, "GET"
        )
    absolute = b"GET http://kipgate.test@P/payload HTTP/1.1\r\nHost: kipgate.test\r\n\r\n"
    yield passed("absolute form", absolute, 0, "GET")


def meanings():
    """Fields that change what follows: upgrades, expectations, connection options."""
    upgrade = (
        b"Connection: Upgrade, HTTP2-Settings",
        b"Upgrade: h2c",
        b"HTTP2-Settings: AAMAAABkAAQAAP__",
    )
    yield passed("h2c upgrade", post(*upgrade, method=b"GET"), 0, "GET")
    yield passed(
        "h2c upgrade, named by half",
        post(b"Connection: Upgrade", b"Upgrade: h2c", method=b"GET"),
        0,
        "GET",
    )
    body = post(b"Connection: Upgrade", b"Upgrade: websocket", CL, body=SMUGGLED, method=b"GET")
    yield Row("WebSocket with a body", body, "any", None, "GET")
    for hidden in (b"Content-Length", b"Transfer-Encoding", b"Host"):
        row = post(b"Connection: " + hidden, b"Content-Length: 3", body=b"abc")
        yield passed(f"Connection names {hidden!r}", row, 3)
    expect = post(b"Expect: 100-continue", CL, body=SMUGGLED)
    yield passed("Expect with its body", expect, int(LENGTH))
    yield passed(
        "Expect in capitals", post(b"Expect: 100-CONTINUE", CL, body=SMUGGLED), int(LENGTH)
    )
    for value in (b"100-continue, x", b"y 100-continue", b"200-ok", b"100-continue\r\nExpect: x"):
        yield refused(f"Expect {value!r}", post(b"Expect: " + value, CL, body=SMUGGLED))
    yield passed("HEAD with a body", post(CL, body=SMUGGLED, method=b"HEAD"), int(LENGTH), "HEAD")
    yield passed(
        "TE: trailers, chunked",
        post(b"TE: trailers, chunked", b"Connection: TE", method=b"GET"),
        0,
        "GET",
    )
    yield passed(
        "a range of multiparts",
        post(
            b"Range: bytes=0-1,2-3",
            b"Content-Type: multipart/byteranges",
            b"Content-Length: 3",
            body=b"abc",
        ),
        3,
    )
    for name in (b"X-HTTP-Method-Override", b"X-Original-URL", b"X-Rewrite-URL"):
        yield passed(
            name.decode(), post(name + b": @P/smuggled", b"Content-Length: 3", body=b"abc"), 3
        )


def rows():
    """All, each under a name of its own."""
    made = [*both_framings(), *lengths(), *chunks(), *heads(), *meanings()]
    assert len({row.name for row in made}) == len(made)
    return made


BASE = [
    (":method", "POST"),
    (":scheme", "http"),
    (":authority", "kipgate.test"),
    (":path", "@P/payload"),
]


def without(name, *more):
    """The usual fields of HTTP/2 with others in the place of one."""
    return [*more, *(field for field in BASE if field[0] != name)]


def downgrades():
    """Name, fields, content of HTTP/2 requests that an HTTP/1 text would turn into two: all are
    malformed, none may reach a worker (RFC 9113, 8.1.1)."""
    text = SMUGGLED.decode()
    for value in ("0", "2", "100", "+3", "3, 3", "3\r\nX: y", "", "0x3"):
        yield f"H2.CL {value!r}", [*BASE, ("content-length", value)], b"abc"
    yield "H2.CL twice", [*BASE, ("content-length", "3"), ("content-length", "0")], b"abc"
    for value in ("chunked", "identity", "x"):
        yield f"H2.TE {value!r}", [*BASE, ("transfer-encoding", value)], END + SMUGGLED
    for name in ("connection", "keep-alive", "proxy-connection", "upgrade"):
        yield f"H2 {name}", [*BASE, (name, "close")], b"abc"
    yield "H2 te", [*BASE, ("te", "trailers, chunked")], b"abc"
    for end in ("\r\n", "\n", "\r", "\0"):
        yield f"value with {end!r}", [
            *BASE,
            ("x", f"y{end}transfer-encoding: chunked"),
        ], END + SMUGGLED
        yield f"name with {end!r}", [*BASE, (f"x: y{end}transfer-encoding", "chunked")], END
        yield f"path with {end!r}", without(
            ":path", (":path", f"@P/ HTTP/1.1{end}{end}{text}")
        ), b""
        yield f"method with {end!r}", without(
            ":method", (":method", f"GET / HTTP/1.1{end}x: ")
        ), b""
        yield f"authority with {end!r}", without(":authority", (":authority", f"a{end}x: y")), b""
        yield f"scheme with {end!r}", without(":scheme", (":scheme", f"http{end}x: y")), b""
    yield "method with a space", without(":method", (":method", "GET @P/smuggled HTTP/1.1")), b""
    yield "path with a space", without(":path", (":path", "@P/smuggled HTTP/1.1 x")), b""
    yield "path without a slash", without(":path", (":path", "evil")), b""
    yield "no path", without(":path"), b""
    yield "two paths", [(":path", "@P/smuggled"), *BASE], b""
    yield "two methods", [(":method", "GET"), *BASE], b""
    yield "pseudo behind a field", [*without(":path", ("x", "y")), (":path", "@P/smuggled")], b""
    yield "unknown pseudo", [(":evil", "x"), *BASE], b""
    yield "name with a colon", [*BASE, ("x:y", "z")], b""
    yield "name with a space", [*BASE, ("transfer-encoding ", "chunked")], END + SMUGGLED
    yield "name in capitals", [*BASE, ("Transfer-Encoding", "chunked")], END + SMUGGLED
    yield "empty name", [*BASE, ("", "x")], b""
    yield "host and authority differ", [*BASE, ("host", "evil")], b""
    yield "value in spaces", [*BASE, ("x", " y ")], b""
