"""Sub-agents that work at the same time ask different nodes, as far as the rules let them.

Each is given nodes that no sibling is on, where the same action of the same rule allows that: no more nodes than
otherwise, and none outside the LAN where otherwise none would be. That only narrows: where a request may go at all is
the rules' alone.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

from mycoswarm.chat.job import Job
from mycoswarm.routing.decision import Decision, Outcome
from mycoswarm.swarm.place import PLACES


class Spread:
    """Who is where, in one run. `explain` decides without doing anything."""

    def __init__(self, explain: Callable[[Job], Awaitable[Outcome]]) -> None:
        self._explain = explain
        self._turn = asyncio.Lock()  # siblings choose one after the other
        self._taken: dict[str, frozenset[str]] = {}

    async def aim(self, job: Job, agent: str) -> Job:
        """The request of a sub-agent, narrowed to nodes of its own where there are any."""
        async with self._turn:
            usual = await self._explain(job)
            if not isinstance(usual, Decision):
                return job
            chosen = await self._stay(job, agent, usual) or await self._part(job, agent, usual) or usual
            self._taken[agent] = _ids(chosen)
        return job if _ids(chosen) == _ids(usual) else _narrowed(job, _ids(chosen))

    async def _stay(self, job: Job, agent: str, usual: Decision) -> Decision | None:
        """Where this agent was before: its nodes still hold what they have read."""
        before = self._taken.get(agent)
        if before is None:
            return None
        there = await self._explain(_narrowed(job, before))
        return there if isinstance(there, Decision) and _is_as_good(there, usual) else None

    async def _part(self, job: Job, agent: str, usual: Decision) -> Decision | None:
        """Nodes that no sibling is on, where the usual ones are not that."""
        others = frozenset().union(*(ids for name, ids in self._taken.items() if name != agent))
        if not others & _ids(usual):
            return None
        narrowing = job.narrowing
        apart = await self._explain(replace(job, narrowing=replace(narrowing, without=narrowing.without | others)))
        return apart if isinstance(apart, Decision) and _is_as_good(apart, usual) else None

    def leave(self, agent: str) -> None:
        """A sub-agent has ended."""
        self._taken.pop(agent, None)


def _narrowed(job: Job, ids: frozenset[str]) -> Job:
    return replace(job, narrowing=replace(job.narrowing, nodes=tuple(sorted(ids))))


def _ids(decision: Decision) -> frozenset[str]:
    return frozenset(share.node.node_id for share in decision.placed.shares)


def _is_as_good(apart: Decision, usual: Decision) -> bool:
    """Whether only the nodes differ: the same action of the same rule, not split wider, no way out of the LAN."""
    same = (apart.ground.rule_id, apart.ground.action) == (usual.ground.rule_id, usual.ground.action)
    return same and len(_ids(apart)) <= len(_ids(usual)) and _reach(apart) <= max(_reach(usual), PLACES.index("LAN"))


def _reach(decision: Decision) -> int:
    return max(PLACES.index(share.node.place) for share in decision.placed.shares)
