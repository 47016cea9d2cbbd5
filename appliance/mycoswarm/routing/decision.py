"""`decide`: one pure function from a request, the rules and the swarm to a decision or a refusal, explained.

Requests narrow and never widen: see reach.py for the labels that a request adds itself.
"""

from dataclasses import dataclass, field, replace

from mycoswarm.routing.action import External, Run
from mycoswarm.routing.placement import Load, Placed
from mycoswarm.routing.reach import ENDPOINT_TASKS, match_of, ways_of
from mycoswarm.routing.rule import Rule, RuleSet
from mycoswarm.routing.siting import Site, Siting, Verdict
from mycoswarm.routing.snapshot import Asked, EndpointState, SwarmState
from mycoswarm.swarm.place import PLACES, Place


@dataclass(frozen=True, slots=True)
class Explanation:
    """`rule` is the one that matched. `limit`: the one that would match without the labels that the request adds, where
    that is another. `passed`: earlier rules with the condition that failed, and `verdicts`: why each node is in or out;
    both only in a full explanation. `tried`: earlier actions of the rule and why they could not be carried out."""

    rule: str | None
    reason: str
    limit: str | None = None
    passed: tuple[tuple[str, str], ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    tried: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What a decision stands on: the rule, its id, the version of all rules, and which of its actions (0 is the first;
    others are fallbacks). `ask_s`: the owner must say yes within that time; None where nobody is asked."""

    rule: str
    rule_id: int = 0
    version: int = 0
    action: int = 0
    ask_s: float | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """Run here. `reach`: how far away each node that takes part was when it was decided on, by node id."""

    ground: Ground
    placed: Placed
    holder_id: str
    explanation: Explanation
    reach: dict[str, Place] = field(default_factory=dict)

    @property
    def rule(self) -> str:
        """The name of the rule."""
        return self.ground.rule

    @property
    def tokens_per_s(self) -> float:
        """Predicted decoding speed of one stream."""
        return 1 / self.placed.token_s if self.placed.token_s > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Send to this endpoint, where the model is called `model`."""

    ground: Ground
    endpoint: EndpointState
    model: str
    explanation: Explanation

    @property
    def rule(self) -> str:
        """The name of the rule."""
        return self.ground.rule


@dataclass(frozen=True, slots=True)
class Refusal:
    """Nowhere. `code`: refused_by_rules, denied_by_rule, out_of_memory, cannot_split, not_found, model_not_found."""

    code: str
    message: str
    explanation: Explanation
    rule_id: int = 0
    version: int = 0


Outcome = Decision | Dispatch | Refusal
Tried = tuple[tuple[str, str], ...]  # earlier actions, and why they could not be carried out


def decide(asked: Asked, load: Load | None, rules: RuleSet, swarm: SwarmState, *, explain: bool = False) -> Outcome:
    """Choose where a request goes. Total: any input gives an outcome, the same input the same one.

    `load` is None where no node holds the model. `explain` adds the full explanation, and changes nothing else.
    """
    return _Case(asked, load, rules, swarm, explain).decide()


class _Case:
    def __init__(self, asked: Asked, load: Load | None, rules: RuleSet, swarm: SwarmState, explain: bool) -> None:
        self._asked, self._load, self._rules, self._swarm, self._explain = asked, load, rules, swarm, explain
        self._rule: Rule | None = None
        self._limit: Rule | None = None
        self._passed: tuple[tuple[str, str], ...] = ()

    def decide(self) -> Outcome:
        match = match_of(self._asked, self._rules)
        self._rule, self._limit = match.rule, match.limit
        if self._explain:
            self._passed = self._rules.passed(match.view)
        if match.rule is None or match.fault is not None:
            return self._refuse(*(match.fault or ("refused_by_rules", "no rule matches")))
        return self._follow(match.rule)

    def _follow(self, rule: Rule) -> Outcome:
        """Carry the rule's actions out in order, the next one only where one cannot be."""
        tried: list[tuple[str, str]] = []
        first: Refusal | None = None
        for index, action in enumerate(rule.chain):
            outcome = self._attempt(rule, index, tuple(tried))
            if not isinstance(outcome, Refusal):
                return outcome
            first = first or outcome
            tried.append((action.words(), outcome.message))
        assert first is not None  # a rule has at least one action
        if len(tried) == 1:
            return first
        message = first.message + "".join(f"; then {words}: {why}" for words, why in tried[1:])
        return replace(
            first, message=message, explanation=replace(first.explanation, reason=message, tried=tuple(tried))
        )

    def _attempt(self, rule: Rule, index: int, tried: Tried) -> Outcome:
        """Carry one action out, by the first of its ways that can be."""
        action, first = rule.chain[index], None
        for way in ways_of(action, self._limit):
            ground = Ground(rule=rule.name, rule_id=rule.id, version=self._rules.version, action=index, ask_s=way.ask_s)
            if isinstance(way.done, Run):
                outcome = self._run(way.done, way.bound, ground, tried)
            else:
                outcome = self._send(way.done, ground, tried)
            if not isinstance(outcome, Refusal):
                return outcome
            first = first or outcome
        limit = self._limit.name if self._limit is not None else None
        words = f"without the labels that the request adds, the rule {limit!r} does not {action.words()}"
        return first or self._refuse("refused_by_rules", words, tried)

    def _run(self, action: Run, bound: Run | External | None, ground: Ground, tried: Tried) -> Outcome:
        if self._load is None or self._asked.model_digest is None:
            why = f"no node of this swarm holds a model called {self._asked.model[:80]!r}"
            return self._refuse("model_not_found", why, tried)
        siting = Siting(self._asked, self._load, action, bound if isinstance(bound, Run) else None, self._swarm)
        found = siting.choose()
        verdicts = siting.verdicts(found) if self._explain else ()
        if not isinstance(found, Site):
            return self._refuse(found.code, found.reason, tried, verdicts)
        taking_part = {*(share.node.node_id for share in found.placed.shares), found.holder_id}
        reach = {node.node_id: node.place for node in self._swarm.nodes if node.node_id in taking_part}
        explanation = self._explanation(found.reason, tried, verdicts)
        return Decision(ground, found.placed, found.holder_id, explanation, reach)

    def _send(self, action: External, ground: Ground, tried: Tried) -> Outcome:
        endpoint = next((one for one in self._swarm.endpoints if one.name == action.name), None)
        if endpoint is None:
            return self._refuse("not_found", f"no endpoint called {action.name!r} is registered", tried)
        if (fault := self._endpoint_fault(endpoint)) is not None:
            return self._refuse("refused_by_rules", fault, tried)
        explanation = self._explanation(f"the rule sends it to the endpoint {endpoint.name}", tried)
        return Dispatch(ground, endpoint, action.model or self._asked.model, explanation)

    def _endpoint_fault(self, endpoint: EndpointState) -> str | None:
        wanted, name = self._asked.narrowing, endpoint.name
        if self._asked.task not in ENDPOINT_TASKS:
            return f"an endpoint takes chats, completions, embeddings and agents' requests, not {self._asked.task}"
        if wanted.nodes or wanted.mode != "any" or wanted.stages is not None:
            return "the request itself narrows to nodes of the swarm"
        if wanted.within is not None and PLACES.index(endpoint.place) > PLACES.index(wanted.within):
            return f"{name} is {endpoint.place}, and the request itself stays within {wanted.within}"
        return f"{name} failed while this request ran" if name in wanted.without else None

    def _refuse(
        self,
        code: str,
        message: str,
        tried: Tried = (),
        verdicts: tuple[Verdict, ...] = (),
    ) -> Refusal:
        rule_id = self._rule.id if self._rule else 0
        return Refusal(code, message, self._explanation(message, tried, verdicts), rule_id, self._rules.version)

    def _explanation(self, reason: str, tried: Tried = (), verdicts: tuple[Verdict, ...] = ()) -> Explanation:
        return Explanation(
            rule=self._rule.name if self._rule else None,
            reason=reason,
            limit=self._limit.name if self._limit else None,
            passed=self._passed,
            verdicts=verdicts,
            tried=tried,
        )
