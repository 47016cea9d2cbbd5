"""Bytes, seconds and counts as people write them."""

import re

from mycoswarm.base.errors import InputError

KIB, MIB, GIB, TIB = 1 << 10, 1 << 20, 1 << 30, 1 << 40
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_MAX_CHARACTERS = 100  # of a duration: more digits than 309 would be no number any more


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
        InputError: not a duration, or longer than any number.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|)\s*", text)
    if found is None or len(text) > _MAX_CHARACTERS:
        raise InputError(
            f"{text[:_MAX_CHARACTERS]!r} is not a duration", hint='Write a duration such as "15m" or "2h".'
        )
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
