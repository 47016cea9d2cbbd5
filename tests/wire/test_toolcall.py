"""Tool calls read from text: every form, whole and cut at every place, and all that only looks like a call."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mycoswarm.base.errors import UnsupportedError
from mycoswarm.wire.dialect import DIALECTS, Dialect, dialect_of
from mycoswarm.wire.request import CallWay
from mycoswarm.wire.tool import ToolCall, call_id
from mycoswarm.wire.toolcall import MAX_CALLS, CallReader

TOOLS: dict[str, dict[str, object]] = {"clock": {}, "add": {}}
TEMPLATES = {
    "hermes": "{% for tool in tools %}<tool_call></tool_call>",
    "llama": "tools <|python_tag|>",
    "mistral": "tools [TOOL_CALLS]",
    "mistral args": "tools [TOOL_CALLS] [ARGS]",
    "deepseek": "tools <｜tool▁calls▁begin｜> <｜tool▁sep｜> ```json",
    "deepseek 3.1": "tools <｜tool▁calls▁begin｜> <｜tool▁sep｜>",
    "harmony": "tools <|channel|> 'assistant to=' + \"functions.\" <|message|>",
    "plain": "{{ tools | tojson }}",
}
ADD, CLOCK = ("add", '{"a": [1, {"b": "}\\"]{"}], "é": "Grüße"}'), ("clock", "{}")
_D, _S, _E = "<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "<｜tool▁call▁end｜>"


def one(call: tuple[str, str], key: str = "arguments") -> str:
    return f'{{"name": "{call[0]}", "{key}": {call[1]}}}'


def hermes(call: tuple[str, str]) -> str:
    return f"<tool_call>\n{one(call)}\n</tool_call>"


def harmony(call: tuple[str, str]) -> str:
    return f"<|channel|>commentary to=functions.{call[0]} <|constrain|>json<|message|>{call[1]}"


# The dialect, what the model writes, and what is in it.
CASES = [
    ("hermes", f"Let me see.\n{hermes(ADD)}\n{hermes(CLOCK)}", ["Let me see.\n", ADD, CLOCK]),
    ("hermes", '<tool_call>{"name": "clock"}</tool_call> Done.', [CLOCK, " Done."]),
    ("hermes", '<tool_call>{"arguments":"{}","name":"clock"}</tool_call>', [CLOCK]),
    ("hermes", f"<tool_call><tool_call>{one(ADD)}</tool_call>", ["<tool_call>", ADD]),
    (
        "hermes",
        f'<tool_call>{{"name": "add"\n</tool_call>{hermes(ADD)}',
        ['<tool_call>{"name": "add"\n</tool_call>', ADD],
    ),
    ("llama", one(ADD, "parameters"), [ADD]),
    ("llama", f"\n<|python_tag|>{one(ADD, 'parameters')}; {one(CLOCK)}\n", [ADD, CLOCK]),
    ("mistral", f"[TOOL_CALLS] [{one(ADD)}, {one(CLOCK)}]", [ADD, CLOCK]),
    ("mistral", 'Now: [TOOL_CALLS][{"name": "clock", "arguments": {}, "id": "abcdefghi"}]', ["Now: ", CLOCK]),
    ("mistral args", f"[TOOL_CALLS]add[ARGS]{ADD[1]}[TOOL_CALLS]clock[CALL_ID]abcdefghi[ARGS]{{}}", [ADD, CLOCK]),
    ("mistral args", "[TOOL_CALLS]clock{}", [CLOCK]),
    (
        "deepseek",
        f"<｜tool▁calls▁begin｜>{_D}function{_S}add\n```json\n{ADD[1]}\n```{_E}\n{_D}function{_S}clock\n```json\n{{}}\n```"
        f"{_E}<｜tool▁calls▁end｜>",
        [ADD, CLOCK],
    ),
    ("deepseek 3.1", f"Hm.<｜tool▁calls▁begin｜>{_D}add{_S}{ADD[1]}{_E}{_D}clock{_S}{{}}{_E}", ["Hm.", ADD, CLOCK]),
    ("harmony", f"<|channel|>analysis<|message|>Think {ADD[1]}<|end|><|start|>assistant{harmony(ADD)}", [ADD]),
    ("harmony", " to=functions.clock<|channel|>commentary json<|message|>{}<|call|>", [CLOCK]),
    (
        "harmony",
        f"<|channel|>commentary<|message|>I look.<|end|><|start|>assistant{harmony(ADD)}",
        ["I look.", ADD],
    ),
    ("harmony", "<|channel|>analysis<|message|>Hm<|end|><|start|>assistant<|channel|>final<|message|>Hi {}", ["Hi {}"]),
    ("plain", f" {one(ADD)}\n", [ADD]),
    ("plain", f"```json\n[{one(ADD)}, {one(CLOCK, 'parameters')}]\n```", [ADD, CLOCK]),
]
# What only looks like a call, and comes out as it was written.
TEXTS = [
    ("hermes", "Write <tool_call> to call, and {} or <tool for a tag."),
    ("hermes", f"The form is {one(ADD)}."),
    ("hermes", one(ADD)),
    ("hermes", '<tool_call>{"name": "shell", "arguments": {}}</tool_call>'),
    ("hermes", '<tool_call>{"name": "add", "arguments": [1]}</tool_call>'),
    ("hermes", '<tool_call>{"name": "add", "arguments": "1"}</tool_call>'),
    ("hermes", '<tool_call>{"name": "add", "arguments": {"a": NaN}}</tool_call>'),
    ("hermes", '<tool_call>{"name": "add", "arguments": {"a": 1]}}</tool_call>'),
    ("hermes", '<tool_call>{"name": "add", "arguments": {\\}}</tool_call>'),
    ("hermes", '<tool_call>{"name": 5}</tool_call><tool_call>[]</tool_call>'),
    ("hermes", f"<tool_call>{one(ADD)}"),
    ("hermes", f"<tool_call>{one(ADD)}</tool_cal"),
    ("hermes", '<tool_call>{"name": "add\\'),
    ("hermes", "  \n "),
    ("hermes", ""),
    ("llama", f"It is {one(ADD, 'parameters')}"),
    ("llama", f"{one(ADD, 'parameters')} is the form."),
    ("llama", '{"name": "Anna", "parameters": {}}'),
    ("llama", '{"name": "clock"}'),
    ("llama", "<|python_tag|>print(1)"),
    ("mistral", "[TOOL_CALLS] are marks"),
    ("mistral", "[TOOL_CALLS]" + "x" * 1000),
    ("mistral", f'[TOOL_CALLS] [{one(ADD)}, {{"name": "shell", "arguments": {{}}}}]'),
    ("mistral args", "[TOOL_CALLS]clock[ARGS]now"),
    ("deepseek", f"<｜tool▁calls▁begin｜>{_D}function{_S}add\n```json\n{ADD[1]}\n```"),
    ("deepseek", "<｜tool▁calls▁begin｜><｜tool▁calls▁end｜>"),
    ("harmony", "plain words"),
    ("harmony", "<|channel|>commentary to=functions.shell <|constrain|>json<|message|>{}"),
    ("harmony", harmony(("clock", "{}")) + " and more"),
    ("plain", "[1, 2]"),
    ("plain", "```python\nprint()\n```"),
    ("plain", f"{one(ADD)} {one(ADD)}"),
]


def read(name: str, *parts: str, is_whole: bool = True, most: int | None = None) -> list[str | tuple[str, str]]:
    """Calls as (name, arguments), neighbouring texts joined."""
    reader = CallReader(dialect_of(TEMPLATES[name], "m"), TOOLS, "r1", most)
    said = [one for part in parts for one in reader.feed(part)] + reader.end(is_whole=is_whole)
    joined: list[str | tuple[str, str]] = []
    for event in said:
        if isinstance(event, ToolCall):
            joined.append((event.name, event.arguments))
        elif joined and isinstance(joined[-1], str):
            joined[-1] += event
        elif event:
            joined.append(event)
    return joined


@pytest.mark.parametrize(("name", "text", "expected"), CASES)
def test_calls_are_read_whole_and_cut_at_every_place(name: str, text: str, expected: list[object]) -> None:
    assert read(name, text) == expected
    assert read(name, *text) == expected
    for at in range(1, len(text)):
        assert read(name, text[:at], text[at:]) == expected


@pytest.mark.parametrize(("name", "text"), TEXTS)
def test_what_only_looks_like_a_call_stays_text(name: str, text: str) -> None:
    expected = [text] if text else []
    assert read(name, text) == expected
    assert read(name, *text) == expected
    for at in range(1, len(text)):
        assert read(name, text[:at], text[at:]) == expected


words = st.sampled_from(
    sorted({part for _, text, _ in CASES for part in re.split(r"(?<=[>\]}{\[])|(?=[<\[{}])", text)} | set(TEMPLATES))
)


@settings(deadline=None)
@given(st.sampled_from(sorted(TEMPLATES)), st.lists(words | st.text(max_size=3), max_size=20), st.data(), st.booleans())
def test_cuts_change_nothing_whatever_is_written(
    name: str, some: list[str], data: st.DataObject, is_whole: bool
) -> None:
    text = "".join(some)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    parts = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    whole = read(name, text, is_whole=is_whole)
    assert read(name, *parts, is_whole=is_whole) == whole
    if name != "harmony" and not any(isinstance(said, tuple) for said in whole):
        assert "".join(map(str, whole)) == text  # nothing is lost


def test_a_call_that_a_limit_cut_is_text_even_where_its_json_is_whole() -> None:
    assert read("llama", one(ADD), is_whole=False) == [one(ADD)]


def test_text_is_given_at_once_where_it_can_be_no_call() -> None:
    reader = CallReader(dialect_of(TEMPLATES["hermes"], "m"), TOOLS, "r1")
    assert reader.feed("Hello <tool") == ["Hello "]
    assert reader.feed("box>") == ["<toolbox>"]


def test_after_the_last_call_that_may_be_nothing_more_is_said() -> None:
    assert read("hermes", hermes(ADD), hermes(CLOCK), "more", most=1) == [ADD]
    assert read("hermes", hermes(ADD) + hermes(CLOCK) + "more", most=1) == [ADD]


def test_what_a_model_writes_without_end_is_bounded_and_read_once() -> None:
    assert len(read("hermes", hermes(CLOCK) * (MAX_CALLS + 2))) == MAX_CALLS + 1
    deep = '<tool_call>{"name": "add", "arguments": ' + '{"a":' * 40_000 + "1" + "}" * 40_001 + "</tool_call>"
    assert read("hermes", deep) == [deep]
    text = '<tool_call>{"a": "' * 40_000
    assert read("hermes", *(text[at : at + 1000] for at in range(0, len(text), 1000))) == [text]


def test_ids_are_nine_letters_and_differ() -> None:
    ids = {call_id(request, number) for request in ("a", "b") for number in range(50)}
    assert len(ids) == 100 and all(re.fullmatch("[a-z0-9]{9}", one) for one in ids)
    reader = CallReader(dialect_of(TEMPLATES["hermes"], "m"), TOOLS, "a")
    assert reader.feed(hermes(CLOCK)) == [ToolCall(call_id("a", 0), "clock", "{}")]


@pytest.mark.parametrize(
    "template", [None, "", "{{ messages }}", "tools <tool_call></tool_call><invoke>", "tools <arg_key>"]
)
def test_a_model_that_cannot_call_is_named(template: str | None) -> None:
    with pytest.raises(UnsupportedError, match="model tiny cannot call tools") as caught:
        dialect_of(template, "tiny")
    assert caught.value.code == "no_tool_calls"


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_what_a_grammar_writes_is_read_again(dialect: Dialect) -> None:
    for way in dialect.ways:
        names = ["add", "clock"] if way.first else ["add"]
        texts = [written(way, name) for name in names]
        text = "".join([way.opening, *way.first, "".join(way.between).join(texts), *way.last])
        reader = CallReader(dialect, TOOLS, "r")
        said = reader.feed(text) + reader.end(is_whole=True)
        assert said == [ToolCall(call_id("r", number), name, '{"a": 1}') for number, name in enumerate(names)]


def written(way: CallWay, name: str) -> str:
    member = "".join([*(text.replace("KEY", "a") for text in way.member[:-1]), "1", *way.member[-1:]])
    before = [text.replace("NAME", name) for text in way.before]
    return "".join([*before, member if way.member else '{"a": 1}', *way.after])
