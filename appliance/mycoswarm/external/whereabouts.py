"""Where an endpoint really is: its addresses looked up once, each one's place decided, and the registered place proved.

Covered: a name that points outside today (DNS rebinding, a changed router), and one that points elsewhere on the second
look: there is no second one, connections go to the very addresses judged here. Not covered: what a machine on the LAN
passes on to others.
"""

import asyncio
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from mycoswarm.base.errors import EgressError, EndpointError, InputError, UnreachableError
from mycoswarm.base.url import Site
from mycoswarm.external.target import Passage, Target
from mycoswarm.swarm.dial import MAX_ADDRESSES, Address, parse_address
from mycoswarm.swarm.place import PLACES, Place


@dataclass(frozen=True, slots=True)
class Spot:
    """One address, "host:port" in numbers, and where it is."""

    address: str
    place: Place


async def prove(target: Target, site: Site, passage: Passage) -> tuple[Spot, ...]:
    """Look the endpoint's host up and decide where each address is; nothing is sent to any of them.

    An endpoint may be nearer than it was registered, never further away: all its addresses must hold.

    Raises:
        EndpointError: one of the addresses is further away than the endpoint was registered.
        UnreachableError: the name has no address, or the look-up takes too long.
        EgressError: this process may not look that name up.
    """
    addresses = await _look_up(target, site, passage)
    # In a thread: listing the machine's networks reads the operating system's tables.
    places = await asyncio.to_thread(lambda: [passage.place(address) for address in addresses])
    spots = tuple(map(Spot, addresses, places))
    for spot in spots:
        if PLACES.index(spot.place) > PLACES.index(target.place):
            raise EndpointError(
                f"{target.words} is registered as {target.place}, but {site.host} is at {spot.address}, which "
                f"is {spot.place}; nothing was sent",
                hint=f"Correct its address, or register it as {spot.place} if prompts may go there.",
                code="wrong_place",
            )
    return spots


async def system_addresses(host: str, port: int) -> Sequence[str]:
    """Ask the operating system's resolver; raises its OSError. An address in numbers is not looked up anywhere."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [_worded(where) for _, _, _, _, where in found]


async def _look_up(target: Target, site: Site, passage: Passage) -> list[str]:
    resolve = passage.resolve or system_addresses
    try:
        async with passage.permit(f"look-up of {target.words}", (), (site.host,)):
            async with asyncio.timeout(passage.limits.resolve_s):
                found = await resolve(site.host, site.port)
        addresses = [str(parse_address(text)) for text in dict.fromkeys(found)][:MAX_ADDRESSES]
    except EgressError:
        raise
    except TimeoutError as exc:
        raise _lost(target, f"looking {site.host} up took longer than {passage.limits.resolve_s:g} s") from exc
    except (OSError, UnicodeError, InputError) as exc:
        raise _lost(target, f"the name {site.host} has no address") from exc
    if not addresses:
        raise _lost(target, f"the name {site.host} has no address")
    return addresses


def _lost(target: Target, why: str) -> UnreachableError:
    return UnreachableError(
        f"{target.words} cannot be reached: {why}",
        hint=f"Check the {target.kind}'s URL, and that its machine is on.",
        code=f"{target.stem}_unreachable",
    )


def _worded(where: tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]) -> str:
    host, port = str(where[0]), where[1]
    scope = where[3] if len(where) == 4 else 0
    return str(Address(f"{host}%{scope}" if scope and "%" not in host else host, int(port)))
