"""TLS for the peer channel: version 1.3 only, HTTP/2 only, certificates on both sides.

Covered: who holds which key. Trust is either a swarm's CA or, between stages, exactly one certificate; a host name
proves nothing and is not looked at. Not covered: what a proven key may do (the roster says) and revocation (the roster
again). Certificates are valid for decades, because a board without a clock battery does not know the year.
"""

import datetime
import hashlib
import secrets
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mycoswarm.base.errors import TrustError

VALID_FROM = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)
VALID_UNTIL = datetime.datetime(2099, 12, 31, tzinfo=datetime.UTC)


def server_context(certificate_pem: str, key_pem: str, trusted_pem: str) -> ssl.SSLContext:
    """Make the context of a listener. `trusted_pem`: the swarm's CA, or the neighbours' own certificates.

    Raises:
        TrustError: a certificate or key cannot be read, or they do not belong together.
    """
    context = _context(ssl.PROTOCOL_TLS_SERVER, certificate_pem, key_pem, trusted_pem=trusted_pem)
    context.num_tickets = 0  # connections stay open for hours; resuming them would only be one more thing to trust
    return context


def client_context(certificate_pem: str, key_pem: str, trusted_pem: str) -> ssl.SSLContext:
    """Make the context of outgoing connections. `trusted_pem`: the swarm's CA, or the neighbour's own certificate.

    Raises:
        TrustError: a certificate or key cannot be read, or they do not belong together.
    """
    return _context(ssl.PROTOCOL_TLS_CLIENT, certificate_pem, key_pem, trusted_pem=trusted_pem)


def ephemeral_certificate(common_name: str) -> tuple[str, str]:
    """Make a fresh P-256 key and its self-signed certificate; returns (certificate_pem, key_pem)."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64])])  # X.520's upper bound
    public = key.public_key()
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(VALID_FROM)
        .not_valid_after(VALID_UNTIL)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("stage.invalid")]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
        .sign(key, hashes.SHA256())
    )
    key_pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.PEM).decode(), key_pem.decode()


def fingerprint(der: bytes) -> str:
    """SHA-256 (hex) of a certificate's SubjectPublicKeyInfo: the key's fingerprint, whoever signed the certificate.

    Raises:
        TrustError: not a certificate.
    """
    try:
        public = x509.load_der_x509_certificate(der).public_key()
    except ValueError as exc:
        raise TrustError(f"a certificate cannot be read: {exc}") from exc
    spki = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(spki).hexdigest()


def _context(role: int, certificate_pem: str, key_pem: str, *, trusted_pem: str) -> ssl.SSLContext:
    context = ssl.SSLContext(role)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # identity is the certificate's key, wherever the node answers
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # a pinned certificate is an anchor without being a CA
    context.set_alpn_protocols(["h2"])
    try:
        context.load_verify_locations(cadata=trusted_pem)
        with _sealed_files(certificate_pem, key_pem) as (certificate_path, key_path, password):
            context.load_cert_chain(certificate_path, key_path, password)
    except (ssl.SSLError, ValueError, TypeError) as exc:
        raise TrustError(f"a certificate or key for the peer channel cannot be used: {exc}") from exc
    return context


@contextmanager
def _sealed_files(certificate_pem: str, key_pem: str) -> Iterator[tuple[Path, Path, str]]:
    """Python's ssl reads keys from files only: lend it one, sealed with a password that never leaves memory."""
    password = secrets.token_hex(32)
    key = serialization.load_pem_private_key(key_pem.encode(), None)
    sealed = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(password.encode()),
    )
    with tempfile.TemporaryDirectory(prefix="mycoswarm-") as folder:
        certificate_path, key_path = Path(folder, "certificate.pem"), Path(folder, "key.pem")
        certificate_path.write_text(certificate_pem)
        key_path.write_bytes(sealed)
        yield certificate_path, key_path, password
