"""The times of one answer on the head's clock, and what each stage told of each of its steps."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from mycoswarm.wire.frame import Lap
from mycoswarm.wire.report import StageTiming, Timing

_TIMED_STEPS = 1024  # of which medians are taken


@dataclass(slots=True, eq=False)
class Chronometer:
    """Of one answer. `sent_at`: when its first row went into the ring."""

    asked_at: float
    sent_at: float | None = None
    first_at: float | None = None
    last_at: float = 0.0
    steps: int = 0
    step_s: float = 0.0
    compute_s: float = 0.0
    overheads_s: deque[float] = field(default_factory=lambda: deque(maxlen=_TIMED_STEPS))
    rounds: deque[Sequence[Lap]] = field(default_factory=lambda: deque(maxlen=_TIMED_STEPS))

    def count(self, now: float, took_s: float, laps: Sequence[Lap], overhead_s: float | None) -> None:
        """A step came round, with a lap of each stage; the one that ends the prefill is not decoding. Where a stage
        tells of more time than the whole step took, nothing that was told of this step counts."""
        self.last_at = now
        if self.first_at is None:
            self.first_at = now
            return
        self.steps += 1
        self.step_s += took_s
        if computed_s(laps) > took_s or any(lap.hop_us is not None and lap.hop_us > took_s * 1e6 for lap in laps):
            return
        self.compute_s += computed_s(laps)
        self.rounds.append(laps)
        if overhead_s is not None:
            self.overheads_s.append(overhead_s)

    def timing(self, hops: int) -> Timing | None:
        """What is reported of it; None before its first token."""
        if self.first_at is None or self.sent_at is None:
            return None
        return Timing(
            prefill_s=self.first_at - self.sent_at,
            decode_s=self.last_at - self.first_at,
            steps=self.steps,
            step_s=self.step_s,
            compute_s=self.compute_s,
            hops=hops,
            hop_overhead_median_s=median(self.overheads_s) if self.overheads_s else None,
            queued_s=self.sent_at - self.asked_at,
            stages=self._stages(),
        )

    def _stages(self) -> tuple[StageTiming, ...]:
        """A lap tells of the way to its stage; the first stage's is the way from the last one, the head."""
        of_stages = list(zip(*self.rounds, strict=True))
        hops = [[lap.hop_us for lap in laps if lap.hop_us is not None] for laps in of_stages]
        return tuple(
            StageTiming(
                compute_median_s=median(lap.compute_us for lap in laps) / 1e6,
                hop_median_s=median(following) / 1e6 if following else None,
            )
            for laps, following in zip(of_stages, [*hops[1:], *hops[:1]], strict=True)
        )


def computed_s(laps: Sequence[Lap]) -> float:
    """The time inside llama.cpp, of all stages."""
    return sum(lap.compute_us for lap in laps) / 1e6
