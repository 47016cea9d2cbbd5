"""Where a `run` action puts a request: which nodes are in, which layers each holds, and why every other node is out."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from mycoswarm.routing.action import Run, SplitPolicy
from mycoswarm.routing.placement import Load, Placed, Share, place_ring, place_warm, place_whole, usable_bytes
from mycoswarm.routing.snapshot import Asked, NodeState, SwarmState, WarmRing
from mycoswarm.swarm.place import PLACES

# A loaded ring is kept unless another would be more than this many times as fast: measured speeds and free memory
# fluctuate by tens of percent, and to load a model again costs more than such a difference brings.
WARM_WORTH = 2.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why one node is in or out."""

    node_id: str
    name: str
    chosen: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Site:
    """Where it can run: the layers, and who gives the model's pieces away."""

    placed: Placed
    holder_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Nowhere:
    """Why it can run nowhere: a refusal's code, and the reason in words."""

    code: str
    reason: str


class Siting:
    """One request under one `run` action. `limit`: an action of the rule that would match without the labels which the
    request adds itself, where that is another rule; what either does not allow is out."""

    def __init__(self, asked: Asked, load: Load, action: Run, limit: Run | None, swarm: SwarmState) -> None:
        self._asked, self._load, self._action, self._limit, self._swarm = asked, load, action, limit, swarm
        self._faults = {node.node_id: self._fault(node) for node in swarm.nodes}
        self._holders = swarm.holders.get(asked.model_digest or "", frozenset())
        self._able = [node for node in swarm.nodes if self._faults[node.node_id] is None]
        # Holders first: among alike nodes the first is taken, and a holder needs no pieces sent.
        self._able.sort(key=lambda node: node.node_id not in self._holders)

    def choose(self) -> Site | Nowhere:
        """Find the place."""
        placed, reason, code = self._place()
        placed, reason = self._kept(placed, reason)
        if not self._able and (strangers := self._strangers()):
            reason, code = f"this swarm has no node called {', '.join(map(repr, strangers))}", "not_found"
        if placed is None:
            return Nowhere(code, reason)
        holder_id = self._holder(placed.shares)
        if holder_id is None:
            missing = f"no node that answers now, and that the rule allows, holds the file of {self._asked.model!r}"
            return Nowhere("not_found", missing)
        return Site(placed, holder_id, reason)

    def verdicts(self, found: Site | Nowhere) -> tuple[Verdict, ...]:
        """Why each node is in or out."""
        chosen = {share.node.node_id for share in found.placed.shares} if isinstance(found, Site) else set()
        return tuple(
            Verdict(node.node_id, node.name, node.node_id in chosen, self._verdict(node, chosen))
            for node in self._swarm.nodes
        )

    def _outside_rules(self, node: NodeState) -> str | None:
        if (fault := self._action.fault(node)) is not None:
            return fault
        fault = None if self._limit is None else self._limit.fault(node)
        return None if fault is None else f"without the labels that the request adds it is out: {fault}"

    def _fault(self, node: NodeState) -> str | None:
        """Why the node may not or cannot take part, whatever the model's size; None where it can."""
        asked, narrowing = self._asked, self._asked.narrowing
        if (fault := self._outside_rules(node)) is not None:
            return fault
        if narrowing.nodes and node.name not in narrowing.nodes and node.node_id not in narrowing.nodes:
            return "the request itself names other nodes"
        if narrowing.within is not None and PLACES.index(node.place) > PLACES.index(narrowing.within):
            return f"it is {node.place}, and the request itself stays within {narrowing.within}"
        if node.node_id in narrowing.without:
            return "it was lost while this request ran"
        if node.trouble:
            return node.trouble
        if asked.model_digest in node.bad_models:
            return "this model crashed there three times in a row"
        return "its free memory is unknown" if node.free_bytes is None else None

    def _strangers(self) -> list[str]:
        """Nodes that the request or the rule names and that there are not."""
        known = {word for node in self._swarm.nodes for word in (node.name, node.node_id)}
        named = self._asked.narrowing.nodes or self._action.nodes
        return [] if known.intersection(named) else [name[:80] for name in named]

    def _holder(self, shares: Iterable[Share]) -> str | None:
        """The node that gives the model's pieces away, and so hears of the request, though never of its prompt.

        The coordinator where it can: that pieces are those of this model is the holder's word. Else one that runs it
        too, so that less is sent.
        """
        chosen = {share.node.node_id for share in shares}
        able = [
            node.node_id
            for node in self._swarm.nodes
            if node.node_id in self._holders and not node.trouble and self._outside_rules(node) is None
        ]
        own, lost = self._swarm.coordinator_id, self._asked.narrowing.without
        return min(able, key=lambda one: (one in lost, one != own, one not in chosen), default=None)

    def _verdict(self, node: NodeState, chosen: set[str]) -> str:
        fault = self._faults[node.node_id]
        if fault:
            return fault
        if node.node_id in chosen:
            return "chosen"
        if (usable_bytes(node) or 0) >= self._load.total_bytes:
            return "it could run the model, but another choice is cheaper, preferred or was asked for"
        return "its free memory, less 20 %, does not hold the whole model, and it is not needed for a ring"

    def _place(self) -> tuple[Placed | None, str, str]:
        """The placement, the reason in words, and the refusal's code where there is none."""
        load, able, wanted, policies = self._load, self._able, self._asked.narrowing, self._policies()
        solo_allowed, split_allowed = self._solo_allowed(), self._split_allowed()
        if not able:
            return None, "no node that the rule and the request allow can work now", "refused_by_rules"
        if self._asked.embeds and not solo_allowed:
            return None, "one node with the whole model makes embeddings, and a split is asked for", "cannot_split"
        if not (solo_allowed or split_allowed):
            mode = repr(wanted.mode) + _stages(wanted.stages)
            said = " and, without the labels that the request adds, ".join(map(repr, policies))
            return None, f"the request asks for {mode}, the rule says {said}", "refused_by_rules"
        whole = self._whole()
        if solo_allowed and whole:
            return whole, "it fits one node, and a ring would not make one stream faster", ""
        if not split_allowed:
            why = "a model that embeds is not split" if self._asked.embeds else "splitting is not allowed here"
            return None, f"it fits no allowed node whole, and {why}", "out_of_memory"
        if not load.cuts:
            asks = "a split is asked for" if not solo_allowed else "it fits no allowed node whole"
            return None, f"this model cannot be split, and {asks}", "cannot_split"
        if len(able) < (wanted.stages or 2):
            need = wanted.stages or 2
            return None, f"a split needs {need} nodes; {len(able)} of the allowed ones can work now", "refused_by_rules"
        ring = self._ring()
        if ring is None:
            need_words = f"{len(able)} allowed node{'s' if len(able) != 1 else ''}"
            return None, f"no ring over {need_words} can hold it" + _stages(wanted.stages), "out_of_memory"
        if whole and "split required" not in policies:
            name = whole.shares[0].node.name
            return ring, f"the request asks for a split; without that it would run whole on {name}", ""
        return ring, "the rule asks for a split" if whole else "it fits no allowed node whole", ""

    def _preferred(self) -> list[NodeState]:
        """The able nodes that the rule prefers, in its order."""
        named = {word: node for node in self._able for word in (node.node_id, node.name)}
        return [named[word] for word in dict.fromkeys(self._action.prefer) if word in named]

    def _whole(self) -> Placed | None:
        for node in self._preferred():
            if (placed := place_whole(self._load, [node])) is not None:
                return placed
        return place_whole(self._load, self._able)

    def _ring(self) -> Placed | None:
        stages, preferred = self._asked.narrowing.stages, self._preferred()
        if len(preferred) >= 2 and (placed := place_ring(self._load, preferred, stages=stages)) is not None:
            return placed
        return place_ring(self._load, self._able, stages=stages)

    def _kept(self, placed: Placed | None, reason: str) -> tuple[Placed | None, str]:
        """A ring that is loaded already, where it does what would be chosen; else the choice as it was.

        One node before several as ever, so a loaded split does not serve where the model now fits one node. A loaded
        ring needs no memory: it also serves where nothing else would fit, as its own memory is what is missing.
        """
        warm = [ring for one in self._swarm.warm if (ring := self._reachable(one)) is not None]
        if self._action.prefer and placed is not None:  # the owner's order comes before what happens to be loaded
            chosen = {share.node.node_id for share in placed.shares}
            warm = [ring for ring in warm if {share.node.node_id for share in ring.shares} == chosen]
        solos = [ring for ring in warm if len(ring.shares) == 1 and self._solo_allowed()]
        rings = [ring for ring in warm if len(ring.shares) > 1 and self._split_allowed()]
        rings = [ring for ring in rings if self._asked.narrowing.stages in (None, len(ring.shares))]
        fits_one = placed is not None and len(placed.shares) == 1
        best = min(solos or ([] if fits_one else rings), key=_rank, default=None)
        if best is None:
            return placed, reason
        if placed is None:
            return best, "it is already loaded there, and no other place has the memory"
        if len(best.shares) == 1 < len(placed.shares):
            return best, "it is already loaded there, whole on one node"
        if best.token_s > WARM_WORTH * placed.token_s:
            return placed, f"{reason}; where it is already loaded it would be much slower"
        return best, f"{reason}; it is already loaded there"

    def _reachable(self, one: WarmRing) -> Placed | None:
        """A loaded ring of this model over able nodes, with connections that go no further than is allowed now."""
        if one.model_digest != self._asked.model_digest or one.embeds != self._asked.embeds:
            return None
        far = {node_id: place for node_id, place in one.reach.items() if PLACES.index(place) > 0}
        for node in self._swarm.nodes:
            place = far.get(node.node_id)
            if place is not None and place != node.place and self._fault(replace(node, place=place)) is not None:
                return None
        return place_warm(self._load, self._able, one.shape)

    def _policies(self) -> list[SplitPolicy]:
        return [one.split for one in (self._action, self._limit) if one is not None]

    def _solo_allowed(self) -> bool:
        wanted = self._asked.narrowing
        return wanted.mode != "split" and wanted.stages in (None, 1) and "split required" not in self._policies()

    def _split_allowed(self) -> bool:
        wanted = self._asked.narrowing
        may = wanted.mode != "solo" and wanted.stages != 1 and not self._asked.embeds
        return may and "solo" not in self._policies()


def _rank(ring: Placed) -> tuple[float, list[tuple[str, int]]]:
    return ring.token_s, [(share.node.node_id, share.first) for share in ring.shares]


def _stages(stages: int | None) -> str:
    return "" if stages is None else f" in {stages} stage{'s' if stages != 1 else ''}"
