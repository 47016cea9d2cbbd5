"""The coordinator's own things out of a real home: what is counted, listed, and refused because it goes in a circle."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from household import run
from mycoswarm.api.rules import Amendment, Spot
from mycoswarm.base.egress import Guard
from mycoswarm.base.errors import BusyError, EndpointError
from mycoswarm.base.settings import Settings
from mycoswarm.chat.job import Asker, Job
from mycoswarm.chat.life import Surroundings
from mycoswarm.daemon.border import Border
from mycoswarm.daemon.cabinet import MAX_VIA, Cabinet
from mycoswarm.daemon.directory import endpoint_states
from mycoswarm.daemon.home import Home, open_home
from mycoswarm.daemon.keeper import Keeper
from mycoswarm.daemon.notary import Notary
from mycoswarm.daemon.outlook import Outlook, Sources
from mycoswarm.daemon.standing import read_standing
from mycoswarm.routing.decision import Dispatch, Explanation, Ground
from mycoswarm.swarm.contact import Contact
from mycoswarm.wire.plan import Conditions
from mycoswarm.wire.request import Prompt, Sampling


@asynccontextmanager
async def cabinets(folder: Path) -> AsyncIterator[tuple[Home, Keeper, Cabinet, Surroundings]]:
    """A fresh node's, with one endpoint."""
    with open_home(Settings(data_folder=folder)) as home:
        home.endpoints.add("rack", "http://127.0.0.1:9/v1", place="LAN", models=("big",), by="owner", now=1.0)
        sources = Sources(
            standing=read_standing(folder, home.identity),
            contact=lambda node_id: Contact(node_id, None, None, "it has not answered yet"),
            settings=home.settings,
            rings=tuple,
            returning=dict,
            speeds=dict,
            conditions=tuple,
            endpoints=tuple,
        )
        outlook = Outlook(sources)
        async with Keeper(home.rules, swarm=lambda: outlook.swarm(None)) as keeper:
            cabinet = Cabinet(home, Notary(home.ledger), keeper, Border(Guard(), named=()))
            around = cabinet.surroundings(outlook, lambda facts, ids: Conditions(n_ctx=64), lambda *told: None)
            yield home, keeper, cabinet, around


def dispatch(home: Home) -> Dispatch:
    """A decision for the endpoint as it is registered now."""
    (endpoint,) = endpoint_states(home.endpoints)
    return Dispatch(Ground(rule="rack"), endpoint, "big", Explanation("rack", "the rule sends it there"))


def job(*via: str) -> Job:
    """A request that has passed these daemons."""
    asker = Asker(via=via)
    prompt = Prompt(text="x")
    return Job(request_id="r", model="big", task="completion", prompt=prompt, sampling=Sampling(), asker=asker)


@pytest.mark.parametrize("others", [0, MAX_VIA])
def test_a_request_that_comes_back_or_has_gone_too_far_is_refused_before_anything_is_sent(
    tmp_path: Path, others: int
) -> None:
    async def work() -> None:
        async with cabinets(tmp_path) as (home, _, _, around):
            way = [f"{number:016x}" for number in range(others)]
            with pytest.raises(EndpointError) as caught:
                around.relay(dispatch(home), job(*way, "f" * 16 if others else home.instance_id))
            assert caught.value.code == "endpoint_loop"

    run(work)


def test_a_request_that_has_passed_a_few_daemons_goes_on(tmp_path: Path) -> None:
    async def work() -> None:
        async with cabinets(tmp_path) as (home, _, _, around):
            way = [f"{number:016x}" for number in range(MAX_VIA)]
            await around.relay(dispatch(home), job(*way)).aclose()

    run(work)


def test_an_endpoints_models_are_listed_once_a_rule_could_send_there(tmp_path: Path) -> None:
    async def work() -> None:
        async with cabinets(tmp_path) as (_, keeper, cabinet, _):
            assert cabinet.elsewhere() == {}
            rule: dict[str, Any] = {"name": "rack", "then": {"do": "external", "name": "rack"}}
            await keeper.add(rule, Spot(), Amendment(by="owner", tests={}))
            assert cabinet.elsewhere() == {"rack": ("big",)}

    run(work)


def test_a_key_is_held_to_its_limit_and_the_owner_to_none(tmp_path: Path) -> None:
    async def work() -> None:
        async with cabinets(tmp_path) as (home, _, cabinet, _):
            key = home.keys.check(home.keys.create("desk", 1.0, requests_per_minute=1))
            cabinet.admit(key)
            with pytest.raises(BusyError):
                cabinet.admit(key)
            for _ in range(3):
                cabinet.admit(None)

    run(work)
