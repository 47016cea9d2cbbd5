"""A JSON schema as a grammar in llama.cpp's GBNF: what the grammar lets through is JSON that keeps the schema.

llama_cpp's converter is not used: it lets raw control characters into strings (which is no JSON), drops keywords that
it does not know (minimum, maximum ...), and takes for ever over `minItems: 1000000000`. Here a keyword is either kept
or named in an error. Rules have numbers for names, and each `$ref` is one rule, so schemas may be recursive.

Kept: type (also a list), properties, required, additionalProperties, items, minItems, maxItems, minLength, maxLength,
format (date, time, date-time, uuid), minimum and maximum of integers, minimum 0 of numbers, enum, const, anyOf, oneOf
(as anyOf), allOf of one, $ref within the schema. Without additionalProperties, objects have the named properties only,
in the schema's order. Not covered: names twice in an object with further properties; enum values of another type.
"""

import json
import math
from collections.abc import Mapping
from typing import Any

from mycoswarm.base.errors import InputError, UnsupportedError

MAX_RULES = 5000  # a schema of some hundred properties makes about three rules for each
MAX_GRAMMAR_BYTES = 1 << 18  # llama.cpp takes 6 s for 50,000 choices, and all answers of the ring wait meanwhile
MAX_DEPTH = 64
MAX_REPEATS = 2000  # llama.cpp's MAX_REPETITION_THRESHOLD
_MAX_DIGITS = 15  # integers that a double holds exactly

_REMARKS = {"title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly", "strict"}
_REMARKS |= {"$schema", "$id", "$comment", "$defs", "definitions", "nullable"}
_BY_TYPE = {
    "object": {"properties", "required", "additionalProperties"},
    "array": {"items", "minItems", "maxItems"},
    "string": {"minLength", "maxLength", "format"},
    "integer": {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"},
}
_BY_TYPE |= {"number": _BY_TYPE["integer"], "boolean": set(), "null": set()}
_SHAPES = {"$ref", "enum", "const", "anyOf", "oneOf", "allOf"}
_KNOWN = _REMARKS | _SHAPES | {"type"}.union(*_BY_TYPE.values())
_FIXED = r"""
space ::= | " " | "\n"{1,2} [ \t]{0,20}
char ::= [^"\\\x7F\x00-\x1F] | "\\" (["\\/bfnrt] | "u" [0-9a-fA-F]{4})
string ::= "\"" char* "\"" space
integral ::= "0" | [1-9] [0-9]{0,15}
fraction ::= ("." [0-9]{1,15})? ([eE] [-+]? [0-9]{1,2})? space
integer ::= "-"? integral space
number ::= "-"? integral fraction
boolean ::= ("true" | "false") space
null ::= "null" space
member ::= string ":" space value
object ::= "{" space (member ("," space member)*)? "}" space
array ::= "[" space (value ("," space value)*)? "]" space
value ::= object | array | string | number | boolean | null
date ::= [0-9]{4} "-" ("0" [1-9] | "1" [0-2]) "-" ("0" [1-9] | [12] [0-9] | "3" [01])
clock ::= ([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9] ":" [0-5] [0-9] ("." [0-9]{1,6})?
time ::= clock ("Z" | [-+] ([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9])
uuid ::= [0-9a-f]{8} "-" [0-9a-f]{4} "-" [0-9a-f]{4} "-" [0-9a-f]{4} "-" [0-9a-f]{12}
"""
_QUOTE = r'"\""'
_FORMATS = {"date": "date", "time": "time", "date-time": 'date "T" time', "uuid": "uuid"}


def schema_grammar(schema: Mapping[str, Any]) -> str:
    """The grammar of a schema; of an empty one, that of any JSON object.

    Raises:
        UnsupportedError: a keyword that a grammar cannot keep; the message names it.
        InputError: not a sound schema, or one too large.
    """
    writer = SchemaWriter(schema)
    root = writer.rule(schema, 0) if schema else "object"
    return written(root, writer.rules)


def written(root: str, rules: list[str]) -> str:
    """A grammar of these rules and the fixed ones; `root` is an expression.

    Raises:
        InputError: too large.
    """
    text = "\n".join([f"root ::= {root}", *rules, _FIXED])
    try:
        size = len(text.encode())
    except UnicodeEncodeError as exc:
        raise InputError("this JSON schema holds half a surrogate pair") from exc
    if size > MAX_GRAMMAR_BYTES:
        raise InputError(f"this JSON schema is too large: its grammar has {size} bytes")
    return text


class SchemaWriter:
    """Rules of one schema. Every method gives an expression for one place in the grammar."""

    def __init__(self, root: Mapping[str, Any], prefix: str = "r") -> None:
        self._root, self._prefix = root, prefix
        self._references: dict[str, str] = {}
        self._count = 0
        self.rules: list[str] = []

    def rule(self, schema: object, depth: int) -> str:
        """The name of a rule for this schema.

        Raises:
            UnsupportedError: a keyword that a grammar cannot keep; the message names it.
            InputError: not a sound schema, or one too large.
        """
        if schema is True or schema == {}:
            return "value"
        if not isinstance(schema, Mapping):
            raise _bad(f"{schema!r:.40} stands where a schema should")
        if depth > MAX_DEPTH:
            raise _bad(f"it is nested more than {MAX_DEPTH} deep")
        for key in schema:
            if key not in _KNOWN:
                raise unsupported(key)
        return self._add(self._shape(schema, depth + 1))

    def _add(self, expression: str) -> str:
        name = self._new_name()
        self.rules.append(f"{name} ::= {expression}")
        return name

    def _new_name(self) -> str:
        self._count += 1
        if self._count > MAX_RULES:
            raise _bad(f"its grammar would have more than {MAX_RULES} rules")
        return f"{self._prefix}{self._count}"

    def _shape(self, schema: Mapping[str, Any], depth: int) -> str:
        shapes = _SHAPES & schema.keys()
        if not shapes:
            return self._typed(schema, depth)
        allowed = _REMARKS | {"enum", "const"} & shapes | ({"type"} if shapes <= {"enum", "const"} else set())
        for key in schema.keys() - allowed - {min(shapes)}:
            raise unsupported(f"{key} beside {min(shapes)}")
        if "const" in schema:
            return literal(schema["const"])
        if "enum" in schema:
            return " | ".join(literal(value) for value in _filled_list(schema, "enum"))
        if "$ref" in schema:
            return self._reference(schema["$ref"], depth)
        key = min(shapes)
        choices = _filled_list(schema, key)
        if key == "allOf" and len(choices) > 1:
            raise unsupported("allOf of more than one")
        return " | ".join(self.rule(choice, depth) for choice in choices)

    def _reference(self, pointer: object, depth: int) -> str:
        if not isinstance(pointer, str) or not (pointer == "#" or pointer.startswith("#/")):
            raise _bad(f"$ref {pointer!r:.60} does not point into it")
        if pointer not in self._references:
            target: object = self._root
            for part in pointer.split("/")[1:]:
                part = part.replace("~1", "/").replace("~0", "~")
                if not isinstance(target, Mapping) or part not in target:
                    raise _bad(f"$ref {pointer!r:.60} points nowhere")
                target = target[part]
            name = self._references[pointer] = self._new_name()
            self.rules.append(f"{name} ::= {self.rule(target, depth)}")
        return self._references[pointer]

    def _typed(self, schema: Mapping[str, Any], depth: int) -> str:
        kinds = schema.get("type")
        if kinds is None:
            kinds = [kind for kind in ("object", "array", "string", "number") if _BY_TYPE[kind] & schema.keys()]
            if not kinds:
                return "value"
        kinds = kinds if isinstance(kinds, list) else [kinds]
        if not kinds:
            raise _bad("a list of types is empty")
        return " | ".join(self._one_type(kind, schema, depth) for kind in kinds)

    def _one_type(self, kind: object, schema: Mapping[str, Any], depth: int) -> str:
        if not isinstance(kind, str) or kind not in _BY_TYPE:
            raise _bad(f"there is no type {kind!r:.40}")
        if not _BY_TYPE[kind] & schema.keys():
            return kind
        if kind == "object":
            return self._add(self._object(schema, depth))
        if kind == "array":
            item = self.rule(schema.get("items", True), depth)
            low, high = _counts(schema, "minItems", "maxItems")
            if high == 0:
                return '"[" space "]" space'
            last = "" if high is None else str(high - 1)
            filled = f'{item} ("," space {item}){{{max(low - 1, 0)},{last}}}'
            return f'"[" space {filled if low else f"({filled})?"} "]" space'
        if kind == "string":
            return self.string(schema, _QUOTE, "char") + " space"
        return _integer(schema) if kind == "integer" else _number(schema)

    def string(self, schema: Mapping[str, Any], quote: str, char: str) -> str:
        """A string between two of these quotes, of these characters.

        Raises:
            UnsupportedError: a keyword that a grammar cannot keep; the message names it.
            InputError: not a sound schema.
        """
        if "format" in schema:
            if not isinstance(schema["format"], str) or schema["format"] not in _FORMATS:
                raise unsupported(f"format {schema['format']!r:.40}")
            if schema.keys() & {"minLength", "maxLength"}:
                raise unsupported("a length beside format")
            return f"{quote} {_FORMATS[schema['format']]} {quote}"
        low, high = _counts(schema, "minLength", "maxLength")
        return f"{quote} {char}{{{low},{'' if high is None else high}}} {quote}"

    def _object(self, schema: Mapping[str, Any], depth: int) -> str:
        """Members in the schema's order: of each place two rules, for nothing before it and for something before it."""
        properties, required = schema.get("properties", {}), schema.get("required", [])
        if not isinstance(properties, Mapping) or not isinstance(required, list):
            raise _bad("properties must be an object and required a list")
        if not all(isinstance(name, str) for name in (*properties, *required)):
            raise _bad("properties and required must name properties by texts")
        further = schema.get("additionalProperties", not properties and not required)
        names = [*properties, *(name for name in required if name not in properties)]
        if further is False and len(names) > len(properties):
            raise _bad("required names a property that it does not have")
        first, later = "", ""
        if further is not False:
            member = f'string ":" space {self.rule(further, depth)}'
            first, later = f'({member} ("," space {member})*)?', f'("," space {member})*'
        for name in reversed(names):
            child = properties.get(name, True if further is False else further)
            member = self._add(f'{literal(name)} ":" space {self.rule(child, depth)}')
            rest = self._add(later) if later else ""
            if name in required:
                first, later = f"{member} {rest}", f'"," space {member} {rest}'
            else:
                before = self._add(first) if first else '""'
                first, later = f"{member} {rest} | {before}", f'("," space {member})? {rest}'
        inside = self._add(first) if first else ""
        return f'"{{" space {inside} "}}" space'


def literal(value: object) -> str:
    """A JSON value, as it is written.

    Raises:
        InputError: it is none.
    """
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as exc:
        raise _bad("a value in it is no JSON") from exc
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '" space'


def _filled_list(schema: Mapping[str, Any], key: str) -> list[Any]:
    values = schema[key]
    if not isinstance(values, list) or not values:
        raise _bad(f"{key} must be a list with something in it")
    return values


def _counts(schema: Mapping[str, Any], low_key: str, high_key: str) -> tuple[int, int | None]:
    low, high = schema.get(low_key, 0), schema.get(high_key)
    for key, value in ((low_key, low), (high_key, 0 if high is None else high)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise _bad(f"{key} must be a count")
        if value > MAX_REPEATS:
            raise UnsupportedError(f"{key} in a JSON schema can be {MAX_REPEATS} at most", code="bad_schema")
    if high is not None and high < low:
        raise _bad(f"{high_key} is less than {low_key}")
    return low, high


def _number(schema: Mapping[str, Any]) -> str:
    bounds = _BY_TYPE["number"] & schema.keys()
    if bounds == {"minimum"} and schema["minimum"] == 0:
        return "integral fraction"
    raise unsupported(f"{min(bounds)} of a number (of an integer it is kept)")


def _integer(schema: Mapping[str, Any]) -> str:
    bounds: dict[str, int] = {}
    for key in sorted(_BY_TYPE["integer"] & schema.keys()):
        value = schema[key]
        if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) < 10**_MAX_DIGITS:
            raise _bad(f"{key} must be a number of at most {_MAX_DIGITS} digits")
        bounds[key] = math.ceil(value) if "Minimum" in key or key == "minimum" else math.floor(value)
        if key == "exclusiveMinimum":
            bounds[key] = math.floor(value) + 1
        if key == "exclusiveMaximum":
            bounds[key] = math.ceil(value) - 1
    low = max((value for key, value in bounds.items() if key.lower().endswith("minimum")), default=None)
    high = min((value for key, value in bounds.items() if key.lower().endswith("maximum")), default=None)
    if low is not None and high is not None and low > high:
        raise _bad("no integer lies between its bounds")
    choices = []
    if high is None or high >= 0:
        choices += _natural(max(low or 0, 0), high)
    if low is None or low < 0:
        smallest = 1 if high is None or high >= 0 else -high
        choices += [f'"-" ({choice})' for choice in _natural(smallest, None if low is None else -low)]
    return f"({' | '.join(choices)}) space"


def _natural(low: int, high: int | None) -> list[str]:
    """Expressions for the integers low..high, both in, of up to `_MAX_DIGITS` digits."""
    choices = []
    top = 10 ** len(str(low)) - 1 if high is None else high
    for digits in range(len(str(low)), len(str(top)) + 1):
        first = max(low, 10 ** (digits - 1) if digits > 1 else 0)
        choices += _digits(str(first), str(min(top, 10**digits - 1)))
    if high is None and len(str(low)) < _MAX_DIGITS:
        choices.append(f"[1-9] [0-9]{{{len(str(low))},{_MAX_DIGITS - 1}}}")
    return choices


def _digits(low: str, high: str) -> list[str]:
    """Expressions for the numbers low..high, both in, of the same count of digits."""
    if not low:
        return [""]
    rest = len(low) - 1
    if low[0] == high[0]:
        return [f'"{low[0]}" {tail}'.rstrip() for tail in _digits(low[1:], high[1:])]
    if low[1:] == "0" * rest and high[1:] == "9" * rest:
        return [f"[{low[0]}-{high[0]}]" + (f" [0-9]{{{rest}}}" if rest else "")]
    choices = [f'"{low[0]}" {tail}'.rstrip() for tail in _digits(low[1:], "9" * rest)]
    if int(high[0]) - int(low[0]) > 1:
        choices.append(f"[{int(low[0]) + 1}-{int(high[0]) - 1}] [0-9]{{{rest}}}")
    return choices + [f'"{high[0]}" {tail}'.rstrip() for tail in _digits("0" * rest, high[1:])]


def _bad(what: str) -> InputError:
    return InputError(f"this JSON schema cannot be used: {what}", hint="Correct the schema.", code="bad_schema")


def unsupported(what: str) -> UnsupportedError:
    """The error for a part of a schema that a grammar cannot keep."""
    return UnsupportedError(f"a JSON schema with {what} is not supported", hint="Leave that part of the schema out.")
