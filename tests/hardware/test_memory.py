from hypothesis import given, settings
from hypothesis import strategies as st

from mycoswarm.base.units import GIB
from mycoswarm.hardware.cgroup import Allowance
from mycoswarm.hardware.memory import UNKNOWN_MEMORY, combine, parse_meminfo

SIXTEEN = parse_meminfo(f"MemTotal: {16 << 20} kB\nMemAvailable: {12 << 20} kB\n")


@settings(deadline=None)
@given(st.text() | st.text("MemTotalAvb: 0123456789kB\n-"))
def test_any_text_is_read_as_memory(text: str) -> None:
    parse_meminfo(text)


def test_free_memory_is_the_smaller_of_the_machines_and_the_groups() -> None:
    tight = combine(SIXTEEN, Allowance(4 * GIB, 3 * GIB, "cgroup memory.max", None))
    loose = combine(SIXTEEN, Allowance(15 * GIB, 14 * GIB, "cgroup memory.max", None))
    assert (tight.free_bytes, tight.free_source, tight.usable_bytes) == (3 * GIB, "cgroup memory.max", 4 * GIB)
    assert (loose.free_bytes, loose.free_source, loose.usable_bytes) == (12 * GIB, "MemAvailable", 15 * GIB)


def test_a_limit_above_the_machines_memory_is_no_limit() -> None:
    assert combine(SIXTEEN, Allowance(64 * GIB, 60 * GIB, "cgroup memory.max", None)).limit_bytes is None


def test_without_the_systems_own_figure_free_memory_stays_unknown() -> None:
    old = parse_meminfo("MemTotal: 1024 kB\nMemFree: 512 kB\n")
    assert combine(old, Allowance(4096, 2048, "cgroup memory.max", None)).free_bytes is None
    assert combine(UNKNOWN_MEMORY, Allowance(4096, 2048, "x", None)).usable_bytes is None


def test_no_free_memory_is_zero_and_known() -> None:
    assert combine(SIXTEEN, Allowance(GIB, 0, "cgroup memory.max", None)).free_bytes == 0
