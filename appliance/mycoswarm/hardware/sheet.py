"""A machine as JSON and back: what a node's card carries over the wire, so it is read strictly.

The keys are the field names of the dataclasses. Keys that a newer version adds are passed over, and one of a field with
a default may be missing, as older versions have none; any other missing key, a wrong type, an unprintable or long
string, a long list or a number out of range is refused whole.
"""

import dataclasses
import math
import types
import typing
from collections.abc import Mapping

from mycoswarm.base.errors import ProtocolError
from mycoswarm.hardware.machine import Machine

_WORD_LIMIT = 400  # twice what `root.clean` lets through: notes join a sentence to one such word
_LIST_LIMIT = 64
_NUMBER_LIMIT = 1 << 63


def to_json(machine: Machine) -> dict[str, object]:
    """The machine as plain dicts, lists, strings and numbers."""
    return dataclasses.asdict(machine)


def from_json(data: object) -> Machine:
    """Read what `to_json` wrote, from JSON that anybody may have sent.

    Raises:
        ProtocolError: it is not a machine; the message names the place.
    """
    machine = _read(Machine, data, "machine")
    if not isinstance(machine, Machine):
        raise ProtocolError("machine: not a machine")
    return machine


def _read(kind: object, value: object, place: str) -> object:
    """Read one value as the annotation `kind` says: a dataclass, tuple[X, ...], X | None, str, int, float, bool."""
    if isinstance(kind, types.UnionType):
        inner = next(option for option in typing.get_args(kind) if option is not types.NoneType)
        return None if value is None else _read(inner, value, place)
    if typing.get_origin(kind) is tuple:
        return _read_list(typing.get_args(kind)[0], value, place)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return _read_dataclass(kind, value, place)
    if kind is str and isinstance(value, str) and len(value) <= _WORD_LIMIT and value.isprintable():
        return value
    if kind is bool and isinstance(value, bool):
        return value
    if kind in (int, float) and isinstance(value, int | float) and not isinstance(value, bool):
        return _read_number(kind, value, place)
    raise ProtocolError(f"{place}: not a value of the right kind")


def _read_dataclass(kind: type, value: object, place: str) -> object:
    if not isinstance(value, Mapping):
        raise ProtocolError(f"{place}: not an object")
    hints = typing.get_type_hints(kind)
    needed = [field.name for field in dataclasses.fields(kind) if field.default is dataclasses.MISSING]
    missing = [name for name in needed if name not in value]
    if missing:
        raise ProtocolError(f"{place}: {missing[0]} is missing")
    return kind(**{name: _read(hint, value[name], f"{place}.{name}") for name, hint in hints.items() if name in value})


def _read_list(kind: object, value: object, place: str) -> tuple[object, ...]:
    if not isinstance(value, list | tuple) or len(value) > _LIST_LIMIT:
        raise ProtocolError(f"{place}: not a list of at most {_LIST_LIMIT}")
    return tuple(_read(kind, entry, f"{place}[{index}]") for index, entry in enumerate(value))


def _read_number(kind: object, value: int | float, place: str) -> int | float:
    if kind is int and not isinstance(value, int):
        raise ProtocolError(f"{place}: not a whole number")
    # In this order: isfinite() of a whole number beyond a float's range raises.
    if abs(value) >= _NUMBER_LIMIT or not math.isfinite(value):
        raise ProtocolError(f"{place}: a number out of range")
    return float(value) if kind is float else value
