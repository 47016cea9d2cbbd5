"""Pages over real sockets: what is sent, what comes, and where nothing is ever sent."""

import asyncio
import socket
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from certificates import Authority
from endpoints import Asked, Doorkeeper, Script, answered, naming, saying, scripted, then_waiting
from mycoswarm.base.errors import EgressError, EndpointError, SwarmError, UnreachableError
from mycoswarm.external.download import Crossing, Download, Reserve, download
from mycoswarm.external.locator import read_locator

SHORT = Reserve(resolve_s=0.2, body_bytes=1000)
PAGE = answered("200 OK", b"<p>hello", "Content-Type: text/html; charset=utf-8")


def crossing(**more: Any) -> Crossing:
    return Crossing(
        **{"purpose": "pages", "permit": Doorkeeper(), "judge": lambda host, address: None, "reserve": SHORT, **more}
    )


async def fetch(script: Script, url: str = "http://page.example/a?b=c", **more: Any) -> tuple[Download, list[Asked]]:
    async with scripted(script) as server:
        resolve, _ = naming([f"127.0.0.1:{server.port}"])
        return await download(read_locator(url), crossing(resolve=resolve, **more)), server.asked


def got(script: Script, **more: Any) -> Download:
    return asyncio.run(fetch(script, **more))[0]


def failed(script: Script, **more: Any) -> SwarmError:
    with pytest.raises(SwarmError) as caught:
        asyncio.run(fetch(script, **more))
    return caught.value


def test_a_page_comes_with_its_kind_and_its_address_and_nothing_of_ours_goes_along(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    found, (asked,) = asyncio.run(fetch(saying(PAGE)))
    assert found == Download("http://page.example/a?b=c", 200, "text/html; charset=utf-8", b"<p>hello", False)
    assert (asked.method, asked.path) == ("GET", "/a?b=c")
    assert set(asked.headers) == {"host", "user-agent", "accept", "accept-encoding", "connection"}
    assert asked.headers["host"] == "page.example" and asked.headers["user-agent"] == "mycoswarm"


def test_a_status_is_told_and_not_judged() -> None:
    assert got(saying(answered("404 Not Found", b"no"))).status == 404


def test_a_body_is_cut_where_it_is_too_long_and_framing_without_end_is_refused() -> None:
    found = got(saying(answered("200 OK", b"x" * 5000)))
    assert found.body == b"x" * 1000 and found.is_cut
    exact = got(saying(answered("200 OK", b"x" * 1000)))
    assert len(exact.body) == 1000 and not exact.is_cut
    chunks = b"1;" + b"e" * 3000 + b"\r\nx\r\n"
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert failed(saying(head, *[chunks] * 100)).code == "page_failed"


def test_without_a_length_the_end_of_the_connection_is_the_end() -> None:
    assert got(saying(b"HTTP/1.1 200 OK\r\n\r\nall")).body == b"all"


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"SSH-2.0-server\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000,
        b"HTTP/1.1 100 Continue\r\n\r\n" * 10_000,
        answered("200 OK", b"\x1f\x8b", "Content-Encoding: gzip"),
    ],
)
def test_an_answer_that_is_none_is_a_typed_error(said: bytes) -> None:
    error = failed(saying(said))
    assert isinstance(error, EndpointError) and error.code == "page_failed" and "page.example" in error.message


@pytest.mark.slow
def test_silence_and_drops_without_end_have_an_end() -> None:
    async def drip(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        for _ in range(100):
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.05)

    assert "said nothing" in failed(then_waiting(), reserve=Reserve(silence_s=0.2)).message
    assert "took longer" in failed(drip, reserve=Reserve(whole_s=0.3)).message


def redirecting(*locations: str, status: str = "302 Found") -> Script:
    waiting = list(locations)

    async def script(asked: Asked, writer: asyncio.StreamWriter) -> None:
        if waiting:
            writer.write(answered(status, b"", f"Location: {waiting.pop(0)}"))
        else:
            writer.write(PAGE)

    return script


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
def test_a_page_that_moved_is_found(status: str) -> None:
    script = redirecting("/b", "http://other.example/c", status=status)
    found, asked = asyncio.run(fetch(script))
    assert found.address == "http://other.example/c" and found.body == b"<p>hello"
    assert [(one.path, one.headers["host"]) for one in asked] == [
        ("/a?b=c", "page.example"),
        ("/b", "page.example"),
        ("/c", "other.example"),
    ]


def test_redirects_have_an_end_and_may_be_none() -> None:
    assert failed(redirecting(*["/x"] * 6)).code == "page_redirects"
    assert got(redirecting(*["/x"] * 5)).body == b"<p>hello"
    assert "leads elsewhere" in failed(redirecting("/x"), reserve=Reserve(redirects=0)).message


@pytest.mark.parametrize("location", ["http://x.example:22/", "ftp://x.example/", "http://u:p@x.example/", "http://["])
def test_a_redirect_to_what_is_no_page_is_refused(location: str) -> None:
    assert failed(redirecting(location)).code == "bad_address"


def refusing(*hosts: str) -> Callable[[str, str], str | None]:
    return lambda host, address: "is inside" if host in hosts or address in hosts else None


def test_where_the_judge_refuses_nothing_is_sent_and_no_way_is_opened() -> None:
    async def main(*addresses: str) -> None:
        async with scripted(saying(PAGE)) as server:
            keeper = Doorkeeper()
            resolve, _ = naming([text.format(port=server.port) for text in addresses])
            means = crossing(resolve=resolve, permit=keeper, judge=refusing("10.0.0.1:80"))
            with pytest.raises(EgressError) as caught:
                await download(read_locator("http://page.example/"), means)
            assert caught.value.code == "not_public" and "10.0.0.1" not in caught.value.message
            assert not server.connections and not any(opened for _, opened, _ in keeper.asked)

    asyncio.run(main("10.0.0.1:80"))
    asyncio.run(main("127.0.0.1:{port}", "10.0.0.1:80"))


def test_each_redirect_is_judged_anew() -> None:
    error = failed(redirecting("http://router.example/"), judge=refusing("router.example"))
    assert isinstance(error, EgressError) and "router.example" in error.message


def test_a_name_that_turns_inside_meanwhile_is_not_followed() -> None:
    """DNS rebinding: the second look-up, which a redirect brings about, is judged as the first was."""

    async def main() -> None:
        async with scripted(redirecting("/again")) as server:
            outside, inside = f"127.0.0.1:{server.port}", f"127.0.0.2:{server.port}"
            resolve, looked = naming([outside], [inside])
            means = crossing(resolve=resolve, judge=refusing(inside))
            with pytest.raises(EgressError):
                await download(read_locator("http://page.example/"), means)
            assert len(looked) == 2 and server.connections == 1

    asyncio.run(main())


def test_the_guard_is_open_for_the_name_then_for_its_addresses_and_then_closed() -> None:
    async def main() -> None:
        keeper = Doorkeeper()
        seen: list[bool] = []

        async def script(asked: Asked, writer: asyncio.StreamWriter) -> None:
            seen.append(keeper.is_open)
            writer.write(PAGE)

        async with scripted(script) as server:
            resolve, _ = naming([f"127.0.0.1:{server.port}"])
            await download(read_locator("http://page.example/"), crossing(resolve=resolve, permit=keeper))
            assert keeper.asked == [
                ("pages", (), ("page.example",)),
                ("pages", (f"127.0.0.1:{server.port}",), ()),
            ]
        assert seen == [False] and not keeper.is_open

    asyncio.run(main())


def test_where_a_packet_filter_is_known_to_stay_closed_the_error_says_so() -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as closed:
            resolve, _ = naming([f"127.0.0.1:{closed.getsockname()[1]}"])
        for shut in (None, "the wall stands"):
            with pytest.raises(UnreachableError) as caught:
                means = crossing(resolve=resolve, permit=Doorkeeper(shut=shut))
                await download(read_locator("http://page.example/"), means)
            assert ("; the wall stands" in caught.value.message) == ("journalctl" in caught.value.hint) == bool(shut)

    asyncio.run(main())


def test_who_is_not_there_is_a_typed_error() -> None:
    async def main(resolve: Callable[[str, int], Any]) -> SwarmError:
        with pytest.raises(UnreachableError) as caught:
            await download(read_locator("http://page.example/"), crossing(resolve=resolve))
        return caught.value

    async def no_name(host: str, port: int) -> Sequence[str]:
        raise OSError("no such name")

    async def never(host: str, port: int) -> Sequence[str]:
        await asyncio.sleep(60)
        return ()

    async def nowhere(host: str, port: int) -> Sequence[str]:
        return ["127.0.0.1:1"]

    assert "no such host" in asyncio.run(main(no_name)).message
    assert "looking it up took longer" in asyncio.run(main(never)).message
    assert "page.example cannot be reached" in asyncio.run(main(nowhere)).message


def test_a_certificate_must_hold_for_the_host(tmp_path: Path) -> None:
    authority = Authority(tmp_path)

    async def main(url: str, tls: ssl.SSLContext) -> Download:
        async with scripted(saying(PAGE), tls) as server:
            resolve, _ = naming([f"127.0.0.1:{server.port}"])
            return await download(read_locator(url), crossing(resolve=resolve, trust=authority.trust()))

    tls = authority.server(x509.DNSName("page.example"))
    assert asyncio.run(main("https://page.example/", tls)).status == 200
    with pytest.raises(EndpointError) as caught:
        asyncio.run(main("https://other.example/", tls))
    assert caught.value.code == "page_certificate" and "nothing was sent" in caught.value.message


def test_a_server_can_be_called_by_another_name_than_its_host() -> None:
    error = failed(saying(b""), called="the search server")
    assert "the search server" in error.message and "page.example" not in error.message
