"""What deciding looks at: the swarm as it is known now, and a request's outside. No prompt text."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from mycoswarm.swarm.place import Place

EMBEDDING = "embedding"  # the one task that no ring of several stages does

Fact = str | int | float | bool


@dataclass(frozen=True, slots=True)
class NodeState:
    """One adopted node. `free_bytes` is what a stage may take there before the margin; None where unknown.

    `bytes_per_s` is the measured speed at which decoding streams weights; `round_trip_s` the measured time to the
    coordinator and back. `trouble` says why the node cannot work now, in the owner's words, or is None.
    `bad_models` are digests that crashed there three times in a row. `facts` are those that rules can ask for
    (selector.py); what is unknown is not in them.
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
    facts: Mapping[str, Fact] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class WarmRing:
    """A ring that is loaded, or being loaded, now. `shape`: (node id, first layer, last layer) in ring order.

    `reach`: by node id, the furthest place over which its connections may go; nothing is known of others. `embeds`: it
    makes embeddings, and nothing else; others make none.
    """

    model_digest: str
    shape: tuple[tuple[str, int, int], ...]
    reach: Mapping[str, Place] = field(default_factory=dict)
    embeds: bool = False


@dataclass(frozen=True, slots=True)
class EndpointState:
    """An external endpoint that the owner registered, and where it is registered to be. Only "LAN" is held to.

    `since` is when: an endpoint that was registered anew under an old name is another one."""

    name: str
    place: Place = "outside"
    models: tuple[str, ...] = ()
    since: float = 0.0


@dataclass(frozen=True, slots=True)
class SwarmState:
    """All adopted nodes and registered endpoints. `holders`: by a model's digest, the nodes that hold its file."""

    coordinator_id: str
    nodes: tuple[NodeState, ...]
    holders: dict[str, frozenset[str]] = field(default_factory=dict)
    warm: tuple[WarmRing, ...] = ()
    endpoints: tuple[EndpointState, ...] = ()


@dataclass(frozen=True, slots=True)
class Narrowing:
    """What the request itself asks for; it narrows what the rules allow and never widens it.

    `mode` "any", "solo" (one node holds all layers) or "split" (at least two). `stages`: exactly so many.
    `nodes`: only these names or ids; empty is no narrowing. `within`: no further away than this place. `without`: node
    ids and endpoint names that were lost while answering.
    """

    mode: Literal["any", "solo", "split"] = "any"
    stages: int | None = None
    nodes: tuple[str, ...] = ()
    within: Place | None = None
    without: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as the rules see it. `model_digest` is None where no node holds such a model.

    `task`: chat, completion, embedding, agent, tool:NAME. `labels` are the owner's (of the key, the agent, the folder);
    `added` those that the request brings itself, which can only narrow. `client` is the address it came from.
    `at` is seconds since 1970.
    """

    model: str
    model_digest: str | None
    task: str
    prompt_characters: int
    narrowing: Narrowing = field(default_factory=Narrowing)
    key_name: str | None = None
    user: str | None = None
    labels: frozenset[str] = frozenset()
    added: frozenset[str] = frozenset()
    client: str | None = None
    at: float = 0.0

    @property
    def embeds(self) -> bool:
        """Whether vectors are wanted: they are made by one node that holds the whole model."""
        return self.task == EMBEDDING
