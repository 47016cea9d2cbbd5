"""Reading text that is still coming: a cursor over it, and the steps that readers of tool calls are made of.

A step is a generator that yields where it needs more text. Whether it succeeds, and how far it reads, depends on the
text alone, never on how it was cut. Where it fails, `at` stands behind what was looked at, so that nothing is looked at
twice and reading stays linear, whatever a model writes.
"""

import re
from collections.abc import Generator, Sequence
from typing import TypeVar

from mycoswarm.base.errors import ProtocolError

MAX_VALUE_CHARACTERS = 256 << 10  # of one JSON value: a file that is to be written stands in it
_Got = TypeVar("_Got")
Reading = Generator[None, None, _Got]

_BLANK = " \t\r\n"
_OUTSIDE = re.compile(r"[^\s0-9a-zA-Z.,:+\-]")  # what may need a look in JSON, outside of strings
_INSIDE = re.compile(r'["\\]')


class Cursor:
    """`text` grows at its end until `is_over`; `at` is how far it is read. `is_whole`: it ended by itself, uncut."""

    __slots__ = ("at", "is_over", "is_whole", "text")

    def __init__(self) -> None:
        self.text, self.at = "", 0
        self.is_over = self.is_whole = False

    def take(self) -> str:
        """Give what has been read, and forget it."""
        taken, self.text, self.at = self.text[: self.at], self.text[self.at :], 0
        return taken

    def char(self) -> Reading[str]:
        """The next character, without passing it; empty at the end."""
        while self.at >= len(self.text):
            if self.is_over:
                return ""
            yield
        return self.text[self.at]

    def blanks(self) -> Reading[None]:
        """Pass white space."""
        while (character := (yield from self.char())) and character in _BLANK:
            self.at += 1

    def sees(self, options: Sequence[str]) -> Reading[str]:
        """Which of these texts comes next, without passing it; empty where none does. None may begin another."""
        while True:
            if found := next((option for option in options if self.text.startswith(option, self.at)), ""):
                return found
            rest = self.text[self.at :]
            if self.is_over or not any(option.startswith(rest) for option in options):
                return ""
            yield

    def literal(self, text: str) -> Reading[None]:
        """Pass exactly this text.

        Raises:
            ProtocolError: something else stands there.
        """
        if not (yield from self.sees((text,))):
            raise _no_call()
        self.at += len(text)

    def until(self, ends: Sequence[str], most: int) -> Reading[str]:
        """Pass everything before the first of these texts, and give it.

        Raises:
            ProtocolError: none comes within `most` characters.
        """
        start, longest = self.at, max(map(len, ends))
        while True:
            found = [at for end in ends if (at := self.text.find(end, start, start + most + longest)) >= 0]
            if found and min(found) <= start + most:
                self.at = min(found)
                return self.text[start : self.at]
            if self.is_over or len(self.text) >= start + most + longest:
                self.at = min(len(self.text), start + most)
                raise _no_call()
            yield

    def value(self) -> Reading[str]:
        """Pass a JSON object or array, and give its text. Only its end is found here; whether it is JSON is not.

        Raises:
            ProtocolError: there is none, it has no end, or it is longer than `MAX_VALUE_CHARACTERS`.
        """
        start = at = self.at
        if (yield from self.char()) not in ("{", "["):
            raise _no_call()
        depth, is_inside, most = 0, False, start + MAX_VALUE_CHARACTERS
        while True:
            found = (_INSIDE if is_inside else _OUTSIDE).search(self.text, at, most)
            if found is None:
                at = max(at, min(len(self.text), most))
                if self.is_over or len(self.text) >= most:
                    self.at = min(at, most, len(self.text))
                    raise _no_call()
                yield
                continue
            at, character = found.end(), found[0]
            if character == "\\":
                at += is_inside
            elif character == '"':
                is_inside = not is_inside
            depth += 0 if is_inside else (character in "{[") - (character in "}]")
            if (not is_inside and character not in '"{}[]') or depth < 0:
                self.at = found.start()
                raise _no_call()
            if depth == 0 and not is_inside:
                self.at = at
                return self.text[start:at]


def _no_call() -> ProtocolError:
    return ProtocolError("this text is no tool call")  # caught by whoever reads; the text is then text
