"""What the daemon opens its egress guard to, and how it learns what the guard refused.

Addresses of nodes are hearsay: anybody can announce by multicast DNS that a node is somewhere on the internet. So for
nodes only addresses of our own networks are opened, and those that the owner named (the setting `peers`).
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from typing import Any

from mycoswarm.base.egress import Barred, Guard, packed
from mycoswarm.base.errors import InputError
from mycoswarm.daemon.barrier import Barrier, Errand
from mycoswarm.external.target import Permit
from mycoswarm.swarm.dial import parse_address
from mycoswarm.swarm.place import Place, place_of

DRAIN_S = 1.0


class Border:
    """Openings for the parts of a daemon. `named`: peer addresses ("host:port") that the owner has set. `place` says
    where an address is. `barrier` is the packet filter of an appliance."""

    def __init__(
        self,
        guard: Guard,
        *,
        named: Sequence[str],
        place: Callable[[str], Place] = place_of,
        barrier: Barrier | None = None,
    ) -> None:
        self._guard, self.place, self._barrier = guard, place, barrier or Barrier(None)
        self._named = frozenset(named)
        self._hosts = frozenset(packed(parse_address(text).host) for text in named) - {None}
        guard.is_on_link = lambda host: place(f"[{host}]:0") != "outside"

    def nodes(self, addresses: Sequence[str]) -> AbstractContextManager[None]:
        """Open what may be dialled for adopted nodes."""
        return self._near("adopted nodes", addresses)

    def is_near(self, address: str) -> bool:
        """Whether another node's stage may be dialled there, at whatever port: as `nodes`. A name never is."""
        try:
            raw = packed(parse_address(address).host)
        except InputError:
            return False
        return raw is not None and (raw in self._hosts or self.place(address) != "outside")

    def adoption(self, addresses: Sequence[str]) -> AbstractContextManager[None]:
        """Open the door of a candidate that the owner picked: it was heard, too."""
        return self._near("adoption", addresses)

    def enrolment(self, addresses: Sequence[str]) -> AbstractContextManager[None]:
        """Open the door of a coordinator that the owner's join token names, wherever it is."""
        return self._guard.permitted("enrolment", addresses=addresses)

    def outward(self, errand: Errand) -> Permit:
        """Open the way out for errands of one kind, once their addresses are judged: an endpoint that a rule named or
        that the owner registers, an MCP server, where a model is pulled from, what a tool reaches out for. A packet
        filter around this machine is asked for the very addresses that the guard has just opened."""

        @asynccontextmanager
        async def permit(purpose: str, addresses: Sequence[str], names: Sequence[str]) -> AsyncIterator[str | None]:
            with self._guard.permitted(purpose, addresses=addresses, names=names):
                yield await self._barrier.ask(errand, addresses)

        return permit

    def shown(self) -> dict[str, Any]:
        """What is open now beyond this machine, by purpose."""
        opened: dict[str, int] = {}
        for permit in self._guard.permits():
            opened[permit.purpose] = opened.get(permit.purpose, 0) + len(permit.addresses) + len(permit.names)
        return {"active": self._guard.is_installed, "open": opened}

    async def watch(self, note: Callable[[Barred], Awaitable[None]]) -> None:
        """Hand on what was refused, for as long as it runs."""
        while True:
            for each in self._guard.drain():
                await note(each)
            await asyncio.sleep(DRAIN_S)

    def _near(self, purpose: str, addresses: Sequence[str]) -> AbstractContextManager[None]:
        first = addresses[0] if addresses else ""
        led_by_name = first in self._named and packed(parse_address(first).host) is None  # as `dial` says it
        near = [text for text in addresses if led_by_name or text in self._named or self.place(text) != "outside"]
        return self._guard.permitted(purpose, addresses=near)
