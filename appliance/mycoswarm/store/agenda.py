"""When agents are to run by themselves: one row a schedule, with what came of its last run. At most `MAX_SCHEDULES`."""

import json
from dataclasses import asdict, dataclass, fields
from enum import IntEnum
from typing import Any

from mycoswarm.base.errors import BusyError, NotFoundError
from mycoswarm.store.database import Store

MAX_SCHEDULES = 64
MAX_WORDS = 1000  # characters of a message or remark


class Pause(IntEnum):
    """Whether a schedule is paused, and why: after trouble of its own, or by the owner's hand."""

    NONE = 0
    TROUBLE = 1
    BY_HAND = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleRow:
    """One schedule. All times are seconds since 1970.

    `key_name`, `key_made_at`, `user` and `client` say who made it, as in chat/job.py: it runs as theirs. `labels` hold
    those of their key, too. `since` is when it was made or resumed, `handled_at` up to when its times were looked at,
    `ran_at` when its last run began; `state`, `code` and `message` are of that run, and `run_id` is its id. `remark`
    says which time was left out, and why. `failures` counts those in a row.
    """

    id: str
    cron: str
    zone: str
    agent: str
    task: str
    labels: tuple[str, ...] = ()
    key_name: str | None = None
    key_made_at: float | None = None
    user: str | None = None
    client: str | None = None
    made_at: float
    since: float
    handled_at: float
    ran_at: float | None = None
    run_id: str | None = None
    state: str | None = None
    code: str | None = None
    message: str | None = None
    remark: str | None = None
    failures: int = 0
    pause: Pause = Pause.NONE


_NAMES = tuple(one.name for one in fields(ScheduleRow))
_COLUMNS = tuple("is_paused" if name == "pause" else name for name in _NAMES)


class Agenda:
    """The schedules of this node. Blocking; call it from threads."""

    def __init__(self, store: Store) -> None:
        """Open them. A run that counted as going on when the last daemon ended is interrupted.

        Raises:
            StorageError: they could not be read or written.
        """
        self._store = store
        store.write("UPDATE schedules SET state = 'interrupted' WHERE state = 'running'")

    def entries(self) -> tuple[ScheduleRow, ...]:
        """All of them, the oldest first.

        Raises:
            StorageError: they could not be read.
        """
        found = self._store.read(f"SELECT {', '.join(_COLUMNS)} FROM schedules ORDER BY made_at, id")  # noqa: S608  # our own names
        return tuple(map(_row, found))

    def add(self, row: ScheduleRow) -> None:
        """Keep a new one.

        Raises:
            BusyError: there are too many.
            StorageError: it could not be written.
        """
        with self._store.transaction() as transaction:
            ((number,),) = transaction.read("SELECT COUNT(*) FROM schedules")
            if number >= MAX_SCHEDULES:
                raise BusyError(
                    f"there are {MAX_SCHEDULES} schedules already",
                    retry_after_s=60,
                    hint="Remove one with `mycoswarm-node agent unschedule ID`.",
                )
            transaction.write(
                f"INSERT INTO schedules ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})",  # noqa: S608  # our own names
                _values(row),
            )

    def change(self, row: ScheduleRow) -> None:
        """Write one anew; one that was removed meanwhile stays removed.

        Raises:
            StorageError: it could not be written.
        """
        self._store.write(
            f"UPDATE schedules SET ({', '.join(_COLUMNS)}) = ({', '.join('?' * len(_COLUMNS))}) WHERE id = ?",  # noqa: S608  # our own names
            (*_values(row), row.id),
        )

    def remove(self, schedule_id: str) -> None:
        """Forget one.

        Raises:
            NotFoundError: there is none of that id.
            StorageError: it could not be written.
        """
        if not self._store.write("DELETE FROM schedules WHERE id = ?", (schedule_id,)):
            raise unknown(schedule_id)


def unknown(schedule_id: str) -> NotFoundError:
    """There is no schedule of that id."""
    return NotFoundError(
        f"there is no schedule {schedule_id[:40]!r}", hint="`mycoswarm-node agent schedules` shows those there are."
    )


def _values(row: ScheduleRow) -> tuple[Any, ...]:
    named = {**asdict(row), "labels": json.dumps(row.labels), "pause": int(row.pause)}
    named |= {name: named[name] and named[name][:MAX_WORDS] for name in ("message", "remark")}
    return tuple(named[name] for name in _NAMES)


def _row(values: tuple[Any, ...]) -> ScheduleRow:
    named = dict(zip(_NAMES, values, strict=True))
    return ScheduleRow(**{**named, "labels": tuple(json.loads(named["labels"])), "pause": Pause(named["pause"])})
