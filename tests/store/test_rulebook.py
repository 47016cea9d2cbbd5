"""The rule book, against a plain model of it: every version kept, no edit lost."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mycoswarm.base.errors import InputError, NotFoundError, RefusedError, StorageError
from mycoswarm.store.database import Store
from mycoswarm.store.rulebook import Document, RuleBook, StoredRule, StoredTest
from store.books import killed_after

FIRST = Document(rules=(StoredRule(name="any", when={}, then={"run": "any"}, note="the first"),))

WRITER = """
import sys
from dataclasses import replace
from pathlib import Path
from mycoswarm.store.database import Store
from mycoswarm.store.rulebook import Document, RuleBook, StoredRule
book = RuleBook(Store(Path(sys.argv[1])), first=Document(), now=0.0)
for number in range(100000):
    def change(document):
        rule = StoredRule(name=f"rule after {document.version}", when={"n": document.version})
        return replace(document, rules=(rule, *document.rules[:20]))
    print(book.edit(change, by="child", what="add", now=1.0).version, flush=True)
"""


def book_of(store: Store) -> RuleBook:
    return RuleBook(store, first=FIRST, now=1.0)


def put(book: RuleBook, rules: tuple[StoredRule, ...], **more: Any) -> Document:
    return book.edit(
        lambda document: replace(document, rules=rules), **{"by": "ana", "what": "edit", "now": 5.0, **more}
    )


@pytest.fixture
def store(tmp_path: Path) -> Any:
    made = Store(tmp_path / "node.db")
    yield made
    made.close()


def allow(document: Document) -> None:
    """A check that refuses nothing."""


def test_a_fresh_book_has_the_first_rules_as_version_1_and_keeps_them(store: Store) -> None:
    document = book_of(store).document()
    assert document.version == 1 and [rule.id for rule in document.rules] == [1]
    assert (document.rules[0].name, document.rules[0].changed_at) == ("any", 1.0)
    assert RuleBook(store, first=Document(), now=9.0).document() == document
    (version,) = book_of(store).history()
    assert version.version == 1 and [change.kind for change in version.changes] == ["order", "rule"]


def test_only_rows_that_changed_say_who_changed_them(store: Store) -> None:
    book = book_of(store)
    (first,) = book.document().rules
    put(book, (first, StoredRule(name="b", when={"x": 1})), by="bo", now=6.0)
    document = put(
        book, (replace(book.document().rules[1], changed_by="liar", changed_at=0.0), first), by="cy", now=7.0
    )
    assert [(rule.name, rule.changed_by, rule.changed_at) for rule in document.rules] == [
        ("b", "bo", 6.0),
        ("any", "mycoswarm", 1.0),
    ]
    changed = put(book, (replace(document.rules[0], when={"x": True}), first), by="di", now=8.0)
    assert [rule.changed_by for rule in changed.rules] == ["di", "mycoswarm"], "true is not 1"


def test_an_edit_that_says_the_same_makes_no_version(store: Store) -> None:
    book = book_of(store)
    assert put(book, book.document().rules).version == 1 and len(book.history()) == 1


def test_ids_are_never_used_again(store: Store) -> None:
    book = book_of(store)
    put(book, (StoredRule(name="b"),))
    put(book, ())
    put(book, (StoredRule(name="c"),))
    assert [rule.id for rule in book_of(store).document().rules] == [3]


def test_an_edit_for_another_version_is_refused(store: Store) -> None:
    book = book_of(store)
    put(book, (), expected_version=1)
    with pytest.raises(InputError) as caught:
        put(book, FIRST.rules, expected_version=1)
    assert caught.value.code == "stale_version" and "anew" in caught.value.hint
    assert book.document().version == 2


def test_what_a_change_raises_or_does_to_its_copy_changes_nothing(store: Store) -> None:
    book = book_of(store)
    before = book.document()

    def spoil(document: Document) -> Document:
        document.rules[0].then.clear()
        raise RefusedError("no")

    with pytest.raises(RefusedError):
        book.edit(spoil, by="ana", what="edit", now=2.0)
    assert book.document() == before and book.document().rules[0].then == {"run": "any"}
    assert book_of(store).document() == before


DEEP: dict[str, Any] = {}
for _ in range(5000):
    DEEP = {"x": DEEP}

WRONG: list[tuple[StoredRule, ...]] = [
    (StoredRule(id=7, name="unknown"),),
    (StoredRule(id=1, name="a"), StoredRule(id=1, name="b")),
    (StoredRule(name="nan", when={"x": float("nan")}),),
    (StoredRule(name="bytes", when={"x": b""}),),
    (StoredRule(name="\ud800"),),
    (StoredRule(name="long", note="x" * 70_000),),
    (StoredRule(name="deep", when=DEEP),),
    (StoredRule(name="many"),) * 10_001,
]


@pytest.mark.parametrize("rules", WRONG, ids=lambda rules: rules[0].name.encode("ascii", "replace").decode())
def test_what_cannot_be_kept_is_a_typed_error(store: Store, rules: tuple[StoredRule, ...]) -> None:
    book = book_of(store)
    with pytest.raises(InputError):
        put(book, rules)
    assert book.document().version == 1 == book_of(store).document().version


def test_two_tests_of_one_name_and_words_without_end_are_refused(store: Store) -> None:
    book, twins = book_of(store), (StoredTest(name="a"), StoredTest(name="a", expect={"x": 1}))
    with pytest.raises(InputError):
        book.edit(lambda document: replace(document, tests=twins), by="ana", what="edit", now=2.0)
    for words in ("", "x" * 501, "two\nlines"):
        with pytest.raises(InputError):
            put(book, (), what=words)
        with pytest.raises(InputError):
            put(book, (), by=words)
    assert book.document().version == 1 == book_of(store).document().version


def test_undo_goes_back_step_by_step_and_every_step_is_a_version(store: Store) -> None:
    book = book_of(store)
    with pytest.raises(NotFoundError):
        book.undo(by="ana", now=2.0, check=allow)
    states = [book.document()]
    for name in ("b", "c"):
        states.append(put(book, (*book.document().rules, StoredRule(name=name))))
    assert book.undo(by="ana", now=6.0, check=allow).rules == states[1].rules
    assert book.undo(by="ana", now=7.0, check=allow).rules == states[0].rules
    with pytest.raises(NotFoundError):
        book.undo(by="ana", now=8.0, check=allow)
    assert [(v.version, v.what, v.undoes) for v in book.history(2)] == [
        (5, "undo of version 2", 2),
        (4, "undo of version 3", 3),
    ]
    put(book, ())
    assert book.undo(by="ana", now=9.0, check=allow).rules == states[0].rules


def test_an_undo_that_the_check_refuses_changes_nothing(store: Store) -> None:
    book = book_of(store)
    put(book, ())

    def refuse(document: Document) -> None:
        assert [rule.name for rule in document.rules] == ["any"]
        raise RefusedError("a test breaks")

    with pytest.raises(RefusedError):
        book.undo(by="ana", now=2.0, check=refuse)
    assert book.document().version == 2 and book.document().rules == ()


def test_the_history_says_what_each_version_changed(store: Store) -> None:
    book = book_of(store)
    (first,) = book.document().rules
    put(book, (StoredRule(name="b"), first), what="add b")
    put(book, (book.document().rules[1], book.document().rules[0]), what="move b")
    moved, added = book.history(2)
    assert (moved.what, [change.kind for change in moved.changes]) == ("move b", ["order"])
    assert {change.kind: (change.before, change.after) for change in added.changes}["order"] == ([], [[0, [2]]])
    (rule,) = [change for change in added.changes if change.kind == "rule"]
    assert (rule.key, rule.before, rule.after["name"]) == ("2", None, "b")


@pytest.mark.parametrize("version", [0, -1, 2])
def test_a_version_that_never_was_is_a_typed_error(store: Store, version: int) -> None:
    with pytest.raises(NotFoundError):
        book_of(store).at_version(version)


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM rules",
        "UPDATE rules SET body = 'no'",
        "UPDATE rules SET body = '{\"x\":1}'",
        "UPDATE rule_order SET ids = '[]'",
    ],
)
def test_a_damaged_book_is_a_typed_error_and_no_empty_book(store: Store, statement: str) -> None:
    book_of(store)
    store.write(statement)
    with pytest.raises(StorageError):
        book_of(store)


VALUES = st.none() | st.booleans() | st.integers(0, 2) | st.floats(0, 2) | st.text(max_size=3)
DICTS = st.dictionaries(st.sampled_from("abc"), VALUES, max_size=2)
STEPS = st.sampled_from(["add", "change", "move", "shuffle", "remove", "test", "undo", "reopen"])


@pytest.mark.slow
@settings(max_examples=40)
@given(st.data())
def test_any_sequence_of_edits_is_as_in_a_plain_model(tmp_path_factory: pytest.TempPathFactory, data: Any) -> None:
    path = tmp_path_factory.mktemp("book") / "node.db"
    store = Store(path)
    book = book_of(store)
    seen = {1: book.document()}  # every version as it was when it was the newest
    undoable: list[Document] = []  # what was before each edit that is not undone
    for now in range(2, 2 + data.draw(st.integers(1, 15))):
        step, present = data.draw(STEPS), book.document()
        if step == "reopen":
            store.close()
            store = Store(path)
            book = book_of(store)
            assert book.document() == present
            continue
        if step == "undo":
            if not undoable:
                with pytest.raises(NotFoundError):
                    book.undo(by="u", now=float(now), check=allow)
                continue
            wanted = undoable.pop()
            document = book.undo(by="u", now=float(now), check=allow)
            assert (document.rules, document.tests) == (wanted.rules, wanted.tests)
        else:
            wanted = _edited(present, step, data)
            document = book.edit(lambda _, wanted=wanted: wanted, by="e", what=step, now=float(now))  # type: ignore[misc]  # bound now
            _assert_same_words(document, wanted)
            if document.version > present.version:
                undoable.append(present)
        seen[document.version] = document
    assert list(seen) == list(range(1, len(seen) + 1))
    for version, document in seen.items():
        assert book.at_version(version) == document
    store.close()


def _edited(present: Document, step: str, data: Any) -> Document:
    rules, tests = list(present.rules), list(present.tests)
    at = data.draw(st.integers(0, max(len(rules) - 1, 0)))
    if step == "add" or not rules:
        rules.insert(
            data.draw(st.integers(0, len(rules))),
            StoredRule(name=data.draw(st.text(max_size=3)), when=data.draw(DICTS)),
        )
    elif step == "change":
        rules[at] = replace(rules[at], when=data.draw(DICTS), enabled=data.draw(st.booleans()))
    elif step == "move":
        rules.insert(data.draw(st.integers(0, len(rules) - 1)), rules.pop(at))
    elif step == "shuffle":
        rules = data.draw(st.permutations(rules))
    elif step == "remove":
        del rules[at]
    else:
        named = {test.name: test for test in tests}
        name = data.draw(st.sampled_from("xyz"))
        if data.draw(st.booleans()):
            named.pop(name, None)
        else:
            named[name] = StoredTest(name=name, request=data.draw(DICTS))
        tests = list(named.values())
    return replace(present, rules=tuple(rules), tests=tuple(tests))


def _assert_same_words(document: Document, wanted: Document) -> None:
    said = [(rule.name, rule.enabled, rule.when, rule.then) for rule in document.rules]
    assert said == [(rule.name, rule.enabled, rule.when, rule.then) for rule in wanted.rules]
    assert {test.name: test.request for test in document.tests} == {test.name: test.request for test in wanted.tests}
    assert [test.name for test in document.tests] == sorted(test.name for test in wanted.tests)


def test_many_rules_that_change_places_at_once_are_put_back(store: Store) -> None:
    book, chance = book_of(store), Random(7)
    seen = [book.document(), put(book, tuple(StoredRule(name=f"r{number}") for number in range(12)))]
    for _ in range(20):
        rules = list(book.document().rules)
        chance.shuffle(rules)
        seen.append(put(book, (*rules[: chance.randrange(6, 12)], *(StoredRule(name="new") for _ in range(3)))))
    assert [book.at_version(document.version) for document in seen] == seen
    for document in seen[-2:0:-1]:
        assert book.undo(by="ana", now=9.0, check=allow).rules == document.rules


def test_eight_threads_that_edit_at_once_lose_nothing(store: Store) -> None:
    book = book_of(store)

    def add(number: int) -> int:
        def change(document: Document) -> Document:
            return replace(document, rules=(*document.rules, StoredRule(name=f"r{number}")))

        return book.edit(change, by=f"t{number % 8}", what="add", now=2.0).version

    with ThreadPoolExecutor(8) as pool:
        versions = list(pool.map(add, range(48)))
    assert sorted(versions) == list(range(2, 50))
    for document in (book.document(), book_of(store).document()):
        assert {rule.name for rule in document.rules} == {"any", *(f"r{number}" for number in range(48))}


@pytest.mark.slow
def test_a_thousand_rules_edited_many_times_stay_small(tmp_path: Path) -> None:
    store = Store(tmp_path / "node.db")
    book = RuleBook(store, first=Document(), now=1.0)
    put(book, tuple(StoredRule(name=f"rule {number}", when={"model": f"m{number}*"}) for number in range(1000)))
    store.write("PRAGMA wal_checkpoint(TRUNCATE)")
    before = (tmp_path / "node.db").stat().st_size
    for number in range(40):
        rules = list(book.document().rules)
        rules.insert((number * 577) % 1000, rules.pop((number * 331) % 1000))
        rules[500] = replace(rules[500], note=f"note {number}")
        put(book, tuple(rules))
    store.write("PRAGMA wal_checkpoint(TRUNCATE)")
    assert (tmp_path / "node.db").stat().st_size - before < 40 * 2500
    assert [rule.name for rule in book.at_version(2).rules] == [f"rule {number}" for number in range(1000)]
    store.close()


@pytest.mark.slow
def test_kill_9_while_editing_loses_no_acknowledged_edit(tmp_path: Path) -> None:
    path = tmp_path / "node.db"
    for turn in range(1, 4):
        said = killed_after(WRITER, path, 20 * turn)
        store = Store(path)
        book = RuleBook(store, first=Document(), now=0.0)
        assert book.document().version >= said >= 20 * turn
        for version in range(2, book.document().version + 1):
            assert book.at_version(version).rules[0].name == f"rule after {version - 1}"
        store.close()
