"""Who goes out for a tool, with the real judge of addresses: nothing of this machine, network or swarm is reached."""

import asyncio
import json
from collections.abc import Iterable
from typing import Any

import pytest

from endpoints import answered, saying, scripted
from mycoswarm.base.egress import Guard
from mycoswarm.base.errors import SwarmError
from mycoswarm.daemon.border import Border
from mycoswarm.daemon.courier import Courier
from mycoswarm.sandbox.haul import Haul

FOUND = answered("200 OK", b'{"results": []}', "Content-Type: application/json")


class Keeper(Guard):
    """Says what was opened."""

    def __init__(self) -> None:
        super().__init__()
        self.opened: list[tuple[str, tuple[str, ...], tuple[str, ...]]] = []

    def permitted(self, purpose: str, *, addresses: Iterable[str] = (), names: Iterable[str] = ()) -> Any:
        addresses, names = tuple(addresses), tuple(names)
        self.opened.append((purpose, addresses, names))
        return super().permitted(purpose, addresses=addresses, names=names)


def courier(keeper: Keeper, ours: tuple[str, ...] = ()) -> Courier:
    border = Border(keeper, named=())
    return Courier(border.outward, border.place, lambda: ours)


async def fetched(url: str, keeper: Keeper | None = None, ours: tuple[str, ...] = ()) -> Haul:
    return await courier(keeper or Keeper(), ours)("fetch_page", json.dumps({"url": url}), "")


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "localhost", "127.1", "0x7f000001", "2130706433", "0.0.0.0", "[::1]", "[::]"),
        *("192.168.1.1", "10.0.0.1", "169.254.169.254", "100.64.0.1", "[fd00::1]", "[64:ff9b::7f00:1]", "224.0.0.251"),
        "[::ffff:127.0.0.1]",
    ],
)
def test_no_page_is_fetched_from_this_machine_or_a_private_network(host: str) -> None:
    keeper = Keeper()
    with pytest.raises(SwarmError) as caught:
        asyncio.run(fetched(f"http://{host}:8080/", keeper))
    assert caught.value.code in {"not_public", "page_unreachable"}  # some systems look "0x7f000001" up nowhere
    assert not any(addresses for _, addresses, _ in keeper.opened)


@pytest.mark.parametrize("host", ["1.1.1.1", "[2606:4700::1111]"])
def test_no_page_is_fetched_from_a_node_of_the_swarm(host: str) -> None:
    with pytest.raises(SwarmError, match="node of this swarm"):
        asyncio.run(fetched(f"http://{host}/", ours=("name.example:6927", f"{host}:6927")))


def test_a_node_that_is_known_by_name_is_not_fetched_from_by_that_name() -> None:
    fault = courier(Keeper())._fault("far.example", "1.1.1.1:443", frozenset({"far.example"}))
    assert fault == "is a node of this swarm"
    assert courier(Keeper())._fault("near.example", "1.1.1.1:443", frozenset({"far.example"})) is None


def test_a_machine_in_our_own_networks_is_not_fetched_from_though_its_address_is_public() -> None:
    near = Courier(Border(Guard(), named=()).outward, lambda address: "LAN", lambda: ())
    with pytest.raises(SwarmError, match="its own networks"):
        asyncio.run(near("fetch_page", '{"url": "http://1.1.1.1/"}', ""))


@pytest.mark.parametrize("arguments", ['{"url": "ftp://x/"}', '{"url": 1}', "{}", '{"url": "https://u:p@e.org/"}'])
def test_what_is_no_call_goes_nowhere(arguments: str) -> None:
    keeper = Keeper()
    with pytest.raises(SwarmError):
        asyncio.run(courier(keeper)("fetch_page", arguments, ""))
    assert not keeper.opened


def test_a_search_asks_exactly_the_server_that_its_owner_named_and_its_address_is_in_no_error() -> None:
    async def main() -> None:
        async with scripted(saying(FOUND)) as server:
            keeper = Keeper()
            means = json.dumps({"url": f"http://127.0.0.1:{server.port}/searx"})
            found = await courier(keeper)("search_web", '{"query": "größe & more"}', means)
            assert found.body == b'{"results": []}'
            assert server.asked[0].path == "/searx/search?q=gr%C3%B6%C3%9Fe+%26+more&format=json"
            assert [addresses for _, addresses, _ in keeper.opened] == [(), (f"127.0.0.1:{server.port}",)]
            assert not keeper.permits()
            with pytest.raises(SwarmError) as caught:
                await courier(keeper)("search_web", '{"query": "x"}', '{"url": "http://127.0.0.1:1"}')
            assert "127.0.0.1" not in caught.value.message
        elsewhere = saying(answered("302 Found", b"", "Location: http://example.org/"))
        async with scripted(elsewhere) as server:
            with pytest.raises(SwarmError, match="search server leads elsewhere"):
                await courier(Keeper())(
                    "search_web", '{"query": "x"}', json.dumps({"url": f"http://127.0.0.1:{server.port}"})
                )

    asyncio.run(main())


def test_without_a_server_there_is_no_search() -> None:
    for means in ("", "{}", "[]", "nonsense"):
        with pytest.raises(SwarmError, match="no search server"):
            asyncio.run(courier(Keeper())("search_web", '{"query": "x"}', means))
