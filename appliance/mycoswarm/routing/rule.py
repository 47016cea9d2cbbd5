"""Rules: ordered; the first that matches decides; no match refuses."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from mycoswarm.base.errors import InputError
from mycoswarm.routing.action import MAX_FALLBACKS, Action, Deny, External, Run, Step, action_fault, unwrapped
from mycoswarm.routing.clause import Clause, View, When, clauses_of, is_word, mismatch, when_fault

MAX_NAME = 100
MAX_NOTE = 2000
MAX_RULES = 5000
MAX_ID = 1 << 63  # what a database has for an id, half-open


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


@dataclass(frozen=True, slots=True)
class RuleSet:
    """Rules in order, made ready once for many requests. `version` names them in tickets and in the ledger."""

    rules: tuple[Rule, ...]
    version: int
    ready: tuple[tuple[tuple[Clause, ...], Rule], ...]  # those that are switched on

    @classmethod
    def of(cls, rules: Iterable[Rule], version: int = 0) -> "RuleSet":
        """Make rules ready. They must be sound: see `read_rule`."""
        ordered = tuple(rules)
        ready = tuple((clauses_of(rule.when), rule) for rule in ordered if rule.enabled)
        return cls(ordered, version, ready)

    def first(self, view: View) -> Rule | None:
        """The first rule that matches."""
        for clauses, rule in self.ready:
            for holds, _ in clauses:
                if not holds(view):
                    break
            else:
                return rule
        return None

    def passed(self, view: View) -> tuple[tuple[str, str], ...]:
        """The rules before the first that matches (all, where none does), each with why it does not."""
        found: list[tuple[str, str]] = []
        ready = iter(self.ready)
        for rule in self.rules:
            fault = mismatch(next(ready)[0], view) if rule.enabled else "it is switched off"
            if fault is None:
                break
            found.append((rule.name, fault))
        return tuple(found)

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
    except (msgspec.ValidationError, UnicodeError) as exc:
        name = data.get("name") if isinstance(data, dict) else None
        raise bad_rule((f"{name[:MAX_NAME]!r}: " if isinstance(name, str) else "") + str(exc)[:200]) from exc
    # A list whose last entry was taken out must not come to mean everyone, or any node.
    fault = "an empty list says nothing: leave it out" if _has_empty_list(data) else rule_fault(rule)
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
    if (fault := name_fault(rule.name)) is not None:
        return fault
    if len(rule.note) > MAX_NOTE or not rule.note.replace("\n", "").isprintable():
        return f"a note has at most {MAX_NOTE} visible characters, and lines"
    if not 0 <= rule.id < MAX_ID:
        return "an id is a whole number from 0"
    if len(rule.fallback) > MAX_FALLBACKS:
        return f"there can be {MAX_FALLBACKS} fallbacks"
    if rule.fallback and isinstance(rule.then, Deny):
        return "what is denied has no fallback"
    faults = (when_fault(rule.when), *(action_fault(action) for action in rule.chain))
    return next((fault for fault in faults if fault is not None), None)


def name_fault(name: str) -> str | None:
    """Say what is wrong with the name of a rule or of a test, or None where it is sound."""
    if is_word(name, MAX_NAME) and name == name.strip():
        return None
    return f"a name has 1 to {MAX_NAME} signs, all of them visible, with no space at its ends"


def _has_empty_list(data: Any) -> bool:
    """Whether any list of a rule's conditions or actions is empty; that there are no fallbacks may be said so."""
    if isinstance(data, dict):
        return any(_has_empty_list(value) for name, value in data.items() if name != "fallback" or value)
    return isinstance(data, list | tuple) and (not data or any(map(_has_empty_list, data)))
