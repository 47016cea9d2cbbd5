"""Texts cut into passages: nothing is lost, each says where it stands, and hostile texts take no longer than others."""

import time

from hypothesis import given
from hypothesis import strategies as st

from mycoswarm.sandbox.passage import MAX_HEADING, MOST, clean, cut, is_clean

LETTERS = st.text(st.sampled_from("ab #\n\t\r`\x00\x1b\u2028\ud800é"), max_size=4000)
LINES = st.lists(st.one_of(st.just(""), st.text("abc ", min_size=1, max_size=2000), st.just("# h")), max_size=40)


def bare(text: str) -> str:
    return "".join(text.split())


@given(st.one_of(LETTERS, LINES.map("\n".join)), st.booleans())
def test_all_that_can_be_read_is_in_the_passages_in_order(text: str, is_markdown: bool) -> None:
    found = cut(text, is_markdown=is_markdown)
    assert bare("".join(one.text for one in found)) == bare(clean(text))
    assert all(0 < len(one.text) <= MOST and is_clean(one.text) and len(one.heading) <= MAX_HEADING for one in found)


@given(LINES.map("\n".join), st.booleans())
def test_each_passage_stands_in_the_lines_that_it_names(text: str, is_markdown: bool) -> None:
    lines = clean(text).split("\n")
    for one in cut(text, is_markdown=is_markdown):
        assert one.first_line is not None and one.last_line is not None and one.page is None
        there = "\n".join(lines[one.first_line - 1 : one.last_line])
        assert bare(one.text) in bare(there)
        assert lines[one.first_line - 1].strip() and lines[one.last_line - 1].strip()


def test_a_heading_begins_a_passage_and_says_where_in_the_document_it_stands() -> None:
    text = "intro\n\n# Trip\n\nWe go.\n\n## Day 2 ##\nRain.\n```\n# no heading\n```\n# Home\nback\n#hash"
    found = cut(text, is_markdown=True)
    assert [(one.heading, one.first_line, one.last_line) for one in found] == [
        ("", 1, 1),
        ("Trip", 3, 5),
        ("Trip > Day 2", 7, 11),
        ("Home", 12, 14),
    ]
    assert [one.heading for one in cut(text)] == [""]


def test_paragraphs_are_kept_whole_where_they_fit() -> None:
    paragraph = "\n".join(["word " * 18] * 5).strip()
    found = cut("\n\n".join([paragraph] * 9))
    assert all(one.text.count("word") % 90 == 0 for one in found) and len(found) == 5
    assert [one.first_line for one in found] == [1, 13, 25, 37, 49]


def test_text_that_is_made_to_take_long_does_not() -> None:
    began = time.monotonic()
    for text in (
        "#" * 500_000,
        "# " + "#" * 500_000 + "x",
        " " * 500_000,
        "\n" * 500_000,
        "# a\n" * 50_000,
        "`" * 500_000,
    ):
        cut(text, is_markdown=True)
    assert time.monotonic() - began < 5
