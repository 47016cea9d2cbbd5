"""Where in an answer a model begins a call: the openings of a form, looked for in the bytes of its tokens. Pure."""

from dataclasses import dataclass

from mycoswarm.wire.request import CallForm, CallWay

_BLANK = b" \t\r\n"


@dataclass(frozen=True, slots=True)
class Opened:
    """An opening that ends within a token: the way of its calls, and how many bytes of that token belong to it."""

    way: CallWay
    n_bytes: int


class Lookout:
    """Follows one answer, token by token, up to an opening, and on again after the call behind it."""

    def __init__(self, form: CallForm) -> None:
        self._ways = tuple((way, way.opening.encode()) for way in form.ways)
        self._longest = max(len(opening) for _, opening in self._ways)
        self._tail = b""  # what may be the beginning of an opening
        self._start: bytes | None = b""  # all that was said, without blanks before it; None: no opening of a start now

    def look(self, data: bytes) -> Opened | None:
        """The first opening that the answer has with these bytes; nothing is remembered of them."""
        found = []
        for way, opening in self._ways:
            if not way.is_start:
                at = (self._tail + data).find(opening)
                ends = at + len(opening) - len(self._tail)
            elif self._start is not None:
                begun = (self._start + data).lstrip(_BLANK)
                at = 0 if begun.startswith(opening) else -1
                ends = len(data) - len(begun) + len(opening)
            else:
                continue
            if at >= 0:
                found.append(Opened(way, ends))
        return min(found, key=lambda one: one.n_bytes, default=None)

    def pass_over(self, data: bytes) -> None:
        """These bytes were said, and opened nothing."""
        self._tail = (self._tail + data)[-self._longest + 1 :] if self._longest > 1 else b""
        if self._start is not None:
            begun = (self._start + data).lstrip(_BLANK)
            is_open = any(way.is_start and opening.startswith(begun) for way, opening in self._ways)
            self._start = begun if is_open else None

    def go_on(self) -> None:
        """A call has ended, and the answer goes on."""
        self._tail, self._start = b"", None
