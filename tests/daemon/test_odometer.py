"""What is counted of rings as they load and answer."""

import asyncio
import itertools
from contextlib import aclosing

import msgspec
import pytest

from mycoswarm.daemon.odometer import MAX_RINGS, Mileage, Odometer
from mycoswarm.wire.plan import Conditions, RingPlan, StagePlan
from mycoswarm.wire.report import Progress, StageTiming, Timing
from mycoswarm.wire.request import Generation, Prompt, Sampling
from mycoswarm.wire.ticket import Warrant
from rings import FakeRing

TIMING = Timing(prefill_s=0.1, decode_s=2.0, steps=20, step_s=2.0, compute_s=1.0, hops=2, hop_overhead_median_s=0.001)
TIMING = msgspec.structs.replace(
    TIMING,
    stages=(
        StageTiming(compute_median_s=0.02, hop_median_s=0.0004),
        StageTiming(compute_median_s=0.03, hop_median_s=None),
    ),
)


def plan(ring_id: str, *names: str) -> RingPlan:
    return RingPlan(
        ring_id=ring_id,
        model_digest="d",
        n_layer=len(names),
        holder_id=names[0],
        stages=tuple(StagePlan(node_id=name, first=at, last=at + 1) for at, name in enumerate(names)),
        conditions=Conditions(n_ctx=64, n_ubatch=8),
    )


async def answer(odometer: Odometer, one: RingPlan) -> None:
    timed = FakeRing(one)
    timed.timing = TIMING
    ring = odometer.over(one, timed)
    work = Generation(request_id="r", prompt=Prompt(text="x"), sampling=Sampling(), continued=())
    async with aclosing(ring.generate(work, Warrant(rule="any"), 5.0)) as reports:
        async for _ in reports:
            pass


def test_a_ring_that_loads_says_how_far_each_node_is_until_it_is_open() -> None:
    odometer, one = Odometer(), plan("r1", "attic", "cellar")
    tell = odometer.begin(one)
    tell("attic", Progress(what="loading layers" * 99, done_bytes=1, total_bytes=4))
    shown = odometer.shown("r1")
    assert not shown["is_open"] and shown["loading"]["attic"]["done_bytes"] == 1
    assert len(shown["loading"]["attic"]["what"]) < 100, "a node may say anything"
    odometer.over(one, FakeRing(one))
    assert odometer.shown("r1")["is_open"] and odometer.shown("r1")["loading"] == {}
    assert odometer.shown("unheard of")["tokens"] == 0


def test_measured_speeds_stay_when_the_ring_has_gone_and_the_newest_counts() -> None:
    async def main() -> None:
        odometer = Odometer(itertools.count().__next__)  # each look takes a second
        await answer(odometer, plan("r1", "attic"))
        await answer(odometer, plan("r2", "attic", "cellar"))
        odometer.begin(plan("r3", "attic"))  # nothing was asked of it yet
        whole, split = (("attic", 0, 1),), (("attic", 0, 1), ("cellar", 1, 2))
        assert odometer.speeds("d") == {whole: pytest.approx(10.0), split: pytest.approx(10.0)}
        assert odometer.speeds("e") == {}
        shown = odometer.shown("r1")
        assert (shown["tokens"], shown["answers"], shown["hops"]) == (9, 1, 2)
        assert odometer.stages(plan("r2", "attic", "cellar")) == [
            {"compute_median_s": 0.02, "hop_median_s": 0.0004},
            {"compute_median_s": 0.03, "hop_median_s": None},
        ]
        unknown = {"compute_median_s": None, "hop_median_s": None}
        assert odometer.stages(plan("r1", "attic")) == [unknown], "its head told of two stages"
        assert odometer.stages(plan("r3", "attic")) == [unknown]

    asyncio.run(main())


def test_a_head_that_tells_of_more_time_than_its_answer_took_is_not_heard() -> None:
    async def main() -> None:
        odometer = Odometer(lambda: 5.0)
        await answer(odometer, plan("r1", "attic", "cellar"))
        shown = odometer.shown("r1")
        assert (shown["answers"], shown["decode_tokens_per_s"], shown["hop_overhead_median_s"]) == (1, None, None)
        assert [one["compute_median_s"] for one in odometer.stages(plan("r1", "attic", "cellar"))] == [None, None]

    asyncio.run(main())


def test_no_more_rings_are_remembered_than_there_is_room_for() -> None:
    odometer = Odometer()
    for number in range(MAX_RINGS + 5):
        odometer.begin(plan(f"r{number}", "attic"))
        odometer.over(plan(f"r{number}", "attic"), FakeRing(plan(f"r{number}", "attic")))
    assert not odometer.shown("r0")["is_open"] and odometer.shown(f"r{MAX_RINGS + 4}")["is_open"]


def test_a_ring_that_stalls_is_shown_slower_and_then_with_no_speed_at_all() -> None:
    mileage = Mileage()
    mileage.recent.extend((100 + number / 10, 1) for number in range(11))
    assert mileage.shown(101.0)["tokens_per_s"] == pytest.approx(10.0)
    assert mileage.shown(102.0)["tokens_per_s"] == pytest.approx(5.0)
    assert mileage.shown(104.1)["tokens_per_s"] is None


def test_a_speed_that_is_no_number_is_unknown() -> None:
    """JSON has no infinity: one ring's head would take the whole overview away."""
    timing = msgspec.structs.replace(TIMING, steps=1 << 52, step_s=5e-324)
    assert Mileage(timing=timing).shown(0.0)["decode_tokens_per_s"] is None
    assert Mileage(timing=TIMING).shown(0.0)["decode_tokens_per_s"] == 10.0
