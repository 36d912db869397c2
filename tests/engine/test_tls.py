# SPDX-License-Identifier: Apache-2.0
"""TLS at the front, as curl, Python and OpenSSL's own client see it. The difficulty: connections
land on any of the fronts, so what one of them gives, all must honour; and nothing that happens to
the files may be felt by who is connected."""
import hashlib
import json
import os
import signal
import socket
import ssl
import subprocess
import threading
import time

import pytest
import websocket
from cryptography import x509

from harness import echo as worker
from harness import proc
from harness.echo import Dump
from harness.kipgate import problem
from harness.tls import Certificate, TlsClient, common_name, now, secure, trusting
from harness.waiting import wait_until

MIB = 1 << 20


@pytest.fixture(scope="module")
def authority():
    """Who signs all servers' certificates here."""
    return Certificate(common="authority", ca=True)


@pytest.fixture
def gate(kipgate, echo, authority, tmp_path):
    """A Kipgate of two fronts with one certificate, for a.test and all of b.test, which is started
    by the test."""
    made = kipgate({"echo": echo()}, start=False)
    made.certificate = Certificate("a.test", "*.b.test", "localhost", issuer=authority)
    return secure(made, made.certificate.write(tmp_path))


def curl(gate, *words, name="a.test", path="/", ca=None, timeout=60):
    """curl's exit status and what it wrote; the certificate is checked."""
    file = gate.directory / "ca.pem"
    file.write_bytes(ca.pem)
    address = f"{name}:{gate.tls[1]}"
    command = ["curl", "-sS", "--cacert", file, "--resolve", f"{address}:127.0.0.1", *words]
    done = subprocess.run(
        [*command, f"https://{address}{path}"], capture_output=True, timeout=timeout
    )
    return done.returncode, done.stdout, done.stderr.decode()


def s_client(gate, *words, name="a.test", say=b"", timeout=20):
    """What OpenSSL's client tells of a connection."""
    done = subprocess.run(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{gate.tls[1]}", "-servername", name]
        + list(words),
        input=say,
        capture_output=True,
        timeout=timeout,
    )
    return (done.stdout + done.stderr).decode("utf-8", "replace")


# --- what is spoken -------------------------------------------------------------------------------


@pytest.mark.parametrize("http", ["1.1", "2"])
@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_curl(gate, authority, version, http):
    """All versions, with a certificate that curl believes; the worker learns of TLS."""
    gate.start()
    options = [f"--tlsv{version}", "--tls-max", version, f"--http{http}", "-i"]
    status, said, words = curl(gate, *options, path="/x", ca=authority)
    assert status == 0, words
    assert said.startswith(f"HTTP/{http} 200".encode()) and b"GET /x HTTP/1.1" in said
    assert b"X-Forwarded-Proto: https" in said, said


def test_versions_and_ciphers_that_are_not_spoken(gate):
    """TLS 1.1, ciphers without forward secrecy or authenticated encryption, plain HTTP."""
    gate.start()
    assert "alert protocol version" in s_client(gate, "-tls1_1", "-cipher", "ALL:@SECLEVEL=0")
    for cipher in ("AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-SHA256", "ECDHE-ECDSA-AES256-SHA"):
        said = s_client(gate, "-tls1_2", "-cipher", cipher)
        assert "handshake failure" in said and "Cipher is (NONE)" in said, said
    with gate.raw() as client:  # a plain listener beside it is untouched
        assert client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").response().status == 200
    gate.front = gate.tls
    with gate.raw() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b"HTTP" not in client.rest()


def test_renegotiation_is_refused(gate):
    """TLS 1.2 clients that ask for it get a no, and the connection goes on or ends; never a new
    handshake."""
    gate.start()
    said = s_client(gate, "-tls1_2", say=b"R\n")
    assert "no renegotiation" in said or "NO_RENEGOTIATION" in said.upper(), said[-600:]


def test_alpn(gate, authority):
    """What both know is agreed on; nothing is guessed."""
    gate.start()
    with TlsClient(gate.tls, trusting(authority, ("http/1.1",))) as client:
        assert client.socket.selected_alpn_protocol() == "http/1.1"
        assert client.ask().status == 200
    with TlsClient(gate.tls, trusting(authority, ())) as client:
        assert client.socket.selected_alpn_protocol() is None
        assert client.ask().status == 200
    with pytest.raises(ssl.SSLError, match="(?i)no.application.protocol"):
        TlsClient(gate.tls, trusting(authority, ("h3", "spdy/3")))


def test_names(gate, authority, tmp_path):
    """Exact before wildcard before the first; a key of each kind."""
    both = [
        Certificate("x.test", issuer=authority, common="x-ec"),
        Certificate("x.test", issuer=authority, common="x-rsa", rsa_bits=2048),
        Certificate("exact.b.test", issuer=authority, common="exact"),
    ]
    gate.config["certificates"] += [c.write(tmp_path, f"c{i}") for i, c in enumerate(both)]
    gate.start()

    def served(name, ciphers=None):
        context = trusting(authority, version=ssl.TLSVersion.TLSv1_2)
        if ciphers:
            context.set_ciphers(ciphers)
        return common_name(gate.tls, context, name)

    assert served("a.test") == served("any.b.test") == served("unknown.test") == "a.test"
    assert served("EXACT.b.test") == "exact"
    assert served("x.test", "ECDHE-RSA-AES128-GCM-SHA256") == "x-rsa"
    assert served("x.test", "ECDHE-ECDSA-AES128-GCM-SHA256") == "x-ec"


def test_host_must_be_the_name_that_was_asked_for(gate, authority):
    """421 for another host, and the connection stays good for the right one."""
    gate.start()
    with TlsClient(gate.tls, trusting(authority)) as client:  # for no host is for no other
        assert client.send(b"GET / HTTP/1.0\r\n\r\n").response().status == 200
    with TlsClient(gate.tls, trusting(authority)) as client:
        assert client.ask(host="a.test").status == 200
        problem(client.ask(host="b.test"), 421, "misdirected-request")
        assert client.ask(host="A.TEST:443").status == 200
    for http in ("1.1", "2"):
        _, said, _ = curl(gate, f"--http{http}", "-i", "-H", "Host: b.test", ca=authority)
        assert said.startswith(f"HTTP/{http} 421".encode()), said


def test_idle_connections_end_in_order(gate, authority):
    """One that has said nothing for too long, and at a drain one that is kept: with an alert."""
    gate.start()

    context = trusting(authority)
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF  # Python's default takes it for an alert

    def ends(client):
        client.socket.suppress_ragged_eofs = False
        assert client.socket.recv(1) == b"", "without an alert this would raise"

    with TlsClient(gate.tls, context, timeout=20) as silent:
        with TlsClient(gate.tls, context, timeout=20) as kept:
            assert kept.ask().status == 200
            ends(silent)
            gate.process.send_signal(signal.SIGTERM)
            ends(kept)


# --- tickets --------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_sessions_resume_on_any_front(gate, authority, version):
    """Also after a reload, and after a front was started anew."""
    gate.start()
    context = trusting(authority, version=version)

    def resumed(session):
        with TlsClient(gate.tls, context, session=session) as client:
            assert client.ask().status == 200
            return client.socket.session_reused, client.socket.session

    _, session = resumed(None)
    assert all([resumed(session)[0] for _ in range(16)])
    full = gate.admin.metric("kipgate_tls_handshakes_total", result="full")
    assert full == 1
    assert gate.admin.metric("kipgate_tls_handshakes_total", result="resumed") == 16
    gate.process.send_signal(signal.SIGHUP)
    gate.wait_log(event="configured")
    assert all([resumed(session)[0] for _ in range(8)])
    since = gate.logs.mark()
    for front in gate.fronts():
        os.kill(front, signal.SIGKILL)
    gate.wait_log(event="front-ended", since=since)
    gate.wait_ready()
    assert all([resumed(session)[0] for _ in range(8)])
    since = gate.logs.mark()
    gate.process.send_signal(signal.SIGUSR2)  # another control, with keys of its own
    gate.wait_log(10, since, event="front-attached", front=1)
    gate.wait_ready()
    assert all([resumed(session)[0] for _ in range(8)])


# --- responses, clients ---------------------------------------------------------------------------


def test_stapled_response(gate, authority, tmp_path):
    """The response of the file, to clients that ask for one."""
    response = tmp_path / "server.ocsp"
    response.write_bytes(authority.says(gate.certificate))
    gate.config["certificates"][0]["ocsp"] = str(response)
    gate.start()
    said = s_client(gate, "-status")
    assert "OCSP Response Status: successful" in said and "Cert Status: good" in said


def test_clients_need_a_certificate(gate, authority, tmp_path):
    """Of the right authority; and what lets them in can change at a reload."""
    clients = Certificate(common="clients", ca=True)
    file = tmp_path / "clients.pem"
    file.write_bytes(clients.pem)
    gate.config["client_ca"] = str(file)
    gate.start()

    def status_as(who):
        context = trusting(authority, version=ssl.TLSVersion.TLSv1_2)
        if who:
            paths = who.write(tmp_path, "client")
            context.load_cert_chain(paths["certificate"], paths["key"])
        with TlsClient(gate.tls, context) as client:
            return client.ask().status

    good = Certificate(common="friend", issuer=clients)
    assert status_as(good) == 200
    for who in (None, Certificate(common="stranger")):
        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            status_as(who)
    wait_until(
        lambda: gate.admin.metric("kipgate_tls_handshakes_total", result="failed") >= 2,
        10,
        "failures are counted",
    )
    others = Certificate(common="others", ca=True)
    file.write_bytes(others.pem)
    gate.wait_log(event="certificates-renewed")
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        wait_until(lambda: status_as(good) != 200, 5, "the old authority counts no more")
    assert status_as(Certificate(common="friend", issuer=others)) == 200


# --- new certificates -----------------------------------------------------------------------------


class Traffic:
    """Requests on connections of their own and on one that stays, until told to stop."""

    def __init__(self, gate, authority):
        self.gate, self.context = gate, trusting(authority)
        self.count, self.errors, self.over = 0, [], False
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        wait_until(lambda: self.count > 0 or self.errors, 30, "the first requests")

    def _run(self):
        try:
            with TlsClient(self.gate.tls, self.context) as kept:
                while not self.over:
                    assert kept.ask().status == 200
                    with TlsClient(self.gate.tls, self.context) as client:
                        assert client.ask().status == 200
                    self.count += 2
        except Exception as error:  # told in stop
            self.errors.append(repr(error))

    def stop(self):
        """Ends; nothing may have failed."""
        wait_until(lambda: self.count > 10 or self.errors, 30, "requests")
        self.over = True
        self.thread.join(30)
        assert not self.errors, self.errors


def serial_of(gate, authority):
    """The serial number of what a new client gets."""
    with TlsClient(gate.tls, trusting(authority)) as client:
        return int(client.socket.getpeercert()["serialNumber"], 16)


def in_place(directory, certificate):
    """Both files written over."""
    certificate.write(directory)


def renamed(directory, certificate):
    """Each written beside, then put in its place."""
    for path in certificate.write(directory, "next").values():
        os.rename(path, path.replace("next", "server"))


@pytest.mark.parametrize("how", [in_place, renamed], ids=lambda f: f.__name__)
def test_new_files_are_taken_up(gate, authority, tmp_path, how):
    """Without a word to us, while requests run."""
    gate.start()
    traffic = Traffic(gate, authority)
    for _ in range(3):
        new = Certificate("a.test", issuer=authority)
        how(tmp_path, new)
        wait_until(lambda: serial_of(gate, authority) == new.x.serial_number, 10, "it is served")
        for _ in range(6):  # by all fronts
            assert serial_of(gate, authority) == new.x.serial_number
    traffic.stop()
    labels = (("certificate", "0"), ("name", "a.test"))
    expiry = gate.admin.metrics()["kipgate_certificate_not_after_seconds", labels]
    assert abs(expiry - time.time() - 30 * 86400) < 3600


@pytest.mark.parametrize("level", ["file", "directory"])
def test_a_link_is_swapped(gate, authority, tmp_path, level):
    """As cluster secrets (a link to a directory that the files' links go through) and releases (a
    linked directory) are renewed."""
    new = Certificate("a.test", issuer=authority)
    for version, certificate in (("1", gate.certificate), ("2", new)):
        (tmp_path / version).mkdir()
        certificate.write(tmp_path / version)
    live = tmp_path / "live"
    link = live / "data" if level == "file" else live
    if level == "file":
        live.mkdir()
        for name in ("server.pem", "server.key"):
            (live / name).symlink_to(f"data/{name}")
    link.symlink_to(tmp_path / "1")
    names = {"certificate": "server.pem", "key": "server.key"}
    gate.config["certificates"] = [{key: str(live / name) for key, name in names.items()}]
    gate.start()
    assert serial_of(gate, authority) == gate.certificate.x.serial_number
    following = link.with_name("following")
    following.symlink_to(tmp_path / "2")
    following.rename(link)
    wait_until(
        lambda: serial_of(gate, authority) == new.x.serial_number, 10, "the new one is served"
    )


def test_one_that_has_expired_holds_up_no_other(gate, authority, tmp_path):
    """It is served as before, others are renewed, and the configuration can be changed."""
    short = Certificate("a.test", issuer=authority, days=(-1, 6 / 86400))
    short.write(tmp_path)
    other = [Certificate("b.test", issuer=authority) for _ in range(2)]
    gate.config["certificates"].append(other[0].write(tmp_path, "other"))
    gate.start()

    def serial(name):
        said = s_client(gate, name=name)
        pem = said[said.index("-----BEGIN CERT") :]
        return x509.load_pem_x509_certificate(pem.encode()).serial_number

    wait_until(lambda: now() > short.x.not_valid_after, 10, "it has expired")
    other[1].write(tmp_path, "other")
    wait_until(lambda: serial("b.test") == other[1].x.serial_number, 10, "the other is served")
    assert serial("a.test") == short.x.serial_number
    assert gate.reload(lambda c: c.update(drain_timeout="29s")).status == 200
    assert serial("a.test") == short.x.serial_number
    new = Certificate("a.test", issuer=authority)
    new.write(tmp_path)
    wait_until(lambda: serial("a.test") == new.x.serial_number, 10, "it is renewed")
    short.write(tmp_path)
    gate.logs.wait(
        lambda line: line.get("event") == "certificates-refused"
        and "server.pem: expired on " in line["why"],
        10,
        "it is in use no more",
    )


def test_files_that_change_while_it_starts(gate, authority, tmp_path):
    """Between their first reading and the watch over them: here it waits for the first words of what
    looks like a front of an earlier control."""
    (gate.directory / "state").mkdir(mode=0o700)
    new = Certificate("a.test", issuer=authority)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as door:
        door.bind(str(gate.directory / "state/front-0.sock"))
        door.listen()
        gate.spawn()
        with door.accept()[0]:
            new.write(tmp_path)
    gate.wait_ready()
    wait_until(lambda: serial_of(gate, authority) == new.x.serial_number, 10, "it is served")


def test_the_same_files_elsewhere(gate, authority, tmp_path):
    """Where a link leads to files that say the same, these are watched from then on."""
    for version in ("1", "2"):
        (tmp_path / version).mkdir()
        paths = gate.certificate.write(tmp_path / version)
    (tmp_path / "live").symlink_to("2")
    gate.config["certificates"] = [{k: v.replace("/2/", "/live/") for k, v in paths.items()}]
    gate.start()
    watched = (tmp_path / "1/server.pem").parent.stat().st_ino
    (tmp_path / "next").symlink_to("1")
    (tmp_path / "next").rename(tmp_path / "live")
    words = f"ino:{watched:x} "
    wait_until(lambda: words in proc.watches(gate.process.pid), 10, "the directory is watched")
    new = Certificate("a.test", issuer=authority)
    new.write(tmp_path / "1")
    wait_until(lambda: serial_of(gate, authority) == new.x.serial_number, 10, "it is served")


def test_reload_takes_other_files(gate, authority, tmp_path):
    """By SIGHUP and by the admin API, with other paths in the configuration."""
    gate.start()
    traffic = Traffic(gate, authority)
    first, second = (Certificate("a.test", issuer=authority) for _ in range(2))
    gate.config["certificates"] = [first.write(tmp_path, "first")]
    gate.write_config()
    gate.process.send_signal(signal.SIGHUP)
    wait_until(lambda: serial_of(gate, authority) == first.x.serial_number, 10, "by SIGHUP")
    paths = second.write(tmp_path, "second")
    assert gate.reload(lambda c: c.update(certificates=[paths])).status == 200
    wait_until(lambda: serial_of(gate, authority) == second.x.serial_number, 10, "by the API")
    traffic.stop()


def test_bad_files_change_nothing(gate, authority, tmp_path):
    """What was in force stays, and the fault is told: in the log, and in the answer."""
    gate.start()
    before = serial_of(gate, authority)
    traffic = Traffic(gate, authority)
    (tmp_path / "server.key").write_bytes(Certificate().key_pem)
    told = gate.wait_log(event="certificates-refused")
    assert "server.key: is not the key of the certificate" in told["why"]
    answer = gate.admin.call("POST", "/v1/reload")
    assert answer.status == 400 and b"server.key: is not the key of the certificate" in answer.body
    since = gate.logs.mark()
    gate.process.send_signal(signal.SIGHUP)
    told = gate.wait_log(event="reload-refused", since=since)
    assert "certificates[0].key" in told["errors"]
    Certificate("a.test", issuer=authority, days=(-9, -2)).write(tmp_path)
    told = gate.wait_log(event="certificates-refused", since=since)
    assert "server.pem: expired on " in told["why"]
    assert serial_of(gate, authority) == before
    assert not any("PRIVATE KEY" in line for line in gate.stderr)
    new = Certificate("a.test", issuer=authority)
    new.write(tmp_path)
    wait_until(lambda: serial_of(gate, authority) == new.x.serial_number, 10, "good ones again")
    traffic.stop()


def test_a_front_that_is_started_anew_has_them(gate, authority):
    """It has no files, so it is told."""
    gate.start()
    for _ in range(2):
        since = gate.logs.mark()
        for front in gate.fronts():
            os.kill(front, signal.SIGKILL)
        gate.wait_log(event="front-ended", since=since)
        assert serial_of(gate, authority) == gate.certificate.x.serial_number


# --- configuration errors -------------------------------------------------------------------------


def faults(authority, directory):
    """Name -> (the keys of the configuration, what must be told)."""
    good = Certificate("a.test", issuer=authority)
    paths = good.write(directory, "good")
    late = Certificate("a.test", days=(-9, -2)).write(directory, "late")
    early = Certificate("a.test", days=(2, 9)).write(directory, "early")
    weak = Certificate("a.test", rsa_bits=1024).write(directory, "weak")
    (directory / "junk").write_bytes(b"junk")
    junk = str(directory / "junk")
    return {
        "mismatch": (
            {"certificates": [{**paths, "key": late["key"]}]},
            f"certificates[0].key: {late['key']}: is not the key of the certificate",
        ),
        "missing": (
            {"certificates": [{**paths, "certificate": "/no/such.pem"}]},
            "certificates[0].certificate: /no/such.pem: cannot be read: No such file",
        ),
        "unreadable": (
            {"certificates": [{**paths, "certificate": str(directory)}]},
            f"certificates[0].certificate: {directory}: cannot be read: Is a directory",
        ),
        "junk": (
            {"certificates": [{**paths, "certificate": junk}]},
            f"{junk}: has no certificate in PEM form in it",
        ),
        "expired": ({"certificates": [late]}, f"{late['certificate']}: expired on 20"),
        "early": ({"certificates": [early]}, f"{early['certificate']}: is not valid before 20"),
        "weak": ({"certificates": [weak]}, f"{weak['certificate']}: cannot be used (ee key too"),
        "response": (
            {"certificates": [{**paths, "ocsp": junk}]},
            f"certificates[0].ocsp: {junk}: is not an OCSP response in DER form",
        ),
        "authority": (
            {"certificates": [paths], "client_ca": junk},
            f"client_ca: {junk}: has no certificate in PEM form in it",
        ),
        "protocol": (
            {"protocols": ["h2", "spdy"]},
            'protocols[1]: "spdy" is not a protocol: there are "h2", "http/1.1" and "h2c"',
        ),
        "nothing": (
            {"listen": ["https://127.0.0.1:1"]},
            "listen[0]: an https:// address needs certificates",
        ),
    }


def test_each_fault_of_the_configuration(kipgate, echo, authority, tmp_path):
    """Told with the place in the file, the file it names and the cause; exit status 2."""
    for name, (keys, words) in faults(authority, tmp_path).items():
        gate = kipgate({"echo": echo()}, start=False, config=keys)
        done = gate.cli("check")
        assert done.returncode == 2, (name, done.stdout)
        lines = [line for line in done.stderr.splitlines() if words in line]
        assert len(lines) == 1, (name, words, done.stderr)
        place = lines[0].split(": ")[0]
        assert place.startswith(f"{gate.config_path}:") and place.count(":") == 2, place


# --- what goes through ----------------------------------------------------------------------------


def test_websocket(gate, authority, tmp_path):
    """A tunnel through TLS, both ways."""
    gate.start()
    file = tmp_path / "ca.pem"
    file.write_bytes(authority.pem)
    ws = websocket.create_connection(
        f"wss://localhost:{gate.tls[1]}/ws", timeout=20, sslopt={"ca_certs": str(file)}
    )
    for text in ("hello", "x" * 100000, "bye"):
        ws.send(text)
        assert ws.recv() == text
    ws.close()


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_large_bodies_both_ways(gate, authority, version):
    """100 MB up and down, byte by byte the same, with flat memory."""
    gate.start()
    options = [f"--tlsv{version}", "--tls-max", version]
    data = os.urandom(MIB) * 100
    file = gate.directory / "body"
    file.write_bytes(data)
    status, said, words = curl(
        gate, *options, "-H", "Expect:", "--data-binary", f"@{file}", path=worker.sink(),
        ca=authority,
    )
    assert status == 0, words
    said = json.loads(said)
    assert (said["bytes"], said["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
    status, said, words = curl(gate, *options, path=worker.zeros(100 * MIB), ca=authority)
    assert status == 0 and len(said) == 100 * MIB and not said.strip(b"\0"), words
    assert max(proc.rss_kib(pid) for pid in gate.fronts()) < 40 * 1024


def test_slow_reader(gate, authority):
    """Who takes nothing is waited for, and costs no memory."""
    gate.start()
    with TlsClient(gate.tls, trusting(authority), receive_buffer=8192, timeout=60) as client:
        before = max(proc.rss_kib(pid) for pid in gate.fronts())
        client.send(
            f"GET {worker.zeros(64 * MIB)} HTTP/1.1\r\nHost: a.test\r\n\r\n".encode()
        )
        time.sleep(2)
        assert max(proc.rss_kib(pid) for pid in gate.fronts()) < before + 8 * 1024
        read = len(client.final_head().raw_head) and len(client.pending)
        while read < 64 * MIB:
            read += len(client.socket.recv(MIB))
        assert read == 64 * MIB


def test_slow_sender(gate, authority):
    """A request that comes byte by byte, each in a record of its own."""
    gate.start()
    with TlsClient(gate.tls, trusting(authority)) as client:
        client.send_pieces(b"GET /slow HTTP/1.1\r\nHost: a.test\r\n\r\n", 1)
        assert Dump(client.response().body).first == "GET /slow HTTP/1.1"


def test_a_handshake_has_a_deadline(gate):
    """Who does not get on with it is let go after ten seconds, as one who says nothing."""
    gate.start()
    gate.front = gate.tls
    with gate.raw(30) as silent, gate.raw(30) as halfway:
        halfway.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        began = time.monotonic()
        assert halfway.ended() and silent.ended()
        assert 8 < time.monotonic() - began < 14


def test_ready_connections_do_not_wait_for_handshakes(gate, authority):
    """While many handshakes go on, a warm connection is answered as ever."""
    gate.start()
    context, over = trusting(authority), threading.Event()

    def storm():
        while not over.is_set():
            TlsClient(gate.tls, context).close()

    with TlsClient(gate.tls, context) as client:
        assert client.ask().status == 200
        threads = [threading.Thread(target=storm, daemon=True) for _ in range(8)]
        for thread in threads:
            thread.start()
        times = []
        for _ in range(200):
            began = time.monotonic()
            assert client.ask().status == 200
            times.append(time.monotonic() - began)
        over.set()
        for thread in threads:
            thread.join(20)
    assert sorted(times)[100] < 0.25, sorted(times)[::20]


# --- what others think of it ----------------------------------------------------------------------

FINE = ["OK", "INFO", "LOW", "WARN"]  # WARN: the tool could not try something itself
# What testssl dislikes about a certificate that was made for a test, not about the server.
OF_THE_CERTIFICATE = {
    "cert_chain_of_trust",
    "cert_revocation",
}


def test_testssl_finds_nothing(gate, authority, tmp_path):
    """Debian's testssl finds nothing above LOW in protocols, ciphers and known weaknesses."""
    Certificate("localhost", issuer=authority, days=(-1, 200)).write(tmp_path)
    gate.start()
    report = tmp_path / "report.json"
    checks = ["-p", "-s", "-f", "-P", "-S", "-U"]
    done = subprocess.run(
        ["testssl", "--quiet", "--color", "0", "--warnings", "off", "--ip", "127.0.0.1"]
        + ["--nodns", "none", "--jsonfile", str(report), *checks, f"localhost:{gate.tls[1]}"],
        capture_output=True,
        timeout=300,
        stdin=subprocess.DEVNULL,
    )
    found = json.loads(report.read_text())
    assert len(found) > 60, done.stdout.decode("utf-8", "replace")[-2000:]
    bad = [
        (entry["id"], entry["severity"], entry["finding"])
        for entry in found
        if entry["id"].split(" ")[0] not in OF_THE_CERTIFICATE
        and entry["severity"] not in FINE
    ]
    assert not bad, bad
    ids = {entry["id"]: entry["severity"] for entry in found}
    for name in ("heartbleed", "ROBOT", "secure_client_renego", "BREACH", "FREAK", "LOGJAM"):
        assert ids.get(name) in ("OK", "INFO"), (name, ids.get(name))
