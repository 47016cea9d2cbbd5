"""The keeper of the rules: what the owner edits, and what `decide` looks at. No edit that breaks a test is let in."""

import asyncio
import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import TracebackType
from typing import Any, Self, TypeVar

from mycoswarm.api.rules import Amendment, Spot
from mycoswarm.base.errors import InputError
from mycoswarm.daemon.charter import (
    amended,
    check,
    faults,
    index_of,
    place_of_spot,
    rule_set_of,
    shadow_of,
    shadows_of,
    shown,
    stored,
)
from mycoswarm.routing.rule import MAX_RULES, RuleSet, read_rule
from mycoswarm.routing.snapshot import SwarmState
from mycoswarm.store.rulebook import MAX_WORDS, Document, RuleBook, StoredRule

Result = TypeVar("Result")


class Keeper:
    """`async with Keeper(book, swarm=...)`. `swarm` gives the swarm as it is now, for tests.

    `rules` is what `decide` asks; it never waits. Edits run one after the other in a thread of their own, so that many
    of them take no thread away from deciding.
    """

    def __init__(
        self, book: RuleBook, *, swarm: Callable[[], SwarmState], wall_clock: Callable[[], float] = time.time
    ) -> None:
        """Make the stored rules ready.

        Raises:
            StorageError: a stored rule cannot be read.
        """
        self._book, self._swarm, self._wall_clock = book, swarm, wall_clock
        self._rules = rule_set_of(book.document())
        self._shadows: tuple[int, dict[str, str]] = (-1, {})  # of a version
        self._hand = ThreadPoolExecutor(max_workers=1, thread_name_prefix="rules")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self._hand.shutdown, wait=True, cancel_futures=True)

    def rules(self) -> RuleSet:
        """The rules as they are now."""
        return self._rules

    async def show(self) -> dict[str, Any]:
        """The rules in order, their tests and their version, as JSON values."""

        def work() -> dict[str, Any]:
            if self._shadows[0] != self._rules.version:
                self._shadows = self._rules.version, shadows_of(self._rules)
            return shown(self._book.document(), self._rules, self._shadows[1])

        return await self._do(work)

    async def add(self, rule: Any, spot: Spot, how: Amendment) -> dict[str, Any]:
        """Put a new rule in.

        Raises:
            InputError: it cannot be, its name is taken, or it breaks a test.
            NotFoundError: the rule that it is to stand beside is not there.
            StorageError: it could not be kept.
        """
        fresh = read_rule(rule)

        def change(rules: list[StoredRule]) -> list[StoredRule]:
            if len(rules) >= MAX_RULES:
                raise InputError(f"there are {MAX_RULES} rules already", hint="Take some out, or join some.")
            at = place_of_spot(rules, spot)
            return [*rules[:at], stored(fresh), *rules[at:]]

        return await self._edit(change, how, what=f"add {fresh.name}", name=fresh.name)

    async def edit(self, name: str, rule: Any, how: Amendment) -> dict[str, Any]:
        """Put another rule in a rule's place.

        Raises:
            InputError: it cannot be, its name is taken, or it breaks a test.
            NotFoundError: there is no such rule.
            StorageError: it could not be kept.
        """
        fresh = read_rule(rule)

        def change(rules: list[StoredRule]) -> list[StoredRule]:
            at = index_of(rules, name)
            return [*rules[:at], stored(fresh, rules[at].id), *rules[at + 1 :]]

        return await self._edit(change, how, what=f"edit {name}", name=fresh.name)

    async def remove(self, name: str, how: Amendment) -> dict[str, Any]:
        """Take a rule out.

        Raises:
            InputError: that breaks a test.
            NotFoundError: there is no such rule.
            StorageError: it could not be kept.
        """

        def change(rules: list[StoredRule]) -> list[StoredRule]:
            at = index_of(rules, name)
            return [*rules[:at], *rules[at + 1 :]]

        return await self._edit(change, how, what=f"remove {name}")

    async def move(self, name: str, spot: Spot, how: Amendment) -> dict[str, Any]:
        """Put a rule elsewhere in the order; nowhere said is the end.

        Raises:
            InputError: that breaks a test.
            NotFoundError: there is no such rule, or none of that name to stand beside.
            StorageError: it could not be kept.
        """

        def change(rules: list[StoredRule]) -> list[StoredRule]:
            one = rules[index_of(rules, name)]
            others = [each for each in rules if each is not one]
            if name in (spot.before, spot.after):
                raise InputError(f"{name[:80]!r} cannot stand beside itself", hint="Name another rule.")
            at = place_of_spot(others, spot)
            return [*others[:at], one, *others[at:]]

        return await self._edit(change, how, what=f"move {name}", name=name)

    async def switch(self, name: str, enabled: bool, how: Amendment) -> dict[str, Any]:
        """Switch a rule on or off.

        Raises:
            InputError: that breaks a test.
            NotFoundError: there is no such rule.
            StorageError: it could not be kept.
        """

        def change(rules: list[StoredRule]) -> list[StoredRule]:
            at = index_of(rules, name)
            return [*rules[:at], replace(rules[at], enabled=enabled), *rules[at + 1 :]]

        return await self._edit(change, how, what=f"{'enable' if enabled else 'disable'} {name}", name=name)

    async def load(self, rules: Any, how: Amendment) -> dict[str, Any]:
        """Put a whole list of rules, and all tests, in the place of those there are. Rules keep their ids by name.

        Raises:
            InputError: one of them cannot be, or breaks a test; says which.
            StorageError: they could not be kept.
        """
        if not isinstance(rules, list) or len(rules) > MAX_RULES:
            raise InputError(f"rules must be a list of at most {MAX_RULES} rules")
        if any(test is None for test in how.tests.values()):
            raise InputError("a whole list of rules comes with whole tests", hint="Leave out those that are to go.")

        def change(before: list[StoredRule]) -> list[StoredRule]:
            ids = {rule.name: rule.id for rule in before}
            fresh = [read_rule(rule) for rule in rules]
            return [stored(rule, ids.pop(rule.name, 0)) for rule in fresh]

        return await self._edit(change, how, what=f"import {len(rules)} rules", keeps_tests=False)

    async def change_tests(self, how: Amendment) -> dict[str, Any]:
        """Change tests alone. Those that are put in must hold; others that a change of the swarm has broken do
        not keep any from being taken away.

        Raises:
            InputError: one cannot be, or does not hold.
            NotFoundError: one that is to go is not there.
            StorageError: they could not be kept.
        """
        return await self._edit(lambda rules: rules, how, what=f"tests {', '.join(how.tests)}", tests=tuple(how.tests))

    async def try_tests(self, given: dict[str, Any] | None) -> dict[str, Any]:
        """Run these tests, by name, or the stored ones where None is given; change nothing.

        Raises:
            InputError: one of them cannot be.
        """
        swarm = self._swarm()

        def work() -> dict[str, Any]:
            document = self._book.document()
            if given is not None:
                document = amended(replace(document, tests=()), given)
            found = faults(document, swarm)
            shown = [
                {"name": test.name, "passed": (why := found.get(test.name)) is None, "why": why}
                for test in document.tests
            ]
            return {"passed": not found, "tests": shown}

        return await self._do(work)

    async def history(self, limit: int) -> dict[str, Any]:
        """The newest versions, newest first.

        Raises:
            StorageError: they could not be read.
        """
        found = await self._do(lambda: self._book.history(limit))
        return {"versions": [{"version": v.version, "at": v.at, "by": v.by, "what": v.what} for v in found]}

    async def undo(self, by: str) -> dict[str, Any]:
        """Take back the last edit that was not taken back yet.

        Raises:
            InputError: what would come back breaks a test.
            NotFoundError: there is nothing to undo.
            StorageError: it could not be kept.
        """
        swarm = self._swarm()

        def work() -> dict[str, Any]:
            document = self._book.undo(by=by, now=self._wall_clock(), check=lambda wanted: check(wanted, swarm))
            self._rules = rule_set_of(document)
            return {"version": document.version, "what": self._book.history(1)[0].what}

        return await self._do(work)

    async def _edit(
        self,
        change: Callable[[list[StoredRule]], list[StoredRule]],
        how: Amendment,
        *,
        what: str,
        name: str | None = None,
        keeps_tests: bool = True,
        tests: Collection[str] | None = None,
    ) -> dict[str, Any]:
        """Make one edit, and tell its version; where a rule is named, its place and what it hides behind too. These
        tests must hold after it, or all."""
        swarm = self._swarm()

        def make(document: Document) -> Document:
            rules = tuple(change(list(document.rules)))
            kept = document.tests if keeps_tests else ()
            wanted = amended(replace(document, rules=rules, tests=kept), how.tests)
            check(wanted, swarm, tests)
            return wanted

        def work() -> dict[str, Any]:
            document = self._book.edit(
                make,
                by=how.by,
                what=what[:MAX_WORDS],
                now=self._wall_clock(),
                expected_version=how.expected_version,
            )
            self._rules = rule_set_of(document)
            if name is None:
                return {"version": document.version}
            index = index_of(document.rules, name)
            shadow = shadow_of(self._rules, index)
            return {"version": document.version, "name": name, "position": index + 1, "shadowed_by": shadow}

        return await self._do(work)

    async def _do(self, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._hand, work)
