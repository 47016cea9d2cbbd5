"""Nodes and swarms for tests: real keys and files in a test's own folder."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from mycoswarm.swarm.enrolment import open_grant, take_up
from mycoswarm.swarm.identity import Identity
from mycoswarm.swarm.registrar import Registrar


def make_node(folder: Path, name: str) -> Identity:
    """A fresh, unclaimed node whose data lie under its name."""
    return Identity.load_or_create(folder / name, name=name)


def make_swarm(folder: Path, name: str = "pi") -> tuple[Registrar, Identity]:
    """A coordinator of a new swarm."""
    identity = make_node(folder, name)
    return Registrar.found(folder / name, identity), identity


def take_in(registrar: Registrar, node: Identity) -> None:
    """Enrol a node without any network."""
    grant = registrar.admit(node.key.public_der, node.name, ())
    coordinator = registrar.roster.coordinator
    assert coordinator is not None
    public = registrar.identity.key.public_der
    take_up(node, open_grant(grant, identity=node, swarm_id=registrar.roster.swarm_id, coordinator_public=public))


def run(work: Callable[[], Awaitable[None]], limit_s: float = 20) -> None:
    """Run a test's coroutine with a time limit."""

    async def limited() -> None:
        async with asyncio.timeout(limit_s):
            await work()

    asyncio.run(limited())
