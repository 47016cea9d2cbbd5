"""Warm rings: a loaded model stays for the next request, until it is idle too long or its memory is wanted."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, Self

from mycoswarm.base.errors import BusyError, NotFoundError, RingError, SwarmError
from mycoswarm.swarm.place import PLACES, Place
from mycoswarm.wire.plan import Pooling, RingPlan
from mycoswarm.wire.report import AnyReport
from mycoswarm.wire.request import Work
from mycoswarm.wire.ticket import Warrant

SWEEP_S = 1.0
FAR_S = 10  # about an answer; the next try opens a nearer ring
CLOSE_S = 15.0  # a ring's own closing ends within 7 s, force included; twice that is not worth waiting for

log = logging.getLogger(__name__)

Shape = tuple[tuple[str, int, int], ...]  # (node id, first layer, last layer) in ring order
_Key = tuple[str, Pooling | None, Shape]


class OpenedRing(Protocol):
    """What the pool and its borrowers need of a ring; stage/ring.py is the real one."""

    @property
    def lost(self) -> RingError | None:
        """Why the ring broke, or None while it works."""

    def generate(self, work: Work, warrant: Warrant, lifetime_s: float) -> AsyncGenerator[AnyReport, None]:
        """Produce one answer, ended by `Finished`. Closing the generator cancels it on every stage."""

    async def close(self) -> None:
        """End the ring on every node."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """A ring to be opened. `reach`: by node id, how far away each node that takes part may be; no other may."""

    plan: RingPlan
    warrant: Warrant
    request_id: str
    reach: Mapping[str, Place]


Opener = Callable[[Opening], Awaitable[OpenedRing]]


@dataclass(frozen=True, slots=True)
class Warm:
    """One loaded ring, as deciding sees it. `node_bytes`: what it was reckoned to take, by node id. `reach`: as it was
    opened."""

    plan: RingPlan
    shape: Shape
    node_bytes: Mapping[str, int]
    reach: Mapping[str, Place]
    users: int
    idle_since_s: float

    @property
    def embeds(self) -> bool:
        """Whether it makes embeddings, and nothing else."""
        return self.plan.conditions.pooling is not None


@dataclass(slots=True, eq=False)
class _Entry:
    plan: RingPlan
    node_bytes: Mapping[str, int]
    reach: Mapping[str, Place]
    opening: "asyncio.Task[OpenedRing]"
    idle_since_s: float
    users: int = 0

    @property
    def is_lost(self) -> bool:
        if not self.opening.done():
            return False
        if self.opening.cancelled() or self.opening.exception() is not None:
            return True
        return self.opening.result().lost is not None


def shape_of(plan: RingPlan) -> Shape:
    """The part of a plan that makes one ring serve as another: who holds what."""
    return tuple((stage.node_id, stage.first, stage.last) for stage in plan.stages)


class RingPool:
    """Owner of all rings of a coordinator. One ring per (model, pooling, shape); opening is shared by all who wait.

    `clock` is monotonic, in seconds.
    """

    def __init__(self, open_ring: Opener, *, idle_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._open_ring, self._idle_s, self._clock = open_ring, idle_s, clock
        self._entries: dict[_Key, _Entry] = {}
        self._closing: dict[asyncio.Task[None], Mapping[str, int]] = {}
        self._sweeper: asyncio.Task[None] | None = None
        self._is_closed = False

    async def __aenter__(self) -> Self:
        self._sweeper = asyncio.create_task(self._sweep_always(), name="ring pool sweeper")
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        """End all rings, and every request on them with an error; none is opened any more."""
        self._is_closed = True
        if self._sweeper:
            self._sweeper.cancel()
            await asyncio.gather(self._sweeper, return_exceptions=True)
        for key in list(self._entries):
            self._retire(key)
        if self._closing:
            await asyncio.wait(set(self._closing))

    def warm(self) -> tuple[Warm, ...]:
        """All rings that work or are being opened."""
        return tuple(
            Warm(entry.plan, shape_of(entry.plan), entry.node_bytes, entry.reach, entry.users, entry.idle_since_s)
            for entry in self._entries.values()
            if not entry.is_lost
        )

    def returning(self) -> dict[str, int]:
        """Bytes by node id that a new ring may count on: those of idle rings and of rings that are ending now."""
        bytes_by_node: dict[str, int] = {}
        idle = [entry.node_bytes for entry in self._entries.values() if not entry.users]
        for node_bytes in (*idle, *self._closing.values()):
            for node_id, count in node_bytes.items():
                bytes_by_node[node_id] = bytes_by_node.get(node_id, 0) + count
        return bytes_by_node

    @contextlib.asynccontextmanager
    async def lend(
        self, opening: Opening, *, node_bytes: Mapping[str, int], room: Mapping[str, int]
    ) -> AsyncIterator[OpenedRing]:
        """Lend the ring of this plan's shape, opened now where it is not warm.

        `room` is what a stage may take on each node when every idle ring there has ended; so many of them end that
        this ring fits, the longest idle ones first.

        Raises:
            RingError: it could not be opened, or the pool is closed.
            BusyError: it is in use by others over connections that lead further away than these may.
        """
        if self._is_closed:
            raise RingError("this node is stopping", hint="Send the request again later.", code="ring_closed")
        plan = opening.plan
        key = (plan.model_digest, plan.conditions.pooling, shape_of(plan))
        entry = self._entries.get(key)
        if entry is not None and _goes_further(entry.reach, opening.reach):
            if entry.users:
                raise BusyError("this model is in use over connections that lead further away", retry_after_s=FAR_S)
            self._retire(key)
            entry = None
        if entry is None or entry.is_lost:
            # Nothing is awaited up to the entry's place in the table, so that two requests cannot both open it.
            self._retire(key)
            self._make_room(node_bytes, room)
            work = asyncio.create_task(self._open(opening), name=f"open ring {plan.ring_id}")
            entry = self._entries[key] = _Entry(plan, node_bytes, opening.reach, work, self._clock())
        entry.users += 1
        try:
            yield await _opened(entry)
        finally:
            entry.users -= 1
            entry.idle_since_s = self._clock()
            if entry.is_lost and self._entries.get(key) is entry:
                self._retire(key)

    async def unload(self, model_digest: str) -> tuple[RingPlan, ...]:
        """End all rings of a model; gives what was ended, once its memory is free or `CLOSE_S` are over.

        Raises:
            NotFoundError: none is loaded.
            BusyError: one of them is in use; none was ended.
        """
        held = {key: entry for key, entry in self._entries.items() if entry.plan.model_digest == model_digest}
        if not held:
            raise NotFoundError(
                "this model is not loaded", hint="There is nothing to end: `mycoswarm-node models load MODEL` loads it."
            )
        if users := sum(entry.users for entry in held.values()):
            used = "a request uses" if users == 1 else f"{users} requests use"
            raise BusyError(f"{used} this model now", retry_after_s=FAR_S, code="model_in_use")
        before = set(self._closing)
        for key in held:
            self._retire(key)
        await asyncio.wait(set(self._closing) - before, timeout=CLOSE_S)
        return tuple(entry.plan for entry in held.values())

    def sweep(self) -> None:
        """End what is lost or has been idle for too long."""
        now = self._clock()
        for key, entry in list(self._entries.items()):
            if not entry.users and (entry.is_lost or now - entry.idle_since_s > self._idle_s):
                log.info("ring %s leaves memory", entry.plan.ring_id)
                self._retire(key)

    async def _sweep_always(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            self.sweep()

    async def _open(self, opening: Opening) -> OpenedRing:
        """Open a ring once those that end on the same nodes have given their memory back."""
        nodes = {stage.node_id for stage in opening.plan.stages}
        ending = {task for task, node_bytes in self._closing.items() if nodes & set(node_bytes)}
        if ending:
            await asyncio.wait(ending, timeout=CLOSE_S)
        return await self._open_ring(opening)

    def _make_room(self, node_bytes: Mapping[str, int], room: Mapping[str, int]) -> None:
        for node_id, needed in node_bytes.items():
            spare = room.get(node_id, 0) - needed
            for key, entry in sorted(self._entries.items(), key=lambda item: -item[1].idle_since_s):
                if not entry.users and node_id in entry.node_bytes:
                    spare -= entry.node_bytes[node_id]
                    if spare < 0:
                        self._retire(key)

    def _retire(self, key: _Key) -> None:
        """Take a ring out of the table and end it in a task of the pool, which no hang-up interrupts."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            task = asyncio.create_task(_end(entry), name=f"close ring {entry.plan.ring_id}")
            self._closing[task] = entry.node_bytes
            task.add_done_callback(self._closing.pop)


def _goes_further(held: Mapping[str, Place], wanted: Mapping[str, Place]) -> bool:
    """Whether connections that were opened lead further away than is allowed now."""
    return any(
        PLACES.index(held[node_id]) > PLACES.index(place) for node_id, place in wanted.items() if node_id in held
    )


async def _opened(entry: _Entry) -> OpenedRing:
    """Wait for the opening. Shielded: one client that hangs up must not end the loading for the others."""
    try:
        return await asyncio.shield(entry.opening)
    except asyncio.CancelledError:
        waiter = asyncio.current_task()
        if entry.opening.cancelled() and not (waiter and waiter.cancelling()):
            raise RingError(
                "the ring was closed while it was being opened", hint="Send the request again.", code="ring_closed"
            ) from None
        raise


async def _end(entry: _Entry) -> None:
    entry.opening.cancel()
    (ring,) = await asyncio.gather(entry.opening, return_exceptions=True)
    if isinstance(ring, BaseException):
        return
    try:
        await ring.close()
    except SwarmError as error:
        log.warning("ring %s did not close cleanly: %s", entry.plan.ring_id, error.message)
