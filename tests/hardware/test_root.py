from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from mycoswarm.hardware.root import (
    WORD_LIMIT,
    clean,
    has,
    list_names,
    parse_number,
    parse_table,
    read_number,
    read_text,
)


def test_a_file_that_is_a_folder_or_absent_reads_as_none(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    assert read_text(tmp_path, "proc") is None
    assert read_text(tmp_path, "proc/cpuinfo") is None
    assert read_text(tmp_path, "pro\0c") is None
    assert list_names(tmp_path, "proc/cpuinfo") == ()
    assert not has(tmp_path, "pro\0c")


def test_a_huge_file_is_read_only_in_part(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_bytes(b"x" * (5 << 20))
    assert len(read_text(tmp_path, "cpuinfo") or "") == 4 << 20


def test_numbers_are_read_decimal_and_hexadecimal(tmp_path: Path) -> None:
    (tmp_path / "vendor").write_text("0x10de\n")
    assert read_number(tmp_path, "vendor") == 0x10DE
    assert [parse_number(text) for text in ("12\n", "-1", "max", "", None, "1_000", "٣")] == [12, -1, *[None] * 5]
    assert parse_number("99999999999999999999") is None


def test_the_first_of_equal_keys_wins() -> None:
    assert parse_table("a: 1\na: 2\n: 3\nno\n") == {"a": "1"}


@settings(deadline=None)
@given(st.text())
def test_a_clean_word_is_one_short_printable_line_or_none(text: str) -> None:
    word = clean(text)
    assert word is None or (word.isprintable() and 0 < len(word) <= WORD_LIMIT and word == clean(word))


@settings(deadline=None)
@given(st.text())
def test_any_text_is_a_number_within_64_bits_or_none(text: str) -> None:
    number = parse_number(text)
    assert number is None or abs(number) < 1 << 64
