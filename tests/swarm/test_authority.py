"""The swarm's authority: what it issues is taken by TLS, and only within its swarm."""

import asyncio
import ssl
from pathlib import Path

import pytest
from cryptography import x509

from household import make_node, make_swarm, run, take_in
from mycoswarm.base.errors import NotFoundError, TrustError
from mycoswarm.swarm.authority import Authority, verify
from mycoswarm.swarm.certificate import der_of, is_issued_by
from mycoswarm.swarm.identity import Identity
from mycoswarm.swarm.key import SigningKey, is_proven, public_of, secret_proof, secret_public
from mycoswarm.swarm.tls import client_context, fingerprint, server_context


def test_an_authority_signs_and_anybody_with_its_certificate_can_check(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path)
    signature = authority.sign(b"body")
    assert verify(authority.certificate_pem, b"body", signature)
    assert not verify(authority.certificate_pem, b"other body", signature)
    assert not verify(authority.certificate_pem, b"body", signature[:-1])
    assert not verify("no certificate", b"body", signature)
    again = Authority.load(tmp_path)
    assert again.swarm_id == authority.swarm_id and again.certificate_pem == authority.certificate_pem
    assert verify(again.certificate_pem, b"body", signature)


def test_a_folder_without_the_key_is_no_coordinator(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        Authority.load(tmp_path)


def test_a_certificate_is_the_nodes_for_decades_and_of_its_swarm_only(tmp_path: Path) -> None:
    registrar, pi = make_swarm(tmp_path)
    other, _ = make_swarm(tmp_path, "other")
    assert pi.membership is not None
    pem = pi.membership.certificate_pem
    certificate = x509.load_pem_x509_certificate(pem.encode())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [pi.node_id]
    assert certificate.not_valid_before_utc.year == 2000 and certificate.not_valid_after_utc.year == 2100
    assert is_issued_by(pem, registrar.authority.certificate_pem)
    assert not is_issued_by(pem, other.authority.certificate_pem)
    assert fingerprint(der_of(pem)) == pi.fingerprint


def test_only_keys_that_nodes_use_get_certificates(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path)
    with pytest.raises(TrustError):
        authority.issue(b"nonsense")
    assert public_of(authority.issue(SigningKey.generate().public_der)) != public_of(authority.certificate_pem)


def test_a_secret_is_proven_without_being_shown() -> None:
    secret = bytes(range(16))
    proof = secret_proof(secret, b"body")
    assert secret not in proof and secret not in secret_public(secret)
    assert is_proven(secret_public(secret), b"body", proof)
    assert not is_proven(secret_public(secret), b"bodz", proof)
    assert not is_proven(secret_public(bytes(16)), b"body", proof)
    assert not is_proven(b"short", b"body", proof)


def _contexts(identity: Identity) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    membership = identity.membership
    assert membership is not None
    own = (membership.certificate_pem, identity.key.pem.decode(), membership.authority_pem)
    return server_context(*own), client_context(*own)


async def _is_welcome(server: ssl.SSLContext, client: ssl.SSLContext) -> bool:
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"welcome")
        writer.close()

    listening = await asyncio.start_server(greet, "127.0.0.1", 0, ssl=server)
    async with listening:
        port = listening.sockets[0].getsockname()[1]
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client, server_hostname="")
        except ssl.SSLError:
            return False
        try:
            return await reader.read() == b"welcome"
        except ssl.SSLError:
            return False
        finally:
            writer.close()


@pytest.mark.slow
def test_members_meet_and_another_swarms_certificate_is_refused_at_the_handshake(tmp_path: Path) -> None:
    registrar, pi = make_swarm(tmp_path)
    _, rogue = make_swarm(tmp_path, "rogue")
    box = make_node(tmp_path, "box")
    take_in(registrar, box)
    alone = make_node(tmp_path, "alone")
    own = (alone.self_signed_pem, alone.key.pem.decode(), registrar.authority.certificate_pem)

    async def work() -> None:
        assert await _is_welcome(_contexts(pi)[0], _contexts(box)[1])
        assert await _is_welcome(_contexts(box)[0], _contexts(pi)[1])
        assert not await _is_welcome(_contexts(pi)[0], _contexts(rogue)[1])
        assert not await _is_welcome(_contexts(rogue)[0], _contexts(pi)[1])
        assert not await _is_welcome(_contexts(pi)[0], client_context(*own))

    run(work)
