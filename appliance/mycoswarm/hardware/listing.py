"""llama.cpp's own list of the devices that it can compute on, taken from a child process."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from mycoswarm.base.program import module_words
from mycoswarm.hardware.probe import Outcome, run_briefly
from mycoswarm.hardware.root import clean

DEVICES = module_words("mycoswarm.hardware.devices")
# Starting a GPU driver for the first time after boot takes seconds.
LISTING_LIMIT_S = 10.0
# A llama.cpp build knows at most 16 devices per back end (GGML_CUDA_MAX_DEVICES, GGML_VK_MAX_DEVICES).
_DEVICES_LIMIT = 64
_KINDS = frozenset({"cpu", "gpu", "igpu", "accel", "meta"})
_BYTES_LIMIT = 1 << 60
_PCI_ADDRESS = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")


@dataclass(frozen=True, slots=True)
class Device:
    """One device of llama.cpp. `kind`: cpu, gpu (own memory), igpu (shares the CPU's), accel (BLAS, AMX), meta.

    `backend` is llama.cpp's name for it: CPU, CUDA, ROCm, Vulkan, Metal, SYCL, ...
    """

    name: str
    description: str
    kind: str
    backend: str
    memory_total_bytes: int | None
    memory_free_bytes: int | None
    pci_address: str | None


@dataclass(frozen=True, slots=True)
class Listing:
    """The devices, or None and the reason why llama.cpp could not be asked."""

    devices: tuple[Device, ...] | None
    reason: str | None


def list_devices(command: Sequence[str] = DEVICES, *, limit_s: float = LISTING_LIMIT_S) -> Listing:
    """Ask llama.cpp in a child process. Blocks up to `limit_s` seconds; never raises for what the child does."""
    return read_listing(run_briefly(command, limit_s=limit_s))


def read_listing(outcome: Outcome) -> Listing:
    """Read the child's answer, strictly: one wrong entry and the whole list is not believed."""
    if outcome.output is None:
        missing = "No module named 'llama_cpp'" in (outcome.reason or "")
        return Listing(None, "llama.cpp is not installed here" if missing else outcome.reason)
    try:
        answer = json.loads(outcome.output)
    except (ValueError, RecursionError):
        return Listing(None, "gave an answer that is not JSON")
    if not isinstance(answer, list) or len(answer) > _DEVICES_LIMIT:
        return Listing(None, "gave an answer that is not a list of devices")
    devices = [_parse_device(entry) for entry in answer]
    known = tuple(device for device in devices if device is not None)
    if len(known) != len(devices):
        return Listing(None, "gave a device that cannot be understood")
    return Listing(known, None)


def parse_pci_address(text: str | None) -> str | None:
    """A PCI address as Linux writes it, "0000:01:00.0"; NVML's eight-digit domain is shortened. None otherwise."""
    lower = (text or "").strip().lower()
    if not _PCI_ADDRESS.fullmatch(lower):
        return None
    domain, _, rest = lower.partition(":")
    return f"{int(domain, 16):04x}:{rest}"


def _parse_device(entry: object) -> Device | None:
    if not isinstance(entry, dict):
        return None
    name, description = _word(entry.get("name")), _word(entry.get("description"))
    kind, backend = _word(entry.get("kind")), _word(entry.get("backend"))
    if name is None or kind not in _KINDS or backend is None:
        return None
    identity = entry.get("id")
    return Device(
        name=name,
        description=description or name,
        kind=kind,
        backend="Metal" if backend == "MTL" else backend,  # GGML_METAL_NAME in ggml-metal.cpp
        memory_total_bytes=_size(entry.get("memory_total_bytes")),
        memory_free_bytes=_size(entry.get("memory_free_bytes")),
        pci_address=parse_pci_address(identity) if isinstance(identity, str) else None,
    )


def _word(value: object) -> str | None:
    return clean(value) if isinstance(value, str) else None


def _size(value: object) -> int | None:
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if 0 <= value < _BYTES_LIMIT else None
