"""A Mac's facts. It has no files to read them from: they come from `sysctl`, and free memory from psutil."""

from collections.abc import Mapping
from dataclasses import dataclass

import psutil  # type: ignore[import-untyped,unused-ignore]  # the package has no types

from mycoswarm.hardware.board import Board
from mycoswarm.hardware.memory import Memory
from mycoswarm.hardware.probe import run_briefly
from mycoswarm.hardware.root import clean, parse_number, parse_table
from mycoswarm.hardware.system import System

_SYSCTL = ("/usr/sbin/sysctl", "hw", "machdep.cpu", "kern.osproductversion", "kern.osrelease")
_SYSCTL_LIMIT_S = 5.0


@dataclass(frozen=True, slots=True)
class Darwin:
    """The raw readings: sysctl's values by name, and the bytes that a new program could have now."""

    values: Mapping[str, str]
    available_bytes: int | None


def ask_darwin() -> Darwin:
    """Ask the Mac that this runs on."""
    values = parse_table(run_briefly(_SYSCTL, limit_s=_SYSCTL_LIMIT_S).output)
    return Darwin(values=values, available_bytes=int(psutil.virtual_memory().available))


def parse_memory(darwin: Darwin) -> Memory:
    """A Mac's memory; its swap grows as needed, so its size means nothing and stays unknown."""
    available = darwin.available_bytes
    return Memory(
        total_bytes=parse_number(darwin.values.get("hw.memsize")),
        available_bytes=available,
        limit_bytes=None,
        free_bytes=available,
        free_source=None if available is None else "available memory",
        swap_total_bytes=None,
        swap_free_bytes=None,
    )


def parse_board(darwin: Darwin) -> Board:
    """The Mac's model identifier, "Mac14,3"."""
    return Board(model=clean(darwin.values.get("hw.model")), vendor="Apple", is_raspberry_pi=False)


def parse_system(darwin: Darwin) -> System:
    """macOS and its version; programs on a Mac run in no container (those of Docker see a Linux)."""
    version = clean(darwin.values.get("kern.osproductversion"))
    return System(
        family="macOS",
        name=None if version is None else f"macOS {version}",
        kernel=clean(darwin.values.get("kern.osrelease")),
        container="none",
    )
