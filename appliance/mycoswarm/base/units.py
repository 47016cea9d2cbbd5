"""Bytes, seconds and counts as people write them."""

import re

from mycoswarm.base.errors import InputError

KIB, MIB, GIB, TIB = 1 << 10, 1 << 20, 1 << 30, 1 << 40
_FACTORS = {"": 1, "b": 1, "k": KIB, "kib": KIB, "m": MIB, "mib": MIB, "g": GIB, "gib": GIB, "t": TIB, "tib": TIB}
_FACTORS |= {"kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_bytes(text: str) -> int:
    """Read "512", "24 GiB", "1.5g", "500 MB" as bytes; kB, MB, GB, TB are powers of ten, all others of two.

    Raises:
        InputError: not a size.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", text)
    factor = _FACTORS.get(found[2].lower()) if found else None
    if found is None or factor is None:
        raise InputError(f"{text!r} is not a size", hint='Write a size such as "24 GiB" or "500 MB".')
    return int(float(found[1]) * factor)


def format_bytes(count: int | None) -> str:
    """Write bytes for a person in powers of two: "3.4 GiB"; None is "unknown"."""
    if count is None:
        return "unknown"
    for factor, name in ((TIB, "TiB"), (GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if abs(count) >= factor:
            return f"{count / factor:.1f} {name}"
    return f"{count} B"


def parse_seconds(text: str) -> float:
    """Read "90", "15m", "1.5h", "250ms", "7d" as seconds.

    Raises:
        InputError: not a duration.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|)\s*", text)
    if found is None:
        raise InputError(f"{text!r} is not a duration", hint='Write a duration such as "15m" or "2h".')
    return float(found[1]) * _SECONDS[found[2] or "s"]


def format_seconds(seconds: float | None) -> str:
    """Write seconds for a person: "340 µs", "12.5 ms", "3.2 s", "4 min"; None is "unknown"."""
    if seconds is None:
        return "unknown"
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 1:
        return f"{seconds * 1e3:.1f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min"
