"""What the coordinator keeps of what a head says."""

import pytest

from mycoswarm.base.errors import ProtocolError
from mycoswarm.stage.hearsay import Hearsay
from mycoswarm.wire.plan import Conditions, RingPlan, StagePlan
from mycoswarm.wire.report import MAX_TIMED_STAGES, Finished, StageTiming, Timing
from mycoswarm.wire.request import Generation, Prompt, Sampling

STAGES = (StageTiming(compute_median_s=0.1),) * MAX_TIMED_STAGES
TIMING = Timing(prefill_s=1, decode_s=1, steps=1, step_s=1, compute_s=1, hops=2, stages=STAGES)
FINISHED = Finished(request_id="a", reason="stop", prompt_tokens=1, completion_tokens=1, timing=TIMING)


def test_ends_that_tell_of_many_stages_soon_are_more_than_an_answer_holds() -> None:
    stages = (StagePlan(node_id="n", first=0, last=1),)
    plan = RingPlan(
        ring_id="r", model_digest="d", n_layer=1, holder_id="n", stages=stages, conditions=Conditions(n_ctx=64)
    )
    hearsay = Hearsay(Generation(request_id="a", prompt=Prompt(text="x"), sampling=Sampling()), plan)
    with pytest.raises(ProtocolError):
        for _ in range(64):
            hearsay.hear(FINISHED)
