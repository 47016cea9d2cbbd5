"""This node's own machine, measured: its parts once at start, its free memory now, its speed once and kept."""

import asyncio
import logging
import math
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from mycoswarm.base.units import MIB
from mycoswarm.catalog.facts import ModelFacts
from mycoswarm.hardware.bandwidth import ask_bytes_per_s
from mycoswarm.hardware.cgroup import read_allowance
from mycoswarm.hardware.disk import read_disk
from mycoswarm.hardware.gpu import Gpu
from mycoswarm.hardware.grade import classify
from mycoswarm.hardware.inventory import inspect_machine
from mycoswarm.hardware.machine import Machine
from mycoswarm.hardware.memory import read_memory
from mycoswarm.hardware.nvidia import NVML, NvidiaReading, load_nvidia, read_nvidia
from mycoswarm.hardware.pci import AMDGPU, read_cards
from mycoswarm.hardware.sheet import to_json
from mycoswarm.hardware.thermal import read_temperature_celsius
from mycoswarm.wire.plan import RingPlan
from mycoswarm.wire.report import Finished

MIN_GRADED_BYTES = 256 * MIB
MIN_GRADED_STEPS = 16
SEEN_S = 0.5  # a card is made about once a second and asks twice; NVML takes milliseconds to open
FRESH_S = 30 * 86400.0  # machines change seldom; memory is measured again after a month

log = logging.getLogger(__name__)


def graded_bytes_per_s(plan: RingPlan, facts: ModelFacts, finished: Finished) -> float | None:
    """How fast an answer of a whole model really streamed its weights on its one node, in bytes per second.

    None where that says nothing of the node: several stages share the time, few tokens, or a model so small that it
    stays in caches.
    """
    timing = finished.timing
    weights = sum(facts.layer_bytes) + facts.output_bytes
    if len(plan.stages) != 1 or weights < MIN_GRADED_BYTES or timing is None or timing.steps < MIN_GRADED_STEPS:
        return None
    speed = weights * timing.steps / timing.compute_s if timing.compute_s > 0 else math.inf
    return speed if math.isfinite(speed) else None  # the head may be another machine, and say anything


class OwnMachine:
    """Facts about the machine this daemon runs on. `machine` is None until the first look is done.

    Free memory is read anew each time: the machine's, and that of the cards whose driver tells it (NVIDIA's, and AMD's
    on Linux). Other cards' counts as at the first look, because llama.cpp tells it only to a process of its own, which
    takes seconds.
    """

    def __init__(
        self,
        folder: Path,
        *,
        gpu: bool,
        known_speed: tuple[float, float] | None,
        nvidia: Callable[[], NvidiaReading] = lambda: read_nvidia(load_nvidia()),
        bus: Callable[[], tuple[Gpu, ...] | None] = lambda: read_cards(Path("/")),
    ) -> None:
        """`known_speed`: bytes per second and when it was measured, seconds since 1970."""
        self._folder, self._gpu = folder, gpu
        self._speed, self._nvidia, self._bus = known_speed, nvidia, bus
        self._seen: tuple[float, tuple[Gpu, ...]] | None = None
        self.machine: Machine | None = None

    async def look(self, note_speed: Callable[[float, float], None]) -> None:
        """Read the machine and, where it is due, measure its speed; `note_speed` keeps it."""
        self.machine = await asyncio.to_thread(inspect_machine, self._folder)
        now = time.time()
        if self._speed is None or now - self._speed[1] > FRESH_S:
            if (measured := await asyncio.to_thread(ask_bytes_per_s)) is None:
                log.warning("how fast this machine's memory is could not be measured")
                return
            self._speed = measured, now
            await asyncio.to_thread(note_speed, *self._speed)

    def now(self) -> Machine | None:
        """The machine as it was found, with what changes read anew: memory, GPUs', disk, temperature. Blocks."""
        if self.machine is None:
            return None
        root = Path("/")
        memory = read_memory(root, read_allowance(root))
        return replace(
            self.machine,
            memory=self.machine.memory if memory.free_bytes is None else memory,
            gpus=self._gpus() if self.machine.gpus else self.machine.gpus,
            disk=read_disk(self._folder),
            temperature_celsius=read_temperature_celsius(root),
        )

    @property
    def uses_gpu(self) -> bool:
        """Whether llama.cpp computes on a GPU with memory of its own here."""
        return self._gpu and bool(self._working_gpus())

    def free_bytes(self) -> int | None:
        """What a stage could take now: the GPUs' free memory where llama.cpp uses them, else the machine's. Blocks."""
        if self.uses_gpu:
            free = self._free_on_gpus()
            return sum(free) if free else None
        root = Path("/")
        live = read_memory(root, read_allowance(root)).free_bytes
        return live if live is not None else (self.machine.memory.free_bytes if self.machine else None)

    def _free_on_gpus(self) -> list[int]:
        working = self._working_gpus()
        free = [
            gpu.memory_free_bytes for known, gpu in zip(self._known(), self._gpus(), strict=True) if known in working
        ]
        return [size for size in free if size is not None]

    def _gpus(self) -> tuple[Gpu, ...]:
        """All GPUs with their memory as it is now, where their driver tells."""
        if self._seen is not None and time.monotonic() - self._seen[0] < SEEN_S:
            return self._seen[1]
        known, cards = self._known(), list[Gpu]()
        if any(gpu.vendor == "NVIDIA" for gpu in known):
            cards += self._nvidia().gpus or ()
        if any(gpu.memory_source == AMDGPU for gpu in known):
            cards += self._bus() or ()
        live = {card.pci_address: card for card in cards if card.memory_free_bytes is not None}
        gpus = tuple(_as_now(gpu, live.get(gpu.pci_address)) for gpu in known)
        self._seen = time.monotonic(), gpus
        return gpus

    def _known(self) -> tuple[Gpu, ...]:
        return (self.machine.gpus or ()) if self.machine else ()

    def _working_gpus(self) -> list[Gpu]:
        """GPUs that llama.cpp computes on and that have memory of their own."""
        return [gpu for gpu in self._known() if gpu.backends and gpu.is_integrated is False]

    def facts(self) -> dict[str, Any]:
        """What the card says of the machine."""
        if self.machine is None:
            return {}
        grade = classify(self.machine)
        # The speed of a GPU is not what the benchmark measured: unknown until an answer ran there.
        speed = None if self.uses_gpu or self._speed is None else self._speed[0]
        return {
            "machine": to_json(replace(self.machine, gpus=self._gpus() if self.machine.gpus else self.machine.gpus)),
            "class": {"name": grade.name, "reason": grade.reason},
            "bytes_per_s": speed,
            "measured_at": self._speed[1] if self._speed else None,
            "live": {"temperature_celsius": read_temperature_celsius(Path("/")), "load": _load()},
            "uses_gpu": self.uses_gpu,
            "usable_threads": self.machine.processor.usable_threads,
        }


def _as_now(gpu: Gpu, live: Gpu | None) -> Gpu:
    """Of a GPU that shares the CPU's memory the driver tells another figure than llama.cpp did: that one stays. One
    whose driver does not answer any more keeps its reading, which says how old it is."""
    if live is None or live.pci_address is None:
        of_driver = gpu.memory_source in (NVML, AMDGPU)
        return replace(gpu, memory_source=f"{gpu.memory_source}, at first look") if of_driver else gpu
    if live.memory_source != gpu.memory_source:
        return gpu
    total, free = live.memory_total_bytes, live.memory_free_bytes
    return replace(gpu, memory_total_bytes=total, memory_free_bytes=free)


def _load() -> float | None:
    """Processes that ran or wanted to run, over the last minute."""
    try:
        return os.getloadavg()[0]
    except (OSError, AttributeError):  # Windows has none
        return None
