"""The rule book: the owner's rules and their tests, with every old version kept. What the rules mean, others know.

A version is kept as the rows that it changed, each before and after; the order of the rules as the ids that left it
and came into it. So a thousand rules that are edited ten thousand times stay small, and any version can be rebuilt.
"""

import json
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from difflib import SequenceMatcher
from typing import Any, Literal

from mycoswarm.base.errors import InputError, NotFoundError, StorageError
from mycoswarm.store.chain import canonical
from mycoswarm.store.database import Store, Transaction

MAX_RULES = 10_000  # and as many tests: ten times what deciding is measured with
MAX_ROW_CHARACTERS = 64 << 10  # of one rule or test as JSON
MAX_WORDS = 500  # characters of who and what
MAX_HISTORY = 1000  # versions that one question gives
FIRST_BY = "mycoswarm"

_ORDER_KEY = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRule:
    """One rule as data. `id` is never used again for another rule; 0 is a new one. `changed_at`: seconds since 1970."""

    id: int = 0
    name: str
    enabled: bool = True
    when: dict[str, Any] = field(default_factory=dict)
    then: dict[str, Any] = field(default_factory=dict)
    fallback: list[dict[str, Any]] = field(default_factory=list)
    note: str = ""
    changed_by: str = ""
    changed_at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTest:
    """An example request and what is expected of it, as data."""

    name: str
    request: dict[str, Any] = field(default_factory=dict)
    expect: dict[str, Any] = field(default_factory=dict)
    changed_by: str = ""
    changed_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Document:
    """All rules in their order, and all tests by name. Take its dicts as they are: change copies."""

    version: int = 0
    rules: tuple[StoredRule, ...] = ()
    tests: tuple[StoredTest, ...] = ()


@dataclass(frozen=True, slots=True)
class Change:
    """One row that a version changed; None is no such row. For the order: [[position, ids], ...] out and in."""

    kind: Literal["rule", "test", "order"]
    key: str
    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class Version:
    """One step of the history. `undoes` is the version that it undid."""

    version: int
    at: float
    by: str
    what: str
    undoes: int | None = None
    changes: tuple[Change, ...] = ()


@dataclass(slots=True)
class _Pages:
    """A document as the texts that are stored: its rows as JSON, and the order as ids."""

    rules: dict[str, str]
    tests: dict[str, str]
    order: tuple[int, ...]


_Texts = tuple[str, str, str | None, str | None]  # kind, key, before, after


class RuleBook:
    """The one owner of the rules. Blocking and thread-safe; `document` costs no disk."""

    def __init__(self, store: Store, *, first: Document, now: float) -> None:
        """Read the book. In an empty store it begins with `first` as version 1.

        Raises:
            InputError: `first` is needed, and cannot be kept.
            StorageError: it cannot be read or written, or is damaged.
        """
        self._store = store
        self._editing = threading.Lock()
        found = store.read("SELECT version, ids, next_id FROM rule_order")
        if not found:
            mark = {"changed_by": FIRST_BY, "changed_at": now}
            pages, next_id = _written(_Pages({}, {}, ()), Document(), first, mark=mark, next_id=1)
            with store.transaction() as transaction:
                transaction.write("INSERT INTO rule_order (id, version, ids, next_id) VALUES (1, 0, '[]', 1)")
                changes = _differences(_Pages({}, {}, ()), pages)
                _write(transaction, 1, changes, pages.order, next_id)
                _write_version(transaction, Version(1, now, FIRST_BY, "the first rules"))
            found = store.read("SELECT version, ids, next_id FROM rule_order")
        self._version, self._next_id = int(found[0][0]), int(found[0][2])
        self._pages = _Pages(
            {str(key): str(body) for key, body in store.read("SELECT id, body FROM rules")},
            {str(key): str(body) for key, body in store.read("SELECT name, body FROM rule_tests")},
            tuple(json.loads(found[0][1])),
        )
        self._document = _document(self._version, self._pages)

    def document(self) -> Document:
        """The rules as they are now."""
        return self._document

    def edit(
        self,
        change: Callable[[Document], Document],
        *,
        by: str,
        what: str,
        now: float,
        expected_version: int | None = None,
    ) -> Document:
        """Have `change` make a new document of the present one, while nobody else edits. What it raises is let out,
        and nothing is changed; a document that says the same makes no new version.

        Raises:
            InputError: the document cannot be kept; or with the code `stale_version`: it is not the expected one.
            StorageError: it could not be written; nothing was changed.
        """
        with self._editing:
            if expected_version is not None and expected_version != self._version:
                raise InputError(
                    f"the rules are at version {self._version}, and this edit was made for version {expected_version}",
                    hint="Load the rules anew, and make the edit again.",
                    code="stale_version",
                )
            wanted = change(_document(self._version, self._pages))  # its own copy: it may do as it likes with its dicts
            mark = {"changed_by": by, "changed_at": now}
            pages, next_id = _written(self._pages, self._document, wanted, mark=mark, next_id=self._next_id)
            return self._commit(pages, next_id, by=by, what=what, now=now)

    def undo(self, *, by: str, now: float, check: Callable[[Document], None]) -> Document:
        """Bring back what was before the newest version that is neither an undo nor undone, as a new version.
        `check` may refuse it: what it raises is let out, and nothing is changed.

        Raises:
            NotFoundError: there is nothing to undo.
            StorageError: it could not be read or written; nothing was changed.
        """
        with self._editing:
            found = self._store.read(
                "SELECT MAX(version) FROM rule_versions WHERE version > 1 AND undoes IS NULL"
                " AND version NOT IN (SELECT undoes FROM rule_versions WHERE undoes IS NOT NULL)"
            )
            undone = found[0][0]
            if undone is None:
                raise NotFoundError(
                    "there is no edit of the rules to undo", hint="`rules history` shows what was done."
                )
            pages = _copy(self._pages)
            _take_back(pages, self._changes(undone, undone))
            check(_document(self._version + 1, pages))
            what = f"undo of version {undone}"
            return self._commit(pages, self._next_id, by=by, what=what, now=now, undoes=undone)

    def history(self, limit: int = 100) -> tuple[Version, ...]:
        """The newest versions with what they changed, newest first.

        Raises:
            StorageError: they could not be read.
        """
        found = self._store.read(
            "SELECT version, at, by, what, undoes FROM rule_versions ORDER BY version DESC LIMIT ?",
            (min(max(limit, 0), MAX_HISTORY),),
        )
        if not found:
            return ()
        changes: dict[int, list[Change]] = {}
        for version, *texts in self._changes(found[-1][0], found[0][0]):
            kind, key, before, after = texts
            change = Change(kind, key, _loaded(before), _loaded(after))
            changes.setdefault(version, []).append(change)
        return tuple(
            Version(version, at, by, what, undoes, tuple(changes.get(version, ())))
            for version, at, by, what, undoes in found
        )

    def at_version(self, version: int) -> Document:
        """The rules as they were.

        Raises:
            NotFoundError: there is no such version.
            StorageError: it could not be read.
        """
        with self._editing:
            newest, pages = self._version, _copy(self._pages)
            if not 1 <= version <= newest:
                raise NotFoundError(f"the rules have no version {version}", hint=f"There are 1 to {newest}.")
            _take_back(pages, self._changes(version + 1, newest))
        return _document(version, pages)

    def _changes(self, first: int, last: int) -> list[tuple[Any, ...]]:
        """What these versions changed, newest first."""
        return self._store.read(
            "SELECT version, kind, key, before, after FROM rule_changes WHERE version BETWEEN ? AND ?"
            " ORDER BY version DESC, kind, key",
            (first, last),
        )

    def _commit(
        self, pages: _Pages, next_id: int, *, by: str, what: str, now: float, undoes: int | None = None
    ) -> Document:
        changes = _differences(self._pages, pages)
        if not changes:
            return self._document
        version = self._version + 1
        document = _document(version, pages)
        with self._store.transaction() as transaction:
            _write(transaction, version, changes, pages.order, next_id)
            _write_version(transaction, Version(version, now, by, what, undoes))
        self._pages, self._next_id, self._version, self._document = pages, next_id, version, document
        return document


def _written(
    old: _Pages, present: Document, wanted: Document, *, mark: dict[str, Any], next_id: int
) -> tuple[_Pages, int]:
    """The pages of a wanted document: new rules get their ids, changed rows the mark of who changed them and when."""
    if max(len(wanted.rules), len(wanted.tests)) > MAX_RULES:
        raise InputError(f"there may be at most {MAX_RULES} rules, and as many tests")
    rules = {str(rule.id): rule for rule in present.rules}
    tests = {test.name: test for test in present.tests}
    pages, order = _Pages({}, {}, ()), []
    for rule in wanted.rules:
        if rule.id == 0:
            rule, next_id = replace(rule, id=next_id), next_id + 1
        elif str(rule.id) not in rules:
            raise InputError(f"there is no rule with the id {rule.id}", hint="A new rule has the id 0.")
        if str(rule.id) in pages.rules:
            raise InputError(f"the rule {rule.name[:80]!r} stands in the document twice")
        key = str(rule.id)
        pages.rules[key] = _marked(rule, rules.get(key), old.rules.get(key), mark)
        order.append(rule.id)
    for test in wanted.tests:
        if test.name in pages.tests:
            raise InputError(f"there are two tests named {test.name[:80]!r}", hint="Give one another name.")
        pages.tests[test.name] = _marked(test, tests.get(test.name), old.tests.get(test.name), mark)
    pages.order = tuple(order)
    return pages, next_id


def _marked(row: Any, old: Any, old_text: str | None, mark: dict[str, Any]) -> str:
    """The text of a rule or test: as it stood where it says what it said, else marked as changed now."""
    said = _said(row)
    if old is not None:
        # Compared as text: to Python, true is 1 and 1 is 1.0.
        text = _text({**said, "changed_by": old.changed_by, "changed_at": old.changed_at})
        if text == old_text:
            return text
    return _text({**said, **mark})


def _said(row: Any) -> dict[str, Any]:
    # Not asdict, which copies what lies inside and so fails on deep data in a way of its own.
    return {each.name: getattr(row, each.name) for each in fields(row)}


def _text(row: dict[str, Any]) -> str:
    text = canonical(row)
    if len(text) > MAX_ROW_CHARACTERS:
        raise InputError(f"{row['name'][:80]!r} is longer than a rule or test may be", code="too_large")
    return text


def _document(version: int, pages: _Pages) -> Document:
    try:
        rules = tuple(StoredRule(**json.loads(pages.rules[str(number)])) for number in pages.order)
        tests = tuple(StoredTest(**json.loads(pages.tests[name])) for name in sorted(pages.tests))
        is_whole = len(rules) == len(pages.rules)
    except (KeyError, TypeError, ValueError) as exc:
        raise _damaged() from exc
    if not is_whole:
        raise _damaged()
    return Document(version, rules, tests)


def _damaged() -> StorageError:
    return StorageError(
        "the stored rules are damaged: nothing is decided by them",
        hint="Restore the node's database from a backup.",
        code="rules_damaged",
    )


def _differences(old: _Pages, new: _Pages) -> list[_Texts]:
    """The rows that differ, before and after."""
    changes: list[_Texts] = []
    for kind, before, after in (("rule", old.rules, new.rules), ("test", old.tests, new.tests)):
        for key in dict.fromkeys((*before, *after)):
            if before.get(key) != after.get(key):
                changes.append((kind, key, before.get(key), after.get(key)))
    if old.order != new.order:
        gone, come = _spans(old.order, new.order)
        changes.append(("order", _ORDER_KEY, json.dumps(gone), json.dumps(come)))
    return changes


_Span = list[Any]  # [position, ids from there on]


def _spans(before: tuple[int, ...], after: tuple[int, ...]) -> tuple[list[_Span], list[_Span]]:
    """What left one order, by its places there, and what came into the other, by its places there."""
    gone: list[_Span] = []
    come: list[_Span] = []
    for _, i, j, k, m in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if before[i:j] != after[k:m]:
            gone += [[i, list(before[i:j])]] if j > i else []
            come += [[k, list(after[k:m])]] if m > k else []
    return gone, come


def _take_back(pages: _Pages, changes: Iterable[Sequence[Any]]) -> None:
    """Turn pages back through changes (version, kind, key, before, after), newest first."""
    order = list(pages.order)
    for _, kind, key, before, after in changes:
        if kind == "order":
            for at, ids in reversed(json.loads(after)):
                del order[at : at + len(ids)]
            for at, ids in json.loads(before):
                order[at:at] = ids
            continue
        table = pages.rules if kind == "rule" else pages.tests
        if before is None:
            table.pop(key, None)
        else:
            table[key] = before
    pages.order = tuple(order)


def _write(
    transaction: Transaction, version: int, changes: Iterable[_Texts], order: Sequence[int], next_id: int
) -> None:
    for kind, key, before, after in changes:
        transaction.write(
            "INSERT INTO rule_changes (version, kind, key, before, after) VALUES (?, ?, ?, ?, ?)",
            (version, kind, key, before, after),
        )
        if kind == "rule":
            transaction.write("DELETE FROM rules WHERE id = ?", (int(key),))
            if after is not None:
                transaction.write("INSERT INTO rules (id, body) VALUES (?, ?)", (int(key), after))
        elif kind == "test":
            transaction.write("DELETE FROM rule_tests WHERE name = ?", (key,))
            if after is not None:
                transaction.write("INSERT INTO rule_tests (name, body) VALUES (?, ?)", (key, after))
    statement = "UPDATE rule_order SET version = ?, ids = ?, next_id = ?"
    transaction.write(statement, (version, json.dumps(list(order)), next_id))


def _write_version(transaction: Transaction, step: Version) -> None:
    for words in (step.by, step.what):
        if not 0 < len(words) <= MAX_WORDS or not words.isprintable():
            raise InputError(f"who and what of an edit are 1 to {MAX_WORDS} characters on one line each")
    statement = "INSERT INTO rule_versions (version, at, by, what, undoes) VALUES (?, ?, ?, ?, ?)"
    transaction.write(statement, (step.version, step.at, step.by, step.what, step.undoes))


def _copy(pages: _Pages) -> _Pages:
    return _Pages(dict(pages.rules), dict(pages.tests), pages.order)


def _loaded(text: str | None) -> Any:
    return None if text is None else json.loads(text)
