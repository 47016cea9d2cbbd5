"""Recorded machines: each folder under machines/ has a root, the answers of its other sources, and what we expect.

`sources.json`: disk, llama.cpp's device list (or the reason why there is none), NVML's answers, a Mac's sysctl.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mycoswarm.hardware.darwin import Darwin
from mycoswarm.hardware.disk import Disk
from mycoswarm.hardware.inventory import Sources, read_machine
from mycoswarm.hardware.listing import read_listing
from mycoswarm.hardware.machine import Machine
from mycoswarm.hardware.nvidia import NvidiaLibrary, read_nvidia
from mycoswarm.hardware.probe import Outcome
from mycoswarm.hardware.root import parse_table

FOLDER = Path(__file__).parent / "machines"
NAMES = tuple(sorted(folder.name for folder in FOLDER.iterdir()))


class RecordedError(Exception):
    """Stands for pynvml.NVMLError."""


@dataclass(frozen=True)
class RecordedMemory:
    total: int
    free: int


@dataclass(frozen=True)
class RecordedBus:
    busId: str  # noqa: N815


class RecordedNvidia:
    """NVML's answers from a file: {"driver", "cards": [...]} or {"error"}; a card may hold only an "error"."""

    NVMLError: type[Exception] = RecordedError

    def __init__(self, answers: dict[str, Any]) -> None:
        self._answers = answers
        self.is_open = False

    def nvmlInit(self) -> None:  # noqa: N802
        if "error" in self._answers:
            raise RecordedError(self._answers["error"])
        self.is_open = True

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.is_open = False

    def nvmlSystemGetDriverVersion(self) -> str:  # noqa: N802
        return str(self._answers["driver"])

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return len(self._answers["cards"])

    def nvmlDeviceGetHandleByIndex(self, index: int, /) -> dict[str, Any]:  # noqa: N802
        card: dict[str, Any] = self._answers["cards"][index]
        if "error" in card:
            raise RecordedError(card["error"])
        return card

    def nvmlDeviceGetName(self, handle: dict[str, Any], /) -> str:  # noqa: N802
        return str(handle["name"])

    def nvmlDeviceGetPciInfo(self, handle: dict[str, Any], /) -> RecordedBus:  # noqa: N802
        return RecordedBus(handle["bus_id"])

    def nvmlDeviceGetMemoryInfo(self, handle: dict[str, Any], /) -> RecordedMemory:  # noqa: N802
        if handle["total"] is None:
            raise RecordedError("Not Supported")
        return RecordedMemory(handle["total"], handle["free"])


def load_machine(name: str) -> Machine:
    """Read a recorded machine as the real one would be read."""
    recorded = json.loads((FOLDER / name / "sources.json").read_text())
    devices = recorded["devices"]
    outcome = Outcome(None if devices is None else json.dumps(devices), recorded["devices_reason"])
    nvidia: NvidiaLibrary = RecordedNvidia(recorded["nvml"])
    mac = recorded["darwin"]
    sources = Sources(
        disk=Disk(**recorded["disk"]),
        listing=read_listing(outcome),
        nvidia=read_nvidia(nvidia),
        darwin=None if mac is None else Darwin(parse_table(mac["sysctl"]), mac["available_bytes"]),
    )
    return read_machine(FOLDER / name / "root", sources)


def load_expected(name: str) -> dict[str, Any]:
    expected: dict[str, Any] = json.loads((FOLDER / name / "expected.json").read_text())
    return expected
