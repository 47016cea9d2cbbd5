"""The judge of the exam on canned answers, its cases, and its score."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mycoswarm.agents.exam import KINDS, Case, Reply, Wanted, fault_of, tally
from mycoswarm.agents.restraint import CASES, LONG_BYTES
from mycoswarm.wire.tool import ToolCall


def call(name: str, arguments: Any) -> ToolCall:
    return ToolCall("c", name, arguments if isinstance(arguments, str) else json.dumps(arguments))


def case(*calls: Wanted, says: tuple[str, ...] = ()) -> Case:
    return Case(name="a case", kind="single", messages=(), tools=(), calls=calls, says=says)


SUM = case(Wanted("calculator", {"expression": ("12+30", "30+12")}))
TWO = case(Wanted("timer", {"minutes": 3}), Wanted("timer", {"minutes": 10}))
DEEP = case(Wanted("order", {"who": "Mira", "items": [{"name": "lamp", "count": 3}], "now": True}))
DEEP_RIGHT = {"items": [{"count": 3.0, "name": "Lamp"}], "who": "mira", "now": True}


@pytest.mark.parametrize(
    ("asked", "reply"),
    [
        (SUM, Reply("", (call("calculator", {"expression": "12 + 30"}),))),
        (SUM, Reply("I look that up.", (call("calculator", {"expression": "30+12"}),))),
        (TWO, Reply("", (call("timer", {"minutes": 10}), call("timer", {"minutes": 3})))),
        (DEEP, Reply("", (call("order", DEEP_RIGHT),))),
        (case(says=("42",)), Reply("That makes 42.")),
        (case(says=("Paris",)), Reply("It is paris, of course")),
        (case(), Reply("I cannot do that.")),
    ],
)
def test_right_answers_are_right(asked: Case, reply: Reply) -> None:
    assert fault_of(asked, reply) is None


@pytest.mark.parametrize(
    ("asked", "reply", "why"),
    [
        (SUM, Reply("", (call("clock", {"expression": "12+30"}),)), "called clock instead of calculator"),
        (SUM, Reply("", (call("calculator", {"expression": "12+31"}),)), "right arguments"),
        (SUM, Reply("", (call("calculator", {"expression": 42}),)), "right arguments"),
        (SUM, Reply("", (call("calculator", {}),)), "right arguments"),
        (SUM, Reply("", (call("calculator", {"expression": "12+30", "more": 1}),)), "right arguments"),
        (SUM, Reply("", (call("calculator", '{"expression": "12+30"'),)), "no JSON object"),
        (SUM, Reply("", (call("calculator", '["12+30"]'),)), "no JSON object"),
        (SUM, Reply("", (call("calculator", "[" * 200_000),)), "no JSON object"),
        (SUM, Reply("I would use the calculator with 12+30."), "made no call"),
        (SUM, Reply("", (call("calculator", {"expression": "12+30"}),) * 2), "instead of"),
        (TWO, Reply("", (call("timer", {"minutes": 3}),)), "instead of"),
        (TWO, Reply("", (call("timer", {"minutes": 3}),) * 2), "right arguments"),
        (DEEP, Reply("", (call("order", {**DEEP_RIGHT, "now": 1}),)), "right arguments"),
        (DEEP, Reply("", (call("order", {**DEEP_RIGHT, "items": []}),)), "right arguments"),
        (TWO, Reply("", (call("timer", {"minutes": True}), call("timer", {"minutes": 10}))), "right arguments"),
        (case(says=("42",)), Reply("That makes 142."), "without '42'"),
        (case(says=("42",)), Reply("That makes 42.5"), "without '42'"),
        (case(says=("cat",)), Reply("A catfish"), "without 'cat'"),
        (case(says=("42",)), Reply("42", (call("calculator", {}),)), "where no tool fits"),
        (case(), Reply("Sure.", (call("timer", {}),)), "where no tool fits"),
        (case(), Reply(" \n"), "said nothing"),
    ],
)
def test_wrong_answers_are_wrong_and_it_is_said_why(asked: Case, reply: Reply, why: str) -> None:
    fault = fault_of(asked, reply)
    assert fault is not None and why in fault and len(fault) < 300


def test_there_are_sixty_cases_or_more_and_each_kind_has_eight() -> None:
    kinds = [one.kind for one in CASES]
    assert len(CASES) >= 60 and set(kinds) == set(KINDS)
    assert min(map(kinds.count, KINDS)) >= 8
    assert len({(one.kind, one.name) for one in CASES}) == len(CASES)


def test_cases_ask_only_for_tools_that_they_offer_and_for_arguments_of_their_schemas() -> None:
    for one in CASES:
        offered = {spec.name: spec.parameters for spec in one.tools}
        assert offered
        for wanted in one.calls:
            shape = offered[wanted.tool]
            assert set(shape["required"]) <= set(wanted.arguments) <= set(shape["properties"]), one.name


def test_every_case_has_a_right_answer_and_calls_or_silence_are_wrong_where_they_should_be() -> None:
    for one in CASES:
        calls = tuple(call(wanted.tool, _first(wanted.arguments)) for wanted in one.calls)
        right = Reply("" if calls else (one.says or ("I cannot.",))[0], calls)
        assert fault_of(one, right) is None, one.name
        assert fault_of(one, Reply("")) is not None, one.name
        assert fault_of(one, Reply("", (call("no_such_tool", {}),))) is not None, one.name


def test_kinds_are_what_their_names_say() -> None:
    for one in CASES:
        assert {"parallel": len(one.calls) > 1, "single": len(one.calls) == 1}.get(one.kind, True), one.name
        if one.kind in ("none", "refusal", "result"):
            assert not one.calls, one.name
        assert (len(one.messages[0]["content"].encode()) >= LONG_BYTES) == (one.kind == "long"), one.name
        assert (one.messages[-1]["role"] == "tool") == (one.kind == "result"), one.name


def _first(value: Any) -> Any:
    """The first of the alternatives, everywhere."""
    if isinstance(value, tuple):
        return _first(value[0])
    if isinstance(value, dict):
        return {name: _first(each) for name, each in value.items()}
    return [_first(each) for each in value] if isinstance(value, list) else value


@given(st.lists(st.tuples(st.sampled_from(KINDS), st.booleans())))
def test_scores_add_up(verdicts: list[tuple[str, bool]]) -> None:
    score = tally(verdicts)
    assert score.cases == len(verdicts) and score.right == sum(is_right for _, is_right in verdicts)
    assert set(score.kinds) == {kind for kind, _ in verdicts}
    assert all(0 <= right <= cases for right, cases in score.kinds.values())
    assert 0 <= score.percent <= 100 and score.percent * max(1, score.cases) <= 100 * score.right
    assert (score.percent == 100) == (bool(verdicts) and score.right == score.cases)


@given(st.text(), st.text(), st.text())
def test_any_answer_gets_a_verdict(text: str, name: str, arguments: str) -> None:
    for one in (SUM, DEEP, case(says=("42",)), case()):
        fault_of(one, Reply(text))
        fault_of(one, Reply(text, (ToolCall("c", name, arguments),)))
