"""Server-sent events: bytes in, each event's data out (the WHATWG's HTML standard, 9.2.6). No sockets, no JSON.

Only `data` fields matter here: OpenAI's streams have no other, and an error is told by its JSON. Everything is bounded
by `event_bytes`, so that a server which never ends its line or its event costs no more memory than that.
"""

from mycoswarm.base.errors import EndpointError

_BOM = b"\xef\xbb\xbf"


class EventParser:
    """Takes a stream in pieces cut anywhere. Lines end with CR, LF or both."""

    def __init__(self, event_bytes: int) -> None:
        self._event_bytes = event_bytes
        self._line = bytearray()
        self._data: list[bytes] = []
        self._held_bytes = 0  # in _data
        self._is_after_cr = False
        self._is_first_line = True

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes; give the data of the events that they complete.

        Raises:
            EndpointError: a line or an event is longer than allowed.
        """
        if self._is_after_cr and data.startswith(b"\n"):
            data = data[1:]
            self._is_after_cr = False
        if not data:
            return []
        self._is_after_cr = data.endswith(b"\r")
        events: list[bytes] = []
        first, *others = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        self._grow(first)
        for following in others:
            self._take_line(events)
            self._grow(following)
        return events

    def end(self) -> list[bytes]:
        """The stream was ended in order; many servers leave out the last blank line, or the last line's end."""
        events: list[bytes] = []
        self._take_line(events)
        self._take_line(events)
        return events

    def _grow(self, part: bytes) -> None:
        self._line += part
        if len(self._line) + self._held_bytes > self._event_bytes:
            raise EndpointError(
                f"the endpoint sent an event of more than {self._event_bytes} bytes", code="endpoint_too_much"
            )

    def _take_line(self, events: list[bytes]) -> None:
        line, self._line = bytes(self._line), bytearray()
        if self._is_first_line:
            line, self._is_first_line = line.removeprefix(_BOM), False
        if not line:
            if self._data:
                events.append(b"\n".join(self._data))
            self._data, self._held_bytes = [], 0
            return
        name, _, value = line.partition(b":")
        if name == b"data":
            self._data.append(value.removeprefix(b" "))
            self._held_bytes += len(value) + 1  # the one: a line without a value costs memory too
