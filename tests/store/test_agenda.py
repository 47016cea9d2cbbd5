"""Schedules in a real database: kept whole, bounded, removed for good."""

from dataclasses import replace
from pathlib import Path

import pytest

from mycoswarm.base.errors import BusyError, NotFoundError, StorageError
from mycoswarm.store.agenda import MAX_SCHEDULES, MAX_WORDS, Agenda, Pause, ScheduleRow
from mycoswarm.store.database import Store

ROW = ScheduleRow(
    id="s1",
    cron="0 7 * * *",
    zone="Europe/Berlin",
    agent="helper",
    task="it's '; DROP TABLE schedules",
    labels=("notes", "private"),
    key_name="phone",
    key_made_at=5.0,
    user="ann",
    client="192.0.2.7",
    made_at=10.0,
    since=11.0,
    handled_at=12.0,
)


def test_a_schedule_survives_the_file_being_closed_and_changed(tmp_path: Path) -> None:
    store = Store(tmp_path / "node.db")
    Agenda(store).add(ROW)
    ended = replace(ROW, ran_at=13.0, run_id="r1", state="failed", code="x", message="m", failures=2)
    for pause in Pause:
        changed = replace(ended, pause=pause)
        Agenda(store).change(changed)
        assert Agenda(store).entries() == (changed,)
    store.close()
    store = Store(tmp_path / "node.db")
    assert Agenda(store).entries() == (changed,)
    store.close()
    with pytest.raises(StorageError):
        Agenda(store)


def test_what_ran_when_the_daemon_ended_is_interrupted(tmp_path: Path) -> None:
    store = Store(tmp_path / "node.db")
    Agenda(store).add(replace(ROW, state="running"))
    assert [row.state for row in Agenda(store).entries()] == ["interrupted"]
    store.close()


def test_one_that_is_gone_stays_gone_and_there_are_not_too_many(tmp_path: Path) -> None:
    store = Store(tmp_path / "node.db")
    agenda = Agenda(store)
    for number in range(MAX_SCHEDULES):
        agenda.add(replace(ROW, id=f"s{number}"))
    with pytest.raises(BusyError):
        agenda.add(replace(ROW, id="more"))
    agenda.remove("s0")
    agenda.change(replace(ROW, id="s0"))
    assert "s0" not in {row.id for row in agenda.entries()}
    with pytest.raises(NotFoundError):
        agenda.remove("s0")
    agenda.change(replace(ROW, id="s1", message="x" * 9000))
    assert {len(row.message) for row in agenda.entries() if row.message} == {MAX_WORDS}
    store.close()
