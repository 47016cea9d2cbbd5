"""The exam of a model's tool calls: its cases as data, a judge that is code alone, and the score.

Judged are tools, arguments by value, and words in the answer. Words beside right calls are no fault: agents show them.
Not judged: style, speed, whether the answer says more than it was asked.
"""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from mycoswarm.wire.tool import ToolCall, ToolSpec

VERSION = 1  # raised with any change of cases or judge; certificates of another version do not count
KINDS = ("single", "parallel", "nested", "none", "refusal", "long", "result")
MAX_WORDS = 80  # of an answer, in the reason why it is wrong

Message = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Wanted:
    """A call that is right. A tuple among the arguments holds alternatives: each of them is right."""

    tool: str
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What a model is shown, and what is right: exactly these calls in any order, or no call and one of these texts as
    whole words. Without both, any answer without a call is right."""

    name: str
    kind: str
    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...]
    calls: tuple[Wanted, ...] = ()
    says: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model answered."""

    text: str
    calls: tuple[ToolCall, ...] = ()


@dataclass(frozen=True, slots=True)
class Score:
    """Right answers and cases, by kind, in the order of `KINDS`."""

    kinds: dict[str, tuple[int, int]]

    @property
    def right(self) -> int:
        """Right answers in all."""
        return sum(right for right, _ in self.kinds.values())

    @property
    def cases(self) -> int:
        """Cases in all."""
        return sum(cases for _, cases in self.kinds.values())

    @property
    def percent(self) -> int:
        """Whole percent, rounded down, so that 80 is never less than 80."""
        return 100 * self.right // self.cases if self.cases else 0


def tally(verdicts: Iterable[tuple[str, bool]]) -> Score:
    """Add verdicts up: the kind of each case, and whether its answer was right."""
    held = list(verdicts)
    kinds = [kind for kind in KINDS if any(kind == each for each, _ in held)]
    return Score({kind: (held.count((kind, True)), sum(kind == each for each, _ in held)) for kind in kinds})


def fault_of(case: Case, reply: Reply) -> str | None:
    """Why an answer is wrong; None where it is right."""
    if case.calls:
        return _fault_of_calls(case.calls, reply)
    if reply.calls:
        return f"called {_named(reply.calls)} where no tool fits"
    if not reply.text.strip():
        return "said nothing"
    if case.says and not any(_has(reply.text, words) for words in case.says):
        return f"said {_short(reply.text)}, without {case.says[0]!r}"
    return None


def _fault_of_calls(wanted: Sequence[Wanted], reply: Reply) -> str | None:
    if not reply.calls:
        return f"made no call, but said {_short(reply.text)}"
    given = []
    for call in reply.calls:
        arguments = _arguments(call.arguments)
        if arguments is None:
            return f"the arguments for {call.name[:MAX_WORDS]} are no JSON object: {_short(call.arguments)}"
        given.append((call.name, arguments))
    if sorted(name for name, _ in given) != sorted(one.tool for one in wanted):
        return f"called {_named(reply.calls)} instead of {', '.join(one.tool for one in wanted)}"
    for one in wanted:
        found = next((each for each in given if each[0] == one.tool and _fits(one.arguments, each[1])), None)
        if found is None:
            return f"no call of {one.tool} has the right arguments: {_short(_written(reply.calls))}"
        given.remove(found)
    return None


def _fits(wanted: Any, given: Any) -> bool:
    """Equal by value: numbers as numbers, true and false only as such, texts without regard to case and spaces."""
    if isinstance(wanted, tuple):
        return any(_fits(one, given) for one in wanted)
    if isinstance(wanted, dict):
        is_same = isinstance(given, dict) and wanted.keys() == given.keys()
        return is_same and all(_fits(value, given[key]) for key, value in wanted.items())
    if isinstance(wanted, list):
        is_same = isinstance(given, list) and len(given) == len(wanted)
        return is_same and all(map(_fits, wanted, given))
    if isinstance(wanted, str):
        return isinstance(given, str) and _plain(wanted) == _plain(given)
    if isinstance(wanted, bool) or wanted is None or isinstance(given, bool):
        return wanted is given
    return isinstance(given, int | float) and bool(wanted == given)


def _plain(text: str) -> str:
    return "".join(text.split()).casefold()


def _has(text: str, words: str) -> bool:
    """Whether these words stand in a text as they are: 42 is neither in 142 nor in 42.5."""
    pattern = rf"(?<![\w.]){re.escape(words.casefold())}(?!\w|[.,]\d)"
    return re.search(pattern, " ".join(text.split()).casefold()) is not None


def _arguments(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _named(calls: Sequence[ToolCall]) -> str:
    return _short(", ".join(call.name for call in calls))


def _written(calls: Sequence[ToolCall]) -> str:
    return "; ".join(f"{call.name} {call.arguments}" for call in calls)


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= MAX_WORDS else f"{text[:MAX_WORDS]}..."
