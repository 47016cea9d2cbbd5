"""Tool calls in the life of a request: over scripted rings that are lost on the way, and at endpoints."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from mycoswarm.base.errors import UnsupportedError
from mycoswarm.chat.job import Decided, Event, Job
from mycoswarm.external.errand import Reached
from mycoswarm.routing.action import External
from mycoswarm.routing.decision import Dispatch
from mycoswarm.routing.rule import Rule, RuleSet
from mycoswarm.routing.snapshot import EndpointState
from mycoswarm.wire.plan import RingPlan
from mycoswarm.wire.report import Finished, Piece
from mycoswarm.wire.request import Prompt
from mycoswarm.wire.tool import ToolCall, ToolChoice, ToolSpec, call_id, tool_json
from rings import FACTS, Bench, FakeRing, job, lost_at, node

HERMES = msgspec.structs.replace(FACTS, template="{{ tools }} <tool_call></tool_call>")
HARMONY = msgspec.structs.replace(FACTS, template='tools <|channel|> <|message|> "functions."')
CLOCK = tool_json(ToolSpec("clock", "Time.", {"type": "object", "properties": {}}))
WORDS = ("I ", "look.", "<tool_", 'call>{"name": "clo', 'ck", "arguments"', ": {}}</tool_call>", "<tool_call>", "{}")
CALL = ToolCall(call_id("r1", 0), "clock", "{}")


def asking(choice: ToolChoice | None = None, tools: tuple[dict[str, Any], ...] = (CLOCK,)) -> Job:
    messages = ({"role": "user", "content": "What time is it?"},)
    return replace(job(), prompt=Prompt(messages=messages, tools=tools), choice=choice or ToolChoice())


def hear(bench: Bench, one: Job) -> list[Event]:
    async def main() -> list[Event]:
        async with bench.chat() as chat, asyncio.timeout(10), aclosing(chat.answer(one)) as events:
            return [event async for event in events]

    return asyncio.run(main())


def outline(events: list[Event]) -> list[object]:
    """Texts joined, calls, and the reason; without decisions."""
    told: list[object] = []
    for event in events:
        if isinstance(event, Piece):
            if told and isinstance(told[-1], str):
                told[-1] += event.text
            elif event.text:
                told.append(event.text)
        elif isinstance(event, Finished) or not isinstance(event, Decided):
            told.append(event)
    return [one.reason if isinstance(one, Finished) else one for one in told]


def speaking(*words: str, faults: dict[int, Any] | None = None, facts: Any = HERMES) -> Bench:
    left = dict(faults or {})

    def ring_for(plan: RingPlan) -> FakeRing:
        ring = FakeRing(plan, tokens=words, faults=dict(left))
        left.clear()
        return ring

    return Bench(nodes=(node("attic"), node("cellar")), ring_for=ring_for, facts=facts)


def test_a_call_comes_out_of_the_text_and_all_tokens_are_told() -> None:
    bench = speaking(*WORDS)
    events = hear(bench, asking())
    assert outline(events) == ["I look.", CALL, "<tool_call>{}", "stop"]
    tokens = [token for event in events if isinstance(event, Piece) for token in event.token_ids]
    assert tokens == list(range(len(WORDS)))
    sampling = bench.rings[0].generations[0].sampling
    assert sampling.shown == ("<tool_call>", "</tool_call>") and sampling.call_form is None


@pytest.mark.parametrize("at", range(len(WORDS)))
def test_a_node_lost_anywhere_within_a_call_changes_nothing(at: int) -> None:
    bench = speaking(*WORDS, faults={at: lost_at("attic")})
    assert outline(hear(bench, asking())) == ["I look.", CALL, "<tool_call>{}", "stop"]
    assert len(bench.rings) == 2


def test_where_one_call_is_wanted_what_follows_it_is_left_out() -> None:
    assert outline(hear(speaking(*WORDS), asking(ToolChoice(is_parallel=False)))) == ["I look.", CALL, "stop"]


def test_a_required_call_is_enforced_in_the_models_own_form() -> None:
    bench = speaking(*WORDS)
    hear(bench, asking(ToolChoice(mode="required", name="clock")))
    form = bench.rings[0].generations[0].sampling.call_form
    assert form is not None and not form.is_free
    assert [(way.before[0], way.most) for way in form.ways] == [("<tool_call>", 1)]
    assert [tool.name for tool in form.tools] == ["clock"]


@pytest.mark.parametrize(
    ("choice", "is_held"),
    [(ToolChoice(), True), (ToolChoice(is_strict=False), False), (ToolChoice(is_strict=True), True)],
)
def test_a_model_with_a_poor_certificate_is_held_where_it_begins_a_call(choice: ToolChoice, is_held: bool) -> None:
    asked: list[tuple[str, str]] = []

    def is_poor(digest: str, task: str) -> bool:
        asked.append((digest, task))
        return True

    bench = speaking(*WORDS, faults={3: lost_at("attic")})
    bench.is_poor = is_poor
    assert outline(hear(bench, asking(choice))) == ["I look.", CALL, "<tool_call>{}", "stop"]
    forms = [ring.generations[0].sampling.call_form for ring in bench.rings]
    assert len(forms) == 2 and all((form is not None) == is_held for form in forms)
    assert all(form is None or (form.is_free and form.ways[0].opening == "<tool_call>") for form in forms)
    assert asked == ([(FACTS.digest, "chat")] if choice.is_strict is None else [])


def test_without_tools_no_certificate_is_looked_up() -> None:
    bench = speaking(*WORDS)
    bench.is_poor = lambda digest, task: pytest.fail("there is nothing to hold")
    hear(bench, asking(tools=()))


def test_without_tools_nothing_is_looked_for() -> None:
    bench = speaking(*WORDS)
    assert outline(hear(bench, asking(tools=()))) == ["".join(WORDS), "stop"]
    assert bench.rings[0].generations[0].sampling == job().sampling


def test_a_model_that_cannot_call_is_named_and_nothing_runs() -> None:
    bench = speaking(*WORDS, facts=FACTS)
    with pytest.raises(UnsupportedError, match="model spore cannot call tools"):
        hear(bench, asking())
    assert not bench.rings and bench.rows("answer")[0]["outcome"] == "no_tool_calls"


def test_of_a_model_that_speaks_in_channels_only_the_answer_is_heard() -> None:
    words = ("<|channel|>", "analysis", "<|message|>", "Hm.", "<|end|>", "<|start|>assistant<|channel|>", "final")
    assert outline(hear(speaking(*words, "<|message|>", "Hi!", facts=HARMONY), asking(tools=()))) == ["Hi!", "stop"]


def test_an_endpoint_is_told_of_the_tools_and_its_call_is_the_same_event() -> None:
    asked: list[Job] = []

    async def relay(dispatch: Dispatch, one: Job) -> AsyncGenerator[Reached | Piece | ToolCall | Finished, None]:
        asked.append(one)
        yield Reached("LAN", "192.168.1.9:8000")
        yield Piece(request_id=one.request_id, text="I look.", token_ids=())
        yield CALL
        yield Finished(request_id=one.request_id, reason="stop", prompt_tokens=1, completion_tokens=1)

    rules = RuleSet.of((Rule(name="out", then=External(name="rack")),))
    bench = Bench(rules=rules, endpoints=(EndpointState("rack", "LAN"),), relay=relay)
    choice = ToolChoice(mode="required")
    assert outline(hear(bench, asking(choice))) == ["I look.", CALL, "stop"]
    assert asked[0].prompt.tools == (CLOCK,) and asked[0].choice == choice
