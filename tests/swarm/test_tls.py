"""Contexts and certificates: what is trusted and what is not."""

import asyncio
import datetime
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mycoswarm.base.errors import TrustError
from mycoswarm.swarm.tls import (
    VALID_FROM,
    VALID_UNTIL,
    client_context,
    ephemeral_certificate,
    fingerprint,
    server_context,
)
from peers import CLIENT, SERVER, STRANGER, Witness, ask, connect, serving


def _authority(name: str) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    builder = _builder(subject, subject, key, key).add_extension(x509.BasicConstraints(True, 0), critical=True)
    return builder.add_extension(usage, critical=True).sign(key, hashes.SHA256()), key


def _issued(name: str, authority: tuple[x509.Certificate, ec.EllipticCurvePrivateKey]) -> tuple[str, str]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    usage = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
    purposes = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    builder = _builder(subject, authority[0].subject, key, authority[1]).add_extension(usage, critical=True)
    names = x509.SubjectAlternativeName([x509.DNSName(name)])
    certificate = (
        builder.add_extension(x509.BasicConstraints(False, None), critical=True)
        .add_extension(purposes, critical=False)
        .add_extension(names, critical=False)
        .sign(authority[1], hashes.SHA256())
    )
    encoding = serialization.Encoding.PEM
    key_pem = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return certificate.public_bytes(encoding).decode(), key_pem.decode()


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, issuer_key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(VALID_FROM)
        .not_valid_after(VALID_UNTIL)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _meet(server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    async def main() -> None:
        async with serving(Witness(), server) as peer, await connect(peer.port, client) as connection:
            await ask(connection)

    asyncio.run(main())


def test_nodes_of_one_authority_trust_each_other() -> None:
    authority = _authority("swarm")
    one, other = _issued("one", authority), _issued("other", authority)
    trusted = _pem(authority[0])
    _meet(server_context(*one, trusted_pem=trusted), client_context(*other, trusted_pem=trusted))


def test_a_node_of_another_authority_of_the_same_name_is_refused_by_both_sides() -> None:
    ours, theirs = _authority("swarm"), _authority("swarm")
    one, other = _issued("one", ours), _issued("other", theirs)
    both = _pem(ours[0]) + _pem(theirs[0])
    with pytest.raises(TrustError):
        _meet(server_context(*one, trusted_pem=_pem(ours[0])), client_context(*other, trusted_pem=both))
    with pytest.raises(TrustError):
        _meet(server_context(*one, trusted_pem=both), client_context(*other, trusted_pem=_pem(theirs[0])))


def test_pinned_certificates_hold_under_python_313_strictness() -> None:
    server, client = server_context(*SERVER, trusted_pem=CLIENT[0]), client_context(*CLIENT, trusted_pem=SERVER[0])
    server.verify_flags |= ssl.VERIFY_X509_STRICT
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    _meet(server, client)


def test_another_key_under_the_pinned_name_is_refused_by_both_sides() -> None:
    false_server, false_client = ephemeral_certificate("server"), ephemeral_certificate("client")
    with pytest.raises(TrustError, match="certificate"):
        _meet(server_context(*false_server, trusted_pem=CLIENT[0]), client_context(*CLIENT, trusted_pem=SERVER[0]))
    with pytest.raises(TrustError, match="refused"):
        _meet(server_context(*SERVER, trusted_pem=CLIENT[0]), client_context(*false_client, trusted_pem=SERVER[0]))


def test_a_pinned_certificate_cannot_vouch_for_others() -> None:
    certificate = x509.load_pem_x509_certificate(CLIENT[0].encode())
    key = serialization.load_pem_private_key(CLIENT[1].encode(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    vouched = _issued("friend", (certificate, key))
    with pytest.raises(TrustError):
        _meet(server_context(*SERVER, trusted_pem=CLIENT[0]), client_context(*vouched, trusted_pem=SERVER[0]))


def test_several_neighbours_may_be_pinned_at_once() -> None:
    context = server_context(*SERVER, trusted_pem=CLIENT[0] + STRANGER[0])
    _meet(context, client_context(*STRANGER, trusted_pem=SERVER[0]))


def test_certificates_hold_for_boards_without_a_clock() -> None:
    certificate = x509.load_pem_x509_certificate(ephemeral_certificate("stage")[0].encode())
    assert certificate.not_valid_before_utc == datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)
    assert certificate.not_valid_after_utc.year >= 2090
    assert isinstance(certificate.public_key(), ec.EllipticCurvePublicKey)


def test_a_fingerprint_is_of_the_key_not_of_the_certificate() -> None:
    authority = _authority("swarm")
    again = x509.load_pem_x509_certificate(SERVER[0].encode()).public_key()
    assert isinstance(again, ec.EllipticCurvePublicKey)
    builder = x509.CertificateBuilder().subject_name(authority[0].subject).issuer_name(authority[0].subject)
    builder = builder.public_key(again).serial_number(7).not_valid_before(VALID_FROM).not_valid_after(VALID_UNTIL)
    reissued = builder.sign(authority[1], hashes.SHA256()).public_bytes(serialization.Encoding.DER)
    original = ssl.PEM_cert_to_DER_cert(SERVER[0])
    assert reissued != original
    assert fingerprint(reissued) == fingerprint(original)
    assert fingerprint(original) != fingerprint(ssl.PEM_cert_to_DER_cert(CLIENT[0]))
    assert len(fingerprint(original)) == 64


@pytest.mark.parametrize("der", [b"", b"x", ssl.PEM_cert_to_DER_cert(SERVER[0])[:-1]])
def test_a_fingerprint_of_rubbish_is_a_trust_error(der: bytes) -> None:
    with pytest.raises(TrustError):
        fingerprint(der)


@pytest.mark.parametrize(
    ("certificate", "key", "trusted"),
    [
        (SERVER[0], CLIENT[1], CLIENT[0]),  # a key that is not its certificate's
        ("rubbish", SERVER[1], CLIENT[0]),
        (SERVER[0], "rubbish", CLIENT[0]),
        (SERVER[0], SERVER[1], "rubbish"),
        (SERVER[0], SERVER[1], ""),
    ],
)
def test_identities_that_cannot_be_used_are_trust_errors(certificate: str, key: str, trusted: str) -> None:
    for make in (server_context, client_context):
        with pytest.raises(TrustError):
            make(certificate, key, trusted)
