"""The GPUs: three sources that each know a part, merged so that one card is one GPU.

The PCI bus says that a card is there and whose it is. NVML says what an NVIDIA card is called and how much
of its memory is free. llama.cpp says what it can compute on, which is what counts in the end, and is the only
source for Metal, and for Vulkan's and ROCm's view of a card.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mycoswarm.hardware.listing import Device

# Vulkan drivers that compute on the CPU: they are no GPU, and slower than the CPU back end.
_SOFTWARE = ("llvmpipe", "lavapipe", "swiftshader", "software rasterizer", "microsoft basic render")
_VENDOR_WORDS = (
    ("NVIDIA", ("nvidia", "geforce", "quadro", "tesla")),
    ("AMD", ("amd", "radeon", "instinct")),
    ("Intel", ("intel",)),
    ("Apple", ("apple",)),
    ("Broadcom", ("v3d", "videocore")),
    ("Qualcomm", ("adreno", "qualcomm")),
    ("Arm", ("mali",)),
)


@dataclass(frozen=True, slots=True)
class Gpu:
    """One graphics processor, whoever reported it.

    `backends` are llama.cpp's that can use it here: () none can, None llama.cpp could not be asked.
    `is_integrated`: its memory is the CPU's. `memory_free_bytes` was free at the time of the reading; `memory_source`
    says whose reading of its memory this is, None where there is none.
    """

    name: str
    vendor: str | None
    memory_total_bytes: int | None
    memory_free_bytes: int | None
    backends: tuple[str, ...] | None
    is_integrated: bool | None
    driver: str | None
    pci_address: str | None
    memory_source: str | None = None


def believable(total_bytes: int | None, free_bytes: int | None) -> tuple[int | None, int | None]:
    """A card's memory as its driver tells it, (total, free); what no card has is unknown."""
    if total_bytes is None or total_bytes <= 0:
        return None, None
    return total_bytes, free_bytes if free_bytes is not None and 0 <= free_bytes <= total_bytes else None


def merge_gpus(cards: Sequence[Gpu], devices: Sequence[Device] | None) -> tuple[Gpu, ...]:
    """All GPUs: the cards that PCI and NVML found, with llama.cpp's devices laid over them; the rest is added."""
    merged = list(cards)
    for index, card in enumerate(merged):
        merged[index] = replace(card, backends=None if devices is None else ())
    for device in devices or ():
        if device.kind not in ("gpu", "igpu") or is_software(device):
            continue
        place = _find(merged, device)
        if place is None:
            merged.append(_from_device(device))
        else:
            merged[place] = _overlay(merged[place], device)
    return tuple(merged)


def merge_cards(bus: Sequence[Gpu], reported: Sequence[Gpu]) -> tuple[Gpu, ...]:
    """The PCI bus's cards, with what NVML reports about the same addresses in their place."""
    by_address = {card.pci_address: card for card in reported if card.pci_address is not None}
    known = {card.pci_address for card in bus}
    places = [by_address.get(card.pci_address, card) if card.pci_address else card for card in bus]
    return (*places, *(card for card in reported if card.pci_address is None or card.pci_address not in known))


def find_vendor(name: str) -> str | None:
    """The maker, from the name that a driver gives; None when no maker's word is in it."""
    lower = name.lower()
    for vendor, words in _VENDOR_WORDS:
        if any(word in lower for word in words):
            return vendor
    return None


def is_software(device: Device) -> bool:
    """Whether this "GPU" is a driver that computes on the CPU."""
    return any(word in device.description.lower() for word in _SOFTWARE)


def _find(gpus: Sequence[Gpu], device: Device) -> int | None:
    """The GPU that this device is: by address, else by name, else as the maker's only one left."""
    if device.pci_address is not None:
        for index, gpu in enumerate(gpus):
            if gpu.pci_address == device.pci_address:
                return index
    vendor = find_vendor(device.description)
    left = [
        index
        for index, gpu in enumerate(gpus)
        if gpu.vendor == vendor
        and device.backend not in (gpu.backends or ())
        and (gpu.pci_address is None or device.pci_address is None)
    ]
    named = [index for index in left if _same_name(gpus[index].name, device.description)]
    if named:
        return named[0]
    return left[0] if len(left) == 1 and vendor is not None else None


def _same_name(one: str, other: str) -> bool:
    """Vulkan adds the driver's name in brackets: "AMD Radeon RX 7900 XTX (RADV NAVI31)"."""
    short, long = sorted((one.lower().split(" (")[0].strip(), other.lower().split(" (")[0].strip()), key=len)
    return bool(short) and long.endswith(short)


def _from_device(device: Device) -> Gpu:
    vendor = find_vendor(device.description)
    return Gpu(
        name=device.description,
        vendor=vendor,
        memory_total_bytes=device.memory_total_bytes,
        memory_free_bytes=device.memory_free_bytes,
        backends=(device.backend,),
        is_integrated=_shares_memory(device, vendor),
        driver=None,
        pci_address=device.pci_address,
        memory_source=_source(device),
    )


def _overlay(gpu: Gpu, device: Device) -> Gpu:
    """The GPU with one more back end. A reading that is there stays, but for shared memory, of which PCI
    only sees the small part that the firmware set aside."""
    shares = _shares_memory(device, gpu.vendor)
    takes_memory = gpu.memory_total_bytes is None or (shares and gpu.vendor != "NVIDIA")
    return replace(
        gpu,
        name=device.description if "PCI device" in gpu.name else gpu.name,
        memory_total_bytes=device.memory_total_bytes if takes_memory else gpu.memory_total_bytes,
        memory_free_bytes=device.memory_free_bytes if takes_memory else gpu.memory_free_bytes,
        backends=tuple(dict.fromkeys((*(gpu.backends or ()), device.backend))),
        is_integrated=shares if gpu.is_integrated is None else gpu.is_integrated,
        pci_address=gpu.pci_address or device.pci_address,
        memory_source=_source(device) if takes_memory else gpu.memory_source,
    )


def _source(device: Device) -> str | None:
    """llama.cpp is only asked when the node starts: it tells a process of its own, which takes seconds."""
    return None if device.memory_total_bytes is None else f"{device.backend}, at first look"


def _shares_memory(device: Device, vendor: str | None) -> bool:
    """Metal calls every device "gpu", also Apple's own, which have no memory of their own."""
    return device.kind == "igpu" or vendor == "Apple"
