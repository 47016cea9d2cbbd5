"""The toolbox with a way to nodes that is told what to do: homes of workspaces, lost nodes, the ledger, the owner."""

import asyncio
import contextlib
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest

from mycoswarm.agents.docket import MAX_DETAIL
from mycoswarm.agents.porter import Carry, Parcel
from mycoswarm.agents.toolbox import MAX_ASKED, Errand, Finding, Toolbox, ToolServices
from mycoswarm.base.errors import BusyError, InputError, NotFoundError, RefusedError, SwarmError, UnreachableError
from mycoswarm.chat.consent import Approvals
from mycoswarm.chat.job import Asker
from mycoswarm.routing.action import Run
from mycoswarm.routing.clause import When
from mycoswarm.routing.rule import DEFAULT_RULE, Rule, RuleSet
from mycoswarm.routing.snapshot import NodeState, SwarmState
from mycoswarm.sandbox.toolset import TOOLS
from mycoswarm.swarm.client import Connection
from mycoswarm.swarm.place import Place
from mycoswarm.wire.chore import Done
from mycoswarm.wire.tool import ToolCall

NODES = tuple(NodeState(f"id-{name}", name, "LAN", None, None, None) for name in ("a", "b", "c"))
TOOLS_RULE = Rule(name="tools", when=When(task="tool:*"))
DONE = Done(text="ok", ok=True, seconds=0.1)


async def nobody(node_id: str, reach: Mapping[str, Place]) -> Connection:
    raise UnreachableError("nobody is dialled here")


class Way(Carry):
    """Does for each call what `act` says."""

    def __init__(self) -> None:
        super().__init__(reach=nobody, sign=lambda body: body, swarm_id="s")
        self.parcels: list[Parcel] = []
        self.released: list[tuple[str, str]] = []
        self.act: Callable[[Parcel], Awaitable[Done]] = self.do
        self.reached: Callable[[Parcel], Awaitable[None]] = self.greet

    async def __call__(self, parcel: Parcel) -> Done | None:
        await self.reached(parcel)
        if not parcel.stands():
            return None
        self.parcels.append(parcel)
        return await self.act(parcel)

    async def release(self, node_id: str, run_id: str, workspace_id: str) -> None:
        self.released.append((node_id, workspace_id))

    async def greet(self, parcel: Parcel) -> None:
        await asyncio.sleep(0)

    async def do(self, parcel: Parcel) -> Done:
        await asyncio.sleep(0)
        return DONE


class World:
    """One toolbox, its rules, and what it wrote into the ledger."""

    def __init__(self, *rules: Rule) -> None:
        self.rules, self.way, self.rows = rules or (TOOLS_RULE,), Way(), list[tuple[str, dict[str, Any]]]()
        self.approvals, self.knows, self.nodes = Approvals(), True, NODES
        self.tools = dict(TOOLS)
        self.on_note: Callable[[], None] = lambda: None
        self.ended: Callable[[str, Done], Awaitable[None]] = lambda tool, done: asyncio.sleep(0)

        async def here(given: Mapping[str, Any], errand: Errand) -> Finding:
            return Finding("three nodes", frozenset({"house"}))

        def note(kind: str, row: Mapping[str, Any], request_id: str) -> str:
            self.rows.append((kind, dict(row)))
            self.on_note()
            return f"digest-{len(self.rows)}"

        self.box = Toolbox(
            ToolServices(
                tools=lambda: self.tools,
                swarm=lambda: SwarmState("id-a", self.nodes),
                rules=lambda: RuleSet.of(self.rules, 4),
                note=note,
                approvals=self.approvals,
                carry=self.way,
                here={"list_nodes": here},
                own_name=lambda: "a",
                is_known=lambda asker: self.knows,
                ended=lambda tool, done: self.ended(tool, done),
            )
        )

    async def use(self, name: str = "list_files", arguments: str = "{}", run: str = "r", **more: Any) -> Any:
        errand = Errand(asker=Asker(labels=frozenset({"work"})), run_id=run, workspace_id=run, **more)
        return await self.box.perform(ToolCall("call-1", name, arguments), errand)

    def outcomes(self) -> list[tuple[str, str]]:
        return [(kind, row["outcome"]) for kind, row in self.rows]


def test_a_call_is_decided_noted_sent_with_its_receipt_and_noted_again() -> None:
    world = World()
    result = asyncio.run(world.use())
    assert (result.text, result.ok, result.node, result.ran) == ("ok", True, "a", "LAN")
    (parcel,) = world.way.parcels
    assert parcel.warrant.receipt == "digest-1" and parcel.warrant.labels == ("work",) and parcel.warrant.version == 4
    assert world.outcomes() == [("decision", "tool"), ("tool", "stop")]
    decided, ended = (row for _, row in world.rows)
    assert decided["nodes"] == [{"id": "id-a", "name": "a", "place": "LAN"}] and decided["by_ticket"]
    assert (decided["workspace"], decided["unconfined"]) == ("r", False)
    assert (ended["receipt"], ended["was_answered"]) == ("digest-1", True)
    assert asyncio.run(world.use("list_nodes")).ran == "this-machine", "the coordinator answers it itself"
    assert not world.rows[2][1]["by_ticket"] and world.rows[3][1]["receipt"] == "digest-3"


def test_a_run_s_files_stay_on_the_node_of_its_first_call_until_it_is_over() -> None:
    world = World()

    async def course() -> None:
        assert (await world.use(run="one")).node == "a"
        world.rules = (Rule(name="moved", when=When(task="tool:*"), then=Run(nodes=("b",))),)
        with pytest.raises(RefusedError, match="workspace is on a") as caught:
            await world.use(run="one")
        assert caught.value.code == "workspace_elsewhere"
        assert (await world.use(run="two")).node == "b"
        assert (await world.use("calculator", '{"expression": "1"}', run="one")).node == "b"
        for run in ("one", "never"):
            await world.box.release(run, Errand(asker=Asker(), run_id=run, workspace_id=run))
        assert (await world.use(run="one")).node == "b"

    asyncio.run(course())
    assert world.way.released == [("id-a", "one")]


def test_what_the_coordinator_s_own_tool_found_carries_its_labels() -> None:
    world = World()
    result = asyncio.run(world.use("list_nodes"))
    assert (result.text, result.node, result.labels) == ("three nodes", "a", ("house",))
    assert asyncio.run(world.use()).labels == ()


def test_calls_of_one_run_at_once_go_to_one_node_and_those_of_others_spread() -> None:
    world = World()

    async def course() -> tuple[set[str], set[str]]:
        same = await asyncio.gather(*(world.use(run="one") for _ in range(6)))
        others = await asyncio.gather(*(world.use(run=f"r{n}") for n in range(6)))
        return {one.node for one in same}, {one.node for one in others}

    assert asyncio.run(course()) == ({"a"}, {"a", "b", "c"})


def test_a_node_that_does_not_answer_is_passed_over_by_the_rules_where_nothing_was_sent() -> None:
    world = World()

    async def act(parcel: Parcel) -> Done:
        if parcel.node_id != "id-c":
            raise UnreachableError("it does not answer")
        return DONE

    world.way.act = act
    assert asyncio.run(world.use()).node == "c"
    assert [row["attempt"] for kind, row in world.rows if kind == "decision"] == [1, 2, 3]


@pytest.mark.parametrize("code", ["unreachable", "node_lost"])
def test_a_node_that_is_lost_with_the_run_s_files_is_a_typed_error(code: str) -> None:
    world = World()

    async def lost(parcel: Parcel) -> Done:
        raise UnreachableError("gone", code=code)

    async def course() -> None:
        await world.use()
        world.way.act = lost
        with pytest.raises(UnreachableError) as caught:
            await world.use()
        assert caught.value.code == code

    asyncio.run(course())
    assert [parcel.node_id for parcel in world.way.parcels] == ["id-a", "id-a"]
    assert world.outcomes()[-1] == ("tool", code)


@pytest.mark.parametrize("raises", [False, True])
def test_a_node_that_lies_about_how_a_call_ended_stays_in_the_ledger(raises: bool) -> None:
    world = World()

    async def lie(parcel: Parcel) -> Done:
        if raises:
            raise SwarmError("nothing was sent", code="decided_anew")
        return Done(text="", ok=False, seconds=0.1, code="decided_anew")

    world.way.act = lie
    with contextlib.suppress(SwarmError):
        asyncio.run(world.use())
    ended = world.rows[-1][1]
    assert ended["node"] == "id-a" and ended["nodes"] == ["a"] and ended["was_answered"] is not raises


def test_what_the_model_gets_wrong_is_told_and_nothing_is_sent() -> None:
    world = World()
    for name, arguments, kind in (("format", "{}", NotFoundError), ("list_files", '{"x": 1}', InputError)):
        with pytest.raises(kind):
            asyncio.run(world.use(name, arguments))
    result = asyncio.run(
        world.box.run(ToolCall("c", "format", "{}"), Errand(asker=Asker(), run_id="r", workspace_id="r"))
    )
    assert not result.ok and result.node is None and result.text.startswith("error: there is no tool")
    assert not world.way.parcels and not world.rows


def test_harm_waits_for_the_owner_who_sees_the_arguments() -> None:
    world = World(DEFAULT_RULE)

    async def course(allow: bool) -> Any:
        call = asyncio.create_task(world.use("run_shell", '{"command": "rm -r /"}'))
        while not (waiting := world.approvals.waiting()):
            await asyncio.sleep(0)
        assert waiting[0]["detail"] == '{"command": "rm -r /"}' and waiting[0]["destination"] == "a"
        await world.approvals.answer(waiting[0]["id"], allow, "owner")
        return await call

    assert asyncio.run(course(True)).ok and world.rows[0][1]["approved_by"] == "owner"
    with pytest.raises(RefusedError, match="said no"):
        asyncio.run(course(False))
    assert len(world.way.parcels) == 1 and world.outcomes()[-2:] == [("decision", "refused"), ("tool", "not_approved")]


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ('{"seconds": 9,' + " " * 30_000 + '"command": "rm -r /"}', '{"seconds": 9, "command": "rm -r /"}'),
        ('{"command": "a\u202eb\u200bc\x9bd"}', '{"command": "a\\u202eb\\u200bc\\u009bd"}'),
        ('{"command": "' + "\\u0072" + 'm"}', '{"command": "rm"}'),
        ('{"command": "' + " " * 19_000 + 'rm -r /"}', '{"command": "' + " " * 19_000 + 'rm -r /"}'),
    ],
    ids=["spaces around", "signs that hide", "escapes", "spaces within"],
)
def test_the_owner_is_shown_all_that_will_run(arguments: str, shown: str) -> None:
    assert asyncio.run(asked(World(DEFAULT_RULE), "run_shell", arguments)) == shown


def test_the_owner_is_told_first_that_a_program_is_too_long_to_be_shown_whole() -> None:
    arguments = json.dumps({"code": "#" * 50_000 + "\nharm()"})
    detail = asyncio.run(asked(World(DEFAULT_RULE), "run_python", arguments))
    assert detail.startswith(f"[only the first {MAX_DETAIL} of {len(arguments)} characters are shown] ")


def test_one_run_leaves_room_for_others_to_ask() -> None:
    world = World(DEFAULT_RULE)

    async def course() -> None:
        calls = [asyncio.create_task(world.use("run_shell", '{"command": "id"}')) for _ in range(MAX_ASKED)]
        while len(world.approvals.waiting()) < MAX_ASKED:
            await asyncio.sleep(0)
        with pytest.raises(BusyError):
            await world.use("run_shell", '{"command": "id"}')
        other = asyncio.create_task(world.use("run_shell", '{"command": "id"}', run="r2"))
        while len(world.approvals.waiting()) == MAX_ASKED:
            await asyncio.sleep(0)
        for one in (*calls, other):
            one.cancel()
        await asyncio.gather(*calls, other, return_exceptions=True)

    async def bounded() -> None:
        async with asyncio.timeout(10):
            await course()

    asyncio.run(bounded())


async def asked(world: World, tool: str, arguments: str) -> str:
    """What the owner is shown of a call; the answer is no."""
    call = asyncio.create_task(world.use(tool, arguments))
    while not (waiting := world.approvals.waiting()):
        await asyncio.sleep(0)
    await world.approvals.answer(waiting[0]["id"], False, "owner")
    with pytest.raises(RefusedError):
        await call
    detail: str = waiting[0]["detail"]
    return detail


def test_time_that_is_over_sends_nothing_and_what_is_left_is_all_that_a_tool_gets() -> None:
    world = World()
    asyncio.run(world.use(deadline=time.monotonic() + 7))
    assert 6 < world.way.parcels[0].within_s <= 7
    with pytest.raises(UnreachableError, match="time is over"):
        asyncio.run(world.use(deadline=time.monotonic() - 1))
    assert len(world.way.parcels) == 1


def test_a_call_that_is_cancelled_is_noted_as_that() -> None:
    world = World()
    world.way.act = lambda parcel: asyncio.sleep(60, DONE)

    async def course() -> None:
        call = asyncio.create_task(world.use())
        while not world.way.parcels:
            await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    asyncio.run(course())
    assert world.outcomes()[-1] == ("tool", "cancelled")


def test_the_coordinator_s_own_tools_reach_no_node_and_obey_the_rules() -> None:
    world = World()
    assert asyncio.run(world.use("list_nodes")).text == "three nodes" and not world.way.parcels
    world.rules = (Rule(name="chats", when=When(task="chat")),)
    with pytest.raises(SwarmError, match="no rule allows"):
        asyncio.run(world.use("list_nodes"))
