"""Which nodes an action names: by name, tag, place, or facts such as `vram_bytes >= 24GiB`. All given parts must hold.

Names, tags and places are the owner's and ours; facts are what a node says of itself.
"""

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from mycoswarm.routing.snapshot import Fact, NodeState

# What a node's card tells, as outlook.py writes it; a condition on anything else is a mistake.
FACTS = (
    "vram_bytes",
    "memory_bytes",
    "free_bytes",
    "cores",
    "class",
    "board",
    "system",
    "architecture",
    "gpu",
    "bytes_per_s",
    "round_trip_s",
)
MAX_NUMBER = 1e30  # past every size, speed and count
_TEXTS = ("class", "board", "system", "architecture")
_FORM = re.compile(r"\s*([a-z_]+)\s*(>=|<=|!=|=|>|<)\s*([^=<>!\s].{0,79}?)\s*")
_NUMBER = re.compile(r"([0-9]+(?:\.[0-9]+)?(?:e[0-9]{1,2})?)\s*([A-Za-z/]*)")
_BYTES: dict[str, float] = {"B": 1, "kB": 1000}
_BYTES |= {f"{letter}iB": 1 << 10 * power for power, letter in enumerate("KMGT", 1)}
_BYTES |= {f"{letter}B": 1000**power for power, letter in enumerate("KMGT", 1)}
_PER_S = _BYTES | {f"{unit}/s": size for unit, size in _BYTES.items()}
_COUNT: dict[str, float] = {"": 1}
_TIME: dict[str, float] = {"s": 1, "ms": 0.001}
_COMPARE: dict[str, Callable[[Fact, Fact], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
    "=": operator.eq,
    "!=": operator.ne,
}


@dataclass(frozen=True, slots=True)
class FactCheck:
    """One condition on a fact."""

    text: str
    name: str
    compare: Callable[[Fact, Fact], bool]
    wanted: Fact

    def fault(self, node: NodeState) -> str | None:
        """Say why the node does not meet it; what is unknown does not."""
        said = node.facts.get(self.name)
        value = said.casefold() if isinstance(said, str) else said
        # What is of the wrong kind is as good as unknown: "8" is no number of cores, 1 no GPU.
        if value is None or not _is_sane(value) or _kind(value) is not _kind(self.wanted):
            return f"its {self.name} is unknown, and the rule wants {self.text}"
        if not self.compare(value, self.wanted):
            return f"its {self.name} is {said!r:.80}, and the rule wants {self.text}"
        return None


@lru_cache(maxsize=1024)
def read_fact(text: str) -> FactCheck | None:
    """Read a condition such as "vram_bytes >= 24GiB" or "class = GPU worker"; None where it is none."""
    form = _FORM.fullmatch(text)
    if form is None or form[1] not in FACTS:
        return None
    name, sign, word = form[1], form[2], form[3]
    if name in _TEXTS:
        return FactCheck(text.strip(), name, _COMPARE[sign], word.casefold()) if sign in ("=", "!=") else None
    if name == "gpu":
        wanted = {"true": True, "yes": True, "false": False, "no": False}.get(word.lower())
        return FactCheck(text.strip(), name, _COMPARE[sign], wanted) if wanted is not None and sign == "=" else None
    number, units = _NUMBER.fullmatch(word), _units(name)
    if number is None or number[2] not in units:
        return None
    return FactCheck(text.strip(), name, _COMPARE[sign], float(number[1]) * units[number[2]])


def _units(name: str) -> dict[str, float]:
    """The units of a fact. Sizes and times must say theirs: "vram_bytes >= 24" is never meant as 24 bytes."""
    if name.endswith("_bytes"):
        return _BYTES
    if name == "bytes_per_s":
        return _PER_S
    return _TIME if name.endswith("_s") else _COUNT


def _kind(value: Fact) -> type:
    return type(value) if isinstance(value, str | bool) else float


def _is_sane(value: Fact) -> bool:
    """Neither NaN nor a number that is too long to be written down."""
    return isinstance(value, str) or abs(value) < MAX_NUMBER
