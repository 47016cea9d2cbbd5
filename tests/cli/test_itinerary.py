"""Where a request's time went, as `ledger show` writes it."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mycoswarm.cli.itinerary import timing_lines

TIMING: dict[str, Any] = {
    "tries": [
        {"deciding_s": 0.0021, "opening_s": 1.2},
        {"deciding_s": 0.001, "opening_s": 0.2, "first_s": 4.0},
        {"deciding_s": 0.001, "opening_s": 0.5, "first_s": 0.34, "answering_s": 2.1},
    ],
    "first_token_s": 2.0431,
    "asking_s": 3.0,
    "queued_s": 0.0032,
    "prefill_s": 0.3,
    "decode_s": 2.0,
    "steps": 24,
    "stages": [
        {"node": "attic", "layers": [0, 3], "compute_median_s": 0.0213, "hop_median_s": 0.000446},
        {"node": "cellar", "layers": [3, 6], "compute_median_s": 0.03, "hop_median_s": None},
    ],
}


def test_every_phase_stage_and_hop_has_its_line() -> None:
    assert list(timing_lines(TIMING)) == [
        "first word 2.0 s after it was asked",
        "the owner was asked for 3.0 s",
        "try 1: deciding took 2.1 ms, loading or connecting 1.2 s",
        "try 2: deciding took 1.0 ms, loading or connecting 200.0 ms, no word in 4.0 s",
        "try 3: deciding took 1.0 ms, loading or connecting 500.0 ms, first word after 340.0 ms, answered in 2.1 s",
        "of it in the queue 3.2 ms, reading the prompt 300.0 ms",
        "stage attic [0, 3): 21.3 ms for a token, 446 µs to the next",
        "stage cellar [3, 6): 30.0 ms for a token",
    ]


def test_a_row_of_before_has_none() -> None:
    assert not list(timing_lines(None)) and not list(timing_lines({}))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*TIMING, "layers"]), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(JSON)
def test_an_altered_row_is_shown_as_far_as_it_can_be(timing: Any) -> None:
    assert all(isinstance(line, str) for line in timing_lines(timing))
