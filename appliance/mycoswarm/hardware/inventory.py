"""Takes the inventory of a machine: reads every source once and joins what they say."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mycoswarm.hardware.board import read_board
from mycoswarm.hardware.cgroup import read_allowance
from mycoswarm.hardware.darwin import Darwin, ask_darwin, parse_board, parse_memory, parse_system
from mycoswarm.hardware.disk import Disk, read_disk
from mycoswarm.hardware.gpu import Gpu, is_software, merge_cards, merge_gpus
from mycoswarm.hardware.listing import Listing, list_devices
from mycoswarm.hardware.machine import Machine
from mycoswarm.hardware.memory import read_memory
from mycoswarm.hardware.nvidia import NvidiaReading, load_nvidia, read_nvidia
from mycoswarm.hardware.pci import read_cards
from mycoswarm.hardware.plugin import find_plugins, plugin_folder
from mycoswarm.hardware.processor import parse_sysctl, read_processor
from mycoswarm.hardware.system import read_system
from mycoswarm.hardware.thermal import read_temperature_celsius


@dataclass(frozen=True, slots=True)
class Sources:
    """What is not a file under the root. A recorded machine brings its own; `darwin` is None but on a Mac."""

    disk: Disk
    listing: Listing
    nvidia: NvidiaReading
    darwin: Darwin | None
    plugins: tuple[str, ...] = ()


def inspect_machine(data_folder: Path) -> Machine:
    """Inspect the machine that this runs on. Blocks up to 20 s in drivers and children: call it in a thread."""
    sources = Sources(
        disk=read_disk(data_folder),
        listing=list_devices(),
        nvidia=read_nvidia(load_nvidia()),
        darwin=ask_darwin() if sys.platform == "darwin" else None,
        plugins=_plugins(),
    )
    return read_machine(Path("/"), sources)


def read_machine(root: Path, sources: Sources) -> Machine:
    """Join the files under `root` with the other sources. Total: never raises for what it finds."""
    allowance, darwin = read_allowance(root), sources.darwin
    bus = read_cards(root)
    devices = sources.listing.devices
    reported = sources.nvidia.gpus
    is_blind = bus is None and devices is None and not reported
    return Machine(
        processor=read_processor(root, allowance.cpu_threads) if darwin is None else parse_sysctl(darwin.values),
        memory=read_memory(root, allowance) if darwin is None else parse_memory(darwin),
        disk=sources.disk,
        gpus=None if is_blind else merge_gpus(merge_cards(bus or (), reported or ()), devices),
        board=read_board(root) if darwin is None else parse_board(darwin),
        system=read_system(root) if darwin is None else parse_system(darwin),
        temperature_celsius=read_temperature_celsius(root),
        notes=tuple(_note(sources, bus or ())),
    )


def _note(sources: Sources, bus: Sequence[Gpu]) -> list[str]:
    notes: list[str] = []
    if sources.listing.devices is None:
        notes.append(f"llama.cpp's device list could not be had: {sources.listing.reason or 'no reason given'}.")
    has_card = any(card.vendor == "NVIDIA" for card in bus)
    # Without an NVIDIA card it is no news that NVIDIA's library is not there.
    if sources.nvidia.reason is not None and (has_card or sources.nvidia.gpus):
        notes.append(f"NVIDIA's driver did not tell all: {sources.nvidia.reason}.")
    for device in sources.listing.devices or ():
        if device.kind in ("gpu", "igpu") and is_software(device):
            notes.append(f"{device.description} computes on the CPU and is not counted as a GPU.")
    return [*notes, *sources.plugins]


def _plugins() -> tuple[str, ...]:
    found, refused = find_plugins(plugin_folder())
    return (*(f"llama.cpp is given the further back end {path}." for path in found), *(f"{line}." for line in refused))
