"""A schedule on a real daemon: missed while it was down, run once when it starts, kept over the next start."""

import time
from typing import Any

import pytest

from daemons import until
from fleet.test_agents import type_in
from mycoswarm.cli.fleet import Fleet
from mycoswarm.store.database import Store

pytestmark = pytest.mark.slow

HOUR = 3600.0


def only(fleet: Fleet) -> dict[str, Any]:
    (one,) = fleet.coordinator.call.ask("GET", "/api/schedules")["schedules"]
    return dict(one)


def test_a_schedule_that_was_missed_while_the_daemon_was_down_runs_once_when_it_starts() -> None:
    with Fleet(workers=0) as fleet:
        first = fleet.coordinator
        missed = time.gmtime(time.time() - 2 * HOUR)
        cron = f"{missed.tm_min} {missed.tm_hour} * * *"
        words = ("agent", "schedule", cron, "helper", "what is 12 plus 30?", "--label", "private")
        code, said = type_in(first, *words)
        assert code == 0, said
        assert only(fleet)["state"] is None
        # As if the daemon had been down for hours: nobody has looked since, and it was made before.
        first.process.kill()
        first.process.wait(10)
        store = Store(first.folder / "node.db")
        long_ago = time.time() - 5 * HOUR
        store.write("UPDATE schedules SET made_at = ?, since = ?, handled_at = ?", (long_ago,) * 3)
        store.close()
        fleet.restart(first)
        until(lambda: only(fleet)["state"] in ("finished", "failed"), 90, "the missed run has ended")
        shown = only(fleet)
        assert shown["state"] == "finished", (shown["code"], shown["message"])
        run = fleet.coordinator.call.ask("GET", f"/api/runs/{shown['run']}")
        assert "42" in run["answer"] and run["labels"] == ["private"] and run["asked_by"] == f"schedule {shown['id']}"
        receipts = [event["receipt"] for event in run["events"] if event["event"] == "heard"]
        for receipt in receipts:
            rows = fleet.coordinator.call.ask("GET", f"/api/ledger/{receipt}")["rows"]
            assert rows[0]["body"]["asked"]["labels"] == ["private"]
        assert receipts
        fleet.restart(fleet.coordinator)
        again = only(fleet)
        assert (again["state"], again["run"], again["labels"]) == ("finished", shown["run"], ["private"])
        code, said = type_in(fleet.coordinator, "agent", "schedules")
        assert code == 0 and "finished" in said
        code, said = type_in(fleet.coordinator, "agent", "runs")
        assert code == 0 and "schedule" in said and shown["id"] in said
        assert len(fleet.coordinator.call.ask("GET", "/api/runs")["runs"]) == 1
