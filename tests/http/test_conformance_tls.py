# SPDX-License-Identifier: Apache-2.0
"""What RFC 9110, 9112 and 9113 ask of connections under TLS. The difficulty: an orderly end, a
broken one and a refused handshake look alike to careless clients, so alerts are told apart here."""
import socket
import ssl
import subprocess

import pytest
from conformance import Table

from harness import echo as worker
from harness import http2, net, raw, settings
from harness.echo import Dump, get
from harness.http2 import NO_ERROR, Http2
from harness.kipgate import Kipgate
from harness.waiting import wait_until

RFC9110 = Table(9110)
RFC9112 = Table(9112)
RFC9113 = Table(9113)

NAMES = ["kipgate.test", "other.test"]


def certificate(directory, name, kind):
    """Paths of a new certificate for that name, and of its key."""
    paths = [str(directory / f"{name}.{part}") for part in ("crt", "key")]
    subprocess.run(
        ["openssl", "req", "-x509", "-days", "2", "-nodes", "-subj", f"/CN={name}"]
        + ["-newkey", *kind, "-addext", f"subjectAltName=DNS:{name}"]
        + ["-out", paths[0], "-keyout", paths[1]],
        check=True,
        capture_output=True,
    )
    return {"certificate": paths[0], "key": paths[1]}


@pytest.fixture(scope="module")
def gate(echo, tmp_path_factory):
    """One front with a plain and a TLS listener and two certificates."""
    directory = tmp_path_factory.mktemp("tls")
    rsa, ec = ["rsa:2048"], ["ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    config = {"fronts": 1, "protocols": ["h2c", "h2", "http/1.1"]}
    config["certificates"] = [certificate(directory, n, k) for n, k in zip(NAMES, (rsa, ec))]
    secure = ("127.0.0.1", net.free_port())
    kipgate = Kipgate(
        {"echo": echo(routes=["/"], idle_timeout="10m")}, config, settings.sanitized_bin()
    )
    kipgate.config["listen"].append(f"https://{secure[0]}:{secure[1]}")
    kipgate.secure, kipgate.directory_of_certificates = secure, directory
    with kipgate:
        assert kipgate.admin.wake("echo").status == 200
        yield kipgate


def context(gate, name=NAMES[0], alpn=(), version=None, ciphers=None):
    """A client that believes in the certificate of one name."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF  # Python's default takes it for an alert
    made.load_verify_locations(gate.directory_of_certificates / f"{name}.crt")
    if alpn:
        made.set_alpn_protocols(list(alpn))
    if ciphers:
        made.set_ciphers(f"{ciphers}:@SECLEVEL=0")
    if version:
        made.minimum_version = made.maximum_version = version
    return made


def connect(gate, name=NAMES[0], **how):
    """A TLS connection; an end without an alert raises SSLEOFError."""
    plain = socket.create_connection(gate.secure, 5)
    try:
        return context(gate, name, **how).wrap_socket(
            plain, server_hostname=name, suppress_ragged_eofs=False
        )
    except BaseException:
        plain.close()
        raise


class SecureRaw(raw.RawClient):
    """The raw client over a connection that is there already."""

    def __init__(self, connection, timeout=5.0):
        self.socket, self.timeout, self.pending, self.eof = connection, timeout, b"", False


class SecureHttp2(Http2):
    """The HTTP/2 client over a connection that is there already."""

    def __init__(self, connection):
        self.over = connection
        super().__init__(None)

    def connect(self, address):
        """There is nothing to connect."""
        return self.over


# --- RFC 9110 -------------------------------------------------------------------------------------


@RFC9110.follows(
    "4.3.3",
    "plain",
    '"https" origins are those to which a secured connection was made: the worker is told so',
)
def test_worker_is_told_of_tls(gate):
    """X-Forwarded-Proto, in both versions, whatever the client says."""
    with connect(gate) as connection:
        seen = Dump(SecureRaw(connection).send(get("/", "X-Forwarded-Proto: http")).response().body)
        assert seen.one("X-Forwarded-Proto") == "https"
    with SecureHttp2(connect(gate, alpn=["h2"])) as client:
        seen = Dump(client.response(client.headers(http2.request("/", scheme="https"))).body)
        assert seen.one("X-Forwarded-Proto") == "https"


@RFC9110.follows(
    "7.4",
    "MUST",
    'A request for an "https" resource MUST be rejected unless it has been received over a '
    "connection that has been secured via a certificate valid for that target URI's origin",
)
@pytest.mark.parametrize("version", ["h2", "http/1.1"])
def test_host_of_another_certificate(gate, version):
    """The name that was asked for in the handshake is not the one of the request: 421."""
    with connect(gate, alpn=[version]) as connection:
        if version == "h2":
            client = SecureHttp2(connection)
            stream = client.headers(http2.request("/", authority="other.test", scheme="https"))
            assert client.response(stream).status == 421
        else:
            data = get("/").replace(b"kipgate.test", b"other.test")
            assert SecureRaw(connection).send(data).response().status == 421


# --- RFC 9112 -------------------------------------------------------------------------------------


@RFC9112.follows(
    "9.7",
    "MUST",
    'All HTTP data MUST be sent as TLS "application data" but is otherwise treated like a normal '
    "connection for HTTP (including potential reuse as a persistent connection)",
)
def test_http_over_tls(gate):
    """Several requests on a connection, content both ways, TLS 1.2 and 1.3."""
    body = bytes(range(256)) * 1000
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        with connect(gate, version=version) as connection:
            client = SecureRaw(connection)
            client.send(get("/"))  # the next row is about what comes right behind a handshake
            assert client.response().status == 200
            for _ in range(3):
                data = get(worker.sink(), f"Content-Length: {len(body)}", method="POST")
                assert worker.sunk_bytes(client.send(data + body).response("POST")) == len(body)
            assert client.send(get(worker.zeros(1 << 20))).response().body == bytes(1 << 20)


@RFC9112.follows(
    "9.7",
    "MUST",
    'All HTTP data MUST be sent as TLS "application data" but is otherwise treated like a normal '
    "connection (also what a client sends together with the end of its handshake)",
)
def test_large_content_behind_a_handshake(gate):
    """The client's Finished and 200 KB of a request in one write, as TLS 1.3 allows."""
    body = bytes(200000)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = context(gate).wrap_bio(incoming, outgoing, server_hostname=NAMES[0])
    with socket.create_connection(gate.secure, 5) as plain:
        while True:
            try:
                session.do_handshake()
                break
            except ssl.SSLWantReadError:
                plain.sendall(outgoing.read())
                incoming.write(plain.recv(1 << 16))
        session.write(get(worker.sink(), f"Content-Length: {len(body)}", method="POST") + body)
        plain.sendall(outgoing.read())
        answer = b""
        while b"}" not in answer:
            got = plain.recv(1 << 16)
            assert got, "the connection ended"
            incoming.write(got)
            try:
                answer += session.read(1 << 16)
            except ssl.SSLWantReadError:
                pass
    assert b'"bytes":200000,' in answer


@RFC9112.follows(
    "9.8",
    "MUST",
    "Servers MUST attempt to initiate an exchange of closure alerts with the client before "
    "closing the connection",
)
def test_closure_alert(gate):
    """Behind the last answer, also one of a refusal: the read ends in order."""
    for data in (get("/", "Connection: close"), get("/a#b")):
        with connect(gate) as connection:
            client = SecureRaw(connection)
            client.send(data)
            assert client.response().closes
            assert connection.recv(1) == b"", "without an alert this would raise"


@RFC9112.follows(
    "9.8",
    "MUST",
    "Servers MUST attempt to initiate an exchange of closure alerts with the client before "
    "closing the connection (also where the client was the first to say that it ends)",
)
@pytest.mark.parametrize("version", ["h2", "http/1.1"])
def test_closure_alert_to_a_client_that_ends(gate, version):
    """Idle, in both versions: the client's alert is answered by ours."""
    with connect(gate, alpn=[version]) as connection:
        if version == "h2":
            assert SecureHttp2(connection).get("/").status == 200
        else:
            assert SecureRaw(connection).send(get("/")).response().status == 200
        connection.unwrap().close()  # without an alert this would raise


@RFC9112.follows(
    "9.8",
    "SHOULD",
    "Servers SHOULD be prepared to receive an incomplete close from the client",
)
def test_incomplete_close(gate):
    """Idle, in the middle of an answer, and in the middle of a content, which is then not whole."""
    before = gate.admin.metric("kipgate_exchanges", service="echo")
    for data in (
        get("/"),
        get(worker.drip(1 << 20, 10, 20)),
        get(worker.sink(), "Content-Length: 10", method="POST") + b"hello",
    ):
        connection = connect(gate)
        client = SecureRaw(connection)
        client.send(data)
        if b"sink" not in data:
            client.final_head()
        socket.socket(fileno=connection.detach()).close()
    wait_until(
        lambda: gate.admin.metric("kipgate_exchanges", service="echo") == before, 5, "none left"
    )


# --- RFC 9113 -------------------------------------------------------------------------------------


@RFC9113.follows(
    "3.2",
    "MUST",
    'HTTP/2 over TLS uses the "h2" protocol identifier by ALPN; both the client and the server '
    "MUST send a connection preface",
)
def test_alpn(gate):
    """Chosen before http/1.1, whatever the client's order; without ALPN it is HTTP/1.1."""
    for offered, chosen in [
        (["h2"], "h2"),
        (["http/1.1", "h2"], "h2"),
        (["http/1.1"], "http/1.1"),
        ([], None),
    ]:
        with connect(gate, alpn=offered) as connection:
            assert connection.selected_alpn_protocol() == chosen
            if chosen == "h2":
                assert SecureHttp2(connection).get("/").status == 200
            else:
                assert SecureRaw(connection).send(get("/")).response().status == 200


@RFC9113.follows(
    "3.2",
    "MUST",
    'The "h2c" protocol identifier MUST NOT be sent by a client or selected by a server',
)
def test_h2c_is_never_selected(gate):
    """Alone it makes no protocol at all; beside others it is passed over."""
    with connect(gate, alpn=["h2c", "http/1.1"]) as connection:
        assert connection.selected_alpn_protocol() == "http/1.1"
    with pytest.raises(ssl.SSLError, match="no application protocol"):
        connect(gate, alpn=["h2c"])


@RFC9113.follows(
    "3.3",
    "MUST",
    "HTTP/2 connections over TLS MUST use protocol negotiation in TLS (without it a preface is "
    "refused as a request of an unknown version)",
)
def test_preface_without_alpn(gate):
    """505 or 400, as on any listener without HTTP/2."""
    with connect(gate) as connection:
        response = SecureRaw(connection).send(http2.PREFACE).response()
        assert response.status in (400, 405, 505) and response.closes


@RFC9113.follows(
    "9.2",
    "MUST",
    "Implementations of HTTP/2 MUST use TLS version 1.2 or higher for HTTP/2 over TLS",
)
def test_tls_versions(gate):
    """1.2 and 1.3, none before."""
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        with connect(gate, alpn=["h2"], version=version) as connection:
            assert SecureHttp2(connection).get("/").status == 200
    for version in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            connect(gate, version=version, ciphers="ALL")


@RFC9113.follows(
    "9.2",
    "MUST",
    "The TLS implementation MUST support the Server Name Indication (SNI) extension",
)
def test_server_name(gate):
    """Each name its certificate: the clients here believe in one only."""
    for name in NAMES:
        with connect(gate, name, alpn=["h2"]) as connection:
            client = SecureHttp2(connection)
            stream = client.headers(http2.request("/", authority=name, scheme="https"))
            assert client.response(stream).status == 200


@RFC9113.follows(
    "9.2.1",
    "MUST",
    "A deployment of HTTP/2 over TLS 1.2 MUST disable compression, and MUST disable renegotiation",
)
def test_no_compression_and_no_renegotiation(gate):
    """OpenSSL's own client asks for both."""
    with connect(gate, alpn=["h2"], version=ssl.TLSVersion.TLSv1_2) as connection:
        assert connection.compression() is None
    said = subprocess.run(
        ["openssl", "s_client", "-tls1_2", "-alpn", "h2", "-servername", NAMES[0]]
        + ["-connect", f"{gate.secure[0]}:{gate.secure[1]}"],
        input=b"R\n",
        capture_output=True,
        timeout=20,
    )
    assert b"RENEGOTIATING" in said.stdout + said.stderr
    assert b"no renegotiation" in said.stderr or b"error" in said.stderr.lower(), said.stderr


BAD_CIPHERS = ["ECDHE-RSA-AES128-SHA", "AES128-GCM-SHA256", "AES256-SHA", "ECDHE-RSA-AES256-SHA384"]


@RFC9113.follows(
    "9.2.2",
    "SHOULD",
    "A deployment of HTTP/2 over TLS 1.2 SHOULD NOT use any of the prohibited cipher suites "
    "(those without ephemeral keys, and those that are no AEAD)",
)
@pytest.mark.parametrize("cipher", BAD_CIPHERS)
def test_prohibited_cipher_suites(gate, cipher):
    """No handshake."""
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        connect(gate, alpn=["h2"], version=ssl.TLSVersion.TLSv1_2, ciphers=cipher)


@RFC9113.follows(
    "9.2.2",
    "MUST",
    "Deployments of HTTP/2 that use TLS 1.2 MUST support TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 "
    "with the P-256 elliptic curve",
)
def test_mandatory_cipher_suite(gate):
    """It alone is offered, with that curve."""
    made = context(gate, alpn=["h2"], version=ssl.TLSVersion.TLSv1_2)
    made.set_ciphers("ECDHE-RSA-AES128-GCM-SHA256")
    made.set_ecdh_curve("prime256v1")
    with socket.create_connection(gate.secure, 5) as plain:
        with made.wrap_socket(plain, server_hostname=NAMES[0]) as connection:
            assert connection.cipher()[0] == "ECDHE-RSA-AES128-GCM-SHA256"
            assert SecureHttp2(connection).get("/").status == 200


@RFC9113.follows(
    "9.1",
    "SHOULD",
    "When either endpoint chooses to close the connection, it SHOULD first send a GOAWAY frame "
    "(also under TLS, before the closure alert)",
)
def test_goaway_then_alert(gate):
    """A connection error: GOAWAY, alert, end."""
    with SecureHttp2(connect(gate, alpn=["h2"])) as client:
        client.get("/")
        client.send_anyway(http2.frame(http2.DATA, 0, 0, b"x"))
        assert client.goaway() not in (None, NO_ERROR)
        assert client.eof


RFC9113.not_applicable(
    "9.2.3",
    "MUST",
    "HTTP/2 servers MUST NOT send post-handshake TLS 1.3 CertificateRequest messages",
    "with `client_ca` certificates are asked for in the handshake, and never later",
)
