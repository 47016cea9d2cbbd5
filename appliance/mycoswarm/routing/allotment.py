"""`decide_tool`: where one call of a tool may run. The rules are those of prompts; a tool needs no model and no ring.

Tools that can do harm need the owner's yes, unless the rule that matches names tools in its `task`: a rule that was
written for prompts, as a fresh swarm's first one, lets none of them run unasked.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from mycoswarm.routing.action import Run
from mycoswarm.routing.decision import Explanation, Ground, Refusal
from mycoswarm.routing.reach import Way, match_of, needs_yes, ways_of
from mycoswarm.routing.rule import Rule, RuleSet
from mycoswarm.routing.siting import Verdict
from mycoswarm.routing.snapshot import Asked, NodeState, SwarmState
from mycoswarm.swarm.place import PLACES

ASK_S = 120.0  # for the owner's yes to a harmful tool that no rule names


@dataclass(frozen=True, slots=True)
class ToolDecision:
    """Run it there. `unconfined`: the rule lets it run where there is no sandbox."""

    ground: Ground
    node: NodeState
    explanation: Explanation
    unconfined: bool = False

    @property
    def rule(self) -> str:
        """The name of the rule."""
        return self.ground.rule


@dataclass(frozen=True, slots=True)
class Bearing:
    """What else counts. `pinned`: the only node that has the run's workspace. `busy`: calls under way by node id."""

    pinned: str | None = None
    busy: Mapping[str, int] = field(default_factory=dict)


def decide_tool(
    asked: Asked, rules: RuleSet, swarm: SwarmState, bearing: Bearing | None = None, *, explain: bool = False
) -> ToolDecision | Refusal:
    """Choose the node for a call, `asked.task` being "tool:NAME". Total and deterministic, as `decide` is."""
    return _Call(asked, rules, swarm, bearing or Bearing(), explain).decide()


class _Call:
    def __init__(self, asked: Asked, rules: RuleSet, swarm: SwarmState, bearing: Bearing, explain: bool) -> None:
        self._asked, self._rules, self._swarm, self._bearing, self._explain = asked, rules, swarm, bearing, explain
        self._match = match_of(asked, rules)

    def decide(self) -> ToolDecision | Refusal:
        match = self._match
        if match.rule is None or match.fault is not None:
            return self._refuse(*(match.fault or ("refused_by_rules", "no rule matches")))
        tried: list[tuple[str, str]] = []
        first: Refusal | None = None
        for index, action in enumerate(match.rule.chain):
            words = f"without the labels that the request adds, no rule lets it {action.words()}"
            refusal = self._refuse("refused_by_rules", words, tuple(tried))
            for way in ways_of(action, match.limit):
                outcome = self._follow(match.rule, index, way, tuple(tried))
                if isinstance(outcome, ToolDecision):
                    return outcome
                refusal = outcome
            first = first or refusal
            tried.append((action.words(), refusal.message))
        assert first is not None  # a rule has at least one action
        if len(tried) == 1:
            return first
        message = first.message + "".join(f"; then {words}: {why}" for words, why in tried[1:])
        explained = replace(first.explanation, reason=message, tried=tuple(tried))
        return replace(first, message=message, explanation=explained)

    def _follow(self, rule: Rule, index: int, way: Way, tried: tuple[tuple[str, str], ...]) -> ToolDecision | Refusal:
        action = way.done
        if not isinstance(action, Run):
            return self._refuse("refused_by_rules", "an endpoint runs no tools", tried)
        bound = way.bound if isinstance(way.bound, Run) else None
        faults = {node.node_id: self._fault(node, action, bound) for node in self._swarm.nodes}
        able = [node for node in self._swarm.nodes if faults[node.node_id] is None]
        chosen = min(able, key=lambda node: self._cost(node, action), default=None)
        verdicts = self._verdicts(faults, chosen) if self._explain else ()
        if chosen is None:
            return self._nowhere(action, faults, tried, verdicts)
        ask_s = way.ask_s
        if ask_s is None and needs_yes(self._asked, self._match):
            ask_s = ASK_S
        ground = Ground(rule=rule.name, rule_id=rule.id, version=self._rules.version, action=index, ask_s=ask_s)
        reason = f"{chosen.name} is the first of {len(able)} that the rule allows"
        runs = [one for one in (action, bound) if one is not None]
        unconfined = all(one.sandbox == "optional" for one in runs)
        return ToolDecision(ground, chosen, self._explanation(reason, tried, verdicts), unconfined)

    def _fault(self, node: NodeState, action: Run, bound: Run | None) -> str | None:
        wanted = self._asked.narrowing
        if (fault := action.fault(node)) is not None:
            return fault
        if bound is not None and (fault := bound.fault(node)) is not None:
            return f"without the labels that the request adds it is out: {fault}"
        if wanted.nodes and node.name not in wanted.nodes and node.node_id not in wanted.nodes:
            return "the request itself names other nodes"
        if wanted.within is not None and PLACES.index(node.place) > PLACES.index(wanted.within):
            return f"it is {node.place}, and the request itself stays within {wanted.within}"
        if node.node_id in wanted.without:
            return "it was lost while this request ran"
        if self._bearing.pinned is not None and node.node_id != self._bearing.pinned:
            return "the run's workspace is on another node"
        return node.trouble

    def _cost(self, node: NodeState, action: Run) -> tuple[int, bool, bool, int, int, str]:
        """What decides among the allowed, in this order: the rule's preference; no GPU, so that those keep inferring;
        no ring on it; few calls under way; near; its id."""
        named = [index for index, word in enumerate(action.prefer) if word in (node.name, node.node_id)]
        in_ring = any(node.node_id == one[0] for ring in self._swarm.warm for one in ring.shape)
        busy = self._bearing.busy.get(node.node_id, 0)
        near = PLACES.index(node.place)
        return (min(named, default=len(action.prefer)), node.uses_gpu, in_ring, busy, near, node.node_id)

    def _nowhere(
        self,
        action: Run,
        faults: Mapping[str, str | None],
        tried: tuple[tuple[str, str], ...],
        verdicts: tuple[Verdict, ...],
    ) -> Refusal:
        pinned = self._bearing.pinned
        if pinned is not None:
            here = next((node for node in self._swarm.nodes if node.node_id == pinned), None)
            why = faults.get(pinned) or "it left the swarm"
            message = f"the run's workspace is on {here.name if here else pinned}, and the call may not go there: {why}"
            return self._refuse("workspace_elsewhere", message, tried, verdicts)
        known = {word for node in self._swarm.nodes for word in (node.name, node.node_id)}
        if action.nodes and not known.intersection(action.nodes):
            named = ", ".join(repr(word[:80]) for word in action.nodes[:8])
            return self._refuse("not_found", f"this swarm has no node called {named}", tried, verdicts)
        message = "no node that the rule and the request allow can work now"
        return self._refuse("refused_by_rules", message, tried, verdicts)

    def _verdicts(self, faults: Mapping[str, str | None], chosen: NodeState | None) -> tuple[Verdict, ...]:
        return tuple(
            Verdict(
                node.node_id,
                node.name,
                node is chosen,
                faults[node.node_id] or ("chosen" if node is chosen else "another comes first"),
            )
            for node in self._swarm.nodes
        )

    def _refuse(
        self, code: str, message: str, tried: tuple[tuple[str, str], ...] = (), verdicts: tuple[Verdict, ...] = ()
    ) -> Refusal:
        rule = self._match.rule
        explained = self._explanation(message, tried, verdicts)
        return Refusal(code, message, explained, rule.id if rule else 0, self._rules.version)

    def _explanation(
        self, reason: str, tried: tuple[tuple[str, str], ...], verdicts: tuple[Verdict, ...]
    ) -> Explanation:
        match = self._match
        return Explanation(
            rule=match.rule.name if match.rule else None,
            reason=reason,
            limit=match.limit.name if match.limit else None,
            passed=self._rules.passed(match.view) if self._explain else (),
            verdicts=verdicts,
            tried=tried,
        )
