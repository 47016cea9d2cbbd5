"""What deciding looks at: the swarm as it is known now, and a request's outside. No prompt text."""

from dataclasses import dataclass, field
from typing import Literal

Place = Literal["this-machine", "LAN", "outside"]


@dataclass(frozen=True, slots=True)
class NodeState:
    """One adopted node. `free_bytes` is what a stage may take there before the margin; None where unknown.

    `bytes_per_s` is the measured speed at which decoding streams weights; `round_trip_s` the measured time to the
    coordinator and back. `trouble` says why the node cannot work now, in the owner's words, or is None.
    `bad_models` are digests that crashed there three times in a row.
    """

    node_id: str
    name: str
    place: Place
    free_bytes: int | None
    bytes_per_s: float | None
    round_trip_s: float | None
    tags: frozenset[str] = frozenset()
    trouble: str | None = None
    bad_models: frozenset[str] = frozenset()
    uses_gpu: bool = False


@dataclass(frozen=True, slots=True)
class WarmRing:
    """A ring that is loaded, or being loaded, now. `shape`: (node id, first layer, last layer) in ring order."""

    model_digest: str
    shape: tuple[tuple[str, int, int], ...]


@dataclass(frozen=True, slots=True)
class SwarmState:
    """All adopted nodes. `holders` maps a model's digest to the nodes that hold its file."""

    coordinator_id: str
    nodes: tuple[NodeState, ...]
    holders: dict[str, frozenset[str]] = field(default_factory=dict)
    warm: tuple[WarmRing, ...] = ()


@dataclass(frozen=True, slots=True)
class Narrowing:
    """What the request itself asks for; it narrows what the rules allow and never widens it.

    `mode` "any", "solo" (one node holds all layers) or "split" (at least two). `stages`: exactly so many.
    `nodes`: only these names or ids; empty is no narrowing. `without`: node ids that were lost while answering.
    """

    mode: Literal["any", "solo", "split"] = "any"
    stages: int | None = None
    nodes: tuple[str, ...] = ()
    without: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as the rules see it."""

    model: str
    model_digest: str
    task: Literal["chat", "completion"]
    prompt_characters: int
    narrowing: Narrowing = field(default_factory=Narrowing)
    key_name: str | None = None
