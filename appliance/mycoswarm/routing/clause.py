"""Conditions of a rule: which requests it is for. All that are given must hold; one that is not given always does.

Label levels: of `private`, `household` and `public` a request counts as having the strictest only, so no rule for
public prompts takes one that is private too.
"""

import ipaddress
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from fnmatch import translate
from functools import lru_cache
from zoneinfo import ZoneInfo

import msgspec

from mycoswarm.routing.snapshot import Asked

LEVELS = ("private", "household", "public")  # strictest first
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
TASKS = ("chat", "completion", "embedding", "agent")
DAY_MINUTES = 24 * 60
WEEK_MINUTES = 7 * DAY_MINUTES
MAX_CHARACTERS = 1 << 53  # what every JSON reader takes for a whole number
MAX_WORDS = 256  # in any list of a condition
MAX_WORD = 256  # characters
_WORDS_FAULT = f"a list has at most {MAX_WORDS} entries, each of 1 to {MAX_WORD} visible characters"
_LABEL = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_CLOCK = re.compile(r"(?:[01][0-9]|2[0-3]):[0-5][0-9]")

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
    """Local times in [from, to), "HH:MM", on days of the week (none named: all). Where `to` is before `from`, the
    window runs over midnight and belongs to the day on which it begins. A clock that is set back shows some times
    twice, and both count."""

    begin: str = msgspec.field(default="00:00", name="from")
    end: str = msgspec.field(default="24:00", name="to")
    days: tuple[str, ...] = ()
    zone: str = "UTC"


class When(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The conditions. `model`, `task`, `keys` and `users` are globs (`*`, `?`, `[...]`); of a list one must match.
    `client` are networks such as "192.168.1.0/24" of the address that the request came from. What is not known of a
    request (its key, user, address) meets no condition on it."""

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
    local: dict[str, int | None] = field(default_factory=dict)  # minute of the week by zone

    def minute(self, zone: str) -> int | None:
        """The minute of the week in a time zone, from Monday 00:00; None where zone or time cannot be."""
        if zone not in self.local:
            self.local[zone] = _week_minute(self.asked.at, zone)
        return self.local[zone]


Check = Callable[[View], bool]
Clause = tuple[Check, Callable[[View], str]]  # whether it holds, and the words for where it does not


def view_of(asked: Asked, labels: frozenset[str]) -> View:
    """Prepare a request for any number of rules, under these labels."""
    return View(asked, reduced(labels), address_of(asked.client))


def reduced(labels: frozenset[str]) -> frozenset[str]:
    """The labels that count: of the levels only the strictest."""
    held = [level for level in LEVELS if level in labels]
    return labels.difference(held[1:]) if len(held) > 1 else labels


def is_label(text: str) -> bool:
    """Whether this can be a label: 1 to 32 small letters, digits, hyphens."""
    return _LABEL.fullmatch(text) is not None


def clauses_of(when: When) -> tuple[Clause, ...]:
    """The conditions as functions, cheap ones first. They must be sound: see `when_fault`."""
    found: list[Clause] = []
    if when.model is not None:
        found.append(_model_clause(when.model))
    if when.task is not None:
        found.append(_task_clause(when.task))
    if when.labels is not None:
        found.append(_label_clause(when.labels))
    if when.characters is not None:
        found.append(_span_clause(when.characters))
    if when.keys:
        found.append(_key_clause(when.keys))
    if when.users:
        found.append(_user_clause(when.users))
    if when.client:
        found.append(_client_clause(when.client))
    if when.hours is not None:
        found.append(_hours_clause(when.hours))
    return tuple(found)


def mismatch(clauses: tuple[Clause, ...], view: View) -> str | None:
    """Say the first condition that fails, in the owner's words, or None where all hold."""
    return next((words(view) for holds, words in clauses if not holds(view)), None)


def when_fault(when: When) -> str | None:
    """Say what is wrong with conditions, or None where they are sound."""
    labels = when.labels or Labels()
    hours = when.hours or Hours()
    lists = (when.keys, when.users, when.client, labels.any, labels.all, labels.none, hours.days)
    words = [word for word in (hours.zone, when.model, when.task) if word is not None]
    if (fault := words_fault(lists, words) or label_fault((*labels.any, *labels.all, *labels.none))) is not None:
        return fault
    if when.task is not None and not _is_task(when.task):
        return f"{when.task[:40]!r} is no task: there are {', '.join(TASKS)} and tool:NAME"
    span = when.characters or Span()
    below = MAX_CHARACTERS if span.below is None else span.below
    if not 0 <= span.least < below <= MAX_CHARACTERS:
        return "characters must go from 0 or more to more than that"
    for text in when.client:
        try:
            ipaddress.ip_network(text)
        except ValueError as exc:
            return f"{text[:40]!r} is no network: {str(exc)[:100]}"
        if "%" in text:
            return f"{text[:40]!r} names an interface, and a client's address does not tell it"
    return None if when.hours is None else _hours_fault(when.hours)


def words_fault(lists: Iterable[Sequence[str]], words: Iterable[str]) -> str | None:
    """Say what is wrong with lists of words, or with single words, or None where they are sound."""
    every = [*words]
    for one in lists:
        if len(one) > MAX_WORDS:
            return _WORDS_FAULT
        every += one
    return None if all(is_word(word, MAX_WORD) for word in every) else _WORDS_FAULT


def label_fault(labels: Iterable[str]) -> str | None:
    """Say which of these is no label, or None where all are."""
    wrong = next((label for label in labels if not is_label(label)), None)
    return None if wrong is None else f"{wrong[:40]!r} is no label: write 1 to 32 small letters, digits or hyphens"


def week_mask(hours: Hours) -> int:
    """The minutes of the week that the hours cover, from Monday 00:00, as bits."""
    begin, end = _clock(hours.begin), _clock(hours.end)
    window = (1 << (end - begin if end > begin else end - begin + DAY_MINUTES)) - 1
    mask = 0
    for day in hours.days or DAYS:
        mask |= window << (DAYS.index(day) * DAY_MINUTES + begin)
    return (mask | mask >> WEEK_MINUTES) & ((1 << WEEK_MINUTES) - 1)  # Sunday's window runs into Monday


def networks_of(texts: tuple[str, ...]) -> Networks:
    """Networks as values, those of IPv4 in IPv6's form as IPv4, as clients are. They must be sound."""
    return tuple(map(_network, texts))


def address_of(text: str | None) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """An address without its scope, as IPv4 where it is one in IPv6's form; None where it is none."""
    try:
        found = ipaddress.ip_address((text or "").partition("%")[0])
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return mapped or found


def is_word(text: str, most: int) -> bool:
    """Whether a text can stand in a rule: not empty, not too long, and nothing in it that a terminal would obey."""
    return 0 < len(text) <= most and text.isprintable()


@lru_cache(maxsize=4096)
def glob_of(text: str) -> Callable[[str], object]:
    """A glob as a matcher: what it gives is true where a text matches."""
    return re.compile(translate(text)).match


def _model_clause(glob: str) -> Clause:
    matches = glob_of(glob)
    return (
        lambda view: matches(view.asked.model) is not None,
        lambda view: f"model {view.asked.model[:80]!r} does not match {glob!r}",
    )


def _task_clause(glob: str) -> Clause:
    matches = glob_of(glob)
    return (
        lambda view: matches(view.asked.task) is not None,
        lambda view: f"task {view.asked.task[:80]!r} does not match {glob!r}",
    )


def _label_clause(labels: Labels) -> Clause:
    some, every, none = frozenset(labels.any), frozenset(labels.all), frozenset(labels.none)

    def holds(view: View) -> bool:
        held = view.labels
        return (not some or not some.isdisjoint(held)) and every <= held and none.isdisjoint(held)

    return holds, lambda view: _label_words(labels, view.labels)


def _span_clause(span: Span) -> Clause:
    least, below = span.least, math.inf if span.below is None else span.below
    words = f"from {least}" + ("" if span.below is None else f" to {below}")
    return (
        lambda view: least <= view.asked.prompt_characters < below,
        lambda view: f"the prompt has {view.asked.prompt_characters} characters, not {words}",
    )


def _key_clause(globs: tuple[str, ...]) -> Clause:
    matchers = tuple(map(glob_of, globs))

    def holds(view: View) -> bool:
        # The owner's own socket has no key: a condition on keys is for others.
        name = view.asked.key_name
        return name is not None and any(match(name) for match in matchers)

    return holds, lambda view: f"key {(view.asked.key_name or 'of the owner')[:80]!r} is none of {_listed(globs)}"


def _user_clause(globs: tuple[str, ...]) -> Clause:
    matchers = tuple(map(glob_of, globs))

    def holds(view: View) -> bool:
        user = view.asked.user
        return user is not None and any(match(user) for match in matchers)

    return holds, lambda view: f"user {(view.asked.user or 'unknown')[:80]!r} is none of {_listed(globs)}"


def _client_clause(texts: tuple[str, ...]) -> Clause:
    networks = networks_of(texts)

    def holds(view: View) -> bool:
        return view.client is not None and any(view.client in network for network in networks)

    return holds, lambda view: f"the client {(view.asked.client or 'unknown')[:80]} is not in {_listed(texts)}"


def _hours_clause(hours: Hours) -> Clause:
    mask, zone = week_mask(hours), hours.zone

    def holds(view: View) -> bool:
        minute = view.minute(zone)
        return minute is not None and mask >> minute & 1 == 1

    def words(view: View) -> str:
        minute = view.minute(zone)
        if minute is None:
            return f"the time in {zone} is unknown"
        day, past = divmod(minute, DAY_MINUTES)
        return f"it is {DAYS[day]} {past // 60:02}:{past % 60:02} ({zone}), outside the hours"

    return holds, words


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
    is_clock = _CLOCK.fullmatch(hours.begin) and (_CLOCK.fullmatch(hours.end) or hours.end == "24:00")
    if not is_clock or hours.begin == hours.end:
        return 'hours go from one time to another, written like "22:00"; only `to` can be "24:00"'
    if wrong := [day for day in hours.days if day not in DAYS]:
        return f"{wrong[0][:40]!r} is no day: there are {', '.join(DAYS)}"
    if _zone(hours.zone) is None:
        return f"{hours.zone[:40]!r} is no time zone that this machine knows; write for example Europe/Berlin"
    return None


def _clock(text: str) -> int:
    return int(text[:2]) * 60 + int(text[3:])


def _zone(name: str) -> tzinfo | None:
    if name == "UTC":  # what every machine knows, one without a table of zones too
        return UTC
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return None


def _week_minute(at: float, zone: str) -> int | None:
    known = _zone(zone)
    try:
        here = datetime.fromtimestamp(at, known) if known is not None else None
    except (ValueError, OverflowError, OSError):  # past the years that a calendar has
        return None
    return None if here is None else (here.weekday() * 24 + here.hour) * 60 + here.minute


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    found = ipaddress.ip_network(text)
    if isinstance(found, ipaddress.IPv6Network) and found.prefixlen >= 96:
        mapped = found.network_address.ipv4_mapped
        return found if mapped is None else ipaddress.IPv4Network((int(mapped), found.prefixlen - 96))
    return found
