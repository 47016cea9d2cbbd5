"""Who may come in at the console."""

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consoles import KEY, Console, console
from mycoswarm.api.gate import Doorway, Gate, host_of
from mycoswarm.base.errors import StorageError
from mycoswarm.store.apikey import Key

GOOD = f"Authorization: Bearer {KEY}"


async def code(c: Console, path: str, *headers: str, host: str | None = None) -> tuple[int, str | None]:
    status, text = await c.get(path, *headers, host=host)
    body: Any = json.loads(text)
    return status, body["error"]["code"] if "error" in body else None


def test_every_path_needs_a_key_but_health_and_the_pages() -> None:
    async def main() -> None:
        async with console() as c:
            assert await code(c, "/healthz") == (200, None)
            for path in ("/v1/models", "/v1/models/spore", "/api/rules", "/v1/nothing", "/healthz/", "//healthz", "//"):
                assert await code(c, path) == (401, "invalid_api_key")
            for wrong in ("Authorization: Bearer", "Authorization: Bearer no", f"Authorization: Basic {KEY}", "X: y"):
                assert await code(c, "/v1/models", wrong) == (401, "invalid_api_key")
            assert await code(c, "/v1/models", GOOD) == (200, None)
            assert await code(c, "/v1/models", f"authorization: bearer  {KEY}") == (200, None)
            assert await code(c, "/v1/models", f"x-api-key: {KEY}") == (200, None)

    asyncio.run(main())


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:80", "169.254.169.254", "", "[::2]:1"])
def test_a_host_that_is_not_ours_is_refused_even_with_the_key(host: str) -> None:
    async def main() -> None:
        async with console() as c:
            text = f"GET /healthz HTTP/1.1\r\nHost: {host}\r\n{GOOD}\r\nConnection: close\r\n\r\n"
            assert b"unknown_host" in await c.raw(text)

    asyncio.run(main())


def test_our_own_names_are_taken_in_any_spelling() -> None:
    async def main() -> None:
        async with console() as c:
            for host in ("localhost", "LOCALHOST:1", "attic.local.:80", "[::1]:6926", "[0:0::1]", "127.0.0.1"):
                assert await code(c, "/healthz", host=host) == (200, None)

    asyncio.run(main())


def test_a_page_of_another_site_or_port_is_refused() -> None:
    async def main() -> None:
        async with console() as c:
            for origin in ("http://evil.example", "null", "", "http://127.0.0.1:1", f"http://x@127.0.0.1:{c.port}"):
                assert await code(c, "/v1/models", GOOD, f"Origin: {origin}") == (403, "foreign_origin")
            own = f"Origin: http://127.0.0.1:{c.port}"
            assert await code(c, "/v1/models", GOOD, own) == (200, None)
            raw = await c.raw(
                f"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:{c.port}\r\n{own}\r\nConnection: close\r\n\r\n"
            )
            assert b" 200 " in raw and b"access-control" not in raw.lower()

    asyncio.run(main())


def test_an_unknown_path_or_method_has_openais_error_shape() -> None:
    async def main() -> None:
        async with console() as c:
            assert await code(c, "/v1/nothing", GOOD) == (404, "http_404")
            assert await code(c, "/v1/chat/completions", GOOD) == (405, "http_405")

    asyncio.run(main())


def test_a_full_disk_does_not_lock_the_door() -> None:
    async def main() -> None:
        async with console() as c:
            c.note_fault = StorageError("the disk is full")
            assert await code(c, "/v1/models", GOOD) == (200, None)

    asyncio.run(main())


def test_a_websocket_is_closed_before_any_app_sees_it() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError(scope)

    async def main() -> list[Any]:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        await Gate(app, Doorway(frozenset, lambda secret: Key("desk", 0.0), app))({"type": "websocket"}, app, send)  # type: ignore[arg-type]  # never called
        return sent

    assert [message["type"] for message in asyncio.run(main())] == ["websocket.close"]


def test_an_upgrade_to_a_websocket_is_an_ordinary_request_without_a_key() -> None:
    async def main() -> None:
        async with console() as c:
            upgrade = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==")
            status, _ = await c.get("/v1/models", *upgrade, "Sec-WebSocket-Version: 13")
            assert status == 401

    asyncio.run(main())


@given(st.text(max_size=40))
def test_any_host_header_gives_some_host(text: str) -> None:
    assert isinstance(host_of(text), str)


@given(st.ip_addresses(), st.none() | st.integers(0, 65535))
def test_an_address_is_read_with_and_without_a_port(address: Any, port: int | None) -> None:
    shown = f"[{address}]" if address.version == 6 else str(address)
    assert host_of(shown if port is None else f"{shown}:{port}") == str(address)
