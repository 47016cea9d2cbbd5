"""The stored rules and tests as those that decide, and whether a new document of them may be let in. Pure."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from mycoswarm.api.rules import Spot
from mycoswarm.base.errors import InputError, NotFoundError, StorageError
from mycoswarm.routing.rule import DEFAULT_RULE, Rule, RuleSet, plain, read_rule
from mycoswarm.routing.shadow import shadows
from mycoswarm.routing.snapshot import SwarmState
from mycoswarm.routing.trial import Trial, plain_trial, read_trial, trial_fault
from mycoswarm.store.rulebook import Document, StoredRule, StoredTest

MAX_TESTS = 1000  # each is decided anew at every edit
MAX_COMPARED = 2000  # rules, each with each: 8 s on one slow core; 1,000 take 2
MAX_NAMED = 20  # broken tests that an error names


def stored(rule: Rule, rule_id: int = 0) -> StoredRule:
    """A rule as it is stored; 0 is the id of a new one."""
    said = msgspec.to_builtins(rule)
    return StoredRule(
        id=rule_id,
        name=rule.name,
        enabled=rule.enabled,
        when=said["when"],
        then=said["then"],
        fallback=list(said["fallback"]),
        note=rule.note,
    )


FIRST_RULES = Document(rules=(stored(DEFAULT_RULE),))  # of a fresh swarm


def rule_set_of(document: Document) -> RuleSet:
    """The stored rules, ready to decide.

    Raises:
        StorageError: one of them is no rule to this version of the software. To leave it out could open what it denied.
    """
    try:
        return RuleSet.of((_rule(one) for one in document.rules), document.version)
    except InputError as exc:
        raise StorageError(
            f"the stored rules cannot be read: {exc.message}",
            hint="Run the version of mycoSwarm that wrote them, and export them there.",
            code="rules_damaged",
        ) from exc


def shown(document: Document, rules: RuleSet, shadowed: Mapping[str, str]) -> dict[str, Any]:
    """A document as the API shows it; `rules` are the same rules, ready, and `shadowed` what of them never decides."""
    return {
        "version": document.version,
        "rules": [
            {
                **plain(rule),
                "position": position,
                "shadowed_by": shadowed.get(rule.name),
                "changed_by": one.changed_by,
                "changed_at": one.changed_at,
            }
            for position, (rule, one) in enumerate(zip(rules.rules, document.rules, strict=True), 1)
        ],
        "tests": [msgspec.to_builtins(test) for test in document.tests],
    }


def amended(document: Document, tests: Mapping[str, Any]) -> Document:
    """The document with these tests put in, by name; None takes one away.

    Raises:
        InputError: one of them is no test, or there are too many.
        NotFoundError: one that is to go is not there.
    """
    found = {test.name: test for test in document.tests}
    for name, given in tests.items():
        if given is None:
            if found.pop(name, None) is None:
                raise NotFoundError(f"there is no test called {name[:80]!r}", hint="`rules test` lists them.")
            continue
        if not isinstance(given, dict) or set(given) != {"request", "expect"}:
            raise InputError(
                f"the test {name[:80]!r} must hold request and expect",
                hint="docs/rules.md shows what a test may say.",
                code="bad_test",
            )
        said = plain_trial(read_trial(name, given["request"], given["expect"]))
        kept = found.get(name, StoredTest(name=name))
        found[name] = replace(kept, request=said["request"], expect=said["expect"])
    if len(found) > MAX_TESTS:
        raise InputError(f"there may be {MAX_TESTS} tests", hint="Take some away.")
    return replace(document, tests=tuple(found[name] for name in sorted(found)))


def check(document: Document, swarm: SwarmState, tests: Collection[str] | None = None) -> None:
    """Let a document in, or say why not. Only these tests must hold, by name; None is all. Every rule is read as it
    will be at the next start, which one that cannot be read would hinder.

    Raises:
        InputError: two rules share a name; or with the code breaks_rule_tests: a test does not hold.
    """
    names = [rule.name for rule in document.rules]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"there are two rules called {twice!r}", hint="Give one another name.", code="name_taken")
    if broken := faults(document, swarm, tests):
        said = "; ".join(f"{name!r}: {why}" for name, why in list(broken.items())[:MAX_NAMED])
        more = f"; and {len(broken) - MAX_NAMED} more" if len(broken) > MAX_NAMED else ""
        raise InputError(
            f"this edit breaks {len(broken)} of {len(document.tests)} tests, and nothing was changed: {said}{more}",
            hint="Change the rule, or those tests in the same edit (--tests, --drop-test).",
            code="breaks_rule_tests",
        )


def faults(document: Document, swarm: SwarmState, tests: Collection[str] | None = None) -> dict[str, str]:
    """The tests that do not hold, of these or of all, by name, and what comes of their requests instead.

    Raises:
        InputError: a rule or a test cannot be read.
    """
    asked = [test for test in document.tests if tests is None or test.name in tests]
    rules = RuleSet.of((_rule(one) for one in document.rules), document.version)
    found = ((test.name, trial_fault(_trial(test), rules, swarm)) for test in asked)
    return {name: why for name, why in found if why is not None}


def shadows_of(rules: RuleSet) -> dict[str, str]:
    """The rules that never decide anything, by name, and why: of the first `MAX_COMPARED`."""
    return {one.rule: one.reason for one in shadows(rules.rules[:MAX_COMPARED])}


def shadow_of(rules: RuleSet, index: int) -> str | None:
    """Why this one rule never decides anything, or None where it may."""
    rule = rules.rules[index]
    pairs: list[tuple[Rule, ...]] = [(other, rule) for other in rules.rules[:index]]
    found = (one for pair in pairs or [(rule,)] for one in shadows(pair) if one.rule == rule.name)
    return next((one.reason for one in found), None)


def index_of(rules: Sequence[StoredRule], name: str) -> int:
    """Where the rule of this name stands, from 0.

    Raises:
        NotFoundError: there is none.
    """
    for index, rule in enumerate(rules):
        if rule.name == name:
            return index
    raise NotFoundError(f"there is no rule called {name[:100]!r}", hint="`mycoswarm-node rules list` shows them.")


def place_of_spot(rules: Sequence[StoredRule], spot: Spot) -> int:
    """Where a rule is to be put in, from 0.

    Raises:
        NotFoundError: the rule beside which it is to stand is not there.
    """
    if spot.before is not None:
        return index_of(rules, spot.before)
    if spot.after is not None:
        return index_of(rules, spot.after) + 1
    return len(rules) if spot.position is None else min(spot.position - 1, len(rules))


def _rule(one: StoredRule) -> Rule:
    said = {
        "id": one.id,
        "name": one.name,
        "enabled": one.enabled,
        "when": one.when,
        "then": one.then,
        "note": one.note,
    }
    return read_rule({**said, "fallback": one.fallback} if one.fallback else said)


def _trial(test: StoredTest) -> Trial:
    return read_trial(test.name, test.request, test.expect)
