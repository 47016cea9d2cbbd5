"""A value held against a JSON schema that a stranger may have written: what is kept is bounded, and the work is, too.

Kept: type (also a list), enum, const, properties, required, additionalProperties, items, minItems, maxItems, minimum,
maximum and their exclusive kin, minLength, maxLength, anyOf, oneOf (as anyOf), allOf, and $ref into $defs. All else is
passed over: `pattern` above all, for a pattern can take for ever. An object with named properties takes no others,
unless its schema says that it does. References that lead in circles, and choices within choices, end in a fault.
"""

from typing import Any

MAX_STEPS = 20_000  # schemas looked at for one call; a large and honest one needs a few hundred
MAX_DEPTH = 48
MAX_SHOWN = 80
_CHOICES = ("anyOf", "oneOf")
_KINDS = {
    "string": "a text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "object": "an object",
    "array": "a list",
    "null": "null",
}

Schema = dict[str, Any]


class Shape:
    """Schemas under one root, for one call. `fault` says in what a value does not fit; None where it does."""

    def __init__(self, root: Schema) -> None:
        self._root, self._left = root, MAX_STEPS

    def fault(self, schema: Any, value: Any, depth: int = 0, *, is_open: bool = False) -> str | None:
        """`is_open`: an object may have more than the properties that are named here; others name them."""
        self._left -= 1
        if depth > MAX_DEPTH or self._left < 0:
            return "cannot be held against a schema as entangled as this"
        if schema is False:
            return "must not be there"
        if not isinstance(schema, dict):
            return _text_fault(value) if isinstance(value, str) else None
        if isinstance(schema.get("$ref"), str):
            return self.fault(self._referred(schema["$ref"]), value, depth + 1, is_open=is_open)
        if (fault := _kind_fault(schema, value) or _choice_fault(schema, value)) is not None:
            return fault
        for key in _CHOICES:
            options = schema.get(key)
            if isinstance(options, list) and options:
                faults = [self.fault(one, value, depth + 1, is_open=is_open) for one in options]
                if None not in faults:
                    return faults[0] if len(faults) == 1 else "fits none of the forms that it may have"
        parts = schema.get("allOf")
        for one in parts if isinstance(parts, list) else ():
            if (fault := self.fault(one, value, depth + 1, is_open=True)) is not None:
                return fault
        return self._inner_fault(schema, value, depth, is_open)

    def _inner_fault(self, schema: Schema, value: Any, depth: int, is_open: bool) -> str | None:
        if isinstance(value, str):
            return _text_fault(value) or _length_fault(schema, value)
        if isinstance(value, dict):
            return self._object_fault(schema, value, depth, is_open)
        if isinstance(value, list):
            return self._list_fault(schema, value, depth)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return _size_fault(schema, value)
        return None

    def _object_fault(self, schema: Schema, value: dict[str, Any], depth: int, is_open: bool) -> str | None:
        properties = schema.get("properties")
        named: Schema = properties if isinstance(properties, dict) else {}
        is_whole = bool(named) and not is_open and is_plain(schema)
        more = schema.get("additionalProperties", not is_whole)
        needed = schema.get("required")
        for name in needed if isinstance(needed, list) else ():
            if isinstance(name, str) and name not in value:  # what is no name is passed over
                return f"lacks {name[:MAX_SHOWN]!r}"
        for name, one in value.items():
            if _text_fault(name) is not None:
                return "has a name that holds a character that no file can hold"
            if name not in named and more is False:
                return f"has {name[:MAX_SHOWN]!r}, which it cannot have"
            if (fault := self.fault(named.get(name, more), one, depth + 1)) is not None:
                return f"has {name[:MAX_SHOWN]!r}, which {fault}"
        return None

    def _list_fault(self, schema: Schema, value: list[Any], depth: int) -> str | None:
        least, most = _bound(schema, "minItems"), _bound(schema, "maxItems")
        if (least is not None and len(value) < least) or (most is not None and len(value) > most):
            return f"must have {_range(least, most)} items"
        for number, one in enumerate(value, 1):
            if (fault := self.fault(schema.get("items", True), one, depth + 1)) is not None:
                return f"has item {number}, which {fault}"
        return None

    def _referred(self, where: str) -> Any:
        """The schema that a reference means; anything where it is none of ours."""
        place, _, name = where.removeprefix("#/").partition("/")
        table = self._root.get(place) if place in ("$defs", "definitions") and where.startswith("#/") else None
        return table.get(name, True) if isinstance(table, dict) else True


def is_plain(schema: Schema) -> bool:
    """Whether no other part of a schema can name more than its own properties."""
    return not any(key in schema for key in ("allOf", "$ref", *_CHOICES))


def _kind_fault(schema: Schema, value: Any) -> str | None:
    kinds = schema.get("type")
    wanted = [kind for kind in (kinds if isinstance(kinds, list) else [kinds]) if isinstance(kind, str)]
    if not wanted or any(_is_kind(kind, value) for kind in wanted):
        return None
    return "must be " + " or ".join(_KINDS.get(kind, kind[:MAX_SHOWN]) for kind in wanted)


def _is_kind(kind: str, value: Any) -> bool:
    match kind:
        case "string":
            return isinstance(value, str)
        case "integer":
            return isinstance(value, int) and not isinstance(value, bool)
        case "number":
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            return is_number and abs(value) < float("inf")
        case "boolean":
            return isinstance(value, bool)
        case "object":
            return isinstance(value, dict)
        case "array":
            return isinstance(value, list)
        case "null":
            return value is None
    return True  # a type that there is not forbids nothing


def _choice_fault(schema: Schema, value: Any) -> str | None:
    options = schema.get("enum")
    if "const" in schema and not _is_same(schema["const"], value):
        return "must be the one value that its schema names"
    if isinstance(options, list) and not any(_is_same(one, value) for one in options):
        shown = ", ".join(str(one)[:MAX_SHOWN] for one in options[:16])
        return f"must be one of: {shown}"
    return None


def _is_same(one: Any, other: Any) -> bool:
    return isinstance(one, bool) is isinstance(other, bool) and bool(one == other)


def _size_fault(schema: Schema, value: int | float) -> str | None:
    least, most = _bound(schema, "minimum"), _bound(schema, "maximum")
    if (least is not None and value < least) or (most is not None and value > most):
        return f"must be {_range(least, most, 'from ')}"
    above, below = _bound(schema, "exclusiveMinimum"), _bound(schema, "exclusiveMaximum")
    if above is not None and value <= above:
        return f"must be above {above}"
    return f"must be below {below}" if below is not None and value >= below else None


def _length_fault(schema: Schema, value: str) -> str | None:
    least, most = _bound(schema, "minLength"), _bound(schema, "maxLength")
    if (least is not None and len(value) < least) or (most is not None and len(value) > most):
        return f"must have {_range(least, most)} characters"
    return None


def _bound(schema: Schema, key: str) -> int | float | None:
    value = schema.get(key)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _range(least: int | float | None, most: int | float | None, first: str = "") -> str:
    if least is None or most is None:
        return f"at least {least}" if most is None else f"at most {most}"
    return f"{first}{least} to {most}"


def _text_fault(value: str) -> str | None:
    if "\0" in value or (not value.isascii() and _is_broken(value)):
        return "holds a character that no file can hold"
    return None


def _is_broken(text: str) -> bool:
    """Whether there are halves of surrogate pairs in it, which JSON can say and UTF-8 cannot."""
    return any(0xD800 <= ord(character) < 0xE000 for character in text)
