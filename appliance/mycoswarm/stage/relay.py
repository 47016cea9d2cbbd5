"""What a stage that is not the head does: take a change, apply it to its own layers, pass it on. Arithmetic only.

The first stage turns token ids into hidden states by its table; all others are given hidden states. Everything that
touches llama.cpp goes through one worker, one thing at a time. A request id that this node never admitted, a row of a
sequence that no admitted request opened, or anything but exactly n fresh rows out of llama.cpp ends the ring: nothing
is sent on.
"""

import logging
from dataclasses import dataclass
from typing import NoReturn, Protocol

import numpy as np
from numpy.typing import NDArray

from mycoswarm.base.errors import CaptureError, ProtocolError, RingError, StageError, SwarmError, TicketError
from mycoswarm.stage.engine import Batch, Decoded
from mycoswarm.stage.loop import Loop
from mycoswarm.stage.worker import Worker
from mycoswarm.wire.frame import Begin, Remove, Step, lap

_log = logging.getLogger(__name__)


class Layers(Protocol):
    """What a relay needs of an engine."""

    n_embd: int

    def decode(self, batch: Batch) -> Decoded:
        """Run the layers over some rows."""

    def remove(self, sequence: int, first: int, last: int) -> None:
        """Forget KV positions."""


class Look(Protocol):
    """What the first stage needs of a token table."""

    def rows(self, tokens: NDArray[np.int32]) -> NDArray[np.float32]:
        """The hidden states that stand for some tokens."""


@dataclass(frozen=True, slots=True)
class Work:
    """The parts of one stage that compute. `table`: on the first stage alone. `worker` does one thing at a time."""

    layers: Layers
    table: Look | None
    worker: Worker


class Relay:
    """One stage between a predecessor and a successor."""

    def __init__(self, work: Work, loop: Loop) -> None:
        self._work, self._loop = work, loop
        self._admitted: set[str] = set()
        self._owners: dict[int, str] = {}
        self.steps = 0

    def admit(self, request_id: str) -> None:
        """The daemon has seen a ticket for this request."""
        self._admitted.add(request_id)

    def dismiss(self, request_id: str) -> None:
        """The request's ticket is over: no row of it is computed any more."""
        self._admitted.discard(request_id)

    async def run(self) -> NoReturn:
        """Work until the ring ends.

        Raises:
            RingError: the ring is lost, or this stage had to end it.
        """
        do = self._work.worker.do
        while True:
            frame = await self._loop.receive()
            try:
                match frame:
                    case Step():
                        self._check(frame)
                        frame = await do(self._compute, frame)
                        self.steps += 1
                    case Begin(sequence=sequence, request_id=request_id):
                        self._open(sequence, request_id)
                    case Remove(sequence=sequence, first=first, last=last):
                        await do(self._work.layers.remove, sequence, first, last)
            except RingError:
                raise
            except SwarmError as exc:
                raise RingError(exc.message, hint=exc.hint, code=exc.code) from exc
            except Exception as exc:
                _log.exception("a stage failed")
                raise StageError(f"a stage failed: {exc}") from exc
            await self._loop.send(frame)

    def _open(self, sequence: int, request_id: str) -> None:
        if request_id not in self._admitted:
            raise TicketError(f"request {request_id} has no ticket at this node")
        self._owners[sequence] = request_id

    def _check(self, step: Step) -> None:
        for sequence in set(step.sequences.tolist()):
            if self._owners.get(sequence) not in self._admitted:
                raise TicketError(f"sequence {sequence} belongs to no request with a ticket at this node")
        if (step.tokens is None) == (self._work.table is not None):
            raise ProtocolError("token ids go to the first stage, hidden states to all others")

    def _compute(self, step: Step) -> Step:
        """By the worker: the layers over the step's rows. Only decoding counts as time inside llama.cpp."""
        hidden = step.hidden
        if self._work.table is not None and step.tokens is not None:
            hidden = self._work.table.rows(step.tokens)
        assert hidden is not None
        decoded = self._work.layers.decode(
            Batch(positions=step.positions, sequences=step.sequences, wanted=step.wanted, tokens=None, hidden=hidden)
        )
        rows = decoded.hidden
        if rows is None or rows.shape != (len(step.positions), self._work.layers.n_embd):
            raise CaptureError(f"{len(step.positions)} rows went in, {None if rows is None else rows.shape} came out")
        laps = step.laps + lap(step.hop_us, decoded.compute_us)
        return Step(step.number, step.positions, step.sequences, step.wanted, None, rows, laps)
