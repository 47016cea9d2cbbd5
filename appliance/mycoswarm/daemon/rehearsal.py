"""Deciding on example requests as if they were real ones, with the rules, models and nodes of now. Sends nothing."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from mycoswarm.base.errors import NotFoundError
from mycoswarm.catalog.facts import ModelFacts
from mycoswarm.chat import Models, load_of
from mycoswarm.routing.decision import Outcome, decide
from mycoswarm.routing.rule import RuleSet
from mycoswarm.routing.snapshot import Narrowing, SwarmState
from mycoswarm.routing.trial import asked_of, read_example
from mycoswarm.wire.plan import Conditions


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsal:
    """What a real request is decided with: see `Surroundings` in chat.py."""

    swarm: Callable[[str], SwarmState]
    models: Models
    rules: Callable[[], RuleSet]
    conditions: Callable[[ModelFacts, tuple[str, ...]], Conditions]
    wall_clock: Callable[[], float]

    async def explain(self, request: Any, narrowing: Narrowing) -> Outcome:
        """Decide on an example (`Example` in routing/trial.py, as plain values), with every reason. Without `at` the
        time is now.

        Raises:
            InputError: it is no example request, or this node decides nothing.
        """
        example = read_example(request)
        try:
            facts = self.models.find(example.model)
        except NotFoundError:
            facts = None  # an endpoint may have it
        swarm, asked = self.swarm(facts.digest if facts else ""), asked_of(example)
        asked = replace(asked, narrowing=narrowing, at=self.wall_clock() if example.at is None else asked.at)
        load = None
        if facts is not None:
            load = load_of(facts, self.conditions(facts, tuple(node.node_id for node in swarm.nodes)))
            asked = replace(asked, model=facts.name, model_digest=facts.digest)
        # In a thread: cutting a large model over eight nodes takes a Raspberry Pi half a second.
        return await asyncio.to_thread(lambda: decide(asked, load, self.rules(), swarm, explain=True))
