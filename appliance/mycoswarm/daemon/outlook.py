"""The swarm as its coordinator sees it now: what deciding gets to know. Reads only what others measured."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from mycoswarm.base.errors import InputError, NotFoundError
from mycoswarm.base.settings import Settings
from mycoswarm.catalog.facts import ModelFacts
from mycoswarm.daemon.standing import Standing
from mycoswarm.daemon.trait import traits_of
from mycoswarm.routing.snapshot import EndpointState, NodeState, SwarmState, WarmRing
from mycoswarm.stage.pool import Warm
from mycoswarm.swarm.condition import Condition
from mycoswarm.swarm.contact import Contact
from mycoswarm.swarm.roster import Entry

# What a card may say before it counts as nothing: far past every machine and model, and safe to reckon with.
MAX_BYTES_PER_S = 1e15
MAX_THREADS = 512  # as wire/plan.py
MAX_SIZE = 1 << 50
MAX_COUNT = 1 << 31
MAX_GRADE_CHARACTERS = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where the outlook looks. `speeds`: bytes per second by node id, from real answers.
    `returning`: bytes by node id that rings would give back, or are giving back."""

    standing: Standing
    contact: Callable[[str], Contact]
    settings: Settings
    rings: Callable[[], tuple[Warm, ...]]
    returning: Callable[[], Mapping[str, int]]
    speeds: Callable[[], Mapping[str, float]]
    conditions: Callable[[], tuple[Condition, ...]]
    endpoints: Callable[[], tuple[EndpointState, ...]]


class Outlook:
    """Builds snapshots for `decide`, and knows which models the swarm holds. What cards say is checked here."""

    def __init__(self, sources: Sources) -> None:
        self._from = sources

    def swarm(self, digest: str | None) -> SwarmState:
        """The swarm for a request for one model: memory that idle rings would give back counts as free. Without a
        digest: for one that no node holds."""
        entries = self._from.standing.roster()[0].entries
        rings = self._from.rings()
        freed = self._from.returning()
        holders = frozenset(e.node_id for e in entries if any(f.digest == digest for f in self.held(e.node_id)))
        return SwarmState(
            coordinator_id=self._from.standing.coordinator_id,
            nodes=tuple(self._node(entry, freed.get(entry.node_id, 0)) for entry in entries),
            holders={digest: holders} if digest else {},
            endpoints=self._from.endpoints(),
            warm=tuple(WarmRing(ring.plan.model_digest, ring.shape, ring.reach, ring.embeds) for ring in rings),
        )

    def models(self) -> list[tuple[ModelFacts, tuple[str, ...]]]:
        """Every model that some node holds, by name, with the names of its holders."""
        found: dict[str, tuple[ModelFacts, list[str]]] = {}
        for entry in self._from.standing.roster()[0].entries:
            for facts in self.held(entry.node_id):
                found.setdefault(facts.digest, (facts, []))[1].append(entry.name)
        return [(facts, tuple(names)) for facts, names in sorted(found.values(), key=lambda pair: pair[0].name)]

    def find(self, reference: str) -> ModelFacts:
        """A model by its name, or by the beginning of its digest (at least six characters).

        Raises:
            NotFoundError: no node holds such a model, or several models fit.
            InputError: this node is a worker, which knows of no models and decides nothing.
        """
        standing = self._from.standing
        if not standing.decides:
            coordinator = standing.roster()[0].find(standing.coordinator_id)
            where = coordinator.name if coordinator else "the coordinator"
            raise InputError(
                f"this node is a worker: prompts are decided on {where}",
                hint="Ask there, or send the request to its console.",
                code="asked_a_worker",
            )
        known = [facts for facts, _ in self.models()]
        found = [facts for facts in known if facts.name == reference]
        if not found and len(reference) >= 6:
            found = [facts for facts in known if facts.digest.startswith(reference.lower())]
        if len(found) == 1:
            return found[0]
        names = ", ".join(facts.name for facts in known) or "none yet; add one with `mycoswarm-node models add FILE`"
        wrong = "more than one model of this swarm is" if found else "no node of this swarm holds a model"
        raise NotFoundError(f"{wrong} called {reference[:120]!r}", hint=f"There are: {names}.", code="model_not_found")

    def contact(self, node_id: str) -> Contact:
        """What is known of a node now."""
        return self._from.contact(node_id)

    def threads(self, node_ids: tuple[str, ...]) -> int:
        """llama.cpp's threads for a ring of these nodes: equal on all stages (DESIGN 3.6), so the least of them."""
        if self._from.settings.threads:
            return self._from.settings.threads
        known = []
        for node_id in node_ids:
            card = self.contact(node_id).card
            usable = card.facts.get("usable_threads") if card else None
            if isinstance(usable, int | float) and 1 <= usable <= MAX_THREADS:
                known.append(math.floor(usable))
        return max(1, min(known, default=1))

    def held(self, node_id: str) -> list[ModelFacts]:
        """The models whose files a node says it holds, as far as they can be."""
        card = self.contact(node_id).card
        return [facts for one in (card.models if card else ()) if (facts := _facts(one)) is not None]

    def speed(self, node_id: str) -> float | None:
        """How fast a node streams weights, in bytes per second: as answers showed, else as it says of itself."""
        card = self.contact(node_id).card
        return self._from.speeds().get(node_id, _speed(card.facts.get("bytes_per_s") if card else None))

    def grade(self, node_id: str) -> str | None:
        """The class that a node gives itself."""
        card = self.contact(node_id).card
        said = card.facts.get("class") if card else None
        name = said.get("name") if isinstance(said, dict) else None
        return name[:MAX_GRADE_CHARACTERS] if isinstance(name, str) else None

    def _node(self, entry: Entry, freed: int) -> NodeState:
        contact = self.contact(entry.node_id)
        card = contact.card
        own = entry.node_id == self._from.standing.identity.node_id
        free = None if card is None or card.free_memory_bytes is None else card.free_memory_bytes + freed
        blocked = next(
            (c.message for c in self._from.conditions() if c.blocks_work and entry.node_id in c.node_ids), None
        )
        return NodeState(
            node_id=entry.node_id,
            name=entry.name,
            place="this-machine" if own else contact.place,
            free_bytes=free,
            bytes_per_s=self.speed(entry.node_id),
            round_trip_s=contact.round_trip_s,
            tags=frozenset(entry.tags),
            trouble=contact.trouble or blocked,
            uses_gpu=bool(card and card.facts.get("uses_gpu") is True),
            facts=traits_of(
                card,
                grade=self.grade(entry.node_id),
                speed=self.speed(entry.node_id),
                round_trip_s=contact.round_trip_s,
            ),
            bad_models=_words(card.facts.get("bad_models") if card else None),
        )


def _facts(data: dict[str, Any]) -> ModelFacts | None:
    """A model of a card; None for one that another version wrote in a way we cannot read, or that cannot be."""
    try:
        facts = msgspec.convert(data, ModelFacts)
    except msgspec.ValidationError:
        return None
    sizes = (*facts.layer_bytes, *facts.kv_bytes_per_token, facts.output_bytes, facts.file_bytes)
    counts = (facts.n_layer, facts.n_embd, facts.n_vocab)
    is_sound = (
        len(facts.layer_bytes) == len(facts.kv_bytes_per_token) == facts.n_layer
        and all(0 <= size < MAX_SIZE for size in sizes)
        and all(0 < count < MAX_COUNT for count in counts)
        and 0 <= facts.n_ctx_train <= MAX_COUNT
        and all(0 < cut < facts.n_layer for cut in facts.cuts)
    )
    return facts if is_sound else None


def _speed(said: Any) -> float | None:
    """A speed out of a card, in bytes per second; what no machine has is unknown."""
    return float(said) if isinstance(said, int | float) and 0 < said < MAX_BYTES_PER_S else None


def _words(value: Any) -> frozenset[str]:
    """A list of texts out of a card; whatever else stands there is nothing."""
    return frozenset(text for text in value if isinstance(text, str)) if isinstance(value, list) else frozenset()
