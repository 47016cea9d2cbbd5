"""Arguments of a call: read once, strictly. What no schema names is refused, and nothing is guessed or converted."""

import json
from typing import Any

from mycoswarm.base.errors import InputError
from mycoswarm.sandbox.shape import Shape, is_plain
from mycoswarm.wire.chore import MAX_ARGUMENTS
from mycoswarm.wire.tool import ToolSpec

MAX_SHOWN = 80

Arguments = dict[str, Any]


def read_arguments(spec: ToolSpec, text: str) -> Arguments:
    """A call's arguments against the tool's schema: an object, of what the schema names.

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
    parameters, shape = spec.parameters, Shape(spec.parameters)
    properties: dict[str, Any] = parameters["properties"]
    for name in parameters["required"]:
        if name not in given:
            raise _wrong(spec, f"{name!r} is missing")
    is_whole = parameters.get("additionalProperties", not is_plain(parameters)) is False
    for name, value in given.items():
        if name not in properties and is_whole:
            known = ", ".join(properties) or "none"
            raise _wrong(spec, f"there is no argument {name[:MAX_SHOWN]!r}; there are: {known}")
        if name in properties and (fault := shape.fault(properties[name], value)) is not None:
            raise _wrong(spec, f"{name!r} {fault}")
    if not (is_whole and is_plain(parameters)) and (fault := shape.fault(parameters, given)) is not None:
        raise _wrong(spec, f"the object {fault}")
    return given


def _once(pairs: list[tuple[str, Any]]) -> Arguments:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise json.JSONDecodeError("an argument stands twice", "", 0)
    return found


def _no_constant(text: str) -> Any:
    raise json.JSONDecodeError(f"{text} is no JSON", "", 0)


def _wrong(spec: ToolSpec, why: str) -> InputError:
    return InputError(f"{spec.name}: {why}", hint="Correct the arguments and call again.", code="bad_arguments")
