"""Rows that others cause are bounded: a node in a loop, or false addresses in the air, fill no disk."""

import asyncio
from pathlib import Path

from mycoswarm.base.egress import Barred
from mycoswarm.base.errors import TicketError
from mycoswarm.daemon.notary import EGRESS, MAX_REFUSALS, MINUTE_S, Notary
from mycoswarm.store.record import REFUSED_TICKET
from store.books import ledger_at


def test_of_a_flood_of_refusals_some_rows_are_kept_and_the_rest_is_counted(tmp_path: Path) -> None:
    with ledger_at(tmp_path / "node.db") as (ledger, _):

        async def main() -> None:
            now = [0.0]
            notary = Notary(ledger, clock=lambda: now[0], wall_clock=lambda: 1000.0)
            for number in range(MAX_REFUSALS + 5):
                await notary.barred(Barred("connect", f"203.0.113.{number}:6927", 1, 0.0, 0.0))
            await notary.refuse(None, TicketError("no ticket"))  # of another kind, with a quota of its own
            now[0] = MINUTE_S
            await notary.barred(Barred("connect", "198.51.100.1:1", 1, 0.0, 0.0))

        asyncio.run(main())
        rows = [row.content() for row in ledger.rows(kind=EGRESS, limit=1000)]
        assert len(rows) == MAX_REFUSALS + 1 and rows[-1]["left_out_before"] == 5
        assert "left_out_before" not in rows[0] and len(ledger.rows(kind=REFUSED_TICKET)) == 1
