"""Tool calls through the official `openai` client against real daemons, with the model that comes along."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from endpoints import passage
from mycoswarm.cli.fleet import Fleet
from mycoswarm.external.errand import Reached, relay
from mycoswarm.external.target import Limits, Target
from mycoswarm.wire.request import Prompt, Sampling
from mycoswarm.wire.tool import ToolCall, call_id

pytestmark = pytest.mark.slow

SPLIT = {"x-mycoswarm-route": "split; nodes=worker-1,worker-2"}
SOLO = {"x-mycoswarm-route": "solo; nodes=coordinator"}
QUESTION = {"role": "user", "content": "what is 12 plus 30?"}


def tool(name: str, description: str, **properties: dict[str, Any]) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties, "required": sorted(properties)}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}


CALCULATOR = tool("calculator", "Work out an arithmetic expression.", expression={"type": "string"})
LAMP = tool(
    "set_lamp",
    "Sets a lamp.",
    room={"type": "string", "enum": ["hall", "attic"]},
    level={"type": "integer", "minimum": 0, "maximum": 100},
    is_on={"type": "boolean"},
)


@pytest.fixture(scope="module")
def client(fleet: Fleet) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=f"http://{fleet.console()}/v1", api_key=fleet.key("tools"), max_retries=0, timeout=60
    ) as made:
        yield made
    fleet.coordinator.call.ask("DELETE", "/api/keys/tools", {})


def ask(client: openai.OpenAI, messages: list[Any], *, stream: bool, **more: Any) -> tuple[dict[str, Any], str]:
    """The assistant's message as it goes back in, and why it ended."""
    body: dict[str, Any] = {"model": "spore", "messages": messages, "temperature": 0, "max_tokens": 120, **more}
    if not stream:
        choice = client.chat.completions.create(**body).choices[0]
        return choice.message.model_dump(exclude_none=True), str(choice.finish_reason)
    told: dict[str, Any] = {"role": "assistant"}
    calls: dict[int, dict[str, Any]] = {}
    reason = ""
    for chunk in client.chat.completions.create(**body, stream=True):
        for choice in chunk.choices:
            told["content"] = told.get("content", "") + (choice.delta.content or "")
            reason = choice.finish_reason or reason
            for part in choice.delta.tool_calls or ():
                call = calls.setdefault(part.index, {"id": part.id, "type": part.type, "function": {}})
                function = call["function"]
                function["name"] = function.get("name", "") + (part.function.name or "")
                function["arguments"] = function.get("arguments", "") + (part.function.arguments or "")
    if calls:
        told["tool_calls"] = [calls[index] for index in sorted(calls)]
    if not told["content"]:
        del told["content"]
    return told, reason


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("route", [SOLO, SPLIT], ids=["solo", "split"])
def test_a_sum_is_called_out_and_the_answer_uses_the_result(
    client: openai.OpenAI, stream: bool, route: dict[str, str]
) -> None:
    more: dict[str, Any] = {"tools": [CALCULATOR], "stream": stream, "extra_headers": route}
    said, reason = ask(client, [QUESTION], **more)
    assert reason == "tool_calls" and "content" not in said
    (call,) = said["tool_calls"]
    assert call["type"] == "function" and call["function"]["name"] == "calculator"
    assert json.loads(call["function"]["arguments"]) == {"expression": "12+30"}
    result = {"role": "tool", "tool_call_id": call["id"], "content": "42"}
    answer, reason = ask(client, [QUESTION, said, result], **more)
    assert reason == "stop" and "42" in answer["content"] and "tool_calls" not in answer


def test_from_an_endpoint_the_call_comes_as_the_same_event(fleet: Fleet) -> None:
    async def main() -> list[Any]:
        target = Target(
            name="swarm", url=f"http://{fleet.console()}/v1", place="LAN", model="spore", secret=fleet.key("endpoint")
        )
        prompt = Prompt(messages=(QUESTION,), tools=(CALCULATOR,))
        told = relay(target, prompt, Sampling(temperature=0.0), request_id="r1", passage=passage(Limits()))
        return [event async for event in told]

    reached, *said, finished = asyncio.run(main())
    assert said == [ToolCall(call_id("r1", 0), "calculator", '{"expression": "12+30"}')]
    assert isinstance(reached, Reached) and finished.reason == "stop" and finished.prompt_tokens > 10
    fleet.coordinator.call.ask("DELETE", "/api/keys/endpoint", {})


def test_without_need_of_a_tool_the_answer_is_text(client: openai.OpenAI) -> None:
    said, reason = ask(client, [{"role": "user", "content": "Hello!"}], tools=[CALCULATOR], stream=False)
    assert reason == "stop" and said["content"] and "tool_calls" not in said


def test_with_the_choice_none_the_model_is_not_told_of_tools(client: openai.OpenAI) -> None:
    said, reason = ask(client, [QUESTION], tools=[CALCULATOR], tool_choice="none", stream=False)
    assert reason == "stop" and "tool_calls" not in said


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "set_lamp"}}])
def test_a_required_call_of_a_tool_never_seen_keeps_its_schema(
    client: openai.OpenAI, stream: bool, choice: Any
) -> None:
    answers = []
    for route in (SOLO, SPLIT):
        said, reason = ask(
            client,
            [{"role": "user", "content": "Put the light on."}],
            tools=[LAMP] if choice == "required" else [CALCULATOR, LAMP],
            tool_choice=choice,
            parallel_tool_calls=False,
            stream=stream,
            extra_headers=route,
        )
        assert reason == "tool_calls" and "content" not in said
        (call,) = said["tool_calls"]
        assert call["function"]["name"] == "set_lamp"
        arguments = json.loads(call["function"]["arguments"])
        assert set(arguments) == {"room", "level", "is_on"} and arguments["room"] in ("hall", "attic")
        assert type(arguments["level"]) is int and 0 <= arguments["level"] <= 100
        assert isinstance(arguments["is_on"], bool)
        answers.append(call["function"])
    assert answers[0] == answers[1]


def test_required_calls_may_be_several_and_each_keeps_its_schema(client: openai.OpenAI) -> None:
    said, _ = ask(client, [QUESTION], tools=[CALCULATOR, LAMP], tool_choice="required", max_tokens=400, stream=False)
    for call in said["tool_calls"]:
        assert call["function"]["name"] in ("calculator", "set_lamp") and json.loads(call["function"]["arguments"])
    assert len({call["id"] for call in said["tool_calls"]}) == len(said["tool_calls"])


def test_a_call_that_max_tokens_cuts_is_text_and_its_end_says_length(client: openai.OpenAI) -> None:
    said, reason = ask(client, [QUESTION], tools=[CALCULATOR], max_tokens=6, stream=False)
    assert reason == "length" and said["content"].startswith("<tool_call>") and "tool_calls" not in said


def test_a_schema_that_no_grammar_keeps_is_named(client: openai.OpenAI) -> None:
    wrong = tool("f", "", a={"type": "string", "pattern": "x+"})
    with pytest.raises(openai.BadRequestError, match="pattern"):
        ask(client, [QUESTION], tools=[wrong], tool_choice="required", stream=False)
