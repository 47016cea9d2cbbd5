"""What flows through each ring, counted as it passes: for the owner's eyes, and for nothing that decides."""

import contextlib
import math
import time
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from mycoswarm.base.errors import RingError
from mycoswarm.stage.pool import OpenedRing, Shape, shape_of
from mycoswarm.wire.plan import RingPlan
from mycoswarm.wire.report import AnyReport, Finished, Piece, Progress, Timing, fits
from mycoswarm.wire.request import Work
from mycoswarm.wire.ticket import Warrant

MAX_RINGS = 256  # the one begun longest ago is forgotten
WINDOW_S = 3.0
MAX_WORDS = 80  # characters of what a node says that it is doing

Clock = Callable[[], float]


@dataclass(slots=True)
class Mileage:
    """Of one ring. `tokens`: since it was opened. `timing`: of its last whole answer, where it had steps. `loading`:
    how far each of its nodes said it was, by node id, until it was open."""

    plan: RingPlan | None = None
    is_open: bool = False
    loading: dict[str, Progress] = field(default_factory=dict)
    tokens: int = 0
    answers: int = 0
    timing: Timing | None = None
    recent: deque[tuple[float, int]] = field(default_factory=deque)

    @property
    def decode_tokens_per_s(self) -> float | None:
        """Of its last whole answer."""
        timing = self.timing
        speed = timing.steps / timing.step_s if timing and timing.step_s > 0 else math.inf
        return speed if math.isfinite(speed) else None  # the head may say anything

    def shown(self, now: float) -> dict[str, Any]:
        """As JSON. `tokens_per_s` is of the last seconds, None where none came; `decode_tokens_per_s` and the hops'
        overhead are of the last whole answer."""
        while self.recent and now - self.recent[0][0] > WINDOW_S:
            self.recent.popleft()
        rate = None
        if len(self.recent) > 1 and (span_s := now - self.recent[0][0]) > 0:  # to now: who stalls slows down
            rate = (sum(count for _, count in self.recent) - self.recent[0][1]) / span_s
        timing = self.timing
        return {
            "is_open": self.is_open,
            "loading": {
                node_id: {"what": one.what[:MAX_WORDS], "done_bytes": one.done_bytes, "total_bytes": one.total_bytes}
                for node_id, one in self.loading.items()
            },
            "tokens": self.tokens,
            "answers": self.answers,
            "tokens_per_s": rate,
            "decode_tokens_per_s": self.decode_tokens_per_s,
            "hop_overhead_median_s": timing.hop_overhead_median_s if timing and timing.hops else None,
            "hops": timing.hops if timing else None,
        }

    def stages(self, count: int) -> list[dict[str, Any]]:
        """As JSON, of each of `count` stages in ring order, what the last whole answer told: its own time at the median
        step, and the way to the next stage. None where that is not known."""
        told = self.timing.stages if self.timing else ()
        nothing = {"compute_median_s": None, "hop_median_s": None}
        return [msgspec.structs.asdict(one) for one in told] if len(told) == count else [nothing] * count


class Odometer:
    """All rings of one coordinator. `clock` is monotonic."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._rings: OrderedDict[str, Mileage] = OrderedDict()

    def begin(self, plan: RingPlan) -> Callable[[str, Progress], None]:
        """A ring is being opened; gives who hears how far each node is with loading."""
        mileage = self._rings[plan.ring_id] = Mileage(plan)
        while len(self._rings) > MAX_RINGS:
            self._rings.popitem(last=False)
        return mileage.loading.__setitem__

    def over(self, plan: RingPlan, ring: OpenedRing) -> OpenedRing:
        """The same ring, now open, counted."""
        mileage = self._rings.setdefault(plan.ring_id, Mileage(plan))
        mileage.is_open = True
        mileage.loading.clear()
        return _Counted(ring, mileage, self._clock)

    def shown(self, ring_id: str) -> dict[str, Any]:
        """What one ring has done."""
        return self._rings.get(ring_id, Mileage()).shown(self._clock())

    def stages(self, plan: RingPlan) -> list[dict[str, Any]]:
        """What one ring's last answer told of each stage of it."""
        return self._rings.get(plan.ring_id, Mileage()).stages(len(plan.stages))

    def speeds(self, model_digest: str) -> dict[Shape, float]:
        """What the last whole answers of a model showed since this daemon began, in tokens/s, by who held what: also
        of rings that have left memory."""
        found: dict[Shape, float] = {}
        for mileage in self._rings.values():  # the newest last
            plan, speed = mileage.plan, mileage.decode_tokens_per_s
            if plan is not None and plan.model_digest == model_digest and speed is not None:
                found[shape_of(plan)] = speed
        return found


class _Counted:
    """A ring that tells the odometer of every token."""

    def __init__(self, ring: OpenedRing, mileage: Mileage, clock: Clock) -> None:
        self._ring, self._mileage, self._clock = ring, mileage, clock

    @property
    def lost(self) -> RingError | None:
        """As the ring says."""
        return self._ring.lost

    async def close(self) -> None:
        """End it."""
        await self._ring.close()

    async def generate(self, work: Work, warrant: Warrant, lifetime_s: float) -> AsyncGenerator[AnyReport, None]:
        """As the ring does."""
        mileage, began_s = self._mileage, self._clock()
        async with contextlib.aclosing(self._ring.generate(work, warrant, lifetime_s)) as reports:
            async for report in reports:
                if isinstance(report, Piece) and report.token_ids:
                    mileage.tokens += len(report.token_ids)
                    mileage.recent.append((self._clock(), len(report.token_ids)))
                    if len(mileage.recent) > 4096:
                        mileage.recent.popleft()
                elif isinstance(report, Finished):
                    mileage.answers += 1
                    timing = report.timing
                    if timing is not None and timing.steps and fits(timing, self._clock() - began_s):
                        mileage.timing = timing
                yield report
