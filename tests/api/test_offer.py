"""Tools of a request: what is let in, and what is a typed error that names the field."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mycoswarm.api.offer import read_calls, read_tools
from mycoswarm.api.question import Envelope, read_chat
from mycoswarm.base.errors import InputError
from mycoswarm.chat.job import Asker, Job
from mycoswarm.wire.dialect import DIALECTS
from mycoswarm.wire.line import decode_order, encode_line
from mycoswarm.wire.order import Generate
from mycoswarm.wire.request import Generation
from mycoswarm.wire.tool import ToolChoice

ENVELOPE = Envelope(request_id="r", asker=Asker())


def tool(name: Any = "clock", **function: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, **function}}


def chat(**body: Any) -> Job:
    messages = [{"role": "user", "content": "hi"}]
    return read_chat(msgspec.json.encode({"model": "spore", "messages": messages, **body}), ENVELOPE).job


def test_tools_become_what_templates_expect_and_count_as_text_of_the_prompt() -> None:
    job = chat(tools=[tool(strict=True), tool("add", description="Adds.", parameters={"type": "object"})])
    assert [each["function"] for each in job.prompt.tools] == [
        {"name": "clock", "description": "", "parameters": {"type": "object", "properties": {}}},
        {"name": "add", "description": "Adds.", "parameters": {"type": "object"}},
    ]
    assert job.choice == ToolChoice() and job.characters > 200


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, ToolChoice()),
        ("auto", ToolChoice()),
        ("required", ToolChoice(mode="required")),
        (tool(), ToolChoice(mode="required", name="clock")),
    ],
)
def test_every_choice_is_read(choice: Any, expected: ToolChoice) -> None:
    assert chat(tools=[tool()], tool_choice=choice).choice == expected
    assert chat(tools=[tool()], parallel_tool_calls=False).choice.is_parallel is False


def test_with_the_choice_none_there_are_no_tools() -> None:
    job = chat(tools=[tool()], tool_choice="none")
    assert job.prompt.tools == () and job.choice == ToolChoice() and job.characters == 2


DEEP: Any = {"type": "object"}
for _ in range(70):
    DEEP = {"type": "object", "properties": {"a": DEEP}}


LARGE = {"type": "object", "description": "x" * 60_000}


@pytest.mark.parametrize(
    ("field", "body"),
    [
        ("tools", {"tools": "x"}),
        ("tools", {"tools": [5]}),
        ("tools", {"tools": [{"type": "web_search"}]}),
        ("tools", {"tools": [{"type": "function"}]}),
        ("tools", {"tools": [tool("two words")]}),
        ("tools", {"tools": [tool("x" * 65)]}),
        ("tools", {"tools": [tool('a"b')]}),
        ("tools", {"tools": [tool(5)]}),
        ("tools", {"tools": [tool(), tool()]}),
        ("tools", {"tools": [tool(f"t{n}") for n in range(129)]}),
        ("tools", {"tools": [tool(description="x" * 9000)]}),
        ("tools", {"tools": [tool(returns={})]}),
        ("tools", {"tools": [tool(f"t{n}", parameters=LARGE) for n in range(20)]}),
        ("tools", {"tools": [tool(parameters="x")]}),
        ("tools", {"tools": [tool(parameters={"type": "string"})]}),
        ("tools", {"tools": [tool(parameters=DEEP)]}),
        ("tools", {"tools": [tool(parameters={"type": "object", "description": "x" * 70_000})]}),
        ("tool_choice", {"tools": [tool()], "tool_choice": "perhaps"}),
        ("tool_choice", {"tools": [tool()], "tool_choice": tool("add")}),
        ("tool_choice", {"tools": [tool()], "tool_choice": {"type": "function"}}),
        ("tool_choice", {"tool_choice": "required"}),
        ("parallel_tool_calls", {"parallel_tool_calls": "x"}),
        ("response_format", {"tools": [tool()], "response_format": {"type": "json_object"}}),
        ("tool_calls", {"messages": [{"role": "assistant", "tool_calls": "x"}]}),
        ("tool_calls", {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "a"}}]}]}),
        ("tool_calls", {"messages": [{"role": "assistant", "tool_calls": [5]}]}),
        ("tool_calls", {"messages": [{"role": "assistant", "tool_calls": [tool(arguments="{}")] * 65}]}),
    ],
)
def test_what_is_wrong_is_named(field: str, body: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=field) as caught:
        chat(**body)
    assert 400 <= caught.value.status < 500


def test_calls_come_back_as_templates_know_them() -> None:
    call = {"id": "c1", "type": "function", "index": 0, "function": {"name": "a", "arguments": "{", "parsed": 1}}
    assert read_calls("m", [call]) == [{"id": "c1", "type": "function", "function": {"name": "a", "arguments": "{"}}]


KEYS = ["type", "function", "name", "parameters", "properties", "required", "description", "items", "enum"]
values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(["function", "object", "a"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None)
@given(st.lists(values, max_size=2), st.lists(st.dictionaries(st.sampled_from(KEYS), values)), values)
def test_any_tools_are_read_or_are_a_typed_error(some: list[Any], schemas: list[dict[str, Any]], choice: Any) -> None:
    near = [tool(f"t{n}", parameters={**schema, "type": "object"}) for n, schema in enumerate(schemas)]
    for tools, chosen in ((some, choice), (near, choice), (near, "required")):
        try:
            job = chat(tools=tools, tool_choice=chosen)
        except InputError as error:
            assert error.message and error.hint
            continue
        sampling = job.sampling.calling(DIALECTS[0].form(job.prompt, job.choice), DIALECTS[0].shown)
        order = Generate(generation=Generation(request_id="r", prompt=job.prompt, sampling=sampling))
        assert decode_order(encode_line(order).rstrip(b"\n")) == order  # what is let in can travel


def test_no_tools_are_no_tools() -> None:
    assert read_tools([], "auto", True) == ((), ToolChoice())
