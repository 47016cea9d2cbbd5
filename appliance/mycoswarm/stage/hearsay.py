"""What the coordinator hears of one request on a ring, and how much of it is kept: the head may be lying."""

import asyncio
from typing import Any

from mycoswarm.base.errors import ProtocolError, SwarmError
from mycoswarm.wire.plan import RingPlan
from mycoswarm.wire.report import MAX_VECTOR_BYTES, AnyReport, Finished, Piece, Vector
from mycoswarm.wire.request import Embedding, Work

MAX_TOKEN_BYTES = 4096  # kept of one token: its text, and twenty likely others with their log-probabilities
PIECE_BYTES = 64  # kept of a piece that says nothing


class Hearsay:
    """One running request at the coordinator: which nodes have admitted it, and what its head said."""

    def __init__(self, work: Work, plan: RingPlan) -> None:
        self.admitted: dict[str, asyncio.Future[None]] = {}
        self.news: asyncio.Queue[AnyReport | SwarmError] = asyncio.Queue()  # bounded by `_room_bytes`
        self._room_bytes = _room_bytes(work, plan)

    def hear(self, report: Piece | Vector | Finished) -> None:
        """Take what the head says.

        Raises:
            ProtocolError: it says more than an answer can hold.
        """
        self._room_bytes -= PIECE_BYTES + _weight_bytes(report)
        if self._room_bytes < 0:
            raise ProtocolError("the head says more than its answer can hold")
        self.news.put_nowait(report)

    def fail(self, error: SwarmError) -> None:
        """End the request with an error, whatever it waits for."""
        self.news.put_nowait(error)
        for future in self.admitted.values():
            raise_in(future, error)


def raise_in(future: "asyncio.Future[Any]", error: SwarmError) -> None:
    """End a future with an error, unless it has ended."""
    if not future.done():
        future.set_exception(error)
        future.exception()  # nobody may be waiting


def _room_bytes(work: Work, plan: RingPlan) -> int:
    """What is kept at most of what the head says."""
    if isinstance(work, Embedding):
        return len(work.inputs) * (MAX_VECTOR_BYTES + PIECE_BYTES) + PIECE_BYTES
    return (plan.conditions.n_ctx + 1) * MAX_TOKEN_BYTES


def _weight_bytes(piece: Piece | Vector | Finished) -> int:
    """About what a report keeps in memory."""
    if isinstance(piece, Vector):
        return len(piece.values)
    if isinstance(piece, Finished):
        return PIECE_BYTES * len(piece.timing.stages) if piece.timing else 0
    shown = [token for entry in piece.logprobs or () for token in (entry.token, *(other.token for other in entry.top))]
    return len(piece.text) + 8 * len(piece.token_ids) + sum(PIECE_BYTES + len(token) for token in shown)
