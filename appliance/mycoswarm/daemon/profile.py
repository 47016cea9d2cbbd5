"""What a node says of itself: its card for the swarm, and its health, status and conditions for clients and owner."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from mycoswarm.daemon.home import Home
from mycoswarm.daemon.site import Site
from mycoswarm.daemon.standing import Standing
from mycoswarm.swarm.card import WIRE_VERSION, Card, encode_card, llama_version, own_version
from mycoswarm.swarm.condition import Condition

SHARD_FORMAT = 1


class Profile:
    """One node under one standing. `heard` gives what discovery finds wrong; `door_port` where enrolment is open."""

    def __init__(
        self,
        home: Home,
        standing: Standing,
        site: Site,
        *,
        heard: Callable[[], tuple[Condition, ...]],
        door_port: Callable[[], int | None],
    ) -> None:
        self._home, self._standing, self._site = home, standing, site
        self._heard, self._door_port = heard, door_port

    @property
    def console_address(self) -> str:
        """Where clients connect, "host:port"; empty on workers."""
        return self._site.console_address() if self._standing.decides else ""

    async def encoded_card(self) -> bytes:
        """The whole card as it crosses the wire."""
        return await asyncio.to_thread(lambda: encode_card(self.card()))

    def card(self) -> Card:
        """All that others may know of this node. Reads disk and drivers: call it in a thread."""
        home = self._home
        return msgspec.structs.replace(
            self.bare_card(),
            addresses=self._site.addresses(),
            facts={**home.machine.facts(), "bad_models": [digest for digest, _, _ in home.crashes.bad()]},
            models=tuple(msgspec.to_builtins(facts) for facts in home.shelf.facts()),
            free_memory_bytes=home.machine.free_bytes(),
        )

    def bare_card(self) -> Card:
        """Who this node is and which versions it has; blocks on nothing."""
        return Card(
            node_id=self._home.identity.node_id,
            instance_id=self._home.instance_id,
            name=self._home.identity.name,
            addresses=(),
            wire_version=WIRE_VERSION,
            llama_version=llama_version(),
            shard_format=SHARD_FORMAT,
        )

    def health(self) -> dict[str, Any]:
        """What anybody may know who reaches the console."""
        return {"status": "ok", "role": self._standing.role, "name": self._home.identity.name}

    def status(self) -> dict[str, Any]:
        """What the owner is shown of this node."""
        identity = self._home.identity
        return {
            "node_id": identity.node_id,
            "name": identity.name,
            "version": own_version(),
            "llama_version": llama_version(),
            "role": self._standing.role,
            "swarm_id": None if self._standing.role == "unclaimed" else self._standing.swarm_id,
            "console": self.console_address,
            "peer_port": self._site.peer_port,
            "door_port": self._door_port(),
            "roster": self._standing.roster()[0].number,
            "conditions": [{"code": c.code, "message": c.message, "hint": c.hint} for c in self.conditions()],
        }

    def conditions(self) -> tuple[Condition, ...]:
        """Trouble that stands."""
        roster = self._standing.roster()[0]
        if self._standing.role != "worker" or not roster.number or roster.find(self._home.identity.node_id):
            return self._heard()
        hint = "Run `mycoswarm-node leave` here; the node is then free for another swarm."
        return (*self._heard(), Condition("expelled", "the coordinator has expelled this node", hint))
