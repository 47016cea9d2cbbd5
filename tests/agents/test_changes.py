"""What the owner changes while a tool's call is on its way holds for it too, until its node gets it."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from agents.test_toolbox import NODES, World
from mycoswarm.agents.porter import Parcel
from mycoswarm.base.errors import ApiKeyError, RefusedError, SwarmError
from mycoswarm.routing.action import Deny, Run
from mycoswarm.routing.clause import When
from mycoswarm.routing.rule import DEFAULT_RULE, Rule
from mycoswarm.sandbox.toolset import TOOLS
from rings import until

SHELL = ("run_shell", '{"command": "true"}')
DENIED = Rule(name="no more", when=When(task="tool:*"), then=Deny(message="not any more"))
CHANGES: dict[str, Callable[[World], None]] = {
    "deny": lambda world: setattr(world, "rules", (DENIED,)),
    "moved": lambda world: setattr(world, "nodes", tuple(replace(node, place="outside") for node in NODES)),
    "revoked": lambda world: setattr(world, "knows", False),
    "taken away": lambda world: setattr(world, "tools", {}),
    "set up anew": lambda world: setattr(
        world, "tools", {name: replace(tool, means='{"url": "http://elsewhere"}') for name, tool in TOOLS.items()}
    ),
}


async def waiting(world: World) -> dict[str, Any]:
    await until(world.approvals.waiting)
    return world.approvals.waiting()[0]


@pytest.mark.parametrize("change", CHANGES)
def test_a_yes_for_a_tool_does_not_outlive_what_it_was_given_for(change: str) -> None:
    world = World(DEFAULT_RULE)

    async def course() -> None:
        call = asyncio.create_task(world.use(*SHELL))
        shown = await waiting(world)
        CHANGES[change](world)
        await world.approvals.answer(shown["id"], True, "owner")
        with pytest.raises(ApiKeyError if change == "revoked" else RefusedError):
            await call

    asyncio.run(course())
    assert not world.way.parcels


def test_a_yes_for_one_node_is_none_for_another_nor_for_a_run_without_a_sandbox() -> None:
    world = World(DEFAULT_RULE)

    async def course() -> None:
        call = asyncio.create_task(world.use(*SHELL))
        first = await waiting(world)
        then = Run(nodes=("b",), sandbox="optional")
        world.rules = (msgspec.structs.replace(DEFAULT_RULE, then=then),)
        await world.approvals.answer(first["id"], True, "owner")
        second = await waiting(world)
        assert (first["destination"], second["destination"]) == ("a", "b")
        await world.approvals.answer(second["id"], False, "owner")
        with pytest.raises(RefusedError, match="said no"):
            await call

    asyncio.run(course())
    assert not world.way.parcels


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("tool", ["list_files", "list_nodes"])
def test_a_change_while_the_node_is_dialled_or_the_row_is_written_holds(change: str, tool: str) -> None:
    world = World()
    if tool == "list_nodes":
        world.on_note = lambda: CHANGES[change](world)

    async def reached(parcel: Parcel) -> None:
        CHANGES[change](world)

    world.way.reached = reached
    with pytest.raises(SwarmError) as caught:
        asyncio.run(world.use(tool))
    assert isinstance(caught.value, ApiKeyError if change == "revoked" else RefusedError)
    assert not world.way.parcels and world.outcomes()[:2] == [("decision", "tool"), ("tool", "decided_anew")]


def test_an_edit_that_still_allows_the_call_costs_no_second_try() -> None:
    world = World()

    async def reached(parcel: Parcel) -> None:
        world.rules = (Rule(name="others first", when=When(task="tool:*"), then=Run(prefer=("b",))),)

    world.way.reached = reached
    assert asyncio.run(world.use()).node == "a" and len(world.way.parcels) == 1


def test_rules_that_change_for_ever_end_in_a_typed_error() -> None:
    world, turns = World(), ["b", "c", "a", "b", "c"]

    async def reached(parcel: Parcel) -> None:
        world.rules = (Rule(name="turning", when=When(task="tool:*"), then=Run(nodes=(turns.pop(0),))),)

    world.way.reached = reached
    with pytest.raises(RefusedError, match="again and again"):
        asyncio.run(world.use())
    assert not world.way.parcels
