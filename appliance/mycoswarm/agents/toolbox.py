"""The tools of an agent: which there are, and one call of one, decided by the rules and run where they say.

A run's workspace is on one node. What a tool answers is data, never an order.
"""

import asyncio
import contextlib
import json
import logging
import secrets
import time
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from mycoswarm.agents.docket import asked_row, ended_row, granted_row
from mycoswarm.agents.porter import Carry, Parcel
from mycoswarm.base.errors import ApiKeyError, BusyError, NotFoundError, RefusedError, SwarmError, UnreachableError
from mycoswarm.chat.consent import Approvals, Plea
from mycoswarm.chat.failing import refused
from mycoswarm.chat.job import Asker
from mycoswarm.routing.allotment import Bearing, ToolDecision, decide_tool
from mycoswarm.routing.decision import Explanation, Refusal
from mycoswarm.routing.rule import RuleSet
from mycoswarm.routing.snapshot import Asked, Narrowing, SwarmState
from mycoswarm.sandbox.argument import Arguments, read_arguments
from mycoswarm.sandbox.clearance import digest_of
from mycoswarm.sandbox.toolset import TOOLS, Tool
from mycoswarm.store.record import DECISION, TOOL
from mycoswarm.wire.chore import Done
from mycoswarm.wire.ticket import Warrant
from mycoswarm.wire.tool import ToolCall, ToolResult, ToolSpec

MAX_TRIES = 3  # nodes that do not answer; nothing was sent to them
MAX_HOMES = 4096  # workspaces whose node is remembered; those used longest ago are forgotten, and swept there
MAX_ASKED = 16  # calls of one run that wait for the owner at once: others want to ask, too
MAX_DETAIL = 20_000  # characters of a call's arguments that the owner is shown: any shell command, whole

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


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolServices:
    """What the toolbox needs. `note` and `is_known` as in chat/surroundings.py. `carry` takes a call to a node. `here`:
    the tools that the coordinator answers itself, by name; `own_name` is its name."""

    swarm: Callable[[], SwarmState]
    rules: Callable[[], RuleSet]
    note: Callable[[str, Mapping[str, Any], str], str]
    approvals: Approvals
    carry: Carry
    here: Mapping[str, Callable[[Arguments, Asker], Awaitable[str]]]
    own_name: Callable[[], str]
    is_known: Callable[[Asker], bool]
    wall_clock: Callable[[], float] = time.time


@dataclass(slots=True)
class _Home:
    """Where a workspace is. `has_files`: some call was sent there. `waiting`: calls that count on it now."""

    node_id: str
    has_files: bool = False
    waiting: int = 0


@dataclass(frozen=True, slots=True)
class _Job:
    """One call, checked. `given`: its arguments, read. `yes`: for which places the owner said yes, and who did."""

    tool: Tool
    call: ToolCall
    given: Arguments
    errand: Errand
    yes: dict[tuple[object, ...], str] = field(default_factory=dict)


class Toolbox:
    """Takes any number of calls at once; each node bounds its own."""

    def __init__(self, services: ToolServices) -> None:
        self._with = services
        self._homes: OrderedDict[str, _Home] = OrderedDict()  # by workspace
        self._busy: Counter[str] = Counter()

    def specs(self) -> tuple[ToolSpec, ...]:
        """All tools there are; the rules decide on each call."""
        return tuple(tool.spec for tool in TOOLS.values())

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
        tool = TOOLS.get(call.name)
        if tool is None:
            names = ", ".join(TOOLS)
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
                is_settled = tool.where == "sandbox" and errand.workspace_id in self._homes
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
        home = self._homes.pop(workspace_id, None)
        if home is None or not home.has_files:
            return
        try:
            await self._with.carry.release(home.node_id, errand.run_id, workspace_id)
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
        """
        if not self._with.is_known(job.errand.asker):
            raise ApiKeyError("the key of this request was revoked", hint="Ask the owner for another key.")
        workspace_id = job.errand.workspace_id
        home = self._homes.get(workspace_id) if job.tool.where == "sandbox" else None
        outcome = self._outcome(job, narrowing, home.node_id if home else None)
        if isinstance(outcome, ToolDecision):
            return outcome
        named = {"rule": outcome.explanation.rule, "rule_id": outcome.rule_id, "version": outcome.version}
        row = self._row(job, narrowing, attempt, outcome.explanation) | named
        await self._note(DECISION, {**row, "outcome": "refused", "code": outcome.code}, job)
        await self._note_end(
            ended_row(job.call, job.errand.asker, None, outcome.explanation.rule, outcome.code, 0.0), job
        )
        raise _refusal(outcome)

    def _outcome(self, job: _Job, narrowing: Narrowing, pinned: str | None) -> ToolDecision | Refusal:
        bearing = Bearing(pinned, self._busy)
        return decide_tool(self._asked(job, narrowing), self._with.rules(), self._with.swarm(), bearing)

    def _stands(self, decision: ToolDecision, job: _Job, narrowing: Narrowing) -> bool:
        """Whether the call may go now where it was decided that it goes: minutes may lie between."""
        if not self._with.is_known(job.errand.asker):
            return False
        now = self._outcome(job, narrowing, decision.node.node_id)
        if isinstance(now, Refusal) or _place_of(now) != _place_of(decision):
            return False
        return now.ground.ask_s is None or _place_of(now) in job.yes

    @contextlib.contextmanager
    def _counted(self, job: _Job, node_id: str) -> Iterator[None]:
        """Count a call, and keep the workspace on its node while a call counts on it, and after one was sent there."""
        self._busy[node_id] += 1
        try:
            with self._kept(job, node_id):
                yield
        finally:
            self._busy[node_id] -= 1
            self._busy += Counter()  # forgets the nodes that have none

    @contextlib.contextmanager
    def _kept(self, job: _Job, node_id: str) -> Iterator[None]:
        if job.tool.where != "sandbox":
            yield
            return
        workspace_id = job.errand.workspace_id
        home = self._homes.setdefault(workspace_id, _Home(node_id))
        self._homes.move_to_end(workspace_id)
        while len(self._homes) > MAX_HOMES:
            self._homes.popitem(last=False)
        home.waiting += 1
        try:
            yield
        finally:
            home.waiting -= 1
            if not home.has_files and not home.waiting and self._homes.get(workspace_id) is home:
                del self._homes[workspace_id]

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
        try:
            answer = await self._answer(decision, receipt, job, lambda: self._stands(decision, job, narrowing))
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
        return None if answer is None else ToolResult(job.call.id, answer.text, answer.ok, node["name"], seconds)

    async def _answer(self, decision: ToolDecision, receipt: str, job: _Job, stands: Callable[[], bool]) -> Done | None:
        tool, call, errand = job.tool, job.call, job.errand
        if tool.where == "coordinator":
            if not stands():
                return None
            return Done(text=await self._with.here[call.name](job.given, errand.asker), ok=True, seconds=0.0)
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
            stands=stands,
        )
        has_left = True
        try:
            done = await self._with.carry(parcel)
            has_left = done is not None
            return done
        except UnreachableError as error:
            has_left = error.code != UnreachableError.code
            raise
        finally:
            home = self._homes.get(errand.workspace_id)
            if home is not None and home.node_id == node_id:
                home.has_files = home.has_files or has_left

    async def _ask(self, decision: ToolDecision, ask_s: float, job: _Job) -> str:
        call, errand, asker = job.call, job.errand, job.errand.asker
        left_s = ask_s if errand.deadline is None else max(0.0, errand.deadline - time.monotonic())
        plea = Plea(
            request_id=f"{errand.run_id}-{secrets.token_hex(4)}",
            key_name=asker.key_name,
            user=asker.user,
            model=call.name,
            task=f"tool:{call.name}",
            characters=len(call.arguments),
            labels=tuple(sorted(asker.labels | asker.added)),
            destination=decision.node.name,
            rule=decision.rule,
            detail=_shown(job.given),
        )
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
        ground, row = decision.ground, self._row(job, narrowing, attempt, decision.explanation)
        return row | {
            "rule": ground.rule,
            "rule_id": ground.rule_id,
            "version": ground.version,
            "action": ground.action,
        }

    def _row(self, job: _Job, narrowing: Narrowing, attempt: int, explained: Explanation) -> dict[str, Any]:
        call = job.call
        row = {"attempt": attempt, "asked": asked_row(self._asked(job, narrowing)), "reason": explained.reason}
        row |= {"tool": call.name, "call": call.id[:100], "arguments": digest_of(call.arguments)}
        return row if explained.limit is None else row | {"limit": explained.limit}

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


def _shown(given: Arguments) -> str:
    """What will run, as the owner reads it: no space that only fills, nothing that a screen obeys or does not show."""
    text = json.dumps(given, ensure_ascii=False)
    text = "".join(one if one.isprintable() else json.dumps(one)[1:-1] for one in text)
    if len(text) <= MAX_DETAIL:
        return text
    return f"[only the first {MAX_DETAIL} of {len(text)} characters are shown] {text[:MAX_DETAIL]}"


def _refusal(outcome: Refusal) -> SwarmError:
    if outcome.code == "workspace_elsewhere":
        hint = "A run's files stay on one node: begin a new run, or let the rules name the same node for its tools."
        return RefusedError(outcome.message, hint=hint, code=outcome.code)
    return refused(outcome)
