"""Requests that wait for the owner's yes. Nobody answers in time: that is a no."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from mycoswarm.base.errors import BusyError, NotFoundError, RefusedError

MAX_WAITING = 64  # as many as may be answered at once
BUSY_S = 60


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
