"""The tries of one request. The rules are asked before each, and once more when the prompt is about to go.

Between a decision and the prompt's first byte minutes may lie: the owner thinks, a model is loaded, an endpoint's name
is looked up. So nothing goes by rules, endpoints or keys that are no more. Not covered: an answer that has begun is not
cut off by an edit.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import replace

from mycoswarm.base.errors import (
    ApiKeyError,
    EndpointError,
    NotFoundError,
    RefusedError,
    RingError,
    StorageError,
    SwarmError,
)
from mycoswarm.catalog.facts import ModelFacts
from mycoswarm.chat.account import LOADED, Account, decision_row, warrant_of
from mycoswarm.chat.consent import Consent, destination_of
from mycoswarm.chat.failing import (
    is_endpoint_lost,
    may_try_again,
    nobody_left,
    nothing_to_load,
    plainly,
    refused,
    speak_of_names,
)
from mycoswarm.chat.hearing import Hearing
from mycoswarm.chat.job import Decided, Event
from mycoswarm.chat.load import fitted, load_of, stage_bytes
from mycoswarm.chat.sheaf import Sheaf
from mycoswarm.chat.surroundings import Surroundings
from mycoswarm.external.errand import Reached
from mycoswarm.routing.decision import Decision, Dispatch, Outcome, Refusal, decide
from mycoswarm.routing.placement import Load, usable_bytes
from mycoswarm.routing.rule import RuleSet
from mycoswarm.routing.snapshot import Asked, Narrowing, SwarmState
from mycoswarm.stage.pool import Opening, RingPool
from mycoswarm.store.record import DECISION
from mycoswarm.swarm.place import PLACES
from mycoswarm.wire.plan import RingPlan, StagePlan
from mycoswarm.wire.report import Finished, Piece, Vector
from mycoswarm.wire.request import Embedding, Generation, Work
from mycoswarm.wire.tool import ToolCall

MAX_TRIES = 4  # a request survives the loss of three nodes; more than that is not bad luck

log = logging.getLogger(__name__)

Question = tuple[Asked, Load | None, RuleSet, SwarmState]


class Course:
    """One request on its way. `question` gives all that `decide` looks at, as it is now; `tell` hears events."""

    def __init__(
        self,
        around: Surroundings,
        rings: RingPool,
        account: Account,
        *,
        missing: NotFoundError | None,
        question: Callable[[Account, Narrowing], Question],
        tell: Callable[[Event], None],
    ) -> None:
        self._around, self._rings, self._account, self._missing = around, rings, account, missing
        self._ask_now, self._tell = question, tell
        self._narrowing = account.job.narrowing
        self._looked_at: tuple[object, ...] = ()
        self._consent = Consent(around.approvals, account.job)
        self._hearing: Hearing | None = None

    async def run(self, limit: asyncio.Timeout) -> None:
        """Try until it is done. While the owner is asked, `limit` waits.

        Raises:
            SwarmError: typed and final.
        """
        account, loss = self._account, None
        for attempt in range(1, MAX_TRIES + 1):
            account.watch.begin()
            outcome, approved_by = await self._settle(loss, limit)
            if isinstance(outcome, Refusal):
                await self._note(outcome, attempt, None)
                account.watch.turn()
                raise self._refusal(outcome, loss)
            receipt = await self._note(outcome, attempt, approved_by)
            account.watch.turn()
            try:
                if isinstance(outcome, Dispatch):
                    is_done = await self._relay(outcome, attempt)
                else:
                    is_done = await self._stream(outcome, attempt, receipt)
            except SwarmError as error:
                lost = _lost(error, outcome, account)
                if attempt == MAX_TRIES or lost is None:
                    raise
                log.warning("request %s: %s; deciding again", account.job.request_id, plainly(error))
                loss = error
                self._narrowing = replace(self._narrowing, without=self._narrowing.without | lost)
            else:
                if is_done:
                    return
                log.info("request %s: what it was decided on has changed; deciding again", account.job.request_id)
            finally:
                if account.outcome != LOADED:  # then no word was to come
                    account.watch.turn()
        if loss is not None:
            raise loss
        raise RefusedError(
            "the rules were changed again and again while this request was on its way; nothing was sent",
            hint="Send it again.",
        )

    async def _settle(self, loss: SwarmError | None, limit: asyncio.Timeout) -> tuple[Outcome, str | None]:
        """Decide, with the owner's yes where the rule asks for one. After the wait for it all is decided anew."""
        for _ in range(MAX_TRIES + 1):
            outcome = await self._decide()
            self._account.rule = outcome.explanation.rule or ""
            if isinstance(outcome, Dispatch) and self._account.has_spoken:
                assert loss is not None  # nothing is said before a first try
                raise loss  # an endpoint could only begin anew
            if isinstance(outcome, Refusal) or outcome.ground.ask_s is None:
                return outcome, None
            if (approved_by := self._consent.given(outcome)) is not None:
                return outcome, approved_by
            with self._account.watch.asking():
                await self._consent.ask(outcome, outcome.ground.ask_s, limit)
        raise RefusedError(
            "each time the owner had said yes, the request would have gone elsewhere", code="not_approved"
        )

    async def _decide(self) -> Outcome:
        """What the rules say now.

        Raises:
            ApiKeyError: the key of the request is no more.
        """
        if not self._around.is_known(self._account.job.asker):
            raise ApiKeyError("the key of this request was revoked", hint="Ask the owner for another key.")
        question = self._ask_now(self._account, self._narrowing)
        self._looked_at = _grounds(question)
        # In a thread: cutting a large model over eight nodes takes a Raspberry Pi half a second.
        outcome = await asyncio.to_thread(decide, *question)
        if self._account.job.only_loads and isinstance(outcome, Dispatch):
            return nothing_to_load(outcome)
        return outcome

    async def _stands(self, outcome: Decision | Dispatch) -> bool:
        """Whether the prompt may go now where it was decided that it goes."""
        is_known = self._around.is_known(self._account.job.asker)
        if is_known and _grounds(self._ask_now(self._account, self._narrowing)) == self._looked_at:
            return True
        now = await self._decide()
        if isinstance(now, Refusal) or destination_of(now) != destination_of(outcome):
            return False
        return now.ground.ask_s is None or self._consent.given(now) is not None

    def _refusal(self, outcome: Refusal, loss: SwarmError | None) -> SwarmError:
        if loss is not None:
            return nobody_left(loss, outcome)
        if outcome.code == "model_not_found" and self._missing is not None:
            return self._missing  # it lists the models there are
        return refused(outcome)

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

    async def _relay(self, dispatch: Dispatch, attempt: int) -> bool:
        """One try at an endpoint. False: it was not sent, as it may not go there any more."""
        account = self._account
        async with contextlib.aclosing(self._around.relay(dispatch, account.job)) as events:
            async for event in events:
                if isinstance(event, Reached):
                    account.watch.turn()
                    if not await self._stands(dispatch):
                        return False
                    self._decided(Decided(dispatch, None, attempt, event.place))
                elif isinstance(event, Finished):
                    self._finished(event)
                    return True
                else:
                    if isinstance(event, Vector):
                        account.watch.speak()
                    elif isinstance(event, Piece):
                        account.say(event)
                    elif isinstance(event, ToolCall):
                        account.call(event)
                    self._tell(event)
        raise EndpointError("the endpoint ended its answer without saying why")

    async def _stream(self, decision: Decision, attempt: int, receipt: str) -> bool:
        """One try on a ring: borrow it and go on after the tokens that earlier tries have produced. False: the prompt
        was not sent, as it may not go there any more."""
        account, job, facts, shares = self._account, self._account.job, self._account.facts, decision.placed.shares
        assert facts is not None  # nothing is decided to run without
        if self._hearing is None:
            is_asked = bool(job.prompt.tools) and job.choice.is_strict is None
            is_poor = is_asked and await asyncio.to_thread(self._around.is_poor, facts.digest, job.task)
            self._hearing = Hearing(job, facts, is_poor=is_poor)
        hearing = self._hearing
        plan = self._plan(decision, facts)
        place = max((share.node.place for share in shares), key=PLACES.index)
        self._decided(Decided(decision, plan, attempt, place))
        warrant = warrant_of(account, decision, receipt)
        lent = self._rings.lend(
            Opening(plan=plan, warrant=warrant, request_id=job.request_id, reach=decision.reach),
            node_bytes=stage_bytes(load_of(facts, plan.conditions), plan),
            room={share.node.node_id: usable_bytes(share.node) or 0 for share in shares},
        )
        work, sheaf = _work(account, hearing), Sheaf(len(job.inputs))
        async with lent as ring:
            account.watch.turn()
            if not await self._stands(decision):
                return False
            if job.only_loads:
                account.outcome = LOADED
                return True
            async with contextlib.aclosing(ring.generate(work, warrant, self._around.request_s)) as reports:
                async for report in reports:
                    if isinstance(report, Piece):
                        account.say(report)
                        for event in hearing.hear(report):
                            self._tell(event)
                    elif isinstance(report, Vector):
                        sheaf.take(report)
                        account.watch.speak()
                        self._tell(report)
                    elif isinstance(report, Finished):
                        sheaf.end(report)
                        for event in hearing.end(report):
                            self._tell(event)
                        self._around.grade(plan, facts, report)
                        self._finished(report)
                        return True
        raise RingError("the ring ended its answer without saying why")

    def _decided(self, decided: Decided) -> None:
        self._account.decided.append(decided)
        self._tell(decided)

    def _finished(self, report: Finished) -> None:
        self._tell(self._account.finish(report))

    def _plan(self, decision: Decision, facts: ModelFacts) -> RingPlan:
        """The plan of a decision: that of the warm ring where there is one of this shape."""
        shape = tuple((share.node.node_id, share.first, share.last) for share in decision.placed.shares)
        conditions = self._around.conditions(facts, tuple(node_id for node_id, _, _ in shape))
        conditions = fitted(conditions, facts, self._account.job.task)
        for ring in self._rings.warm():
            same = ring.plan.model_digest == facts.digest and ring.plan.conditions.pooling == conditions.pooling
            if same and ring.shape == shape:
                return ring.plan
        return RingPlan(
            ring_id=self._around.new_id(),
            model_digest=facts.digest,
            n_layer=facts.n_layer,
            holder_id=decision.holder_id,
            stages=tuple(StagePlan(node_id=node_id, first=first, last=last) for node_id, first, last in shape),
            conditions=conditions,
        )


def _work(account: Account, hearing: Hearing) -> Work:
    """What the head is asked to do. Vectors are few and quickly made again; an answer goes on after its tokens."""
    job = account.job
    if job.inputs:
        return Embedding(request_id=job.request_id, inputs=job.inputs, dimensions=job.dimensions)
    return Generation(
        request_id=job.request_id, prompt=job.prompt, sampling=hearing.sampling, continued=tuple(account.tokens)
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


def _grounds(question: Question) -> tuple[object, ...]:
    """What of a question decides where a request may go, as far as people change it."""
    _, _, rules, swarm = question
    nodes = tuple((node.node_id, node.name, node.place, node.tags) for node in swarm.nodes)
    return rules, swarm.endpoints, nodes
