"""Sizes and durations as people write them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mycoswarm.base.errors import InputError
from mycoswarm.base.units import format_bytes, format_seconds, parse_seconds

CASES = Path(__file__).with_name("units.json")  # the dashboard's own functions pass the same: tests/web/format.test.mjs


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


def test_what_is_longer_than_any_number_is_a_typed_error() -> None:
    with pytest.raises(InputError):
        parse_seconds("9" * 400 + "d")


@pytest.mark.parametrize(("write", "unit"), [(format_bytes, "bytes"), (format_seconds, "seconds")])
def test_figures_are_written_for_people(write: Callable[[Any], str], unit: str) -> None:
    for value, text in json.loads(CASES.read_text(encoding="utf-8"))[unit]:
        assert write(value) == text, value
