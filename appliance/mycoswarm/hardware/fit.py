"""Which model sizes fit on a machine now, at which quantisation, and where: a first answer before any download.

An estimate for dense models of a usual shape. The placement of a real file reads its real tensors instead.
"""

from dataclasses import dataclass

from mycoswarm.hardware.gpu import Gpu
from mycoswarm.hardware.machine import Machine

# Bits per weight of Llama 3.1 8B, measured by llama.cpp: tools/quantize/README.md. Smaller models come out
# up to 7 % larger, because their embedding table is a larger part of them; the margin covers it.
BITS_PER_WEIGHT = {"Q4_K_M": 4.8944, "Q6_K": 6.5633, "Q8_0": 8.5008, "F16": 16.0005}
# One fifth of what is free stays free: compute buffers, and programs that start later.
MARGIN = 0.2
CONTEXT_TOKENS = 8192
_KV_BYTES_PER_VALUE = 2  # llama.cpp's default KV cache is F16


@dataclass(frozen=True, slots=True)
class _Shape:
    """A published model that stands for its size: config.json's num_hidden_layers, num_key_value_heads, head_dim."""

    size: str
    weights: float
    layers: int
    kv_heads: int
    head_values: int


_SHAPES = (
    _Shape("1B", 1.24e9, 16, 8, 64),  # Llama 3.2 1B
    _Shape("3B", 3.21e9, 28, 8, 128),  # Llama 3.2 3B
    _Shape("8B", 8.03e9, 32, 8, 128),  # Llama 3.1 8B
    _Shape("14B", 14.8e9, 40, 8, 128),  # Qwen3 14B
    _Shape("32B", 32.8e9, 64, 8, 128),  # Qwen3 32B
    _Shape("70B", 70.6e9, 80, 8, 128),  # Llama 3.1 70B
    _Shape("123B", 122.6e9, 88, 8, 128),  # Mistral Large 2
    _Shape("405B", 405.9e9, 126, 8, 128),  # Llama 3.1 405B
)


@dataclass(frozen=True, slots=True)
class Fit:
    """A model of `size` at `quantisation` needs `needed_bytes` (weights and an 8k context) and `device` has
    `room_bytes` free, a margin of one fifth not yet taken off."""

    size: str
    quantisation: str
    needed_bytes: int
    device: str
    room_bytes: int


@dataclass(frozen=True, slots=True)
class Room:
    """A place for a whole model: one GPU, several together, or the CPU's memory ("memory")."""

    device: str
    room_bytes: int


def fitting(machine: Machine) -> tuple[Fit, ...]:
    """What fits, small models first, each at the fastest place that holds it. Pure and total.

    Unknown free memory holds nothing: () may mean "nothing fits" or "nothing is known" (see Machine.notes).
    """
    rooms = find_rooms(machine)
    fits: list[Fit] = []
    for shape in _SHAPES:
        for quantisation in BITS_PER_WEIGHT:
            needed = _needed_bytes(shape, quantisation)
            room = next((room for room in rooms if needed <= room.room_bytes * (1 - MARGIN)), None)
            if room is not None:
                fits.append(Fit(shape.size, quantisation, needed, room.device, room.room_bytes))
    return tuple(fits)


def find_rooms(machine: Machine) -> tuple[Room, ...]:
    """The places for a model, fastest first: GPUs with their own memory, all such together, shared ones, the CPU."""
    usable = [gpu for gpu in machine.gpus or () if gpu.backends]
    own = sorted((gpu for gpu in usable if not gpu.is_integrated), key=_free, reverse=True)
    rooms = [Room(gpu.name, _free(gpu)) for gpu in own]
    together = _join_gpus(own)
    if together is not None:
        rooms.append(together)
    memory_bytes = machine.memory.free_bytes
    for gpu in usable:
        if gpu.is_integrated:
            # It takes from the same memory: what either side has not free, the model cannot have.
            free = [size for size in (gpu.memory_free_bytes, memory_bytes) if size is not None]
            rooms.append(Room(gpu.name, min(free, default=0)))
    if memory_bytes is not None:
        rooms.append(Room("memory", memory_bytes))
    return tuple(room for room in rooms if room.room_bytes > 0)


def largest(fits: tuple[Fit, ...], quantisation: str = "Q4_K_M") -> Fit | None:
    """The largest model that fits at this quantisation; None when none does."""
    return next((fit for fit in reversed(fits) if fit.quantisation == quantisation), None)


def _join_gpus(gpus: list[Gpu]) -> Room | None:
    """All GPUs that share one back end, which llama.cpp fills by layers; the back end that joins the most memory."""
    joined = []
    for backend in dict.fromkeys(backend for gpu in gpus for backend in gpu.backends or ()):
        members = [gpu for gpu in gpus if backend in (gpu.backends or ())]
        if len(members) > 1:
            joined.append(Room(f"{len(members)} GPUs together ({backend})", sum(_free(gpu) for gpu in members)))
    return max(joined, key=lambda room: room.room_bytes, default=None)


def _needed_bytes(shape: _Shape, quantisation: str) -> int:
    weights_bytes = shape.weights * BITS_PER_WEIGHT[quantisation] / 8
    kv_values = 2 * shape.layers * shape.kv_heads * shape.head_values * CONTEXT_TOKENS
    return int(weights_bytes) + kv_values * _KV_BYTES_PER_VALUE


def _free(gpu: Gpu) -> int:
    return gpu.memory_free_bytes or 0
