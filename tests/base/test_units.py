"""Sizes and durations as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mycoswarm.base.errors import InputError
from mycoswarm.base.units import format_bytes, format_seconds, parse_seconds


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("15m", 900), ("1.5h", 5400), ("250ms", 0.25), ("7d", 604800)]
)
def test_durations_are_read(text: str, seconds: float) -> None:
    assert parse_seconds(text) == seconds


@given(st.text(max_size=12))
def test_anything_else_is_a_typed_error(text: str) -> None:
    try:
        assert parse_seconds(text) >= 0
    except InputError as error:
        assert error.hint


def test_unknown_stays_unknown() -> None:
    assert format_bytes(None) == "unknown" == format_seconds(None)


def test_figures_are_written_for_people() -> None:
    assert [format_bytes(n) for n in (12, 2048, 3 << 30)] == ["12 B", "2.0 KiB", "3.0 GiB"]
    assert [format_seconds(s) for s in (0.0003, 0.0125, 3.2, 240)] == ["300 µs", "12.5 ms", "3.2 s", "4 min"]
