"""Real TLS: the certificate must hold for the endpoint's name, though the connection goes to a judged address."""

import asyncio
import datetime
import ipaddress
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from endpoints import answered, events, naming, passage, said, saying, scripted, text_of
from mycoswarm.base.errors import EndpointError, SwarmError, UnreachableError
from mycoswarm.external.errand import models_of
from mycoswarm.external.target import Limits, Target

STREAM = answered("200 OK", said("yes", "stop"), "Content-Type: text/event-stream")
DAY = datetime.timedelta(days=1)
HASTY = Limits(connect_s=0.1)
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


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def named(port: int, **more: Any) -> Target:
    return Target(**{"name": "rack", "url": f"https://rack.example:{port}/v1", "place": "LAN", "model": "m"} | more)


def test_the_name_is_kept_in_tls_and_http_though_the_address_is_dialled(authority: Authority) -> None:
    async def main() -> None:
        shown: list[str | None] = []
        context = authority.server(x509.DNSName("rack.example"))
        context.sni_callback = lambda sock, name, given: shown.append(name)
        async with scripted(saying(STREAM), context) as server:
            resolve, _ = naming([f"127.0.0.1:{server.port}"])
            told = await events(named(server.port), passage(resolve=resolve, trust=authority.trust()))
            assert text_of(told) == "yes" and shown == ["rack.example"]
            assert server.asked[0].headers["host"] == f"rack.example:{server.port}"

    asyncio.run(main())


def refused(authority: Authority, served: ssl.SSLContext, trust: ssl.SSLContext | None, url: str | None = None) -> None:
    """No byte inside TLS is ever sent."""

    async def main() -> None:
        async with scripted(saying(STREAM), served) as server:
            resolve, _ = naming([f"127.0.0.1:{server.port}"])
            target = named(server.port, **({"url": url.format(port=server.port)} if url else {}))
            for going in (events, models_of):
                with pytest.raises(EndpointError) as caught:
                    await going(target, passage(resolve=resolve, trust=trust))
                assert caught.value.code == "endpoint_certificate"
            assert server.heard == b"" and not server.asked

    asyncio.run(main())


def test_a_certificate_for_another_name_is_refused_before_anything_is_sent(authority: Authority) -> None:
    refused(authority, authority.server(x509.DNSName("other.example")), authority.trust())


def test_a_certificate_for_the_address_only_does_not_hold_for_the_name(authority: Authority) -> None:
    refused(authority, authority.server(x509.IPAddress(ipaddress.ip_address("127.0.0.1"))), authority.trust())


def test_an_expired_certificate_is_refused(authority: Authority) -> None:
    refused(authority, authority.server(x509.DNSName("rack.example"), days=-1), authority.trust())


def test_an_authority_that_the_system_does_not_know_is_refused(authority: Authority) -> None:
    refused(authority, authority.server(x509.DNSName("rack.example")), None)


def test_an_address_in_the_url_needs_a_certificate_for_that_address(authority: Authority) -> None:
    url = "https://127.0.0.1:{port}/v1"
    refused(authority, authority.server(x509.DNSName("rack.example")), authority.trust(), url)

    async def main() -> None:
        served = authority.server(x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
        async with scripted(saying(STREAM), served) as server:
            target = named(server.port, url=url.format(port=server.port))
            assert text_of(await events(target, passage(trust=authority.trust()))) == "yes"

    asyncio.run(main())


def test_a_server_without_tls_is_no_https_endpoint_and_one_with_it_no_http_endpoint(authority: Authority) -> None:
    async def main() -> None:
        served = authority.server(x509.DNSName("rack.example"))
        async with scripted(saying(STREAM)) as plain, scripted(saying(STREAM), served) as secure:
            with pytest.raises(UnreachableError):
                target = named(0, url=f"https://127.0.0.1:{plain.port}")
                await events(target, passage(HASTY, trust=authority.trust()))
            with pytest.raises(SwarmError) as caught:
                await events(named(0, url=f"http://127.0.0.1:{secure.port}"), passage())
            assert caught.value.code in ("endpoint_broke_off", "endpoint_garbled")
            assert not plain.asked and not secure.asked

    asyncio.run(main())


def test_a_handshake_that_hangs_is_given_up(authority: Authority) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as mute:
            port = mute.getsockname()[1]
            with pytest.raises(UnreachableError, match=r"no answer in 0\.1 s"):
                await events(named(port, url=f"https://127.0.0.1:{port}"), passage(HASTY, trust=authority.trust()))

    asyncio.run(main())
