"""The ledger: which tickets this node took, and which answers it gave. No prompt text."""

import json
from dataclasses import dataclass

from mycoswarm.store.database import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One finished request on the coordinator. `nodes`: (node id, first layer, last layer) in ring order.

    `outcome` is the finish reason or an error's code. `at` is seconds since 1970.
    """

    request_id: str
    at: float
    key_name: str | None
    model: str
    model_digest: str
    rule: str
    nodes: tuple[tuple[str, int, int], ...]
    outcome: str
    prompt_tokens: int
    completion_tokens: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Receipt:
    """One ticket that this node took: its exact bytes and the coordinator's signature over them."""

    at: float
    request_id: str | None
    rule: str
    model_digest: str
    body: bytes
    signature: bytes


class Ledger:
    """Rows are only ever added. Blocking; call it from a thread."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def take_ticket(self, receipt: Receipt) -> None:
        """Keep a ticket before its work begins.

        Raises:
            StorageError: it could not be written, so the work must not begin.
        """
        row = (receipt.at, receipt.request_id, receipt.rule, receipt.model_digest, receipt.body, receipt.signature)
        self._store.write(
            "INSERT INTO tickets (at, request_id, rule, model_digest, body, signature) VALUES (?, ?, ?, ?, ?, ?)", row
        )

    def tickets(self, request_id: str | None = None, limit: int = 100) -> list[Receipt]:
        """The newest tickets, newest first; those of one request where it is named.

        Raises:
            StorageError: they could not be read.
        """
        rows = self._store.read(
            "SELECT at, request_id, rule, model_digest, body, signature FROM tickets"
            " WHERE ? IS NULL OR request_id = ? ORDER BY id DESC LIMIT ?",
            (request_id, request_id, limit),
        )
        return [Receipt(*row) for row in rows]

    def add_answer(self, answer: Answer) -> None:
        """Keep one answer's row.

        Raises:
            StorageError: it could not be written.
        """
        self._store.write(
            "INSERT INTO answers (request_id, at, key_name, model, model_digest, rule, nodes, outcome, prompt_tokens,"
            " completion_tokens, seconds) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                answer.request_id,
                answer.at,
                answer.key_name,
                answer.model,
                answer.model_digest,
                answer.rule,
                json.dumps(answer.nodes),
                answer.outcome,
                answer.prompt_tokens,
                answer.completion_tokens,
                answer.seconds,
            ),
        )

    def answers(self, limit: int = 100) -> list[Answer]:
        """The newest answers, newest first.

        Raises:
            StorageError: they could not be read.
        """
        rows = self._store.read(
            "SELECT request_id, at, key_name, model, model_digest, rule, nodes, outcome, prompt_tokens,"
            " completion_tokens, seconds FROM answers ORDER BY at DESC LIMIT ?",
            (limit,),
        )
        return [
            Answer(
                request_id=row[0],
                at=row[1],
                key_name=row[2],
                model=row[3],
                model_digest=row[4],
                rule=row[5],
                nodes=tuple((str(node), int(first), int(last)) for node, first, last in json.loads(row[6])),
                outcome=row[7],
                prompt_tokens=row[8],
                completion_tokens=row[9],
                seconds=row[10],
            )
            for row in rows
        ]


class Speeds:
    """Measured decoding speeds of nodes, kept with their dates."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def note(self, node_id: str, bytes_per_s: float, now: float) -> None:
        """Keep a node's newest measurement.

        Raises:
            StorageError: it could not be written.
        """
        self._store.write(
            "INSERT INTO speeds (node_id, at, bytes_per_s) VALUES (?, ?, ?) ON CONFLICT (node_id) DO UPDATE SET"
            " at = excluded.at, bytes_per_s = excluded.bytes_per_s",
            (node_id, now, bytes_per_s),
        )

    def known(self) -> dict[str, tuple[float, float]]:
        """By node id: bytes per second and when that was measured, in seconds since 1970.

        Raises:
            StorageError: they could not be read.
        """
        rows = self._store.read("SELECT node_id, bytes_per_s, at FROM speeds")
        return {str(node): (float(speed), float(at)) for node, speed, at in rows}
