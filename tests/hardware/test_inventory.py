import dataclasses
import json
from pathlib import Path

import pytest

from hardware.recording import FOLDER, NAMES, RecordedNvidia, load_expected, load_machine
from mycoswarm.hardware.disk import UNKNOWN_DISK
from mycoswarm.hardware.fit import fitting, largest
from mycoswarm.hardware.grade import classify
from mycoswarm.hardware.inventory import Sources, inspect_machine, read_machine
from mycoswarm.hardware.listing import Device, Listing
from mycoswarm.hardware.nvidia import NvidiaReading, read_nvidia
from mycoswarm.hardware.sheet import to_json

NOTHING = Sources(UNKNOWN_DISK, Listing(None, "took longer than 10 s"), NvidiaReading(None, None), None)


@pytest.mark.parametrize("name", NAMES)
def test_a_recorded_machine_is_read_as_it_was_written_down(name: str) -> None:
    machine, expected = load_machine(name), load_expected(name)
    assert json.loads(json.dumps(to_json(machine))) == expected["machine"]
    assert dataclasses.asdict(classify(machine)) == expected["class"]
    fit = largest(fitting(machine))
    assert (fit and f"{fit.size} {fit.quantisation} on {fit.device}") == expected["largest"]


def test_an_empty_root_leaves_everything_unknown(tmp_path: Path) -> None:
    machine = read_machine(tmp_path, NOTHING)
    facts = {**to_json(machine), "notes": None}
    assert not [
        value for part in facts.values() for value in (part.values() if isinstance(part, dict) else [part]) if value
    ]
    assert machine.gpus is None
    assert machine.notes == ("llama.cpp's device list could not be had: took longer than 10 s.",)


def test_a_root_that_is_not_there_leaves_everything_unknown(tmp_path: Path) -> None:
    assert read_machine(tmp_path / "absent", NOTHING) == read_machine(tmp_path, NOTHING)


def test_no_gpu_at_all_is_an_empty_list_and_not_unknown(tmp_path: Path) -> None:
    processor = Device("CPU", "some CPU", "cpu", "CPU", None, None, None)
    sources = dataclasses.replace(NOTHING, listing=Listing((processor,), None))
    assert read_machine(tmp_path, sources).gpus == ()


def test_a_silent_nvidia_driver_is_a_note_only_where_there_is_an_nvidia_card() -> None:
    refused = read_nvidia(RecordedNvidia({"error": "Driver/library version mismatch"}))
    sources = dataclasses.replace(NOTHING, listing=Listing((), None), nvidia=refused)
    with_card = read_machine(FOLDER / "workstation-2x-rtx-3090" / "root", sources)
    without = read_machine(FOLDER / "raspberry-pi-4-4gb" / "root", sources)
    assert with_card.notes == ("NVIDIA's driver did not tell all: Driver/library version mismatch.",)
    assert [gpu.name for gpu in with_card.gpus or ()][:2] == ["NVIDIA PCI device 10de:2204"] * 2
    assert without.notes == ()


@pytest.mark.parametrize(("total", "free", "read"), [(10, 11, (10, None)), (0, 0, (None, None)), (10, 10, (10, 10))])
def test_nvidias_driver_is_believed_where_it_can_be_so(
    total: int, free: int, read: tuple[int | None, int | None]
) -> None:
    card = {"name": "RTX", "bus_id": "00000000:01:00.0", "total": total, "free": free}
    (gpu,) = read_nvidia(RecordedNvidia({"driver": "1", "cards": [card]})).gpus or ()
    assert (gpu.memory_total_bytes, gpu.memory_free_bytes) == read


def test_a_software_vulkan_driver_is_noted_and_not_counted(tmp_path: Path) -> None:
    pipe = Device("Vulkan0", "llvmpipe (LLVM 15.0.6, 256 bits)", "gpu", "Vulkan", 1 << 34, 1 << 34, None)
    machine = read_machine(tmp_path, dataclasses.replace(NOTHING, listing=Listing((pipe,), None)))
    assert machine.gpus == ()
    assert machine.notes == ("llvmpipe (LLVM 15.0.6, 256 bits) computes on the CPU and is not counted as a GPU.",)


@pytest.mark.slow
def test_this_very_machine_can_be_inspected(tmp_path: Path) -> None:
    machine = inspect_machine(tmp_path)
    assert machine.memory.total_bytes
    assert machine.processor.threads
    assert machine.disk.free_bytes
