"""The owner's routes for agents and their runs. A run is streamed as JSON lines; who hangs up stops it."""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator
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
    """What the routes need. `specs`: the tools there are, as a function, for they may change."""

    team: Bench
    crew: Work
    runs: Past
    specs: "Specs"


class Specs(Protocol):
    """The tools there are."""

    def __call__(self) -> tuple[ToolSpec, ...]:
        """All of them."""


def employer_routes(services: EmployerServices) -> list[Route]:
    """Build the routes under `/api/agents` and `/api/runs`."""
    team, crew, runs = services.team, services.crew, services.runs

    async def agents(given: Given, by: str) -> Any:
        members = await asyncio.to_thread(team.members)
        return {"agents": [_member(one) for one in members]}

    async def agent(given: Given, by: str) -> Any:
        one = await asyncio.to_thread(team.member, text(given, "name"))
        granted = [s.name for s in services.specs() if one.profile is not None and one.profile.takes(s.name)]
        return {**_member(one), "toml": one.text, "granted": granted}

    async def put(given: Given, by: str) -> Any:
        only(given, "name", "toml")
        if not isinstance(given.get("toml"), str):
            raise InputError("toml must be the text of an agent file")
        await asyncio.to_thread(team.put, text(given, "name"), given["toml"])
        return await agent(given, by)

    async def remove(given: Given, by: str) -> Any:
        await asyncio.to_thread(team.remove, text(given, "name"))
        return {"name": given["name"]}

    async def run(request: Request) -> Response:
        given = await read_body(request)
        only(given, "task", "earlier")
        name, task = request.path_params["name"], given.get("task")
        if not isinstance(task, str) or not 0 < len(task.strip()) <= MAX_TASK:
            raise InputError(f"task must be a text of 1 to {MAX_TASK} characters")
        earlier = _earlier(given.get("earlier", []))
        one = await asyncio.to_thread(team.member, name)
        if one.profile is None:
            raise InputError(one.fault or "its file is broken", hint="Mend the file.", code="bad_agent_file")
        envelope = envelope_of(request, "")
        if envelope.route:
            raise InputError("an agent's requests go as the rules say, and take no X-Mycoswarm-Route")
        assignment = Assignment(
            profile=one.profile, task=task, asker=envelope.asker, asked_by=asker(request), earlier=earlier
        )
        events = crew.run(assignment)
        first = await while_present(request.receive, _first(events))
        if first is None:
            await events.aclose()
            return Response(status_code=499)  # nobody reads it; the number is nginx's
        return _LineStream(_lines(first, events), {"x-mycoswarm-run": str(first["id"])})

    async def listed(given: Given, by: str) -> Any:
        limit = _limit(given.get("limit"))
        going = {row.id: row for row in crew.running()}
        kept = await asyncio.to_thread(runs.newest, limit)
        rows = [*(row for row in going.values() if row.id not in {one.id for one in kept}), *kept]
        return {"runs": [_run(row) for row in rows[:limit]]}

    async def shown(given: Given, by: str) -> Any:
        row, events = await asyncio.to_thread(runs.find, text(given, "id"))
        return {**row.shown(), "events": events}

    async def stop(given: Given, by: str) -> Any:
        await crew.stop(text(given, "id"))
        return {"id": given["id"]}

    return [
        json_route("agents", "GET", agents),
        json_route("agents/{name}", "GET", agent),
        json_route("agents/{name}", "PUT", put),
        json_route("agents/{name}", "DELETE", remove),
        Route("/api/agents/{name}/run", run, methods=["POST"]),
        json_route("runs", "GET", listed),
        json_route("runs/{id}", "GET", shown),
        json_route("runs/{id}/stop", "POST", stop),
    ]


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
