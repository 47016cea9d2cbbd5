"""What drives a ring of one that embeds: texts in, a vector for each out, then the end.

Texts of several requests take turns, one text at a time, in the order in which each request's turn comes. All texts of
a request are read before the first is computed, so that one that is too long costs nothing else.

Whose fault ends what: a text that cannot be embedded ends its own request; llama.cpp's failure ends the ring.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import NoReturn, Protocol

import numpy as np
from numpy.typing import NDArray

from mycoswarm.base.errors import BusyError, InputError, ProtocolError, RingError, StageError, SwarmError, TicketError
from mycoswarm.stage.failure import describe
from mycoswarm.stage.worker import Worker
from mycoswarm.wire.report import AnyReport, Finished, Vector
from mycoswarm.wire.request import MAX_INPUTS, Embedding, Generation

MAX_ADMITTED = 1024  # requests with a ticket and no texts yet; the oldest is forgotten
MAX_OPEN = 64  # as many as a coordinator has at a time
RETRY_S = 5

_log = logging.getLogger(__name__)


class Pooled(Protocol):
    """What a clerk needs of a model; stage/pooled.py is the real one. Used in the worker thread only."""

    width: int

    def read(self, text: str) -> list[int]:
        """Token ids of a text. Raises InputError."""

    def embed(self, tokens: list[int]) -> NDArray[np.float32]:
        """A text's vector. Raises StageError."""


class Clerk:
    """The driver. `report` must not wait; `admit`, `embed` and `cancel` are for the event loop's thread."""

    def __init__(self, model: Pooled, worker: Worker, report: Callable[[AnyReport], None]) -> None:
        self._model, self._worker, self._report = model, worker, report
        self._admitted: dict[str, None] = {}
        self._open: dict[str, asyncio.Task[None]] = {}
        self._lost: asyncio.Future[RingError] = asyncio.get_running_loop().create_future()

    def admit(self, request_id: str) -> None:
        """A request has a ticket: its texts may come once."""
        if len(self._admitted) >= MAX_ADMITTED:
            del self._admitted[next(iter(self._admitted))]
        self._admitted[request_id] = None

    def generate(self, generation: Generation) -> None:
        """
        Raises:
            ProtocolError: this ring only embeds.
        """
        raise ProtocolError(f"request {generation.request_id} wants an answer of a ring that embeds")

    def embed(self, embedding: Embedding) -> None:
        """Begin a request. What happens with it is reported: Vector..., then Finished or Failed.

        Raises:
            TicketError: the request was not admitted.
            BusyError: too many are open.
            InputError: no texts, too many, or vectors of another width are wanted.
            RingError: the ring has ended.
        """
        request_id, count = embedding.request_id, len(embedding.inputs)
        if self._lost.done():
            raise self._lost.result()
        if request_id not in self._admitted or request_id in self._open:
            raise TicketError(f"request {request_id} has no ticket at this stage")
        if len(self._open) >= MAX_OPEN:
            raise BusyError(f"{len(self._open)} requests are open already", retry_after_s=RETRY_S)
        if not 0 < count <= MAX_INPUTS:
            raise InputError(f"a request of {count} texts, where 1 to {MAX_INPUTS} can be embedded")
        if embedding.dimensions not in (None, self._model.width):
            raise InputError(
                f"this model's vectors have {self._model.width} dimensions, and {embedding.dimensions} are asked for",
                hint="Leave `dimensions` out: no vector is cut short here.",
            )
        del self._admitted[request_id]
        task = self._open[request_id] = asyncio.get_running_loop().create_task(self._work(embedding))
        task.add_done_callback(lambda ended: self._drop(request_id, ended))

    def cancel(self, request_id: str) -> None:
        """Stop a request; unknown ones are none of our business any more."""
        self._admitted.pop(request_id, None)
        if (task := self._open.pop(request_id, None)) is not None:
            task.cancel()
            self._report(_finished(request_id, "cancelled", 0))

    async def run(self) -> NoReturn:
        """Work until the ring ends, or the task is cancelled.

        Raises:
            RingError: why it ended; every request on it has been reported as failed.
        """
        try:
            raise await self._lost
        finally:
            ending = list(self._open.values())
            for task in ending:
                task.cancel()
            await asyncio.gather(*ending, return_exceptions=True)

    async def _work(self, embedding: Embedding) -> None:
        request_id = embedding.request_id
        try:
            self._report(await self._embedded(embedding))
        except RingError as exc:
            self._lose(exc)
        except SwarmError as exc:
            self._report(describe(exc, request_id=request_id))
        except Exception as exc:
            _log.exception("request %s could not be embedded", request_id)
            self._lose(StageError(f"the texts could not be embedded: {exc}"))

    async def _embedded(self, embedding: Embedding) -> Finished:
        texts = [await self._read(index, text) for index, text in enumerate(embedding.inputs)]
        for index, tokens in enumerate(texts):
            vector = await self._worker.do(self._model.embed, tokens)
            values = vector.astype("<f4").tobytes()
            self._report(Vector(request_id=embedding.request_id, index=index, values=values))
        return _finished(embedding.request_id, "stop", sum(map(len, texts)))

    async def _read(self, index: int, text: str) -> list[int]:
        try:
            return await self._worker.do(self._model.read, text)
        except InputError as exc:
            raise InputError(f"input {index}: {exc.message}", hint=exc.hint, code=exc.code) from exc

    def _lose(self, error: RingError) -> None:
        if not self._lost.done():
            self._lost.set_result(error)
            for request_id in self._open:
                self._report(describe(error, request_id=request_id))

    def _drop(self, request_id: str, ended: asyncio.Task[None]) -> None:
        if self._open.get(request_id) is ended:
            del self._open[request_id]


def _finished(request_id: str, reason: str, tokens: int) -> Finished:
    return Finished(request_id=request_id, reason=reason, prompt_tokens=tokens, completion_tokens=0)
