"""The vectors of one try, checked as they come: a node is another machine, and may say anything."""

import math
import struct

from mycoswarm.base.errors import ProtocolError
from mycoswarm.wire.report import Finished, Vector


class Sheaf:
    """Expects `count` vectors of one width in the order of their texts, then the end."""

    def __init__(self, count: int) -> None:
        self._count, self._taken, self._bytes = count, 0, 0

    def take(self, vector: Vector) -> None:
        """Check the next vector.

        Raises:
            ProtocolError: it is not the next one, of another width than the others, or not all numbers.
        """
        size = len(vector.values)
        if vector.index != self._taken or self._taken >= self._count:
            raise ProtocolError(f"a node sent vector {vector.index} where {self._taken} of {self._count} comes next")
        if size % 4 or size != (self._bytes or size):
            raise ProtocolError("a node sent vectors of different widths")
        if not all(map(math.isfinite, struct.unpack(f"<{size // 4}f", vector.values))):
            raise ProtocolError("a node sent a vector that is not all numbers")
        self._taken, self._bytes = self._taken + 1, size

    def end(self, finished: Finished) -> None:
        """Check that all are there.

        Raises:
            ProtocolError: some are missing.
        """
        if self._taken != self._count:
            raise ProtocolError(f"a node ended ({finished.reason}) after {self._taken} of {self._count} vectors")
