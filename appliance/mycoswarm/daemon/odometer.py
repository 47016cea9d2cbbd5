"""What flows through each ring, counted as it passes: for the owner's eyes, and for nothing that decides."""

import contextlib
import time
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from typing import Any

from mycoswarm.base.errors import RingError
from mycoswarm.stage.pool import OpenedRing
from mycoswarm.wire.report import AnyReport, Finished, Piece, Timing
from mycoswarm.wire.request import Work
from mycoswarm.wire.ticket import Warrant

MAX_RINGS = 256  # the one opened longest ago is forgotten
WINDOW_S = 3.0

Clock = Callable[[], float]


@dataclass(slots=True)
class Mileage:
    """Of one ring. `tokens`: since it was opened. `timing`: of its last whole answer, where it had steps."""

    tokens: int = 0
    answers: int = 0
    timing: Timing | None = None
    recent: deque[tuple[float, int]] = field(default_factory=deque)

    def shown(self, now: float) -> dict[str, Any]:
        """As JSON. `tokens_per_s` is of the last seconds, None where none came; `decode_tokens_per_s` and the hops'
        overhead are of the last whole answer."""
        while self.recent and now - self.recent[0][0] > WINDOW_S:
            self.recent.popleft()
        rate = None
        if len(self.recent) > 1 and (span_s := self.recent[-1][0] - self.recent[0][0]) > 0:
            rate = (sum(count for _, count in self.recent) - self.recent[0][1]) / span_s
        timing = self.timing
        return {
            "tokens": self.tokens,
            "answers": self.answers,
            "tokens_per_s": rate,
            "decode_tokens_per_s": timing.steps / timing.step_s if timing and timing.step_s > 0 else None,
            "hop_overhead_median_s": timing.hop_overhead_median_s if timing and timing.hops else None,
            "hops": timing.hops if timing else None,
        }


class Odometer:
    """All rings of one coordinator. `clock` is monotonic."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._rings: OrderedDict[str, Mileage] = OrderedDict()

    def over(self, ring_id: str, ring: OpenedRing) -> OpenedRing:
        """The same ring, counted."""
        mileage = self._rings[ring_id] = Mileage()
        while len(self._rings) > MAX_RINGS:
            self._rings.popitem(last=False)
        return _Counted(ring, mileage, self._clock)

    def shown(self, ring_id: str) -> dict[str, Any]:
        """What one ring has done."""
        return self._rings.get(ring_id, Mileage()).shown(self._clock())


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
        mileage = self._mileage
        async with contextlib.aclosing(self._ring.generate(work, warrant, lifetime_s)) as reports:
            async for report in reports:
                if isinstance(report, Piece) and report.token_ids:
                    mileage.tokens += len(report.token_ids)
                    mileage.recent.append((self._clock(), len(report.token_ids)))
                    if len(mileage.recent) > 4096:
                        mileage.recent.popleft()
                elif isinstance(report, Finished):
                    mileage.answers += 1
                    if report.timing is not None and report.timing.steps:
                        mileage.timing = report.timing
                yield report
