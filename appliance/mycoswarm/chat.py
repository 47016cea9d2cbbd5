"""Layer 5: the life of one request: decide, borrow the ring, stream, decide again when a node is lost."""

import asyncio
import contextlib
import logging
import math
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

from mycoswarm.base.errors import (
    BusyError,
    CapacityError,
    CaptureError,
    NotFoundError,
    ProtocolError,
    RefusedError,
    RingError,
    SplitError,
    StageError,
    StorageError,
    SwarmError,
    UnreachableError,
)
from mycoswarm.catalog.facts import ModelFacts
from mycoswarm.routing.decision import Decision, Outcome, Refusal, decide
from mycoswarm.routing.placement import Load, usable_bytes
from mycoswarm.routing.rule import RuleSet
from mycoswarm.routing.snapshot import Asked, Narrowing, SwarmState
from mycoswarm.stage.pool import RingPool, shape_of
from mycoswarm.store.record import Answer
from mycoswarm.wire.plan import Conditions, RingPlan, StagePlan
from mycoswarm.wire.report import Finished, Piece
from mycoswarm.wire.request import Generation, Prompt, Sampling

MAX_AT_ONCE = 64  # the most that a ring takes, and more than a household asks
MAX_TRIES = 4  # a request survives the loss of three nodes; more than that is not bad luck
F32_BYTES = 4
BUFFER_ROWS = 24  # activations of n_embd floats that llama.cpp's graph holds per token, measured with margin

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One request, checked at the edge. `characters` counts the prompt's text."""

    request_id: str
    model: str
    task: str
    prompt: Prompt
    sampling: Sampling
    narrowing: Narrowing = field(default_factory=Narrowing)
    key_name: str | None = None
    characters: int = 0


@dataclass(frozen=True, slots=True)
class Decided:
    """Where the answer is being produced. Comes again when a node was lost and the rules were asked again."""

    decision: Decision
    plan: RingPlan
    attempt: int


Event = Decided | Piece | Finished


class Models(Protocol):
    """Which models the swarm holds."""

    def find(self, reference: str) -> ModelFacts:
        """The facts of a model by name or digest prefix; NotFoundError where no node holds it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a chat needs from outside. `swarm` gives the state for a model's digest, with the rings of `RingPool.warm`,
    and the bytes of `RingPool.returning` counted as free.

    `conditions` gives the ring's conditions for these facts and node ids. `note` keeps an answer's row.
    `grade` is told how a finished answer really ran.
    """

    swarm: Callable[[str], SwarmState]
    models: Models
    rules: Callable[[], RuleSet]
    conditions: Callable[[ModelFacts, tuple[str, ...]], Conditions]
    note: Callable[[Answer], None]
    grade: Callable[[RingPlan, ModelFacts, Finished], None]
    new_id: Callable[[], str]
    wall_clock: Callable[[], float]
    request_s: float


class Chat:
    """Answers requests, up to `MAX_AT_ONCE` at once; each one's errors are its own."""

    def __init__(self, surroundings: Surroundings, rings: RingPool) -> None:
        self._around, self._rings = surroundings, rings
        self._running: set[asyncio.Task[None]] = set()
        self._durations_s: deque[float] = deque(maxlen=32)

    def explain(self, job: Job) -> tuple[Outcome, ModelFacts]:
        """Decide without doing anything: the same function that a real request runs.

        Raises:
            NotFoundError: no node holds such a model.
        """
        facts = self._around.models.find(job.model)
        return decide(*self._question(job, facts, job.narrowing), explain=True), facts

    async def answer(self, job: Job) -> AsyncGenerator[Event, None]:
        """Produce one answer. Closing the generator cancels the work on every stage and waits until that is done.

        The work is a task of its own, so the generator may be advanced from any task, and a slow reader holds no ring.

        Raises:
            BusyError: too many answers are being produced already.
            SwarmError: typed and final; what was streamed before it stays true.
        """
        facts = self._around.models.find(job.model)
        if len(self._running) >= MAX_AT_ONCE:
            raise BusyError(f"{MAX_AT_ONCE} requests are being answered", retry_after_s=self._retry_after_s())
        record = _Record(job, facts, time.monotonic())
        # Without a bound: an answer is no longer than the model's context.
        events: asyncio.Queue[Event | None] = asyncio.Queue()
        work = asyncio.create_task(self._work(record, events), name=f"request {job.request_id}")
        self._running.add(work)
        work.add_done_callback(self._running.discard)
        try:
            while (event := await events.get()) is not None:
                yield event
            await work
        finally:
            work.cancel()
            await asyncio.wait({work})
            if not work.cancelled():
                work.exception()  # a client that left has no ears for it; the ledger has the code

    async def _work(self, record: "_Record", events: "asyncio.Queue[Event | None]") -> None:
        """Produce the whole answer into `events`, None at its end, and its row in the ledger, whatever happens."""
        try:
            async with asyncio.timeout(self._around.request_s) as limit:
                await self._try_rings(record, events.put_nowait)
        except TimeoutError as exc:
            if not limit.expired():
                raise
            record.outcome = "timeout"
            raise UnreachableError(
                f"the answer took longer than {self._around.request_s:g} s",
                hint="Ask for fewer tokens, or raise `request_s` in the settings.",
                code="timeout",
            ) from exc
        except asyncio.CancelledError:
            record.outcome = record.outcome or "cancelled"
            raise
        except SwarmError as error:
            record.outcome = error.code
            raise
        finally:
            try:
                await self._note(record)
            finally:
                self._durations_s.append(time.monotonic() - record.started_s)
                events.put_nowait(None)

    async def _try_rings(self, record: "_Record", tell: Callable[[Event], None]) -> None:
        narrowing, loss = record.job.narrowing, None
        for attempt in range(1, MAX_TRIES + 1):
            # In a thread: cutting a large model over eight nodes takes a Raspberry Pi half a second.
            decision = await asyncio.to_thread(decide, *self._question(record.job, record.facts, narrowing))
            record.rule = decision.explanation.rule or ""
            if not isinstance(decision, Decision):
                assert isinstance(decision, Refusal)
                raise refused(decision) if loss is None else nobody_left(loss, decision)
            plan = self._plan(decision, record.facts)
            record.nodes += shape_of(plan)
            tell(Decided(decision, plan, attempt))
            try:
                await self._stream(record, decision, plan, tell)
                return
            except RingError as error:
                speak_of_names(error, decision)
                if attempt == MAX_TRIES or not may_try_again(error):
                    raise
                log.warning("request %s: %s; deciding again", record.job.request_id, error.message)
                loss = error
                if error.lost_node_id:
                    narrowing = replace(narrowing, without=narrowing.without | {error.lost_node_id})

    async def _stream(
        self, record: "_Record", decision: Decision, plan: RingPlan, tell: Callable[[Event], None]
    ) -> None:
        """One try: borrow the ring and go on after the tokens that earlier tries have produced."""
        job, shares = record.job, decision.placed.shares
        lent = self._rings.lend(
            plan,
            node_bytes=stage_bytes(load_of(record.facts, plan.conditions), plan),
            room={share.node.node_id: usable_bytes(share.node) or 0 for share in shares},
            rule=decision.rule,
            request_id=job.request_id,
        )
        generation = Generation(
            request_id=job.request_id, prompt=job.prompt, sampling=job.sampling, continued=tuple(record.tokens)
        )
        async with (
            lent as ring,
            contextlib.aclosing(ring.generate(generation, decision.rule, self._around.request_s)) as reports,
        ):
            async for report in reports:
                if isinstance(report, Piece):
                    record.tokens += report.token_ids
                    tell(report)
                elif isinstance(report, Finished):
                    record.outcome, record.prompt_tokens = report.reason, report.prompt_tokens
                    self._around.grade(plan, record.facts, report)
                    tell(report)
                    return
        raise RingError("the ring ended its answer without saying why")

    def _question(self, job: Job, facts: ModelFacts, narrowing: Narrowing) -> tuple[Asked, Load, RuleSet, SwarmState]:
        """All that `decide` looks at, as it is now."""
        swarm = self._around.swarm(facts.digest)
        ids = tuple(node.node_id for node in swarm.nodes)
        asked = Asked(
            model=facts.name,
            model_digest=facts.digest,
            task="chat" if job.task == "chat" else "completion",
            prompt_characters=job.characters,
            narrowing=narrowing,
            key_name=job.key_name,
        )
        return asked, load_of(facts, self._around.conditions(facts, ids)), self._around.rules(), swarm

    def _plan(self, decision: Decision, facts: ModelFacts) -> RingPlan:
        """The plan of a decision: that of the warm ring where there is one of this shape."""
        shape = tuple((share.node.node_id, share.first, share.last) for share in decision.placed.shares)
        for ring in self._rings.warm():
            if ring.plan.model_digest == facts.digest and ring.shape == shape:
                return ring.plan
        return RingPlan(
            ring_id=self._around.new_id(),
            model_digest=facts.digest,
            n_layer=facts.n_layer,
            holder_id=decision.holder_id,
            stages=tuple(StagePlan(node_id=node_id, first=first, last=last) for node_id, first, last in shape),
            conditions=self._around.conditions(facts, tuple(node_id for node_id, _, _ in shape)),
        )

    def _retry_after_s(self) -> int:
        """About when the next answer ends: answers lately took so long, and so many are under way."""
        usual_s = sum(self._durations_s) / len(self._durations_s) if self._durations_s else self._around.request_s / 2
        return max(1, math.ceil(usual_s / MAX_AT_ONCE))

    async def _note(self, record: "_Record") -> None:
        """Write the row to its end, also while being cancelled: it takes milliseconds."""
        writing = asyncio.create_task(asyncio.to_thread(self._write, record.answer(self._around.wall_clock())))
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            await asyncio.wait({writing})
            raise

    def _write(self, row: Answer) -> None:
        try:
            self._around.note(row)
        except StorageError as error:
            log.error("the ledger could not keep request %s: %s", row.request_id, error.message)


@dataclass(slots=True)
class _Record:
    """What is known of a request so far; becomes its row in the ledger. `nodes` are those of every try, in order."""

    job: Job
    facts: ModelFacts
    started_s: float
    rule: str = ""
    nodes: tuple[tuple[str, int, int], ...] = ()
    tokens: list[int] = field(default_factory=list)
    prompt_tokens: int = 0
    outcome: str = ""

    def answer(self, now: float) -> Answer:
        return Answer(
            request_id=self.job.request_id,
            at=now,
            key_name=self.job.key_name,
            model=self.facts.name,
            model_digest=self.facts.digest,
            rule=self.rule,
            nodes=self.nodes,
            outcome=self.outcome or "internal_error",
            prompt_tokens=self.prompt_tokens,
            completion_tokens=len(self.tokens),
            seconds=time.monotonic() - self.started_s,
        )


def may_try_again(error: RingError) -> bool:
    """Whether another ring could do what this one could not: a lost node or a dead process, not a bug of ours."""
    if isinstance(error, CaptureError | ProtocolError) or error.code == "ring_closed":
        return False
    return error.lost_node_id is not None or error.code in (RingError.code, StageError.code)


def speak_of_names(error: RingError, decision: Decision) -> None:
    """Let an error name nodes as their owner does."""
    text = error.message
    for share in decision.placed.shares:
        text = text.replace(share.node.node_id, share.node.name)
    error.args = (text,)


def nobody_left(loss: RingError, refusal: Refusal) -> RingError:
    """The typed error of an answer that no allowed node can carry on."""
    error = RingError(f"{loss.message}; nothing that is allowed can go on: {refusal.message}", hint=loss.hint)
    error.code, error.lost_node_id = loss.code, loss.lost_node_id
    return error


def refused(refusal: Refusal) -> SwarmError:
    """The typed error of a refusal."""
    if refusal.code == "out_of_memory":
        return CapacityError(refusal.message)
    if refusal.code == "cannot_split":
        return SplitError(refusal.message)
    if refusal.code == "not_found":
        return NotFoundError(refusal.message)
    return RefusedError(refusal.message)


def load_of(facts: ModelFacts, conditions: Conditions) -> Load:
    """What the model costs under these conditions. Compute buffers are estimated: `BUFFER_ROWS` rows of n_embd floats
    per token of a step, and attention scores of one step over the whole context for n_embd / 64 heads."""
    c = conditions
    scores = c.n_ubatch * c.n_ctx * max(1, facts.n_embd // 64) * F32_BYTES
    return Load(
        layer_bytes=facts.layer_bytes,
        kv_bytes=tuple(per_token * c.n_ctx for per_token in facts.kv_bytes_per_token),
        output_bytes=facts.output_bytes,
        head_bytes=facts.output_bytes + c.n_ubatch * facts.n_vocab * F32_BYTES,
        buffer_bytes=c.n_ubatch * facts.n_embd * BUFFER_ROWS * F32_BYTES + scores,
        cuts=facts.cuts,
    )


def stage_bytes(load: Load, plan: RingPlan) -> dict[str, int]:
    """What each node of a plan is reckoned to give, in bytes."""
    taken = {}
    for stage in plan.stages:
        held = sum(load.layer_bytes[stage.first : stage.last]) + sum(load.kv_bytes[stage.first : stage.last])
        taken[stage.node_id] = held + load.buffer_bytes + (load.head_bytes if stage.last == plan.n_layer else 0)
    return taken
