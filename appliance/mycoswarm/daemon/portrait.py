"""A node's machine as its owner is shown it: out of the node's card, which only the node itself has vouched for."""

import math
from typing import Any

from mycoswarm.base.errors import ProtocolError
from mycoswarm.hardware.machine import Machine
from mycoswarm.hardware.sheet import from_json
from mycoswarm.swarm.card import Card

HOTTEST_CELSIUS = 150.0
MOST_LOAD = 1e6


def portrait_of(card: Card | None) -> dict[str, Any] | None:
    """What a card says of the machine, in JSON; None where it says nothing that can be read. Bytes and degrees Celsius;
    `load` is the number of processes that ran or wanted to, over the last minute. What is not known is None."""
    if card is None:
        return None
    try:
        machine = from_json(card.facts.get("machine"))
    except ProtocolError:
        return None
    live = card.facts.get("live")
    told = live if isinstance(live, dict) else {}
    warmth = _number(told.get("temperature_celsius"), HOTTEST_CELSIUS)
    return {
        "board": " ".join(filter(None, (machine.board.vendor, machine.board.model))) or None,
        "system": machine.system.name or machine.system.family,
        "processor": machine.processor.model,
        "architecture": machine.processor.architecture,
        "threads": machine.processor.usable_threads,
        "memory_total_bytes": machine.memory.total_bytes,
        "memory_limit_bytes": machine.memory.limit_bytes,
        "memory_source": machine.memory.free_source,
        "disk_free_bytes": machine.disk.free_bytes,
        "gpus": _gpus(machine),
        "temperature_celsius": machine.temperature_celsius if warmth is None else warmth,
        "load": _number(told.get("load"), MOST_LOAD),
        "notes": list(machine.notes),
    }


def _gpus(machine: Machine) -> list[dict[str, Any]] | None:
    if machine.gpus is None:
        return None
    return [
        {
            "name": gpu.name,
            "memory_total_bytes": gpu.memory_total_bytes,
            "memory_free_bytes": gpu.memory_free_bytes,
            "memory_source": gpu.memory_source,
            "backends": None if gpu.backends is None else list(gpu.backends),
        }
        for gpu in machine.gpus
    ]


def _number(value: Any, most: float) -> float | None:
    """A number out of a card; what no machine has is unknown."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value) if -most < value < most else None
