"""What models reached in the exam of tool calls: the newest result of each, by what answered.

Bounded: the newest `MAX_DIPLOMAS`.
"""

import json
from dataclasses import dataclass
from typing import Any

from mycoswarm.store.database import Store

MAX_DIPLOMAS = 500
_COLUMNS = "subject, model, at, version, percent, correct, cases, kinds"


@dataclass(frozen=True, slots=True, kw_only=True)
class Diploma:
    """One result. `subject`: the digest of the model's file, or the endpoint and its model. `at`: seconds since 1970.

    `kinds`: right answers and cases by kind. `version` is the exam's.
    """

    subject: str
    model: str
    at: float
    version: int
    percent: int
    correct: int
    cases: int
    kinds: dict[str, tuple[int, int]]

    def shown(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "subject": self.subject,
            "model": self.model,
            "at": self.at,
            "version": self.version,
            "percent": self.percent,
            "right": self.correct,
            "cases": self.cases,
            "kinds": {kind: {"right": right, "cases": cases} for kind, (right, cases) in self.kinds.items()},
        }


class Diplomas:
    """The results of this coordinator. Blocking; call it from threads."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def keep(self, one: Diploma) -> None:
        """Keep a result in the place of the one before it.

        Raises:
            StorageError: it could not be written.
        """
        values = (
            one.subject,
            one.model,
            one.at,
            one.version,
            one.percent,
            one.correct,
            one.cases,
            json.dumps(one.kinds),
        )
        with self._store.transaction() as transaction:
            transaction.write(f"INSERT OR REPLACE INTO diplomas ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)  # noqa: S608  # our own names
            old = "SELECT subject FROM diplomas ORDER BY at DESC LIMIT -1 OFFSET ?"
            transaction.write(f"DELETE FROM diplomas WHERE subject IN ({old})", (MAX_DIPLOMAS,))  # noqa: S608  # our own words

    def find(self, subject: str) -> Diploma | None:
        """The newest result of one model.

        Raises:
            StorageError: it could not be read.
        """
        found = self._store.read(f"SELECT {_COLUMNS} FROM diplomas WHERE subject = ?", (subject,))  # noqa: S608  # our own names
        return _diploma(found[0]) if found else None

    def all(self) -> dict[str, Diploma]:
        """All results, by subject.

        Raises:
            StorageError: they could not be read.
        """
        found = map(_diploma, self._store.read(f"SELECT {_COLUMNS} FROM diplomas"))  # noqa: S608  # our own names
        return {one.subject: one for one in found}


def _diploma(row: tuple[Any, ...]) -> Diploma:
    *values, kinds = row
    named = dict(zip(_COLUMNS.split(", "), values, strict=False))
    return Diploma(**named, kinds={kind: (right, cases) for kind, (right, cases) in json.loads(kinds).items()})
