"""How fast an open ring is: answers of greedy tokens, timed by its head. What `bench ring` shows."""

import secrets
from dataclasses import dataclass
from statistics import median

from mycoswarm.base.errors import RingError
from mycoswarm.stage.ring import Ring
from mycoswarm.wire.report import Finished, Timing
from mycoswarm.wire.request import Generation, Prompt, Sampling

STEPS = 256  # wanted; the median then rests on hundreds of hops
_PER_ANSWER = 128
_MAX_ANSWERS = 64  # a model may end its answers early


@dataclass(frozen=True, slots=True)
class RingSpeed:
    """`hop_overhead_s` is the median of (ring step minus time inside llama.cpp) over hops; None in a ring of one.

    `step_s` and `compute_s` are means per step (one token each, prefill left out).
    """

    hops: int
    steps: int
    step_s: float
    compute_s: float
    hop_overhead_s: float | None

    @property
    def tokens_per_s(self) -> float:
        """One stream's decoding speed."""
        return 1 / self.step_s if self.step_s else 0.0


async def measure_ring(ring: Ring, *, rule: str, text: str = "Hello", steps: int = STEPS) -> RingSpeed:
    """Let a ring answer until enough steps are counted. The first answer only warms it up.

    Raises:
        RingError: the ring was lost, or the model ends every answer at once.
        SwarmError: what the ring's nodes said.
    """
    await _answer(ring, rule, text, 8)
    timings: list[Timing] = []
    while sum(timing.steps for timing in timings) < steps and len(timings) < _MAX_ANSWERS:
        timing = await _answer(ring, rule, text, min(_PER_ANSWER, steps) + 1)
        if timing is not None and timing.steps:
            timings.append(timing)
        elif len(timings) == 0:
            raise RingError("the model ends its answer with the first token", hint="Measure with another prompt.")
    count = sum(timing.steps for timing in timings)
    overheads = [timing.hop_overhead_median_s for timing in timings if timing.hop_overhead_median_s is not None]
    return RingSpeed(
        hops=timings[0].hops,
        steps=count,
        step_s=sum(timing.step_s for timing in timings) / count,
        compute_s=sum(timing.compute_s for timing in timings) / count,
        hop_overhead_s=median(overheads) if overheads else None,
    )


async def _answer(ring: Ring, rule: str, text: str, max_tokens: int) -> Timing | None:
    generation = Generation(
        request_id=f"bench-{secrets.token_hex(8)}",
        prompt=Prompt(text=text),
        sampling=Sampling(temperature=0.0, max_tokens=max_tokens),
    )
    async for report in ring.generate(generation, rule):
        if isinstance(report, Finished):
            return report.timing
    raise RingError("an answer had no end")
