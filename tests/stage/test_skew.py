"""How long a frame was on its way, by clocks that began at different times."""

from hypothesis import given
from hypothesis import strategies as st

from mycoswarm.stage.skew import Skew
from mycoswarm.wire.frame import Beat

ROUND = 1 << 32
clocks = st.integers(0, ROUND - 1)
ways = st.integers(0, 100_000)


def exchanged(one: Skew, at_us: int, ahead_us: int, *, there_us: int, back_us: int, held_us: int = 500_000) -> int:
    """A beat goes to a neighbour whose clock is ahead, and one of his comes back; gives when, on our clock."""
    left_us, turned_us = at_us + there_us, at_us + there_us + held_us
    beat = Beat((turned_us + ahead_us) % ROUND, at_us % ROUND, held_us)
    assert left_us <= turned_us
    one.hear(beat, (turned_us + back_us) % ROUND)
    return turned_us + back_us


@given(clocks, clocks, ways, ways, st.integers(0, 1_000_000))
def test_a_hop_is_known_to_half_of_the_round_trip_whatever_the_clocks(
    at_us: int, ahead_us: int, there_us: int, back_us: int, hop_us: int
) -> None:
    one = Skew()
    now_us = exchanged(one, at_us, ahead_us, there_us=there_us, back_us=back_us)
    told = one.hop_us((now_us + ahead_us) % ROUND, (now_us + hop_us) % ROUND)
    room_us = (there_us + back_us) / 2 + 1
    assert hop_us <= room_us if told is None else abs(told - hop_us) <= room_us


def test_nothing_is_told_before_the_clocks_were_compared() -> None:
    one = Skew()
    assert one.hop_us(5, 9) is None and one.beat(7) == Beat()
    one.hear(Beat(100), 1000)
    assert one.hop_us(5, 9) is None
    assert one.beat(1600) == Beat(heard_us=100, held_us=600)


def test_the_quickest_round_trip_counts_until_it_may_have_drifted() -> None:
    one = Skew()
    now_us = exchanged(one, 0, 0, there_us=100, back_us=100)
    slow = {"there_us": 20_000, "back_us": 0}  # a clock that seems 10 ms behind
    now_us = exchanged(one, now_us, 0, **slow)
    assert one.hop_us(0, 300) == 300
    exchanged(one, now_us + 300_000_000, 0, **slow)  # five minutes on, 30 ms may have been lost
    assert one.hop_us(0, 300) != 300


@given(clocks, clocks, st.integers(0, ROUND - 2), clocks)
def test_whatever_a_neighbour_says_it_is_a_number_or_nothing(sent: int, heard: int, held: int, now: int) -> None:
    one = Skew()
    one.hear(Beat(sent, heard, held), now)
    told = one.hop_us(sent, now)
    assert told is None or 0 <= told < ROUND
