"""One machine, as far as it could be known: the sum of this package's readings."""

from dataclasses import dataclass

from mycoswarm.hardware.board import Board
from mycoswarm.hardware.disk import Disk
from mycoswarm.hardware.gpu import Gpu
from mycoswarm.hardware.memory import Memory
from mycoswarm.hardware.processor import Processor
from mycoswarm.hardware.system import System


@dataclass(frozen=True, slots=True)
class Machine:
    """Unknown is None everywhere, never 0 and never a guess. `gpus` is () where there are none, None where
    nothing could be asked. `notes` say in words for the owner what could not be read, and why."""

    processor: Processor
    memory: Memory
    disk: Disk
    gpus: tuple[Gpu, ...] | None
    board: Board
    system: System
    temperature_celsius: float | None
    notes: tuple[str, ...]
