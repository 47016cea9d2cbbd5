"""Values against schemas of strangers: what is kept, and that no schema takes long or breaks anything."""

import json
import time
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mycoswarm.base.errors import InputError
from mycoswarm.sandbox.argument import read_arguments
from mycoswarm.sandbox.shape import Shape
from mycoswarm.servers.ware import told_schema
from mycoswarm.wire.tool import ToolSpec

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=12,
)
KEYWORDS = (
    "type",
    "enum",
    "const",
    "properties",
    "required",
    "additionalProperties",
    "items",
    "anyOf",
    "allOf",
    "$ref",
)
KEYWORDS += ("$defs", "minimum", "maxLength", "minItems", "description")


def fault(schema: dict[str, Any], value: Any) -> str | None:
    return Shape(schema).fault(schema, value)


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"type": "string", "minLength": 1}, "a", ""),
        ({"type": ["string", "null"]}, None, 1),
        ({"type": "number"}, 1.5, True),
        ({"type": "integer", "exclusiveMinimum": 0}, 1, 0),
        ({"type": "number", "maximum": 2}, 2, 2.5),
        ({"type": "boolean"}, False, 0),
        ({"enum": ["a", 1]}, 1, True),
        ({"const": "a"}, "a", "b"),
        ({"type": "array", "items": {"type": "integer"}, "maxItems": 2}, [1, 2], [1, "2"]),
        ({"type": "array", "maxItems": 2}, [1, 2], [1, 2, 3]),
        ({"properties": {"a": {"type": "integer"}}, "required": ["a"]}, {"a": 1}, {}),
        ({"properties": {"a": {"type": "integer"}}}, {}, {"b": 1}),
        ({"properties": {"a": {}}, "additionalProperties": {"type": "string"}}, {"b": "x"}, {"b": 1}),
        ({"type": "object", "additionalProperties": False}, {}, {"b": 1}),
        ({"type": "object"}, {"any": 1}, []),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, None, 1),
        (
            {"allOf": [{"properties": {"a": {}}, "required": ["a"]}, {"properties": {"b": {}}}]},
            {"a": 1, "b": 2},
            {"b": 2},
        ),
        ({"$ref": "#/$defs/x", "$defs": {"x": {"type": "string"}}}, "a", 1),
        ({"type": "string"}, "a", "a\0b"),
        ({"type": "string"}, "a", "\ud800"),
    ],
)
def test_what_a_schema_says_is_kept(schema: dict[str, Any], good: Any, bad: Any) -> None:
    assert fault(schema, good) is None and fault(schema, bad) is not None


def test_a_tree_of_itself_is_looked_at_as_deep_as_it_is() -> None:
    tree = {"properties": {"name": {"type": "string"}, "under": {"type": "array", "items": {"$ref": "#/$defs/tree"}}}}
    schema = {"$ref": "#/$defs/tree", "$defs": {"tree": {"type": "object", **tree}}}
    assert fault(schema, {"name": "a", "under": [{"name": "b"}]}) is None
    assert "under" in (fault(schema, {"name": "a", "under": [{"name": 5}]}) or "")


def bombs() -> dict[str, dict[str, Any]]:
    doubled = {f"a{n}": {"anyOf": [{"$ref": f"#/$defs/a{n + 1}"}] * 2} for n in range(40)}
    broad: dict[str, Any] = {"enum": ["no"]}
    for _ in range(3):  # more does not fit into what may be said of a tool
        broad = {"anyOf": [broad] * 8}
    return {
        "a circle": {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}},
        "choices that double": {"$ref": "#/$defs/a0", "$defs": {**doubled, "a40": {"type": "null"}}},
        "choices within choices": broad,
        "a pattern for ever": {"type": "string", "pattern": "^(a+)+$"},
        "bounds of no sense": {"type": "string", "maxLength": "many", "minLength": {}, "enum": None},
        "parts of no sense": {"properties": 5, "required": {"a": 1}, "anyOf": "all", "items": 5, "type": [[]]},
    }


@pytest.mark.parametrize("bomb", bombs())
def test_no_schema_takes_long(bomb: str) -> None:
    schema, value = bombs()[bomb], "a" * 40 + "!"
    for one in (schema, {"type": "object", "properties": {"x": schema}, "$defs": schema.get("$defs", {})}):
        spec = ToolSpec("tool", "", told_schema(one))
        began = time.monotonic()
        for given_text in (json.dumps({"x": value}), json.dumps({"x": [value] * 1000}), "{}"):
            try:
                read_arguments(spec, given_text)
            except InputError as error:
                assert error.code == "bad_arguments"
        assert time.monotonic() - began < 1.0


@example({"required": [[], {}, 1, None]}, {})
@given(st.dictionaries(st.sampled_from(KEYWORDS), JSON), JSON)
def test_any_schema_and_any_value_give_a_fault_or_none(schema: dict[str, Any], value: Any) -> None:
    for one in (schema, told_schema(schema)):
        found = fault(one, value)
        assert found is None or isinstance(found, str)


def test_what_no_schema_names_is_refused_unless_it_takes_more() -> None:
    named = {"type": "object", "properties": {"a": {"type": "integer"}}}
    spec = ToolSpec("tool", "", told_schema(named))
    with pytest.raises(InputError, match="no argument 'b'"):
        read_arguments(spec, '{"b": 1}')
    more = ToolSpec("tool", "", told_schema({**named, "additionalProperties": True}))
    assert read_arguments(more, '{"a": 1, "b": 2}') == {"a": 1, "b": 2}
    either = {**named, "anyOf": [{"required": ["a"]}, {"required": ["b"]}]}
    with pytest.raises(InputError, match="the object fits none"):
        read_arguments(ToolSpec("tool", "", told_schema(either)), "{}")
