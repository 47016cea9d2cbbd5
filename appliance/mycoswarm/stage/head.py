"""The head: what drives a ring. It reads prompts, sends tokens to the first stage, gets hidden states back and samples.

    generate ─▶ read the prompt ─▶ queue ─▶ Begin, Step... ─▶ the ring ─▶ Step... ─▶ last layers ─▶ sample ─▶ Piece
                (a thread)         (schedule.py)                                     (the worker thread)       │
                                              ▲──────────── the sampled token ─────────────────────────────────┘

Three tasks share the event loop and nothing else: preparing a request, sending, and receiving. Every change of the KV
cache is a numbered frame, also in a ring of one, where the frames come straight back. A request that ends, for whatever
reason, gets no further row; a Remove frame frees its cells on every stage.

Whose fault ends what: a prompt, template, schema or sampler that fails ends its own request. A decode that fails, a
frame that is not what was sent, or a lost stage ends the ring, with all requests on it (DESIGN 7).
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import NoReturn

import numpy as np

from mycoswarm.base.errors import BusyError, ProtocolError, RingError, StageError, SwarmError, TicketError
from mycoswarm.stage.answer import Answer
from mycoswarm.stage.chronometer import Chronometer, computed_s
from mycoswarm.stage.engine import Batch
from mycoswarm.stage.equipment import Chooser, Equipment
from mycoswarm.stage.failure import describe
from mycoswarm.stage.loop import Loop
from mycoswarm.stage.prompt import PromptReader
from mycoswarm.stage.schedule import MAX_QUEUED, Schedule
from mycoswarm.wire.frame import Begin, Change, Lap, Numbering, Remove, Step, read_laps
from mycoswarm.wire.plan import Conditions
from mycoswarm.wire.report import AnyReport, Finished, TokenLogprob
from mycoswarm.wire.request import Generation

MAX_ADMITTED = 1024  # requests with a ticket and no prompt yet; the oldest is forgotten

_log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Request:
    """One answer in the making."""

    generation: Generation
    answer: Answer
    times: Chronometer
    chooser: Chooser | None = None
    prompt_tokens: int = 0

    @property
    def id(self) -> str:
        return self.generation.request_id


@dataclass(slots=True, eq=False)
class _Flight:
    """A step under way. `wanted`: (row, request) to be sampled. `is_alone`: no other step was under way before it."""

    step: Step
    wanted: list[tuple[int, _Request]]
    is_alone: bool
    sent_at: float = 0.0


@dataclass(frozen=True, slots=True)
class _Sample:
    """What the worker made of one wanted row."""

    request: _Request
    token: int = -1
    logprob: TokenLogprob | None = None
    error: SwarmError | None = None


class Head:
    """The driver of one ring of `n_stages`. `report` must not wait; `admit`, `generate` and `cancel` are for the event
    loop's thread."""

    def __init__(
        self,
        equipment: Equipment,
        loop: Loop,
        conditions: Conditions,
        *,
        n_stages: int,
        report: Callable[[AnyReport], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._equipment, self._loop, self._report, self._clock = equipment, loop, report, clock
        self._hops = n_stages if n_stages > 1 else 0
        self._schedule = Schedule(conditions.n_ctx, conditions.n_ubatch, conditions.n_seq_max, window=n_stages)
        self._most_open = conditions.n_seq_max + MAX_QUEUED
        self._reader = PromptReader(equipment.vocabulary, most_tokens=conditions.n_ctx)
        self._reading = ThreadPoolExecutor(1, "prompt")
        self._admitted: dict[str, None] = {}
        self._requests: dict[str, _Request] = {}
        self._preparing: set[asyncio.Task[None]] = set()
        self._numbers, self._arrivals = Numbering(), Numbering()
        self._flights: deque[_Flight] = deque()
        self._to_remove: deque[int] = deque()
        self._wake = asyncio.Event()
        self._lost: RingError | None = None

    def admit(self, request_id: str) -> None:
        """A request has a ticket: one prompt may come under its name."""
        if len(self._admitted) >= MAX_ADMITTED:
            del self._admitted[next(iter(self._admitted))]
        self._admitted[request_id] = None

    def generate(self, generation: Generation) -> None:
        """Begin an answer. What happens with it is reported: Piece..., then Finished or Failed.

        Raises:
            TicketError: the request was not admitted.
            BusyError: too many are open.
            RingError: the ring has ended.
        """
        if self._lost is not None:
            raise self._lost
        if generation.request_id not in self._admitted or generation.request_id in self._requests:
            raise TicketError(f"request {generation.request_id} has no ticket at this stage")
        if len(self._requests) >= self._most_open:
            wait_s = self._schedule.retry_after_s(self._clock())
            raise BusyError(f"{len(self._requests)} requests are open already", retry_after_s=wait_s)
        del self._admitted[generation.request_id]
        vocabulary, sampling = self._equipment.vocabulary, generation.sampling
        answer = Answer(
            generation.request_id,
            stop=sampling.stop,
            max_tokens=sampling.max_tokens,
            token_bytes=partial(vocabulary.token_bytes, shown=frozenset(sampling.shown)),
            is_end=vocabulary.is_end,
        )
        request = self._requests[generation.request_id] = _Request(generation, answer, Chronometer(self._clock()))
        task = asyncio.get_running_loop().create_task(self._prepare(request))
        self._preparing.add(task)
        task.add_done_callback(self._preparing.discard)

    def cancel(self, request_id: str) -> None:
        """Stop a request, wherever it is; unknown ones are none of our business any more."""
        self._admitted.pop(request_id, None)
        request = self._requests.get(request_id)
        if request is not None:
            self._finish(request, "cancelled")

    async def run(self) -> NoReturn:
        """Work until the ring ends, or the task is cancelled.

        Raises:
            RingError: why it ended; every request on it has been reported as failed.
        """
        tasks = [asyncio.create_task(self._send()), asyncio.create_task(self._receive())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            error = self._lost = _ring_error(done.pop().exception())
            for request in list(self._requests.values()):
                self._fail(request, error)
            raise error
        finally:
            ending = [*tasks, *self._preparing]
            for task in ending:
                task.cancel()
            await asyncio.gather(*ending, return_exceptions=True)
            self._reading.shutdown(wait=False, cancel_futures=True)

    async def _prepare(self, request: _Request) -> None:
        """From messages to a place in the queue."""
        generation = request.generation
        try:
            in_thread = asyncio.get_running_loop().run_in_executor
            tokens = await in_thread(self._reading, self._reader.read, generation.prompt)
            request.prompt_tokens = len(tokens)
            chooser = await self._equipment.worker.do(self._choose, generation, tokens)
            if not self._is_open(request):  # cancelled meanwhile
                self._equipment.worker.submit(chooser.close)
                return
            request.chooser = chooser
            request.answer.carry_on(generation.continued)
            if request.answer.reason is not None:
                self._finish(request, request.answer.reason)
                return
            limit = generation.sampling.max_tokens
            left = None if limit is None else limit - len(generation.continued)
            self._schedule.submit(request.id, [*tokens, *generation.continued], max_tokens=left, now=self._clock())
            self._wake.set()
        except SwarmError as exc:
            self._fail(request, exc)
        except Exception:  # the rim of a request: the ring goes on
            _log.exception("request %s could not be prepared", request.id)
            self._fail(request, StageError("the prompt could not be prepared"))

    def _choose(self, generation: Generation, tokens: Sequence[int]) -> Chooser:
        """In the worker thread."""
        chooser = self._equipment.choose(generation.sampling, tokens)
        try:
            chooser.resume(generation.continued)
        except BaseException:
            chooser.close()
            raise
        return chooser

    async def _send(self) -> NoReturn:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while frames := self._next_frames():
                for frame in frames:
                    if isinstance(frame, Step):
                        self._flights[-1].sent_at = self._clock()
                    await self._loop.send(frame)

    def _next_frames(self) -> list[Change]:
        """Removals first: a slot that was freed may be given away with the next step."""
        if self._to_remove:
            return [Remove(self._numbers.take(), self._to_remove.popleft(), 0, -1)]
        now = self._clock()
        turn = self._schedule.turn(now)
        if turn is None:
            return []
        begins = [Begin(self._numbers.take(), slot, request_id) for slot, request_id in turn.begun]
        for begin in begins:
            self._requests[begin.request_id].times.sent_at = now
        step = Step(
            self._numbers.take(),
            positions=np.array([row.position for row in turn.rows], np.int32),
            sequences=np.array([row.slot for row in turn.rows], np.int32),
            wanted=np.array([row.is_wanted for row in turn.rows], np.bool_),
            tokens=np.array([row.token for row in turn.rows], np.int32),
        )
        wanted = [(index, self._requests[row.request_id]) for index, row in enumerate(turn.rows) if row.is_wanted]
        self._flights.append(_Flight(step, wanted, is_alone=not self._flights))
        return [*begins, step]

    async def _receive(self) -> NoReturn:
        while True:
            frame = await self._loop.receive()
            self._arrivals.check(frame)
            match frame:
                case Remove(sequence=sequence, first=first, last=last):
                    await self._equipment.worker.do(self._equipment.layers.remove, sequence, first, last)
                case Step():
                    await self._land(frame)
                case Begin():
                    pass  # our own word, back again

    async def _land(self, step: Step) -> None:
        """A step came back: run the last layers, sample, and feed the tokens in again."""
        if not self._flights:
            raise ProtocolError(f"change {step.number} came back, and nothing was sent")
        flight = self._flights.popleft()
        sent = flight.step
        if step.number != sent.number or not (
            step.positions.tobytes() == sent.positions.tobytes()
            and step.sequences.tobytes() == sent.sequences.tobytes()
            and step.wanted.tobytes() == sent.wanted.tobytes()
            and (step.hidden is not None) == bool(self._hops)
            and len(read_laps(step.laps)) == max(0, self._hops - 1)
        ):
            raise ProtocolError(f"change {step.number} came back as another than was sent")
        wanted = [(row, request) for row, request in flight.wanted if self._is_open(request)]
        samples, compute_us = await self._equipment.worker.do(self._compute, step, wanted)
        now = self._clock()
        self._schedule.landed()
        took_s, laps = now - flight.sent_at, [*read_laps(step.laps), Lap(step.hop_us, compute_us)]
        is_alone = self._hops and flight.is_alone and not self._flights
        overhead_s = (took_s - computed_s(laps)) / self._hops if is_alone else None
        for sample in samples:
            if not self._is_open(sample.request):
                continue  # cancelled while it was computed
            if sample.error is not None:
                self._fail(sample.request, sample.error)
                continue
            sample.request.times.count(now, took_s, laps, overhead_s)
            try:
                self._take(sample)
            except SwarmError as exc:
                self._fail(sample.request, exc)
        self._wake.set()

    def _is_open(self, request: _Request) -> bool:
        return self._requests.get(request.id) is request

    def _compute(self, step: Step, wanted: Sequence[tuple[int, _Request]]) -> tuple[list[_Sample], int]:
        """In the worker thread: decode and sample; gives the samples and the microseconds spent on both."""
        batch = Batch(step.positions, step.sequences, step.wanted, step.tokens, step.hidden)
        decoded = self._equipment.layers.decode(batch)
        started = time.perf_counter_ns()
        samples = [self._sample(row, request) for row, request in wanted]
        return samples, decoded.compute_us + (time.perf_counter_ns() - started) // 1000

    def _sample(self, row: int, request: _Request) -> _Sample:
        chooser, n_top = request.chooser, request.generation.sampling.top_logprobs
        assert chooser is not None
        logits = self._equipment.layers.logits(row)
        try:
            token = chooser.sample(logits)
            chooser.accept(token)
            logprob = None if n_top is None else self._equipment.logprob(logits, token, n_top)
        except SwarmError as exc:
            return _Sample(request, error=exc)
        except Exception:  # the rim of a request: the others go on
            _log.exception("request %s could not be sampled", request.id)
            return _Sample(request, error=StageError("the next token could not be sampled"))
        return _Sample(request, token, logprob)

    def _take(self, sample: _Sample) -> None:
        """Say what is certain now, and go on or end."""
        request, answer = sample.request, sample.request.answer
        self._report(answer.push(sample.token, sample.logprob))
        if answer.reason is None and not self._schedule.sampled(request.id, sample.token):
            rest = answer.end("length")
            if rest is not None:
                self._report(rest)
        if answer.reason is not None:
            self._finish(request, answer.reason)

    def _finish(self, request: _Request, reason: str) -> None:
        self._forget(request)
        self._report(
            Finished(
                request_id=request.id,
                reason=reason,
                prompt_tokens=request.prompt_tokens,
                completion_tokens=request.answer.n_tokens,
                seed=request.chooser.seed if request.chooser is not None else 0,
                timing=request.times.timing(self._hops),
            )
        )

    def _fail(self, request: _Request, error: SwarmError) -> None:
        if self._is_open(request):
            self._forget(request)
            self._report(describe(error, request_id=request.id))

    def _forget(self, request: _Request) -> None:
        """Its rows end here; its cells are freed on every stage by the next frame."""
        del self._requests[request.id]
        slot = self._schedule.finish(request.id, self._clock())
        if slot is not None:
            self._to_remove.append(slot)
        if request.chooser is not None:
            self._equipment.worker.submit(request.chooser.close)  # behind the step that may be using it
        self._wake.set()


def _ring_error(error: BaseException | None) -> RingError:
    if isinstance(error, RingError):
        return error
    if isinstance(error, SwarmError):
        return RingError(error.message, hint=error.hint, code=error.code)
    _log.error("the head broke", exc_info=error)
    return StageError(f"the head broke: {error}")
