"""Gathers the pieces of answers for a moment, so that a fast model does not wake three processes for every token.

A piece on its way to a client passes the daemon of the head's node, the coordinator and its console, about a
millisecond of a small machine's time in all, for which the ring's own steps wait where cores are few. A model that
takes longer than `GATHER_S` for a token is not gathered at all.
"""

from collections.abc import Callable

from mycoswarm.wire.report import AnyReport, Piece

GATHER_S = 0.02  # fifty updates a second look like a stream to a person

Say = Callable[[AnyReport], None]


class Parcels:
    """Passes reports on to `say` in their order, pieces gathered. `later` runs a function after some seconds."""

    def __init__(
        self, say: Say, later: Callable[[float, Callable[[], None]], object], clock: Callable[[], float]
    ) -> None:
        self._say, self._later, self._clock = say, later, clock
        self._held: dict[str, list[Piece]] = {}
        self._sent_s = float("-inf")
        self._is_waiting = False

    def say(self, report: AnyReport) -> None:
        """Pass a report on: a piece at once where none was sent for `GATHER_S`, anything else at once after them."""
        if not isinstance(report, Piece):
            self._flush()
            self._say(report)
            return
        self._held.setdefault(report.request_id, []).append(report)
        wait_s = self._sent_s + GATHER_S - self._clock()
        if wait_s <= 0:
            self._flush()
        elif not self._is_waiting:
            self._is_waiting = True
            self._later(wait_s, self._end_wait)

    def _end_wait(self) -> None:
        self._is_waiting = False
        self._flush()

    def _flush(self) -> None:
        if not self._held:
            return
        held, self._held = self._held, {}
        for pieces in held.values():
            self._say(_joined(pieces))
        self._sent_s = self._clock()


def _joined(pieces: list[Piece]) -> Piece:
    """Several pieces of one answer as one."""
    if len(pieces) == 1:
        return pieces[0]
    with_logprobs = any(piece.logprobs is not None for piece in pieces)
    return Piece(
        request_id=pieces[0].request_id,
        text="".join(piece.text for piece in pieces),
        token_ids=tuple(token for piece in pieces for token in piece.token_ids),
        logprobs=tuple(entry for piece in pieces for entry in piece.logprobs or ()) if with_logprobs else None,
    )
