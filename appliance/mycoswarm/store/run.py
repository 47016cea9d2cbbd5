"""What agents did: one row a run and one a thing that happened in it. The owner's own history, with task and answer.

Bounded: of the newest `MAX_RUNS` runs, and `MAX_EVENTS` things in each.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mycoswarm.base.errors import NotFoundError
from mycoswarm.store.database import Store

MAX_RUNS = 500
MAX_EVENTS = 2000
MAX_ANSWER = 20_000  # characters of an answer or a task
_COLUMNS = (
    "id",
    "agent",
    "task",
    "model",
    "asked_by",
    "labels",
    "started_at",
    "ended_at",
    "state",
    "how",
    "message",
    "answer",
    "steps",
    "prompt_tokens",
    "completion_tokens",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow:
    """A run as it is kept. `state`: running, finished, failed, stopped, or interrupted: the daemon ended before it.

    `how` is the kind of its end. Times are seconds since 1970.
    """

    id: str
    agent: str
    task: str
    model: str
    asked_by: str
    labels: tuple[str, ...]
    started_at: float
    ended_at: float | None = None
    state: str = "running"
    how: str | None = None
    message: str | None = None
    answer: str = ""
    steps: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def shown(self) -> dict[str, Any]:
        """As JSON values."""
        return {**asdict(self), "labels": list(self.labels)}


class Runs:
    """The runs of this node. Blocking; call it from threads."""

    def __init__(self, store: Store, now: float) -> None:
        """Open them. What counted as running when the last daemon ended is interrupted.

        Raises:
            StorageError: they could not be read or written.
        """
        self._store = store
        store.write("UPDATE runs SET state = 'interrupted', ended_at = ? WHERE state = 'running'", (now,))

    def begin(self, run: RunRow) -> None:
        """Keep a new run, and let the oldest go where there are too many.

        Raises:
            StorageError: it could not be written.
        """
        with self._store.transaction() as transaction:
            values = {**asdict(run), "labels": json.dumps(run.labels), "task": run.task[:MAX_ANSWER]}
            transaction.write(
                f"INSERT INTO runs ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})",  # noqa: S608  # our own names
                tuple(values[name] for name in _COLUMNS),
            )
            old = "SELECT id FROM runs WHERE state != 'running' ORDER BY started_at DESC, id LIMIT -1 OFFSET ?"
            for (run_id,) in transaction.read(old, (MAX_RUNS,)):
                transaction.write("DELETE FROM run_events WHERE run_id = ?", (run_id,))
                transaction.write("DELETE FROM runs WHERE id = ?", (run_id,))

    def add(self, run_id: str, number: int, at: float, body: Mapping[str, Any]) -> None:
        """Keep one thing that happened in a run; what comes after `MAX_EVENTS` is not kept.

        Raises:
            StorageError: it could not be written.
        """
        if number < MAX_EVENTS:
            self._store.write(
                "INSERT INTO run_events (run_id, number, at, body) VALUES (?, ?, ?, ?)",
                (run_id, number, at, json.dumps(body)),
            )

    def end(self, run: RunRow) -> None:
        """Keep how a run ended.

        Raises:
            StorageError: it could not be written.
        """
        self._store.write(
            "UPDATE runs SET ended_at = ?, state = ?, how = ?, message = ?, answer = ?, steps = ?, prompt_tokens = ?,"
            " completion_tokens = ?, labels = ? WHERE id = ?",
            (
                run.ended_at,
                run.state,
                run.how,
                run.message,
                run.answer[:MAX_ANSWER],
                run.steps,
                run.prompt_tokens,
                run.completion_tokens,
                json.dumps(run.labels),
                run.id,
            ),
        )

    def newest(self, limit: int = 50) -> tuple[RunRow, ...]:
        """The newest runs, newest first.

        Raises:
            StorageError: they could not be read.
        """
        found = self._store.read(
            f"SELECT {', '.join(_COLUMNS)} FROM runs ORDER BY started_at DESC, id LIMIT ?",  # noqa: S608  # our own names
            (limit,),
        )
        return tuple(map(_row, found))

    def find(self, run_id: str) -> tuple[RunRow, list[dict[str, Any]]]:
        """One run, and what happened in it, each with `at`.

        Raises:
            NotFoundError: no run with this id is kept.
            StorageError: it could not be read.
        """
        found = self._store.read(f"SELECT {', '.join(_COLUMNS)} FROM runs WHERE id = ?", (run_id,))  # noqa: S608  # our own names
        if not found:
            raise NotFoundError(f"no run {run_id[:40]!r} is kept", hint="`mycoswarm-node agent runs` shows them.")
        events = self._store.read("SELECT at, body FROM run_events WHERE run_id = ? ORDER BY number", (run_id,))
        return _row(found[0]), [{"at": at, **json.loads(body)} for at, body in events]


def _row(values: tuple[Any, ...]) -> RunRow:
    named = dict(zip(_COLUMNS, values, strict=True))
    return RunRow(**{**named, "labels": tuple(json.loads(named["labels"]))})
