"""Conditions of a rule: which requests it is for. All that are given must hold; one that is not given always does.

Label levels: of `private`, `household` and `public` a request counts as having the strictest only, so no rule for
public prompts takes one that is private too.
"""

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from fnmatch import translate
from functools import lru_cache
from zoneinfo import ZoneInfo

import msgspec

from mycoswarm.routing.snapshot import Asked

LEVELS = ("private", "household", "public")  # strictest first
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
TASKS = ("chat", "completion", "embedding", "agent")
DAY_MINUTES = 24 * 60
MAX_WORDS = 256  # in any list of a condition
MAX_WORD = 256  # characters
_LABEL = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_CLOCK = re.compile(r"([01]\d|2[0-3]):([0-5]\d)|24:00")

Networks = tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]


class Labels(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """At least one of `any`, all of `all`, none of `none`; an empty list asks for nothing."""

    any: tuple[str, ...] = ()
    all: tuple[str, ...] = ()
    none: tuple[str, ...] = ()


class Span(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Prompt characters in [from, to)."""

    least: int = msgspec.field(default=0, name="from")
    below: int | None = msgspec.field(default=None, name="to")


class Hours(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Local times in [from, to), "HH:MM", on days of the week (none named: all). Where `to` is not after `from`, the
    window runs over midnight and belongs to the day on which it begins."""

    begin: str = msgspec.field(default="00:00", name="from")
    end: str = msgspec.field(default="24:00", name="to")
    days: tuple[str, ...] = ()
    zone: str = "UTC"


class When(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The conditions. `model`, `task`, `keys` and `users` are globs (`*`, `?`, `[...]`); of a list one must match.
    `client` are networks such as "192.168.1.0/24" of the address that the request came from."""

    model: str | None = None
    task: str | None = None
    keys: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    labels: Labels | None = None
    characters: Span | None = None
    hours: Hours | None = None
    client: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class View:
    """A request as conditions look at it: labels reduced, address read, local times remembered."""

    asked: Asked
    labels: frozenset[str]
    client: ipaddress.IPv4Address | ipaddress.IPv6Address | None
    local: dict[str, tuple[int, int]] = field(default_factory=dict)  # by zone: weekday from 0, minute of the day

    def moment(self, zone: str) -> tuple[int, int]:
        """Weekday (Monday 0) and minute of the day in a time zone."""
        if zone not in self.local:
            here = datetime.fromtimestamp(self.asked.at, ZoneInfo(zone))
            self.local[zone] = (here.weekday(), here.hour * 60 + here.minute)
        return self.local[zone]


Check = Callable[[View], bool]


def view_of(asked: Asked, labels: frozenset[str]) -> View:
    """Prepare a request for any number of rules, under these labels."""
    return View(asked, reduced(labels), _address(asked.client))


def reduced(labels: frozenset[str]) -> frozenset[str]:
    """The labels that count: of the levels only the strictest."""
    held = [level for level in LEVELS if level in labels]
    return labels.difference(held[1:]) if len(held) > 1 else labels


def is_label(text: str) -> bool:
    """Whether this can be a label: 1 to 32 small letters, digits, hyphens."""
    return _LABEL.fullmatch(text) is not None


def checks_of(when: When) -> tuple[Check, ...]:
    """The conditions as functions, cheap ones first. The conditions must be sound: see `when_fault`."""
    found: list[Check] = []
    if when.model is not None:
        found.append(_model_check(when.model))
    if when.task is not None:
        found.append(_task_check(when.task))
    if when.labels is not None:
        found.append(_label_check(when.labels))
    if when.characters is not None:
        found.append(_span_check(when.characters))
    if when.keys:
        found.append(_key_check(when.keys))
    if when.users:
        found.append(_user_check(when.users))
    if when.client:
        found.append(_client_check(when.client))
    if when.hours is not None:
        found.append(_hours_check(when.hours))
    return tuple(found)


def mismatch(when: When, view: View) -> str | None:
    """Say the first condition that fails, in the owner's words, or None where all hold."""
    asked = view.asked
    if when.model is not None and not _model_check(when.model)(view):
        return f"model {asked.model[:80]!r} does not match {when.model!r}"
    if when.task is not None and not _task_check(when.task)(view):
        return f"task {asked.task!r} does not match {when.task!r}"
    if when.labels is not None and not _label_check(when.labels)(view):
        return _label_words(when.labels, view.labels)
    if when.characters is not None and not _span_check(when.characters)(view):
        below = "" if when.characters.below is None else f" to {when.characters.below}"
        return f"the prompt has {asked.prompt_characters} characters, not {when.characters.least}{below}"
    if when.keys and not _key_check(when.keys)(view):
        return f"key {asked.key_name or 'of the owner'!r} is none of {_listed(when.keys)}"
    if when.users and not _user_check(when.users)(view):
        return f"user {asked.user or 'unknown'!r} is none of {_listed(when.users)}"
    if when.client and not _client_check(when.client)(view):
        return f"the client {asked.client or 'unknown'} is not in {_listed(when.client)}"
    if when.hours is not None and not _hours_check(when.hours)(view):
        weekday, minute = view.moment(when.hours.zone)
        return f"it is {DAYS[weekday]} {minute // 60:02}:{minute % 60:02} ({when.hours.zone}), outside the hours"
    return None


def when_fault(when: When) -> str | None:
    """Say what is wrong with conditions, or None where they are sound."""
    labels = when.labels or Labels()
    lists = (when.keys, when.users, when.client, labels.any, labels.all, labels.none)
    words = [word for one in lists for word in one] + [glob for glob in (when.model, when.task) if glob is not None]
    if any(len(one) > MAX_WORDS for one in lists) or any(not 0 < len(word) <= MAX_WORD for word in words):
        return f"a list has at most {MAX_WORDS} entries, each of 1 to {MAX_WORD} characters"
    if wrong := [label for label in (*labels.any, *labels.all, *labels.none) if not is_label(label)]:
        return f"{wrong[0][:40]!r} is no label: write 1 to 32 small letters, digits or hyphens"
    if when.task is not None and not _is_task(when.task):
        return f"{when.task[:40]!r} is no task: there are {', '.join(TASKS)} and tool:NAME"
    span = when.characters or Span()
    if span.least < 0 or (span.below is not None and span.below <= span.least):
        return "characters must go from 0 or more to more than that"
    for text in when.client:
        try:
            ipaddress.ip_network(text)
        except ValueError as exc:
            return f"{text[:40]!r} is no network: {exc}"
    return None if when.hours is None else _hours_fault(when.hours)


def week_minutes(hours: Hours) -> frozenset[int]:
    """The minutes of the week, from Monday 00:00, that the hours cover."""
    begin, end = _minute(hours.begin), _minute(hours.end)
    length = (end - begin) if end > begin else (end - begin + DAY_MINUTES)
    days = [DAYS.index(day) for day in hours.days] or range(7)
    week = 7 * DAY_MINUTES
    return frozenset((day * DAY_MINUTES + begin + past) % week for day in days for past in range(length))


def networks_of(texts: tuple[str, ...]) -> Networks:
    """Networks as values. They must be sound."""
    return tuple(ipaddress.ip_network(text) for text in texts)


@lru_cache(maxsize=4096)
def glob_of(text: str) -> Callable[[str], object]:
    """A glob as a matcher: what it gives is true where a text matches."""
    return re.compile(translate(text)).match


def _model_check(glob: str) -> Check:
    matches = glob_of(glob)
    return lambda view: matches(view.asked.model) is not None


def _task_check(glob: str) -> Check:
    matches = glob_of(glob)
    return lambda view: matches(view.asked.task) is not None


def _label_check(labels: Labels) -> Check:
    some, every, none = frozenset(labels.any), frozenset(labels.all), frozenset(labels.none)

    def check(view: View) -> bool:
        held = view.labels
        return (not some or not some.isdisjoint(held)) and every <= held and none.isdisjoint(held)

    return check


def _span_check(span: Span) -> Check:
    least, below = span.least, span.below
    return lambda view: (
        view.asked.prompt_characters >= least and (below is None or view.asked.prompt_characters < below)
    )


def _key_check(globs: tuple[str, ...]) -> Check:
    matchers = tuple(map(glob_of, globs))
    # The owner's own socket has no key: a condition on keys is for others.
    return lambda view: view.asked.key_name is not None and any(match(view.asked.key_name) for match in matchers)


def _user_check(globs: tuple[str, ...]) -> Check:
    matchers = tuple(map(glob_of, globs))
    return lambda view: view.asked.user is not None and any(match(view.asked.user) for match in matchers)


def _client_check(texts: tuple[str, ...]) -> Check:
    networks = networks_of(texts)
    return lambda view: view.client is not None and any(view.client in network for network in networks)


def _hours_check(hours: Hours) -> Check:
    minutes, zone = week_minutes(hours), hours.zone

    def check(view: View) -> bool:
        weekday, minute = view.moment(zone)
        return weekday * DAY_MINUTES + minute in minutes

    return check


def _label_words(labels: Labels, held: frozenset[str]) -> str:
    has = f"the labels are {_listed(tuple(sorted(held)))}" if held else "there are no labels"
    if labels.any and held.isdisjoint(labels.any):
        return f"{has}, none of {_listed(labels.any)}"
    if missing := [label for label in labels.all if label not in held]:
        return f"{has}, without {missing[0]!r}"
    return f"{has}, and {next(label for label in labels.none if label in held)!r} is excluded"


def _listed(words: tuple[str, ...]) -> str:
    shown = ", ".join(words[:8])
    return shown if len(words) <= 8 else f"{shown} and {len(words) - 8} more"


def _is_task(text: str) -> bool:
    if text.startswith("tool:"):
        return len(text) > len("tool:")
    matches = glob_of(text)
    return any(matches(task) for task in (*TASKS, "tool:"))


def _hours_fault(hours: Hours) -> str | None:
    if not (_CLOCK.fullmatch(hours.begin) and _CLOCK.fullmatch(hours.end)) or hours.begin == hours.end:
        return 'hours go from one time to another, written like "22:00"'
    if wrong := [day for day in hours.days if day not in DAYS]:
        return f"{wrong[0][:40]!r} is no day: there are {', '.join(DAYS)}"
    try:
        ZoneInfo(hours.zone)
    except (KeyError, ValueError, OSError):
        return f"{hours.zone[:40]!r} is no time zone that this machine knows; write for example Europe/Berlin"
    return None


def _minute(text: str) -> int:
    return int(text[:2]) * 60 + int(text[3:])


def _address(text: str | None) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        found = ipaddress.ip_address((text or "").partition("%")[0])
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return mapped or found
