"""Real TLS: the certificate must hold for the endpoint's name, though the connection goes to a judged address."""

import asyncio
import ipaddress
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from certificates import Authority
from endpoints import answered, events, naming, passage, said, saying, scripted, text_of
from mycoswarm.base.errors import EndpointError, SwarmError, UnreachableError
from mycoswarm.external.errand import models_of
from mycoswarm.external.target import Limits, Target

STREAM = answered("200 OK", said("yes", "stop"), "Content-Type: text/event-stream")
HASTY = Limits(connect_s=0.1)


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
