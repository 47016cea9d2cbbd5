import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mycoswarm.hardware.listing import Listing, list_devices, parse_pci_address, read_listing
from mycoswarm.hardware.probe import Outcome

CARD = {
    "name": "CUDA0",
    "description": "NVIDIA GeForce RTX 3090",
    "kind": "gpu",
    "backend": "CUDA",
    "memory_free_bytes": 5,
    "memory_total_bytes": 9,
    "id": "0000:01:00.0",
}
json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(sorted(CARD)), inner),
    max_leaves=20,
)


def read(answer: object) -> Listing:
    return read_listing(Outcome(json.dumps(answer), None))


@settings(deadline=None, max_examples=50)
@given(st.text() | json_values.map(json.dumps))
def test_any_answer_gives_devices_or_a_reason(text: str) -> None:
    listing = read_listing(Outcome(text, None))
    assert (listing.devices is None) == (listing.reason is not None)


def test_a_sound_answer_is_read() -> None:
    devices = read([CARD]).devices
    assert devices is not None
    assert (devices[0].backend, devices[0].memory_total_bytes, devices[0].pci_address) == ("CUDA", 9, "0000:01:00.0")


@pytest.mark.parametrize("wrong", [{"name": None}, {"kind": "toaster"}, {"backend": 3}])
def test_one_wrong_device_spoils_the_list(wrong: dict[str, object]) -> None:
    assert read([CARD, CARD | wrong]).reason == "gave a device that cannot be understood"


def test_memory_that_makes_no_sense_is_unknown() -> None:
    devices = read([CARD | {"memory_total_bytes": -1, "memory_free_bytes": True}]).devices
    assert devices is not None
    assert (devices[0].memory_total_bytes, devices[0].memory_free_bytes) == (None, None)


def test_metal_goes_by_its_name() -> None:
    devices = read([CARD | {"backend": "MTL"}]).devices
    assert devices is not None
    assert devices[0].backend == "Metal"


def test_an_endless_list_is_refused() -> None:
    assert read([CARD] * 65).devices is None


def test_a_machine_without_llama_cpp_is_told_so() -> None:
    missing = Outcome(None, "ended with code 1: ModuleNotFoundError: No module named 'llama_cpp'")
    assert read_listing(missing) == Listing(None, "llama.cpp is not installed here")


def test_a_command_that_starts_nothing_is_a_reason() -> None:
    assert list_devices(("mycoswarm-no-such-command",)).devices is None


def test_pci_addresses_are_written_as_linux_does() -> None:
    assert parse_pci_address("00000000:0A:00.0") == "0000:0a:00.0"
    assert [parse_pci_address(text) for text in ("", "1:2:3", "Apple M2", None)] == [None] * 4
