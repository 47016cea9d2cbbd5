import pytest

from hardware.recording import RecordedNvidia
from mycoswarm.hardware.nvidia import NvidiaLibrary, load_nvidia, read_nvidia

RTX = {"name": "NVIDIA GeForce RTX 3090", "bus_id": "00000000:01:00.0", "total": 24, "free": 20}
LOST = {"error": "GPU is lost"}


@pytest.mark.parametrize("library", [load_nvidia(), RecordedNvidia({"driver": "1", "cards": [RTX]})])
def test_the_real_library_and_the_recorded_one_keep_the_same_contract(library: NvidiaLibrary) -> None:
    first, second = read_nvidia(library), read_nvidia(library)
    assert (first.gpus is None) == (second.gpus is None)
    assert first.gpus is not None or first.reason
    for gpu in first.gpus or ():
        assert gpu.vendor == "NVIDIA"
        assert gpu.pci_address is not None
        assert gpu.memory_total_bytes is None or gpu.memory_total_bytes > 0


def test_the_library_is_closed_after_reading() -> None:
    library = RecordedNvidia({"driver": "560.35.03", "cards": [RTX]})
    reading = read_nvidia(library)
    assert not library.is_open
    assert [(gpu.pci_address, gpu.memory_free_bytes, gpu.driver) for gpu in reading.gpus or ()] == [
        ("0000:01:00.0", 20, "560.35.03")
    ]


def test_a_lost_card_does_not_hide_the_others() -> None:
    reading = read_nvidia(RecordedNvidia({"driver": "1", "cards": [LOST, RTX]}))
    assert len(reading.gpus or ()) == 1
    assert reading.reason == "1 of 2 NVIDIA cards did not answer"


def test_memory_that_is_shared_with_the_cpu_is_unknown_to_nvml() -> None:
    (gpu,) = read_nvidia(RecordedNvidia({"driver": "1", "cards": [RTX | {"total": None}]})).gpus or ()
    assert (gpu.memory_total_bytes, gpu.memory_free_bytes) == (None, None)


def test_a_missing_driver_is_a_reason() -> None:
    reading = read_nvidia(RecordedNvidia({"error": "NVML Shared Library Not Found"}))
    assert (reading.gpus, reading.reason) == (None, "NVML Shared Library Not Found")
