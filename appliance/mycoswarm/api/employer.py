"""The owner's routes for agents and their runs. A run is streamed as JSON lines; who hangs up stops it."""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mycoswarm.agents.crew import Assignment
from mycoswarm.agents.spawn import MAX_TASK
from mycoswarm.agents.team import Member
from mycoswarm.agents.turn import Message
from mycoswarm.api.body import Given, asker, json_route, only, read_body, text
from mycoswarm.api.departure import EventStream, while_present
from mycoswarm.api.refusal import bug, error_body
from mycoswarm.api.visitor import envelope_of
from mycoswarm.base.errors import InputError, SwarmError
from mycoswarm.store.apikey import Key
from mycoswarm.store.diploma import Diploma
from mycoswarm.store.run import RunRow
from mycoswarm.wire.tool import ToolSpec

MAX_EARLIER = 64  # messages that were said before
MAX_CHARACTERS = 100_000  # in all of them
MAX_LISTED = 500
USUAL = 50

log = logging.getLogger(__name__)


class Bench(Protocol):
    """Agent files; agents/team.py. Blocking."""

    def members(self) -> tuple[Member, ...]:
        """All agents."""

    def member(self, name: str) -> Member:
        """One agent; NotFoundError."""

    def put(self, name: str, text: str) -> object:
        """Write an agent file; InputError."""

    def remove(self, name: str) -> None:
        """Take one away; NotFoundError, InputError."""


class Work(Protocol):
    """Runs that go on; agents/crew.py."""

    def run(self, assignment: Assignment) -> AsyncGenerator[dict[str, Any], None]:
        """Run an agent and tell of it."""

    async def stop(self, run_id: str) -> None:
        """Stop a run; NotFoundError."""

    def running(self) -> tuple[RunRow, ...]:
        """What goes on."""


class Past(Protocol):
    """Runs that are kept; store/run.py. Blocking."""

    def newest(self, limit: int) -> tuple[RunRow, ...]:
        """The newest runs."""

    def find(self, run_id: str) -> tuple[RunRow, list[dict[str, Any]]]:
        """One run; NotFoundError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EmployerServices:
    """What the routes need. `specs`: the tools there are, as a function, for they may change. `admit` counts a run
    against its key's limits; it raises BusyError where one is reached. `certificate` is that of a model by its name."""

    team: Bench
    crew: Work
    runs: Past
    specs: Callable[[], tuple[ToolSpec, ...]]
    admit: Callable[[Key | None], None]
    certificate: Callable[[str], Awaitable[Diploma | None]]


def employer_routes(services: EmployerServices) -> list[Route]:
    """Build the routes under `/api/agents` and `/api/runs`."""
    desk = _Desk(services)
    return [
        json_route("agents", "GET", desk.agents),
        json_route("agents/{name}", "GET", desk.agent),
        json_route("agents/{name}", "PUT", desk.put),
        json_route("agents/{name}", "DELETE", desk.remove),
        Route("/api/agents/{name}/run", desk.run, methods=["POST"]),
        json_route("runs", "GET", desk.runs),
        json_route("runs/{id}", "GET", desk.shown),
        json_route("runs/{id}/stop", "POST", desk.stop),
    ]


async def run_list(services: EmployerServices, limit: int) -> list[dict[str, Any]]:
    """The newest runs, those that go on first where they are not kept; without their answers.

    Raises:
        StorageError: they could not be read.
    """
    kept = await asyncio.to_thread(services.runs.newest, limit)
    known = {row.id for row in kept}
    rows = [*(row for row in services.crew.running() if row.id not in known), *kept]
    return [_run(row) for row in rows[:limit]]


class _Desk:
    def __init__(self, services: EmployerServices) -> None:
        self._with = services

    async def agents(self, given: Given, by: str) -> Any:
        members = await asyncio.to_thread(self._with.team.members)
        return {"agents": [_member(one) for one in members]}

    async def agent(self, given: Given, by: str) -> Any:
        one = await asyncio.to_thread(self._with.team.member, text(given, "name"))
        granted = [spec.name for spec in self._with.specs() if one.profile is not None and one.profile.takes(spec.name)]
        found = None if one.profile is None else await self._with.certificate(one.profile.model)
        has = None if found is None else found.shown()
        return {**_member(one), "toml": one.text, "granted": granted, "model_certificate": has}

    async def put(self, given: Given, by: str) -> Any:
        only(given, "name", "toml")
        if not isinstance(given.get("toml"), str):
            raise InputError("toml must be the text of an agent file")
        await asyncio.to_thread(self._with.team.put, text(given, "name"), given["toml"])
        return await self.agent(given, by)

    async def remove(self, given: Given, by: str) -> Any:
        await asyncio.to_thread(self._with.team.remove, text(given, "name"))
        return {"name": given["name"]}

    async def run(self, request: Request) -> Response:
        """Wait for the run to have begun, so that early errors get their own status; then stream."""
        assignment = await self._assignment(request)
        self._with.admit(request.scope["state"]["key"])
        events = self._with.crew.run(assignment)
        first = await while_present(request.receive, _first(events))
        if first is None:
            await events.aclose()
            return Response(status_code=499)  # nobody reads it; the number is nginx's
        return _LineStream(_lines(first, events), {"x-mycoswarm-run": str(first["id"])})

    async def runs(self, given: Given, by: str) -> Any:
        return {"runs": await run_list(self._with, _limit(given.get("limit")))}

    async def shown(self, given: Given, by: str) -> Any:
        row, events = await asyncio.to_thread(self._with.runs.find, text(given, "id"))
        return {**row.shown(), "events": events}

    async def stop(self, given: Given, by: str) -> Any:
        await self._with.crew.stop(text(given, "id"))
        return {"id": given["id"]}

    async def _assignment(self, request: Request) -> Assignment:
        given = await read_body(request)
        only(given, "task", "earlier")
        task, earlier = given.get("task"), _earlier(given.get("earlier", []))
        if not isinstance(task, str) or not 0 < len(task.strip()) <= MAX_TASK:
            raise InputError(f"task must be a text of 1 to {MAX_TASK} characters")
        one = await asyncio.to_thread(self._with.team.member, request.path_params["name"])
        if one.profile is None:
            raise InputError(one.fault or "its file is broken", hint="Mend the file.", code="bad_agent_file")
        envelope = envelope_of(request, "")
        if envelope.route:
            raise InputError("an agent's requests go as the rules say, and take no X-Mycoswarm-Route")
        return Assignment(
            profile=one.profile, task=task, asker=envelope.asker, asked_by=asker(request), earlier=earlier
        )


class _LineStream(EventStream):
    """JSON lines, whose source is closed when the client hangs up."""

    media_type = "application/x-ndjson"


async def _first(events: AsyncGenerator[dict[str, Any], None]) -> dict[str, Any]:
    try:
        return await anext(events)
    except BaseException:
        await events.aclose()
        raise


async def _lines(first: dict[str, Any], events: AsyncGenerator[dict[str, Any], None]) -> AsyncGenerator[bytes, None]:
    try:
        yield _line(first)
        async for event in events:
            yield _line(event)
    except SwarmError as error:
        yield _line(error_body(error))
    except Exception:
        log.exception("a run failed: a bug of ours")
        yield _line(error_body(bug()))
    finally:
        await events.aclose()


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value).encode() + b"\n"


def _member(one: Member) -> dict[str, Any]:
    shown: dict[str, Any] = {"name": one.name, "is_own": one.is_own, "fault": one.fault}
    if (profile := one.profile) is not None:
        budget = profile.budget
        shown |= {
            "description": profile.description,
            "model": profile.model,
            "system": profile.system,
            "tools": list(profile.tools),
            "labels": sorted(profile.labels),
            "certificate": profile.certificate,
            "budget": {"max_steps": budget.max_steps, "tokens": budget.tokens, "seconds": budget.seconds},
        }
    return shown


def _run(row: RunRow) -> dict[str, Any]:
    """A run in a list: its answer is in the run itself."""
    return {name: value for name, value in row.shown().items() if name != "answer"}


def _earlier(given: Any) -> tuple[Message, ...]:
    """What was said before: texts of the user and the assistant."""
    if not isinstance(given, list) or len(given) > MAX_EARLIER:
        raise InputError(f"earlier must be a list of at most {MAX_EARLIER} messages")
    messages = []
    for one in given:
        is_message = isinstance(one, dict) and set(one) == {"role", "content"} and isinstance(one["content"], str)
        if not is_message or one["role"] not in ("user", "assistant"):
            raise InputError('a message of earlier is {"role": "user" or "assistant", "content": TEXT}')
        messages.append(dict(one))
    if sum(len(one["content"]) for one in messages) > MAX_CHARACTERS:
        raise InputError(f"earlier holds more than {MAX_CHARACTERS} characters", hint="Leave the oldest out.")
    return tuple(messages)


def _limit(given: Any) -> int:
    if given is None:
        return USUAL
    if not (str(given).isascii() and str(given).isdecimal() and len(str(given)) < 5 and 0 < int(given) <= MAX_LISTED):
        raise InputError(f"limit must be a whole number from 1 to {MAX_LISTED}")
    return int(given)
