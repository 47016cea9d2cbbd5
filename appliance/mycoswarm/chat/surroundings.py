"""What answering needs from outside: the swarm, the models, the rules, the ledger, and the way to endpoints."""

from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from mycoswarm.catalog.facts import ModelFacts
from mycoswarm.chat.consent import Approvals
from mycoswarm.chat.job import Asker, Job
from mycoswarm.external.errand import Reached
from mycoswarm.routing.decision import Dispatch
from mycoswarm.routing.rule import RuleSet
from mycoswarm.routing.snapshot import SwarmState
from mycoswarm.wire.plan import Conditions, RingPlan
from mycoswarm.wire.report import Finished, Piece, Vector
from mycoswarm.wire.tool import ToolCall


class Models(Protocol):
    """Which models the swarm holds."""

    def find(self, reference: str) -> ModelFacts:
        """The facts of a model by name or digest prefix; NotFoundError where no node holds it."""


class Relay(Protocol):
    """Has an endpoint answer; the errand of external/errand.py."""

    def __call__(
        self, dispatch: Dispatch, job: Job
    ) -> AsyncGenerator[Reached | Piece | ToolCall | Vector | Finished, None]:
        """`Reached` before the prompt is sent, then `Piece`s and calls, or `Vector`s; last `Finished`. Raises
        SwarmError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a chat needs from outside. `swarm` gives the state for a model's digest (None: no node holds it), with the
    rings of `RingPool.warm`, and the bytes of `RingPool.returning` counted as free.

    `conditions` gives the ring's conditions for these facts and node ids. `note` writes a row into the ledger (kind,
    body, request id) and gives its digest; it blocks until the row is on the disk. `spend` counts a key's tokens.
    `grade` is told how a finished answer really ran. `keeps_prompts`: prompts go into the ledger too. `is_known`:
    whether who asks still has a key. `is_poor`: whether the model of this digest is to be held to its tools' schemas
    in this task; it blocks while it is looked up.
    """

    swarm: Callable[[str | None], SwarmState]
    models: Models
    rules: Callable[[], RuleSet]
    conditions: Callable[[ModelFacts, tuple[str, ...]], Conditions]
    note: Callable[[str, Mapping[str, Any], str], str]
    relay: Relay
    approvals: Approvals
    grade: Callable[[RingPlan, ModelFacts, Finished], None]
    spend: Callable[[str, int], None]
    new_id: Callable[[], str]
    wall_clock: Callable[[], float]
    request_s: float
    keeps_prompts: bool = False
    is_known: Callable[[Asker], bool] = lambda asker: True
    is_poor: Callable[[str, str], bool] = lambda digest, task: False
