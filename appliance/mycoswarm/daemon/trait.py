"""What a node's card tells of its machine, as far as rules can ask for it. It is the node's own word."""

from mycoswarm.base.errors import ProtocolError
from mycoswarm.hardware.gpu import Gpu
from mycoswarm.hardware.machine import Machine
from mycoswarm.hardware.sheet import from_json
from mycoswarm.routing.snapshot import Fact
from mycoswarm.swarm.card import Card


def traits_of(
    card: Card | None, *, grade: str | None, speed: float | None, round_trip_s: float | None
) -> dict[str, Fact]:
    """The facts of routing/selector.py that are known; what a card says in a way that cannot be read is unknown."""
    found: dict[str, Fact | None] = {"class": grade, "bytes_per_s": speed, "round_trip_s": round_trip_s}
    if card is not None:
        found["free_bytes"] = card.free_memory_bytes
        found["gpu"] = card.facts.get("uses_gpu") is True
        machine = _machine(card)
        if machine is not None:
            found["vram_bytes"] = sum(gpu.memory_total_bytes or 0 for gpu in machine.gpus or () if _is_own(gpu))
            found["memory_bytes"] = machine.memory.total_bytes
            found["cores"] = machine.processor.physical_cores or machine.processor.threads
            found["architecture"] = machine.processor.architecture
            found["board"] = machine.board.model
            found["system"] = machine.system.family
    return {name: value for name, value in found.items() if value is not None}


def _machine(card: Card) -> Machine | None:
    try:
        return from_json(card.facts.get("machine"))
    except ProtocolError:
        return None


def _is_own(gpu: Gpu) -> bool:
    """A GPU that llama.cpp computes on, with memory of its own."""
    return bool(gpu.backends) and gpu.is_integrated is False
