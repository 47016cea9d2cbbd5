"""NVIDIA's own management library (NVML), through the package nvidia-ml-py: names, memory, driver."""

from dataclasses import dataclass
from typing import Any, Protocol

import pynvml

from mycoswarm.hardware.gpu import Gpu, believable
from mycoswarm.hardware.listing import parse_pci_address
from mycoswarm.hardware.root import clean

NVML = "NVML"  # the source of a reading
# NVML numbers cards from 0; more than this is no machine that a person owns.
_CARDS_LIMIT = 64


class NvidiaLibrary(Protocol):
    """The part of pynvml that we call, under its own names (hence N802), so that the module itself is one.

    `Any`: handles and structures are ctypes objects of a package without types; they do not leave this file.
    """

    NVMLError: type[Exception]

    def nvmlInit(self) -> None: ...  # noqa: N802
    def nvmlShutdown(self) -> None: ...  # noqa: N802
    def nvmlSystemGetDriverVersion(self) -> Any: ...  # noqa: N802
    def nvmlDeviceGetCount(self) -> Any: ...  # noqa: N802
    def nvmlDeviceGetHandleByIndex(self, index: int, /) -> Any: ...  # noqa: N802
    def nvmlDeviceGetName(self, handle: Any, /) -> Any: ...  # noqa: N802
    def nvmlDeviceGetPciInfo(self, handle: Any, /) -> Any: ...  # noqa: N802
    def nvmlDeviceGetMemoryInfo(self, handle: Any, /) -> Any: ...  # noqa: N802


@dataclass(frozen=True, slots=True)
class NvidiaReading:
    """The cards, or None and why NVML could not be asked: most often there is no NVIDIA driver."""

    gpus: tuple[Gpu, ...] | None
    reason: str | None


def load_nvidia() -> NvidiaLibrary:
    """The real library. Loading it opens no driver yet."""
    return pynvml  # type: ignore[no-any-return,unused-ignore]  # the package has no types


def read_nvidia(library: NvidiaLibrary) -> NvidiaReading:
    """Ask NVML for its cards. A card that fails (lost from the bus) is left out; the library's failure is a reason."""
    try:
        library.nvmlInit()
    except library.NVMLError as exc:
        return NvidiaReading(None, clean(str(exc)))
    try:
        count = int(library.nvmlDeviceGetCount())
        driver = _text(library.nvmlSystemGetDriverVersion())
        cards = [_read_card(library, index, driver) for index in range(min(count, _CARDS_LIMIT))]
    except library.NVMLError as exc:
        return NvidiaReading(None, clean(str(exc)))
    finally:
        library.nvmlShutdown()
    lost = sum(card is None for card in cards)
    reason = f"{lost} of {count} NVIDIA cards did not answer" if lost else None
    return NvidiaReading(tuple(card for card in cards if card is not None), reason)


def _read_card(library: NvidiaLibrary, index: int, driver: str | None) -> Gpu | None:
    try:
        handle = library.nvmlDeviceGetHandleByIndex(index)
        name = _text(library.nvmlDeviceGetName(handle))
        address = parse_pci_address(_text(library.nvmlDeviceGetPciInfo(handle).busId))
    except library.NVMLError:
        return None
    total, free = _read_memory(library, handle)
    return Gpu(
        name=name or "NVIDIA GPU",
        vendor="NVIDIA",
        memory_total_bytes=total,
        memory_free_bytes=free,
        backends=None,
        is_integrated=None,
        driver=driver,
        pci_address=address,
        memory_source=None if total is None else NVML,
    )


def _read_memory(library: NvidiaLibrary, handle: Any) -> tuple[int | None, int | None]:
    """(total, free); chips that share the CPU's memory (GB10, Jetson) answer "not supported"."""
    try:
        memory = library.nvmlDeviceGetMemoryInfo(handle)
    except library.NVMLError:
        return None, None
    return believable(int(memory.total), int(memory.free))


def _text(value: Any) -> str | None:
    """Old drivers' bindings give bytes."""
    return clean(value.decode("utf-8", errors="replace") if isinstance(value, bytes) else str(value))
