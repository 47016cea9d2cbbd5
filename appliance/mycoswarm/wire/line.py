"""JSON lines: how orders and reports travel, over pipes and over ring streams. Bytes in, values out."""

import msgspec

from mycoswarm.base.errors import ProtocolError
from mycoswarm.wire.order import AnyOrder
from mycoswarm.wire.report import AnyReport

MAX_LINE_BYTES = 16 << 20  # a prompt of 4 million characters fits; anything longer is a mistake or an attack

_encoder = msgspec.json.Encoder()
_orders = msgspec.json.Decoder(AnyOrder)
_reports = msgspec.json.Decoder(AnyReport)


def encode_line(message: AnyOrder | AnyReport) -> bytes:
    """Write one message as one line, newline included.

    Raises:
        ProtocolError: longer than `MAX_LINE_BYTES`.
    """
    line = _encoder.encode(message) + b"\n"
    if len(line) > MAX_LINE_BYTES:
        raise ProtocolError(f"a message of {len(line)} bytes is too long", side="local", hint="Shorten the prompt.")
    return line


def decode_order(line: bytes) -> AnyOrder:
    """Read one order.

    Raises:
        ProtocolError: not an order of ours.
    """
    try:
        order: AnyOrder = _orders.decode(line)
        return order
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise ProtocolError(f"an order cannot be read: {exc}") from exc


def decode_report(line: bytes) -> AnyReport:
    """Read one report.

    Raises:
        ProtocolError: not a report of ours.
    """
    try:
        report: AnyReport = _reports.decode(line)
        return report
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise ProtocolError(f"a report cannot be read: {exc}") from exc


class LineSplitter:
    """Cuts a byte stream into lines, whatever the chunks are."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes, give back the lines that are complete, without their newlines.

        Raises:
            ProtocolError: a line longer than `MAX_LINE_BYTES`.
        """
        start = len(self._rest)
        self._rest += data
        if b"\n" not in data:
            if len(self._rest) > MAX_LINE_BYTES:
                raise ProtocolError(f"a line of more than {MAX_LINE_BYTES} bytes")
            return []
        end = self._rest.rindex(b"\n", start) + 1
        whole = bytes(memoryview(self._rest)[:end])
        del self._rest[:end]
        lines = whole.split(b"\n")[:-1]
        if any(len(line) > MAX_LINE_BYTES for line in lines):
            raise ProtocolError(f"a line of more than {MAX_LINE_BYTES} bytes")
        return lines
