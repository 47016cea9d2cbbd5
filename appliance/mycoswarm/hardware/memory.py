"""The machine's memory: how much there is, how much may still be taken, and which limit says so."""

import re
from dataclasses import dataclass
from pathlib import Path

from mycoswarm.hardware.cgroup import Allowance
from mycoswarm.hardware.root import parse_number, parse_table, read_text


@dataclass(frozen=True, slots=True)
class Memory:
    """`free_bytes` is the least of what the system has available and what the control group leaves;
    `free_source` names the one that decided. `limit_bytes` is the group's limit, None for no limit."""

    total_bytes: int | None
    available_bytes: int | None
    limit_bytes: int | None
    free_bytes: int | None
    free_source: str | None
    swap_total_bytes: int | None
    swap_free_bytes: int | None

    @property
    def usable_bytes(self) -> int | None:
        """The most this process could ever have: the machine's memory, or the limit if that is less."""
        known = [size for size in (self.total_bytes, self.limit_bytes) if size is not None]
        return min(known) if self.total_bytes is not None else None


UNKNOWN_MEMORY = Memory(None, None, None, None, None, None, None)


def read_memory(root: Path, allowance: Allowance) -> Memory:
    """Read a Linux root's memory within the control group's allowance."""
    return combine(parse_meminfo(read_text(root, "proc/meminfo")), allowance)


def parse_meminfo(text: str | None) -> Memory:
    """Read /proc/meminfo. MemAvailable is missing before Linux 3.14 and then free memory is unknown. Total."""
    table = parse_table(text)
    sizes = {key: _parse_kib(table.get(key)) for key in ("MemTotal", "MemAvailable", "SwapTotal", "SwapFree")}
    available = sizes["MemAvailable"]
    return Memory(
        total_bytes=sizes["MemTotal"],
        available_bytes=available,
        limit_bytes=None,
        free_bytes=available,
        free_source=None if available is None else "MemAvailable",
        swap_total_bytes=sizes["SwapTotal"],
        swap_free_bytes=sizes["SwapFree"],
    )


def combine(memory: Memory, allowance: Allowance) -> Memory:
    """The memory as a process under this allowance has it. A limit above the machine's own memory is none."""
    limit = allowance.memory_limit_bytes
    if limit is not None and memory.total_bytes is not None and limit >= memory.total_bytes:
        limit = None
    rooms = [(memory.available_bytes, "MemAvailable"), (allowance.memory_room_bytes, allowance.memory_source)]
    known = [(room, source) for room, source in rooms if room is not None]
    # Where the system's own figure is missing, the group's room alone would be a guess.
    free, source = min(known, key=lambda pair: pair[0]) if memory.available_bytes is not None else (None, None)
    return Memory(
        total_bytes=memory.total_bytes,
        available_bytes=memory.available_bytes,
        limit_bytes=limit,
        free_bytes=free,
        free_source=source,
        swap_total_bytes=memory.swap_total_bytes,
        swap_free_bytes=memory.swap_free_bytes,
    )


def _parse_kib(text: str | None) -> int | None:
    """ "16252928 kB" in bytes; the kernel's kB is 1024 bytes."""
    found = re.fullmatch(r"([0-9]{1,16}) kB", text or "")
    number = parse_number(found[1]) if found else None
    return None if number is None else number * 1024
