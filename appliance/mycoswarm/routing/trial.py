"""Rule tests: an example request, and what is to become of it by the rules alone."""

from datetime import datetime
from typing import Any

import msgspec

from mycoswarm.base.errors import InputError
from mycoswarm.routing.clause import MAX_CHARACTERS, MAX_WORD, TASKS, address_of, is_word, label_fault, words_fault
from mycoswarm.routing.reach import Outlet, Reach, Spot, reach_of
from mycoswarm.routing.rule import MAX_NAME, RuleSet, name_fault
from mycoswarm.routing.snapshot import Asked, SwarmState

MONDAY_NOON = "2024-01-01T12:00:00+00:00"
OUTSIDE = "outside"  # in `only` and `never`: whatever is there


class Example(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A request as rules see it. `labels` are the owner's, `added` those that the request brings. `at`: ISO 8601 with
    an offset; None is a Monday noon in UTC. `client` "" is the owner's own socket."""

    model: str
    task: str = "chat"
    key: str | None = None
    user: str | None = None
    labels: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    characters: int = 0
    client: str = "127.0.0.1"
    at: str | None = None


class Expect(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is to become of it. `outcome`: of the first action that can be carried out. `only` and `never`: all that the
    rule's actions could reach is among these, is none of these: names of nodes or endpoints, or "outside"."""

    outcome: Outlet
    rule: str | None = None
    endpoint: str | None = None
    only: tuple[str, ...] = ()
    never: tuple[str, ...] = ()


class Trial(msgspec.Struct, frozen=True):
    """One test of the rules."""

    name: str
    request: Example
    expect: Expect


def read_trial(name: str, request: Any, expect: Any) -> Trial:
    """Read a test from plain JSON or TOML values, and check it.

    Raises:
        InputError: it is none; says where.
    """
    try:
        trial = Trial(name, msgspec.convert(request, Example), msgspec.convert(expect, Expect))
    except (msgspec.ValidationError, UnicodeError) as exc:
        raise _bad_test(f"{name[:MAX_NAME]!r}: {str(exc)[:200]}") from exc
    fault = _form_fault(trial)
    if fault is not None:
        raise _bad_test(f"{name[:MAX_NAME]!r}: {fault}")
    return trial


def read_example(request: Any) -> Example:
    """Read an example request from plain JSON or TOML values, and check it.

    Raises:
        InputError: it is none; says where.
    """
    return read_trial("this request", request, {"outcome": "refuse"}).request


def plain_trial(trial: Trial) -> dict[str, Any]:
    """A test as JSON or TOML values; what is not said has its default."""
    shown: dict[str, Any] = msgspec.to_builtins(trial)
    return shown


def trial_fault(trial: Trial, rules: RuleSet, swarm: SwarmState) -> str | None:
    """Say what becomes of the request instead, or None where it is as expected.

    Judged by rules alone: who answers now, who holds the model and what memory is free are left out of account.
    """
    expect, reach = trial.expect, reach_of(asked_of(trial.request), rules, swarm)
    if reach.outlet != expect.outcome:
        return f"the outcome is {_outcome_words(reach)}, not {expect.outcome}"
    if expect.rule is not None and reach.rule != expect.rule:
        return f"it is decided by {_named(reach.rule)}, not by the rule {expect.rule!r}"
    if expect.endpoint is not None and reach.endpoint != expect.endpoint:
        return f"it goes to {reach.endpoint or 'no endpoint'}, not to {expect.endpoint}"
    for spot in reach.spots:
        if expect.only and not any(_is_named(spot, word) for word in expect.only):
            return f"it could reach {spot.names[0]}, by {_named(reach.rule)}; allowed is only {', '.join(expect.only)}"
        if any(_is_named(spot, word) for word in expect.never):
            return f"it could reach {spot.names[0]}, by {_named(reach.rule)}"
    return None


def asked_of(example: Example) -> Asked:
    """An example as a request; which node holds its model is left open."""
    return Asked(
        model=example.model,
        model_digest=None,
        task=example.task,
        prompt_characters=example.characters,
        key_name=example.key,
        user=example.user,
        labels=frozenset(example.labels),
        added=frozenset(example.added),
        client=example.client or None,
        at=_moment(example.at or MONDAY_NOON) or 0.0,
    )


def _form_fault(trial: Trial) -> str | None:
    example, expect = trial.request, trial.expect
    lists = (example.labels, example.added, expect.only, expect.never)
    optional = (example.key, example.user, example.client or None, expect.rule, expect.endpoint)
    words = [example.model, *(word for word in optional if word is not None)]
    fault = name_fault(trial.name) or words_fault(lists, words) or label_fault((*example.labels, *example.added))
    if fault is not None:
        return fault
    tool = example.task.removeprefix("tool:")
    if example.task not in TASKS and (tool == example.task or not is_word(tool, MAX_WORD)):
        return f"{example.task[:40]!r} is no task: there are {', '.join(TASKS)} and tool:NAME"
    if not 0 <= example.characters < MAX_CHARACTERS:
        return "characters are 0 or more"
    if example.client and address_of(example.client) is None:
        return f"{example.client[:40]!r} is no address"
    if example.at is not None and _moment(example.at) is None:
        return f"{example.at[:40]!r} is no time since 1970 with an offset, such as {MONDAY_NOON}"
    return None


def _moment(text: str) -> float | None:
    try:
        read = datetime.fromisoformat(text)
        return None if read.tzinfo is None or read.timestamp() < 0 else read.timestamp()
    except (ValueError, OverflowError):
        return None


def _is_named(spot: Spot, word: str) -> bool:
    return word in spot.names or (word == OUTSIDE and spot.is_outside)


def _outcome_words(reach: Reach) -> str:
    return f"{reach.outlet}, by {_named(reach.rule)}"


def _named(rule: str | None) -> str:
    return "no rule" if rule is None else f"the rule {rule!r}"


def _bad_test(fault: str) -> InputError:
    return InputError(
        f"this rule test cannot be: {fault}", hint="docs/rules.md shows what a test may say.", code="bad_test"
    )
