"""Tool calls taken out of the text that a model writes, piece by piece: text in, text and calls out.

A call comes out whole, once it is certain: its form closed, its tool one that was offered, its arguments an object in
JSON. Everything else is text, and comes out as it was written: JSON in prose, an unknown tool, broken JSON, a form that
the answer's end cuts. White space around calls is part of their form. The same text gives the same calls and the same
text, however it was cut into pieces.

Not covered: a call that a model only quotes, in the exact form and with the name of an offered tool, is a call.
"""

from collections.abc import Generator, Mapping

from mycoswarm.base.errors import ProtocolError
from mycoswarm.wire.cursor import Cursor, Reading
from mycoswarm.wire.dialect import Dialect
from mycoswarm.wire.reader import Found
from mycoswarm.wire.tag import Schema, arguments_of
from mycoswarm.wire.tool import ToolCall, call_id

MAX_CALLS = 64  # of one answer; more of them stay text

Said = str | ToolCall


class CallReader:
    """Reads one answer. `tools`: the schemas of the tools that were offered, by name. `most` calls are taken, and then
    nothing more."""

    def __init__(self, dialect: Dialect, tools: Mapping[str, Schema], request_id: str, most: int | None = None) -> None:
        self._dialect, self._tools, self._request_id, self._most = dialect, tools, request_id, most
        self._cursor = Cursor()
        self._ready: list[Said] = []
        self._blank = ""  # white space that a call may follow
        self._is_edge = True  # nothing but white space since the beginning, or since the last call
        self.count = 0
        self._running: Generator[None, None, None] = self._run()
        next(self._running)

    @property
    def is_full(self) -> bool:
        """Whether as many calls were made as may be: what the model says further is left out."""
        return self._most is not None and self.count >= self._most

    def feed(self, text: str) -> list[Said]:
        """Take more of the answer; give what is certain now."""
        if self.is_full or not text:
            return []
        self._cursor.text += text
        self._advance()
        return self._take()

    def end(self, *, is_whole: bool) -> list[Said]:
        """The answer has ended: by itself, or (not `is_whole`) cut at a limit. What was held back comes out."""
        if self.is_full:
            return []
        self._cursor.is_over, self._cursor.is_whole = True, is_whole
        self._advance()
        return self._take()

    def _advance(self) -> None:
        next(self._running, None)

    def _take(self) -> list[Said]:
        """What is ready, neighbouring texts as one."""
        ready, self._ready = self._ready, []
        joined: list[Said] = []
        for said in ready:
            if isinstance(said, str) and joined and isinstance(joined[-1], str):
                joined[-1] += said
            else:
                joined.append(said)
        return joined

    def _run(self) -> Generator[None, None, None]:
        cursor = self._cursor
        yield
        yield from cursor.blanks()
        self._say(cursor.take())
        is_call = bool((yield from cursor.sees(self._dialect.starts)))
        while True:
            if is_call or (yield from self._opening()):
                yield from self._read()
            if self.is_full or (cursor.is_over and not cursor.text):
                break
            is_call = False
        if self._blank and not self.count:
            self._ready.append(self._blank)
            self._blank = ""

    def _opening(self) -> Reading[bool]:
        """Say everything before the next opening; False where there is none."""
        cursor, openings = self._cursor, self._dialect.openings
        while True:
            found = [at for opening in openings if (at := cursor.text.find(opening)) >= 0]
            cursor.at = min(found, default=len(cursor.text) if cursor.is_over else self._certain())
            self._say(cursor.take())
            if found or cursor.is_over:
                return bool(found)
            yield

    def _certain(self) -> int:
        """How much of the text can be no opening's beginning."""
        text = self._cursor.text
        longest = min(len(text), max(map(len, self._dialect.openings), default=1) - 1)
        for length in range(longest, 0, -1):
            if any(opening.startswith(text[-length:]) for opening in self._dialect.openings):
                return len(text) - length
        return len(text)

    def _read(self) -> Reading[None]:
        """From an opening on: calls, or text after all."""
        cursor = self._cursor
        try:
            calls = self._checked((yield from self._dialect.read(cursor)))
        except ProtocolError:
            cursor.at = max(cursor.at, 1)
            self._say(cursor.take())
            return
        cursor.take()
        for name, said in calls:
            if self.is_full:
                break
            arguments = said if isinstance(said, str) else arguments_of(said, self._tools[name])
            self._ready.append(ToolCall(call_id(self._request_id, self.count), name, arguments))
            self.count += 1
            self._blank, self._is_edge = "", True

    def _checked(self, calls: Found) -> Found:
        if any(name not in self._tools for name, _ in calls):
            raise ProtocolError("no such tool was offered")
        if self.count + len(calls) > MAX_CALLS:
            raise ProtocolError("too many calls in one answer")
        return calls

    def _say(self, text: str) -> None:
        if self._is_edge and not text.strip():
            self._blank += text
        elif text := self._blank + text:
            self._blank, self._is_edge = "", False
            self._ready.append(text)
