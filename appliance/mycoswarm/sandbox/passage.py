"""Cuts a text into passages, each with its place. Pure, and linear in the text: that is hostile input.

Borders are headings, then the ends of paragraphs, then the ends of lines; only a line longer than a passage is cut
inside. Nothing is left out but blank lines, and what no screen may be sent.
"""

import re
from collections.abc import Iterator
from typing import Annotated

import msgspec

GOAL = 1000  # characters of a line's pieces, and about of a passage
LEAST = 700  # from here on the end of a paragraph ends a passage
MOST = 1500  # characters of a passage; some 400 tokens, which the usual embedding models read whole
MAX_HEADING = 200
MAX_LEVEL = 6
_FENCES = ("```", "~~~")
_HARMFUL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

Count = Annotated[int, msgspec.Meta(ge=1, le=1 << 31)]


class Passage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A piece of a document. `heading` is the trail of headings above it. Lines count from 1, both ends included;
    pages count from 1; either is None where the document has none."""

    text: Annotated[str, msgspec.Meta(min_length=1, max_length=MOST)]
    heading: Annotated[str, msgspec.Meta(max_length=MAX_HEADING)] = ""
    page: Count | None = None
    first_line: Count | None = None
    last_line: Count | None = None


def clean(text: str) -> str:
    """The text with ends of lines in one form, and without what moves a cursor or cannot be stored."""
    return _HARMFUL.sub(" ", text.replace("\r\n", "\n").replace("\r", "\n"))


def is_clean(text: str) -> bool:
    """Whether `clean` would leave it as it is."""
    return _HARMFUL.search(text) is None


def cut(text: str, *, is_markdown: bool = False) -> list[Passage]:
    """The passages of a text, in order."""
    basket, trail, is_code = _Basket(), _Trail(), False
    for number, line in enumerate(clean(text).split("\n"), 1):
        if is_markdown and line.lstrip().startswith(_FENCES):
            is_code = not is_code
        level = _level(line) if is_markdown and not is_code else 0
        if level:
            basket.empty()
            trail.enter(level, line.strip().strip("#").strip())
            basket.heading = trail.words()
        if not line.strip():
            basket.end_paragraph()
        for piece in _pieces(line.rstrip()):
            basket.add(number, piece)
    basket.empty()
    return basket.passages


class _Basket:
    """Gathers lines until they are a passage. `border`: how many of them are whole paragraphs."""

    def __init__(self) -> None:
        self.passages: list[Passage] = []
        self.heading = ""
        self._lines: list[tuple[int, str]] = []
        self._size = self._border = 0

    def add(self, number: int, line: str) -> None:
        if self._size + len(line) > MOST and self._border:
            self._take(self._border)
        if self._size + len(line) > MOST:
            self._take(len(self._lines))
        self._lines.append((number, line))
        self._size += len(line) + 1

    def end_paragraph(self) -> None:
        if self._size >= LEAST:
            self.empty()
        elif self._lines and len(self._lines) > self._border:
            self._lines.append((self._lines[-1][0], ""))
            self._size += 1
            self._border = len(self._lines)

    def empty(self) -> None:
        self._take(len(self._lines))

    def _take(self, count: int) -> None:
        taken, self._lines, self._border = self._lines[:count], self._lines[count:], 0
        self._size = sum(len(line) + 1 for _, line in self._lines)
        text = "\n".join(line for _, line in taken).strip("\n")
        if text.strip():
            numbers = [number for number, line in taken if line]
            self.passages.append(Passage(text=text, heading=self.heading, first_line=numbers[0], last_line=numbers[-1]))


class _Trail:
    """The headings above a place, the highest first."""

    def __init__(self) -> None:
        self._held: list[tuple[int, str]] = []

    def enter(self, level: int, words: str) -> None:
        self._held = [one for one in self._held if one[0] < level]
        self._held.append((level, words[:MAX_HEADING]))

    def words(self) -> str:
        return " > ".join(words for _, words in self._held if words)[:MAX_HEADING]


def _level(line: str) -> int:
    """Of an ATX heading (CommonMark 4.2); 0 where it is none."""
    text = line.lstrip(" ")
    marks = len(text[: MAX_LEVEL + 1]) - len(text[: MAX_LEVEL + 1].lstrip("#"))
    is_heading = len(line) - len(text) <= 3 and 1 <= marks <= MAX_LEVEL and text[marks : marks + 1] in (" ", "\t")
    return marks if is_heading else 0


def _pieces(line: str) -> Iterator[str]:
    """A line, cut at spaces where it is too long for a passage."""
    begin = 0
    while len(line) - begin > MOST:
        space = line.rfind(" ", begin + GOAL // 2, begin + GOAL)
        end = space if space > 0 else begin + GOAL
        yield line[begin:end]
        begin = end
    if begin < len(line):
        yield line[begin:]
