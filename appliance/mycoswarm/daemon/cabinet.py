"""What deciding and answering need of the coordinator's own things: rules, ledger, allowances, approvals, endpoints."""

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

from mycoswarm.agents.merit import is_poor
from mycoswarm.api.assortment import assortment
from mycoswarm.api.console import ConsoleServices
from mycoswarm.api.embassy import Embassy
from mycoswarm.api.employer import EmployerServices
from mycoswarm.api.governance import GovernanceServices
from mycoswarm.api.menu import Menu, MenuServices
from mycoswarm.api.rules import RuleServices
from mycoswarm.base.errors import EndpointError
from mycoswarm.catalog.facts import ModelFacts
from mycoswarm.chat.consent import Approvals
from mycoswarm.chat.job import Asker, Job
from mycoswarm.chat.surroundings import Surroundings
from mycoswarm.daemon.border import Border
from mycoswarm.daemon.directory import Directory
from mycoswarm.daemon.hindsight import Hindsight
from mycoswarm.daemon.home import Home
from mycoswarm.daemon.keeper import Keeper
from mycoswarm.daemon.notary import Notary
from mycoswarm.daemon.outlook import Outlook
from mycoswarm.daemon.rehearsal import Rehearsal
from mycoswarm.daemon.seeker import Seeker
from mycoswarm.external.errand import Reached, embed, models_of, relay
from mycoswarm.external.target import Limits, Passage, Target
from mycoswarm.routing.decision import Dispatch
from mycoswarm.routing.rule import RuleSet, read_rule
from mycoswarm.store.apikey import Key
from mycoswarm.swarm.place import Place
from mycoswarm.wire.plan import Conditions, RingPlan
from mycoswarm.wire.report import Finished, Piece, Vector
from mycoswarm.wire.request import Embedding
from mycoswarm.wire.tool import ToolCall

MAX_VIA = 8  # daemons that one request may pass


class Cabinet:
    """The coordinator's own things, joined for its chat and for its owner."""

    def __init__(self, home: Home, notary: Notary, keeper: Keeper, border: Border) -> None:
        self._home, self._notary, self._keeper, self._border = home, notary, keeper, border
        self.approvals = Approvals()

    def admit(self, key: Key | None) -> None:
        """Count a request against its key's limits; the owner has none.

        Raises:
            BusyError: a limit is reached.
        """
        if key is not None:
            self._home.allowances.take(key, time.time())

    def elsewhere(self) -> dict[str, tuple[str, ...]]:
        """The models of the endpoints that a rule could send to, by the endpoint's name."""
        named = self._keeper.rules().endpoints()
        return {one.name: one.models for one in self._home.endpoints.entries() if one.name in named}

    def governance(self, around: Surroundings, employer: EmployerServices) -> GovernanceServices:
        """What the owner's routes need for rules, endpoints and approvals, and for agents, which are made elsewhere."""
        directory = Directory(self._home.endpoints, rules=self._keeper.rules, wall_clock=time.time, probe=self._probe)
        rehearsal = rehearsal_of(around)
        return GovernanceServices(
            rules=RuleServices(
                desk=self._keeper,
                explain=rehearsal.explain,
                replay=lambda last, rules, within_s: self._replay(last, rules, within_s, around=around),
            ),
            endpoints=directory,
            approvals=self.approvals,
            search=Seeker(self._home.finder, time.time),
            employer=employer,
        )

    def embassy(
        self, console: ConsoleServices, rules: RuleServices, nodes: Callable[[], Awaitable[dict[str, Any]]]
    ) -> Embassy:
        """The swarm as an MCP server, with what the console and the owner's routes have."""
        services = MenuServices(
            completions=console.completions,
            models=lambda: assortment(console.models(), console.elsewhere()),
            explain=rules.explain,
            rules=rules.desk.show,
            nodes=nodes,
            admit=self.admit,
            new_id=lambda: secrets.token_hex(12),
        )
        return Embassy(Menu(services))

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
            rules=self._keeper.rules,
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
            is_known=self._is_known,
            is_poor=self._is_poor,
        )

    async def _replay(
        self, last: int, given: list[Any] | None, within_s: int | None, *, around: Surroundings
    ) -> dict[str, Any]:
        """How the last requests would move under these rules, or under the present ones."""
        rules = around.rules() if given is None else RuleSet.of(map(read_rule, given))
        since = None if within_s is None else time.time() - within_s
        return await asyncio.to_thread(Hindsight(self._home.ledger).replay, last, rules, around.swarm(None), since)

    def _is_known(self, asker: Asker) -> bool:
        if asker.key_name is None:
            return True
        key = self._home.keys.find(asker.key_name)
        return key is not None and key.made_at == asker.issued_at

    def _is_poor(self, digest: str, task: str) -> bool:
        return is_poor(self._home.diplomas.find(digest), task, self._home.settings.strict_below)

    def _relay(
        self, dispatch: Dispatch, job: Job
    ) -> AsyncGenerator[Reached | Piece | ToolCall | Vector | Finished, None]:
        name = dispatch.endpoint.name
        known, secret = self._home.endpoints.registered(name)
        if (known.added_at, known.place) != (dispatch.endpoint.since, dispatch.endpoint.place):
            raise EndpointError(
                f"the endpoint {name} was registered anew while this request was on its way; nothing was sent",
                hint="Send it again.",
                code="endpoint_changed",
            )
        if self._home.instance_id in job.asker.via or len(job.asker.via) > MAX_VIA:
            raise EndpointError(
                f"the request came back to this node by the endpoint {name}",
                hint="That endpoint leads here again: change its URL, or the rule that sends to it.",
                code="endpoint_loop",
            )
        target = Target(
            name=name,
            url=known.url,
            place=known.place,
            model=dispatch.model,
            secret=secret,
            via=(*job.asker.via, self._home.instance_id),
        )
        if job.inputs:
            texts = Embedding(request_id=job.request_id, inputs=job.inputs, dimensions=job.dimensions)
            return embed(target, texts, self._passage())
        return relay(
            target,
            job.prompt,
            job.sampling,
            choice=job.choice,
            request_id=job.request_id,
            passage=self._passage(),
        )

    async def _probe(self, name: str, url: str, secret: str | None, place: Place) -> tuple[str, ...]:
        return await models_of(Target(name=name, url=url, place=place, secret=secret), self._passage())

    def _passage(self) -> Passage:
        limits = Limits(whole_s=self._home.settings.request_s)
        return Passage(permit=self._border.outward("endpoint"), limits=limits, place=self._border.place)


def rehearsal_of(around: Surroundings) -> Rehearsal:
    """Decides on examples as this chat decides on requests."""
    return Rehearsal(
        swarm=around.swarm,
        models=around.models,
        rules=around.rules,
        conditions=around.conditions,
        wall_clock=around.wall_clock,
    )
