"""Rules: ordered; the first that matches decides; no match refuses."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from mycoswarm.base.errors import InputError
from mycoswarm.routing.action import MAX_FALLBACKS, Action, Deny, External, Run, Step, action_fault, unwrapped
from mycoswarm.routing.clause import Check, View, When, checks_of, mismatch, when_fault
from mycoswarm.routing.snapshot import NodeState

MAX_NAME = 100
MAX_NOTE = 2000
MAX_RULES = 5000


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One rule. `fallback`: further actions, in order, where the one before cannot be carried out; never without."""

    name: str
    when: When = When()
    then: Action = Run()
    fallback: tuple[Step, ...] = ()
    enabled: bool = True
    note: str = ""
    id: int = 0

    @property
    def chain(self) -> tuple[Action, ...]:
        """All actions, in order."""
        return (self.then, *self.fallback)

    def mismatch(self, view: View) -> str | None:
        """Say the first condition that fails, or None where the rule matches."""
        return mismatch(self.when, view) if self.enabled else "it is switched off"

    def permits(self, node: NodeState) -> bool:
        """Whether any of its actions could reach this node."""
        return any(isinstance(done := unwrapped(one), Run) and done.fault(node) is None for one in self.chain)

    def permits_endpoint(self, name: str) -> bool:
        """Whether any of its actions could reach this endpoint."""
        return any(isinstance(done := unwrapped(one), External) and done.name == name for one in self.chain)


@dataclass(frozen=True, slots=True)
class RuleSet:
    """Rules in order, made ready once for many requests. `version` names them in tickets and in the ledger."""

    rules: tuple[Rule, ...]
    version: int
    ready: tuple[tuple[tuple[Check, ...], Rule], ...]

    @classmethod
    def of(cls, rules: Iterable[Rule], version: int = 0) -> "RuleSet":
        """Make rules ready. They must be sound: see `read_rule`."""
        ordered = tuple(rules)
        ready = tuple((checks_of(rule.when), rule) for rule in ordered if rule.enabled)
        return cls(ordered, version, ready)

    def first(self, view: View) -> Rule | None:
        """The first rule that matches."""
        for checks, rule in self.ready:
            for check in checks:
                if not check(view):
                    break
            else:
                return rule
        return None

    def endpoints(self) -> frozenset[str]:
        """The names of the endpoints that rules which are switched on could send to."""
        done = (unwrapped(action) for _, rule in self.ready for action in rule.chain)
        return frozenset(one.name for one in done if isinstance(one, External))


DEFAULT_RULE = Rule(name="any adopted node on this LAN", note="What a fresh swarm begins with.")


def read_rule(data: Any) -> Rule:
    """Read a rule from plain JSON or TOML values, and check it.

    Raises:
        InputError: it is not a rule; says where.
    """
    try:
        rule = msgspec.convert(data, Rule)
    except msgspec.ValidationError as exc:
        raise bad_rule(str(exc)) from exc
    fault = rule_fault(rule)
    if fault is not None:
        raise bad_rule(f"{rule.name[:MAX_NAME]!r}: {fault}")
    return rule


def bad_rule(fault: str) -> InputError:
    """The error of a rule that cannot be."""
    return InputError(f"this rule cannot be: {fault}", hint="docs/rules.md shows what a rule may say.", code="bad_rule")


def plain(rule: Rule) -> dict[str, Any]:
    """A rule as JSON or TOML values; what is not said has its default."""
    shown: dict[str, Any] = msgspec.to_builtins(rule)
    return {name: value for name, value in shown.items() if name in ("name", "then", "enabled", "id") or value}


def rule_fault(rule: Rule) -> str | None:
    """Say what is wrong with a rule, or None where it is sound."""
    if not 0 < len(rule.name) <= MAX_NAME or not rule.name.isprintable() or rule.name != rule.name.strip():
        return f"a name has 1 to {MAX_NAME} signs, all of them visible, with no space at its ends"
    if len(rule.note) > MAX_NOTE:
        return f"a note has at most {MAX_NOTE} characters"
    if len(rule.fallback) > MAX_FALLBACKS:
        return f"there can be {MAX_FALLBACKS} fallbacks"
    if rule.fallback and isinstance(rule.then, Deny):
        return "what is denied has no fallback"
    faults = (when_fault(rule.when), *(action_fault(action) for action in rule.chain))
    return next((fault for fault in faults if fault is not None), None)
