"""Tickets and answers as typed rows of a real ledger."""

from pathlib import Path

import pytest

from mycoswarm.base.errors import InputError
from mycoswarm.store.database import Store
from mycoswarm.store.record import Answer, Receipt, Records
from mycoswarm.store.speed import Speeds
from store.books import ledger_at, ledger_of


def answer(number: int) -> Answer:
    return Answer(
        request_id=f"r{number}",
        at=float(number),
        key_name="laptop",
        model="spore",
        model_digest="d",
        rule="any",
        nodes=(("a", 0, 3), ("b", 3, 6)),
        outcome="stop",
        prompt_tokens=3,
        completion_tokens=4,
        seconds=0.5,
    )


def test_what_was_added_is_read_back_newest_first(tmp_path: Path) -> None:
    with ledger_at(tmp_path / "node.db") as (ledger, _):
        records = Records(ledger)
        for number in range(3):
            records.add_answer(answer(number))
            records.take_ticket(Receipt(float(number), f"r{number}", "any", "d", b'{"x": "\xc3\xa4"}', b"s"))
        assert records.answers(2) == [answer(2), answer(1)]
        assert [receipt.request_id for receipt in records.tickets()] == ["r2", "r1", "r0"]
        assert records.tickets("r1") == [Receipt(1.0, "r1", "any", "d", b'{"x": "\xc3\xa4"}', b"s")]
        assert ledger.verify().is_sound


def test_the_newest_speed_is_kept_with_its_date(tmp_path: Path) -> None:
    store = Store(tmp_path / "node.db")
    speeds = Speeds(store)
    speeds.note("a", 1e9, 5.0)
    speeds.note("a", 2e9, 6.0)
    assert speeds.known() == {"a": (2e9, 6.0)}
    store.close()


def test_a_row_that_was_altered_in_the_file_is_a_typed_error(tmp_path: Path) -> None:
    with ledger_at(tmp_path / "node.db") as (ledger, store):
        records = Records(ledger)
        for body in ("{}", "[]", "no", '{"nodes":7}'):
            records.add_answer(answer(1))
            store.write("UPDATE ledger SET body = ?", (body,))
            with pytest.raises(InputError, match="row 1") as caught:
                records.answers()[-1:]
            assert caught.value.code == "ledger_altered"
            store.write("DELETE FROM ledger")
            store.write("DELETE FROM ledger_head")
            records = Records(ledger_of(store))


def test_a_ticket_that_is_no_text_is_refused(tmp_path: Path) -> None:
    with ledger_at(tmp_path / "node.db") as (ledger, _), pytest.raises(InputError):
        Records(ledger).take_ticket(Receipt(1.0, "r", "any", "d", b"\xff", b"s"))
