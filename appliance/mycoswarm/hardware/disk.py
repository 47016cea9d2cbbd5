"""The file system that holds the data folder, models included."""

import shutil
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Disk:
    """`free_bytes` is what this user may still write, so without the part reserved for root."""

    total_bytes: int | None
    free_bytes: int | None


UNKNOWN_DISK = Disk(None, None)


def read_disk(folder: Path) -> Disk:
    """Measure the file system of `folder`, or of its nearest parent if it is not made yet."""
    try:
        for place in (folder.absolute(), *folder.absolute().parents):
            if place.exists():
                usage = shutil.disk_usage(place)
                return Disk(total_bytes=usage.total, free_bytes=usage.free)
    except (OSError, ValueError):
        return UNKNOWN_DISK
    return UNKNOWN_DISK
