"""Writes what happens on this node into its ledger: tickets taken, work refused, connections that the guard refused."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from mycoswarm.base.egress import Barred
from mycoswarm.base.errors import SwarmError
from mycoswarm.store.ledger import Ledger
from mycoswarm.store.record import (
    EGRESS,
    REFUSED_TICKET,
    TICKET,
    TOOL_TICKET,
    refused_row,
    ticket_row,
    tool_ticket_row,
)
from mycoswarm.wire.report import Barred as Report
from mycoswarm.wire.ticket import Sealed, Ticket, ToolTicket

MAX_REFUSALS = 60  # rows a minute of each kind; who asks in a loop, or announces false addresses, must fill no disk
MINUTE_S = 60.0

log = logging.getLogger(__name__)


class _Quota:
    """Lets `MAX_REFUSALS` a minute through, and counts the others."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._since_s, self._taken, self._left_out = float("-inf"), 0, 0

    def take(self) -> int | None:
        """How many were left out before this one; None where this one is left out, too."""
        now = self._clock()
        if now - self._since_s >= MINUTE_S:
            self._since_s, self._taken = now, 0
        if self._taken >= MAX_REFUSALS:
            self._left_out += 1
            return None
        self._taken += 1
        left_out, self._left_out = self._left_out, 0
        return left_out


class Notary:
    """`clock` is monotonic, in seconds; `wall_clock` counts from 1970."""

    def __init__(
        self,
        ledger: Ledger,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._ledger, self._wall_clock = ledger, wall_clock
        self._refusals, self._barred = _Quota(clock), _Quota(clock)
        self._keeping: set[asyncio.Task[None]] = set()

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

    async def record_tool(self, sealed: Sealed, ticket: ToolTicket) -> None:
        """The same for a tool's ticket.

        Raises:
            StorageError: it could not be written, so the tool must not run.
        """
        await asyncio.to_thread(self.note, TOOL_TICKET, tool_ticket_row(sealed, ticket), ticket.run_id)

    async def barred(self, what: Barred | Report) -> None:
        """Keep that the egress guard refused something, in this process or in a stage; of a flood as with `refuse`."""
        left_out = self._barred.take()
        if left_out is None:
            return
        log.warning("the egress guard refused %s %s, %d times", what.kind, what.where, what.count)
        row = {"kind": what.kind, "where": what.where, "count": what.count}
        await self._keep(EGRESS, {**row, "left_out_before": left_out} if left_out else row)

    def barred_in_stage(self, what: Report) -> None:
        """The same for a stage, without waiting."""
        keeping = asyncio.get_running_loop().create_task(self.barred(what))
        self._keeping.add(keeping)
        keeping.add_done_callback(self._keeping.discard)

    async def finish(self) -> None:
        """Wait until all is written."""
        await asyncio.gather(*self._keeping, return_exceptions=True)

    async def refuse(self, sealed: Sealed | None, why: SwarmError) -> None:
        """Keep that work was asked for without a ticket that holds; of a flood, `MAX_REFUSALS` a minute."""
        left_out = self._refusals.take()
        if left_out is None:
            return
        log.warning("work is refused: %s", why.message)
        await self._keep(REFUSED_TICKET, {**refused_row(sealed, why.message), "left_out_before": left_out})

    async def _keep(self, kind: str, row: Mapping[str, Any]) -> None:
        try:
            await asyncio.to_thread(self.note, kind, row, None)
        except SwarmError as error:
            log.error("the ledger could not keep a row of kind %s: %s", kind, error.message)
