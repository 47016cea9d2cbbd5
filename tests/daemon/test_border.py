"""Hearsay opens nothing outside; the owner's own words do."""

import asyncio

import pytest

from mycoswarm.base.egress import Barred, Guard
from mycoswarm.daemon.border import Border
from mycoswarm.swarm.place import Network, Place, place_among

LAN = [Network("192.168.1.5", "255.255.255.0"), Network("fd00::5", "ffff:ffff:ffff:ffff::")]
NAMED = ("198.51.100.3:6927", "far.example:6927")


def place(address: str) -> Place:
    return place_among(address, LAN)


def opened(border: Border, guard: Guard, *addresses: str) -> set[str]:
    with border.nodes(addresses):
        (permit,) = guard.permits()
        found = {".".join(map(str, raw)) if len(raw) == 4 else raw.hex() for raw, _ in permit.addresses} | permit.names
    assert guard.permits() == []
    return found


@pytest.fixture
def guard() -> Guard:
    return Guard()


@pytest.fixture
def border(guard: Guard) -> Border:
    return Border(guard, named=NAMED, place=place)


def test_what_is_heard_opens_only_our_own_networks(border: Border, guard: Guard) -> None:
    heard = ("192.168.1.9:6927", "203.0.113.7:443", "[2001:db8::1]:443", "[fe80::9%eth0]:6927", "evil.example:443")
    assert opened(border, guard, *heard) == {"192.168.1.9", "fe80" + 27 * "0" + "9"}
    assert opened(border, guard, "127.0.0.1:1", "192.168.1.5:2") == {"127.0.0.1", "192.168.1.5"}


def test_what_the_owner_named_is_opened_wherever_it_is(border: Border, guard: Guard) -> None:
    assert opened(border, guard, "198.51.100.3:6927", "198.51.100.3:22") == {"198.51.100.3"}
    assert opened(border, guard, "far.example:6927", "203.0.113.8:6927") == {"far.example", "203.0.113.8"}
    assert opened(border, guard, "203.0.113.8:6927", "far.example:6927") == {"far.example"}


def test_a_candidate_is_hearsay_and_a_token_is_not(border: Border, guard: Guard) -> None:
    for opening, found in ((border.adoption, 1), (border.enrolment, 2)):
        with opening(["192.168.1.9:6928", "203.0.113.7:6928"]):
            assert len(guard.permits()[0].addresses) == found


def test_answers_of_multicast_dns_go_to_our_own_networks(border: Border, guard: Guard) -> None:
    assert guard.is_on_link("192.168.1.77") and guard.is_on_link("fe80::1") and guard.is_on_link("fd00::1")
    assert not guard.is_on_link("203.0.113.7") and not guard.is_on_link("2001:db8::1")


def test_what_was_refused_is_handed_on(border: Border, guard: Guard) -> None:
    noted: asyncio.Queue[Barred] = asyncio.Queue()

    async def main() -> Barred:
        watching = asyncio.create_task(border.watch(noted.put))
        with pytest.raises(PermissionError):
            guard.check("socket.gethostbyname", ("stranger.test",))
        async with asyncio.timeout(5):
            told = await noted.get()
        watching.cancel()
        return told

    assert asyncio.run(main()).where == "stranger.test"


def test_a_stage_is_dialled_where_a_node_would_be_and_never_by_a_name(border: Border) -> None:
    near = ("192.168.1.9:41000", "127.0.0.1:5", "[fe80::9]:1", "198.51.100.3:41000")
    assert all(map(border.is_near, near))
    assert not any(map(border.is_near, ("", "a]b:1", "[:1", "192.168.1.9:99999")))
    assert not any(map(border.is_near, ("203.0.113.7:41000", "[2001:db8::1]:1", "far.example:6927", "evil.example:1")))
