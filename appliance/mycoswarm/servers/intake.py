"""What a stdio MCP server says, byte by byte, into lines worth reading. Bounded before anything parses them; pure.

Notifications are dropped: all that one of them can say to us is that the tools have changed. What is no JSON is passed
over, for many programs greet on stdout; who goes on and on is not.
"""

from collections.abc import Iterator

import msgspec

from mycoswarm.base.errors import EndpointError

MAX_LINE_BYTES = 2 << 20
MAX_BYTES = 8 << 20  # between two questions of ours
MAX_LINES = 500  # between two questions of ours, each of which has one answer
CHANGED = "notifications/tools/list_changed"


class _Glance(msgspec.Struct):
    """What kind of message a line is."""

    id: int | str | msgspec.UnsetType | None = msgspec.UNSET
    method: str | msgspec.UnsetType = msgspec.UNSET


_decoder = msgspec.json.Decoder(_Glance)


class Intake:
    """`has_changed`: the server said that its tools are others now."""

    def __init__(self, server: str) -> None:
        self._server = server
        self._rest = bytearray()
        self._lines = self._bytes = 0
        self.has_changed = False

    def asked(self) -> None:
        """A question of ours goes out: from now on is counted anew."""
        self._lines = self._bytes = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take bytes, give the lines that are answers, or requests of the server's.

        Raises:
            EndpointError: it says too much.
        """
        self._bytes += len(data)
        if self._bytes > MAX_BYTES:
            raise self._flood(f"more than {MAX_BYTES >> 20} MiB")
        self._rest += data
        if b"\n" not in data:
            self._check(len(self._rest))
            return
        *lines, rest = bytes(self._rest).split(b"\n")
        self._rest = bytearray(rest)
        self._check(len(rest))
        for line in lines:
            if line.strip() and self._is_worth(line):
                yield line

    def _is_worth(self, line: bytes) -> bool:
        self._check(len(line))
        try:
            seen = _decoder.decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            seen = _Glance()
        self._lines += 1
        if self._lines > MAX_LINES:
            raise self._flood(f"more than {MAX_LINES} lines")
        self.has_changed = self.has_changed or seen.method == CHANGED
        return isinstance(seen.id, int | str)

    def _check(self, length: int) -> None:
        if length > MAX_LINE_BYTES:
            raise self._flood(f"a line of more than {MAX_LINE_BYTES >> 20} MiB")

    def _flood(self, what: str) -> EndpointError:
        return EndpointError(f"the MCP server {self._server} sent {what}", code="mcp_flood")
