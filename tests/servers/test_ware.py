"""What a server says of a tool: bounded, pinned whole, and told to models without what is of no use to them."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mycoswarm.base.errors import InputError
from mycoswarm.servers.definition import Definition, Means, checked, read_means, write_means
from mycoswarm.servers.ware import MAX_DEPTH, MAX_SCHEMA, spec_of, told_schema, ware_of

PLAIN: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "string"}}}
VALUES = st.recursive(
    st.none() | st.integers() | st.text(max_size=9),
    lambda one: st.lists(one) | st.dictionaries(st.text(max_size=9), one),
    max_leaves=9,
)


def deep(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(levels):
        schema = {"items": schema}
    return {"type": "object", "properties": {"a": schema}}


@pytest.mark.parametrize(
    ("name", "description", "schema", "fault"),
    [
        ("get_time", "Tells the time.", PLAIN, ""),
        ("get time", "", PLAIN, "name does not fit"),
        ("", "", PLAIN, "name does not fit"),
        ("x" * 58, "", PLAIN, ""),
        ("x" * 59, "", PLAIN, "name does not fit"),
        ("a", "x" * 5000, PLAIN, "description has more"),
        ("a", "", {**PLAIN, "x": "y" * MAX_SCHEMA}, "schema has more"),
        ("a", "", deep(MAX_DEPTH), "nested more than"),
        ("a", "", deep(5000), "nested too deep"),
        ("a", "", {"type": "array"}, "not that of an object"),
    ],
)
def test_a_tool_that_does_not_fit_says_why(name: str, description: str, schema: dict[str, Any], fault: str) -> None:
    ware = ware_of("time", name, description, schema)
    assert fault in ware.fault and bool(ware.fault) is bool(fault)
    assert len(json.dumps(dict(ware.schema))) <= MAX_SCHEMA + 100 or not fault


def test_the_digest_is_of_all_that_is_said_whatever_its_order() -> None:
    one = ware_of("s", "a", "does it", PLAIN)
    assert one.digest == ware_of("s", "a", "does it", dict(reversed(PLAIN.items()))).digest
    others = [("b", "does it", PLAIN), ("a", "does it.", PLAIN), ("a", "does it", {**PLAIN, "title": "x"})]
    assert len({one.digest, *(ware_of("s", *other).digest for other in others)}) == 4
    assert ware_of("s", "a", "x" * 5000, PLAIN).digest != ware_of("s", "a", "x" * 5001, PLAIN).digest


def test_a_model_is_told_what_counts_and_no_reference_that_leads_out() -> None:
    schema = {
        "title": "Hidden orders",
        "type": "object",
        "properties": {
            "a": {"type": "string", "pattern": "(a+)+$", "title": "x", "description": "one\n\ntwo" + "x" * 500},
            "b": {"$ref": "http://evil.test/schema.json"},
            "c": {"$ref": "#/$defs/C"},
        },
        "required": ["a", "z"],
        "$defs": {"C": {"type": "integer"}},
    }
    told = spec_of("s", ware_of("s", "a", "", schema)).parameters
    assert told["required"] == ["a"] and told["properties"]["b"] == {} and "title" not in told
    assert told["properties"]["c"] == {"$ref": "#/$defs/C"}
    assert set(told["properties"]["a"]) == {"type", "description"} and len(told["properties"]["a"]["description"]) < 210


@given(VALUES.map(lambda value: value if isinstance(value, dict) else {"properties": value}))
def test_any_schema_becomes_that_of_an_object(schema: dict[str, Any]) -> None:
    told = told_schema(schema)
    assert told["type"] == "object" and isinstance(told["properties"], dict) and isinstance(told["required"], list)
    assert ware_of("s", "a", "", schema).digest


def test_what_travels_with_a_call_is_for_that_tool_alone_and_shows_no_secret() -> None:
    definition = Definition(server="s", command=("x",), secrets={"KEY": "sesame-key"})
    means = Means(definition=definition, tool="a", digest="0")
    assert read_means(write_means(means), "s__a") == means and "sesame" not in repr(means)
    for text, tool in ((write_means(means), "s__b"), ("{}", "s__a"), ("[" * 9999, "s__a"), ("\ud800", "s__a")):
        with pytest.raises(InputError) as caught:
            read_means(text, tool)
        assert caught.value.code == "bad_means"
    assert definition.masked("KEY=sesame-key!") == "KEY=[secret]!"
    bearer = Definition(server="s", url="http://a.test", secrets={"Authorization": "Bearer sesame-key"})
    assert bearer.masked("your key is sesame-key") == "your key is [secret]"


@pytest.mark.parametrize(
    "wrong",
    [
        {"server": "Time", "command": ("x",)},
        {"server": "a__b", "command": ("x",)},
        {"server": "-a", "command": ("x",)},
        {"server": "a" * 33, "command": ("x",)},
        {"server": "a"},
        {"server": "a", "command": ("x",), "url": "http://a.test"},
        {"server": "a", "command": ("",)},
        {"server": "a", "command": ("x\0",)},
        {"server": "a", "command": ("x",) * 65},
        {"server": "a", "command": ("x" * 8000,) * 5},
        {"server": "a", "command": ("x",), "secrets": {"A-B": "x"}},
        {"server": "a", "command": ("x",), "secrets": {"A": "x\0"}},
        {"server": "a", "url": "http://user:sesame@a.test/"},
        {"server": "a", "url": "file:///etc/passwd"},
        {"server": "a", "url": "http://a.test", "secrets": {"Host": "sesame"}},
        {"server": "a", "url": "http://a.test", "secrets": {"Content-Length": "sesame"}},
        {"server": "a", "url": "http://a.test", "secrets": {"X-Key": "sesame\r\nX: y"}},
        {"server": "a", "url": "http://a.test", "secrets": {"X Key": "sesame"}},
    ],
)
def test_a_definition_that_cannot_be_is_refused_without_its_secrets(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError) as caught:
        checked(Definition(**wrong))
    assert "sesame" not in caught.value.message + caught.value.hint


def test_a_sound_definition_has_its_url_in_one_form() -> None:
    found = checked(Definition(server="a-1", url="HTTP://A.test:80/mcp/", secrets={"Authorization": "Bearer x"}))
    assert found.url == "http://a.test/mcp"
