"""Where a request's time went, in lines: out of a row of the ledger, which may have been altered."""

from collections.abc import Iterator
from typing import Any

from mycoswarm.base.units import format_seconds

_PHASES = (
    ("deciding_s", "deciding took"),
    ("opening_s", "loading or connecting"),
    ("first_s", "first word after"),
    ("answering_s", "answered in"),
)
_MOST = 1e9  # seconds; no head can report more


def timing_lines(timing: Any) -> Iterator[str]:
    """The phases of each try, then each stage at the median token. Nothing where the row has no such figures."""
    if not isinstance(timing, dict):
        return
    if "first_token_s" in timing:
        yield f"first word {_took(timing['first_token_s'])} after it was asked"
    if "asking_s" in timing:
        yield f"the owner was asked for {_took(timing['asking_s'])}"
    for number, one in enumerate(_objects(timing.get("tries")), 1):
        phases = [(name, words) for name, words in _PHASES if name in one]
        if phases and phases[-1][0] == "first_s":
            phases[-1] = ("first_s", "no word in")  # it broke off, or there was none to say
        yield f"try {number}: " + ", ".join(f"{words} {_took(one[name])}" for name, words in phases)
    if "prefill_s" in timing:
        yield f"of it in the queue {_took(timing.get('queued_s'))}, reading the prompt {_took(timing['prefill_s'])}"
    for one in _objects(timing.get("stages")):
        hop = "" if one.get("hop_median_s") is None else f", {_took(one['hop_median_s'])} to the next"
        layers = one.get("layers")
        where = f"[{layers[0]}, {layers[1]})" if isinstance(layers, list) and len(layers) == 2 else layers
        yield f"stage {one.get('node')} {where}: {_took(one.get('compute_median_s'))} for a token{hop}"


def _objects(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _took(value: Any) -> str:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and -_MOST < value < _MOST
    return format_seconds(value if is_number else None)
