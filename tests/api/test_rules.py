"""The owner's routes for rules, over the real socket, keeper and database."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from desks import NOW, PRIVATE, RACK, STAYS, desk
from household import run
from mycoswarm.base.errors import InputError, NotFoundError, SwarmError
from mycoswarm.routing.rule import DEFAULT_RULE
from rings import node


def test_a_rule_is_added_edited_moved_switched_and_removed(tmp_path: Path) -> None:
    async def work() -> None:
        async with desk(tmp_path) as d:
            told = await d.ask("POST", "/api/rules", {"rule": PRIVATE, "position": 1, "tests": {"stays": STAYS}})
            assert (told["version"], told["position"]) == (2, 1)
            await d.ask("PUT", "/api/rules/private", {"rule": {**PRIVATE, "note": "mine"}, "version": 2})
            await d.ask("POST", "/api/rules", {"rule": RACK, "before": DEFAULT_RULE.name})
            await d.ask("POST", "/api/rules/rack/disable")
            await d.ask("POST", "/api/rules/rack/move", {"position": 1})
            shown = await d.ask("GET", "/api/rules")
            assert [rule["name"] for rule in shown["rules"]] == ["rack", "private", DEFAULT_RULE.name]
            assert [rule["position"] for rule in shown["rules"]] == [1, 2, 3]
            assert shown["rules"][0]["enabled"] is False and shown["rules"][1]["note"] == "mine"
            assert shown["rules"][1]["changed_by"] == "owner" and shown["rules"][1]["changed_at"] == NOW
            assert [test["name"] for test in shown["tests"]] == ["stays"] and shown["version"] == 6
            await d.ask("POST", "/api/rules/rack/enable")
            await d.ask("DELETE", "/api/rules/rack")
            told = await d.ask("GET", "/api/rules/history?limit=2")
            assert [one["what"] for one in told["versions"]] == ["remove rack", "enable rack"]
            assert (await d.ask("POST", "/api/rules/undo"))["version"] == 9
            assert (await d.ask("POST", "/api/rules/test"))["passed"]

    run(work)


def test_a_broken_test_and_a_stale_version_have_codes_of_their_own(tmp_path: Path) -> None:
    async def work() -> None:
        async with desk(tmp_path) as d:
            await d.ask("POST", "/api/rules", {"rule": PRIVATE, "position": 1, "tests": {"stays": STAYS}})
            for method, path, body, code in (
                ("DELETE", "/api/rules/private", None, "breaks_rule_tests"),
                ("DELETE", "/api/rules/private", {"version": 1}, "stale_version"),
                ("PUT", "/api/rules", {"rules": [], "tests": {"stays": STAYS}}, "breaks_rule_tests"),
                ("POST", "/api/rules", {"rule": {"name": "x", "when": {"client": ["no"]}}}, "bad_rule"),
            ):
                with pytest.raises(InputError) as caught:
                    await d.ask(method, path, body)
                assert caught.value.code == code and d.keeper.rules().version == 2
            await d.ask("DELETE", "/api/rules/private", {"tests": {"stays": None}, "version": 2})

    run(work)


@pytest.mark.parametrize("name", ["two words", "a/b", "a/move", "history", "tests", "../..", "a%2Fb", "?x=1", "ü#"])
def test_a_rule_of_any_name_is_reached(tmp_path: Path, name: str) -> None:
    async def work() -> None:
        async with desk(tmp_path) as d:
            await d.ask("POST", "/api/rules", {"rule": {**PRIVATE, "name": name}})
            path = f"/api/rules/{quote(name, safe='')}"
            assert (await d.ask("POST", f"{path}/move", {"position": 1}))["name"] == name
            assert (await d.ask("POST", f"{path}/disable"))["position"] == 1
            await d.ask("PUT", path, {"rule": {**PRIVATE, "name": name, "note": "seen"}})
            await d.ask("DELETE", path)
            assert [rule.name for rule in d.keeper.rules().rules] == [DEFAULT_RULE.name]

    run(work)


WRONG: tuple[tuple[str, str, Any], ...] = (
    ("POST", "/api/rules", None),
    ("POST", "/api/rules", []),
    ("POST", "/api/rules", {"rule": PRIVATE, "position": 0}),
    ("POST", "/api/rules", {"rule": PRIVATE, "position": 1, "before": "x"}),
    ("POST", "/api/rules", {"rule": PRIVATE, "tests": []}),
    ("POST", "/api/rules", {"rule": PRIVATE, "test": {}}),
    ("POST", "/api/rules", {"rule": PRIVATE, "version": "1"}),
    ("POST", "/api/rules", {"rule": {**PRIVATE, "name": "x" * 101}}),
    ("POST", "/api/rules", {"rule": {**PRIVATE, "name": "a\u001bb"}}),
    ("PUT", "/api/rules", {"rules": []}),
    ("PUT", "/api/rules", {"rules": {}, "tests": {}}),
    ("PUT", "/api/rules/nobody", {"rule": PRIVATE}),
    ("POST", "/api/rules/nobody/move", {"position": 1}),
    ("POST", "/api/rules/tests", {"tests": {"x": {"request": {}, "expect": {}}}}),
    ("POST", "/api/rules/test", {"tests": "all"}),
    ("POST", "/api/rules/undo", {"version": 1}),
    ("POST", "/api/rules/undo", None),
    ("POST", "/api/rules/explain", {"request": {"model": 7}}),
    ("POST", "/api/rules/explain", {"request": {"model": "spore"}, "route": "sideways"}),
    ("POST", "/api/rules/explain", {"model": "spore"}),
    ("POST", "/api/rules/replay", {"last": 0}),
    ("POST", "/api/rules/replay", {"last": 10**9}),
    ("POST", "/api/rules/replay", {"rules": "all"}),
    ("POST", "/api/rules/replay", {"within_s": 0}),
    ("POST", "/api/rules/replay", {"within_s": 1.5}),
    ("GET", "/api/rules/history?limit=-1", None),
    ("GET", "/api/rules/history?limit=x", None),
)


def test_wrong_requests_are_named_and_change_nothing(tmp_path: Path) -> None:
    async def work() -> None:
        async with desk(tmp_path) as d:
            for method, path, body in WRONG:
                with pytest.raises(InputError):
                    await d.ask(method, path, body)
                assert d.keeper.rules().version == 1, (method, path, body)
            assert not d.replayed

    run(work)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = ("rule", "rules", "tests", "version", "position", "before", "request", "route", "last", "within_s")
BODIES = st.fixed_dictionaries({}, optional=dict.fromkeys(FIELDS, JSON))
POSTS = ("", "/tests", "/test", "/undo", "/explain", "/replay", "/x/move", "/x/enable")


@pytest.mark.slow
def test_hostile_bodies_get_typed_errors_and_never_a_bug_of_ours(tmp_path: Path) -> None:
    async def work() -> None:
        async with desk(tmp_path) as d:
            found: list[tuple[str, Any]] = []

            @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), database=None)
            @given(st.sampled_from(POSTS), BODIES)
            def gather(path: str, body: Any) -> None:
                found.append((path, body))

            gather()
            for path, body in found:
                try:
                    await d.ask("POST", f"/api/rules{path}", body)
                except SwarmError as error:
                    assert error.code != "internal_error", (path, json.dumps(body), error.message)

    run(work, 60)


def test_explaining_says_everything_that_decide_knows_and_sends_nothing(tmp_path: Path) -> None:
    async def work() -> None:
        async with desk(tmp_path, nodes=(node("attic"), node("cellar", trouble="it is off"))) as d:
            told = await d.ask("POST", "/api/rules/explain", {"request": {"model": "spore"}})
            assert told["allowed"] and told["rule"] == DEFAULT_RULE.name and told["version"] == 1
            assert {one["name"]: one["chosen"] for one in told["nodes"]} == {"attic": True, "cellar": False}
            await d.ask("POST", "/api/rules", {"rule": PRIVATE, "position": 1})
            await d.ask("POST", "/api/rules", {"rule": RACK, "position": 1})
            told = await d.ask("POST", "/api/rules/explain", {"request": {"model": "spore", "added": ["private"]}})
            assert (told["rule"], told["limit"]) == ("private", DEFAULT_RULE.name)
            assert told["passed_rules"] == [{"rule": "rack", "because": "model 'spore' does not match 'big-*'"}]
            asked = {"request": {"model": "spore", "labels": ["private"]}, "route": "nodes=cellar"}
            told = await d.ask("POST", "/api/rules/explain", asked)
            assert not told["allowed"] and told["code"] and told["reason"]

    run(work)


def test_explaining_names_the_endpoint_the_question_and_what_was_tried_before(tmp_path: Path) -> None:
    async def work() -> None:
        async with desk(tmp_path) as d:
            d.endpoints.add("rack", "http://192.168.1.9:8000/v1", place="LAN", by="owner", now=NOW)
            step = {"do": "ask", "then": {"do": "external", "name": "rack", "model": "b"}, "within_s": 30}
            rule = {**RACK, "then": {"do": "run", "nodes": ["attic"]}, "fallback": [step]}
            await d.ask("POST", "/api/rules", {"rule": rule, "position": 1})
            told = await d.ask("POST", "/api/rules/explain", {"request": {"model": "big-one"}})
            assert told["endpoint"] == {"name": "rack", "place": "LAN", "model": "b"}
            assert (told["ask_s"], told["action"], len(told["tried"])) == (30, 1, 1)
            assert "big-one" in told["tried"][0]["because"]

    run(work)


def test_an_example_without_a_time_is_one_of_now_and_a_test_is_one_of_a_monday_noon(tmp_path: Path) -> None:
    late = {
        "name": "late",
        "when": {"hours": {"from": "22:00", "to": "23:00", "days": ["tue"]}},
        "then": {"do": "deny"},
    }
    asked = {"model": "spore"}

    async def work() -> None:
        async with desk(tmp_path) as d:  # where it is a Tuesday, 22:13
            await d.ask("POST", "/api/rules", {"rule": late, "position": 1})
            assert (await d.ask("POST", "/api/rules/explain", {"request": asked}))["rule"] == "late"
            noon = {"request": {**asked, "at": "2024-01-01T12:00:00+00:00"}}
            assert (await d.ask("POST", "/api/rules/explain", noon))["rule"] == DEFAULT_RULE.name
            tests = {"noon": {"request": asked, "expect": {"outcome": "run"}}}
            assert (await d.ask("POST", "/api/rules/test", {"tests": tests}))["passed"]

    run(work)


def test_replay_is_asked_for_so_many_requests_under_these_rules(tmp_path: Path) -> None:
    async def work() -> None:
        async with desk(tmp_path) as d:
            assert (await d.ask("POST", "/api/rules/replay", {}))["same"] == 1
            await d.ask("POST", "/api/rules/replay", {"last": 5, "rules": [PRIVATE]})
            await d.ask("POST", "/api/rules/replay", {"within_s": 3600})
            await d.ask("POST", "/api/rules/replay", {"within_s": 3600, "last": 7})
            assert d.replayed == [(200, None, None), (5, [PRIVATE], None), (10_000, None, 3600), (7, None, 3600)]

    run(work)


def test_what_there_is_not_is_not_found(tmp_path: Path) -> None:
    async def work() -> None:
        async with desk(tmp_path) as d:
            for method, path in (("DELETE", "/api/rules/nobody"), ("POST", "/api/rules/nobody/enable")):
                with pytest.raises(NotFoundError, match="nobody"):
                    await d.ask(method, path)

    run(work)
