"""How fast memory is: measured by a child, with blocks that suit the machine."""

import sys
from pathlib import Path

import pytest

from mycoswarm.base.units import MIB
from mycoswarm.hardware.bandwidth import CACHES, ask_bytes_per_s, block_bytes, measure_bytes_per_s


def machine(root: Path, *sizes: str) -> Path:
    for number, size in enumerate(sizes):
        folder = root / CACHES / f"index{number}"
        folder.mkdir(parents=True)
        (folder / "size").write_text(f"{size}\n")
    return root


@pytest.mark.slow
def test_a_child_measures_and_its_memory_is_not_ours() -> None:
    before = resident()
    told = ask_bytes_per_s()
    assert told is not None
    assert 1e7 < told < 1e13
    assert resident() - before < 16 * MIB


def resident() -> int:
    words = Path("/proc/self/statm").read_text().split() if sys.platform == "linux" else ("0", "0")
    return int(words[1]) * 4096


def test_it_is_twice_what_was_copied_by_the_time_it_took(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(1000))
    monkeypatch.setattr("time.perf_counter", lambda: float(next(ticks)))
    monkeypatch.setattr("time.sleep", lambda _: None)
    assert measure_bytes_per_s(1000) == 2000.0


@pytest.mark.parametrize(
    ("sizes", "wanted"),
    [
        (("32K", "32K", "512K"), 16),  # a Raspberry Pi 3
        (("64K", "64K", "512K", "2048K"), 16),  # a Raspberry Pi 5
        (("48K", "32K", "1280K", "12288K"), 24),
        (("32K", "32K", "1024K", "98304K"), 64),
        ((), 64),
        (("big", "", "-1K", "1M", "99999999999K"), 64),
    ],
)
def test_blocks_are_past_the_largest_cache(tmp_path: Path, sizes: tuple[str, ...], wanted: int) -> None:
    assert block_bytes(machine(tmp_path, *sizes)) == wanted * MIB


@pytest.mark.parametrize("words", ["", "print()", "print('nan')", "print('inf')", "print(-1)", "print('1e9x')", "1/0"])
def test_a_child_that_says_nonsense_is_not_believed(words: str) -> None:
    assert ask_bytes_per_s([sys.executable, "-I", "-c", words]) is None


def test_a_child_that_hangs_is_left() -> None:
    assert ask_bytes_per_s([sys.executable, "-I", "-c", "import time; time.sleep(60)"], limit_s=0.2) is None
