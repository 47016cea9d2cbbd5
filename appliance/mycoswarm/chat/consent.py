"""Requests that wait for the owner's yes. Nobody answers in time: that is a no."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from mycoswarm.base.errors import BusyError, NotFoundError, RefusedError
from mycoswarm.chat.job import Job
from mycoswarm.routing.decision import Decision, Dispatch

MAX_WAITING = 64  # more than an owner can look through
MAX_WAITING_OF_KEY = 16  # so that no client keeps the others from asking
BUSY_S = 60

Reader = tuple[object, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plea:
    """What the owner gets to see of a request: all but its text; of a tool's call its arguments too (`detail`)."""

    request_id: str
    key_name: str | None
    user: str | None
    model: str
    task: str
    characters: int
    labels: tuple[str, ...]
    destination: str
    rule: str
    detail: str = ""


@dataclass(slots=True)
class _Waiting:
    plea: Plea
    asked_at: float
    expires_at: float
    answer: "asyncio.Future[tuple[bool, str]]"


class Approvals:
    """Who waits, and for what. Methods run in one event loop. `wall_clock` gives seconds since 1970."""

    def __init__(self, wall_clock: Callable[[], float] = time.time) -> None:
        self._clock = wall_clock
        self._waiting: dict[str, _Waiting] = {}
        self._watching: dict[str, Callable[[Plea], None]] = {}

    @contextlib.contextmanager
    def watch(self, prefix: str, tell: Callable[[Plea], None]) -> Iterator[None]:
        """While inside, tell of each request that begins to wait and whose id begins so. One watcher for a prefix."""
        self._watching[prefix] = tell
        try:
            yield
        finally:
            del self._watching[prefix]

    async def ask(self, plea: Plea, within_s: float) -> str:
        """Wait for the owner; gives who said yes.

        Raises:
            RefusedError: no, or no answer in time.
            BusyError: too many wait already.
        """
        if plea.key_name is not None and self.count(plea.key_name) >= MAX_WAITING_OF_KEY:
            why = f"{MAX_WAITING_OF_KEY} requests of this key wait for the owner already"
            raise BusyError(why, retry_after_s=BUSY_S)
        if len(self._waiting) >= MAX_WAITING:
            raise BusyError(f"{MAX_WAITING} requests wait for the owner already", retry_after_s=BUSY_S)
        now, loop = self._clock(), asyncio.get_running_loop()
        one = _Waiting(plea, now, now + within_s, loop.create_future())
        self._waiting[plea.request_id] = one
        for prefix, tell in self._watching.items():
            if plea.request_id.startswith(prefix):
                tell(plea)
        try:
            async with asyncio.timeout(within_s):
                allowed, by = await one.answer
        except TimeoutError as exc:
            raise RefusedError(
                f"the rule {plea.rule!r} asks the owner, who did not answer in {within_s:g} s",
                hint="Send it again when the owner can look: `mycoswarm-node approvals list`.",
                code="not_approved",
            ) from exc
        finally:
            del self._waiting[plea.request_id]
        if not allowed:
            raise RefusedError(
                f"the rule {plea.rule!r} asks the owner, who said no", hint="Ask the owner why.", code="not_approved"
            )
        return by

    def count(self, key_name: str | None = None) -> int:
        """How many wait; of one key, where it is named."""
        return sum(key_name in (None, one.plea.key_name) for one in self._waiting.values())

    def waiting(self) -> list[dict[str, Any]]:
        """All that wait, the longest first, as JSON values."""
        return [
            {
                "id": one.plea.request_id,
                "asked_at": one.asked_at,
                "expires_at": one.expires_at,
                "key": one.plea.key_name,
                "user": one.plea.user,
                "model": one.plea.model,
                "task": one.plea.task,
                "characters": one.plea.characters,
                "labels": list(one.plea.labels),
                "destination": one.plea.destination,
                "rule": one.plea.rule,
                **({"detail": one.plea.detail} if one.plea.detail else {}),
            }
            for one in self._waiting.values()
            if not one.answer.done()
        ]

    async def answer(self, request_id: str, allow: bool, by: str) -> dict[str, Any]:
        """Say yes or no.

        Raises:
            NotFoundError: nothing waits under that id, or no longer.
        """
        one = self._waiting.get(request_id)
        if one is None or one.answer.done():
            raise NotFoundError(
                f"no request {request_id[:40]!r} waits for an answer",
                hint="`mycoswarm-node approvals list` shows them.",
            )
        one.answer.set_result((allow, by))
        return {"id": request_id, "allowed": allow}


class Consent:
    """What the owner has allowed one request. A yes is for the machines that were shown, and for no others: neither for
    a node that takes a lost one's place, nor for what a rule or an endpoint's name means after an edit."""

    def __init__(self, approvals: Approvals, job: Job) -> None:
        self._approvals, self._job = approvals, job
        self._given: list[tuple[frozenset[Reader], str]] = []

    def given(self, outcome: Decision | Dispatch) -> str | None:
        """Who has said yes to this, or None."""
        wanted = _readers(outcome)
        return next((by for allowed, by in self._given if wanted <= allowed), None)

    async def ask(self, outcome: Decision | Dispatch, ask_s: float, limit: asyncio.Timeout) -> None:
        """Wait for the owner's yes; `limit` waits meanwhile.

        Raises:
            RefusedError: no, or no answer in time.
            BusyError: too many wait already.
        """
        job = self._job
        plea = Plea(
            request_id=job.request_id,
            key_name=job.asker.key_name,
            user=job.asker.user,
            model=job.model,
            task=job.task,
            characters=job.characters,
            labels=tuple(sorted(job.asker.labels | job.asker.added)),
            destination=_words(outcome),
            rule=outcome.ground.rule,
        )
        clock = asyncio.get_running_loop().time
        left_s = (limit.when() or clock()) - clock()
        limit.reschedule(clock() + ask_s + left_s)
        by = await self._approvals.ask(plea, ask_s)
        limit.reschedule(clock() + left_s)
        self._given.append((_readers(outcome), by))


def destination_of(outcome: Decision | Dispatch) -> tuple[object, ...]:
    """Where a decision leads, in all that the owner's rules are about: equal only where it is the same."""
    if isinstance(outcome, Dispatch):
        return tuple(_readers(outcome))
    shares = outcome.placed.shares
    return tuple((share.node.node_id, share.node.place, share.first, share.last) for share in shares)


def _readers(outcome: Decision | Dispatch) -> frozenset[Reader]:
    """Who reads the prompt: nodes, each with where it is, or one registration of an endpoint and its model."""
    if isinstance(outcome, Dispatch):
        endpoint = outcome.endpoint
        return frozenset({("endpoint", endpoint.name, endpoint.place, endpoint.since, outcome.model)})
    return frozenset(("node", share.node.node_id, share.node.place) for share in outcome.placed.shares)


def _words(outcome: Decision | Dispatch) -> str:
    if isinstance(outcome, Dispatch):
        return f"the endpoint {outcome.endpoint.name} ({outcome.endpoint.place})"
    return " + ".join(share.node.name for share in outcome.placed.shares)
