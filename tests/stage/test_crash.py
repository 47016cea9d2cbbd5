"""Backoff, and when a model is marked bad. The clock is passed in."""

import pytest

from mycoswarm.base.errors import StageError
from mycoswarm.stage.crash import BAD_AFTER, CrashTable


def test_each_crash_makes_the_next_start_wait_longer() -> None:
    table = CrashTable()
    assert table.wait_s("m", "n", 0.0) == 0
    table.record("m", "n", 10.0, ())
    assert table.wait_s("m", "n", 10.0) == 1
    assert table.wait_s("m", "n", 10.5) == 0.5
    assert table.wait_s("m", "n", 100.0) == 0
    table.record("m", "n", 100.0, ())
    assert table.wait_s("m", "n", 100.0) == 4


def test_the_third_crash_in_a_row_marks_the_model_bad_with_its_last_words() -> None:
    table = CrashTable()
    for _ in range(BAD_AFTER):
        table.record("m", "n", 0.0, ("GGML_ASSERT(x) failed",))
    with pytest.raises(StageError) as caught:
        table.wait_s("m", "n", 1e9)
    assert caught.value.last_words == ("GGML_ASSERT(x) failed",)
    assert caught.value.code == "model_marked_bad"
    assert [(model, node) for model, node, _ in table.bad()] == [("m", "n")]
    assert table.wait_s("m", "other", 0.0) == 0 and table.wait_s("other", "n", 0.0) == 0


def test_an_orderly_end_in_between_forgives() -> None:
    table = CrashTable()
    for _ in range(10):
        table.record("m", "n", 0.0, ())
        table.record("m", "n", 0.0, ())
        table.forgive("m", "n")
    assert table.wait_s("m", "n", 0.0) == 0 and table.bad() == []


def test_the_table_is_bounded() -> None:
    table = CrashTable()
    for number in range(5000):
        table.record(f"m{number}", "n", 0.0, ())
    assert len(table._entries) <= 1024
