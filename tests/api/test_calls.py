"""Tool calls as OpenAI's own Python package reads them, over scripted rings."""

import asyncio
from typing import Any

import msgspec
import openai
import pytest

from consoles import console
from mycoswarm.api.completion import Waits
from mycoswarm.wire.plan import RingPlan
from mycoswarm.wire.tool import call_id
from rings import FACTS, Bench, FakeRing, node

pytestmark = pytest.mark.slow  # a server and a client for each
HERMES = msgspec.structs.replace(FACTS, template="{{ tools }} <tool_call></tool_call>")
ASK: dict[str, Any] = {
    "model": "spore",
    "messages": [{"role": "user", "content": "What time is it?"}],
    "tools": [{"type": "function", "function": {"name": "clock"}}, {"type": "function", "function": {"name": "add"}}],
}
CALLS = ('<tool_call>{"name": "clock", "argu', 'ments": {"a": "é"}}</tool_call>', "\n", '<tool_call>{"name": "add"}')


def speaking(*words: str) -> Bench:
    def ring_for(plan: RingPlan) -> FakeRing:
        return FakeRing(plan, tokens=words)

    return Bench(nodes=(node("attic"),), ring_for=ring_for, facts=HERMES)


def test_calls_are_in_the_message_and_its_content_is_null() -> None:
    async def main() -> None:
        async with console(speaking(*CALLS, "</tool_call>")) as c, c.client() as client:
            answer = await client.chat.completions.create(**ASK)
            (choice,) = answer.choices
            assert choice.finish_reason == "tool_calls" and choice.message.content is None
            first, second = choice.message.tool_calls or ()
            assert first.type == "function" == second.type and first.id != second.id
            assert (first.function.name, first.function.arguments) == ("clock", '{"a": "é"}')  # type: ignore[union-attr]
            assert (second.function.name, second.function.arguments) == ("add", "{}")  # type: ignore[union-attr]
            assert answer.usage and answer.usage.completion_tokens == 5

    asyncio.run(main())


def test_text_before_a_call_and_a_form_that_stays_open_are_content() -> None:
    async def main() -> None:
        async with console(speaking("Well.", *CALLS)) as c, c.client() as client:
            (choice,) = (await client.chat.completions.create(**ASK)).choices
            assert choice.message.content == 'Well.\n<tool_call>{"name": "add"}'
            assert choice.finish_reason == "tool_calls" and len(choice.message.tool_calls or ()) == 1

    asyncio.run(main())


def test_streamed_calls_have_their_name_first_and_then_their_arguments() -> None:
    async def main() -> None:
        async with console(speaking("Well.", *CALLS, "</tool_call>")) as c, c.client() as client:
            stream = await client.chat.completions.create(**ASK, stream=True, stream_options={"include_usage": True})
            chunks = [chunk async for chunk in stream]
            deltas = [choice.delta for chunk in chunks for choice in chunk.choices]
            parts = [part for delta in deltas for part in delta.tool_calls or ()]
            assert [(p.index, p.id, p.type, p.function.name, p.function.arguments) for p in parts if p.function] == [
                (0, call_id(c.bench.notes[0][2], 0), "function", "clock", ""),
                (0, None, None, None, '{"a": "é"}'),
                (1, call_id(c.bench.notes[0][2], 1), "function", "add", ""),
                (1, None, None, None, "{}"),
            ]
            assert "".join(delta.content or "" for delta in deltas) == "Well."
            assert [choice.finish_reason for chunk in chunks for choice in chunk.choices][-1] == "tool_calls"
            assert chunks[-1].usage and all(chunk.usage is None for chunk in chunks[:-1])

    asyncio.run(main())


def test_while_a_long_call_is_written_the_stream_shows_signs_of_life() -> None:
    async def main() -> None:
        words = ['<tool_call>{"name": "add", "arguments": {"a": "', *["x"] * 50, '"}}</tool_call>']
        async with console(speaking(*words), waits=Waits(keep_alive_s=0.0)) as c:
            body = msgspec.json.encode({**ASK, "stream": True})
            answer = await c.raw(c.post("/v1/chat/completions", body))
            assert answer.count(b": still working") > 5 and b'"tool_calls"' in answer

    asyncio.run(main())


def test_a_model_that_cannot_call_is_a_clear_error() -> None:
    async def main() -> None:
        async with console() as c, c.client() as client:
            with pytest.raises(openai.BadRequestError, match="model spore cannot call tools"):
                await client.chat.completions.create(**ASK)
            with pytest.raises(openai.BadRequestError, match="cannot call tools"):
                await client.chat.completions.create(**ASK, stream=True)

    asyncio.run(main())
