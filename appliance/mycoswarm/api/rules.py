"""The owner's routes for rules: show, edit, try out. What they do is the keeper's (daemon/keeper.py)."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from starlette.routing import Route

from mycoswarm.api.body import Given, json_route, maybe_count, maybe_text, most, only, text
from mycoswarm.api.explanation import explanation_of
from mycoswarm.api.question import read_route
from mycoswarm.base.errors import InputError
from mycoswarm.routing.allotment import ToolDecision
from mycoswarm.routing.decision import Outcome
from mycoswarm.routing.snapshot import Narrowing

MAX_HISTORY = 1000
MAX_REPLAYED = 10_000
USUAL_HISTORY = 20
USUAL_REPLAYED = 200
MAX_WITHIN_S = 10 * 366 * 86400  # ten years

_AMENDMENT = ("tests", "version")  # what every edit may say besides
_SPOT = ("position", "before", "after")


@dataclass(frozen=True, slots=True, kw_only=True)
class Amendment:
    """What every edit carries: who, which tests change with it (None takes one away), and the version it is made
    against, where whoever edits has looked at one."""

    by: str
    tests: dict[str, Any]
    expected_version: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """Where among the rules: a position from 1, or before or after a rule. Nothing said is the end."""

    position: int | None = None
    before: str | None = None
    after: str | None = None


class RuleDesk(Protocol):
    """What the routes ask of the keeper. Rules and tests are plain JSON values; every edit gives the new version."""

    async def show(self) -> dict[str, Any]:
        """The rules in order, their tests and their version."""

    async def add(self, rule: Any, spot: Spot, how: Amendment) -> dict[str, Any]:
        """Put a new rule in."""

    async def edit(self, name: str, rule: Any, how: Amendment) -> dict[str, Any]:
        """Put another rule in a rule's place."""

    async def remove(self, name: str, how: Amendment) -> dict[str, Any]:
        """Take a rule out."""

    async def move(self, name: str, spot: Spot, how: Amendment) -> dict[str, Any]:
        """Put a rule elsewhere in the order."""

    async def switch(self, name: str, enabled: bool, how: Amendment) -> dict[str, Any]:
        """Switch a rule on or off."""

    async def load(self, rules: Any, how: Amendment) -> dict[str, Any]:
        """Put a whole list of rules, and all tests, in the place of those there are."""

    async def change_tests(self, how: Amendment) -> dict[str, Any]:
        """Change tests alone."""

    async def try_tests(self, given: dict[str, Any] | None) -> dict[str, Any]:
        """Run these tests, or the stored ones where None is given; change nothing."""

    async def history(self, limit: int) -> dict[str, Any]:
        """The newest versions, newest first."""

    async def undo(self, by: str) -> dict[str, Any]:
        """Make the version before the present one the newest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleServices:
    """What the routes need. `explain` decides on an example request and sends nothing. `replay` says how the last N
    logged requests would move under other rules (a list of plain rules), or under the present ones where None is given:
    of those of the last `within_s` seconds alone, where given: see `Hindsight.replay` in daemon/hindsight.py."""

    desk: RuleDesk
    explain: Callable[[Any, Narrowing], Awaitable[Outcome | ToolDecision]]
    replay: Callable[[int, list[Any] | None, int | None], Awaitable[dict[str, Any]]]


def rule_routes(services: RuleServices) -> list[Route]:
    """Build the routes under `/api/rules`."""
    desk = services.desk

    async def show(given: Given, by: str) -> Any:
        return await desk.show()

    async def try_tests(given: Given, by: str) -> Any:
        only(given, "tests")
        return await desk.try_tests(_tests(given) if given.get("tests") is not None else None)

    async def history(given: Given, by: str) -> Any:
        return await desk.history(most(given, "limit", MAX_HISTORY) or USUAL_HISTORY)

    async def undo(given: Given, by: str) -> Any:
        only(given)
        return await desk.undo(by)

    async def explain(given: Given, by: str) -> Any:
        only(given, "request", "route")
        narrowing = read_route(maybe_text(given, "route"))
        return explanation_of(await services.explain(given.get("request", {}), narrowing))

    async def replay(given: Given, by: str) -> Any:
        only(given, "last", "within_s", "rules")
        rules = given.get("rules")
        if rules is not None and not isinstance(rules, list):
            raise InputError("rules must be a list of rules")
        within_s = most(given, "within_s", MAX_WITHIN_S)
        usual = USUAL_REPLAYED if within_s is None else MAX_REPLAYED
        return await services.replay(most(given, "last", MAX_REPLAYED) or usual, rules, within_s)

    # Rules' names may hold any visible sign, slashes too. So the longer paths stand before the shorter ones, and what
    # is no rule's name is reached by methods that rules' own paths do not have.
    return [
        json_route("rules", "GET", show),
        json_route("rules/history", "GET", history),
        json_route("rules/test", "POST", try_tests),
        json_route("rules/undo", "POST", undo),
        json_route("rules/explain", "POST", explain),
        json_route("rules/replay", "POST", replay),
        *_edits(desk),
    ]


def _edits(desk: RuleDesk) -> list[Route]:
    async def add(given: Given, by: str) -> Any:
        only(given, "rule", *_SPOT, *_AMENDMENT)
        return await desk.add(given.get("rule"), _spot(given), _amendment(given, by))

    async def load(given: Given, by: str) -> Any:
        only(given, "rules", *_AMENDMENT)
        if "tests" not in given:
            raise InputError("tests must be given with a whole list of rules", hint="Send {} where there are none.")
        return await desk.load(given.get("rules"), _amendment(given, by))

    async def change_tests(given: Given, by: str) -> Any:
        only(given, *_AMENDMENT)
        return await desk.change_tests(_amendment(given, by))

    async def edit(given: Given, by: str) -> Any:
        only(given, "name", "rule", *_AMENDMENT)
        return await desk.edit(text(given, "name"), given.get("rule"), _amendment(given, by))

    async def remove(given: Given, by: str) -> Any:
        only(given, "name", *_AMENDMENT)
        return await desk.remove(text(given, "name"), _amendment(given, by))

    async def move(given: Given, by: str) -> Any:
        only(given, "name", *_SPOT, *_AMENDMENT)
        return await desk.move(text(given, "name"), _spot(given), _amendment(given, by))

    async def enable(given: Given, by: str) -> Any:
        only(given, "name", *_AMENDMENT)
        return await desk.switch(text(given, "name"), True, _amendment(given, by))

    async def disable(given: Given, by: str) -> Any:
        only(given, "name", *_AMENDMENT)
        return await desk.switch(text(given, "name"), False, _amendment(given, by))

    return [
        json_route("rules", "POST", add),
        json_route("rules", "PUT", load),
        json_route("rules/tests", "POST", change_tests),
        json_route("rules/{name:path}/move", "POST", move),
        json_route("rules/{name:path}/enable", "POST", enable),
        json_route("rules/{name:path}/disable", "POST", disable),
        json_route("rules/{name:path}", "PUT", edit),
        json_route("rules/{name:path}", "DELETE", remove),
    ]


def _amendment(given: Given, by: str) -> Amendment:
    return Amendment(by=by, tests=_tests(given), expected_version=maybe_count(given, "version"))


def _tests(given: Given) -> dict[str, Any]:
    tests = given.get("tests", {})
    if not isinstance(tests, dict):
        raise InputError("tests must be an object: for each test's name the test, or null to take it away")
    return tests


def _spot(given: Given) -> Spot:
    if sum(given.get(name) is not None for name in _SPOT) > 1:
        raise InputError("position, before and after exclude each other", hint="Say one of them.")
    return Spot(
        position=maybe_count(given, "position"), before=maybe_text(given, "before"), after=maybe_text(given, "after")
    )
