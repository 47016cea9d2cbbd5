"""Every way to tamper with a ledger is found and named. Rows here were written by a real ledger with a real key."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mycoswarm.base.errors import InputError
from mycoswarm.store.audit import MAX_FINDINGS, Audit, Verdict, audit_lines
from mycoswarm.store.chain import Head, Row, numbered, read_line, unnumbered, write_line
from mycoswarm.swarm.key import is_signed
from store.books import key, ledger_at

LENGTH = 9
NUMBERS = st.integers(1, LENGTH)
PAIRS = st.lists(NUMBERS, min_size=2, max_size=2, unique=True)
by_us = partial(is_signed, key().public_der)


@cache
def written() -> tuple[tuple[Row, ...], Head]:
    """A sound ledger of `LENGTH` rows."""
    with TemporaryDirectory() as folder, ledger_at(Path(folder) / "node.db") as (ledger, _):
        for number in range(LENGTH):
            name = None if number % 3 == 0 else f"r{number // 2}"
            ledger.append("answer", {"number": number, "text": "ä" * number}, request_id=name, now=100.5 + number)
        *rows, head = [read_line(line) for line in ledger.export()]
    assert isinstance(head, Head)
    return tuple(row for row in rows if isinstance(row, Row)), head


def verdict_of(rows: list[Row], head: Head | None) -> Verdict:
    audit = Audit(by_us)
    for row in sorted(rows, key=lambda row: row.seq):
        audit.add(row)
    return audit.finish(head)


def found(rows: list[Row], head: Head | None) -> list[tuple[str, int, int]]:
    verdict = verdict_of(rows, head)
    assert not verdict.more and all(finding.words for finding in verdict.findings)
    return [(finding.kind, finding.first, finding.last) for finding in verdict.findings]


def forged(row: Row, **fields: Any) -> Row:
    """A row with other content and a digest that fits, by somebody without the key."""
    changed = replace(row, **fields)
    return replace(changed, digest=numbered(unnumbered(changed), changed.seq))


def test_an_untouched_ledger_is_sound() -> None:
    rows, head = written()
    assert verdict_of(list(rows), head) == Verdict(LENGTH, (), 0)
    assert verdict_of([], None).is_sound


CHANGES: dict[str, Callable[[Row], Row]] = {
    "at": lambda row: replace(row, at=row.at + 0.5),
    "kind": lambda row: replace(row, kind=row.kind + "s"),
    "request_id": lambda row: replace(row, request_id="" if row.request_id is None else None),
    "body": lambda row: replace(row, body=row.body.replace("1", "2") + " "),
    "previous": lambda row: replace(row, previous=row.digest),
    "digest": lambda row: replace(row, digest=row.previous),
    "undecodable": lambda row: replace(row, body=row.body + "\udcff"),
    "two columns shifted": lambda row: replace(row, kind=row.kind[:-1], request_id="r" + (row.request_id or "")),
}


@given(NUMBERS, st.sampled_from(sorted(CHANGES)))
def test_a_changed_column_is_one_finding_at_its_row(number: int, column: str) -> None:
    rows, head = list(written()[0]), written()[1]
    rows[number - 1] = CHANGES[column](rows[number - 1])
    assert found(rows, head) == [("changed", number, number)]


@given(NUMBERS, st.binary(max_size=80))
def test_a_changed_signature_is_named_as_that(number: int, signature: bytes) -> None:
    rows, head = list(written()[0]), written()[1]
    rows[number - 1] = replace(rows[number - 1], signature=signature)
    assert found(rows, head) == [("unsigned", number, number)]


@given(st.sets(NUMBERS, min_size=1, max_size=LENGTH - 1))
def test_deleted_rows_are_named(gone: set[int]) -> None:
    rows, head = written()
    wrong = found([row for row in rows if row.seq not in gone], head)
    assert {number for _, first, last in wrong for number in range(first, last + 1)} == gone
    assert all(kind == ("cut" if last == LENGTH else "removed") for kind, _, last in wrong)


@pytest.mark.slow
@given(PAIRS)
def test_rows_that_were_swapped_are_named_with_the_numbers_they_had(pair: list[int]) -> None:
    rows, head = list(written()[0]), written()[1]
    a, b = sorted(pair)
    rows[a - 1], rows[b - 1] = replace(rows[b - 1], seq=a), replace(rows[a - 1], seq=b)
    verdict = verdict_of(rows, head)
    said = {number for f in verdict.findings for number in range(f.first, f.last + 1)}
    assert said == {a, b} and {f.kind for f in verdict.findings} == {"moved"}
    assert {f.first: f.really for f in verdict.findings} == {a: b, b: a}


@given(NUMBERS, st.sampled_from(["body", "at", "request_id"]))
def test_a_row_that_was_replaced_by_a_forged_one_is_named(number: int, field: str) -> None:
    rows, head = list(written()[0]), written()[1]
    value = {"body": '{"number":77}', "at": 5.0, "request_id": "other"}[field]
    rows[number - 1] = forged(rows[number - 1], **{field: value})
    assert found(rows, head) == [("inserted", number, number)]


@given(NUMBERS)
def test_a_row_that_was_squeezed_in_is_named_and_the_rows_after_it_too(number: int) -> None:
    rows, head = list(written()[0]), written()[1]
    squeezed = forged(rows[number - 1], body="{}")
    later = [replace(row, seq=row.seq + 1) for row in rows[number - 1 :]]
    wrong = found([*rows[: number - 1], squeezed, *later], head)
    assert wrong == [("inserted", number, number), ("moved", number + 1, LENGTH + 1)]


@given(st.integers(1, LENGTH - 1))
def test_a_row_whose_gap_was_closed_is_named(number: int) -> None:
    rows, head = list(written()[0]), written()[1]
    later = [replace(row, seq=row.seq - 1) for row in rows[number:]]
    assert ("removed", number, number) in found([*rows[: number - 1], *later], head)


@given(st.integers(-5, 0) | st.integers(LENGTH + 1, 2**63 - 1))
def test_a_row_under_an_impossible_number_is_named(number: int) -> None:
    rows, head = list(written()[0]), written()[1]
    rows.append(forged(rows[-1], seq=number, previous=rows[-1].digest))
    assert found(rows, head) == [("inserted", number, number)]


@given(NUMBERS, st.integers(LENGTH + 1, 10**9))
def test_a_row_that_was_moved_behind_the_end_is_named(number: int, to: int) -> None:
    rows, head = list(written()[0]), written()[1]
    rows[number - 1] = replace(rows[number - 1], seq=to)
    verdict = verdict_of(rows, head)
    assert ("moved", to, number) in [(f.kind, f.first, f.really) for f in verdict.findings]


@given(st.integers(0, LENGTH - 1))
def test_a_tail_that_was_cut_off_is_named(kept: int) -> None:
    rows, head = written()
    assert found(list(rows[:kept]), head) == [("cut", kept + 1, LENGTH)]


@given(st.integers(1, LENGTH - 1), st.sampled_from(["row", "head", "none"]))
def test_a_head_that_was_fitted_to_a_cut_without_the_key_is_named(kept: int, signature: str) -> None:
    rows, head = written()
    last = rows[kept - 1]
    signed = {"row": last.signature, "head": head.signature, "none": b""}[signature]
    assert found(list(rows[:kept]), Head(kept, last.digest, signed)) == [("head", kept, kept)]
    assert found(list(rows[:kept]), None) == [("head", kept, kept)]


@given(st.sampled_from(["seq", "digest", "signature"]), st.integers(0, 20))
def test_a_changed_head_is_named(field: str, number: int) -> None:
    rows, head = written()
    value = {"seq": number + (number >= LENGTH), "digest": rows[0].digest, "signature": bytes(number)}[field]
    assert found(list(rows), replace(head, **{field: value})) == [("head", LENGTH, LENGTH)]  # type: ignore[arg-type]  # fields by name


def test_an_old_head_over_newer_rows_is_named() -> None:
    with TemporaryDirectory() as folder, ledger_at(Path(folder) / "node.db") as (ledger, _):
        ledger.append("a", {}, request_id=None, now=1.0)
        old = read_line(list(ledger.export())[-1])
        ledger.append("a", {}, request_id=None, now=2.0)
        rows = [each for each in map(read_line, ledger.export()) if isinstance(each, Row)]
    assert isinstance(old, Head) and found(rows, old) == [("head", 2, 2)]


def test_rows_of_two_copies_do_not_pass_as_one_ledger() -> None:
    with TemporaryDirectory() as folder, ledger_at(Path(folder) / "node.db") as (ledger, _):
        for number in range(LENGTH):
            ledger.append("other", {"number": number}, request_id=None, now=1.0)
        others = [each for each in map(read_line, ledger.export()) if isinstance(each, Row)]
    rows, head = written()
    assert found([*others[:4], *rows[4:]], head) == [("unlinked", 5, 5)]


def test_several_faults_are_several_findings() -> None:
    rows, head = list(written()[0]), written()[1]
    rows[1] = CHANGES["body"](rows[1])
    rows[3] = replace(rows[3], signature=b"")
    rows[5] = forged(rows[5], body="{}")
    del rows[7]
    assert found(rows, head) == [("changed", 2, 2), ("unsigned", 4, 4), ("inserted", 6, 6), ("removed", 8, 8)]


def test_findings_are_bounded_and_the_rest_is_counted() -> None:
    rows, head = written()
    many = [replace(rows[0], seq=number, body="{}") for number in range(1, 301)]
    verdict = verdict_of(many, head)
    assert len(verdict.findings) + verdict.more == 300 and len(verdict.findings) == MAX_FINDINGS


@pytest.mark.slow
@given(st.data())
def test_any_mixture_of_tampering_is_found_and_breaks_nothing(data: st.DataObject) -> None:
    rows, head = written()
    held = {row.seq: row for row in rows}
    for _ in range(data.draw(st.integers(1, 4))):
        number = data.draw(st.sampled_from(sorted(held)))
        act = data.draw(st.sampled_from(["change", "delete", "forge", "move"]))
        row = held[number]
        if act == "delete" and len(held) > 1:
            del held[number]
        elif act == "move":
            del held[number]
            to = data.draw(st.integers(-3, 40).filter(lambda number: number not in held))
            held[to] = replace(row, seq=to)
        elif act == "forge":
            held[number] = forged(row, body='{"forged":1}')
        else:
            held[number] = CHANGES[data.draw(st.sampled_from(sorted(CHANGES)))](row)
    assert verdict_of(list(held.values()), head).is_sound == (held == {row.seq: row for row in rows})


def test_an_export_can_be_checked_from_its_lines_and_by_its_formula() -> None:
    rows, head = written()
    lines = [write_line(each) for each in (*rows, head)]
    assert [read_line(line) for line in lines] == [*rows, head]
    assert audit_lines(lines, by_us).is_sound
    assert audit_lines(lines[4:], by_us, first=5).is_sound
    assert [f.kind for f in audit_lines(lines[:-1], by_us).findings] == ["head"]
    assert not audit_lines(lines, lambda body, signature: False).is_sound
    with pytest.raises(InputError):
        audit_lines([*lines, lines[0]], by_us)


@pytest.mark.parametrize(
    "line",
    ["", "[]", "1", "{}", '{"head":1}', '{"head":{"seq":"1"}}', "[" * 100_000, '{"seq":1e400}', '{"head":{"seq":1.0}}'],
)
def test_a_line_that_is_no_row_is_a_typed_error(line: str) -> None:
    with pytest.raises(InputError):
        read_line(line)


@given(st.sampled_from(["seq", "at", "kind", "request_id", "body", "previous", "digest", "signature"]), st.data())
def test_a_row_with_a_field_of_another_type_is_a_typed_error(field: str, data: st.DataObject) -> None:
    import json

    fields = json.loads(write_line(written()[0][0]))
    fields[field] = data.draw(st.sampled_from([[], {}, "\ud800", 2**64 if field == "seq" else []]))
    with pytest.raises(InputError):
        read_line(json.dumps(fields))
