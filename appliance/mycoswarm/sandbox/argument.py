"""Arguments of a call: read once, strictly. What no schema names is refused, and nothing is guessed or converted."""

import json
from typing import Any

from mycoswarm.base.errors import InputError
from mycoswarm.wire.chore import MAX_ARGUMENTS
from mycoswarm.wire.tool import ToolSpec

MAX_SHOWN = 80

Arguments = dict[str, Any]


def read_arguments(spec: ToolSpec, text: str) -> Arguments:
    """A call's arguments against the tool's schema: an object of texts and whole numbers within their bounds.

    Raises:
        InputError: they do not fit; says in what, so that a model can try again.
    """
    if len(text) > MAX_ARGUMENTS:
        raise _wrong(spec, f"the arguments are longer than {MAX_ARGUMENTS} characters")
    try:
        given = json.loads(text.strip() or "{}", object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError) as exc:
        raise _wrong(spec, f"the arguments are no JSON: {str(exc)[:MAX_SHOWN]}") from exc
    if not isinstance(given, dict):
        raise _wrong(spec, "the arguments must be a JSON object")
    properties: dict[str, Any] = spec.parameters["properties"]
    for name in spec.parameters["required"]:
        if name not in given:
            raise _wrong(spec, f"{name!r} is missing")
    for name, value in given.items():
        if name not in properties:
            known = ", ".join(properties) or "none"
            raise _wrong(spec, f"there is no argument {name[:MAX_SHOWN]!r}; there are: {known}")
        if (fault := _fault(properties[name], value)) is not None:
            raise _wrong(spec, f"{name!r} {fault}")
    return given


def _fault(shape: dict[str, Any], value: Any) -> str | None:
    if shape["type"] == "integer":
        if isinstance(value, bool) or not isinstance(value, int):
            return "must be a whole number"
        within = shape["minimum"] <= value <= shape["maximum"]
        return None if within else f"must be from {shape['minimum']} to {shape['maximum']}"
    if not isinstance(value, str):
        return "must be a text"
    if "\0" in value or (not value.isascii() and _is_broken(value)):
        return "holds a character that no file can hold"
    within = shape["minLength"] <= len(value) <= shape["maxLength"]
    return None if within else f"must have {shape['minLength']} to {shape['maxLength']} characters"


def _is_broken(text: str) -> bool:
    """Whether there are halves of surrogate pairs in it, which JSON can say and UTF-8 cannot."""
    return any(0xD800 <= ord(character) < 0xE000 for character in text)


def _once(pairs: list[tuple[str, Any]]) -> Arguments:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise json.JSONDecodeError("an argument stands twice", "", 0)
    return found


def _no_constant(text: str) -> Any:
    raise json.JSONDecodeError(f"{text} is no JSON", "", 0)


def _wrong(spec: ToolSpec, why: str) -> InputError:
    return InputError(f"{spec.name}: {why}", hint="Correct the arguments and call again.", code="bad_arguments")
