"""A stand to try heads on: a ring of fakes, and what the head said."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace

import numpy as np

from mycoswarm.base.errors import RingError
from mycoswarm.stage.equipment import Equipment
from mycoswarm.stage.head import Head
from mycoswarm.stage.loop import Loopback
from mycoswarm.stage.worker import Worker
from mycoswarm.wire.frame import Change, Step, lap
from mycoswarm.wire.plan import Conditions
from mycoswarm.wire.report import AnyReport, Failed, Finished, Piece, TokenLogprob
from mycoswarm.wire.request import Generation, Prompt, Sampling
from stage.fakes import FIRST_CHARACTER, FakeEngine, FakeSampler, FakeVocabulary

TEMPLATE = "{% for m in messages %}{{ m.content }}{% endfor %}"


def echo_backwards(tokens: list[int]) -> int:
    """Says the first line of its text backwards, then ends; an impure answer would show at once."""
    text = bytes(token - FIRST_CHARACTER for token in tokens if token >= FIRST_CHARACTER)
    prompt, _, said = text.partition(b"\n")
    return FIRST_CHARACTER + prompt[::-1][len(said)] if len(said) < len(prompt) else FakeVocabulary().end_id


class FakeRing:
    """A loop through other stages: it remembers the changes, and turns tokens into hidden states as relays do."""

    def __init__(self, n_stages: int = 1) -> None:
        self._inner = Loopback()
        self._n_stages = n_stages
        self.sent: list[Change] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: RingError | None = None
        self.change: Callable[[Step], Step] = lambda step: step

    async def send(self, frame: Change) -> None:
        self.sent.append(frame)
        await self._inner.send(frame)

    async def receive(self) -> Change:
        frame = await self._inner.receive()
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        if isinstance(frame, Step) and self._n_stages > 1:
            assert frame.tokens is not None
            hidden = np.repeat(frame.tokens[:, None].astype(np.float32), 4, axis=1)
            frame = replace(frame, tokens=None, hidden=hidden, laps=lap(3, 11) * (self._n_stages - 1), hop_us=5)
        return self.change(frame) if isinstance(frame, Step) else frame

    @property
    def steps(self) -> list[Step]:
        return [frame for frame in self.sent if isinstance(frame, Step)]


@dataclass
class Stand:
    """One head at work, and what it said."""

    engine: FakeEngine
    ring: FakeRing
    head: Head
    samplers: list[FakeSampler] = field(default_factory=list)
    reports: list[AnyReport] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    running: "asyncio.Task[None] | None" = None

    def ask(self, request_id: str, text: str, **sampling) -> None:
        continued = tuple(sampling.pop("continued", ()))
        self.head.admit(request_id)
        prompt = Prompt(text=f"{text}\n")
        self.head.generate(
            Generation(request_id=request_id, prompt=prompt, sampling=Sampling(**sampling), continued=continued)
        )

    async def until(self, is_so: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not is_so():
                self.changed.clear()
                await self.changed.wait()

    def of(self, request_id: str) -> list[AnyReport]:
        return [report for report in self.reports if getattr(report, "request_id", None) == request_id]

    def text(self, request_id: str) -> str:
        return "".join(report.text for report in self.of(request_id) if isinstance(report, Piece))

    def end(self, request_id: str) -> Finished | Failed | None:
        return next((r for r in self.of(request_id) if isinstance(r, Finished | Failed)), None)

    async def ended(self, request_id: str) -> Finished | Failed:
        await self.until(lambda: self.end(request_id) is not None)
        found = self.end(request_id)
        assert found is not None
        return found


@asynccontextmanager
async def stand(
    n_stages: int = 1, *, say: Callable[[list[int]], int] = echo_backwards, **conditions
) -> AsyncIterator[Stand]:
    c = Conditions(**{"n_ctx": 200, "n_ubatch": 8, "n_seq_max": 3} | conditions)
    vocabulary = FakeVocabulary(template=TEMPLATE)
    engine = FakeEngine(say, vocabulary=vocabulary, n_ctx=c.n_ctx, n_ubatch=c.n_ubatch)
    ring = FakeRing(n_stages)
    worker = Worker()
    samplers: list[FakeSampler] = []

    def choose(sampling, tokens) -> FakeSampler:
        if (sampling.json_schema or {}).get("fails_at") == -1:
            raise ValueError("a fault of ours")
        samplers.append(FakeSampler(sampling, list(tokens)))
        return samplers[-1]

    def logprob(row, token, n_top) -> TokenLogprob:
        return TokenLogprob(token, vocabulary.token_bytes(token), -0.5)

    def report(said: AnyReport) -> None:
        s.reports.append(said)
        s.changed.set()

    equipment = Equipment(engine, vocabulary, worker, choose, logprob)
    s = Stand(engine, ring, Head(equipment, ring, c, n_stages=n_stages, report=report), samplers)
    s.running = asyncio.create_task(s.head.run())
    s.running.add_done_callback(lambda task: s.changed.set())
    try:
        yield s
    finally:
        s.running.cancel()
        with suppress(asyncio.CancelledError, RingError):
            await s.running
        worker.shutdown()


def play(scene: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(20):
            await scene()

    asyncio.run(limited())


async def until_idle(s: Stand) -> None:
    """All that was sent has been taken, and the worker has nothing more to do."""
    async with asyncio.timeout(5):
        while s.engine.used or not all(sampler.is_closed for sampler in s.samplers):
            await asyncio.sleep(0.001)
