"""A certificate authority of a test run, and servers with certificates of it."""

import datetime
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAY = datetime.timedelta(days=1)
PEM = serialization.Encoding.PEM


class Authority:
    """A certificate authority of this test run."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        builder = self._builder(self._key, days=9).add_extension(x509.BasicConstraints(True, 0), critical=True)
        self._certificate = builder.add_extension(usage, critical=True).sign(self._key, hashes.SHA256())

    def pem(self) -> bytes:
        """Its own certificate."""
        return self._certificate.public_bytes(PEM)

    def trust(self) -> ssl.SSLContext:
        """What a client needs that trusts it."""
        return ssl.create_default_context(cadata=self._certificate.public_bytes(PEM).decode())

    def write(self) -> Path:
        """Its certificate as a file, for processes that are told of it by SSL_CERT_FILE."""
        path = self._folder / "authority.pem"
        path.write_bytes(self._certificate.public_bytes(PEM))
        return path

    def server(self, *names: x509.GeneralName, days: int = 9) -> ssl.SSLContext:
        """A server with a certificate for these names."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.issue(*names, days=days))
        return context

    def issue(self, *names: x509.GeneralName, days: int = 9) -> Path:
        """A file with a key and a certificate for these names."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(key, days).add_extension(x509.BasicConstraints(False, None), critical=True)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        certificate = builder.add_extension(issuer, critical=False).sign(self._key, hashes.SHA256())
        private = key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        path = self._folder / f"{certificate.serial_number}.pem"
        path.write_bytes(private + certificate.public_bytes(PEM))
        return path

    def _builder(self, key: ec.EllipticCurvePrivateKey, days: int) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateBuilder().subject_name(self._name).issuer_name(self._name)
        builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now - 20 * DAY).not_valid_after(now + days * DAY)
        return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
