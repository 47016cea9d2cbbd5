"""JSON schemas as grammars: llama.cpp itself is asked which texts a grammar lets through."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mycoswarm.catalog
from mycoswarm.base.errors import InputError, UnsupportedError
from mycoswarm.stage.llama import Model
from mycoswarm.stage.sampler import Sampler
from mycoswarm.stage.schema import MAX_DEPTH, schema_grammar
from mycoswarm.stage.vocabulary import Vocabulary
from mycoswarm.wire.request import Sampling

SPORE = Path(mycoswarm.catalog.__file__).with_name("spore.gguf")


@pytest.fixture(scope="module")
def spore() -> Iterator[Vocabulary]:
    model = Model.load([SPORE], gpu=False)
    yield Vocabulary(model)
    model.close()


def allows(spore: Vocabulary, schema: dict[str, Any], text: str) -> bool:
    """Whether the schema's grammar lets exactly this text through, byte by byte, and an end after it."""
    sampler = Sampler(spore, Sampling(json_schema=schema))
    assert spore.eos_id is not None
    try:
        for token in [*spore.tokenize(text, special=False), spore.eos_id]:
            sampler.accept(token)
    except InputError as exc:
        assert exc.code == "grammar_mismatch"
        return False
    finally:
        sampler.close()
    return True


PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 3}, "age": {"type": "integer"}, "tags": {"type": "array"}},
    "required": ["age"],
}
OPEN = {"type": "object", "properties": {"a": {"type": "null"}}, "additionalProperties": {"type": "boolean"}}
TREE = {
    "$ref": "#/$defs/node",
    "$defs": {
        "node": {
            "type": "object",
            "properties": {"next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}},
            "required": ["next"],
        }
    },
}
TEXTS: list[tuple[dict[str, Any], tuple[str, ...], tuple[str, ...]]] = [
    ({}, ("{}", '{"a": [1, true]}', '{"a":{"b":null}}'), ("1", "[]", '{"a"}', "{,}", '{"a":01}')),
    (PERSON, ('{"age":5}', '{"name":"abc", "age":5}', '{"name":"","age":-3,"tags":[1,"x"]}'), ("{}", '{"name":"a"}')),
    (PERSON, (), ('{"name":"abcd","age":5}', '{"age":5,"name":"a"}', '{"age":5,"more":1}', '{"age":5,}', '{,"age":5}')),
    (
        OPEN,
        ("{}", '{"a":null}', '{"b":true,"c":false}', '{"a":null,"b":true}'),
        ('{"b":1}', '{"a":null,}', '{,"b":true}'),
    ),
    (TREE, ('{"next":null}', '{"next":{"next":{"next":null}}}'), ('{"next":1}', "{}", "null")),
    ({"type": "object", "properties": {}, "additionalProperties": False}, ("{}",), ('{"a":1}',)),
    ({"type": "object", "required": ["x"], "additionalProperties": True}, ('{"x":1}', '{"x":[],"y":2}'), ("{}",)),
    ({"enum": ["a", 1, None, {"k": 'ü\n"'}]}, ('"a"', "1", "null", '{"k": "ü\\n\\""}'), ('"b"', "a", "2")),
    ({"const": 'back\\slash "quote"'}, ('"back\\\\slash \\"quote\\""',), ('"back"',)),
    ({"type": ["string", "null"], "maxLength": 1}, ('"a"', '""', "null"), ('"ab"', "1")),
    ({"type": "string", "minLength": 2}, ('"ab"', '"\\u00e9b"', '"éüß"'), ('"a"', '"a\nb"', '"a\tb"', '"\\x"')),
    (
        {"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 2},
        ("[1]", "[1, 2]"),
        ("[]", "[1,2,3]"),
    ),
    ({"type": "array", "items": {"type": "integer"}, "maxItems": 2}, ("[]", "[1]", "[1,2]"), ("[1,2,3]", '["a"]')),
    ({"type": "array", "maxItems": 0}, ("[]",), ("[1]",)),
    ({"type": "array", "minItems": 2}, ("[1,2]", "[1,2,3,4]"), ("[1]", "[]")),
    ({"type": "number"}, ("0", "-1.5", "1e9", "12.25E-3"), ("01", ".5", "1.", "+1", "1e999")),
    ({"type": "number", "minimum": 0}, ("0", "1.5"), ("-1",)),
    ({"type": "integer"}, ("0", "-7", "123456"), ("1.0", "1e3", "00")),
    ({"type": "boolean"}, ("true", "false"), ("True", "1")),
    ({"type": "string", "format": "date"}, ('"2026-11-23"',), ('"2026-13-01"', '"26-1-1"')),
    ({"type": "string", "format": "date-time"}, ('"2026-11-23T01:02:03Z"',), ('"2026-11-23 01:02:03"',)),
    ({"type": "string", "format": "uuid"}, ('"12345678-1234-1234-1234-123456789abc"',), ('"1234"',)),
    ({"anyOf": [{"type": "integer"}, {"type": "boolean"}]}, ("5", "true"), ('"5"',)),
    ({"allOf": [{"type": "integer"}]}, ("5",), ("true",)),
    ({"properties": {"a": {}}}, ("{}", '{"a":[{}]}'), ('{"b":1}',)),
    (
        {"type": "object", "properties": {"a/b": {"type": "null"}, "c": {"$ref": "#/properties/a~1b"}}},
        ('{"c":null}',),
        (),
    ),
]


@pytest.mark.parametrize(("schema", "good", "bad"), TEXTS)
def test_a_grammar_lets_through_what_keeps_the_schema(
    spore: Vocabulary, schema: dict[str, Any], good: tuple[str, ...], bad: tuple[str, ...]
) -> None:
    for text in good:
        assert json.loads(text) is not NotImplemented
        assert allows(spore, schema, text), text
    for text in bad:
        assert not allows(spore, schema, text), text


@pytest.mark.slow
@given(low=st.none() | st.integers(-3000, 3000), span=st.none() | st.integers(0, 4000), value=st.integers(-9000, 9000))
@settings(deadline=None, max_examples=50)
def test_bounds_of_integers_are_kept(spore: Vocabulary, low: int | None, span: int | None, value: int) -> None:
    schema: dict[str, Any] = {"type": "integer"}
    high = None if span is None else (low or 0) + span
    schema |= {} if low is None else {"minimum": low}
    schema |= {} if high is None else {"maximum": high}
    for candidate in {value, low or 0, (low or 0) - 1, high or 0, (high or 0) + 1}:
        expected = (low is None or candidate >= low) and (high is None or candidate <= high)
        assert allows(spore, schema, str(candidate)) == expected, (schema, candidate)


def test_open_bounds_leave_their_own_number_out(spore: Vocabulary) -> None:
    schema = {"type": "integer", "exclusiveMinimum": 2, "exclusiveMaximum": 5.5}
    assert [n for n in range(10) if allows(spore, schema, str(n))] == [3, 4, 5]


@pytest.mark.parametrize(
    ("schema", "word"),
    [
        ({"type": "string", "pattern": "^a$"}, "pattern"),
        ({"type": "number", "maximum": 5}, "maximum"),
        ({"type": "number", "multipleOf": 5}, "multipleOf"),
        ({"type": "array", "uniqueItems": True}, "uniqueItems"),
        ({"type": "object", "minProperties": 1}, "minProperties"),
        ({"not": {}}, "not"),
        ({"type": "string", "format": "email"}, "email"),
        ({"anyOf": [{"type": "object"}], "required": ["a"]}, "required beside anyOf"),
        ({"allOf": [{"type": "object"}, {"type": "object"}]}, "allOf"),
    ],
)
def test_what_a_grammar_cannot_keep_is_named(schema: dict[str, Any], word: str) -> None:
    with pytest.raises(UnsupportedError, match=word):
        schema_grammar(schema)


def deep(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        schema = {"type": "array", "items": schema}
    return schema


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "no such type"},
        {"type": []},
        {"type": 5},
        {"$ref": "#/nowhere"},
        {"$ref": "https://example.invalid/schema.json"},
        {"$ref": "#"},
        {"anyOf": [{"$ref": "#"}]},
        {"anyOf": []},
        {"enum": 5},
        {"enum": []},
        {"properties": 5},
        {"properties": {"a": 5}},
        {"type": "object", "properties": {"a": {}}, "required": ["b"], "additionalProperties": False},
        {"type": "array", "items": 5},
        {"type": "array", "items": [{"type": "string"}]},
        {"type": "array", "minItems": 10**9},
        {"type": "array", "minItems": 2, "maxItems": 1},
        {"type": "string", "maxLength": -1},
        {"type": "string", "maxLength": "5"},
        {"type": "string", "minLength": True},
        {"type": "integer", "minimum": 5, "maximum": 4},
        {"type": "integer", "minimum": 10**30},
        {"type": "integer", "minimum": "0"},
        {"const": float("nan")},
        {"const": "\ud800"},
        {"required": [[]]},
        {"required": [{}], "properties": {"a": True}},
        {"type": "string", "format": ["date"]},
        {"enum": ["x" * 200] * 6000},
        {"properties": {str(n): {} for n in range(3000)}},
        deep(MAX_DEPTH + 1),
        deep(5000),
    ],
)
def test_a_bad_schema_is_an_input_error(spore: Vocabulary, schema: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"JSON schema"):
        Sampler(spore, Sampling(json_schema=schema))


def test_a_deep_schema_within_the_limit_is_taken(spore: Vocabulary) -> None:
    levels = MAX_DEPTH - 2
    assert allows(spore, deep(levels), "[" * levels + '"a"' + "]" * levels)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
)
keywords = ["type", "properties", "items", "enum", "anyOf", "$ref", "required", "minItems", "maximum", "const", "title"]
keywords += ["additionalProperties", "oneOf", "allOf", "maxItems", "minLength", "maxLength", "format", "$defs"]
keywords += ["minimum", "exclusiveMinimum", "exclusiveMaximum", "strict"]
wild_schemas = st.dictionaries(
    st.sampled_from(keywords), json_values | st.sampled_from(["object", "integer", "#"]), max_size=4
)


@pytest.mark.slow
@given(schema=wild_schemas)
@settings(deadline=None, max_examples=80)
def test_any_schema_gives_a_sampler_or_a_typed_error(spore: Vocabulary, schema: dict[str, Any]) -> None:
    try:
        Sampler(spore, Sampling(json_schema=schema)).close()
    except InputError as exc:
        assert "JSON schema" in exc.message
