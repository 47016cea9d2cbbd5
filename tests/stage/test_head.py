"""The head drives a ring: several answers at once, each as if alone; a failure costs one request or the whole ring."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from mycoswarm.base.errors import BusyError, ProtocolError, RingError, TicketError
from mycoswarm.stage.equipment import Equipment
from mycoswarm.stage.head import Head
from mycoswarm.stage.loop import Loop, Loopback
from mycoswarm.wire.frame import Begin, Change, Remove, Step
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
            frame = replace(frame, tokens=None, hidden=hidden, compute_us=11)
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
async def stand(n_stages: int = 1, **conditions) -> AsyncIterator[Stand]:
    c = Conditions(**{"n_ctx": 200, "n_ubatch": 8, "n_seq_max": 3} | conditions)
    vocabulary = FakeVocabulary(template=TEMPLATE)
    engine = FakeEngine(echo_backwards, vocabulary=vocabulary, n_ctx=c.n_ctx, n_ubatch=c.n_ubatch)
    ring = FakeRing(n_stages)
    worker = ThreadPoolExecutor(1)
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


@pytest.mark.parametrize("n_stages", [1, 3])
def test_an_answer_comes_in_pieces_and_ends(n_stages):
    async def scene():
        async with stand(n_stages) as s:
            s.ask("a", "grün und blau")
            end = await s.ended("a")
            assert s.text("a") == "grün und blau".encode()[::-1].decode("utf-8", "replace")
            assert isinstance(end, Finished)
            assert (end.reason, end.prompt_tokens, end.completion_tokens) == ("stop", 15, 15)
            ids = [token for r in s.of("a") if isinstance(r, Piece) for token in r.token_ids]
            assert len(ids) == 15 and ids[-1] == s.engine.vocabulary.end_id

    play(scene)


def test_a_request_leaves_nothing_behind():
    async def scene():
        async with stand() as s:
            s.ask("a", "abc")
            await s.ended("a")
            s.ask("b", "d")
            await s.ended("b")
            await until_idle(s)
            assert s.engine.used == 0
            assert all(sampler.is_closed for sampler in s.samplers)
            kinds = [type(frame).__name__ for frame in s.ring.sent if not isinstance(frame, Step)]
            assert kinds == ["Begin", "Remove", "Begin", "Remove"]
            assert [frame.number for frame in s.ring.sent] == list(range(len(s.ring.sent)))

    play(scene)


async def until_idle(s: Stand) -> None:
    """All that was sent has been taken, and the worker has nothing more to do."""
    async with asyncio.timeout(5):
        while s.engine.used or not all(sampler.is_closed for sampler in s.samplers):
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("n_stages", [1, 2, 4])
@pytest.mark.parametrize("n_ubatch", [2, 5, 64])
def test_answers_at_once_are_those_of_each_alone(n_stages, n_ubatch):
    texts = {str(i): "the quick brown fox"[i:] * (1 + i % 3) for i in range(7)}

    async def scene():
        async with stand(n_stages, n_ubatch=n_ubatch) as s:
            for request_id, text in texts.items():
                s.ask(request_id, text, max_tokens=len(text) + 1)
            for request_id, text in texts.items():
                end = await s.ended(request_id)
                assert (s.text(request_id), end.reason) == (text[::-1], "stop")
            widest = max(len(set(step.sequences.tolist())) for step in s.ring.steps)
            assert widest > 1  # they did share steps

    play(scene)


def test_messages_are_rendered_by_the_template():
    async def scene():
        async with stand() as s:
            s.head.admit("a")
            messages = ({"role": "user", "content": "hal"}, {"role": "user", "content": "lo\n"})
            s.head.generate(Generation(request_id="a", prompt=Prompt(messages=messages), sampling=Sampling()))
            await s.ended("a")
            assert s.text("a") == "ollah"

    play(scene)


def test_stop_strings_limits_and_the_contexts_end():
    async def scene():
        async with stand(n_ctx=20) as s:
            s.ask("stop", "abcdef", stop=("dc",))
            end = await s.ended("stop")
            assert (s.text("stop"), end.reason, end.completion_tokens) == ("fe", "stop", 4)
            s.ask("limit", "abcdef", max_tokens=2)
            end = await s.ended("limit")
            assert (s.text("limit"), end.reason) == ("fe", "length")
            s.ask("none", "abcdef", max_tokens=0)
            end = await s.ended("none")
            assert (s.text("none"), end.reason, end.completion_tokens) == ("", "length", 0)
            s.ask("context", "abcdefghijklmno")
            end = await s.ended("context")
            assert (s.text("context"), end.reason) == ("onmlk", "length")
            s.ask("stop at the end", "abcdefghijklmno", stop=("lkx",))
            end = await s.ended("stop at the end")
            assert s.text("stop at the end") == "onmlk"

    play(scene)


def test_an_answer_goes_on_after_tokens_from_elsewhere():
    async def scene():
        async with stand() as s:
            s.ask("whole", "abcdef", stop=("ba",))
            await s.ended("whole")
            ids = [token for r in s.of("whole") if isinstance(r, Piece) for token in r.token_ids]
            for at in range(len(ids) + 1):
                s.ask(f"from {at}", "abcdef", stop=("ba",), continued=ids[:at], max_tokens=20)
                end = await s.ended(f"from {at}")
                before = "".join(r.text for r in s.of("whole")[:at] if isinstance(r, Piece))
                assert before + s.text(f"from {at}") == "fedc"
                assert (end.reason, end.prompt_tokens, end.completion_tokens) == ("stop", 7, 6)
                assert s.samplers[-1].accepted == ids
            s.ask("used up", "abcdef", continued=ids[:2], max_tokens=2)
            assert (await s.ended("used up")).reason == "length"

    play(scene)


def test_logprobs_come_with_each_token_but_the_end():
    async def scene():
        async with stand() as s:
            s.ask("a", "xy", top_logprobs=2)
            await s.ended("a")
            pieces = [r for r in s.of("a") if isinstance(r, Piece)]
            assert [None if p.logprobs is None else p.logprobs[0].token for p in pieces] == [b"y", b"x", None]

    play(scene)


def test_a_request_without_a_ticket_runs_nothing():
    async def scene():
        async with stand() as s:
            generation = Generation(request_id="a", prompt=Prompt(text="x\n"), sampling=Sampling())
            with pytest.raises(TicketError):
                s.head.generate(generation)
            s.head.admit("a")
            s.head.generate(generation)
            with pytest.raises(TicketError):
                s.head.generate(generation)
            await s.ended("a")
            with pytest.raises(TicketError):  # a ticket is for one prompt
                s.head.generate(generation)
            s.head.admit("b")
            s.head.cancel("b")
            with pytest.raises(TicketError):
                s.head.generate(Generation(request_id="b", prompt=Prompt(text="x\n"), sampling=Sampling()))

    play(scene)


def test_only_so_many_requests_may_be_open():
    async def scene():
        async with stand(n_seq_max=1) as s:
            s.ring.gate.clear()
            for number in range(33):
                s.ask(str(number), "abc")
            with pytest.raises(BusyError):
                s.ask("one too many", "abc")
            s.ring.gate.set()
            assert (await s.ended("32")).reason == "stop"

    play(scene)


@pytest.mark.parametrize("n_stages", [1, 3])
def test_a_cancelled_request_gets_no_further_row_and_its_cells_are_freed(n_stages):
    async def scene():
        async with stand(n_stages, n_ctx=4000) as s:
            s.ask("long", "x" * 1000)
            s.ask("other", "abc")
            await s.until(lambda: len(s.text("long")) > 3)
            s.ring.gate.clear()
            slot = next(frame.sequence for frame in s.ring.sent if isinstance(frame, Begin))
            before = sum(slot in step.sequences for step in s.ring.steps)
            s.head.cancel("long")
            end = s.end("long")
            assert isinstance(end, Finished) and end.reason == "cancelled"
            said = s.text("long")
            s.ring.gate.set()
            await s.ended("other")
            await until_idle(s)
            assert sum(slot in step.sequences for step in s.ring.steps) == before
            assert s.text("long") == said and s.text("other") == "cba"
            assert Remove in {type(frame) for frame in s.ring.sent}

    play(scene)


def test_requests_are_cancelled_while_they_prepare_and_while_they_wait():
    async def scene():
        async with stand(n_seq_max=1) as s:
            s.ask("preparing", "abc")
            s.head.cancel("preparing")
            assert s.end("preparing").reason == "cancelled"
            s.ring.gate.clear()
            s.ask("running", "abc")
            s.ask("waiting", "abc")
            async with asyncio.timeout(5):
                while len(s.samplers) < 3:
                    await asyncio.sleep(0.001)
            s.head.cancel("waiting")
            s.ring.gate.set()
            assert (await s.ended("running")).reason == "stop"
            await until_idle(s)
            assert s.text("waiting") == s.text("preparing") == ""
            s.head.cancel("unknown")

    play(scene)


def test_a_slot_is_used_again_only_behind_its_removal():
    async def scene():
        async with stand(2, n_seq_max=1) as s:
            for round_ in range(5):
                s.ask(str(round_), "abcdefgh")
                await s.until(lambda r=str(round_): len(s.text(r)) > 1)
                s.ask(f"next {round_}", "xyz")
                s.head.cancel(str(round_))
                await s.ended(f"next {round_}")
                assert s.text(f"next {round_}") == "zyx"

    play(scene)


def test_what_is_wrong_with_one_request_fails_that_one_only():
    async def scene():
        async with stand() as s:
            s.ask("long", "x" * 300)
            s.ask("schema", "abcdef", json_schema={"fails_at": 2})
            s.ask("fault", "abcdef", json_schema={"fails_at": -1})
            s.ask("good", "abcdef")
            assert (await s.ended("long")).code == "context_length_exceeded"
            assert (await s.ended("schema")).code == "grammar_stuck"
            assert s.text("schema") == "fe"
            assert isinstance(await s.ended("fault"), Failed)
            assert (await s.ended("good")).reason == "stop"
            s.head.admit("role")
            messages = ({"role": "<|im_start|>", "content": "x"},)
            s.head.generate(Generation(request_id="role", prompt=Prompt(messages=messages), sampling=Sampling()))
            assert (await s.ended("role")).status == 400
            await until_idle(s)

    play(scene)


def test_a_decode_that_fails_ends_the_ring_for_all():
    async def scene():
        async with stand() as s:
            s.engine.fails_at = 5
            s.ask("a", "abcdefghijkl")
            s.ask("b", "abcdefghijkl")
            assert (await s.ended("a")).code == (await s.ended("b")).code == "stage_failed"
            with pytest.raises(RingError, match="on fire"):
                await s.running
            with pytest.raises(RingError, match="on fire"):
                s.ask("late", "abc")

    play(scene)


def test_a_lost_stage_is_named_to_every_request():
    async def scene():
        async with stand(3) as s:
            s.ask("a", "abcdefghijkl")
            await s.until(lambda: bool(s.text("a")))
            s.ring.error = RingError("node n2 fell silent")
            s.ring.error.lost_node_id = "n2"
            end = await s.ended("a")
            assert isinstance(end, Failed) and end.lost_node_id == "n2"
            with pytest.raises(RingError):
                await s.running

    play(scene)


@pytest.mark.parametrize(
    "change",
    [
        lambda step: replace(step, positions=step.positions + 1),
        lambda step: replace(step, number=step.number + 1),
        lambda step: replace(step, sequences=step.sequences + 1),
        lambda step: replace(step, wanted=~step.wanted),
        lambda step: replace(step, tokens=None, hidden=None),
    ],
)
def test_a_step_that_comes_back_changed_ends_the_ring(change):
    async def scene():
        async with stand(2) as s:
            s.ring.change = change
            s.ask("a", "abc")
            assert (await s.ended("a")).code == "protocol_error"
            with pytest.raises(ProtocolError):
                await s.running

    play(scene)


def test_times_are_reported():
    async def scene():
        async with stand(3) as s:
            s.ask("a", "abcdef")
            timing = (await s.ended("a")).timing
            assert timing is not None
            assert (timing.steps, timing.hops) == (6, 3)
            assert timing.step_s > timing.compute_s >= 6 * 18e-6
            assert timing.prefill_s > 0 and timing.decode_s >= timing.step_s * 0.9
            assert timing.hop_overhead_median_s is not None and 0 < timing.hop_overhead_median_s < 1
        async with stand(1) as s:
            s.ask("a", "abcdef")
            assert (await s.ended("a")).timing.hop_overhead_median_s is None

    play(scene)


def test_prompt_chunks_follow_each_other_through_a_ring():
    async def scene():
        async with stand(3) as s:
            s.ring.gate.clear()
            s.ask("a", "x" * 60)
            async with asyncio.timeout(5):
                while len(s.ring.steps) < 3:
                    await asyncio.sleep(0.001)
            await asyncio.sleep(0)
            assert len(s.ring.steps) == 3  # one per stage, no more
            s.ring.gate.set()
            assert (await s.ended("a")).reason == "stop"

    play(scene)


def test_a_loopback_is_a_loop():
    ring: Loop = Loopback()

    async def scene():
        await ring.send(Remove(0, 0, 0, -1))
        assert await ring.receive() == Remove(0, 0, 0, -1)

    play(scene)
