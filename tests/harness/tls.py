# SPDX-License-Identifier: Apache-2.0
"""Certificates made for a test, and clients that speak TLS. The difficulty: a certificate must be
wrong in one way only, and its files are replaced in all the ways that people replace files."""
import datetime
import ssl

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509 import ocsp
from cryptography.x509.oid import NameOID

from harness import net, raw

PEM = serialization.Encoding.PEM
DAY = datetime.timedelta(days=1)


def now():
    """The time, as certificates tell it."""
    return datetime.datetime.utcnow().replace(microsecond=0)


class Certificate:
    """A key and a certificate for it, by an issuer or by itself."""

    def __init__(self, *names, issuer=None, common=None, days=(-1, 30), rsa_bits=0, ca=False):
        self.key = (
            rsa.generate_private_key(65537, rsa_bits)
            if rsa_bits
            else ec.generate_private_key(ec.SECP256R1())
        )
        self.issuer = issuer
        self.common = common or (names[0] if names else "test")
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.common)])
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer.x.subject if issuer else subject)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now() + days[0] * DAY)
            .not_valid_after(now() + days[1] * DAY)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if names:
            alternatives = [x509.DNSName(name) for name in names]
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), False)
        self.x = builder.sign(issuer.key if issuer else self.key, hashes.SHA256())
        self.pem = self.x.public_bytes(PEM)
        self.key_pem = self.key.private_bytes(
            PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def says(self, about, hours=24):
        """The bytes of a response that `about` is good."""
        builder = ocsp.OCSPResponseBuilder().add_response(
            cert=about.x,
            issuer=self.x,
            algorithm=hashes.SHA256(),
            cert_status=ocsp.OCSPCertStatus.GOOD,
            this_update=now() - DAY,
            next_update=now() + datetime.timedelta(hours=hours),
            revocation_time=None,
            revocation_reason=None,
        )
        builder = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, self.x)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)

    def write(self, directory, name="server"):
        """Writes its files; gives their paths as the configuration has them."""
        certificate, key = directory / f"{name}.pem", directory / f"{name}.key"
        certificate.write_bytes(self.pem)
        key.write_bytes(self.key_pem)
        key.chmod(0o600)
        return {"certificate": str(certificate), "key": str(key)}


def secure(gate, *certificates, **more):
    """Gives a Kipgate that was not started an https listener with these certificates of the
    configuration; adds its address as `gate.tls`."""
    gate.tls = ("127.0.0.1", net.free_port())
    gate.config["listen"].append(f"https://{gate.tls[0]}:{gate.tls[1]}")
    gate.config["certificates"] = list(certificates)
    gate.config.update(more)
    return gate


def trusting(certificate, alpn=("http/1.1",), version=None):
    """A client's context that believes this certificate only."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=certificate.pem.decode())
    if alpn:
        context.set_alpn_protocols(list(alpn))
    if version:
        context.minimum_version = context.maximum_version = version
    return context


class TlsClient(raw.RawClient):
    """A connection whose bytes go through TLS."""

    def __init__(self, address, context, name="a.test", session=None, **more):
        super().__init__(address, **more)
        try:
            self.socket = context.wrap_socket(self.socket, server_hostname=name, session=session)
        except Exception:
            self.socket.close()
            raise

    def ask(self, target="/", host="a.test"):
        """A request on this connection, which stays open."""
        self.send(f"GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        return self.response()


def common_name(address, context, name):
    """Whose certificate a client gets that asks for `name`; it checks no names itself."""
    context.check_hostname = False
    with TlsClient(address, context, name) as client:
        x = x509.load_der_x509_certificate(client.socket.getpeercert(True))
        return x.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
