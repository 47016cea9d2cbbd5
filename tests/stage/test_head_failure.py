"""What goes wrong at a head costs one request or the whole ring, and leaves nothing behind."""

import asyncio
from dataclasses import replace

import pytest

from mycoswarm.base.errors import BusyError, ProtocolError, RingError, TicketError
from mycoswarm.wire.frame import Begin, Remove
from mycoswarm.wire.report import Failed, Finished
from mycoswarm.wire.request import Generation, Prompt, Sampling
from stage.stand import play, stand, until_idle


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
