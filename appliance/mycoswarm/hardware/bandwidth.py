"""How fast this machine streams memory, measured in a child process, whose memory is given back as it ends.

`python -m mycoswarm.hardware.bandwidth` prints bytes per second, as a decimal number on one line.
"""

import math
import re
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from mycoswarm.base.egress import Guard, install
from mycoswarm.base.program import module_words
from mycoswarm.base.units import MIB
from mycoswarm.hardware.probe import run_briefly
from mycoswarm.hardware.root import list_names, read_word

MEASURE = module_words("mycoswarm.hardware.bandwidth")
LIMIT_S = 30.0  # it takes one to two seconds; a small board that starts does much else meanwhile
ROUNDS = 12
PAUSE_S = 0.05  # between rounds: other programs take turns, and the best round is the machine's own
CACHES = "sys/devices/system/cpu/cpu0/cache"
SMALLEST_BYTES, LARGEST_BYTES = 16 * MIB, 64 * MIB
_SIZE = re.compile(r"([0-9]{1,9})K")


def ask_bytes_per_s(command: Sequence[str] = MEASURE, *, limit_s: float = LIMIT_S) -> float | None:
    """Have a child measure, in bytes per second. Blocks. None where it cannot or says nonsense."""
    told = run_briefly(command, limit_s=limit_s)
    try:
        speed = float(told.output or "")
    except ValueError:
        return None
    return speed if math.isfinite(speed) and speed > 0 else None


def block_bytes(root: Path) -> int:
    """How much is copied at a time: the block and its copy are four times the processor's largest cache.

    On a Raspberry Pi that is 32 MiB in all, which it can spare; a large processor's is cut off at 128 MiB. `root`: the
    system's root folder; caches are as Linux tells them (Documentation/ABI/testing/sysfs-devices-system-cpu).
    """
    found = 0
    for name in list_names(root, CACHES):
        if (told := _SIZE.fullmatch(read_word(root, f"{CACHES}/{name}/size") or "")) is not None:
            found = max(found, int(told[1]) * 1024)
    return min(max(2 * found, SMALLEST_BYTES), LARGEST_BYTES) if found else LARGEST_BYTES


def measure_bytes_per_s(size: int) -> float:
    """The best of a few copies of `size` bytes, read and written, in bytes per second.

    Decoding on a CPU is bound by this. It takes about a second, most of it pauses; what real answers show later counts
    more.
    """
    source, best_s = bytearray(size), float("inf")
    target = bytearray(size)
    for _ in range(ROUNDS):
        began = time.perf_counter()
        memoryview(target)[:] = source
        best_s = min(best_s, time.perf_counter() - began)
        time.sleep(PAUSE_S)
    return 2 * size / best_s


def main() -> int:
    """The child."""
    install(Guard())
    if hasattr(signal, "alarm"):
        signal.alarm(int(LIMIT_S))  # ends a child whose parent was killed meanwhile
    sys.stdout.write(f"{measure_bytes_per_s(block_bytes(Path('/')))}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
