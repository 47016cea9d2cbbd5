"""Finding passages: by their words (BM25), by what they mean (the cosine of vectors), and both orders made one."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mycoswarm.store.database import Store

MAX_WORDS = 32  # of a query
MAX_WORD = 64  # characters
WHOLE = 4  # characters; a shorter word stands for itself alone
MAX_HITS = 30  # of each order
MAX_VECTORS = 50_000  # in all; a query looks at each: 150 MB for vectors of 768 numbers
AT_ONCE = 4096  # vectors that are held in memory
FLOOR = 0.25  # of the best score by words: what shares only common words with a query is no hit
_RANKED = 60  # k of reciprocal rank fusion, as Cormack et al. (2009) found it
_ROUNDING = 1e-6  # of float32
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A passage that was found, and where it stands: in a file of a folder, or in a note. `labels` are theirs."""

    passage_id: int
    text: str
    heading: str
    labels: frozenset[str]
    folder: str | None = None
    path: str | None = None
    page: int | None = None
    first_line: int | None = None
    last_line: int | None = None
    note_id: str | None = None
    at: float | None = None


class Index:
    """Searches in the library's file. Blocking; call it from threads."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def by_words(self, query: str) -> list[int]:
        """The passages that share words with a text, the best first; none where it has no words.

        Raises:
            StorageError: the file cannot be read.
        """
        words = dict.fromkeys(word[:MAX_WORD].casefold() for word in _WORD.findall(query))
        if not words:
            return []
        # A longer word stands for all that begin with it: there is no stemming, which each language does otherwise.
        wanted = " OR ".join(f'"{word}"{"*" * (len(word) >= WHOLE)}' for word in list(words)[:MAX_WORDS])
        found = self._store.read(
            "SELECT rowid, bm25(words) FROM words WHERE words MATCH ? ORDER BY rank LIMIT ?", (wanted, MAX_HITS)
        )
        best = found[0][1] if found else 0.0  # bm25 of SQLite: the better, the further below 0
        return [passage_id for passage_id, score in found if score <= best * FLOOR]

    def by_meaning(self, maker: str, vector: bytes, most: int, spread: float) -> list[int]:
        """The `most` passages whose vectors, made by the same `maker`, are nearest to this one (float32 of length 1).

        Only those that stand out: nearer than the mean of all by `spread` standard deviations. What is near in itself
        differs from model to model.

        Raises:
            StorageError: the file cannot be read.
        """
        wanted = np.frombuffer(vector, np.float32)
        best: list[tuple[float, int]] = []
        last = count = 0
        total = squares = 0.0
        while rows := self._store.read(
            "SELECT passage_id, vector FROM vectors WHERE maker = ? AND passage_id > ? AND length(vector) = ?"
            " ORDER BY passage_id LIMIT ?",
            (maker, last, len(vector), AT_ONCE),
        ):
            last = rows[-1][0]
            scores = np.frombuffer(b"".join(row[1] for row in rows), np.float32).reshape(len(rows), -1) @ wanted
            count, total = count + len(rows), total + float(scores.sum(dtype=np.float64))
            squares += float(np.square(scores, dtype=np.float64).sum())
            nearest = np.argsort(-scores, kind="stable")[:most]
            best = sorted([*best, *((float(scores[n]), rows[n][0]) for n in nearest)], reverse=True)[:most]
        mean = total / max(count, 1)
        deviation = max(0.0, squares / max(count, 1) - mean * mean) ** 0.5
        return [passage_id for score, passage_id in best if score >= mean + spread * deviation - _ROUNDING]

    def hits(self, passage_ids: Sequence[int]) -> list[Hit]:
        """These passages with their places, in this order; those that are gone are left out.

        Raises:
            StorageError: the file cannot be read.
        """
        found = self._store.read(
            "SELECT passages.id, text, heading, coalesce(folders.labels, notes.labels), folders.name, files.path,"  # noqa: S608  # signs only
            " page, first_line, last_line, note_id, notes.at FROM passages"
            " LEFT JOIN files ON files.id = file_id LEFT JOIN folders ON folders.id = folder_id"
            f" LEFT JOIN notes ON notes.id = note_id WHERE passages.id IN ({', '.join('?' * len(passage_ids))})",
            tuple(passage_ids),
        )
        known = {
            row[0]: Hit(
                passage_id=row[0],
                text=row[1],
                heading=row[2],
                labels=frozenset(json.loads(row[3])),
                folder=row[4],
                path=row[5],
                page=row[6],
                first_line=row[7],
                last_line=row[8],
                note_id=row[9],
                at=row[10],
            )
            for row in found
        }
        return [known[one] for one in passage_ids if one in known]

    # Vectors

    def bare(self, labels: frozenset[str], maker: str, most: int) -> list[tuple[int, str]]:
        """Passages under exactly these labels that have no vector of this maker, and their texts.

        Raises:
            StorageError: the file cannot be read.
        """
        return self._store.read(
            f"SELECT passages.id, heading || char(10) || text FROM {_LABELLED} WHERE {_OF} = ?"  # noqa: S608  # our own words
            " AND (vectors.maker IS NULL OR vectors.maker != ?) ORDER BY passages.id LIMIT ?",
            (json.dumps(sorted(labels)), maker, most),
        )

    def put(self, maker: str, vectors: Sequence[tuple[int, bytes]]) -> bool:
        """Keep vectors of passages, in the place of older ones; an empty one means that its text cannot be embedded.
        Those of passages that are gone are dropped. False: there are too many vectors, and none was kept.

        Raises:
            StorageError: they could not be written.
        """
        with self._store.transaction() as transaction:
            ((number,),) = transaction.read("SELECT COUNT(*) FROM vectors WHERE maker = ?", (maker,))
            if number + len(vectors) > MAX_VECTORS:
                return False
            for passage_id, vector in vectors:
                transaction.write(
                    "INSERT OR REPLACE INTO vectors (passage_id, maker, vector)"
                    " SELECT id, ?, ? FROM passages WHERE id = ?",
                    (maker, _unit(vector), passage_id),
                )
        return True

    def vectors(self) -> dict[str | None, dict[str, int]]:
        """How many vectors of which maker each folder has, by its name; None stands for notes.

        Raises:
            StorageError: they could not be counted.
        """
        found: dict[str | None, dict[str, int]] = {}
        for name, maker, number in self._store.read(
            f"SELECT folders.name, vectors.maker, COUNT(*) FROM {_LABELLED} WHERE length(vector) > 0 GROUP BY 1, 2"  # noqa: S608  # our own words
        ):
            found.setdefault(name, {})[maker] = number
        return found

    def makers(self) -> tuple[str, ...]:
        """All that have made vectors.

        Raises:
            StorageError: they could not be read.
        """
        return tuple(maker for (maker,) in self._store.read("SELECT DISTINCT maker FROM vectors"))


_LABELLED = (
    "passages LEFT JOIN files ON files.id = file_id LEFT JOIN folders ON folders.id = folder_id"
    " LEFT JOIN notes ON notes.id = note_id LEFT JOIN vectors ON passage_id = passages.id"
)
_OF = "coalesce(folders.labels, notes.labels)"


def fused(*orders: Sequence[int]) -> list[int]:
    """Several orders made one by reciprocal rank fusion: 1 / (60 + rank), summed. Pure."""
    scores: dict[int, float] = {}
    for order in orders:
        for rank, one in enumerate(order, 1):
            scores[one] = scores.get(one, 0.0) + 1.0 / (_RANKED + rank)
    return sorted(scores, key=lambda one: (-scores[one], one))


def _unit(vector: bytes) -> bytes:
    """The vector at length 1; an endpoint may give others."""
    values = np.frombuffer(vector, np.float32)
    length = float(np.linalg.norm(values)) if len(values) else 0.0
    return (values / length).astype(np.float32).tobytes() if 0.0 < length < float("inf") else b""
