"""Writes what happens on this node into its ledger: tickets taken, work refused, connections that the guard refused."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from mycoswarm.base.errors import StorageError, SwarmError
from mycoswarm.store.ledger import Ledger
from mycoswarm.store.record import REFUSED_TICKET, TICKET, refused_row, ticket_row
from mycoswarm.wire.ticket import Sealed, Ticket

MAX_REFUSALS = 60  # rows a minute; a node that asks in a loop must not fill the disk
MINUTE_S = 60.0

log = logging.getLogger(__name__)


class Notary:
    """`clock` is monotonic, in seconds; `wall_clock` counts from 1970."""

    def __init__(
        self,
        ledger: Ledger,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._ledger, self._clock, self._wall_clock = ledger, clock, wall_clock
        self._since_s, self._refusals, self._left_out = float("-inf"), 0, 0

    def note(self, kind: str, body: Mapping[str, Any], request_id: str | None) -> str:
        """Write one row and give its digest; it is on the disk then. Blocks.

        Raises:
            StorageError: it could not be written.
            InputError: JSON cannot hold it.
        """
        return self._ledger.append(kind, body, request_id=request_id, now=self._wall_clock()).digest

    async def record(self, sealed: Sealed, ticket: Ticket) -> None:
        """Keep a ticket before its work begins.

        Raises:
            StorageError: it could not be written, so the work must not begin.
        """
        await asyncio.to_thread(self.note, TICKET, ticket_row(sealed, ticket), ticket.request_id)

    async def refuse(self, sealed: Sealed | None, why: SwarmError) -> None:
        """Keep that work was asked for without a ticket that holds; of a flood, `MAX_REFUSALS` a minute."""
        log.warning("work is refused: %s", why.message)
        now = self._clock()
        if now - self._since_s >= MINUTE_S:
            self._since_s, self._refusals = now, 0
        if self._refusals >= MAX_REFUSALS:
            self._left_out += 1
            return
        self._refusals += 1
        row = {**refused_row(sealed, why.message), "left_out_before": self._left_out}
        self._left_out = 0
        try:
            await asyncio.to_thread(self.note, REFUSED_TICKET, row, None)
        except StorageError as error:
            log.error("the ledger could not keep a refusal: %s", error.message)
