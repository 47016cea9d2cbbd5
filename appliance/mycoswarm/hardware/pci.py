"""Graphics cards on the PCI bus: that they are there, whose they are, and what the driver tells about memory.

The least that can be known, for machines where neither NVML nor llama.cpp can be asked.
"""

import re
from pathlib import Path

from mycoswarm.hardware.gpu import Gpu, believable
from mycoswarm.hardware.listing import parse_pci_address
from mycoswarm.hardware.root import clean, list_names, parse_table, read_number, read_text

# PCI vendor ids (pcisig.com). Server boards' ASPEED and Matrox chips and virtual displays cannot compute.
_VENDORS = {0x10DE: "NVIDIA", 0x1002: "AMD", 0x8086: "Intel"}
# PCI class 03: display controller.
_DISPLAY_CLASS = 0x03
AMDGPU = "amdgpu"  # the kernel's driver
# Intel's integrated graphics have sat at bus 0, device 2 since 2004; its cards cannot.
_INTEL_INTEGRATED = "0000:00:02.0"


def read_cards(root: Path) -> tuple[Gpu, ...] | None:
    """The graphics cards in bus order; None when neither folder of /sys can be read."""
    bus, display = "sys/bus/pci/devices", "sys/class/drm"
    folders = [f"{bus}/{name}" for name in list_names(root, bus)]
    names = list_names(root, display)
    folders += [f"{display}/{name}/device" for name in names if re.fullmatch(r"card[0-9]+", name)]
    if not folders:
        return None
    found: dict[str, Gpu] = {}
    for folder in folders:
        card = _read_card(root, folder)
        if card is not None and card.pci_address is not None:
            found.setdefault(card.pci_address, card)
    return tuple(found[address] for address in sorted(found))


def _read_card(root: Path, folder: str) -> Gpu | None:
    vendor_id, device_id = read_number(root, f"{folder}/vendor"), read_number(root, f"{folder}/device")
    vendor = None if vendor_id is None else _VENDORS.get(vendor_id)
    kind = read_number(root, f"{folder}/class")
    if vendor is None or device_id is None or (kind is not None and kind >> 16 != _DISPLAY_CLASS):
        return None
    event = parse_table(read_text(root, f"{folder}/uevent"), "=")
    address = parse_pci_address(event.get("PCI_SLOT_NAME")) or parse_pci_address(folder.rpartition("/")[2])
    # amdgpu alone writes these two.
    total = read_number(root, f"{folder}/mem_info_vram_total")
    used = read_number(root, f"{folder}/mem_info_vram_used")
    total, free = believable(total, None if total is None or used is None else max(0, total - used))
    return Gpu(
        name=f"{vendor} PCI device {vendor_id:04x}:{device_id:04x}",
        vendor=vendor,
        memory_total_bytes=total,
        memory_free_bytes=free,
        backends=None,
        is_integrated=True if vendor == "Intel" and address == _INTEL_INTEGRATED else None,
        driver=clean(event.get("DRIVER")),
        pci_address=address,
        memory_source=None if total is None else AMDGPU,
    )
