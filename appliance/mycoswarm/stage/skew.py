"""How far a neighbour's clock is from this machine's, and so how long a frame was on its way.

Of each sign of life (`Beat`) the other side tells when it left there, which of ours it had heard last and for how long.
That makes a round trip, half of which is taken for the way here, as NTP does (RFC 5905, section 8): it is wrong by half
a round trip at most, less what the clocks drift. The quickest round trip counts until it may have drifted past a newer.
The other side's word is a number for people's eyes; nothing is decided by it.

All clocks are monotonic, in microseconds modulo 2**32.
"""

import time
from collections.abc import Iterator
from itertools import chain, repeat

from mycoswarm.wire.frame import MAX_US, Beat

_ROUND = 1 << 32
_DRIFT = 50e-6  # two crystals of 25 ppm each, as PCs and Raspberry Pis have them
_MAX_TRIP_US = 10_000_000  # five times what a silent neighbour is given


def pauses(usual_s: float) -> Iterator[float]:
    """Between two signs of life. The first are short, so that the clocks are compared before tokens flow."""
    return chain((0.02, 0.04, 0.08, 0.16), repeat(usual_s))


def clock_us() -> int:
    """This machine's clock now."""
    return time.monotonic_ns() // 1000 % _ROUND


class Skew:
    """Of one neighbour's clock."""

    def __init__(self) -> None:
        self._heard: tuple[int, int] | None = None  # the last beat: when it left there, when it came here
        self._best: tuple[int, int, int] | None = None  # round trip, when it was, by how much the other clock is ahead

    def beat(self, now_us: int) -> Beat:
        """The next sign of life to send."""
        if self._heard is None:
            return Beat()
        return Beat(heard_us=self._heard[0], held_us=min((now_us - self._heard[1]) % _ROUND, MAX_US))

    def hear(self, beat: Beat, now_us: int) -> None:
        """Take the neighbour's."""
        self._heard = beat.sent_us, now_us
        if beat.held_us is None:
            return
        trip_us = _signed(now_us - beat.heard_us - beat.held_us)
        if not 0 <= trip_us <= _MAX_TRIP_US:
            return
        if self._best is not None:
            drift_us = 2 * _DRIFT * ((now_us - self._best[1]) % _ROUND)
            if trip_us > self._best[0] + drift_us:
                return
        self._best = trip_us, now_us, (beat.sent_us + trip_us // 2 - now_us) % _ROUND

    def hop_us(self, sent_us: int, now_us: int) -> int | None:
        """How long what left there at `sent_us` was on its way; None where the clocks were not compared yet, or so
        roughly that it would have come before it left."""
        took_us = -1 if self._best is None else _signed(now_us - sent_us + self._best[2])
        return took_us if took_us >= 0 else None


def _signed(difference_us: int) -> int:
    """The difference of two clocks, which may have begun anew between them."""
    return (difference_us + _ROUND // 2) % _ROUND - _ROUND // 2
