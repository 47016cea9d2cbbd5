"""The life of one request: decide, note it, do it, stream the answer; decide again when a node is lost; note the end.

The rules are asked before each try, so an answer goes on only where they allow it. What has been streamed stays: a
request continues after the last token, never with another model, and never at an endpoint, which could not go on there.
"""

import asyncio
import contextlib
import logging
import math
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from mycoswarm.base.errors import (
    BusyError,
    EndpointError,
    NotFoundError,
    RingError,
    StorageError,
    SwarmError,
    UnreachableError,
)
from mycoswarm.catalog.facts import ModelFacts
from mycoswarm.chat.account import Account, decision_row, warrant_of
from mycoswarm.chat.consent import Approvals, Plea
from mycoswarm.chat.failing import is_endpoint_lost, may_try_again, nobody_left, refused, speak_of_names
from mycoswarm.chat.hearing import Hearing
from mycoswarm.chat.job import Decided, Event, Job
from mycoswarm.chat.load import load_of, stage_bytes
from mycoswarm.external.errand import Reached
from mycoswarm.routing.decision import Decision, Dispatch, Outcome, Refusal, decide
from mycoswarm.routing.placement import Load, usable_bytes
from mycoswarm.routing.rule import RuleSet
from mycoswarm.routing.snapshot import Asked, Narrowing, SwarmState
from mycoswarm.stage.pool import Opening, RingPool
from mycoswarm.store.record import ANSWER, DECISION
from mycoswarm.swarm.place import PLACES
from mycoswarm.wire.plan import Conditions, RingPlan, StagePlan
from mycoswarm.wire.report import Finished, Piece
from mycoswarm.wire.request import Generation
from mycoswarm.wire.tool import ToolCall

MAX_AT_ONCE = 64  # the most that a ring takes, and more than a household asks
MAX_TRIES = 4  # a request survives the loss of three nodes; more than that is not bad luck

log = logging.getLogger(__name__)

Tell = Callable[[Event], None]
Question = tuple[Asked, Load | None, RuleSet, SwarmState]


class Models(Protocol):
    """Which models the swarm holds."""

    def find(self, reference: str) -> ModelFacts:
        """The facts of a model by name or digest prefix; NotFoundError where no node holds it."""


class Relay(Protocol):
    """Has an endpoint answer; the errand of external/errand.py."""

    def __call__(self, dispatch: Dispatch, job: Job) -> AsyncGenerator[Reached | Piece | ToolCall | Finished, None]:
        """`Reached` before the prompt is sent, then `Piece`s and calls, last `Finished`. Raises SwarmError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a chat needs from outside. `swarm` gives the state for a model's digest (None: no node holds it), with the
    rings of `RingPool.warm`, and the bytes of `RingPool.returning` counted as free.

    `conditions` gives the ring's conditions for these facts and node ids. `note` writes a row into the ledger (kind,
    body, request id) and gives its digest; it blocks until the row is on the disk. `spend` counts a key's tokens.
    `grade` is told how a finished answer really ran. `keeps_prompts`: prompts go into the ledger too.
    """

    swarm: Callable[[str | None], SwarmState]
    models: Models
    rules: Callable[[], RuleSet]
    conditions: Callable[[ModelFacts, tuple[str, ...]], Conditions]
    note: Callable[[str, Mapping[str, Any], str], str]
    relay: Relay
    approvals: Approvals
    grade: Callable[[RingPlan, ModelFacts, Finished], None]
    spend: Callable[[str, int], None]
    new_id: Callable[[], str]
    wall_clock: Callable[[], float]
    request_s: float
    keeps_prompts: bool = False


class Chat:
    """Answers requests, up to `MAX_AT_ONCE` at once; each one's errors are its own."""

    def __init__(self, surroundings: Surroundings, rings: RingPool) -> None:
        self._around, self._rings = surroundings, rings
        self._running: set[asyncio.Task[None]] = set()
        self._durations_s: deque[float] = deque(maxlen=32)

    def explain(self, job: Job) -> Outcome:
        """Decide without doing anything: the same function that a real request runs, with the full explanation."""
        account, _ = self._begin(job)
        return decide(*self._question(account, job.narrowing), explain=True)

    async def answer(self, job: Job) -> AsyncGenerator[Event, None]:
        """Produce one answer. Closing the generator cancels the work on every stage and waits until that is done.

        The work is a task of its own, so the generator may be advanced from any task, and a slow reader holds no ring.

        Raises:
            BusyError: too many answers are being produced already.
            SwarmError: typed and final; what was streamed before it stays true.
        """
        if len(self._running) >= MAX_AT_ONCE:
            raise BusyError(f"{MAX_AT_ONCE} requests are being answered", retry_after_s=self._retry_after_s())
        account, missing = self._begin(job)
        # Without a bound: an answer is no longer than the model's context.
        events: asyncio.Queue[Event | None] = asyncio.Queue()
        work = asyncio.create_task(self._work(account, missing, events), name=f"request {job.request_id}")
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

    def _begin(self, job: Job) -> tuple[Account, NotFoundError | None]:
        """The request's account, and why no node holds its model, where none does: an endpoint may."""
        try:
            return Account(job, self._around.models.find(job.model), self._around.wall_clock()), None
        except NotFoundError as missing:
            return Account(job, None, self._around.wall_clock()), missing

    async def _work(
        self, account: Account, missing: NotFoundError | None, events: "asyncio.Queue[Event | None]"
    ) -> None:
        """Produce the whole answer into `events`, None at its end, and its row in the ledger, whatever happens."""
        try:
            async with asyncio.timeout(self._around.request_s) as limit:
                course = _Course(self._around, self._rings, account, missing, self._question, events.put_nowait)
                await course.run(limit)
        except TimeoutError as exc:
            if not limit.expired():
                raise
            account.outcome = "timeout"
            raise UnreachableError(
                f"the answer took longer than {self._around.request_s:g} s",
                hint="Ask for fewer tokens, or raise `request_s` in the settings.",
                code="timeout",
            ) from exc
        except asyncio.CancelledError:
            account.outcome = account.outcome or "cancelled"
            raise
        except SwarmError as error:
            account.outcome = error.code
            raise
        finally:
            try:
                await self._end(account)
            finally:
                self._durations_s.append(time.monotonic() - account.started_s)
                events.put_nowait(None)

    def _question(self, account: Account, narrowing: Narrowing) -> Question:
        """All that `decide` looks at, as it is now."""
        job, facts, asker = account.job, account.facts, account.job.asker
        swarm = self._around.swarm(facts.digest if facts else None)
        ids = tuple(node.node_id for node in swarm.nodes)
        asked = Asked(
            model=facts.name if facts else job.model,
            model_digest=facts.digest if facts else None,
            task=job.task,
            prompt_characters=job.characters,
            narrowing=narrowing,
            key_name=asker.key_name,
            user=asker.user,
            labels=asker.labels,
            added=asker.added,
            client=asker.client,
            at=account.at,
        )
        load = load_of(facts, self._around.conditions(facts, ids)) if facts else None
        return asked, load, self._around.rules(), swarm

    def _retry_after_s(self) -> int:
        """About when the next answer ends: answers lately took so long, and so many are under way."""
        usual_s = sum(self._durations_s) / len(self._durations_s) if self._durations_s else self._around.request_s / 2
        return max(1, math.ceil(usual_s / MAX_AT_ONCE))

    async def _end(self, account: Account) -> None:
        """Write the row to its end, also while being cancelled: it takes milliseconds."""
        writing = asyncio.create_task(asyncio.to_thread(self._write, account))
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            await asyncio.wait({writing})
            raise

    def _write(self, account: Account) -> None:
        row, request_id, key_name = account.answer(), account.job.request_id, account.job.asker.key_name
        try:
            self._around.note(ANSWER, row, request_id)
            if key_name is not None:
                self._around.spend(key_name, row["prompt_tokens"] + row["completion_tokens"])
        except SwarmError as error:
            log.error("the ledger could not keep the end of request %s: %s", request_id, error.message)


class _Course:
    """The tries of one request."""

    def __init__(
        self,
        around: Surroundings,
        rings: RingPool,
        account: Account,
        missing: NotFoundError | None,
        question: Callable[[Account, Narrowing], Question],
        tell: Tell,
    ) -> None:
        self._around, self._rings, self._account, self._missing = around, rings, account, missing
        self._question, self._tell = question, tell
        self._hearing: Hearing | None = None
        self._approved: dict[tuple[int, int], str] = {}  # by rule id and action: who said yes

    async def run(self, limit: asyncio.Timeout) -> None:
        """Try until it is done. While the owner is asked, `limit` waits."""
        account = self._account
        narrowing: Narrowing = account.job.narrowing
        loss: SwarmError | None = None
        for attempt in range(1, MAX_TRIES + 1):
            # In a thread: cutting a large model over eight nodes takes a Raspberry Pi half a second.
            outcome = await asyncio.to_thread(decide, *self._question(account, narrowing))
            account.rule = outcome.explanation.rule or ""
            if isinstance(outcome, Dispatch) and account.has_spoken:
                assert loss is not None  # nothing is said before a first try
                raise loss  # an endpoint could only begin anew
            if isinstance(outcome, Refusal):
                await self._note(outcome, attempt, None)
                raise self._refusal(outcome, loss)
            approved_by = await self._ask(outcome, limit)
            receipt = await self._note(outcome, attempt, approved_by)
            try:
                if isinstance(outcome, Dispatch):
                    await self._relay(outcome, attempt)
                else:
                    await self._stream(outcome, attempt, receipt)
                return
            except SwarmError as error:
                lost = _lost(error, outcome, account)
                if attempt == MAX_TRIES or lost is None:
                    raise
                log.warning("request %s: %s; deciding again", account.job.request_id, error.message)
                loss, narrowing = error, replace(narrowing, without=narrowing.without | lost)

    def _refusal(self, outcome: Refusal, loss: SwarmError | None) -> SwarmError:
        if loss is not None:
            return nobody_left(loss, outcome)
        if outcome.code == "model_not_found" and self._missing is not None:
            return self._missing  # it lists the models there are
        return refused(outcome)

    async def _ask(self, outcome: Decision | Dispatch, limit: asyncio.Timeout) -> str | None:
        """Wait for the owner where the rule says so; once for each rule and action."""
        ground, job = outcome.ground, self._account.job
        if ground.ask_s is None:
            return None
        if (yes := self._approved.get((ground.rule_id, ground.action))) is not None:
            return yes
        if isinstance(outcome, Dispatch):
            destination = f"the endpoint {outcome.endpoint.name} ({outcome.endpoint.place})"
        else:
            destination = " + ".join(share.node.name for share in outcome.placed.shares)
        plea = Plea(
            request_id=job.request_id,
            key_name=job.asker.key_name,
            user=job.asker.user,
            model=job.model,
            task=job.task,
            characters=job.characters,
            labels=tuple(sorted(job.asker.labels | job.asker.added)),
            destination=destination,
            rule=ground.rule,
        )
        clock = asyncio.get_running_loop().time
        left_s = (limit.when() or clock()) - clock()
        limit.reschedule(clock() + ground.ask_s + left_s)
        by = await self._around.approvals.ask(plea, ground.ask_s)
        limit.reschedule(clock() + left_s)
        self._approved[ground.rule_id, ground.action] = by
        return by

    async def _note(self, outcome: Decision | Dispatch | Refusal, attempt: int, approved_by: str | None) -> str:
        """Write the decision's row; gives its digest. Without it nothing runs.

        Raises:
            StorageError: it could not be written.
        """
        kept = self._around.keeps_prompts and attempt == 1
        row = decision_row(self._account, outcome, attempt=attempt, approved_by=approved_by, prompt=kept)
        try:
            return await asyncio.to_thread(self._around.note, DECISION, row, self._account.job.request_id)
        except StorageError as error:
            message = f"the decision could not be written into the ledger, so nothing was sent: {error.message}"
            raise StorageError(message, hint=error.hint) from error

    async def _relay(self, dispatch: Dispatch, attempt: int) -> None:
        """One try at an endpoint."""
        account = self._account
        async with contextlib.aclosing(self._around.relay(dispatch, account.job)) as events:
            async for event in events:
                if isinstance(event, Reached):
                    self._decided(Decided(dispatch, None, attempt, event.place))
                elif isinstance(event, Piece | ToolCall):
                    account.has_spoken |= isinstance(event, ToolCall) or bool(event.text)
                    self._tell(event)
                else:
                    self._finished(event)
                    return
        raise EndpointError("the endpoint ended its answer without saying why")

    async def _stream(self, decision: Decision, attempt: int, receipt: str) -> None:
        """One try on a ring: borrow it and go on after the tokens that earlier tries have produced."""
        account, job, facts, shares = self._account, self._account.job, self._account.facts, decision.placed.shares
        assert facts is not None  # nothing is decided to run without
        hearing = self._hearing = self._hearing or Hearing(job, facts)
        plan = self._plan(decision, facts)
        place = max((share.node.place for share in shares), key=PLACES.index)
        self._decided(Decided(decision, plan, attempt, place))
        warrant = warrant_of(account, decision, receipt)
        lent = self._rings.lend(
            Opening(plan=plan, warrant=warrant, request_id=job.request_id, reach=decision.reach),
            node_bytes=stage_bytes(load_of(facts, plan.conditions), plan),
            room={share.node.node_id: usable_bytes(share.node) or 0 for share in shares},
        )
        generation = Generation(
            request_id=job.request_id, prompt=job.prompt, sampling=hearing.sampling, continued=tuple(account.tokens)
        )
        async with (
            lent as ring,
            contextlib.aclosing(ring.generate(generation, warrant, self._around.request_s)) as reports,
        ):
            async for report in reports:
                if isinstance(report, Piece):
                    account.tokens += report.token_ids
                    account.has_spoken = True
                    for event in hearing.hear(report):
                        self._tell(event)
                elif isinstance(report, Finished):
                    for event in hearing.end(report):
                        self._tell(event)
                    self._around.grade(plan, facts, report)
                    self._finished(report)
                    return
        raise RingError("the ring ended its answer without saying why")

    def _decided(self, decided: Decided) -> None:
        self._account.decided.append(decided)
        self._tell(decided)

    def _finished(self, report: Finished) -> None:
        self._account.outcome, self._account.prompt_tokens = report.reason, report.prompt_tokens
        self._account.completion_tokens = report.completion_tokens
        self._tell(report)

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


def _lost(error: SwarmError, outcome: Decision | Dispatch, account: Account) -> frozenset[str] | None:
    """What a further try goes without; None where there is none."""
    if isinstance(outcome, Dispatch):
        return frozenset({outcome.endpoint.name}) if is_endpoint_lost(error) and not account.has_spoken else None
    if not isinstance(error, RingError):
        return None
    speak_of_names(error, outcome)
    if not may_try_again(error):
        return None
    return frozenset({error.lost_node_id}) if error.lost_node_id else frozenset()
