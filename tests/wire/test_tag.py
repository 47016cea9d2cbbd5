"""Tool calls in tags: every form, whole and cut at every place, and arguments that become what the schema says."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mycoswarm.wire.dialect import dialect_of
from mycoswarm.wire.tag import arguments_of
from mycoswarm.wire.tool import ToolCall
from mycoswarm.wire.toolcall import CallReader

TEMPLATES = {
    "functions": "tools <tool_call>\n<function=' + x + '>\n<parameter=' + k + '>\n</tool_call>",
    "keys": "tools <tool_call><arg_key>{{ k }}</arg_key><arg_value>{{ v }}</arg_value></tool_call>",
}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "text": {"type": "string"},
        "count": {"type": "integer"},
        "share": {"type": "number"},
        "is_on": {"type": "boolean"},
        "list": {"type": "array"},
        "more": {"$ref": "#/$defs/more"},
        "name": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "level": {"enum": [1, 2, "high"]},
        "free": {},
    },
    "$defs": {"more": {"type": "object"}},
}
TOOLS = {"clock": {}, "note": SCHEMA}
FUNCTION = """<tool_call>
<function=note>
<parameter=text>
Two lines,
and a <b>tag</b>.

</parameter>
<parameter=count>
5
</parameter>
</function>
</tool_call>"""
NOTE = ("note", {"text": "Two lines,\nand a <b>tag</b>.\n", "count": 5})
COMPACT = "<tool_call><function=note><parameter=text>a\n</parameter></function></tool_call>"
KEYS = """<tool_call>note
<arg_key>text</arg_key>
<arg_value>Two lines,
and a <b>tag</b>.
</arg_value>
<arg_key>count</arg_key>
<arg_value>5</arg_value>
</tool_call>"""
CLOCK = ("clock", {})
# The dialect, what the model writes, and what is in it.
CASES: list[tuple[str, str, list[Any]]] = [
    ("functions", FUNCTION, [NOTE]),
    ("functions", f"I look.\n{FUNCTION}\n{FUNCTION}", ["I look.\n", NOTE, NOTE]),
    ("functions", COMPACT, [("note", {"text": "a\n"})]),
    ("functions", "<tool_call>\n<function=clock>\n</function>\n</tool_call> So.", [CLOCK, " So."]),
    ("functions", "<function=clock>\n</function>\n</tool_call>\n", [CLOCK]),
    ("functions", "<function=clock></function> So.", [CLOCK, " So."]),
    (
        "functions",
        "<function=note><parameter=text>a</parameter> b</parameter></function>",
        [("note", {"text": "a</parameter> b"})],
    ),
    ("keys", KEYS, [NOTE]),
    ("keys", f"I look.\n{KEYS}{KEYS}", ["I look.\n", NOTE, NOTE]),
    ("keys", "<tool_call>clock</tool_call> So.", [CLOCK, " So."]),
    (
        "keys",
        "<tool_call>note<arg_key>text</arg_key><arg_value>\n</arg_value><arg_key>is_on</arg_key><arg_value>true"
        "</arg_value></tool_call>",
        [("note", {"text": "\n", "is_on": True})],
    ),
    ("keys", "<tool_call>clock <tool_call>clock</tool_call>", ["<tool_call>clock <tool_call>clock</tool_call>"]),
]
# What only looks like a call, and comes out as it was written.
TEXTS = [
    ("functions", "Write <tool_call>, or <function or <function=."),
    ("functions", "<tool_call>\n<function=shell>\n</function>\n</tool_call>"),
    ("functions", '<tool_call>{"name": "clock"}</tool_call>'),
    ("functions", "<tool_call>\n<function=clock>\n</tool_call>"),
    ("functions", "<tool_call><function=note><parameter=text>a</function></tool_call>"),
    ("functions", "<tool_call>\n<function=note>\n<parameter=text>\nabc"),
    ("functions", "<tool_call>\n<function=clock>\n</function>\n"),
    ("functions", "<function=note><parameter=" + "x" * 1000),
    ("keys", "<tool_call>"),
    ("keys", "<tool_call>shell</tool_call>"),
    ("keys", "<tool_call>note<arg_key>text</arg_key></tool_call>"),
    ("keys", "<tool_call>note<arg_key>text</arg_key><arg_value>a</tool_call>"),
    ("keys", "<tool_call>note<arg_key>text</arg_key><arg_value>a</arg_value>"),
    ("keys", "<tool_call>" + "n" * 1000),
]


def read(name: str, *parts: str, is_whole: bool = True) -> list[Any]:
    """Calls as (name, arguments), neighbouring texts joined."""
    reader = CallReader(dialect_of(TEMPLATES[name], "m"), TOOLS, "r1")
    said = [one for part in parts for one in reader.feed(part)] + reader.end(is_whole=is_whole)
    joined: list[Any] = []
    for event in said:
        if isinstance(event, ToolCall):
            joined.append((event.name, json.loads(event.arguments)))
        elif joined and isinstance(joined[-1], str):
            joined[-1] += event
        elif event:
            joined.append(event)
    return joined


@pytest.mark.parametrize(("name", "text", "expected"), CASES + [(name, text, [text]) for name, text in TEXTS])
def test_calls_and_texts_are_told_apart_whole_and_cut_at_every_place(name: str, text: str, expected: list[Any]) -> None:
    assert read(name, text) == expected
    assert read(name, *text) == expected
    for at in range(1, len(text)):
        assert read(name, text[:at], text[at:]) == expected


TAGS = "<tool_call> </tool_call> <function= note clock > </function> <parameter=text> text </parameter> <arg_key>"
words = st.sampled_from([*TAGS.split(), "</arg_key>", "<arg_value>", "</arg_value>", "\n", " ", "5", "</"])


@settings(deadline=None)
@given(st.sampled_from(sorted(TEMPLATES)), st.lists(words | st.text(max_size=2), max_size=24), st.data(), st.booleans())
def test_cuts_change_nothing_whatever_is_written(
    name: str, some: list[str], data: st.DataObject, is_whole: bool
) -> None:
    text = "".join(some)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    parts = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    whole = read(name, text, is_whole=is_whole)
    assert read(name, *parts, is_whole=is_whole) == whole
    if not any(isinstance(said, tuple) for said in whole):
        assert "".join(map(str, whole)) == text  # nothing is lost


texts = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("<>/\n"), max_size=30)
values = st.fixed_dictionaries(
    {},
    optional={
        "text": texts,
        "count": st.integers(-(2**53), 2**53),
        "share": st.floats(allow_nan=False, allow_infinity=False),
        "is_on": st.booleans(),
        "list": st.lists(st.integers() | texts, max_size=3).map(lambda one: [str(each) for each in one]),
        "more": st.dictionaries(texts, st.none() | st.booleans(), max_size=3),
        "name": st.none() | texts.filter(lambda text: text.strip() not in ("null", "None")),
        "level": st.sampled_from([1, 2, "high"]),
    },
)


@given(values)
def test_what_the_templates_write_is_read_as_the_same_values(given: dict[str, Any]) -> None:
    said = {key: value if isinstance(value, str) else json.dumps(value) for key, value in given.items()}
    pairs = "".join(f"<parameter={key}>\n{text}\n</parameter>\n" for key, text in said.items())
    assert read("functions", f"<tool_call>\n<function=note>\n{pairs}</function>\n</tool_call>") == [("note", given)]
    pairs = "".join(f"<arg_key>{key}</arg_key>\n<arg_value>{text}</arg_value>\n" for key, text in said.items())
    assert read("keys", f"<tool_call>note\n{pairs}</tool_call>") == [("note", given)]


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("text", "5", "5"),
        ("text", " true ", " true "),
        ("count", " 5 ", 5),
        ("count", "5.0", 5.0),
        ("count", "5.5", "5.5"),
        ("count", "five", "five"),
        ("share", "5", 5),
        ("is_on", "True", True),
        ("is_on", "yes", "yes"),
        ("list", '["a"]', ["a"]),
        ("list", "['a']", "['a']"),
        ("more", "[1]", "[1]"),
        ("name", "null", None),
        ("name", "None", None),
        ("name", "5", "5"),
        ("level", "2", 2),
        ("level", "high", "high"),
        ("free", "5", 5),
        ("free", "NaN", "NaN"),
        ("unknown", '{"a": 1}', {"a": 1}),
        ("unknown", "a", "a"),
    ],
)
def test_the_schema_says_what_an_argument_is(key: str, text: str, value: object) -> None:
    assert json.loads(arguments_of([(key, text)], SCHEMA)) == {key: value}


def test_schemas_that_lead_nowhere_say_nothing() -> None:
    wrong = ({"$ref": "#"}, {"$ref": "#/a/b"}, {"anyOf": 5}, {"type": 5}, {"enum": 5}, True, None)
    for schema in wrong:
        assert json.loads(arguments_of([("a", "5"), ("a", "6")], {"properties": {"a": schema}})) == {"a": 6}
    assert arguments_of([], {"properties": 5}) == "{}"


def test_a_value_without_end_is_bounded_and_read_once() -> None:
    text = "<tool_call><function=note><parameter=text>" + "</parameter> " * 60_000
    assert read("functions", *(text[at : at + 1000] for at in range(0, len(text), 1000))) == [text]
