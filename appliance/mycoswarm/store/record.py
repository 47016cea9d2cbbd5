"""Typed rows of the ledger: which tickets this node took, and which answers it gave. No prompt text."""

from dataclasses import asdict, dataclass

from mycoswarm.base.errors import InputError
from mycoswarm.store.chain import Row
from mycoswarm.store.ledger import MAX_ROWS, Ledger

ANSWER, TICKET = "answer", "ticket"  # kinds of rows


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


class Records:
    """Writes and reads typed rows. Blocking; call it from a thread."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def take_ticket(self, receipt: Receipt) -> None:
        """Keep a ticket before its work begins.

        Raises:
            InputError: the ledger cannot keep it: it is no UTF-8, as every ticket is.
            StorageError: it could not be written, so the work must not begin.
        """
        try:
            text = receipt.body.decode()
        except UnicodeDecodeError as exc:
            raise InputError(f"a ticket is no text: {exc}") from exc
        body = {
            "rule": receipt.rule,
            "model_digest": receipt.model_digest,
            "ticket": text,
            "signature": receipt.signature.hex(),
        }
        self._ledger.append(TICKET, body, request_id=receipt.request_id, now=receipt.at)

    def tickets(self, request_id: str | None = None, limit: int = 100) -> list[Receipt]:
        """The newest tickets, newest first; those of one request where it is named.

        Raises:
            InputError: a row was altered and cannot be read any more.
            StorageError: they could not be read.
        """
        if request_id is None:
            rows = self._ledger.newest(limit, [TICKET])
        else:
            rows = self._ledger.rows(kind=TICKET, request_id=request_id, limit=MAX_ROWS)[::-1][:limit]
        return [_receipt(row) for row in rows]

    def add_answer(self, answer: Answer) -> None:
        """Keep one answer's row.

        Raises:
            InputError: the ledger cannot keep it.
            StorageError: it could not be written.
        """
        body = asdict(answer)
        at, request_id = body.pop("at"), body.pop("request_id")
        self._ledger.append(ANSWER, body, request_id=request_id, now=at)

    def answers(self, limit: int = 100) -> list[Answer]:
        """The newest answers, newest first.

        Raises:
            InputError: a row was altered and cannot be read any more.
            StorageError: they could not be read.
        """
        return [_answer(row) for row in self._ledger.newest(limit, [ANSWER])]


def _receipt(row: Row) -> Receipt:
    content = row.content()
    try:
        return Receipt(
            at=row.at,
            request_id=row.request_id,
            rule=str(content["rule"]),
            model_digest=str(content["model_digest"]),
            body=str(content["ticket"]).encode(),
            signature=bytes.fromhex(content["signature"]),
        )
    except (KeyError, TypeError, ValueError) as exc:
        raise _altered(row) from exc


def _answer(row: Row) -> Answer:
    content = row.content()
    try:
        nodes = tuple((str(node), int(first), int(last)) for node, first, last in content.pop("nodes"))
        return Answer(request_id=row.request_id or "", at=row.at, nodes=nodes, **content)
    except (KeyError, TypeError, ValueError) as exc:
        raise _altered(row) from exc


def _altered(row: Row) -> InputError:
    hint = "Run `mycoswarm-node ledger verify`."
    return InputError(f"row {row.seq} of the ledger is no {row.kind} any more", hint=hint, code="ledger_altered")
