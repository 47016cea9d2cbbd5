from pathlib import Path

import pytest

from mycoswarm.hardware.pci import read_cards


def write_card(root: Path, folder: str, **files: str) -> None:
    (root / folder).mkdir(parents=True)
    for name, text in files.items():
        if name == "class_":
            name = "class"
        (root / folder / name).write_text(text + "\n")


def test_no_folder_to_look_into_is_unknown_and_an_empty_bus_is_not(tmp_path: Path) -> None:
    assert read_cards(tmp_path) is None
    write_card(tmp_path, "sys/class/drm/card0/device", uevent="OF_NAME=gpu")
    assert read_cards(tmp_path) == ()


def test_a_card_without_a_driver_is_found_on_the_bus(tmp_path: Path) -> None:
    bus = "sys/bus/pci/devices"
    write_card(tmp_path, f"{bus}/0000:01:00.0", vendor="0x10de", device="0x2204", class_="0x030200", uevent="A=1")
    write_card(tmp_path, f"{bus}/0000:01:00.1", vendor="0x10de", device="0x1aef", class_="0x040300", uevent="A=1")
    write_card(tmp_path, f"{bus}/0000:03:00.0", vendor="0x1a03", device="0x2000", class_="0x030000", uevent="A=1")
    cards = read_cards(tmp_path) or ()
    assert [(card.name, card.driver, card.pci_address) for card in cards] == [
        ("NVIDIA PCI device 10de:2204", None, "0000:01:00.0")
    ]


def test_a_card_in_both_folders_is_one(tmp_path: Path) -> None:
    facts = {"vendor": "0x8086", "device": "0x3ea5", "uevent": "DRIVER=i915\nPCI_SLOT_NAME=0000:00:02.0"}
    write_card(tmp_path, "sys/bus/pci/devices/0000:00:02.0", **facts, class_="0x030000")
    write_card(tmp_path, "sys/class/drm/card0/device", **facts)
    (card,) = read_cards(tmp_path) or ()
    assert (card.is_integrated, card.driver, card.memory_total_bytes) == (True, "i915", None)


def test_only_amds_driver_tells_memory(tmp_path: Path) -> None:
    write_card(
        tmp_path,
        "sys/class/drm/card0/device",
        vendor="0x1002",
        device="0x744c",
        uevent="PCI_SLOT_NAME=0000:0b:00.0",
        mem_info_vram_total="1000",
        mem_info_vram_used="400",
    )
    (card,) = read_cards(tmp_path) or ()
    assert (card.memory_total_bytes, card.memory_free_bytes, card.is_integrated) == (1000, 600, None)


@pytest.mark.parametrize(
    ("total", "used", "read"),
    [("1000", "-400", (1000, None)), ("-1", "0", (None, None)), ("0", "0", (None, None)), ("1000", "9999", (1000, 0))],
)
def test_memory_that_no_card_has_is_unknown(
    tmp_path: Path, total: str, used: str, read: tuple[int | None, int | None]
) -> None:
    files = {"vendor": "0x1002", "device": "0x744c", "uevent": "PCI_SLOT_NAME=0000:0b:00.0"}
    folder = "sys/class/drm/card0/device"
    write_card(tmp_path, folder, **files, mem_info_vram_total=total, mem_info_vram_used=used)
    (card,) = read_cards(tmp_path) or ()
    assert (card.memory_total_bytes, card.memory_free_bytes) == read
