"""`decide`: one pure function from a request, the rules and the swarm to a decision or a refusal, explained."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mycoswarm.routing.placement import Load, Placed, place_ring, place_warm, place_whole, usable_bytes
from mycoswarm.routing.rule import Rule
from mycoswarm.routing.snapshot import Asked, NodeState, SwarmState

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
class Explanation:
    """`rule` is the one that matched, `passed` earlier ones with the condition that failed."""

    rule: str | None
    passed: tuple[tuple[str, str], ...]
    verdicts: tuple[Verdict, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Decision:
    """Run here. `honest` says what would have been chosen without the request's own narrowing, where that differs."""

    rule: str
    placed: Placed
    holder_id: str
    explanation: Explanation

    @property
    def tokens_per_s(self) -> float:
        """Predicted decoding speed of one stream."""
        return 1 / self.placed.token_s if self.placed.token_s > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Refusal:
    """Nowhere. `code` is "refused_by_rules", "out_of_memory", "cannot_split" or "not_found"."""

    code: str
    message: str
    explanation: Explanation


def decide(asked: Asked, load: Load, rules: Sequence[Rule], swarm: SwarmState) -> Decision | Refusal:
    """Choose where a request runs. Total: any input gives a Decision or a Refusal, the same input the same one."""
    passed: list[tuple[str, str]] = []
    for rule in rules:
        mismatch = rule.mismatch(asked)
        if mismatch is None:
            return _run(asked, load, rule, swarm, tuple(passed))
        passed.append((rule.name, mismatch))
    nothing = Explanation(None, tuple(passed), (), "no rule matches, and no match refuses")
    return Refusal("refused_by_rules", "no rule allows this request anywhere", nothing)


def _fault(node: NodeState, asked: Asked, rule: Rule) -> str | None:
    """Why the node may not or cannot take part, whatever the model's size; None where it can."""
    narrowing = asked.narrowing
    outside = rule.action.fault(node)
    if outside:
        return outside
    if narrowing.nodes and node.name not in narrowing.nodes and node.node_id not in narrowing.nodes:
        return "the request itself names other nodes"
    if node.node_id in narrowing.without:
        return "it was lost while this request ran"
    if node.trouble:
        return node.trouble
    if asked.model_digest in node.bad_models:
        return "this model crashed there three times in a row"
    return "its free memory is unknown" if node.free_bytes is None else None


def _strangers(asked: Asked, swarm: SwarmState) -> list[str]:
    """Nodes that the request names and that there are not."""
    known = {word for node in swarm.nodes for word in (node.name, node.node_id)}
    return [name[:80] for name in asked.narrowing.nodes if name not in known]


def _run(
    asked: Asked, load: Load, rule: Rule, swarm: SwarmState, passed: tuple[tuple[str, str], ...]
) -> Decision | Refusal:
    faults = {node.node_id: _fault(node, asked, rule) for node in swarm.nodes}
    # Holders first: among alike nodes the first is taken, and a holder needs no pieces sent.
    holders = swarm.holders.get(asked.model_digest, frozenset())
    ordered = sorted(swarm.nodes, key=lambda node: node.node_id not in holders)
    able = [node for node in ordered if faults[node.node_id] is None]
    placed, reason, code = _place(asked, load, rule, able)
    placed, reason = _kept(asked, load, rule, able, swarm, placed, reason)
    if not able and (strangers := _strangers(asked, swarm)):
        reason, code = f"this swarm has no node called {', '.join(map(repr, strangers))}", "not_found"
    chosen = {share.node.node_id: share for share in placed.shares} if placed else {}
    verdicts = tuple(
        Verdict(node.node_id, node.name, node.node_id in chosen, _verdict(node, faults, chosen, load))
        for node in swarm.nodes
    )
    explanation = Explanation(rule.name, passed, verdicts, reason)
    if placed is None:
        return Refusal(code, reason, explanation)
    holder = _holder(asked, rule, swarm, chosen)
    if holder is None:
        missing = f"no node that answers now, and that the rule allows, holds the file of {asked.model!r}"
        return Refusal("not_found", missing, explanation)
    return Decision(rule.name, placed, holder, explanation)


def _holder(asked: Asked, rule: Rule, swarm: SwarmState, chosen: Mapping[str, object]) -> str | None:
    """The node that gives the model's pieces away, and so hears of the request, though never of its prompt.

    The coordinator where it can: that pieces are those of this model is the holder's word. Else one that runs it too,
    so that less is sent.
    """
    holders = swarm.holders.get(asked.model_digest, frozenset())
    able = [n.node_id for n in swarm.nodes if n.node_id in holders and not n.trouble and not rule.action.fault(n)]
    own, lost = swarm.coordinator_id, asked.narrowing.without
    return min(able, key=lambda one: (one in lost, one != own, one not in chosen), default=None)


def _verdict(node: NodeState, faults: dict[str, str | None], chosen: Mapping[str, object], load: Load) -> str:
    fault = faults[node.node_id]
    if fault:
        return fault
    if node.node_id in chosen:
        return "chosen"
    if (usable_bytes(node) or 0) >= load.total_bytes:
        return "it could run the model, but another choice is cheaper or was asked for"
    return "its free memory, less 20 %, does not hold the whole model, and it is not needed for a ring"


def _place(asked: Asked, load: Load, rule: Rule, able: list[NodeState]) -> tuple[Placed | None, str, str]:
    """The placement, the reason in words, and the refusal's code where there is none."""
    wanted, policy = asked.narrowing, rule.action.split
    solo_allowed, split_allowed = _solo_allowed(asked, rule), _split_allowed(asked, rule)
    if not able:
        return None, "no node that the rule and the request allow can work now", "refused_by_rules"
    if not (solo_allowed or split_allowed):
        mode = repr(wanted.mode) + _stages(wanted.stages)
        return None, f"the request asks for {mode}, the rule says {policy!r}", "refused_by_rules"
    whole = place_whole(load, able)
    if solo_allowed and whole:
        return whole, "it fits one node, and a ring would not make one stream faster", ""
    if not split_allowed:
        return None, "it fits no allowed node whole, and splitting is not allowed here", "out_of_memory"
    if not load.cuts:
        asks = "the request asks for a split" if not solo_allowed else "it fits no allowed node whole"
        return None, f"this model cannot be split, and {asks}", "cannot_split"
    if len(able) < (wanted.stages or 2):
        return (
            None,
            f"a split needs {wanted.stages or 2} nodes; {len(able)} of the allowed ones can work now",
            "refused_by_rules",
        )
    ring = place_ring(load, able, stages=wanted.stages)
    if ring is None:
        need = f"{len(able)} allowed node{'s' if len(able) != 1 else ''}"
        return None, f"no ring over {need} can hold it" + _stages(wanted.stages), "out_of_memory"
    if whole and policy != "split required":
        name = whole.shares[0].node.name
        return ring, f"the request asks for a split; without that it would run whole on {name}", ""
    return ring, "the rule asks for a split" if whole else "it fits no allowed node whole", ""


def _kept(
    asked: Asked,
    load: Load,
    rule: Rule,
    able: list[NodeState],
    swarm: SwarmState,
    placed: Placed | None,
    reason: str,
) -> tuple[Placed | None, str]:
    """A ring that is loaded already, where it does what would be chosen; else the choice as it was.

    One node before several as ever, so a loaded split does not serve where the model now fits one node. A loaded ring
    needs no memory: it also serves where nothing else would fit, as its own memory is what is missing.
    """
    wanted = asked.narrowing
    warm = [
        ring
        for one in swarm.warm
        if one.model_digest == asked.model_digest and (ring := place_warm(load, able, one.shape)) is not None
    ]
    solos = [ring for ring in warm if len(ring.shares) == 1 and _solo_allowed(asked, rule)]
    rings = [
        ring
        for ring in warm
        if len(ring.shares) > 1 and _split_allowed(asked, rule) and wanted.stages in (None, len(ring.shares))
    ]
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


def _rank(ring: Placed) -> tuple[float, list[tuple[str, int]]]:
    return ring.token_s, [(share.node.node_id, share.first) for share in ring.shares]


def _solo_allowed(asked: Asked, rule: Rule) -> bool:
    wanted = asked.narrowing
    return rule.action.split != "split required" and wanted.mode != "split" and wanted.stages in (None, 1)


def _split_allowed(asked: Asked, rule: Rule) -> bool:
    return rule.action.split != "solo" and asked.narrowing.mode != "solo" and asked.narrowing.stages != 1


def _stages(stages: int | None) -> str:
    return "" if stages is None else f" in {stages} stage{'s' if stages != 1 else ''}"
