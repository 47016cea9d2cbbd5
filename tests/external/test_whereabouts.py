"""An endpoint's place is proved before anything is sent, and no second look-up can change it."""

import asyncio
import socket
import sys

import pytest

from endpoints import Doorkeeper, answered, events, naming, passage, said, saying, scripted, text_of
from mycoswarm.base.errors import EgressError, EndpointError, UnreachableError
from mycoswarm.external.errand import Reached
from mycoswarm.external.target import Target

STREAM = answered("200 OK", said("yes", "stop"), "Content-Type: text/event-stream")


@pytest.mark.parametrize("registered", ["this-machine", "LAN"])
@pytest.mark.parametrize(
    "addresses", [["198.51.100.7:{port}"], ["127.0.0.1:{port}", "198.51.100.7:{port}"], ["[2001:db8::1]:{port}"]]
)
def test_an_endpoint_that_is_further_away_than_registered_hears_nothing(registered: str, addresses: list[str]) -> None:
    async def main() -> None:
        async with scripted(saying(STREAM)) as server:
            resolve, _ = naming([text.format(port=server.port) for text in addresses])
            keeper = Doorkeeper()
            target = server.target(url=f"http://rack.local:{server.port}", place=registered)
            with pytest.raises(EndpointError) as caught:
                await events(target, passage(resolve=resolve, permit=keeper))
            assert caught.value.code == "wrong_place" and "outside" in caught.value.message
            assert server.connections == 0 and not any(addresses for _, addresses, _ in keeper.asked)

    asyncio.run(main())


def test_an_endpoint_on_the_lan_is_not_taken_for_this_machine() -> None:
    async def main() -> None:
        resolve, _ = naming(["169.254.7.7:80"])
        target = Target(name="rack", url="http://rack", place="this-machine")
        with pytest.raises(EndpointError, match="which is LAN"):
            await events(target, passage(resolve=resolve))

    asyncio.run(main())


def test_an_endpoint_may_be_nearer_than_registered_and_says_where_it_is() -> None:
    async def main() -> None:
        async with scripted(saying(STREAM)) as server:
            told = await events(server.target(place="outside"), passage())
            assert told[0] == Reached("this-machine", f"127.0.0.1:{server.port}")

    asyncio.run(main())


def test_a_name_that_turns_elsewhere_after_the_first_look_is_not_looked_up_again() -> None:
    async def main() -> None:
        async with scripted(saying(STREAM)) as server:
            resolve, looked = naming([f"127.0.0.1:{server.port}"], [f"198.51.100.7:{server.port}"])
            target = server.target(url=f"http://rack.local:{server.port}/v1")
            told = await events(target, passage(resolve=resolve))
            assert text_of(told) == "yes" and looked == [("rack.local", server.port)]
            assert server.asked[0].headers["host"] == f"rack.local:{server.port}"
            with pytest.raises(EndpointError) as caught:
                await events(target, passage(resolve=resolve))
            assert caught.value.code == "wrong_place" and server.connections == 1

    asyncio.run(main())


def test_python_sees_the_connect_and_no_look_up_but_the_one_that_is_allowed() -> None:
    seen: list[tuple[str, object]] = []
    is_over = False

    def hook(name: str, arguments: tuple[object, ...]) -> None:
        if not is_over and name in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname"):
            seen.append((name, arguments[1] if name == "socket.connect" else arguments[0]))

    async def main() -> None:
        async with scripted(saying(STREAM)) as server:
            sys.addaudithook(hook)  # cannot be taken away again: it falls silent
            seen.clear()
            keeper = Doorkeeper()
            assert text_of(await events(server.target(), passage(permit=keeper))) == "yes"
            where = ("127.0.0.1", server.port)
            assert seen == [("socket.getaddrinfo", "127.0.0.1"), ("socket.connect", where)]
            purposes, addresses, names = zip(*keeper.asked, strict=True)
            assert names == (("127.0.0.1",), ()) and addresses == ((), (f"127.0.0.1:{server.port}",))
            assert all("rack" in purpose for purpose in purposes) and not keeper.is_open

    try:
        asyncio.run(main())
    finally:
        is_over = True


def test_what_the_guard_refuses_is_told_as_it_is() -> None:
    def refuse(purpose: str, addresses: object, names: object) -> Doorkeeper:
        raise EgressError(f"no {purpose}")

    async def main() -> None:
        with pytest.raises(EgressError):
            await events(Target(name="rack", url="http://127.0.0.1:9", place="LAN"), passage(permit=refuse))

    asyncio.run(main())


def test_addresses_are_tried_in_order_until_one_answers() -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as closed:
            dead = closed.getsockname()[1]
        async with scripted(saying(STREAM)) as server:
            resolve, _ = naming([f"127.0.0.1:{dead}", f"127.0.0.1:{server.port}"])
            told = await events(server.target(), passage(resolve=resolve))
            assert told[0] == Reached("this-machine", f"127.0.0.1:{server.port}")
        with pytest.raises(UnreachableError) as caught:
            await events(server.target(), passage(resolve=resolve))
        assert caught.value.code == "endpoint_unreachable" and caught.value.message.count("127.0.0.1:") == 2

    asyncio.run(main())


def test_ipv6_is_reached_too() -> None:
    async def main() -> None:
        async with scripted(saying(STREAM), host="::1") as server:
            told = await events(server.target(url=f"http://[::1]:{server.port}"), passage())
            assert told[0] == Reached("this-machine", f"[::1]:{server.port}") and text_of(told) == "yes"
            assert server.asked[0].headers["host"] == f"[::1]:{server.port}"

    asyncio.run(main())


@pytest.mark.parametrize("answer", [[], ["rack.local:80"], ["nonsense"]])
def test_a_name_without_an_address_in_numbers_is_unreachable(answer: list[str]) -> None:
    async def main() -> None:
        resolve, _ = naming(answer)
        with pytest.raises(UnreachableError) as caught:
            await events(Target(name="rack", url="http://rack.local", place="outside"), passage(resolve=resolve))
        assert caught.value.code == "endpoint_unreachable"

    asyncio.run(main())


def test_a_resolver_that_hangs_or_fails_is_given_up() -> None:
    async def hang(host: str, port: int) -> list[str]:
        await asyncio.Event().wait()
        return []

    async def fail(host: str, port: int) -> list[str]:
        raise socket.gaierror(-2, "Name or service not known")

    async def main() -> None:
        target = Target(name="rack", url="http://rack.local", place="LAN")
        for resolve, words in ((hang, "longer than"), (fail, "no address")):
            with pytest.raises(UnreachableError, match=words):
                await events(target, passage(resolve=resolve))

    asyncio.run(main())
