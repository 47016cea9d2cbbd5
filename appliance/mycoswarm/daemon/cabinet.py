"""What deciding and answering need of the coordinator's own things: rules, ledger, allowances, approvals, endpoints."""

import secrets
import time
from collections.abc import AsyncGenerator, Callable

from mycoswarm.base.errors import EndpointError
from mycoswarm.catalog.facts import ModelFacts
from mycoswarm.chat.approval import Approvals
from mycoswarm.chat.job import Job
from mycoswarm.chat.life import Surroundings
from mycoswarm.daemon.home import Home
from mycoswarm.daemon.notary import Notary
from mycoswarm.daemon.outlook import Outlook
from mycoswarm.external.errand import Reached
from mycoswarm.routing.decision import Dispatch
from mycoswarm.routing.rule import DEFAULT_RULE, RuleSet
from mycoswarm.store.apikey import Key
from mycoswarm.wire.plan import Conditions, RingPlan
from mycoswarm.wire.report import Finished, Piece

RULES = RuleSet.of((DEFAULT_RULE,), 1)


class Cabinet:
    """The coordinator's own things, joined for its chat."""

    def __init__(self, home: Home, notary: Notary) -> None:
        self._home, self._notary = home, notary
        self.approvals = Approvals()

    def admit(self, key: Key | None) -> None:
        """Count a request against its key's limits; the owner has none.

        Raises:
            BusyError: a limit is reached.
        """
        if key is not None:
            self._home.allowances.take(key, time.time())

    def surroundings(
        self,
        outlook: Outlook,
        conditions: Callable[[ModelFacts, tuple[str, ...]], Conditions],
        grade: Callable[[RingPlan, ModelFacts, Finished], None],
    ) -> Surroundings:
        """What a chat needs."""
        return Surroundings(
            swarm=outlook.swarm,
            models=outlook,
            rules=lambda: RULES,
            conditions=conditions,
            note=self._notary.note,
            relay=self._relay,
            approvals=self.approvals,
            grade=grade,
            spend=lambda key_name, tokens: self._home.allowances.spend(key_name, tokens, time.time()),
            new_id=lambda: secrets.token_hex(8),
            wall_clock=time.time,
            request_s=self._home.settings.request_s,
            keeps_prompts=self._home.settings.ledger_prompts,
        )

    def _relay(self, dispatch: Dispatch, job: Job) -> AsyncGenerator[Reached | Piece | Finished, None]:
        raise EndpointError("none")
