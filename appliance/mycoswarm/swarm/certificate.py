"""Certificates: a swarm's own authority, its nodes, and a node that speaks for itself before it has a swarm.

Valid from 2000 to 2100: a Raspberry Pi without a clock battery wakes up in the past, and revocation is the roster's
work, not a date's. The extensions are what RFC 5280 asks of a strict verifier (Python 3.13 switches that on).
"""

import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mycoswarm.base.errors import TrustError
from mycoswarm.swarm.key import SigningKey, fingerprint_of, node_id_of, public_of

_START = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)
_END = datetime.datetime(2100, 1, 1, tzinfo=datetime.UTC)


def authority_certificate(key: SigningKey) -> str:
    """Make a swarm authority's own certificate (PEM)."""
    name = _authority_name(key.public_der)
    usage = _usage(is_authority=True)
    builder = _builder(name, name, key.private.public_key(), signer=key)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    return _signed(builder.add_extension(usage, critical=True), key)


def node_certificate(public_der: bytes, authority: SigningKey) -> str:
    """Issue a node's certificate (PEM) for its public key; its name is the node id.

    Raises:
        TrustError: not a key that nodes use.
    """
    public_der = public_of(public_der)
    node_id = node_id_of(fingerprint_of(public_der))
    builder = _builder(_name(node_id), _authority_name(authority.public_der), _loaded(public_der), signer=authority)
    return _signed(_for_node(builder, node_id), authority)


def self_certificate(key: SigningKey) -> str:
    """Make a node's self-signed certificate (PEM), for enrolment only."""
    node_id = node_id_of(key.fingerprint)
    builder = _builder(_name(node_id), _name(node_id), key.private.public_key(), signer=key)
    return _signed(_for_node(builder, node_id), key)


def is_issued_by(certificate_pem: str, authority_pem: str) -> bool:
    """Say whether the one certificate was issued by the other."""
    try:
        certificate = x509.load_pem_x509_certificate(certificate_pem.encode())
        authority = x509.load_pem_x509_certificate(authority_pem.encode())
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def der_of(certificate_pem: str) -> bytes:
    """Give a certificate's DER form.

    Raises:
        TrustError: not a certificate.
    """
    try:
        return x509.load_pem_x509_certificate(certificate_pem.encode()).public_bytes(serialization.Encoding.DER)
    except ValueError as exc:
        raise TrustError("a certificate cannot be read") from exc


def _builder(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, *, signer: SigningKey
) -> x509.CertificateBuilder:
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.private.public_key())
    builder = x509.CertificateBuilder(issuer_name=issuer, subject_name=subject, public_key=public)
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(_START).not_valid_after(_END)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    return builder.add_extension(authority, critical=False)


def _for_node(builder: x509.CertificateBuilder, node_id: str) -> x509.CertificateBuilder:
    uses = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_usage(is_authority=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage(uses), critical=False)
    return builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(node_id)]), critical=False)


def _signed(builder: x509.CertificateBuilder, key: SigningKey) -> str:
    return builder.sign(key.private, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode("ascii")


def _usage(*, is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        encipher_only=False,
        decipher_only=False,
    )


def _authority_name(public_der: bytes) -> x509.Name:
    return _name(f"mycoSwarm {fingerprint_of(public_der)[:16]}")


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _loaded(public_der: bytes) -> ec.EllipticCurvePublicKey:
    public = serialization.load_der_public_key(public_der)
    assert isinstance(public, ec.EllipticCurvePublicKey)  # public_of lets nothing else through
    return public
