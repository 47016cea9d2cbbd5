"""spore, so hot that its calls break: held to the tools' schemas they are whole, and all else that it says is the same.

Which answers break without a hold depends on the machine's arithmetic, so many seeds are tried, and some must.
"""

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import mycoswarm.catalog
from mycoswarm.catalog.facts import read_facts
from mycoswarm.chat.hearing import Hearing
from mycoswarm.chat.job import Job
from mycoswarm.stage.engine import Engine
from mycoswarm.stage.equipment import equip
from mycoswarm.stage.head import Head
from mycoswarm.stage.loop import Loopback
from mycoswarm.stage.worker import Worker
from mycoswarm.wire.plan import Conditions
from mycoswarm.wire.report import AnyReport, Finished, Piece
from mycoswarm.wire.request import Generation, Prompt, Sampling
from mycoswarm.wire.tool import ToolCall, ToolSpec, tool_json
from rings import job

pytestmark = pytest.mark.slow

SPORE = Path(mycoswarm.catalog.__file__).with_name("spore.gguf")
LEVEL = {"type": "integer", "minimum": 0, "maximum": 100}
CALCULATOR = ToolSpec(
    "calculator",
    "Work out an arithmetic expression.",
    {"type": "object", "properties": {"expression": {"type": "string"}}, "required": ["expression"]},
)
LAMP = ToolSpec(
    "set_lamp",
    "Sets a lamp.",
    {
        "type": "object",
        "properties": {"room": {"type": "string", "enum": ["hall", "attic"]}, "level": LEVEL},
        "required": ["room", "level"],
    },
)
QUESTIONS = ("what is 12 plus 30?", "Set the lamp in the hall to 40.")
SEEDS = range(20)


def asked(question: str, seed: int, *, is_poor: bool) -> Job:
    messages = ({"role": "user", "content": question},)
    return replace(
        job(f"{question} {seed} {is_poor}", sampling=Sampling(temperature=1.5, seed=seed, max_tokens=150)),
        prompt=Prompt(messages=messages, tools=(tool_json(CALCULATOR), tool_json(LAMP))),
    )


async def answers(jobs: list[tuple[Job, bool]]) -> list[tuple[str, list[ToolCall], str]]:
    """What spore writes, the calls in it, and why it ended."""
    facts, told = read_facts(SPORE), asyncio.Queue[AnyReport]()
    conditions = Conditions(n_ctx=1024, n_ubatch=64)
    engine = Engine.open([SPORE], conditions, n_layer=facts.n_layer, is_head=True, feeds_tokens=True, gpu=False)
    found = []
    with Worker() as worker:
        head = Head(equip(engine, worker), Loopback(), conditions, n_stages=1, report=told.put_nowait)
        running = asyncio.create_task(head.run())
        for one, is_poor in jobs:
            hearing = Hearing(one, facts, is_poor=is_poor)
            head.admit(one.request_id)
            head.generate(Generation(request_id=one.request_id, prompt=one.prompt, sampling=hearing.sampling))
            text, events = "", []
            while isinstance(report := await told.get(), Piece):
                text += report.text
                events += hearing.hear(report)
            assert isinstance(report, Finished), report
            events += hearing.end(report)
            found.append((text, [event for event in events if isinstance(event, ToolCall)], report.reason))
        running.cancel()
        await asyncio.wait({running})
    engine.close()
    return found


def is_sound(call: ToolCall) -> bool:
    """Whether a call keeps its tool's schema."""
    arguments: dict[str, Any] = json.loads(call.arguments)
    if call.name == "calculator":
        return list(arguments) == ["expression"] and isinstance(arguments["expression"], str)
    level = arguments.get("level")
    return set(arguments) == {"room", "level"} and arguments["room"] in ("hall", "attic") and level in range(101)


def test_calls_that_break_without_a_hold_are_whole_with_it_and_texts_stay_as_they_are() -> None:
    pairs = [(question, seed) for question in QUESTIONS for seed in SEEDS]
    jobs = [(asked(*pair, is_poor=is_poor), is_poor) for pair in pairs for is_poor in (False, True)]
    said = asyncio.run(asyncio.wait_for(answers(jobs), 240))
    broken = 0
    for (text, free, _), (held_text, held, reason) in zip(said[::2], said[1::2], strict=True):
        assert all(map(is_sound, held))
        if "<tool_call>" not in text:
            assert held_text == text and not held
        elif reason == "stop":
            assert len(held) == held_text.count("<tool_call>") > 0
        broken += len(free) < text.count("<tool_call>") or not all(map(is_sound, free))
        if free and all(map(is_sound, free)) and len(free) == text.count("<tool_call>"):
            assert held_text == text  # what fits is the model's own choice
    assert broken
