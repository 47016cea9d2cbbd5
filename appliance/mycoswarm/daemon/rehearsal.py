"""Deciding on example requests as if they were real ones, with the rules, models and nodes of now. Sends nothing."""

import asyncio
from dataclasses import replace
from typing import Any

from mycoswarm.base.errors import NotFoundError
from mycoswarm.chat.life import Surroundings
from mycoswarm.chat.load import load_of
from mycoswarm.routing.decision import Outcome, decide
from mycoswarm.routing.snapshot import Narrowing
from mycoswarm.routing.trial import asked_of, read_example


class Rehearsal:
    """Decides with what real requests are decided with."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around

    async def explain(self, request: Any, narrowing: Narrowing) -> Outcome:
        """Decide on an example (`Example` in routing/trial.py, as plain values), with every reason. Without `at` the
        time is now.

        Raises:
            InputError: it is no example request, or this node decides nothing.
        """
        example = read_example(request)
        try:
            facts = self._around.models.find(example.model)
        except NotFoundError:
            facts = None  # an endpoint may have it
        swarm, asked = self._around.swarm(facts.digest if facts else None), asked_of(example)
        asked = replace(asked, narrowing=narrowing, at=self._around.wall_clock() if example.at is None else asked.at)
        load = None
        if facts is not None:
            load = load_of(facts, self._around.conditions(facts, tuple(node.node_id for node in swarm.nodes)))
            asked = replace(asked, model=facts.name, model_digest=facts.digest)
        # In a thread: cutting a large model over eight nodes takes a Raspberry Pi half a second.
        return await asyncio.to_thread(lambda: decide(asked, load, self._around.rules(), swarm, explain=True))
