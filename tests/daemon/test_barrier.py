"""What is asked of an appliance's packet filter, on real sockets: what the guard has opened, and nothing more."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from mycoswarm.base.egress import Guard
from mycoswarm.base.errors import InputError
from mycoswarm.daemon.barrier import ASK_S, Barrier
from mycoswarm.daemon.border import Border
from mycoswarm.swarm.place import Network, Place, place_among

LAN = [Network("192.168.1.5", "255.255.255.0")]
FAR = ("203.0.113.7:443", "[2001:db8::7]:8000")
NEAR = ("127.0.0.1:1", "[::1]:1", "192.168.1.5:2", "192.168.1.9:3", "[fe80::9%1]:4")
OPENED = b'{"open_s": 30.0}\n'


def place(address: str) -> Place:
    return place_among(address, LAN)


def tried(
    folder: Path, answer: bytes | None, work: Callable[[Barrier], Awaitable[str | None]]
) -> tuple[str | None, list[bytes]]:
    """What comes of it beside a service that answers so, or never; and all lines that the service heard."""
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readline())
        if answer is not None:
            writer.write(answer)
        else:
            await reader.read()
        writer.close()

    async def main() -> str | None:
        async with asyncio.timeout(20), await asyncio.start_unix_server(serve, folder / "ask"):
            return await work(Barrier(folder / "ask", place))

    return asyncio.run(main()), heard


def test_addresses_outside_are_asked_for_and_near_ones_pass_by_themselves(tmp_path: Path) -> None:
    said, heard = tried(tmp_path, OPENED, lambda barrier: barrier.ask("pull", (*NEAR, *FAR)))
    assert said is None
    assert json.loads(heard[0]) == {"purpose": "pull", "ways": [["203.0.113.7", 443], ["2001:db8::7", 8000]]}
    assert tried(tmp_path, OPENED, lambda barrier: barrier.ask("pull", NEAR)) == (None, [])


def test_where_there_is_no_packet_filter_nothing_is_asked() -> None:
    assert asyncio.run(Barrier(None).ask("page", FAR)) is None


@pytest.mark.parametrize("answer", [b"", b"{", b"[]\n", b'{"refused": 5}\n', b"x" * 9000 + b"\n"])
def test_what_is_no_answer_is_none(tmp_path: Path, answer: bytes) -> None:
    said, _ = tried(tmp_path, answer, lambda barrier: barrier.ask("page", FAR))
    assert said == "the appliance's packet filter was not opened for it, because its service does not answer"


def test_a_refusal_is_told(tmp_path: Path) -> None:
    said, _ = tried(tmp_path, b'{"refused": "nft failed"}\n', lambda barrier: barrier.ask("page", FAR))
    assert said == "the appliance's packet filter was not opened for it, because nft failed"


@pytest.mark.slow
def test_silence_has_its_limit_and_the_loop_goes_on_meanwhile(tmp_path: Path) -> None:
    turns = 0

    async def work(barrier: Barrier) -> str | None:
        nonlocal turns
        asking = asyncio.create_task(barrier.ask("endpoint", FAR))
        while not asking.done():
            turns += 1
            await asyncio.sleep(0.1)
        return await asking

    began = time.monotonic()
    said, _ = tried(tmp_path, None, work)
    assert said is not None and "does not answer" in said
    assert ASK_S - 0.1 < time.monotonic() - began < ASK_S + 5 and turns > 10


def test_only_what_the_guard_has_opened_is_asked_for(tmp_path: Path) -> None:
    guard = Guard()

    async def work(barrier: Barrier) -> str | None:
        outward = Border(guard, named=(), place=place, barrier=barrier).outward("search")
        async with outward("a look-up", (), ("far.example",)):
            pass  # a name alone opens nothing that could be connected to
        with pytest.raises(InputError):
            async with outward("nonsense", ("203.0.113.7:99999",), ()):
                pass
        async with outward("the search server", FAR, ()) as shut:
            (permit,) = guard.permits()
            assert len(permit.addresses) == 2
            return shut

    said, heard = tried(tmp_path, OPENED, work)
    assert said is None and not guard.permits()
    assert [json.loads(line)["purpose"] for line in heard] == ["search"]
