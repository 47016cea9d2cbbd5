"""`GET /api/events`: what the owner's page shows, and each change of it, as server-sent events.

    event: state    id: INSTANCE-NUMBER    data: {section: value, ...}     all of it, or what has changed since

The first event of a stream holds every section, unless the browser names (Last-Event-ID) an event of this run of the
daemon that is still remembered: then it is given what changed since. Nothing is read while nobody listens. A stream
ends where its session or key does: at the next event, and none comes later than KEEP_ALIVE_S (`event: here`, where
nothing changed), so a page that hears nothing for longer knows that its node is gone.
"""

import asyncio
import contextlib
import json
import logging
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mycoswarm.api.body import Given, json_route
from mycoswarm.api.departure import EventStream
from mycoswarm.api.feed import begun
from mycoswarm.base.errors import BusyError, SwarmError

LOOK_S = 0.5
KEEP_ALIVE_S = 10.0
MAX_LISTENERS = 64
REMEMBERED = 256
MAX_BEHIND = 64  # events that a listener has not taken; then it is cut off, and comes back for all of it
READ_S = 5.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Section:
    """One part of the page. `read` gives something that JSON can hold; it is asked at most each `every_s`."""

    name: str
    read: Callable[[], Awaitable[Any]]
    every_s: float = LOOK_S


@dataclass(slots=True, eq=False)
class _Listener:
    waiting: "asyncio.Queue[bytes | None]" = field(default_factory=lambda: asyncio.Queue(MAX_BEHIND))


class Pulse:
    """Looks at all sections while somebody listens. `instance` is drawn anew at each start of the daemon."""

    def __init__(
        self, sections: Sequence[Section], instance: str, *, look_s: float = LOOK_S, keep_alive_s: float = KEEP_ALIVE_S
    ) -> None:
        """`look_s`: the time between two looks; `keep_alive_s`: a stream is never silent for longer."""
        self._look_s, self._keep_alive_s = look_s, keep_alive_s
        self._sections, self._instance = tuple(sections), instance
        self._known: dict[str, str] = {}  # JSON by section
        self._read_at: dict[str, float] = {}
        self._number = 0
        self._past: deque[tuple[int, tuple[str, ...]]] = deque(maxlen=REMEMBERED)
        self._listeners: set[_Listener] = set()
        self._looking: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()
        self._is_closed = False

    async def listen(self, last: str | None) -> AsyncGenerator[bytes, None]:
        """The events of one listener, without end.

        Raises:
            BusyError: too many listen.
        """
        if len(self._listeners) >= MAX_LISTENERS:
            raise BusyError(f"{MAX_LISTENERS} pages are open already", retry_after_s=30)
        if self._is_closed:
            raise BusyError("this node is stopping", retry_after_s=5)
        one = _Listener()
        self._listeners.add(one)
        try:
            if self._looking is None or self._looking.done():
                self._ready.clear()
                self._read_at.clear()
                self._looking = asyncio.create_task(self._look_always(), name="events for the dashboard")
            yield b"retry: 1000\n\n"
            await self._ready.wait()
            yield self._event(self._since(last))
            while True:
                try:
                    async with asyncio.timeout(self._keep_alive_s):
                        event = await one.waiting.get()
                except TimeoutError:
                    event = b"event: here\ndata: \n\n"  # not a comment, which no page can see
                if event is None:
                    return
                yield event
        finally:
            self._listeners.discard(one)
            if not self._listeners and self._looking is not None:
                self._looking.cancel()
                self._looking = None

    async def close(self) -> None:
        """End all streams."""
        self._is_closed = True
        for one in tuple(self._listeners):
            self._cut(one)
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

    async def _look_always(self) -> None:
        while True:
            await self._look()
            self._ready.set()
            await asyncio.sleep(self._look_s)

    async def _look(self) -> None:
        now = time.monotonic()
        due = [one for one in self._sections if now - self._read_at.get(one.name, float("-inf")) >= one.every_s]
        found = await asyncio.gather(*(_read(one) for one in due))
        changed = []
        for section, text in zip(due, found, strict=True):
            self._read_at[section.name] = now
            if text is not None and self._known.get(section.name) != text:
                self._known[section.name] = text
                changed.append(section.name)
        if not changed:
            return
        self._number += 1
        self._past.append((self._number, tuple(changed)))
        event = self._event(changed)
        for one in tuple(self._listeners):
            if self._ready.is_set():  # before, each is given all of it
                try:
                    one.waiting.put_nowait(event)
                except asyncio.QueueFull:
                    self._cut(one)

    def _since(self, last: str | None) -> Sequence[str]:
        """The sections that changed after an event; all, where that event is not remembered."""
        instance, _, number = (last or "").rpartition("-")
        if instance == self._instance and number.isascii() and number.isdecimal() and self._past:
            seen = int(number[:18])
            if self._past[0][0] - 1 <= seen <= self._number:
                newer = {name for at, names in self._past if at > seen for name in names}
                return [name for name in self._known if name in newer]
        return list(self._known)

    def _event(self, names: Sequence[str]) -> bytes:
        body = ",".join(f"{json.dumps(name)}:{self._known[name]}" for name in names)
        return f"event: state\nid: {self._instance}-{self._number}\ndata: {{{body}}}\n\n".encode()

    def _cut(self, one: _Listener) -> None:
        self._listeners.discard(one)
        while not one.waiting.empty():
            one.waiting.get_nowait()
        one.waiting.put_nowait(None)


async def _read(section: Section) -> str | None:
    """A section's JSON, in ASCII; None where it could not be read: the page keeps what it has."""
    try:
        async with asyncio.timeout(READ_S):
            return json.dumps(await section.read(), separators=(",", ":"))
    except (SwarmError, TimeoutError) as error:
        log.info("the dashboard's %s could not be read: %s", section.name, error)
    except Exception:
        log.exception("the dashboard's %s could not be read: a bug of ours", section.name)
    return None


def pulse_routes(pulse: Pulse) -> list[Route]:
    """Build `/api/events`."""

    async def events(request: Request) -> Response:
        holds: Callable[[], bool] = request.scope.get("state", {}).get(
            "holds", lambda: True
        )  # the owner's socket has none
        source = await begun(pulse.listen(request.headers.get("last-event-id")))
        return EventStream(_while(holds, source), {})

    return [Route("/api/events", events)]


def ring_routes(rings: Callable[[], list[dict[str, Any]]]) -> list[Route]:
    """Build `/api/rings`: the same as the section of that name."""

    async def show(given: Given, by: str) -> Any:
        return {"rings": rings()}

    return [json_route("rings", "GET", show)]


async def _while(holds: Callable[[], bool], source: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    async with contextlib.aclosing(source):
        async for event in source:
            if not holds():
                return
            yield event
