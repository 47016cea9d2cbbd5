"""The board or case: what the firmware calls this machine."""

from dataclasses import dataclass
from pathlib import Path

from mycoswarm.hardware.root import clean, read_text, read_word

# What makers leave in SMBIOS fields that they did not fill in.
_PLACEHOLDERS = frozenset(
    {
        "default string",
        "none",
        "not applicable",
        "not specified",
        "system manufacturer",
        "system product name",
        "to be filled by o.e.m.",
        "unknown",
    }
)


@dataclass(frozen=True, slots=True)
class Board:
    """`model` as the maker writes it: "Raspberry Pi 5 Model B Rev 1.0", "NUC8i5BEH", "Mac14,3"."""

    model: str | None
    vendor: str | None
    is_raspberry_pi: bool | None


UNKNOWN_BOARD = Board(None, None, None)


def read_board(root: Path) -> Board:
    """Read the device tree (ARM boards), else SMBIOS (PCs, ARM servers)."""
    tree = clean(read_text(root, "proc/device-tree/model")) or read_word(root, "sys/firmware/devicetree/base/model")
    if tree is not None:
        is_pi = tree.startswith("Raspberry Pi")
        return Board(model=tree, vendor="Raspberry Pi" if is_pi else None, is_raspberry_pi=is_pi)
    folder = "sys/class/dmi/id"
    model = _real(read_word(root, f"{folder}/product_name")) or _real(read_word(root, f"{folder}/board_name"))
    vendor = _real(read_word(root, f"{folder}/sys_vendor")) or _real(read_word(root, f"{folder}/board_vendor"))
    if model is None and vendor is None:
        return UNKNOWN_BOARD
    return Board(model=model, vendor=vendor, is_raspberry_pi=False)


def _real(word: str | None) -> str | None:
    return None if word is None or word.lower() in _PLACEHOLDERS else word
