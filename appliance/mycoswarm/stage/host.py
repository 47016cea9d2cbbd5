"""A node's side of one ring stream: check the ticket, get the pieces, start the stage, carry orders in and reports out.

The stream is the ring's life on this node. When it ends, goes silent, breaks a rule or runs out of tickets, the stage's
process ends, whatever it is doing; when the stage ends, the coordinator is told why and the stream ends. The node runs
nothing that no valid ticket asked for: not the stage (the opening ticket), not a request on it (one ticket each).
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import msgspec

from mycoswarm.base.errors import ProtocolError, RingError, StageError, SwarmError, TicketError
from mycoswarm.stage.crash import CrashTable
from mycoswarm.stage.failure import describe, lost
from mycoswarm.stage.permit import IsSigned, Permits, stage_of
from mycoswarm.stage.supervisor import Launch, StageProcess, load_limit_s
from mycoswarm.swarm.dial import Address
from mycoswarm.swarm.place import place_of
from mycoswarm.wire.line import LineSplitter, decode_order, encode_line
from mycoswarm.wire.order import Admit, AnyOrder, Cancel, Configure, Embed, Generate, Join, Open, Ping
from mycoswarm.wire.plan import RingPlan
from mycoswarm.wire.report import AnyReport, Barred, Failed, Finished, Joined, Nonce, Pong, Progress, Ready
from mycoswarm.wire.ticket import Sealed, Ticket

OPEN_S = 10.0  # from our nonce to the coordinator's ticket
SILENT_S = 2.0  # DESIGN 7; the coordinator pings every half second
JOIN_S = 3600.0  # the other stages may still be loading, or fetching: the coordinator joins all at once
SAY_S = 30.0  # the coordinator takes no reports
EXPIRY_S = 0.5  # how often tickets are looked at
MAX_BARRED = 1024  # of one stage, which may be lying: they are written to a disk
GRACE_S = 60.0  # the head ends a request in the ring's order; rows under way may take a slow stage so long

OnProgress = Callable[[int, int], None]  # bytes done, bytes in all

_log = logging.getLogger(__name__)


class Channel(Protocol):
    """Both directions of a ring stream, as bytes."""

    async def send(self, data: bytes) -> None:
        """Send bytes; waits for room."""

    async def receive(self) -> bytes | None:
        """Take the next bytes; None at the end."""


@dataclass(frozen=True, slots=True)
class Files:
    """What a stage loads, as in `Configure`. `release` gives the files back when the stage has ended."""

    shard_paths: tuple[Path, ...]
    total_bytes: int
    table_path: Path | None = None
    table_scale: float = 1.0
    output_name: str = "l_out"
    release: Callable[[], None] = lambda: None


class Prepare(Protocol):
    """Gets a stage's files onto this machine."""

    async def __call__(
        self, plan: RingPlan, index: int, *, sealed: Sealed, directory: Mapping[str, tuple[str, ...]], tell: OnProgress
    ) -> Files:
        """Fetch what is missing. Raises SwarmError."""


@dataclass(frozen=True, slots=True)
class HostServices:
    """What hosting needs of the rest of the node.

    `record` writes a ticket to the node's own ledger before anything runs; `refuse` work that was asked for without one
    that holds. `addresses` are those a stage listens on. `is_near`: whether an address ("host:port") of
    another stage is in this machine's own networks, or named by its owner. `barred` is told what a stage's egress guard
    refused, `MAX_BARRED` times for a stage at most; it does not wait.
    """

    node_id: str
    swarm_id: str
    is_signed: IsSigned
    record: Callable[[Sealed, Ticket], Awaitable[None]]
    refuse: Callable[[Sealed | None, SwarmError], Awaitable[None]]
    prepare: Prepare
    launch: Launch
    addresses: Callable[[], tuple[str, ...]]
    barred: Callable[[Barred], None]
    is_near: Callable[[str], bool] = lambda address: place_of(address) != "outside"
    gpu: bool = True
    crashes: CrashTable = field(default_factory=CrashTable)
    clock: Callable[[], float] = time.monotonic


class Host:
    """One ring stream. `run` it to its end."""

    def __init__(self, channel: Channel, services: HostServices) -> None:
        self._channel, self._services = channel, services
        self._nonce = secrets.token_hex(16)
        self._permits = Permits(
            node_id=services.node_id,
            swarm_id=services.swarm_id,
            nonce=self._nonce,
            is_signed=services.is_signed,
            clock=services.clock,
        )
        self._splitter = LineSplitter()
        self._lines: list[bytes] = []
        self._saying = asyncio.Lock()
        self._stage: StageProcess | None = None
        self._is_head = False
        self._n_barred = 0
        self._ending: list[tuple[float, str]] = []  # bounded by what may be admitted in `GRACE_S`

    async def run(self) -> None:
        """Serve the stream until it ends. What goes wrong is told to the coordinator; nothing is raised."""
        try:
            await self._say(Nonce(nonce=self._nonce))
            await self._serve()
        except SwarmError as exc:
            _log.info("a ring stream ends: %s", exc.message)
            await self._say_last(exc)
        except OSError as exc:
            _log.info("a ring stream was lost: %s", exc)

    async def _serve(self) -> None:
        order = await self._next_order(OPEN_S)
        if order is None:
            return
        if not isinstance(order, Open):
            raise ProtocolError("a ring stream begins with an opening order")
        try:
            ticket = self._permits.open(order.ticket)
        except TicketError as exc:
            await self._services.refuse(order.ticket, exc)
            raise
        await self._services.record(order.ticket, ticket)
        index = stage_of(ticket.plan, self._services.node_id)
        assert index is not None  # Permits refuses others
        self._is_head = index == len(ticket.plan.stages) - 1
        await _first(self._listen(), self._work(ticket.plan, index, order), self._expire())

    async def _listen(self) -> None:
        """Take the coordinator's orders until it ends the stream."""
        while (order := await self._next_order(SILENT_S)) is not None:
            match order:
                case Ping():
                    await self._say(Pong())
                case Join():
                    await self._ready_stage().tell(await asyncio.to_thread(self._near, order))
                case Admit(request_id=request_id):
                    await self._admit(request_id, order)
                case Generate(generation=generation):
                    await self._generate(generation.request_id, order)
                case Embed(embedding=embedding):
                    await self._generate(embedding.request_id, order)
                case Cancel(request_id=request_id):
                    if self._permits.dismiss(request_id):
                        await self._end_request(request_id)
                case _:
                    raise ProtocolError(f"an order {type(order).__name__} has no place on an open ring stream")

    def _near(self, order: Join) -> Join:
        """The order with those addresses of the following stage alone that hidden states may be sent to. They are the
        other node's word, and it may be reached over the internet too. In a thread: it lists the machine's networks."""
        following = order.following
        if following is None:
            return order
        found = [(host, str(Address(host, following.port))) for host in following.addresses]
        near = tuple(host for host, address in found if self._services.is_near(address))
        if not near:
            message = f"the stage on node {following.node_id} listens in none of the networks that this node is in"
            raise lost(following.node_id, message, "unreachable")
        return msgspec.structs.replace(order, following=msgspec.structs.replace(following, addresses=near))

    async def _admit(self, request_id: str, order: Admit) -> None:
        stage = self._ready_stage()
        try:
            ticket = self._permits.admit(request_id, order.ticket)
        except TicketError as exc:
            _log.warning("request %s is not admitted: %s", request_id, exc.message)
            await self._services.refuse(order.ticket, exc)
            await self._say(describe(exc, request_id=request_id))
            return
        assert order.ticket is not None
        self._ending = [(when, each) for when, each in self._ending if each != request_id]
        await self._services.record(order.ticket, ticket)
        await stage.tell(Admit(request_id=request_id))

    async def _generate(self, request_id: str, order: Generate | Embed) -> None:
        if not self._is_head:
            raise ProtocolError("only a ring's head generates")
        if self._permits.is_admitted(request_id):
            await self._ready_stage().tell(order)
        else:
            error = TicketError(f"request {request_id} has no valid ticket at this node")
            await self._services.refuse(None, error)
            await self._say(describe(error, request_id=request_id))

    async def _end_request(self, request_id: str) -> None:
        """The head ends a request at once; on other stages its rows may still be under way."""
        if self._is_head:
            await self._ready_stage().tell(Cancel(request_id=request_id))
        else:
            self._ending.append((self._services.clock() + GRACE_S, request_id))

    async def _work(self, plan: RingPlan, index: int, order: Open) -> None:
        """Get the pieces, run the stage, pass its reports on until it ends."""
        services = self._services
        key = (plan.model_digest, services.node_id)
        await asyncio.sleep(services.crashes.wait_s(*key, services.clock()))
        files = await self._fetch(plan, index, order)
        has_joined = False
        try:
            async with StageProcess(services.launch, node_id=services.node_id) as stage:
                await stage.tell(
                    Configure(
                        plan=plan,
                        index=index,
                        shard_paths=tuple(str(path) for path in files.shard_paths),
                        table_path=str(files.table_path) if files.table_path else None,
                        addresses=services.addresses(),
                        gpu=services.gpu,
                        output_name=files.output_name,
                        table_scale=files.table_scale,
                    )
                )
                limit_s = load_limit_s(files.total_bytes)
                ready = await self._carry(stage, until=Ready, limit_s=limit_s, doing="load its layers")
                self._stage = stage
                if ready:
                    await self._say(ready)
                    has_joined = await self._carry(stage, until=Joined, limit_s=JOIN_S, doing="join") is not None
                if has_joined:
                    await self._say(Joined())
                    await self._carry(stage, until=Nonce, limit_s=None, doing="")
        except StageError as exc:
            services.crashes.record(*key, services.clock(), exc.last_words)
            raise
        except asyncio.CancelledError:
            if has_joined:
                services.crashes.forgive(*key)
            raise
        finally:
            files.release()

    async def _carry(
        self, stage: StageProcess, *, until: type[AnyReport], limit_s: float | None, doing: str
    ) -> AnyReport | None:
        """Pass reports on until one of a kind, which is given back; None where the stage says that it ends itself."""
        try:
            async with asyncio.timeout(limit_s):
                while True:
                    report = await stage.hear()
                    if isinstance(report, Barred):
                        self._note_barred(report)
                        continue
                    if isinstance(report, until):
                        return report
                    await self._say(report)
                    if isinstance(report, Finished | Failed) and report.request_id is not None:
                        self._permits.dismiss(report.request_id)
                    elif isinstance(report, Failed):
                        return None
        except TimeoutError as exc:
            error = StageError(f"a stage did not {doing} in {limit_s:.0f} s", last_words=stage.last_words)
            error.lost_node_id = self._services.node_id
            raise error from exc

    def _note_barred(self, report: Barred) -> None:
        """For this node's own record: the coordinator is told nothing of it."""
        self._n_barred += 1
        if self._n_barred <= MAX_BARRED:
            self._services.barred(report)
        elif self._n_barred == MAX_BARRED + 1:
            _log.warning("a stage reports so many refused connections that no more are recorded")

    async def _fetch(self, plan: RingPlan, index: int, order: Open) -> Files:
        """Prepare the files, telling how far it is at most every beat."""
        latest: list[tuple[int, int]] = []

        def tell(done_bytes: int, total_bytes: int) -> None:
            latest[:] = [(done_bytes, total_bytes)]

        async def show() -> None:
            while True:
                await asyncio.sleep(EXPIRY_S)
                for done_bytes, total_bytes in latest:
                    await self._say(Progress(what="fetching pieces", done_bytes=done_bytes, total_bytes=total_bytes))
                latest.clear()

        files: list[Files] = []

        async def prepare() -> None:
            files.append(
                await self._services.prepare(plan, index, sealed=order.ticket, directory=order.directory, tell=tell)
            )

        await _first(prepare(), show())
        return files[0]

    async def _expire(self) -> None:
        """End what has no valid ticket any more."""
        while True:
            await asyncio.sleep(EXPIRY_S)
            now = self._services.clock()
            for request_id in self._permits.expired():
                await self._end_request(request_id)
            due = [request_id for when, request_id in self._ending if when <= now]
            self._ending = [(when, request_id) for when, request_id in self._ending if when > now]
            for request_id in due:
                await self._ready_stage().tell(Cancel(request_id=request_id))
            if self._permits.is_over:
                raise TicketError("the ring's tickets are over", code="ticket_expired", hint="Send the request again.")

    def _ready_stage(self) -> StageProcess:
        if self._stage is None:
            raise ProtocolError("an order for a stage that is not ready")
        return self._stage

    async def _next_order(self, limit_s: float) -> AnyOrder | None:
        while not self._lines:
            try:
                async with asyncio.timeout(limit_s):
                    data = await self._channel.receive()
            except TimeoutError as exc:
                raise RingError(f"the coordinator has been silent for {limit_s:.0f} s") from exc
            if data is None:
                return None
            self._lines = self._splitter.feed(data)
        return decode_order(self._lines.pop(0))

    async def _say(self, report: AnyReport) -> None:
        async with self._saying:
            try:
                async with asyncio.timeout(SAY_S):
                    await self._channel.send(encode_line(report))
            except TimeoutError as exc:
                raise RingError("the coordinator takes no reports") from exc

    async def _say_last(self, error: SwarmError) -> None:
        try:
            async with asyncio.timeout(SILENT_S):
                await self._say(describe(error, node_id=self._services.node_id))
        except (SwarmError, OSError, TimeoutError):
            _log.debug("the coordinator is gone and was not told")


async def _first(*works: Awaitable[None]) -> None:
    """Run several until one ends; end the others; raise what the first one raised."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in tasks:
        if task in done:
            task.result()
