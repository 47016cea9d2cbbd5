"""What the control group leaves this process of the machine's memory and CPU time, in versions 1 and 2.

A limit binds through every ancestor, so all groups from our own up to the mount's root are read and the
tightest one counts. In a container the path in /proc/self/cgroup may be one of the host's, which is not
mounted here: then the mount's root is our group. (Linux: Documentation/admin-guide/cgroup-v2.rst,
cgroup-v1/memory.rst.)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mycoswarm.hardware.root import has, list_names, parse_number, parse_table, read_number, read_text

# Version 1 writes "no limit" as the largest page-aligned 64-bit number; nothing real is near 2^60.
_NO_LIMIT_BYTES = 1 << 60
# Deeper nesting than this is no real machine.
_DEPTH_LIMIT = 32


@dataclass(frozen=True, slots=True)
class Allowance:
    """The tightest limits of all groups we are in; None means no limit, or none that could be read.

    `memory_room_bytes` is what may still be taken before the first limit bites: limit minus working set.
    `memory_source` names the file whose limit gives that room.
    """

    memory_limit_bytes: int | None
    memory_room_bytes: int | None
    memory_source: str | None
    cpu_threads: float | None


@dataclass(frozen=True, slots=True)
class _Layout:
    """The file names of one cgroup version. `inactive` is the key in memory.stat of a group's whole subtree."""

    usage: str
    limits: tuple[str, ...]
    inactive: str


_VERSION_2 = _Layout("memory.current", ("memory.max", "memory.high"), "inactive_file")
_VERSION_1 = _Layout("memory.usage_in_bytes", ("memory.limit_in_bytes",), "total_inactive_file")


def read_allowance(root: Path) -> Allowance:
    """Read the limits under the root; on a machine without control groups all is None."""
    paths = parse_membership(read_text(root, "proc/self/cgroup"))
    mounts = _find_mounts(root)
    unified = _chain(root, mounts.get(""), paths.get("", "/"))
    memory = _chain(root, mounts.get("memory"), paths.get("memory", "/"))
    cpu = _chain(root, mounts.get("cpu"), paths.get("cpu", "/"))
    limits = [found for group in unified for found in _read_memory(root, group, _VERSION_2)]
    limits += [found for group in memory for found in _read_memory(root, group, _VERSION_1)]
    quotas = [_read_quota_2(root, group) for group in unified] + [_read_quota_1(root, group) for group in cpu]
    known = [quota for quota in quotas if quota is not None]
    rooms = [(room, source) for _, room, source in limits if room is not None]
    room, source = min(rooms) if rooms else (None, None)
    return Allowance(
        memory_limit_bytes=min((limit for limit, _, _ in limits), default=None),
        memory_room_bytes=room,
        memory_source=source,
        cpu_threads=min(known, default=None),
    )


def parse_membership(text: str | None) -> dict[str, str]:
    """Read /proc/self/cgroup: controller to path; version 2 is the empty controller name."""
    found: dict[str, str] = {}
    for line in (text or "").splitlines():
        number, _, rest = line.partition(":")
        controllers, colon, path = rest.partition(":")
        if number.isdigit() and colon and path.startswith("/"):
            for controller in controllers.split(","):
                found.setdefault(controller, path)
    return found


def _find_mounts(root: Path) -> dict[str, str]:
    """Where each hierarchy is mounted, by the places that every distribution uses."""
    base = "sys/fs/cgroup"
    if has(root, f"{base}/cgroup.controllers") or has(root, f"{base}/memory.max"):
        return {"": base}
    mounts = {"": f"{base}/unified"}
    for name in list_names(root, base):
        for controller in name.split(","):
            mounts.setdefault(controller, f"{base}/{name}")
    return mounts


def _chain(root: Path, mount: str | None, path: str) -> Sequence[str]:
    """The folders from our own group up to the mount's root; only that root when our path is not mounted here."""
    if mount is None:
        return ()
    parts = [part for part in path.split("/") if part]
    if ".." in parts or len(parts) > _DEPTH_LIMIT or not has(root, "/".join([mount, *parts])):
        parts = []
    return ["/".join([mount, *parts[:length]]) for length in range(len(parts), -1, -1)]


def _read_memory(root: Path, group: str, layout: _Layout) -> Sequence[tuple[int, int | None, str]]:
    """(limit, room, source) for each limit that this group sets."""
    usage = read_number(root, f"{group}/{layout.usage}")
    inactive = parse_number(parse_table(read_text(root, f"{group}/memory.stat"), " ").get(layout.inactive))
    found: list[tuple[int, int | None, str]] = []
    for name in layout.limits:
        limit = read_number(root, f"{group}/{name}")
        if limit is None or not 0 <= limit < _NO_LIMIT_BYTES:
            continue
        # The working set as the kubelet and Docker count it: the kernel hands inactive file pages back
        # before it refuses memory, and a memory-mapped model that was read once is all such pages.
        used = None if usage is None else max(0, usage - (inactive or 0))
        found.append((limit, None if used is None else max(0, limit - used), f"cgroup {name}"))
    return found


def _read_quota_2(root: Path, group: str) -> float | None:
    """cpu.max is "QUOTA PERIOD" or "max PERIOD"."""
    quota, _, period = (read_text(root, f"{group}/cpu.max") or "").partition(" ")
    return _divide(parse_number(quota), parse_number(period))


def _read_quota_1(root: Path, group: str) -> float | None:
    return _divide(
        read_number(root, f"{group}/cpu.cfs_quota_us"),
        read_number(root, f"{group}/cpu.cfs_period_us"),
    )


def _divide(quota: int | None, period: int | None) -> float | None:
    """Threads' worth of CPU time; a quota of -1 is version 1's "no limit"."""
    if quota is None or period is None or quota <= 0 or period <= 0:
        return None
    return quota / period
