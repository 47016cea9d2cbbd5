"""`decide`: one pure function from a request, the rules and the swarm to a decision or a refusal, explained.

Requests narrow and never widen: where labels that a request adds itself make another rule match than the owner's labels
alone, both rules must allow what is done.
"""

from dataclasses import dataclass, field, replace

from mycoswarm.routing.action import Action, Ask, Deny, External, Run, unwrapped
from mycoswarm.routing.clause import view_of
from mycoswarm.routing.placement import Load, Placed
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
Done = Run | External | Deny
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
        asked, rules = self._asked, self._rules
        owned = view_of(asked, asked.labels)
        view = owned if asked.added <= asked.labels else view_of(asked, asked.labels | asked.added)
        self._rule = rules.first(view)
        if self._explain:
            self._passed = rules.passed(view)
        if self._rule is None:
            return self._refuse("refused_by_rules", "no rule allows this request anywhere: no match refuses")
        limit = self._rule if view is owned else rules.first(owned)
        if limit is None:
            return self._refuse(
                "refused_by_rules",
                "no rule allows this request without the labels that it adds itself, and those only narrow",
            )
        self._limit = None if limit is self._rule else limit
        for rule in (self._rule, limit):
            if isinstance(rule.then, Deny):
                return self._refuse("denied_by_rule", rule.then.message)
        return self._follow(self._rule)

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
        """Carry one action out. Under a limiting rule, within the first of that one's actions under which it can be:
        what no single one of them allows, such as a ring over the nodes of two, is not done."""
        action, limit = rule.chain[index], self._limit
        done = unwrapped(action)
        bounds: list[Action | None] = [None]
        if limit is not None:
            bounds = [bound for bound in limit.chain if _is_alike(done, unwrapped(bound))]
        first: Refusal | None = None
        for bound in bounds:
            asks = [one.within_s for one in (action, bound, limit and limit.then) if isinstance(one, Ask)]
            ground = Ground(
                rule=rule.name,
                rule_id=rule.id,
                version=self._rules.version,
                action=index,
                ask_s=min(asks, default=None),
            )
            outcome = self._do(done, unwrapped(bound) if bound is not None else None, ground, tried)
            if not isinstance(outcome, Refusal):
                return outcome
            first = first or outcome
        if first is None:
            name = limit.name if limit is not None else rule.name
            words = f"without the labels that the request adds, the rule {name!r} does not {action.words()}"
            return self._refuse("refused_by_rules", words, tried)
        return first

    def _do(self, done: Done, bound: Done | None, ground: Ground, tried: Tried) -> Outcome:
        if isinstance(done, Run):
            return self._run(done, bound if isinstance(bound, Run) else None, ground, tried)
        if isinstance(done, External):
            return self._send(done, ground, tried)
        return self._refuse("denied_by_rule", done.message, tried)

    def _run(self, action: Run, bound: Run | None, ground: Ground, tried: Tried) -> Outcome:
        if self._load is None or self._asked.model_digest is None:
            why = f"no node of this swarm holds a model called {self._asked.model[:80]!r}"
            return self._refuse("model_not_found", why, tried)
        siting = Siting(self._asked, self._load, action, bound, self._swarm)
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
        if self._asked.task not in ("chat", "completion"):
            return f"an endpoint takes chats and completions, not {self._asked.task}"
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


def _is_alike(done: Done, bound: Done) -> bool:
    """Whether an action of the limiting rule could allow this one."""
    if isinstance(done, External):
        return isinstance(bound, External) and bound.name == done.name
    return type(done) is type(bound)
