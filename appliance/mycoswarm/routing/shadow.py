"""Rules that can never match: one earlier rule covers all that they are for, or their own conditions contradict.

Not found: what only several earlier rules cover together; hours in other time zones than the earlier rule's; globs
whose `[...]` differ in writing alone. What is named here is certain for every request at a time that a calendar has.
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from mycoswarm.routing.clause import LEVELS, WEEK_MINUTES, Labels, Networks, Span, When, glob_of, networks_of, week_mask
from mycoswarm.routing.rule import Rule

ALWAYS = (1 << WEEK_MINUTES) - 1

Glob = tuple[str, ...]  # "*", "?", "[...]", or one character, which "\\" precedes where it is one of these


@dataclass(frozen=True, slots=True)
class Shadow:
    """A rule that can never match. `by`: the earlier rule that covers it; None where its own conditions contradict."""

    rule: str
    by: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class _Form:
    """A rule's conditions, made ready to be compared. None is no condition. `must`: labels that every such request has,
    `some`: one of these at least, `never`: none of these."""

    model: tuple[Glob, ...] | None
    task: tuple[Glob, ...] | None
    keys: tuple[Glob, ...] | None
    users: tuple[Glob, ...] | None
    labels: Labels
    must: frozenset[str]
    some: frozenset[str]
    never: frozenset[str]
    span: tuple[int, float]
    networks: Networks
    minutes: int
    zone: str | None


def shadows(rules: Sequence[Rule]) -> tuple[Shadow, ...]:
    """Find the rules that are switched on and can never match, in order, each with the first rule that covers it."""
    found: list[Shadow] = []
    earlier: list[tuple[_Form, str]] = []
    for rule in rules:
        if not rule.enabled:
            continue
        form = _form(rule.when)
        if (reason := _contradiction(form)) is not None:
            found.append(Shadow(rule.name, None, reason))
            continue  # what matches nothing covers nothing
        by = next((name for other, name in earlier if _covers(other, form)), None)
        if by is not None:
            found.append(Shadow(rule.name, by, f"every request that it is for is one for {by!r}, which comes first"))
        else:
            earlier.append((form, rule.name))  # what covers a covered rule is covered itself
    return tuple(found)


def _form(when: When) -> _Form:
    labels, span, hours = when.labels or Labels(), when.characters or Span(), when.hours
    must, some, never = set(labels.all), frozenset(labels.any), set(labels.none)
    while True:
        if not must.isdisjoint(LEVELS):  # a request counts as having one level only
            never |= set(LEVELS) - must
        left = some - never
        if len(left) != 1 or left <= must:
            break
        must |= left
    if left and left.issubset(LEVELS):
        never |= set(LEVELS) - left if must.isdisjoint(LEVELS) else set()
    return _Form(
        model=_globs((when.model,)),
        task=_globs((when.task,)),
        keys=_globs(when.keys),
        users=_globs(when.users),
        labels=labels,
        must=frozenset(must),
        some=left,
        never=frozenset(never),
        span=(span.least, float("inf") if span.below is None else span.below),
        networks=_collapsed(networks_of(when.client)),
        minutes=ALWAYS if hours is None else week_mask(hours),
        zone=None if hours is None else hours.zone,
    )


def _contradiction(form: _Form) -> str | None:
    levels = [level for level in LEVELS if level in form.must]
    if len(levels) > 1:
        return f"a request counts as having one of {', '.join(LEVELS)} only, and it wants {' and '.join(levels)}"
    if both := sorted(form.must & form.never):
        return f"the label {both[0]!r} is wanted and excluded"
    if form.labels.any and not form.some:
        return f"none of the labels {', '.join(form.labels.any)} is possible beside its other conditions"
    return None


def _covers(one: _Form, other: _Form) -> bool:
    """Whether every request that meets the conditions of `other` meets those of `one`: cheap comparisons first."""
    return (
        one.span[0] <= other.span[0]
        and other.span[1] <= one.span[1]
        and _labels_cover(one.labels, other)
        and (one.minutes == ALWAYS or (one.zone == other.zone and not other.minutes & ~one.minutes))
        and _globs_cover(one.model, other.model, is_known=True)
        and _globs_cover(one.task, other.task, is_known=True)
        and _globs_cover(one.keys, other.keys)
        and _globs_cover(one.users, other.users)
        and _networks_cover(one.networks, other.networks)
    )


def _labels_cover(labels: Labels, other: _Form) -> bool:
    some = frozenset(labels.any)
    return (
        other.must.issuperset(labels.all)
        and other.never.issuperset(labels.none)
        and (not some or not some.isdisjoint(other.must) or (bool(other.some) and other.some <= some))
    )


def _networks_cover(networks: Networks, other: Networks) -> bool:
    return not networks or (bool(other) and all(any(_holds(network, inner) for network in networks) for inner in other))


def _holds(network: ipaddress.IPv4Network | ipaddress.IPv6Network, inner: object) -> bool:
    if isinstance(network, ipaddress.IPv4Network):
        return isinstance(inner, ipaddress.IPv4Network) and inner.subnet_of(network)
    return isinstance(inner, ipaddress.IPv6Network) and inner.subnet_of(network)


def _collapsed(networks: Networks) -> Networks:
    fours = [one for one in networks if isinstance(one, ipaddress.IPv4Network)]
    sixes = [one for one in networks if isinstance(one, ipaddress.IPv6Network)]
    return (*ipaddress.collapse_addresses(fours), *ipaddress.collapse_addresses(sixes))


def _globs(texts: Sequence[str | None]) -> tuple[Glob, ...] | None:
    return tuple(_pieces(text) for text in texts if text is not None) or None


def _globs_cover(globs: tuple[Glob, ...] | None, other: tuple[Glob, ...] | None, *, is_known: bool = False) -> bool:
    """`is_known`: every request has such a text, so that a glob for all is no condition."""
    if globs is None:
        return True
    if other is None:
        return is_known and any(set(glob) == {"*"} for glob in globs)
    return all(any(_glob_covers(glob, inner) for glob in globs) for inner in other)


def _glob_covers(glob: Glob, inner: Glob) -> bool:
    """Whether a glob matches all that another does: as it matches the other's pieces, where `*` is met by `*` only."""
    if glob == inner or glob == ("*",):
        return True
    if len(glob[0]) == 1 and glob[0] not in "*?" and glob[0] != inner[0]:
        return False  # most pairs begin with different characters
    reached = {0}
    for piece in (None, *inner):
        if piece is not None:
            reached = {
                place if glob[place] == "*" else place + 1
                for place in reached
                if place < len(glob) and (glob[place] == "*" or _is_met(glob[place], piece))
            }
        for place in sorted(reached):  # a star may also be met by nothing
            while place < len(glob) and glob[place] == "*":
                place += 1
                reached.add(place)
        if not reached:
            return False
    return len(glob) in reached


def _is_met(piece: str, inner: str) -> bool:
    if piece == inner:
        return True
    if inner == "*":
        return False
    if piece == "?":
        return True
    return piece[0] == "[" and len(piece) > 1 and inner[0] not in "?[" and glob_of(piece)(inner[-1]) is not None


def _pieces(glob: str) -> Glob:
    """A glob in pieces, as fnmatch reads it: a "[" that nothing closes is an ordinary character."""
    pieces, at = [], 0
    while at < len(glob):
        first = glob[at]
        end = at + 1
        if first == "[":
            close = glob.find("]", at + (3 if glob[at + 1 : at + 2] == "!" else 2))
            end = close + 1 if close >= 0 else end
        text = glob[at:end]
        pieces.append(f"\\{text}" if text in ("[", "\\") else text)
        at = end
    return tuple(pieces)
