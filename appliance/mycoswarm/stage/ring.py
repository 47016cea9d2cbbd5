"""The coordinator's side of a ring: open one stage on each node of a plan, have answers made, close it all again.

One stream to each node, JSON lines both ways (wire/order.py, wire/report.py). The coordinator signs a ticket for each
node when the ring opens and for each request; the nodes check them for themselves (stage/host.py).

A ring is lost as a whole: a stream that ends, a node silent for 2 s, or a stage that reports trouble ends it for every
request on it, at once, with an error that names the lost node. Neighbours often notice before the lost node's own
daemon has told why: then its own words are waited for, a moment.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
from typing import Any, Self

from mycoswarm.base.errors import InputError, ProtocolError, RingError, SwarmError
from mycoswarm.stage.failure import lost, revive
from mycoswarm.stage.hearsay import Hearsay, raise_in
from mycoswarm.stage.seat import Connect, Grant, Seal, Seat
from mycoswarm.wire.order import Admit, Cancel, Embed, Generate, Join, Neighbour, Open
from mycoswarm.wire.plan import RingPlan, plan_fault
from mycoswarm.wire.report import (
    Admitted,
    AnyReport,
    Failed,
    Finished,
    Joined,
    Piece,
    Progress,
    Ready,
    Vector,
)
from mycoswarm.wire.request import Embedding, Work
from mycoswarm.wire.ticket import Warrant

SILENT_S = 2.0  # DESIGN 7
ADMIT_S = 10.0  # each node writes the ticket to its ledger first
STALL_S = 180.0  # a node that loads says how far it is; nothing new for so long is an error
JOIN_S = 30.0  # a little more than what the stages give themselves
CLOSE_S = 7.0  # a node ends its stage within 6 s, by force if need be
WORDS_S = 0.25  # for the lost node's own words
WATCH_S = 0.25
MAX_LAG_S = 1.0  # this process itself slept: no node can be blamed for that silence
RING_LIFETIME_S = 3600.0  # of the opening ticket; every request's ticket extends the ring's life to its own
REQUEST_LIFETIME_S = 1800.0  # half an hour for one answer

TellProgress = Callable[[str, Progress], None]

_log = logging.getLogger(__name__)


class Ring:
    """An open ring. Leave it by `close`, or use it as an async context manager: `async with await Ring.open(...)`."""

    def __init__(self, plan: RingPlan, *, swarm_id: str, seal: Seal, tell: TellProgress | None = None) -> None:
        """Not for callers: use `open`."""
        self.plan = plan
        self._swarm_id, self._tell = swarm_id, tell
        self._seats = {stage.node_id: Seat(stage.node_id, seal) for stage in plan.stages}
        self._ready: dict[str, asyncio.Future[Ready]] = {}
        self._joined: dict[str, asyncio.Future[None]] = {}
        self._moved_s = 0.0  # when some node last said how far it is
        self._requests: dict[str, Hearsay] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._readers: dict[str, asyncio.Task[None]] = {}
        self._silent: set[str] = set()  # nodes that will not say either when their stage is gone
        self._error: SwarmError | None = None
        self._suspicion: asyncio.TimerHandle | None = None
        self._is_closing = False

    @classmethod
    async def open(
        cls,
        plan: RingPlan,
        *,
        connect: Connect,
        seal: Seal,
        swarm_id: str,
        warrant: Warrant,
        directory: Mapping[str, Sequence[str]],
        request_id: str | None = None,
        lifetime_s: float = RING_LIFETIME_S,
        tell: TellProgress | None = None,
    ) -> Self:
        """Open a stage on each node and join them.

        `connect` dials a node by id; the ring owns that connection and closes it. `seal` signs. `directory`: addresses
        of peer listeners by node id, for the fetching of pieces. `tell` hears how far each node is.

        Raises:
            RingError: a node was lost or a stage failed; `lost_node_id` names it.
            SwarmError: what a node reported: BusyError, ModelError, TicketError ...
        """
        if fault := plan_fault(plan):
            raise InputError(f"this ring cannot be: {fault}")
        ring = cls(plan, swarm_id=swarm_id, seal=seal, tell=tell)
        try:
            await ring._connect(connect)
            await ring._load(Grant(swarm_id, plan, warrant, lifetime_s, request_id), directory)
            await ring._join()
        except BaseException:
            await ring.close()
            raise
        return ring

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    @property
    def lost(self) -> RingError | None:
        """Why the ring broke, or None while it works."""
        if self._error is None or isinstance(self._error, RingError):
            return self._error
        return RingError(self._error.message, hint=self._error.hint, code=self._error.code)

    async def generate(
        self, work: Work, warrant: Warrant, lifetime_s: float = REQUEST_LIFETIME_S
    ) -> AsyncGenerator[AnyReport, None]:
        """Have one answer made: `Piece`s, or a `Vector` for each text, then `Finished`. Closing the iterator early
        cancels on every stage.

        Several may run at once. Close the iterator (`contextlib.aclosing`), as leaving it open leaves it running.

        Raises:
            RingError: the ring was lost; `lost_node_id` names the node.
            BusyError: the head's queue is full.
            SwarmError: what the head or a node said against this request.
        """
        request_id = work.request_id
        if self._error is not None:
            raise self._error
        if request_id in self._requests:
            raise InputError(f"request {request_id} is already running")
        request = self._requests[request_id] = Hearsay(work, self.plan)
        is_over = False
        try:
            await self._admit(request_id, request, Grant(self._swarm_id, self.plan, warrant, lifetime_s, request_id))
            await self._seats[self.plan.head.node_id].tell(
                Embed(embedding=work) if isinstance(work, Embedding) else Generate(generation=work)
            )
            while not is_over:
                async with asyncio.timeout(lifetime_s + ADMIT_S):
                    report = await request.news.get()
                if isinstance(report, SwarmError):
                    is_over = True
                    raise report
                is_over = isinstance(report, Finished)
                yield report
        except TimeoutError as exc:
            raise RingError(f"request {request_id} took longer than {lifetime_s:.0f} s") from exc
        finally:
            del self._requests[request_id]
            if self._error is None:
                self._start(self._dismiss(request_id))

    async def close(self) -> None:
        """End the ring on every node; returns when the stages are gone, but for those of nodes that are silent.

        Requests that still run get an error.
        """
        if not self._is_closing:
            self._is_closing = True
            self._fail(lost(self.plan.head.node_id, "the ring was closed", "ring_closed"))
        if self._suspicion is not None:
            self._suspicion.cancel()
        for seat in self._seats.values():
            await seat.end()
        ending = [task for node_id, task in self._readers.items() if node_id not in self._silent]
        if ending:
            await asyncio.wait(ending, timeout=CLOSE_S)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(seat.close() for seat in self._seats.values()))

    async def _connect(self, connect: Connect) -> None:
        loop = asyncio.get_running_loop()
        self._ready = {node_id: loop.create_future() for node_id in self._seats}
        self._joined = {node_id: loop.create_future() for node_id in self._seats}
        await _all(seat.connect(connect) for seat in self._seats.values())
        for seat in self._seats.values():
            self._readers[seat.node_id] = self._start(self._follow(seat, seat.read(self._take)))

    async def _load(self, grant: Grant, directory: Mapping[str, Sequence[str]]) -> None:
        shown = {node_id: tuple(addresses) for node_id, addresses in directory.items()}
        for seat in self._seats.values():
            await seat.grant(grant, lambda sealed: Open(ticket=sealed, directory=shown))
            self._start(self._follow(seat, seat.beat()))
        loop = asyncio.get_running_loop()
        self._moved_s = loop.time()
        self._start(self._watch())
        pending = set(self._ready.values())
        while pending:
            done, pending = await asyncio.wait(pending, timeout=1.0, return_when=asyncio.FIRST_EXCEPTION)
            for future in done:
                future.result()
            if loop.time() - self._moved_s > STALL_S:
                late = [node_id for node_id, future in self._ready.items() if not future.done()]
                raise lost(late[0], f"node {late[0]} did not load its layers: nothing new for {STALL_S:.0f} s")

    async def _join(self) -> None:
        stages = self.plan.stages
        ring_of_one = len(stages) == 1
        for index, stage in enumerate(stages):
            previous, following = stages[index - 1].node_id, stages[(index + 1) % len(stages)].node_id
            await self._seats[stage.node_id].tell(
                Join(
                    previous=None if ring_of_one else self._neighbour(previous),
                    following=None if ring_of_one else self._neighbour(following),
                )
            )
        try:
            async with asyncio.timeout(JOIN_S):
                await asyncio.gather(*self._joined.values())
        except TimeoutError as exc:
            late = next(node_id for node_id, future in self._joined.items() if not future.done())
            raise lost(late, f"node {late} did not join the ring in {JOIN_S:.0f} s") from exc

    def _neighbour(self, node_id: str) -> Neighbour:
        ready = self._ready[node_id].result()
        return Neighbour(
            node_id=node_id, certificate_pem=ready.certificate_pem, addresses=ready.addresses, port=ready.port
        )

    async def _admit(self, request_id: str, request: Hearsay, grant: Grant) -> None:
        """Show every node a ticket for the request, and wait until all have taken it."""
        loop = asyncio.get_running_loop()
        request.admitted = {node_id: loop.create_future() for node_id in self._seats}
        try:
            async with asyncio.timeout(ADMIT_S):
                for seat in self._seats.values():
                    await seat.grant(grant, lambda sealed: Admit(request_id=request_id, ticket=sealed))
                await asyncio.gather(*request.admitted.values())
        except TimeoutError as exc:
            late = next(node_id for node_id, future in request.admitted.items() if not future.done())
            raise lost(late, f"node {late} did not admit a request in {ADMIT_S:.0f} s") from exc
        finally:
            for future in request.admitted.values():
                _drop(future)

    async def _dismiss(self, request_id: str) -> None:
        """The request is over: the head stops where it still works, and every node forgets its ticket."""
        try:
            for seat in reversed(self._seats.values()):
                await seat.tell(Cancel(request_id=request_id))
        except RingError as exc:
            _log.debug("request %s ended with its ring: %s", request_id, exc.message)

    def _take(self, seat: Seat, report: AnyReport) -> None:
        """One report of one node."""
        match report:
            case Progress():
                self._moved_s = asyncio.get_running_loop().time()
                if self._tell is not None:
                    self._tell(seat.node_id, report)
            case Ready():
                self._moved_s = asyncio.get_running_loop().time()
                _set(self._ready[seat.node_id], report)
            case Joined():
                _set(self._joined[seat.node_id], None)
            case Admitted(request_id=request_id):
                if (request := self._requests.get(request_id)) and seat.node_id in request.admitted:
                    _set(request.admitted[seat.node_id], None)
            case Failed(request_id=None):
                seat.has_failed = True
                self._suspect(seat, revive(report))
            case Failed(request_id=str(request_id)):
                self._fail_request(seat, request_id, revive(report))
            case Piece(request_id=request_id) | Vector(request_id=request_id) | Finished(request_id=request_id):
                if seat.node_id != self.plan.head.node_id:
                    raise ProtocolError(f"node {seat.node_id} is no head and has nothing to say about an answer")
                if request := self._requests.get(request_id):
                    request.hear(report)
            case _:
                raise ProtocolError(f"a report {type(report).__name__} has no place here")

    def _fail_request(self, seat: Seat, request_id: str, error: SwarmError) -> None:
        """A node says that a request failed; where that is because the ring is lost, it ends for that reason."""
        request = self._requests.get(request_id)
        if isinstance(error, RingError) and error.lost_node_id is not None:
            self._suspect(seat, error)
        elif request is not None:
            request.fail(error)

    async def _follow(self, seat: Seat, work: Coroutine[Any, Any, None]) -> None:
        """Run a task of one seat; what it raises is the ring's loss."""
        try:
            await work
        except SwarmError as exc:
            if isinstance(exc, RingError) and exc.lost_node_id is None:
                exc.lost_node_id = seat.node_id
            if not seat.has_failed:
                self._fail(exc)
        except Exception as exc:
            _log.exception("the stream to node %s cannot be followed", seat.node_id)
            self._fail(lost(seat.node_id, f"the stream to node {seat.node_id} cannot be followed: {exc}"))

    async def _watch(self) -> None:
        """Notice a node that is silent: frozen, or behind a cable that was pulled."""
        clock = asyncio.get_running_loop().time
        before = clock()
        while self._error is None:
            await asyncio.sleep(WATCH_S)
            now = clock()
            for seat in self._seats.values():
                if now - before > MAX_LAG_S:
                    seat.heard_s = now
                if now - seat.heard_s > SILENT_S:
                    self._silent.add(seat.node_id)
                    message = f"node {seat.node_id} has been silent for {SILENT_S:.0f} s"
                    self._fail(lost(seat.node_id, message, "node_silent"))
            before = now

    def _suspect(self, seat: Seat, error: SwarmError) -> None:
        """A node says that the ring is lost. Where it blames another, that one may tell more in a moment."""
        blamed = error.lost_node_id if isinstance(error, RingError) else seat.node_id
        if blamed in (None, seat.node_id) or blamed not in self._seats or self._seats[blamed].has_failed:
            self._fail(error)
        elif self._suspicion is None:
            self._suspicion = asyncio.get_running_loop().call_later(WORDS_S, self._fail, error)

    def _fail(self, error: SwarmError) -> None:
        """The ring is lost: the first cause stays, and all who wait get it."""
        if self._error is not None:
            return
        self._error = error
        if not self._is_closing:
            _log.warning("ring %s is lost: %s", self.plan.ring_id, error.message)
        for waiting in (self._ready, self._joined):
            for future in waiting.values():
                raise_in(future, error)
        for request in self._requests.values():
            request.fail(error)

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


async def _all(works: Any) -> None:
    """Run all to their end; raise the first error only then, so that nothing goes on behind."""
    results = await asyncio.gather(*works, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result


def _set(future: "asyncio.Future[Any]", value: object) -> None:
    if not future.done():
        future.set_result(value)


def _drop(future: "asyncio.Future[Any]") -> None:
    if not future.cancel() and not future.cancelled():
        future.exception()
