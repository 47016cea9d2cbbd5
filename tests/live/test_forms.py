"""Required calls in every form, by llama.cpp: random weights, the form's own control tokens, its grammar, our reader.

What a random model says is nothing but what the grammar leaves it, so this shows that the three fit together, and that
control tokens come out as text; not how well a real model calls.
"""

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from models import write_random_model
from mycoswarm.chat.hearing import Hearing
from mycoswarm.stage.engine import Engine
from mycoswarm.stage.equipment import equip
from mycoswarm.stage.head import Head
from mycoswarm.stage.loop import Loopback
from mycoswarm.stage.worker import Worker
from mycoswarm.wire.dialect import DIALECTS, Dialect, dialect_of
from mycoswarm.wire.plan import Conditions
from mycoswarm.wire.report import AnyReport, Failed, Finished, Piece
from mycoswarm.wire.request import Generation, Prompt, Sampling
from mycoswarm.wire.tool import ToolCall, ToolChoice, ToolSpec, tool_json
from rings import FACTS, job

pytestmark = pytest.mark.slow

END, BRACKET, FIRST_CONTROL = 4, 5 + ord("]"), 261  # the bracket ends a list of calls
SWITCH = {"type": "object", "properties": {"level": {"enum": [1, 2]}, "is_on": {"type": "boolean"}}}
TOOLS = (tool_json(ToolSpec("switch", "", SWITCH | {"required": ["level", "is_on"]})),)


async def generate(path: Path, generation: Generation) -> list[AnyReport]:
    conditions, told = Conditions(n_ctx=512, n_ubatch=64), asyncio.Queue[AnyReport]()
    engine = Engine.open([path], conditions, n_layer=1, is_head=True, feeds_tokens=True, gpu=False)
    with Worker() as worker:
        head = Head(equip(engine, worker), Loopback(), conditions, n_stages=1, report=told.put_nowait)
        running = asyncio.create_task(head.run())
        head.admit(generation.request_id)
        head.generate(generation)
        reports = [await told.get()]
        while not isinstance(reports[-1], Finished | Failed):
            reports.append(await told.get())
        running.cancel()
        await asyncio.wait({running})
    engine.close()
    return reports


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_a_required_call_of_a_random_model_is_one(tmp_path: Path, dialect: Dialect) -> None:
    template = "{# tools " + " ".join(dialect.marks) + " #}{{ messages[0].content }}"
    path = write_random_model(tmp_path / "a.gguf", n_layer=1, template=template, control=dialect.shown)
    facts = msgspec.structs.replace(FACTS, template=template)
    assert dialect_of(template, "m") in DIALECTS
    bias = {END: 60.0, BRACKET: 40.0} | {FIRST_CONTROL + n: 50.0 for n in range(len(dialect.shown))}
    asked = replace(
        job(sampling=Sampling(temperature=0.0, logit_bias=bias, max_tokens=300)),
        prompt=Prompt(messages=({"role": "user", "content": "Put it on."},), tools=TOOLS),
        choice=ToolChoice(mode="required"),
    )
    hearing = Hearing(asked, facts)
    generation = Generation(request_id="r1", prompt=asked.prompt, sampling=hearing.sampling)
    *pieces, end = asyncio.run(asyncio.wait_for(generate(path, generation), 60))
    assert isinstance(end, Finished) and end.reason == "stop"
    heard = [event for piece in pieces if isinstance(piece, Piece) for event in hearing.hear(piece)]
    heard += hearing.end(end)
    calls = [event for event in heard if isinstance(event, ToolCall)]
    assert calls and not "".join(event.text for event in heard if isinstance(event, Piece))
    for call in calls:
        arguments = json.loads(call.arguments)
        assert call.name == "switch" and arguments["level"] in (1, 2) and isinstance(arguments["is_on"], bool)
    tokens = {token for piece in pieces if isinstance(piece, Piece) for token in piece.token_ids}
    assert bool(dialect.shown) == any(
        FIRST_CONTROL <= token < FIRST_CONTROL + len(dialect.shown) for token in tokens
    ) or (
        dialect.name == "llama"  # its mark is not needed
    )
