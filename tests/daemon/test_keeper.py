"""The keeper of the rules, over a real rule book."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from desks import NOW, PRIVATE, RACK, STAYS, books, how, swarm_of
from household import run
from mycoswarm.api.rules import Spot
from mycoswarm.base.errors import InputError, NotFoundError, StorageError
from mycoswarm.daemon.keeper import Keeper
from mycoswarm.routing.rule import DEFAULT_RULE
from mycoswarm.routing.snapshot import SwarmState
from mycoswarm.store.rulebook import Document, StoredRule
from rings import node

NODES = (node("attic"), node("cellar"))


@asynccontextmanager
async def kept(folder: Path) -> AsyncIterator[Keeper]:
    """A keeper over the database in a folder."""
    with books(folder) as (book, endpoints):
        async with Keeper(book, swarm=lambda: swarm_of(NODES, endpoints), wall_clock=lambda: NOW) as keeper:
            yield keeper


def names(keeper: Keeper) -> list[str]:
    return [rule.name for rule in keeper.rules().rules]


def test_a_fresh_swarm_has_the_one_rule_as_version_1(tmp_path: Path) -> None:
    async def work() -> None:
        async with kept(tmp_path) as keeper:
            assert names(keeper) == [DEFAULT_RULE.name] and keeper.rules().version == 1
            assert keeper.rules().rules[0].then == DEFAULT_RULE.then and keeper.rules().rules[0].id > 0

    run(work)


def test_rules_are_put_where_they_are_to_stand_and_keep_their_ids(tmp_path: Path) -> None:
    async def work() -> None:
        async with kept(tmp_path) as keeper:
            first = DEFAULT_RULE.name
            told = await keeper.add(PRIVATE, Spot(position=1), how())
            assert told == {"version": 2, "name": "private", "position": 1, "shadowed_by": None}
            assert (await keeper.add(RACK, Spot(after="private"), how()))["position"] == 2
            await keeper.add({**RACK, "name": "odd"}, Spot(before="rack"), how())
            assert names(keeper) == ["private", "odd", "rack", first]
            ids = {rule.name: rule.id for rule in keeper.rules().rules}
            assert (await keeper.move("private", Spot(), how()))["position"] == 4
            await keeper.edit("rack", {**RACK, "name": "tower"}, how())
            await keeper.switch("odd", False, how())
            assert names(keeper) == ["odd", "tower", first, "private"]
            now = {rule.name: rule.id for rule in keeper.rules().rules}
            assert now["tower"] == ids["rack"] and now["odd"] == ids["odd"] and now["private"] == ids["private"]
            assert not keeper.rules().rules[0].enabled and keeper.rules().endpoints() == {"rack"}
            await keeper.remove("odd", how())
            assert names(keeper) == ["tower", first, "private"]

    run(work)


def test_a_rule_behind_one_that_covers_it_is_named(tmp_path: Path) -> None:
    async def work() -> None:
        async with kept(tmp_path) as keeper:
            told = await keeper.add(PRIVATE, Spot(), how())
            assert DEFAULT_RULE.name in told["shadowed_by"]
            shown = {rule["name"]: rule["shadowed_by"] for rule in (await keeper.show())["rules"]}
            assert shown == {DEFAULT_RULE.name: None, "private": told["shadowed_by"]}
            assert (await keeper.move("private", Spot(position=1), how()))["shadowed_by"] is None
            assert all(rule["shadowed_by"] is None for rule in (await keeper.show())["rules"])

    run(work)


def wrong_edits(keeper: Keeper) -> Iterator[Any]:
    """Edits that cannot be."""
    yield keeper.add({"name": ""}, Spot(), how())
    yield keeper.add("a text", Spot(), how())
    yield keeper.add(None, Spot(), how())
    yield keeper.add({**PRIVATE, "then": {"do": "guess"}}, Spot(), how())
    yield keeper.add({**PRIVATE, "name": DEFAULT_RULE.name}, Spot(), how())
    yield keeper.add(PRIVATE, Spot(before="nobody"), how())
    yield keeper.edit("nobody", PRIVATE, how())
    yield keeper.remove("nobody", how())
    yield keeper.move("nobody", Spot(), how())
    yield keeper.move(DEFAULT_RULE.name, Spot(after=DEFAULT_RULE.name), how())
    yield keeper.switch("nobody", True, how())
    yield keeper.load("rules", how())
    yield keeper.load([PRIVATE, PRIVATE], how())
    yield keeper.load([PRIVATE, {"name": "x", "when": {"no": 1}}], how())
    yield keeper.load([], how(gone=None))
    yield keeper.change_tests(how(nobody=None))
    yield keeper.change_tests(how(x="a text"))
    yield keeper.change_tests(how(x={"request": {"model": "spore"}}))
    yield keeper.change_tests(how(x={"request": {"model": 5}, "expect": {"outcome": "run"}}))
    yield keeper.change_tests(how(x={"request": {"model": "m"}, "expect": {"outcome": "perhaps"}}))


def test_what_cannot_be_is_named_and_changes_nothing(tmp_path: Path) -> None:
    async def work() -> None:
        async with kept(tmp_path) as keeper:
            count = 0
            for edit in wrong_edits(keeper):
                with pytest.raises(InputError):
                    await edit
                assert keeper.rules().version == 1
                count += 1
            assert count == 20 and (await keeper.show())["version"] == 1

    run(work)


def test_an_edit_that_breaks_a_test_is_refused_unless_the_test_changes_with_it(tmp_path: Path) -> None:
    async def work() -> None:
        async with kept(tmp_path) as keeper:
            await keeper.add(PRIVATE, Spot(position=1), how(stays=STAYS))
            wider = {**PRIVATE, "then": {"do": "run", "nodes": ["cellar"]}}
            for edit in (
                lambda: keeper.edit("private", wider, how()),
                lambda: keeper.remove("private", how()),
                lambda: keeper.switch("private", False, how()),
                lambda: keeper.move("private", Spot(), how()),
                lambda: keeper.load([wider], how(stays=STAYS)),
                lambda: keeper.add({"name": "all"}, Spot(position=1), how()),
            ):
                with pytest.raises(InputError, match=r"'stays': .*cellar") as caught:
                    await edit()
                assert caught.value.code == "breaks_rule_tests" and keeper.rules().version == 2
            there = {**STAYS, "expect": {"outcome": "run", "only": ["cellar"]}}
            await keeper.edit("private", wider, how(stays=there))
            await keeper.remove("private", how(stays=None))
            assert keeper.rules().version == 4 and (await keeper.show())["tests"] == []

    run(work)


def test_a_test_that_does_not_hold_now_is_not_let_in(tmp_path: Path) -> None:
    async def work() -> None:
        async with kept(tmp_path) as keeper:
            with pytest.raises(InputError) as caught:
                await keeper.change_tests(how(stays=STAYS))
            assert caught.value.code == "breaks_rule_tests"
            tried = await keeper.try_tests({"stays": STAYS})
            assert not tried["passed"] and "cellar" in tried["tests"][0]["why"]
            assert await keeper.try_tests(None) == {"passed": True, "tests": []}

    run(work)


def test_undo_goes_back_step_by_step_and_runs_the_tests(tmp_path: Path) -> None:
    async def work() -> None:
        async with kept(tmp_path) as keeper:
            await keeper.add(PRIVATE, Spot(position=1), how("key desk"))
            await keeper.change_tests(how(stays=STAYS))
            assert (await keeper.undo("owner"))["version"] == 4  # the test
            await keeper.change_tests(how(stays=STAYS))
            told = await keeper.undo("owner")
            assert told["version"] == 6 and "undo" in told["what"]
            await keeper.undo("owner")
            assert names(keeper) == [DEFAULT_RULE.name]
            with pytest.raises(NotFoundError):
                await keeper.undo("owner")
            versions = (await keeper.history(10))["versions"]
            assert [one["version"] for one in versions] == [7, 6, 5, 4, 3, 2, 1]
            assert versions[5] == {"version": 2, "at": NOW, "by": "key desk", "what": "add private"}

    run(work)


def test_tests_that_a_change_of_the_swarm_has_broken_can_be_taken_away_one_by_one(tmp_path: Path) -> None:
    nodes = [node("attic")]

    async def work() -> None:
        with books(tmp_path) as (book, _):
            async with Keeper(book, swarm=lambda: SwarmState("attic", tuple(nodes)), wall_clock=lambda: NOW) as keeper:
                await keeper.change_tests(how(one=STAYS, two=STAYS))
                nodes.append(node("cellar"))
                with pytest.raises(InputError, match="breaks 2 of 2 tests"):
                    await keeper.add(RACK, Spot(), how())
                await keeper.change_tests(how(one=None))
                with pytest.raises(InputError, match="'three'"):
                    await keeper.change_tests(how(three=STAYS))
                await keeper.add(RACK, Spot(), how(two=None))
                assert keeper.rules().version == 4

    run(work)


def test_an_undo_that_would_break_a_test_of_the_swarm_of_now_is_refused(tmp_path: Path) -> None:
    nodes = [node("attic"), node("cellar")]

    async def work() -> None:
        with books(tmp_path) as (book, _):
            async with Keeper(book, swarm=lambda: SwarmState("attic", tuple(nodes)), wall_clock=lambda: NOW) as keeper:
                del nodes[1]
                await keeper.change_tests(how(stays=STAYS))  # with one node any rule keeps it there
                await keeper.add(PRIVATE, Spot(position=1), how())
                nodes.append(node("cellar"))
                with pytest.raises(InputError) as caught:
                    await keeper.undo("owner")
                assert caught.value.code == "breaks_rule_tests" and keeper.rules().version == 3

    run(work)


def test_an_edit_made_against_an_old_version_is_refused(tmp_path: Path) -> None:
    async def work() -> None:
        async with kept(tmp_path) as keeper:
            await keeper.add(PRIVATE, Spot(), how(version=1))
            with pytest.raises(InputError) as caught:
                await keeper.add(RACK, Spot(), how(version=1))
            assert caught.value.code == "stale_version" and keeper.rules().version == 2

    run(work)


def test_a_whole_list_keeps_the_ids_of_rules_that_stay(tmp_path: Path) -> None:
    async def work() -> None:
        async with kept(tmp_path) as keeper:
            await keeper.add(PRIVATE, Spot(position=1), how(stays=STAYS))
            before = {rule.name: rule.id for rule in keeper.rules().rules}
            await keeper.load([RACK, PRIVATE], how(stays=STAYS))
            after = {rule.name: rule.id for rule in keeper.rules().rules}
            assert list(after) == ["rack", "private"] and after["private"] == before["private"]
            assert after["rack"] not in before.values()
            await keeper.load([], how())
            assert names(keeper) == [] and (await keeper.show())["tests"] == []

    run(work)


def test_what_was_answered_is_there_after_a_new_start(tmp_path: Path) -> None:
    async def work() -> None:
        rule = {**PRIVATE, "fallback": [{"do": "ask", "then": {"do": "external", "name": "rack"}}], "note": "mine"}
        async with kept(tmp_path) as keeper:
            await keeper.add(rule, Spot(position=1), how())
            before, shown = keeper.rules(), await keeper.show()
        async with kept(tmp_path) as keeper:
            assert keeper.rules().rules == before.rules and await keeper.show() == shown

    run(work)


def test_asking_for_the_rules_does_not_wait_for_an_edit(tmp_path: Path) -> None:
    async def work() -> None:
        async with kept(tmp_path) as keeper:
            go = threading.Event()
            held = asyncio.ensure_future(keeper._do(lambda: go.wait(10)))  # the hand is busy
            edits = [asyncio.ensure_future(keeper.add({**PRIVATE, "name": str(n)}, Spot(), how())) for n in range(50)]
            await asyncio.sleep(0)
            assert await asyncio.to_thread(lambda: keeper.rules().version) == 1  # no thread of deciding is taken
            go.set()
            await asyncio.gather(held, *edits)
            assert keeper.rules().version == 51 and len(names(keeper)) == 51

    run(work)


def test_a_stored_rule_that_cannot_be_read_stops_the_start_and_is_not_left_out(tmp_path: Path) -> None:
    with books(tmp_path) as (book, _):
        later = StoredRule(name="of a later version", then={"do": "teleport"})
        book.edit(lambda d: Document(d.version, (later, *d.rules), d.tests), by="x", what="x", now=NOW)
        with pytest.raises(StorageError, match="teleport"):
            Keeper(book, swarm=lambda: SwarmState("attic", NODES))
