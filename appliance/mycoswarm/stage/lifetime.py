"""What a stage does, from its first order to its end: load, listen, join, work. process.py gives it its pipes.

Configure ─▶ loads, Progress..., Ready ─▶ Join ─▶ Joined ─▶ Admit, Generate, Cancel ... until the ring ends
             Ping ─▶ Pong at any time: it shows that the event loop lives, beside the one thread that computes
"""

import asyncio
import contextlib
import gc
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from mycoswarm.base.egress import Guard
from mycoswarm.base.errors import ProtocolError, RingError, SetupError, SwarmError
from mycoswarm.catalog.table import Table
from mycoswarm.stage.clerk import Clerk
from mycoswarm.stage.engine import Engine
from mycoswarm.stage.equipment import equip
from mycoswarm.stage.failure import describe
from mycoswarm.stage.head import Head
from mycoswarm.stage.hop import Hops, Identity, Terms
from mycoswarm.stage.loop import Loop, Loopback
from mycoswarm.stage.pooled import PooledModel
from mycoswarm.stage.relay import Relay, Work
from mycoswarm.stage.worker import Worker
from mycoswarm.swarm.server import bind
from mycoswarm.swarm.tls import ephemeral_certificate
from mycoswarm.wire.order import Admit, AnyOrder, Cancel, Configure, Embed, Generate, Join, Ping
from mycoswarm.wire.report import Admitted, AnyReport, Joined, Pong, Progress, Ready
from mycoswarm.wire.request import Embedding, Generation

CONFIGURE_S = 30.0
JOIN_S = 3600.0  # the slowest stage of the ring may be fetching its pieces; losing the coordinator closes stdin anyway
PROGRESS_S = 0.5
BIND_TRIES = 8  # one port for all addresses: it may be taken on the second

Report = Callable[[AnyReport], None]
_Work = TypeVar("_Work", Generation, Embedding)


class Driver(Protocol):
    """What a stage does once it is joined: a relay, a head or a clerk."""

    def admit(self, request_id: str) -> None:
        """A request has a ticket."""

    def generate(self, generation: Generation) -> None:
        """Make an answer."""

    def cancel(self, request_id: str) -> None:
        """Stop working for a request."""

    async def run(self) -> None:
        """Work until the ring ends; raises RingError."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What loading gives."""

    engine: Engine | PooledModel
    table: Table | None
    load_s: float


class RelayDriver:
    """A stage that is not the head."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay

    def admit(self, request_id: str) -> None:
        """A request has a ticket."""
        self._relay.admit(request_id)

    def generate(self, generation: Generation) -> None:
        """
        Raises:
            ProtocolError: only heads generate.
        """
        raise ProtocolError(f"request {generation.request_id} was given to a stage that is not the head")

    def cancel(self, request_id: str) -> None:
        """The request's ticket is over."""
        self._relay.dismiss(request_id)

    async def run(self) -> None:
        """Work until the ring ends."""
        await self._relay.run()


class Stage:
    """One stage from its first order to its end."""

    def __init__(
        self, orders: "asyncio.Queue[AnyOrder | SwarmError]", report: Report, worker: Worker, *, guard: Guard
    ) -> None:
        self._orders, self._report, self._worker, self._guard = orders, report, worker, guard
        self._join: asyncio.Future[Join] = asyncio.get_running_loop().create_future()
        self._driver: Driver | None = None

    async def run(self) -> None:
        """Serve until the ring ends.

        Raises:
            SwarmError: why it ended.
        """
        try:
            async with asyncio.timeout(CONFIGURE_S):
                configure = await self._configured()
        except TimeoutError as exc:
            raise ProtocolError("a stage was not configured in time") from exc
        following = asyncio.create_task(self._follow())
        serving = asyncio.create_task(self._serve(configure))
        try:
            done, _ = await asyncio.wait((following, serving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (following, serving):
                task.cancel()
            await asyncio.gather(following, serving, return_exceptions=True)
        for task in done:
            task.result()

    async def _configured(self) -> Configure:
        while True:
            match await self._orders.get():
                case Configure() as configure:
                    return configure
                case Ping():
                    self._report(Pong())
                case SwarmError() as error:
                    raise error
                case _:
                    raise ProtocolError("a stage's first order configures it")

    async def _follow(self) -> None:
        """Take orders."""
        while True:
            match await self._orders.get():
                case Ping():
                    self._report(Pong())
                case Join() as join if not self._join.done():
                    self._join.set_result(join)
                case Admit(request_id=request_id):
                    self._ready_driver().admit(request_id)
                    self._report(Admitted(request_id=request_id))
                case Generate(generation=generation):
                    self._begin(self._ready_driver().generate, generation)
                case Embed(embedding=embedding):
                    self._begin(self._clerk().embed, embedding)
                case Cancel(request_id=request_id):
                    self._ready_driver().cancel(request_id)
                case SwarmError() as error:
                    raise error
                case order:
                    raise ProtocolError(f"an order {type(order).__name__} came out of place")

    def _begin(self, begin: Callable[[_Work], None], work: _Work) -> None:
        try:
            begin(work)
        except RingError:
            raise
        except SwarmError as exc:
            self._report(describe(exc, request_id=work.request_id))

    def _clerk(self) -> Clerk:
        driver = self._ready_driver()
        if not isinstance(driver, Clerk):
            raise ProtocolError("texts to embed were given to a ring that does not embed")
        return driver

    def _ready_driver(self) -> Driver:
        if self._driver is None:
            raise ProtocolError("an order came before the stage had joined its ring")
        return self._driver

    async def _serve(self, configure: Configure) -> None:
        """Load, listen, join, work."""
        plan = configure.plan
        node_id = plan.stages[configure.index].node_id
        loaded = await self._load(configure)
        gc.freeze()  # what is loaded stays: no later collection has to walk over it in the middle of a step
        certificate_pem, key_pem = ephemeral_certificate(f"stage-{configure.index}")
        is_alone = len(plan.stages) == 1
        listeners, hosts = ((), ()) if is_alone else _listen(configure.addresses)
        self._report(
            Ready(
                certificate_pem=certificate_pem,
                addresses=tuple(host.partition("%")[0] for host in hosts),
                port=0 if is_alone else int(listeners[0].getsockname()[1]),
                devices=tuple(dict.fromkeys(loaded.engine.layer_devices)),
                layer_devices=loaded.engine.layer_devices,
                load_s=loaded.load_s,
            )
        )
        try:
            async with asyncio.timeout(JOIN_S):
                join = await self._join
        except TimeoutError as exc:
            raise RingError("the ring was not joined in time") from exc
        if is_alone:
            await self._drive(configure, loaded, Loopback())
            return
        if join.previous is None or join.following is None:
            raise ProtocolError("a ring of several stages was joined without neighbours")
        terms = Terms(
            ring_id=plan.ring_id,
            model_digest=plan.model_digest,
            n_embd=loaded.engine.n_embd,
            n_ubatch=plan.conditions.n_ubatch,
            n_seq_max=plan.conditions.n_seq_max,
            laps=configure.index,
        )
        hops = Hops(
            terms,
            node_id=node_id,
            identity=Identity(certificate_pem, key_pem),
            listeners=listeners,
            previous=join.previous,
            following=join.following,
            opening=self._guard.opening(f"the stage after this one, on node {join.following.node_id}"),
        )
        async with hops:
            try:
                await self._drive(configure, loaded, hops)
            except RingError as exc:
                hops.fail(exc)
                raise

    async def _drive(self, configure: Configure, loaded: Loaded, loop: Loop) -> None:
        self._driver = self._make_driver(configure, loaded, loop)
        self._report(Joined())
        await self._driver.run()

    def _make_driver(self, configure: Configure, loaded: Loaded, loop: Loop) -> Driver:
        plan = configure.plan
        if isinstance(loaded.engine, PooledModel):
            return Clerk(loaded.engine, self._worker, self._report)
        if configure.index == len(plan.stages) - 1:
            equipment = equip(loaded.engine, self._worker)
            return Head(equipment, loop, plan.conditions, n_stages=len(plan.stages), report=self._report)
        return RelayDriver(Relay(Work(loaded.engine, loaded.table, self._worker), loop))

    async def _load(self, configure: Configure) -> Loaded:
        loop = asyncio.get_running_loop()
        total = sum(await asyncio.to_thread(_sizes, configure))
        shown_s = 0.0

        def tell(share: float) -> None:
            """In the worker thread, often."""
            nonlocal shown_s
            now = time.monotonic()
            if now - shown_s >= PROGRESS_S:
                shown_s = now
                progress = Progress(what="loading layers", done_bytes=int(share * total), total_bytes=total)
                loop.call_soon_threadsafe(self._report, progress)

        return await loop.run_in_executor(self._worker, _load, configure, tell)


def _load(configure: Configure, tell: Callable[[float], None]) -> Loaded:
    """In the worker thread: load the layers, and the first stage's table."""
    plan = configure.plan
    stage, is_alone = plan.stages[configure.index], len(plan.stages) == 1
    started = time.monotonic()
    paths = [Path(path) for path in configure.shard_paths]
    if plan.conditions.pooling is not None:
        pooled = PooledModel.open(paths, plan.conditions, n_layer=plan.n_layer, gpu=configure.gpu, on_progress=tell)
        return Loaded(pooled, None, time.monotonic() - started)
    table = None
    if configure.index == 0 and not is_alone:
        if configure.table_path is None:
            raise ProtocolError("the first stage was given no token table")
        table = Table.open(Path(configure.table_path), configure.table_scale)
    engine = Engine.open(
        paths,
        plan.conditions,
        n_layer=stage.last - stage.first,
        is_head=configure.index == len(plan.stages) - 1,
        feeds_tokens=is_alone,
        gpu=configure.gpu,
        output_name=configure.output_name,
        on_progress=tell,
    )
    return Loaded(engine, table, time.monotonic() - started)


def _sizes(configure: Configure) -> list[int]:
    """Bytes of the files; what is missing, loading says better."""
    sizes = []
    for path in configure.shard_paths:
        with contextlib.suppress(OSError):
            sizes.append(Path(path).stat().st_size)
    return sizes


def _listen(hosts: tuple[str, ...]) -> tuple[tuple[socket.socket, ...], tuple[str, ...]]:
    """Listen at one free port on all addresses that can be listened on; gives these too. One is enough."""
    for _ in range(BIND_TRIES):
        sockets: list[socket.socket] = []
        used: list[str] = []
        refusal: SetupError | None = None
        for host in hosts:
            try:
                sockets += bind((host,), sockets[0].getsockname()[1] if sockets else 0)
                used.append(host)
            except SetupError as exc:
                refusal = exc
                if exc.code == "port_in_use":
                    break
        if sockets and (refusal is None or refusal.code != "port_in_use"):
            return tuple(sockets), tuple(used)
        for listener in sockets:
            listener.close()
    raise refusal or SetupError("a stage was given no address to listen on")
