"""Deciding on example requests as if they were real ones, with the rules, models and nodes of now. Sends nothing."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from mycoswarm.base.errors import NotFoundError
from mycoswarm.catalog.facts import ModelFacts
from mycoswarm.chat.load import fitted, load_of
from mycoswarm.chat.surroundings import Models
from mycoswarm.routing.allotment import ToolDecision, decide_tool
from mycoswarm.routing.decision import Outcome, decide
from mycoswarm.routing.reach import TOOL
from mycoswarm.routing.rule import RuleSet
from mycoswarm.routing.snapshot import Narrowing, SwarmState
from mycoswarm.routing.trial import asked_of, read_example
from mycoswarm.wire.plan import Conditions


class Rehearsal:
    """Decides with what real requests are decided with: all of it as in `Surroundings`."""

    def __init__(
        self,
        *,
        swarm: Callable[[str | None], SwarmState],
        models: Models,
        rules: Callable[[], RuleSet],
        conditions: Callable[[ModelFacts, tuple[str, ...]], Conditions],
        wall_clock: Callable[[], float],
    ) -> None:
        self._swarm, self._models, self._rules = swarm, models, rules
        self._conditions, self._wall_clock = conditions, wall_clock

    async def explain(self, request: Any, narrowing: Narrowing) -> Outcome | ToolDecision:
        """Decide on an example (`Example` in routing/trial.py, as plain values), with every reason. Without `at` the
        time is now.

        Raises:
            InputError: it is no example request, or this node decides nothing.
        """
        example = read_example(request)
        try:
            facts = self._models.find(example.model)
        except NotFoundError:
            facts = None  # an endpoint may have it
        swarm, asked = self._swarm(facts.digest if facts else None), asked_of(example)
        asked = replace(asked, narrowing=narrowing, at=self._wall_clock() if example.at is None else asked.at)
        if asked.task.startswith(TOOL):
            return decide_tool(asked, self._rules(), swarm, explain=True)
        load = None
        if facts is not None:
            conditions = self._conditions(facts, tuple(node.node_id for node in swarm.nodes))
            load = load_of(facts, fitted(conditions, facts, asked.task))
            asked = replace(asked, model=facts.name, model_digest=facts.digest)
        # In a thread: cutting a large model over eight nodes takes a Raspberry Pi half a second.
        return await asyncio.to_thread(lambda: decide(asked, load, self._rules(), swarm, explain=True))
