"""Gives back memory that only the start of the packed program needed: pages of its own files.

The packed program keeps its constants and the bytecode of other packages in one file that is mapped. Each part is read
once, when its module is imported, and would stay resident while there is room. What is given back is read again from
the file, or from the kernel's cache of it, if it is asked for. Linux only; does nothing in a checkout.
"""

import contextlib
import ctypes
import re
import sys
from collections.abc import Iterable
from pathlib import Path

from mycoswarm.base.program import PACKED

_DONT_NEED = 4  # MADV_DONTNEED, of <asm-generic/mman-common.h>
_MAPPING = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (r--p|r-xp) \S+ \S+ \S+ +(/.*)")  # proc_pid_smaps(5)
_MIN_BYTES = 1 << 20  # smaller ones are not worth the call


def give_back(packed: Path | None = PACKED) -> int:
    """Give back what can be read again; gives the number of bytes that were mapped there, 0 where there is nothing."""
    if packed is None or sys.platform != "linux":
        return 0
    advise = ctypes.CDLL(None, use_errno=True).madvise
    advise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    given = 0
    with contextlib.suppress(OSError), Path("/proc/self/smaps").open(encoding="utf-8", errors="replace") as lines:
        for first, size in clean_mappings(lines, packed.parent):
            if advise(first, size, _DONT_NEED) == 0:
                given += size
    return given


def clean_mappings(lines: Iterable[str], folder: Path) -> list[tuple[int, int]]:
    """The address and the size in bytes of each mapping of a file below `folder` that can be read again as it is:
    nobody may write to it, and no page of it was ever changed, as the dynamic linker does with some before it closes
    them. `lines`: of /proc/PID/smaps."""
    found: list[tuple[int, int]] = []
    last: tuple[int, int] | None = None
    for line in lines:
        if (header := _MAPPING.match(line)) is not None:
            first, end = int(header[1], 16), int(header[2], 16)
            ours = Path(header[4].rstrip("\n")).is_relative_to(folder) and end - first >= _MIN_BYTES
            last = (first, end - first) if ours else None
        elif last is not None and line.startswith("Anonymous:"):
            if line.split()[1] == "0":
                found.append(last)
            last = None
        elif line[:1] not in "ABCDEFGHIJKLMNOPQRSTUVWXYZ":
            last = None  # the head of another mapping
    return found
