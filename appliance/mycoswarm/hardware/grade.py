"""What a machine is good for in a swarm, in one word that its owner understands, with the reason."""

from collections.abc import Sequence
from dataclasses import dataclass

from mycoswarm.base.units import GIB, format_bytes
from mycoswarm.hardware.gpu import Gpu
from mycoswarm.hardware.machine import Machine

# The thresholds are nominal sizes less what firmware, kernel and drivers keep: a "24 GB" card has 23.6 GiB
# or less, a "16 GB" PC 15.3, a "6 GB" one 5.6.
LARGE_GPU_BYTES = 22 * GIB
GPU_BYTES = int(5.5 * GIB)
WORKER_BYTES = 14 * GIB
LIGHT_BYTES = int(5.5 * GIB)
_WORKER_THREADS = 4
# Without one of these llama.cpp's quantised kernels run several times slower.
_FAST_KERNELS = frozenset({"AVX2", "DOTPROD", "SVE"})


@dataclass(frozen=True, slots=True)
class MachineClass:
    """`name`: "large GPU worker", "GPU worker", "worker", "light worker", "coordinator" or "unknown"."""

    name: str
    reason: str


def classify(machine: Machine) -> MachineClass:
    """The class of a machine. Pure and total; decided by what llama.cpp can use here, not by what is plugged in."""
    by_gpu = _classify_gpus(machine.gpus or ())
    if by_gpu is not None:
        return by_gpu
    decided = _classify_processor(machine)
    idle = [gpu for gpu in machine.gpus or () if not gpu.backends and (gpu.memory_total_bytes or 0) >= GPU_BYTES]
    if not idle:
        return decided
    because = "has no back end for it" if idle[0].backends is not None else "could not be asked about it"
    return MachineClass(decided.name, f"{decided.reason} Its {idle[0].name} is not used: llama.cpp here {because}.")


def usable_gpus(gpus: Sequence[Gpu]) -> tuple[Gpu, ...]:
    """The GPUs that llama.cpp can use here and that bring fast memory: their own, or Apple's and NVIDIA's shared.

    Other integrated graphics read the CPU's memory no faster than the CPU does.
    """
    return tuple(gpu for gpu in gpus if gpu.backends and (not gpu.is_integrated or gpu.vendor in ("Apple", "NVIDIA")))


def _classify_gpus(gpus: Sequence[Gpu]) -> MachineClass | None:
    known = [gpu for gpu in usable_gpus(gpus) if gpu.memory_total_bytes is not None]
    total = sum(gpu.memory_total_bytes or 0 for gpu in known)
    if total < GPU_BYTES:
        return None
    names = ", ".join(dict.fromkeys(gpu.name for gpu in known))
    what = f"{len(known)} GPUs ({names})" if len(known) > 1 else names
    size = format_bytes(total)
    if total >= LARGE_GPU_BYTES:
        return MachineClass("large GPU worker", f"{what} with {size} of GPU memory: it holds large models whole.")
    return MachineClass("GPU worker", f"{what} with {size} of GPU memory: it answers fast with models that fit there.")


def _classify_processor(machine: Machine) -> MachineClass:
    size = machine.memory.usable_bytes
    if size is None:
        return MachineClass("unknown", "The size of its memory could not be read.")
    amount = format_bytes(size)
    if machine.board.is_raspberry_pi:
        return MachineClass("coordinator", f"{machine.board.model} with {amount} of memory: {_COORDINATES}")
    if size < LIGHT_BYTES:
        return MachineClass("coordinator", f"Only {amount} of memory: {_COORDINATES}")
    if size < WORKER_BYTES:
        return MachineClass("light worker", f"{amount} of memory and no GPU to use: enough for small models.")
    threads = machine.processor.usable_threads
    if threads is not None and threads < _WORKER_THREADS:
        return MachineClass("light worker", f"{amount} of memory, but only {threads:g} CPU threads: it answers slowly.")
    instructions = machine.processor.instruction_sets
    if instructions is not None and _FAST_KERNELS.isdisjoint(instructions):
        return MachineClass(
            "light worker", f"{amount} of memory, but a CPU without AVX2 or dot product: it answers slowly."
        )
    return MachineClass("worker", f"{amount} of memory and no GPU to use: it runs middle-sized models on the CPU.")


_COORDINATES = "good at coordinating; answering by itself is slow."
