"""The head drives a ring: several answers at once, each as if alone."""

import asyncio
from dataclasses import replace

import pytest

from mycoswarm.stage.loop import Loop, Loopback
from mycoswarm.wire.frame import Remove, Step, lap
from mycoswarm.wire.report import Finished, Piece
from mycoswarm.wire.request import Generation, Prompt, Sampling
from stage.fakes import FakeVocabulary
from stage.stand import play, stand, until_idle


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


def test_control_tokens_are_text_where_the_request_says_so():
    start, end = 1, FakeVocabulary().end_id

    async def scene():
        async with stand(say=lambda tokens: end if tokens[-1] == start else start) as s:
            for name, shown in (("a", ()), ("b", ("<|im_start|>", "<|im_end|>"))):
                s.head.admit(name)
                sampling = Sampling(shown=shown)
                s.head.generate(Generation(request_id=name, prompt=Prompt(text="hal"), sampling=sampling))
                assert (await s.ended(name)).completion_tokens == 2
            assert (s.text("a"), s.text("b")) == ("", "<|im_start|>")

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
            assert timing.queued_s is not None and timing.queued_s > 0
            first, second, head = timing.stages  # FakeRing: 11 µs in each, 3 µs on the way to it, 5 µs to the head
            assert (first.compute_median_s, second.compute_median_s) == (11e-6, 11e-6) and head.compute_median_s > 0
            assert [one.hop_median_s for one in timing.stages] == [3e-6, 5e-6, 3e-6]
        async with stand(1) as s:
            s.ask("a", "abcdef")
            timing = (await s.ended("a")).timing
            assert timing.hop_overhead_median_s is None
            (only,) = timing.stages
            assert only.compute_median_s > 0 and only.hop_median_s is None

    play(scene)


@pytest.mark.parametrize("lie", [lap(3, 2_000_000_000) * 2, lap(2_000_000_000, 11) * 2])
def test_stages_that_tell_of_more_time_than_a_step_took_are_not_heard(lie):
    async def scene():
        async with stand(3) as s:
            s.ring.change = lambda step: replace(step, laps=lie)
            s.ask("a", "abcdef")
            timing = (await s.ended("a")).timing
            assert (timing.steps, timing.hops) == (6, 3) and 0 < timing.step_s < 60
            assert (timing.compute_s, timing.hop_overhead_median_s, timing.stages) == (0, None, ())

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
