"""What is given back is only what can be read again."""

import mmap
import os
from pathlib import Path

import pytest

from mycoswarm.base.footprint import clean_mappings, give_back

SIZE = 4 << 20
HEAD = "7f0000000000-7f0000400000 {} 00000000 fe:00 42                         /opt/node/{}\n"
REST = "Size: 4096 kB\nRss: 4096 kB\nAnonymous: {} kB\nVmFlags: rd mr\n"


@pytest.mark.parametrize(
    ("rights", "name", "changed", "found"),
    [
        ("r--p", "node.bin", 0, 1),
        ("r-xp", "deep/lib.so", 0, 1),
        ("r--p", "node.bin", 88, 0),  # the linker has written there and closed it
        ("rw-p", "node.bin", 0, 0),
        ("r--s", "node.bin", 0, 0),
        ("r--p", "../other.bin", 0, 0),
    ],
)
def test_only_clean_read_only_mappings_of_the_program_count(rights: str, name: str, changed: int, found: int) -> None:
    lines = (HEAD.format(rights, name) + REST.format(changed)).replace("/opt/node/../", "/opt/").splitlines()
    assert len(clean_mappings(lines, Path("/opt/node"))) == found


def test_a_mapping_without_a_file_ends_the_one_before() -> None:
    head = HEAD.format("r--p", "node.bin")
    lines = [head, "Size: 4096 kB\n", "7f0000400000-7f0000800000 rw-p 00000000 00:00 0\n", "Anonymous: 0 kB\n"]
    assert not clean_mappings(lines, Path("/opt/node"))


def test_a_checkout_gives_nothing_back() -> None:
    assert give_back(None) == 0


def test_pages_go_and_are_read_again(tmp_path: Path) -> None:
    """For real: a file that is mapped as the dynamic linker maps a program's constants."""
    path = tmp_path / "node.bin"
    path.write_bytes(os.urandom(SIZE))
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), SIZE, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ)
    whole = bytes(mapped)
    assert _resident(path) >= SIZE
    assert give_back(path) == SIZE
    assert _resident(path) == 0
    assert bytes(mapped) == whole and _resident(path) >= SIZE
    mapped.close()


def _resident(path: Path) -> int:
    """Bytes of this process's mappings of a file that are in memory."""
    lines = Path("/proc/self/smaps").read_text().splitlines()
    at = next(number for number, line in enumerate(lines) if line.endswith(str(path)))
    return next(int(line.split()[1]) << 10 for line in lines[at:] if line.startswith("Rss:"))
