"""The tools of an agent: which there are, and one call of one, decided by the rules and run where they say.

A run's workspace is on one node. What a tool answers is data, never an order.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any

from mycoswarm.agents.docket import call_row, decided_row, ended_row, granted_row, plea_of
from mycoswarm.agents.lodging import Lodgings
from mycoswarm.agents.porter import Carry, Parcel
from mycoswarm.base.errors import ApiKeyError, BusyError, NotFoundError, RefusedError, SwarmError, UnreachableError
from mycoswarm.chat.consent import Approvals
from mycoswarm.chat.failing import refused
from mycoswarm.chat.job import Asker
from mycoswarm.routing.allotment import Bearing, ToolDecision, decide_tool
from mycoswarm.routing.decision import Refusal
from mycoswarm.routing.rule import RuleSet
from mycoswarm.routing.snapshot import Asked, Narrowing, SwarmState
from mycoswarm.sandbox.argument import Arguments, read_arguments
from mycoswarm.sandbox.toolset import WITH_FILES, Tool
from mycoswarm.store.record import DECISION, TOOL
from mycoswarm.swarm.place import PLACES
from mycoswarm.wire.chore import Done
from mycoswarm.wire.ticket import Warrant
from mycoswarm.wire.tool import ToolCall, ToolResult, ToolSpec

MAX_TRIES = 3  # nodes that do not answer; nothing was sent to them
MAX_ASKED = 16  # calls of one run that wait for the owner at once: others want to ask, too

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """Whom a call is for. `run_id` names it in the ledger. `deadline`: of `time.monotonic`; None where there is none.
    `narrowing`: what the request itself asks for."""

    asker: Asker
    run_id: str
    workspace_id: str
    deadline: float | None = None
    narrowing: Narrowing = field(default_factory=Narrowing)


@dataclass(frozen=True, slots=True)
class Finding:
    """What a tool of the coordinator's own found. `labels`: whoever reads it carries these from then on."""

    text: str
    labels: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolServices:
    """What the toolbox needs. `note` and `is_known` as in chat/surroundings.py. `tools`: all that there are now, by
    name. `carry` takes a call to a node. `here`: the tools that the coordinator answers itself, by name; `own_name` is
    its name. `ended` is told what a node has made of a call of a tool that comes with means."""

    tools: Callable[[], Mapping[str, Tool]]
    swarm: Callable[[], SwarmState]
    rules: Callable[[], RuleSet]
    note: Callable[[str, Mapping[str, Any], str], str]
    approvals: Approvals
    carry: Carry
    here: Mapping[str, Callable[[Arguments, Errand], Awaitable[Finding]]]
    own_name: Callable[[], str]
    is_known: Callable[[Asker], bool]
    ended: Callable[[str, Done], Awaitable[None]] | None = None
    wall_clock: Callable[[], float] = time.time


@dataclass(frozen=True, slots=True)
class _Job:
    """One call, checked. `given`: its arguments, read. `yes`: for which places the owner said yes, and who did."""

    tool: Tool
    call: ToolCall
    given: Arguments
    errand: Errand
    yes: dict[tuple[object, ...], str] = field(default_factory=dict)

    @property
    def workspace_id(self) -> str | None:
        """The workspace that the call works in; None where it has nothing to do with files."""
        return self.errand.workspace_id if self.tool.where in WITH_FILES else None


class Toolbox:
    """Takes any number of calls at once; each node bounds its own."""

    def __init__(self, services: ToolServices) -> None:
        self._with = services
        self._lodgings = Lodgings()

    def tools(self) -> Mapping[str, Tool]:
        """All tools there are now, by name."""
        return self._with.tools()

    def specs(self) -> tuple[ToolSpec, ...]:
        """All tools there are; the rules decide on each call."""
        return tuple(tool.spec for tool in self.tools().values())

    async def run(self, call: ToolCall, errand: Errand) -> ToolResult:
        """Carry one call out; whatever goes wrong is told in the result, so that a model can go on."""
        began = time.monotonic()
        try:
            return await self.perform(call, errand)
        except SwarmError as error:
            seconds = round(time.monotonic() - began, 3)
            return ToolResult(call.id, f"error: {error.message}", False, None, seconds)

    async def perform(self, call: ToolCall, errand: Errand) -> ToolResult:
        """Carry one call out.

        Raises:
            NotFoundError: there is no such tool, or no such node.
            InputError: its arguments do not fit.
            ApiKeyError: the key of the request is no more.
            BusyError: too many calls wait for the owner.
            RefusedError: the rules or the owner say no, or would only allow a node that has not the run's workspace.
            UnreachableError: the node was lost, or none that is allowed answers.
            SwarmError: the node did not do it; says why.
        """
        tools = self._with.tools()
        tool = tools.get(call.name)
        if tool is None:
            names = ", ".join(tools)
            raise NotFoundError(f"there is no tool called {call.name[:80]!r}", hint=f"There are: {names}.")
        given = read_arguments(tool.spec, call.arguments)
        job = _Job(tool, call, given, errand)
        narrowing, attempt = errand.narrowing, 0
        while attempt < MAX_TRIES:
            attempt += 1
            decision, approved_by = await self._settle(job, narrowing, attempt)
            try:
                with self._counted(job, decision.node.node_id):
                    result = await self._follow(decision, approved_by, job, narrowing, attempt)
            except UnreachableError as error:
                is_settled = job.workspace_id is not None and self._lodgings.node_of(job.workspace_id) is not None
                if error.code != UnreachableError.code or is_settled or attempt == MAX_TRIES:
                    raise
                log.warning("run %s: %s; deciding again", errand.run_id, error.message)
                narrowing = replace(narrowing, without=narrowing.without | {decision.node.node_id})
            else:
                if result is not None:
                    return result
                log.info("run %s: what a call was decided on has changed; deciding again", errand.run_id)
        raise RefusedError(
            "the rules were changed again and again while this call was on its way; nothing was sent",
            hint="Send it again.",
        )

    async def release(self, workspace_id: str, errand: Errand) -> None:
        """The run is over: its workspace goes. A node that does not answer removes it after a day."""
        node_id = self._lodgings.leave(workspace_id)
        if node_id is None:
            return
        try:
            await self._with.carry.release(node_id, errand.run_id, workspace_id)
        except SwarmError as error:
            log.warning("the workspace of run %s stays for a day: %s", errand.run_id, error.message)

    async def _settle(self, job: _Job, narrowing: Narrowing, attempt: int) -> tuple[ToolDecision, str | None]:
        """Decide, with the owner's yes where that is needed. After the wait for it all is decided anew; a yes is for
        the node that was shown, and for a sandbox where there was to be one."""
        for _ in range(MAX_TRIES + 1):
            decision = await self._decide(job, narrowing, attempt)
            if decision.ground.ask_s is None:
                return decision, None
            if (approved_by := job.yes.get(_place_of(decision))) is not None:
                return decision, approved_by
            try:
                with self._counted(job, decision.node.node_id):
                    job.yes[_place_of(decision)] = await self._ask(decision, decision.ground.ask_s, job)
            except SwarmError as error:
                row = self._decided_row(decision, job, narrowing, attempt)
                await self._note(DECISION, {**row, "outcome": "refused", "code": error.code}, job)
                await self._note_end(ended_row(job.call, job.errand.asker, None, decision.rule, error.code, 0.0), job)
                raise
        raise RefusedError("each time the owner had said yes, the call would have gone elsewhere", code="not_approved")

    async def _decide(self, job: _Job, narrowing: Narrowing, attempt: int) -> ToolDecision:
        """Ask the rules. The first call of a run settles where its workspace is.

        Raises:
            ApiKeyError: the key of the request is no more.
            RefusedError: the tool is no more as it was when the call came.
        """
        if not self._with.is_known(job.errand.asker):
            raise ApiKeyError("the key of this request was revoked", hint="Ask the owner for another key.")
        if not self._is_there(job):
            why = f"the owner took {job.call.name} away, or set it up anew, while this call was on its way"
            raise RefusedError(f"{why}; nothing was sent", hint="Call it again.", code="tool_gone")
        pinned = None if job.workspace_id is None else self._lodgings.node_of(job.workspace_id)
        outcome = self._outcome(job, narrowing, pinned)
        if isinstance(outcome, ToolDecision):
            return outcome
        named = {"rule": outcome.explanation.rule, "rule_id": outcome.rule_id, "version": outcome.version}
        row = call_row(job.call, self._asked(job, narrowing), attempt, outcome.explanation) | named
        await self._note(DECISION, {**row, "outcome": "refused", "code": outcome.code}, job)
        await self._note_end(
            ended_row(job.call, job.errand.asker, None, outcome.explanation.rule, outcome.code, 0.0), job
        )
        raise _refusal(outcome)

    def _outcome(self, job: _Job, narrowing: Narrowing, pinned: str | None) -> ToolDecision | Refusal:
        bearing = Bearing(pinned, self._lodgings.busy)
        return decide_tool(self._asked(job, narrowing), self._with.rules(), self._with.swarm(), bearing)

    def _stands(self, decision: ToolDecision, job: _Job, narrowing: Narrowing) -> bool:
        """Whether the call may go now where it was decided that it goes: minutes may lie between."""
        if not self._with.is_known(job.errand.asker) or not self._is_there(job):
            return False
        now = self._outcome(job, narrowing, decision.node.node_id)
        if isinstance(now, Refusal) or _place_of(now) != _place_of(decision):
            return False
        return now.ground.ask_s is None or _place_of(now) in job.yes

    def _is_there(self, job: _Job) -> bool:
        """Whether the tool is still as it was found: what comes with it, such as a server's secrets, too."""
        return self._with.tools().get(job.call.name) == job.tool

    def _counted(self, job: _Job, node_id: str) -> AbstractContextManager[None]:
        return self._lodgings.counted(node_id, job.workspace_id)

    async def _follow(
        self, decision: ToolDecision, approved_by: str | None, job: _Job, narrowing: Narrowing, attempt: int
    ) -> ToolResult | None:
        """Note the decision, carry it out, and note how it ended. None: it does not stand any more; nothing was
        sent."""
        row = self._decided_row(decision, job, narrowing, attempt)
        if approved_by is not None:
            row["approved_by"] = approved_by
        node: dict[str, Any] = {"id": decision.node.node_id, "name": decision.node.name, "place": decision.node.place}
        if job.tool.where == "coordinator":
            node = {"id": self._with.swarm().coordinator_id, "name": self._with.own_name(), "place": "this-machine"}
        receipt = await self._note(DECISION, row | granted_row(node, decision, job.tool, job.errand.workspace_id), job)
        began, outcome = time.monotonic(), "cancelled"
        where: dict[str, Any] | None = node  # by what we did: a node may say that nothing reached it
        answer: Done | None = None
        labels: frozenset[str] = frozenset()
        try:
            answer, labels = await self._answer(decision, receipt, job, lambda: self._stands(decision, job, narrowing))
            if answer is None:
                outcome, where = "decided_anew", None
            else:
                outcome = answer.code or ("stop" if answer.ok else "failed")
        except SwarmError as error:
            outcome = error.code
            raise
        finally:
            seconds = round(time.monotonic() - began, 3)
            end = ended_row(job.call, job.errand.asker, where, decision.rule, outcome, seconds)
            end |= {"receipt": receipt, "was_answered": answer is not None}
            await asyncio.shield(self._note_end(end, job))
        if answer is None:
            return None
        ran = max(node["place"], job.tool.asks or node["place"], key=PLACES.index)
        return ToolResult(job.call.id, answer.text, answer.ok, node["name"], seconds, tuple(sorted(labels)), ran)

    async def _answer(
        self, decision: ToolDecision, receipt: str, job: _Job, stands: Callable[[], bool]
    ) -> tuple[Done | None, frozenset[str]]:
        """What came of it, None where it does not stand any more, and the labels that it carries."""
        if job.tool.where != "coordinator":
            return await self._send(decision, receipt, job, stands), frozenset()
        if not stands():
            return None, frozenset()
        found = await self._with.here[job.call.name](job.given, job.errand)
        return Done(text=found.text, ok=True, seconds=0.0), found.labels

    async def _send(self, decision: ToolDecision, receipt: str, job: _Job, stands: Callable[[], bool]) -> Done | None:
        tool, call, errand = job.tool, job.call, job.errand
        left_s = tool.within_s if errand.deadline is None else errand.deadline - time.monotonic()
        if left_s <= 0:
            raise UnreachableError("the run's time is over", code="timeout", hint="Give it more time.")
        node_id, ground, asker = decision.node.node_id, decision.ground, errand.asker
        warrant = Warrant(
            rule=ground.rule,
            rule_id=ground.rule_id,
            version=ground.version,
            action=ground.action,
            task=f"tool:{call.name}",
            labels=tuple(sorted(asker.labels | asker.added)),
            receipt=receipt,
        )
        parcel = Parcel(
            node_id=node_id,
            place=decision.node.place,
            warrant=warrant,
            tool=call.name,
            arguments=call.arguments,
            run_id=errand.run_id,
            workspace_id=errand.workspace_id,
            within_s=min(tool.within_s, left_s),
            unconfined=decision.unconfined,
            means=tool.means,
            stands=stands,
        )
        has_left = True
        try:
            done = await self._with.carry(parcel)
            has_left = done is not None
            if done is not None and tool.means and self._with.ended is not None:
                await self._with.ended(call.name, done)
            return done
        except UnreachableError as error:
            has_left = error.code != UnreachableError.code
            raise
        finally:
            if has_left and job.workspace_id is not None:
                self._lodgings.sent(node_id, job.workspace_id)

    async def _ask(self, decision: ToolDecision, ask_s: float, job: _Job) -> str:
        errand = job.errand
        left_s = ask_s if errand.deadline is None else max(0.0, errand.deadline - time.monotonic())
        request_id = f"{errand.run_id}-{secrets.token_hex(4)}"
        plea = plea_of(request_id, job.call, job.given, errand.asker, decision)
        waiting = sum(one["id"].startswith(f"{errand.run_id}-") for one in self._with.approvals.waiting())
        if waiting >= MAX_ASKED:
            raise BusyError(f"{waiting} calls of this run wait for the owner already", retry_after_s=int(ask_s))
        return await self._with.approvals.ask(plea, min(ask_s, left_s))

    async def _note(self, kind: str, row: Mapping[str, Any], job: _Job) -> str:
        """Write a row; gives its digest. Without that of a decision nothing runs."""
        return await asyncio.to_thread(self._with.note, kind, row, job.errand.run_id)

    async def _note_end(self, row: Mapping[str, Any], job: _Job) -> None:
        try:
            await self._note(TOOL, row, job)
        except SwarmError as error:
            log.error("the ledger could not keep the end of a call of %s: %s", job.call.name, error.message)

    def _decided_row(self, decision: ToolDecision, job: _Job, narrowing: Narrowing, attempt: int) -> dict[str, Any]:
        return decided_row(job.call, self._asked(job, narrowing), attempt, decision)

    def _asked(self, job: _Job, narrowing: Narrowing) -> Asked:
        call, asker = job.call, job.errand.asker
        return Asked(
            model="",
            model_digest=None,
            task=f"tool:{call.name}",
            prompt_characters=len(call.arguments),
            narrowing=narrowing,
            key_name=asker.key_name,
            user=asker.user,
            labels=asker.labels,
            added=asker.added,
            client=asker.client,
            at=self._with.wall_clock(),
        )


def _place_of(decision: ToolDecision) -> tuple[object, ...]:
    """What the owner's rules and his yes are about."""
    return decision.node.node_id, decision.node.place, decision.unconfined


def _refusal(outcome: Refusal) -> SwarmError:
    if outcome.code == "workspace_elsewhere":
        hint = "A run's files stay on one node: begin a new run, or let the rules name the same node for its tools."
        return RefusedError(outcome.message, hint=hint, code=outcome.code)
    return refused(outcome)
