"""What answers show of a node's speed."""

from itertools import pairwise

import msgspec
import pytest

from mycoswarm.catalog.facts import ModelFacts
from mycoswarm.daemon.gauge import graded_bytes_per_s, measure_bytes_per_s
from mycoswarm.wire.plan import Conditions, RingPlan, StagePlan
from mycoswarm.wire.report import Finished, Timing

FACTS = msgspec.convert(
    {
        "digest": "d",
        "name": "m",
        "architecture": "llama",
        "quantisation": "Q8_0",
        "parameters": 1,
        "file_bytes": 1 << 30,
        "n_layer": 2,
        "n_embd": 64,
        "n_vocab": 10,
        "n_ctx_train": 100,
        "layer_bytes": [400 << 20, 400 << 20],
        "kv_bytes_per_token": [1, 1],
        "table_bytes": 0,
        "output_bytes": 200 << 20,
        "template": None,
        "splittable": True,
        "split_reason": "listed",
        "cuts": [1],
    },
    ModelFacts,
)


def plan(*bounds: int) -> RingPlan:
    stages = tuple(StagePlan(node_id=f"n{i}", first=a, last=b) for i, (a, b) in enumerate(pairwise(bounds)))
    return RingPlan(
        ring_id="r", model_digest="d", n_layer=2, holder_id="n0", stages=stages, conditions=Conditions(n_ctx=64)
    )


def finished(steps: int, compute_s: float) -> Finished:
    timing = Timing(prefill_s=0, decode_s=1, steps=steps, step_s=compute_s * 1.1, compute_s=compute_s, hops=0)
    return Finished(request_id="r", reason="stop", prompt_tokens=1, completion_tokens=steps, timing=timing)


def test_a_whole_answer_grades_its_node() -> None:
    speed = graded_bytes_per_s(plan(0, 2), FACTS, finished(100, 10.0))
    assert speed == pytest.approx((1000 << 20) * 100 / 10.0)


def test_rings_short_answers_and_small_models_grade_nobody() -> None:
    small = msgspec.structs.replace(FACTS, layer_bytes=(1, 1), output_bytes=1)
    assert graded_bytes_per_s(plan(0, 1, 2), FACTS, finished(100, 10.0)) is None
    assert graded_bytes_per_s(plan(0, 2), FACTS, finished(3, 10.0)) is None
    assert graded_bytes_per_s(plan(0, 2), small, finished(100, 10.0)) is None


@pytest.mark.slow
def test_this_machine_streams_memory() -> None:
    assert measure_bytes_per_s() > 1e7
