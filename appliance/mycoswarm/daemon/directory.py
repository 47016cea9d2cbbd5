"""The external endpoints: what the owner registers, and which rules lead there. What it answers holds no secret."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from mycoswarm.api.destination import Registration
from mycoswarm.base.errors import InputError
from mycoswarm.routing.action import External, unwrapped
from mycoswarm.routing.rule import RuleSet
from mycoswarm.routing.snapshot import EndpointState
from mycoswarm.store.endpoint import Endpoint, Endpoints, normal_url
from mycoswarm.swarm.place import Place

# Reaches an endpoint, given its name, URL, secret and place, proves the place, and gives the models that it serves.
Probe = Callable[[str, str, str | None, Place], Awaitable[tuple[str, ...]]]


class Directory:
    """What the owner's routes ask."""

    def __init__(
        self,
        book: Endpoints,
        *,
        rules: Callable[[], RuleSet],
        wall_clock: Callable[[], float],
        probe: Probe,
    ) -> None:
        self._book, self._rules, self._wall_clock, self._probe = book, rules, wall_clock, probe

    async def endpoints(self) -> dict[str, Any]:
        """All endpoints, each with the rules that name it."""
        return {"endpoints": [self._shown(one) for one in self._book.entries()]}

    async def add(self, given: Registration, *, check: bool, by: str) -> dict[str, Any]:
        """Register an endpoint; with `check` only after it was reached and its place proved.

        Raises:
            InputError: a bad or taken name, URL or key, or too many endpoints.
            SwarmError: it does not answer, or is not where it is said to be.
            StorageError: it could not be kept.
        """
        models: tuple[str, ...] = ()
        if any(one.name == given.name for one in self._book.entries()):  # before its secret is sent anywhere
            raise InputError(
                f"an endpoint named {given.name!r} exists", hint="Take another name, or remove that first."
            )
        if check:
            models = await self._probe(given.name, normal_url(given.url), given.secret, given.place)
        kept = await asyncio.to_thread(
            lambda: self._book.add(
                given.name,
                given.url,
                place=given.place,
                secret=given.secret,
                models=models,
                by=by,
                now=self._wall_clock(),
            )
        )
        return {**self._shown(kept), "is_checked": check}

    async def remove(self, name: str) -> dict[str, Any]:
        """Forget an endpoint and its secret; tells the rules that still name it.

        Raises:
            NotFoundError: there is none of that name.
            StorageError: that could not be kept.
        """
        await asyncio.to_thread(self._book.remove, name)
        return {"name": name, "rules": self._named_by(name)}

    def _shown(self, one: Endpoint) -> dict[str, Any]:
        rules = self._named_by(one.name)
        return {
            "name": one.name,
            "url": one.url,
            "place": one.place,
            "models": list(one.models),
            "has_secret": one.has_secret,
            "added_at": one.added_at,
            "added_by": one.added_by,
            "rules": rules,
            "is_reachable": bool(rules),
        }

    def _named_by(self, name: str) -> list[str]:
        """The rules, of those that are switched on, that could send there."""
        return [
            rule.name
            for rule in self._rules().rules
            if rule.enabled
            and any(isinstance(done := unwrapped(one), External) and done.name == name for one in rule.chain)
        ]


def endpoint_states(book: Endpoints) -> tuple[EndpointState, ...]:
    """The endpoints as `decide` sees them."""
    return tuple(EndpointState(one.name, one.place, one.models, one.added_at) for one in book.entries())
