"""The life of a request over scripted rings: streaming, losing nodes, limits, cancelling, the ledger."""

import asyncio
import json
from contextlib import aclosing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mycoswarm.base.errors import (
    BusyError,
    CapacityError,
    CaptureError,
    NotFoundError,
    RefusedError,
    RingError,
    SplitError,
    StageError,
    StorageError,
    SwarmError,
    UnreachableError,
)
from mycoswarm.chat.failing import refused
from mycoswarm.chat.job import Asker, Decided, Event, Job
from mycoswarm.chat.life import MAX_AT_ONCE, MAX_OF_KEY, Chat
from mycoswarm.chat.load import load_of, stage_bytes
from mycoswarm.routing.action import Run
from mycoswarm.routing.decision import Decision, Explanation, Refusal
from mycoswarm.routing.rule import Rule, RuleSet
from mycoswarm.wire.plan import Conditions, RingPlan, StagePlan
from mycoswarm.wire.report import Finished, Piece
from rings import FACTS, TEXT, Bench, FakeRing, job, lost_at, node, until


async def heard(chat: Chat, one: Job) -> list[Event]:
    async with asyncio.timeout(10), aclosing(chat.answer(one)) as events:
        return [event async for event in events]


def text_of(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Piece))


def failing_once(**faults: dict[int, SwarmError]) -> "type[FakeRing]":
    """Rings whose head on the named node fails, the first time that one is opened there."""

    class Failing(FakeRing):
        def __init__(self, plan: RingPlan) -> None:
            super().__init__(plan, faults=faults.pop(plan.head.node_id, None))

    return Failing


def test_an_answer_is_a_decision_pieces_and_an_end_and_leaves_a_row() -> None:
    async def main() -> None:
        bench = Bench()
        async with bench.chat() as chat:
            events = await heard(chat, job())
        assert isinstance(events[0], Decided) and events[0].attempt == 1
        assert text_of(events) == TEXT and isinstance(events[-1], Finished)
        (row,) = bench.rows("answer")
        assert (row["outcome"], row["prompt_tokens"], row["completion_tokens"]) == ("stop", 7, 9)
        assert row["nodes"] == ["attic"] and row["key"] == "desk" and row["ran"] == "LAN"
        (decided,) = bench.rows("decision")
        assert decided["nodes"] == [{"id": "attic", "name": "attic", "place": "LAN", "layers": [0, 6]}]
        assert decided["asked"]["key"] == "desk" and decided["asked"]["at"] == 1000.0
        assert [kind for kind, _, _ in bench.notes] == ["decision", "answer"]
        assert bench.rings[0].warrants[0].receipt == "digest 1" and bench.spent == [("desk", 16)]
        assert "heliotrope" not in json.dumps(bench.notes), "no prompt text"

    asyncio.run(main())


@pytest.mark.parametrize("after", range(9))
def test_a_lost_node_is_left_out_and_the_answer_goes_on_after_its_tokens(after: int) -> None:
    async def main() -> None:
        bench = Bench(ring_for=failing_once(attic={after: lost_at("attic")}))
        async with bench.chat() as chat:
            events = await heard(chat, job())
        assert text_of(events) == TEXT
        assert [e.decision.placed.shares[0].node.node_id for e in events if isinstance(e, Decided)] == [
            "attic",
            "cellar",
        ]
        assert bench.rings[1].generations[0].continued == tuple(range(after))
        (row,) = bench.rows("answer")
        assert row["outcome"] == "stop" and row["completion_tokens"] == 9
        assert row["nodes"] == ["attic", "cellar"]  # both have read the prompt
        assert [one["attempt"] for one in bench.rows("decision")] == [1, 2]

    asyncio.run(main())


def test_a_node_that_cannot_be_opened_is_left_out_too() -> None:
    async def main() -> None:
        def opening(plan: RingPlan) -> FakeRing:
            if plan.head.node_id == "attic":
                raise lost_at("attic", "nobody answers")
            return FakeRing(plan)

        bench = Bench(ring_for=opening)
        async with bench.chat() as chat:
            assert text_of(await heard(chat, job())) == TEXT

    asyncio.run(main())


def test_no_node_left_is_the_loss_and_why_nobody_can_go_on() -> None:
    async def main() -> None:
        bench = Bench(nodes=(node("attic"),), ring_for=failing_once(attic={3: lost_at("attic", code="stage_failed")}))
        pieces: list[Event] = []
        async with bench.chat() as chat:
            with pytest.raises(RingError, match=r"cable was pulled.*no node that the rule") as caught:
                async for event in chat.answer(job()):
                    pieces.append(event)
            assert caught.value.code == "stage_failed" and caught.value.lost_node_id == "attic"
            assert len(text_of(pieces)) > 0
            assert text_of(await heard(chat, job("r2"))) == TEXT  # the next request is fine
        assert [row["outcome"] for row in bench.rows("answer")] == ["stage_failed", "stop"]

    asyncio.run(main())


def test_losing_every_node_in_turn_ends() -> None:
    async def main() -> None:
        class Lost(FakeRing):
            def __init__(self, plan: RingPlan) -> None:
                super().__init__(plan, faults={0: lost_at(plan.head.node_id)})

        bench = Bench(nodes=tuple(node(f"n{i}") for i in range(6)), ring_for=Lost)
        async with bench.chat() as chat:
            with pytest.raises(RingError):
                await heard(chat, job())
        assert [ring.plan.head.node_id for ring in bench.rings] == ["n0", "n1", "n2", "n3"]

    asyncio.run(main())


@pytest.mark.parametrize("error", [CaptureError("rows are missing"), BusyError("full", retry_after_s=3)])
def test_a_bug_or_a_full_queue_is_not_tried_elsewhere(error: SwarmError) -> None:
    async def main() -> None:
        bench = Bench(ring_for=failing_once(attic={2: error}))
        async with bench.chat() as chat:
            with pytest.raises(type(error)):
                await heard(chat, job())
        assert len(bench.rings) == 1 and bench.rows("answer")[0]["outcome"] == error.code

    asyncio.run(main())


def test_a_ring_that_ends_without_a_word_is_an_error() -> None:
    async def main() -> None:
        class Mute(FakeRing):
            async def generate(self, generation, warrant, lifetime_s):  # type: ignore[no-untyped-def,override]  # as short as can be
                return
                yield

        bench = Bench(ring_for=Mute)
        async with bench.chat() as chat:
            with pytest.raises(RingError, match="without saying why"):
                await heard(chat, job())

    asyncio.run(main())


def test_closing_the_answer_before_its_ring_is_open_leaves_one_row_and_nothing_running() -> None:
    async def main() -> None:
        bench = Bench()
        async with bench.chat() as chat:
            events = chat.answer(job())
            await anext(events)
            await events.aclose()
            assert [ring.generations for ring in bench.rings] in ([], [[]])
        assert [row["outcome"] for row in bench.rows("answer")] == ["cancelled"]

    asyncio.run(main())


def test_a_reader_that_is_cancelled_cancels_the_ring() -> None:
    async def main() -> None:
        class Held(FakeRing):
            def __init__(self, plan: RingPlan) -> None:
                super().__init__(plan)
                self.gate.clear()

        bench = Bench(ring_for=Held)
        async with bench.chat() as chat:
            reading = asyncio.create_task(heard(chat, job()))
            await until(lambda: bench.rings and bench.rings[0].generations)
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
            assert bench.rings[0].ends == ["cancelled"]
        assert [row["outcome"] for row in bench.rows("answer")] == ["cancelled"]

    asyncio.run(main())


def test_an_answer_has_a_time_limit() -> None:
    async def main() -> None:
        class Held(FakeRing):
            def __init__(self, plan: RingPlan) -> None:
                super().__init__(plan)
                self.gate.clear()

        bench = Bench(ring_for=Held, request_s=0.05)
        async with bench.chat() as chat:
            with pytest.raises(UnreachableError) as caught:
                await heard(chat, job())
        assert caught.value.code == "timeout" and bench.rows("answer")[0]["outcome"] == "timeout"
        assert bench.rings[0].ends == ["cancelled"]

    asyncio.run(main())


def test_a_full_disk_costs_the_row_but_not_the_answer(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        bench = Bench(note_faults={"answer": StorageError("the disk is full")})
        async with bench.chat() as chat:
            assert text_of(await heard(chat, job())) == TEXT
        assert "ledger could not keep" in caplog.text

    asyncio.run(main())


def test_one_request_too_many_is_told_when_to_come_again() -> None:
    async def main() -> None:
        bench = Bench(nodes=(node("attic"),))
        async with bench.chat() as chat:
            await heard(chat, job("warm up"))
            bench.rings[0].gate.clear()
            desks = [Asker(key_name="desk"), Asker(key_name="kitchen")]
            reading = [
                asyncio.create_task(heard(chat, job(f"r{i}", asker=desks[i >= MAX_OF_KEY]))) for i in range(MAX_AT_ONCE)
            ]
            await until(lambda: len(bench.rings[0].generations) == MAX_AT_ONCE + 1)
            with pytest.raises(BusyError) as caught:
                await heard(chat, job("one too many"))
            assert caught.value.retry_after_s >= 1
            bench.rings[0].gate.set()
            assert {text_of(events) for events in await asyncio.gather(*reading)} == {TEXT}
            assert text_of(await heard(chat, job("later"))) == TEXT
        assert len(bench.rings) == 1  # all shared one

    asyncio.run(main())


def test_a_second_request_uses_the_warm_ring_even_when_the_swarm_has_changed_a_little() -> None:
    async def main() -> None:
        bench = Bench()
        async with bench.chat() as chat:
            await heard(chat, job("r1", mode="split"))
            bench.nodes = (node("attic", free=8 * 10**8), node("cellar", free=2 * 10**9))
            events = await heard(chat, job("r2", mode="split"))
        assert len(bench.rings) == 1
        assert isinstance(events[0], Decided) and "already loaded" in events[0].decision.explanation.reason

    asyncio.run(main())


def test_a_refusal_is_a_typed_error_with_a_row_and_sends_nothing() -> None:
    async def main() -> None:
        bench = Bench(rules=RuleSet.of((Rule(name="solo only", then=Run(split="solo")),)))
        async with bench.chat() as chat:
            with pytest.raises(RefusedError):
                await heard(chat, job(mode="split"))
            with pytest.raises(NotFoundError):
                await heard(chat, job(model="gpt-9"))
        assert not bench.rings
        row, unknown = bench.rows("answer")
        assert (row["outcome"], row["rule"], row["nodes"]) == ("refused_by_rules", "solo only", [])
        assert unknown["outcome"] == "not_found" and unknown["model"] == "gpt-9"
        refusal, _ = bench.rows("decision")
        assert (refusal["outcome"], refusal["code"], refusal["rule"]) == ("refused", "refused_by_rules", "solo only")

    asyncio.run(main())


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("out_of_memory", CapacityError),
        ("cannot_split", SplitError),
        ("not_found", NotFoundError),
        ("refused_by_rules", RefusedError),
    ],
)
def test_every_refusal_has_its_error(code: str, kind: type[SwarmError]) -> None:
    error = refused(Refusal(code, "it is so", Explanation(None, "it is so")))
    assert type(error) is kind and error.message == "it is so"


def test_explaining_opens_nothing_and_says_what_a_request_would_do() -> None:
    async def main() -> None:
        bench = Bench()
        async with bench.chat() as chat:
            explained = await chat.explain(job(mode="split"))
            assert isinstance(explained, Decision) and not bench.rings and not bench.notes
            events = await heard(chat, job(mode="split"))
            assert isinstance(events[0], Decided) and events[0].decision.placed == explained.placed

    asyncio.run(main())


def test_a_stage_without_a_name_is_tried_again_a_few_times() -> None:
    async def main() -> None:
        bench = Bench(ring_for=failing_once(attic={2: StageError("it fell over", last_words=("GGML_ASSERT",))}))
        async with bench.chat() as chat:
            assert text_of(await heard(chat, job())) == TEXT
        assert [ring.plan.head.node_id for ring in bench.rings] == ["attic", "attic"]

    asyncio.run(main())


def test_what_stages_take_adds_up_to_the_whole_and_one_more_buffer() -> None:
    conditions = Conditions(n_ctx=512, n_ubatch=8)
    load = load_of(FACTS, conditions)

    def plan(*stages: tuple[str, int, int]) -> RingPlan:
        parts = tuple(StagePlan(node_id=name, first=first, last=last) for name, first, last in stages)
        return RingPlan(ring_id="r", model_digest="d", n_layer=6, holder_id="a", stages=parts, conditions=conditions)

    assert stage_bytes(load, plan(("a", 0, 6))) == {"a": load.total_bytes}
    split = stage_bytes(load, plan(("a", 0, 2), ("b", 2, 6)))
    assert sum(split.values()) == load.total_bytes + load.buffer_bytes


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.none() | st.integers(0, 9), min_size=1, max_size=5),
    st.sampled_from(["any", "split"]),
    st.none() | st.integers(0, 40),
)
def test_whatever_is_lost_or_left_the_text_is_a_beginning_of_the_answer(
    losses: list[int | None], mode: str, leave_after: int | None
) -> None:
    """`losses`: per node, after how many tokens it is lost when it is a head. `leave_after`: turns of the loop."""

    async def main() -> None:
        names = [f"n{i}" for i in range(len(losses))]
        faults = {n: {at: lost_at(n)} for n, at in zip(names, losses, strict=True) if at is not None}
        bench = Bench(nodes=tuple(map(node, names)), ring_for=failing_once(**faults))
        heard_so_far: list[Event] = []
        ended_well = False
        async with bench.chat() as chat:

            async def read() -> None:
                nonlocal ended_well
                async with aclosing(chat.answer(job(mode=mode))) as events:
                    async for event in events:
                        heard_so_far.append(event)
                ended_well = True

            reading = asyncio.create_task(read())
            if leave_after is not None:
                for _ in range(leave_after):
                    await asyncio.sleep(0)
                reading.cancel()
            async with asyncio.timeout(10):
                (result,) = await asyncio.gather(reading, return_exceptions=True)
            assert result is None or isinstance(result, SwarmError | asyncio.CancelledError)
        assert TEXT.startswith(text_of(heard_so_far)) and (text_of(heard_so_far) == TEXT or not ended_well)
        tried = [event.plan for event in heard_so_far if isinstance(event, Decided)]
        lost = [plan.head.node_id for plan in tried[:-1]]
        assert all(not {stage.node_id for stage in plan.stages} & set(lost[:i]) for i, plan in enumerate(tried))
        assert len(bench.rows("answer")) <= 1 and (not ended_well or bench.rows("answer")[0]["outcome"] == "stop")

    asyncio.run(main())
