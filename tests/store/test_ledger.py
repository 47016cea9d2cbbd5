"""The ledger in a real SQLite file: what was acknowledged stays, and what was tampered with in the file shows."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mycoswarm.base.errors import InputError, StorageError
from mycoswarm.store.audit import audit_lines
from mycoswarm.store.database import Store
from mycoswarm.store.ledger import Entry
from mycoswarm.swarm.key import SigningKey, is_signed
from store.books import key, killed_after, ledger_at, ledger_of

WRITER = """
import sys
from pathlib import Path
from mycoswarm.store.database import Store
from mycoswarm.store.ledger import Ledger
from mycoswarm.swarm.key import SigningKey, is_signed
key = SigningKey.from_pem(sys.stdin.buffer.read())
ledger = Ledger(Store(Path(sys.argv[1])), key.sign, lambda body, by: is_signed(key.public_der, body, by))
for number in range(100000):
    print(ledger.append("answer", {"number": number}, request_id=f"r{number}", now=1.0).seq, flush=True)
"""

TAMPERING: dict[str, tuple[str, list[tuple[str, int, int]]]] = {
    "body": ("UPDATE ledger SET body = '{}' WHERE seq = 3", [("changed", 3, 3)]),
    "time": ("UPDATE ledger SET at = at + 1 WHERE seq = 3", [("changed", 3, 3)]),
    "null": ("UPDATE ledger SET request_id = NULL WHERE seq = 3", [("changed", 3, 3)]),
    "no text": ("UPDATE ledger SET body = CAST(x'7bff7d' AS TEXT) WHERE seq = 3", [("changed", 3, 3)]),
    "signature": ("UPDATE ledger SET signature = x'00' WHERE seq = 3", [("unsigned", 3, 3)]),
    "delete": ("DELETE FROM ledger WHERE seq = 3", [("removed", 3, 3)]),
    "cut": ("DELETE FROM ledger WHERE seq > 3", [("cut", 4, 5)]),
    "all": ("DELETE FROM ledger", [("cut", 1, 5)]),
    "head": ("DELETE FROM ledger_head", [("head", 5, 5)]),
    "head's number": ("UPDATE ledger_head SET seq = 3", [("head", 5, 5)]),
    "late": (
        "INSERT INTO ledger SELECT 6, at, kind, request_id, body, digest, digest, x'00' FROM ledger WHERE seq = 5",
        [("inserted", 6, 6)],
    ),
    "fraction": ("UPDATE ledger SET at = 9e999 WHERE seq = 3", [("changed", 3, 3)]),
}


def fill(path: Path, rows: int = 5) -> None:
    with ledger_at(path) as (ledger, _):
        ledger.append_many([Entry("answer", {"number": number}, f"r{number}") for number in range(rows)], 7.0)


def tamper(path: Path, statement: str) -> None:
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(statement)
    connection.close()


def found(path: Path) -> list[tuple[str, int, int]]:
    with ledger_at(path) as (ledger, _):
        verdict = ledger.verify()
        assert audit_lines(ledger.export(), lambda body, by: is_signed(key().public_der, body, by)) == verdict
    return [(finding.kind, finding.first, finding.last) for finding in verdict.findings]


def test_what_was_added_is_read_back_by_kind_request_and_age(tmp_path: Path) -> None:
    with ledger_at(tmp_path / "node.db") as (ledger, _):
        for number in range(6):
            kind = "even" if number % 2 == 0 else "odd"
            row = ledger.append(kind, {"b": number, "a": "ä"}, request_id=f"r{number // 3}", now=10.0 + number)
            assert (row.seq, row.at, row.body) == (number + 1, 10.0 + number, f'{{"a":"ä","b":{number}}}')
        assert [row.seq for row in ledger.rows()] == [1, 2, 3, 4, 5, 6]
        assert [row.seq for row in ledger.rows(kind="odd", after=2)] == [4, 6]
        assert [row.seq for row in ledger.rows(after=1, limit=2)] == [2, 3]
        assert [row.seq for row in ledger.request("r1")] == [4, 5, 6]
        assert [row.seq for row in ledger.newest(2)] == [6, 5]
        assert [row.seq for row in ledger.newest(9, kinds=["even"])] == [5, 3, 1]
        assert ledger.newest(9, kinds=[]) == () and ledger.append_many([], 1.0) == ()
        assert ledger.rows(request_id="r1", kind="odd")[0].content() == {"a": "ä", "b": 3}


def test_a_ledger_goes_on_after_a_restart(tmp_path: Path) -> None:
    for _ in range(3):
        fill(tmp_path / "node.db", 2)
    with ledger_at(tmp_path / "node.db") as (ledger, _):
        assert ledger.verify().rows == 6 and ledger.verify().is_sound


@pytest.mark.parametrize("name", TAMPERING)
def test_tampering_with_the_file_is_found_and_named(tmp_path: Path, name: str) -> None:
    statement, wanted = TAMPERING[name]
    fill(tmp_path / "node.db")
    tamper(tmp_path / "node.db", statement)
    assert found(tmp_path / "node.db") == wanted


@pytest.mark.parametrize("name", TAMPERING)
def test_going_on_after_tampering_does_not_cover_it_up(tmp_path: Path, name: str) -> None:
    fill(tmp_path / "node.db")
    tamper(tmp_path / "node.db", TAMPERING[name][0])
    fill(tmp_path / "node.db", 2)
    fill(tmp_path / "node.db", 2)
    with ledger_at(tmp_path / "node.db") as (ledger, _):
        assert not ledger.verify().is_sound


def test_a_cut_with_a_fitted_head_stays_visible_when_rows_follow(tmp_path: Path) -> None:
    fill(tmp_path / "node.db")
    tamper(tmp_path / "node.db", "DELETE FROM ledger WHERE seq > 3")
    fitted = "UPDATE ledger_head SET seq = 3, digest = (SELECT digest FROM ledger WHERE seq = 3)"
    tamper(tmp_path / "node.db", fitted)
    assert found(tmp_path / "node.db") == [("head", 3, 3)]
    fill(tmp_path / "node.db", 2)
    assert found(tmp_path / "node.db") == [("altered", 4, 4)]
    with ledger_at(tmp_path / "node.db") as (ledger, _):
        assert [row.kind for row in ledger.rows()] == ["answer"] * 3 + ["altered"] + ["answer"] * 2
        assert ledger.rows()[3].content() == {"found": "the head was changed"}


def test_tampering_while_the_node_runs_is_no_way_around(tmp_path: Path) -> None:
    path = tmp_path / "node.db"
    with ledger_at(path) as (ledger, _):
        for number in range(4):
            ledger.append("answer", {}, request_id=None, now=float(number))
        tamper(path, "DELETE FROM ledger WHERE seq > 2")
        tamper(path, "UPDATE ledger_head SET seq = 2, digest = (SELECT digest FROM ledger WHERE seq = 2)")
        assert ledger.append("answer", {}, request_id=None, now=9.0).seq == 5
        assert [(f.kind, f.first, f.last) for f in ledger.verify().findings] == [("removed", 3, 4)]


def test_a_number_at_the_end_of_all_numbers_is_a_typed_error(tmp_path: Path) -> None:
    path = tmp_path / "node.db"
    fill(path)
    tamper(path, f"UPDATE ledger SET seq = {2**63 - 1} WHERE seq = 5")
    with ledger_at(path) as (ledger, _), pytest.raises(StorageError) as caught:
        ledger.append("answer", {}, request_id=None, now=1.0)
    assert caught.value.code == "ledger_altered"
    assert ("moved", 2**63 - 1, 2**63 - 1) in found(path)


def test_a_ledger_of_another_key_is_not_ours(tmp_path: Path) -> None:
    from mycoswarm.store.ledger import Ledger

    store, other = Store(tmp_path / "node.db"), SigningKey.generate()
    Ledger(store, other.sign, lambda body, by: is_signed(other.public_der, body, by)).append(
        "a", {}, request_id=None, now=1.0
    )
    assert not ledger_of(store).verify().is_sound
    store.close()


WRONG: list[tuple[str, Any, Any, float]] = [
    ("", {}, None, 1.0),
    ("Answer", {}, None, 1.0),
    ("a\n", {}, None, 1.0),
    ("a", {"x": float("nan")}, None, 1.0),
    ("a", {"x": b"bytes"}, None, 1.0),
    ("a", {"x": "\ud800"}, None, 1.0),
    ("a", {"x": 1, 2: 3}, None, 1.0),
    ("a", {"x": "y" * (17 << 20)}, None, 1.0),
    ("a", {}, "", 1.0),
    ("a", {}, "two words", 1.0),
    ("a", {}, "x" * 129, 1.0),
    ("a", {}, None, float("nan")),
    ("a", {}, None, float("inf")),
    ("a", {}, None, -1.0),
]


def test_what_a_row_cannot_hold_is_refused_and_leaves_no_row(tmp_path: Path) -> None:
    with ledger_at(tmp_path / "node.db") as (ledger, _):
        for kind, body, request_id, now in WRONG:
            with pytest.raises(InputError):
                ledger.append_many([Entry("good", {}), Entry(kind, body, request_id)], now)
        assert ledger.rows() == () and ledger.verify().is_sound


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


@pytest.mark.slow
@given(st.lists(st.tuples(st.dictionaries(st.text(), JSON, max_size=4), st.floats(-0.0, 1e11)), max_size=6))
def test_any_rows_verify_in_the_file_and_as_an_export(
    tmp_path_factory: pytest.TempPathFactory, entries: list[tuple[dict[str, Any], float]]
) -> None:
    path = tmp_path_factory.mktemp("ledger") / "node.db"
    with ledger_at(path) as (ledger, _):
        for body, now in entries:
            assert ledger.append("any", body, request_id=None, now=now).content() == body
    assert found(path) == []


def test_more_than_one_batch_is_read_to_the_end(tmp_path: Path) -> None:
    path = tmp_path / "node.db"
    with ledger_at(path) as (ledger, _):
        ledger.append_many([Entry("large", {"text": "x" * 400_000}) for _ in range(7)], 1.0)
        assert ledger.verify().rows == 7 and ledger.verify().is_sound
    tamper(path, "DELETE FROM ledger WHERE seq = 4")
    assert found(path) == [("removed", 4, 4)]


def test_eight_threads_at_once_make_one_sound_chain(tmp_path: Path) -> None:
    with ledger_at(tmp_path / "node.db") as (ledger, _):
        with ThreadPoolExecutor(8) as pool:
            rows = list(pool.map(lambda n: ledger.append("a", {"n": n}, request_id=None, now=1.0), range(64)))
        assert sorted(row.seq for row in rows) == list(range(1, 65))
        assert ledger.verify().rows == 64 and ledger.verify().is_sound
        assert {row.content()["n"] for row in ledger.rows()} == set(range(64))


@pytest.mark.slow
def test_kill_9_loses_nothing_acknowledged_and_leaves_a_sound_chain(tmp_path: Path) -> None:
    path = tmp_path / "node.db"
    for turn in range(1, 4):
        said = killed_after(WRITER, path, 20 * turn, stdin=key().pem)
        with ledger_at(path) as (ledger, _):
            verdict = ledger.verify()
            assert verdict.is_sound and verdict.rows >= said >= 20 * turn


def test_rows_are_found_by_number_digest_kind_and_the_beginning_of_a_request(tmp_path: Path) -> None:
    with ledger_at(tmp_path / "node.db") as (ledger, _):
        entries = [
            Entry(kind, {"n": n}, name) for n, (kind, name) in enumerate((("a", "r1"), ("b", None), ("a", "r10")))
        ]
        rows = ledger.append_many(entries, 7.0)
        assert ledger.row(2) == rows[1] and ledger.row(9) is None
        assert ledger.named(rows[2].digest) == rows[2] and ledger.named("0" * 64) is None
        assert ledger.recent(("a", "b")) == [(3, "r10"), (2, ""), (1, "r1")]
        assert ledger.recent(("a",), before=3) == [(1, "r1")] and ledger.recent(("c",)) == []
        assert ledger.recent(("a", "b"), limit=1) == [(3, "r10")]
        assert ledger.request_ids("r1") == ["r1", "r10"] and ledger.request_ids("r10") == ["r10"]
        assert ledger.request_ids("r1", 1) == ["r1"] and ledger.request_ids("s") == ledger.request_ids("r11") == []
        assert tuple(ledger.each("a")) == (rows[0], rows[2]) and tuple(ledger.each("a", 1)) == (rows[2],)


@pytest.mark.slow
def test_rows_of_a_kind_come_in_order_over_many_batches_while_others_are_written(tmp_path: Path) -> None:
    with ledger_at(tmp_path / "node.db") as (ledger, _):
        ledger.append_many([Entry("ab"[n % 2], {"n": n, "text": "x" * 2000}) for n in range(2500)], 1.0)
        found = []
        for row in ledger.each("b"):
            found.append(row.seq)
            if len(found) == 3:
                ledger.append("b", {}, request_id=None, now=2.0)
        assert found == [*range(2, 2501, 2), 2501]


def test_who_watches_a_verification_hears_how_far_it_is_and_may_end_it(tmp_path: Path) -> None:
    fill(tmp_path / "node.db", 450)
    with ledger_at(tmp_path / "node.db") as (ledger, _):
        heard: list[int] = []
        assert ledger.verify(heard.append).is_sound and heard == [200, 400]

        def stop(rows: int) -> None:
            raise StorageError("enough")

        with pytest.raises(StorageError, match="enough"):
            ledger.verify(stop)
        assert ledger.verify().rows == 450
