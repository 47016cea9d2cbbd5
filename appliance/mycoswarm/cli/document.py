"""Rules and their tests as TOML, `[[rule]]` and `[[test]]`: written, read back without loss, edited."""

import os
import shlex
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomli_w

from mycoswarm.base.errors import InputError, SetupError, StorageError

HEAD = "# The first rule that matches decides; where none does, the request is refused.\n"
MAX_BYTES = 8 << 20  # as the daemon takes bodies
# What of a rule is the owner's word; the rest (position, who changed it and when) is the daemon's.
_RULE = ("name", "enabled", "note", "when", "then", "fallback")
_TEST = ("name", "request", "expect")


@dataclass(frozen=True, slots=True)
class Document:
    """Rules in order, and tests by name, each as plain values."""

    rules: list[dict[str, Any]] = field(default_factory=list)
    tests: dict[str, dict[str, Any]] = field(default_factory=dict)


def written(document: Document) -> str:
    """The document as TOML. Equal documents give equal texts."""
    rules = [rule_words(rule) for rule in document.rules]
    tests = [{"name": name, **test} for name, test in sorted(document.tests.items())]
    tables = {"rule": rules, "test": tests}
    return HEAD + "\n" + tomli_w.dumps({name: found for name, found in tables.items() if found})


def rule_words(rule: dict[str, Any]) -> dict[str, Any]:
    """Of a rule as the daemon shows it, what the owner has said."""
    kept = {name: rule[name] for name in _RULE if rule.get(name) not in (None, "", {}, [])}
    if kept.get("enabled") is True:
        del kept["enabled"]
    return kept


def shown_document(told: dict[str, Any]) -> Document:
    """The document in an answer of `GET /api/rules`."""
    tests = {test["name"]: {part: test[part] for part in _TEST[1:] if part in test} for test in told["tests"]}
    return Document([rule_words(rule) for rule in told["rules"]], tests)


def read_document(text: str) -> Document:
    """Read TOML. A text that is one rule without `[[rule]]` above it counts as that rule.

    Raises:
        InputError: not TOML, or something else than rules and tests.
    """
    try:
        given = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as exc:
        raise _unreadable(str(exc)) from exc
    if "rule" not in given and "test" not in given and given:
        return Document([given])
    if unknown := sorted(set(given) - {"rule", "test"}):
        raise _unreadable(f"it holds {unknown[0][:80]!r}, and only [[rule]] and [[test]] are looked at")
    rules, tests = given.get("rule", []), given.get("test", [])
    for kind, found in (("rule", rules), ("test", tests)):
        if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
            raise _unreadable(f"a {kind} begins with [[{kind}]]")
    return Document(rules, _by_name(tests))


def read_text(file: Path) -> str:
    """A file's text; "-" is stdin.

    Raises:
        InputError: it is not text, or too long.
        StorageError: it cannot be read.
    """
    try:
        if str(file) == "-":
            data = sys.stdin.buffer.read(MAX_BYTES + 1)
        else:
            with file.open("rb") as source:
                data = source.read(MAX_BYTES + 1)
        text = data.decode()
    except OSError as exc:
        hint = "Check the file's name and permissions."
        raise StorageError(f"{file} cannot be read: {exc.strerror}", hint=hint) from exc
    except UnicodeDecodeError as exc:
        raise _unreadable("it is not UTF-8 text") from exc
    if len(data) > MAX_BYTES:
        raise _unreadable(f"it is larger than {MAX_BYTES >> 20} MiB")
    return text


def edited(text: str) -> str:
    """Let the owner edit a text with $VISUAL, $EDITOR or vi, and give what was saved.

    Raises:
        SetupError: there is no such editor, or it failed.
        StorageError: the text cannot be written or read.
        InputError: what was saved is no text.
    """
    named = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    try:
        argv = shlex.split(named)
    except ValueError as exc:
        raise SetupError(f"the editor {named!r} cannot be read: {exc}", hint="Set EDITOR to a program.") from exc
    with tempfile.TemporaryDirectory(prefix="mycoswarm-") as folder:  # its mode is 0700
        file = Path(folder) / "rule.toml"
        try:
            file.write_text(text, encoding="utf-8")
            # An editor takes as long as its owner does.
            done = subprocess.run([*argv, str(file)], check=False)  # noqa: S603  # the owner's own program
        except OSError as exc:
            raise SetupError(f"{named} did not start: {exc}", hint="Set EDITOR to a program that is there.") from exc
        if done.returncode != 0:
            raise SetupError(f"{named} ended with status {done.returncode}: nothing was changed", hint="Try again.")
        return read_text(file)


def _by_name(tests: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for test in tests:
        name = test.get("name")
        if not isinstance(name, str) or name in found:
            raise _unreadable("every [[test]] needs a name of its own")
        found[name] = {part: value for part, value in test.items() if part != "name"}
    return found


def _unreadable(why: str) -> InputError:
    return InputError(
        f"these rules cannot be read: {why}", hint="See docs/rules.md, or what `mycoswarm-node rules export` prints."
    )
