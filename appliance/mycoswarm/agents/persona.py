"""Agent files: who an agent is, in TOML. Hostile input: whatever is wrong is a typed error that names the line."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from fnmatch import fnmatchcase
from typing import Any

from mycoswarm.agents.purse import MAX_SECONDS, MAX_STEPS, MAX_TOKENS, Budget
from mycoswarm.base.errors import InputError
from mycoswarm.routing.clause import is_label

MAX_BYTES = 64 << 10
MAX_PATTERNS = 64
MAX_LABELS = 16
MAX_NAME = 40
MAX_DESCRIPTION = 400
MAX_MODEL = 200
_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")
_PATTERN = re.compile(r"[A-Za-z0-9_.*?\[\]!-]{1,80}")
_KEYS = ("name", "description", "model", "system", "tools", "labels", "certificate", "budget")


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One agent. `tools` are globs over names of tools. `labels` are the owner's, as those of a key. `certificate`: the
    least percent that its model must have reached in the exam; None asks for no exam."""

    name: str
    model: str
    description: str = ""
    system: str = ""
    tools: tuple[str, ...] = ()
    labels: frozenset[str] = frozenset()
    certificate: int | None = None
    budget: Budget = field(default_factory=Budget)

    def takes(self, tool: str) -> bool:
        """Whether this agent may have a tool of that name."""
        return any(fnmatchcase(tool, pattern) for pattern in self.tools)


def is_name(text: str) -> bool:
    """Whether this can be an agent's name: 1 to 40 small letters, digits, hyphens; the first is no hyphen."""
    return len(text) <= MAX_NAME and _NAME.fullmatch(text) is not None


def read_profile(text: str, name: str) -> Profile:
    """Read the agent file of that name. What it does not say has its usual value; only `model` must be there.

    Raises:
        InputError: it is none (code "bad_agent_file"); says where and why.
    """
    return _Reading(text, name).profile()


class _Reading:
    """One file while it is read."""

    def __init__(self, text: str, name: str) -> None:
        self._text, self._name = text, name

    def profile(self) -> Profile:
        if not is_name(self._name):
            raise self._wrong(None, f"an agent is called by up to {MAX_NAME} small letters, digits and hyphens")
        if len(self._text.encode("utf-8", "replace")) > MAX_BYTES:
            raise self._wrong(None, f"it is larger than {MAX_BYTES >> 10} KiB")
        try:
            given = tomllib.loads(self._text)
        except (tomllib.TOMLDecodeError, RecursionError) as exc:
            last = f"line {max(1, len(self._text.splitlines()))}"
            raise self._wrong(None, str(exc).replace("end of document", last)) from exc  # it says the line itself
        self._only(given, _KEYS, "")
        if given.get("name", self._name) != self._name:
            raise self._wrong("name", f"name is not {self._name!r}, as the file is called")
        return Profile(
            name=self._name,
            model=self._words(given, "model", MAX_MODEL, needed=True),
            description=self._words(given, "description", MAX_DESCRIPTION),
            system=self._words(given, "system", MAX_BYTES),
            tools=self._tools(given),
            labels=self._labels(given),
            certificate=self._percent(given),
            budget=self._budget(given),
        )

    def _words(self, given: Mapping[str, Any], key: str, most: int, *, needed: bool = False) -> str:
        value = given.get(key, "")
        if not isinstance(value, str) or len(value) > most:
            raise self._wrong(key, f"{key} must be a text of at most {most} characters")
        if needed and not value.strip():
            raise self._wrong(key, f"{key} is missing")
        return value

    def _tools(self, given: Mapping[str, Any]) -> tuple[str, ...]:
        found = self._list(given, "tools", MAX_PATTERNS)
        for one in found:
            if not _PATTERN.fullmatch(one):
                raise self._wrong("tools", f"tools names {one[:80]!r}, which no tool can be called")
        return found

    def _labels(self, given: Mapping[str, Any]) -> frozenset[str]:
        found = self._list(given, "labels", MAX_LABELS)
        for one in found:
            if not is_label(one):
                raise self._wrong("labels", f"labels holds {one[:80]!r}, which is no label")
        return frozenset(found)

    def _percent(self, given: Mapping[str, Any]) -> int | None:
        value = given.get("certificate")
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 100:
            raise self._wrong("certificate", "certificate must be a whole number from 1 to 100, in percent")
        return value

    def _list(self, given: Mapping[str, Any], key: str, most: int) -> tuple[str, ...]:
        value = given.get(key, [])
        if not isinstance(value, list) or len(value) > most or not all(isinstance(one, str) for one in value):
            raise self._wrong(key, f"{key} must be a list of at most {most} texts")
        return tuple(value)

    def _budget(self, given: Mapping[str, Any]) -> Budget:
        table = given.get("budget", {})
        if not isinstance(table, dict):
            raise self._wrong("budget", "budget must be a table")
        self._only(table, tuple(one.name for one in fields(Budget)), "budget.")
        usual = Budget()
        return Budget(
            max_steps=self._count(table, "max_steps", usual.max_steps, MAX_STEPS),
            tokens=self._count(table, "tokens", usual.tokens, MAX_TOKENS),
            seconds=self._number(table, "seconds", usual.seconds, MAX_SECONDS),
        )

    def _count(self, table: Mapping[str, Any], key: str, usual: int, most: int) -> int:
        value = table.get(key, usual)
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
            raise self._wrong(key, f"budget.{key} must be a whole number from 1 to {most}")
        return value

    def _number(self, table: Mapping[str, Any], key: str, usual: float, most: float) -> float:
        value = table.get(key, usual)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= most:
            raise self._wrong(key, f"budget.{key} must be a number above 0, at most {most:g}")
        return float(value)

    def _only(self, table: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
        for key in table:
            if key not in known:
                raise self._wrong(key, f"{where}{key[:80]} is no field; there are {', '.join(known)}")

    def _wrong(self, key: str | None, why: str) -> InputError:
        line = None if key is None else self._line(key)
        place = f", line {line}" if line else ""
        return InputError(
            f"the agent file {self._name[:80]}.toml{place}: {why}",
            hint="docs/agents.md shows what belongs into one.",
            code="bad_agent_file",
        )

    def _line(self, key: str) -> int | None:
        """Where a key stands first; None where it is written in a way that only TOML itself finds."""
        begins = re.compile(rf"""\s*\[?\s*(budget\s*\.\s*)?["']?{re.escape(key)}["']?\s*[\]=.]""")
        for number, line in enumerate(self._text.splitlines(), 1):
            if begins.match(line):
                return number
        return None
