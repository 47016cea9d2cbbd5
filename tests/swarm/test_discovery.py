"""Discovery on loopback: real mDNS between several nodes of one machine, and nothing beyond it."""

import asyncio
import secrets
import socket
import statistics
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest

from household import run
from mycoswarm.base.errors import InputError
from mycoswarm.swarm.candidate import Announcement, Candidate
from mycoswarm.swarm.discovery import SERVICE, Discovery

LOOPBACK = ("127.0.0.1",)


def announcement(name: str) -> Announcement:
    return Announcement(
        node_id=secrets.token_hex(16),
        instance_id=secrets.token_hex(8),
        name=name,
        role="unclaimed",
        swarm=None,
        peer_port=6927,
        door_port=6928,
        version=1,
    )


def of(*sides: Discovery) -> set[str]:
    return {side.announcement.node_id for side in sides}


def ids(heard: tuple[Candidate, ...]) -> set[str]:
    return {each.announcement.node_id for each in heard}


def hears(wanted: set[str]) -> Callable[[tuple[Candidate, ...]], bool]:
    return lambda heard: wanted <= ids(heard)


async def complete_after_s(gap_s: float) -> float:
    """Start three nodes one after the other; gives the seconds from the last's announcement to complete lists."""
    async with AsyncExitStack() as stack:
        sides: list[Discovery] = []
        for name in ("one", "two", "three"):
            await asyncio.sleep(gap_s)
            sides.append(await stack.enter_async_context(Discovery(announcement(name), named=LOOPBACK)))
        everybody = of(*sides)
        for side in sides:
            assert await side.wait_until(hears(everybody - of(side)), 5)
        announced_s = sides[-1].announced_s
        assert announced_s is not None
        took_s = time.monotonic() - announced_s
        for side in sides:
            assert side.announcement.node_id not in ids(side.candidates())
            heard = [each for each in side.candidates() if ids((each,)) <= everybody]
            assert all(each.announcement.addresses == LOOPBACK for each in heard)
    return took_s


@pytest.mark.slow
def test_three_nodes_on_loopback_hear_each_other_at_once() -> None:
    async def work() -> None:
        # Within and beyond the second in which mDNS holds repeated answers back.
        took = [await complete_after_s(gap_s) for gap_s in (0.0, 0.3, 0.7)]
        assert statistics.median(took) < 0.3

    run(work)


@pytest.mark.slow
def test_a_change_and_a_goodbye_are_heard_and_told() -> None:
    async def work() -> None:
        told: list[int] = []
        async with Discovery(announcement("one"), named=LOOPBACK, on_change=lambda: told.append(1)) as one:
            async with Discovery(announcement("two"), named=LOOPBACK) as two:
                (node_id,) = of(two)
                assert await one.wait_until(lambda heard: node_id in ids(heard), 5)
                changed = replace(two.announcement, role="worker", swarm="ab" * 8, door_port=None, name="attic")
                await two.announce(changed)

                def is_changed(heard: tuple[Candidate, ...]) -> bool:
                    return any((c.announcement.name, c.announcement.role) == ("attic", "worker") for c in heard)

                assert await one.wait_until(is_changed, 5)
                assert one.addresses_of(node_id) == ("127.0.0.1:6927",)
            assert await one.wait_until(lambda heard: node_id not in ids(heard), 5)
            assert len(told) >= 3

    run(work)


@pytest.mark.slow
def test_one_key_in_two_places_is_a_condition() -> None:
    async def work() -> None:
        said = announcement("one")
        async with (
            Discovery(said, named=LOOPBACK, advertise=("127.0.0.2",)),
            Discovery(replace(said, instance_id="00" * 8), named=LOOPBACK, advertise=("127.0.0.3",)),
            Discovery(announcement("pi"), named=LOOPBACK) as pi,
        ):
            assert await pi.wait_until(lambda heard: len([c for c in heard if ids((c,)) == {said.node_id}]) == 2, 5)
            assert [c.node_ids for c in pi.conditions() if c.code == "announced_twice"] == [(said.node_id,)]

    run(work)


@pytest.mark.slow
def test_nonsense_on_the_wire_is_not_heard() -> None:
    async def work() -> None:
        async with (
            Discovery(announcement("one"), named=LOOPBACK) as one,
            Discovery(replace(announcement("two"), name="Not A Name"), named=LOOPBACK) as liar,
            Discovery(announcement("three"), named=LOOPBACK) as three,
        ):
            sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            with sender:
                sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
                for size in (1, 11, 12, 40, 400):
                    sender.sendto(secrets.token_bytes(size), ("224.0.0.251", 5353))
            assert await one.wait_until(lambda heard: of(three) <= ids(heard), 5)
            assert not of(liar) & ids(one.candidates())

    run(work)


def test_static_peers_need_no_announcement() -> None:
    async def work() -> None:
        side = Discovery(announcement("one"), named=LOOPBACK, static=("box.lan:6927", "[fd00::5]:6927"))
        assert side.addresses_of("ab" * 16, hints=("10.0.0.1:6927",)) == (
            "10.0.0.1:6927",
            "box.lan:6927",
            "[fd00::5]:6927",
        )
        with pytest.raises(InputError):
            Discovery(announcement("one"), named=LOOPBACK, static=("nonsense",))

    run(work)


def test_the_service_is_named_as_mdns_wants_it() -> None:
    assert SERVICE.endswith("._tcp.local.") and len(SERVICE.split(".")[0]) <= 16
