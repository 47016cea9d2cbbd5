"""Where the time of a request went, as its row in the ledger keeps it."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import msgspec
import pytest

from mycoswarm.base.errors import RefusedError, RingError
from mycoswarm.chat.job import Job
from mycoswarm.chat.life import Chat
from mycoswarm.chat.stopwatch import PHASES, Stopwatch
from mycoswarm.external.errand import Reached
from mycoswarm.routing.action import Ask, Deny, External, Run
from mycoswarm.routing.decision import Dispatch
from mycoswarm.routing.rule import Rule, RuleSet
from mycoswarm.routing.snapshot import EndpointState
from mycoswarm.wire.plan import RingPlan
from mycoswarm.wire.report import Finished, Piece, StageTiming, Timing
from rings import TOKENS, Bench, FakeRing, job, lost_at, node, until

STAGES = (StageTiming(compute_median_s=21e-6, hop_median_s=4e-6), StageTiming(compute_median_s=30e-6))


class Clock:
    """Goes on by what it is told."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s

    def after(self, seconds: float) -> None:
        self.now_s += seconds


def timed(*stages: StageTiming) -> Timing:
    return Timing(
        prefill_s=25e-6,
        decode_s=150e-6,
        steps=8,
        step_s=140e-6,
        compute_s=120e-6,
        hops=2,
        queued_s=6e-6,
        stages=stages,
    )


def telling(timing: Timing, *, fault: int | None = None) -> "type[FakeRing]":
    class Telling(FakeRing):
        def __init__(self, plan: RingPlan) -> None:
            is_lost = fault is not None and plan.head.node_id == "attic"
            super().__init__(plan, faults={fault or 0: lost_at("attic")} if is_lost else None)
            self.timing = timing

    return Telling


async def answered(chat: Chat, one: Job) -> Timing | None:
    """What its client is told of its time."""
    told = None
    async with asyncio.timeout(10), aclosing(chat.answer(one)) as events:
        async for event in events:
            told = event.timing if isinstance(event, Finished) else told
    return told


def timing_of(bench: Bench) -> dict[str, Any]:
    (row,) = bench.rows("answer")
    found: dict[str, Any] = row["timing"]
    assert sum(sum(one.values()) for one in found["tries"]) <= row["seconds"] + 0.001
    return found


def test_the_phases_of_each_try_add_up_to_the_whole() -> None:
    clock = Clock()
    watch = Stopwatch(clock)
    clock.after(0.5)
    watch.begin()
    watch.speak()  # nothing can be said yet
    with watch.asking():
        clock.after(2.0)
    watch.turn()
    clock.after(1.0)
    watch.turn()  # the ring could not be opened
    watch.begin()
    for seconds in (0.1, 0.2):
        clock.after(seconds)
        watch.turn()
    clock.after(0.3)
    watch.speak()
    clock.after(0.4)
    watch.speak()
    watch.turn()
    watch.turn()
    assert watch.shown() == {
        "tries": [
            {"deciding_s": 2.5, "opening_s": 1.0},
            {"deciding_s": 0.1, "opening_s": 0.2, "first_s": 0.3, "answering_s": 0.4},
        ],
        "first_token_s": pytest.approx(4.1),
        "asking_s": 2.0,
    }
    assert watch.elapsed_s() == pytest.approx(4.5)


def test_an_answers_row_says_where_its_time_went_stage_by_stage() -> None:
    async def main() -> None:
        bench = Bench(
            nodes=(node("attic", free=500_000), node("cellar", free=500_000)), ring_for=telling(timed(*STAGES))
        )
        async with bench.chat() as chat:
            assert await answered(chat, job()) == timed(*STAGES)
        timing = timing_of(bench)
        (one,) = timing.pop("tries")
        assert tuple(one) == PHASES and timing.pop("first_token_s") >= one["deciding_s"]
        (decision,) = bench.rows("decision")
        assert timing == {
            "queued_s": 6e-6,
            "prefill_s": 25e-6,
            "decode_s": 150e-6,
            "steps": 8,
            "stages": [
                {"node": each["name"], "layers": each["layers"], "compute_median_s": c, "hop_median_s": h}
                for each, c, h in zip(decision["nodes"], (21e-6, 30e-6), (4e-6, None), strict=True)
            ],
        }
        assert len(json.dumps(bench.rows("answer"))) < 2000

    asyncio.run(main())


def test_a_head_that_tells_of_other_stages_than_were_decided_is_not_heard() -> None:
    async def main() -> None:
        bench = Bench(ring_for=telling(timed(*STAGES)))  # on one node alone
        async with bench.chat() as chat:
            await answered(chat, job())
        assert "stages" not in timing_of(bench) and timing_of(bench)["queued_s"] == 6e-6

    asyncio.run(main())


@pytest.mark.parametrize(
    "lie",
    [
        msgspec.structs.replace(timed(*STAGES), decode_s=9e8),
        msgspec.structs.replace(timed(*STAGES), hop_overhead_median_s=60.0),
        timed(STAGES[0], StageTiming(compute_median_s=1e-6, hop_median_s=60.0)),
    ],
    ids=["decoding", "overhead", "a stage"],
)
def test_a_head_that_tells_of_more_time_than_the_request_took_is_not_heard(lie: Timing) -> None:
    async def main() -> None:
        bench = Bench(nodes=(node("attic", free=500_000), node("cellar", free=500_000)), ring_for=telling(lie))
        async with bench.chat() as chat:
            assert await answered(chat, job()) is None
        assert set(timing_of(bench)) == {"tries", "first_token_s"}

    asyncio.run(main())


@pytest.mark.parametrize("after", [0, 3, len(TOKENS) - 1])
def test_a_try_that_lost_its_node_keeps_its_own_phases(after: int) -> None:
    async def main() -> None:
        bench = Bench(ring_for=telling(timed(), fault=after))
        async with bench.chat() as chat:
            await answered(chat, job())
        lost, last = timing_of(bench)["tries"]
        assert tuple(lost) == (PHASES if after else PHASES[:3]) and tuple(last) == PHASES

    asyncio.run(main())


def test_what_was_refused_or_never_opened_has_the_phases_that_there_were() -> None:
    async def main() -> None:
        bench = Bench(rules=RuleSet.of((Rule(name="no", then=Deny()),)))
        async with bench.chat() as chat:
            with pytest.raises(RefusedError):
                await answered(chat, job())
        assert [tuple(one) for one in timing_of(bench)["tries"]] == [("deciding_s",)]
        assert "first_token_s" not in timing_of(bench)

        def opening(plan: RingPlan) -> FakeRing:
            raise lost_at(plan.head.node_id)

        bench = Bench(nodes=(node("attic"),), ring_for=opening)
        async with bench.chat() as chat:
            with pytest.raises(RingError):
                await answered(chat, job())
        assert [tuple(one) for one in timing_of(bench)["tries"]] == [("deciding_s", "opening_s"), ("deciding_s",)]

    asyncio.run(main())


def test_an_endpoints_answer_has_its_connecting_first_word_and_whole() -> None:
    async def main() -> None:
        reading = asyncio.Event()

        async def relay(dispatch: Dispatch, one: Job) -> AsyncGenerator[Reached | Piece | Finished, None]:
            yield Reached("LAN", "192.168.1.9:8000")
            await reading.wait()
            yield Piece(request_id=one.request_id, text="Hello", token_ids=())
            yield Finished(request_id=one.request_id, reason="stop", prompt_tokens=3, completion_tokens=1)

        rules = RuleSet.of((Rule(name="rack", then=External(name="rack")),))
        bench = Bench(rules=rules, endpoints=(EndpointState("rack", "LAN"),), relay=relay)
        async with bench.chat() as chat:
            asking = asyncio.create_task(answered(chat, job()))
            await until(lambda: bench.rows("decision"))
            await asyncio.sleep(0.02)  # the endpoint thinks
            reading.set()
            await asking
        timing = timing_of(bench)
        (one,) = timing.pop("tries")
        assert tuple(one) == PHASES and one["first_s"] > 0.01
        assert timing == {
            "first_token_s": pytest.approx(one["deciding_s"] + one["opening_s"] + one["first_s"], abs=0.01)
        }

    asyncio.run(main())


def test_the_wait_for_the_owner_is_told_apart() -> None:
    async def main() -> None:
        bench = Bench(rules=RuleSet.of((Rule(name="ask", then=Ask(then=Run(), within_s=30)),)))
        async with bench.chat() as chat:
            asking = asyncio.create_task(answered(chat, job()))
            await until(bench.approvals.waiting)
            await bench.approvals.answer("r1", True, "owner")
            await asking
        timing = timing_of(bench)
        assert 0 < timing["asking_s"] <= timing["tries"][0]["deciding_s"]

    asyncio.run(main())
