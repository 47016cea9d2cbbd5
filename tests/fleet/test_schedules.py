"""Schedules on real daemons: missed and run once, kept over starts, ended by a revoked key, held by labels."""

import http.client
import json
import time
from typing import Any

import pytest

from daemons import until
from fleet.test_agents import put, type_in
from mycoswarm.agents.vigil import PATIENCE_S
from mycoswarm.cli.fleet import Fleet, Member
from mycoswarm.store.database import Store

pytestmark = pytest.mark.slow

HOUR = 3600.0
SUM = "what is 12 plus 30?"


def shown(fleet: Fleet) -> dict[str, dict[str, Any]]:
    """All schedules by id."""
    return {one["id"]: one for one in fleet.coordinator.call.ask("GET", "/api/schedules")["schedules"]}


def only(fleet: Fleet) -> dict[str, Any]:
    (one,) = shown(fleet).values()
    return one


def two_hours_ago() -> str:
    """The cron text of a time of day that a daemon that was down for hours has missed."""
    missed = time.gmtime(time.time() - 2 * HOUR)
    return f"{missed.tm_min} {missed.tm_hour} * * *"


def schedule(member: Member, *words: str) -> str:
    """Make a schedule that a time has just been missed of; gives its id."""
    code, said = type_in(member, "agent", "schedule", two_hours_ago(), *words)
    assert code == 0, said
    return said.split()[0]


def be_down_for_hours(fleet: Fleet) -> None:
    """Start the coordinator as if it had been down for hours: nobody has looked since, and all was before."""
    first = fleet.coordinator
    first.process.kill()
    first.process.wait(10)
    store = Store(first.folder / "node.db")
    long_ago = time.time() - 5 * HOUR
    store.write("UPDATE schedules SET made_at = ?, since = ?, handled_at = ?", (long_ago,) * 3)
    store.write("UPDATE schedules SET ran_at = ?, state = NULL WHERE ran_at IS NOT NULL", (long_ago,))
    store.close()
    fleet.restart(first)


def ended(fleet: Fleet) -> dict[str, dict[str, Any]]:
    """All schedules, when each has run to its end: at most a minute of waiting for the nodes, and the agent's time."""

    def are_over() -> bool:
        return all(one["state"] in ("finished", "failed") for one in shown(fleet).values())

    try:
        until(are_over, PATIENCE_S + 130, "the missed runs have ended")
    except AssertionError as late:
        late.add_note(f"{shown(fleet)}\n{fleet.nodes()}\n{fleet.coordinator.last_words()}")
        raise
    return shown(fleet)


def requests_at(member: Member, run_id: str) -> dict[str, set[str]]:
    """Which requests of a run this node has tickets for, by their kind: its prompts, and its calls of tools."""
    found: dict[str, set[str]] = {}
    for kind in ("ticket", "tool_ticket"):
        rows = member.call.ask("GET", f"/api/ledger?kind={kind}&limit=1000")["rows"]
        found[kind] = {row["request_id"] for row in rows if str(row["request_id"]).startswith(run_id)}
    return found


def test_a_schedule_that_was_missed_while_the_daemon_was_down_runs_once_when_it_starts() -> None:
    with Fleet(workers=0) as fleet:
        schedule(fleet.coordinator, "helper", SUM, "--label", "private")
        assert only(fleet)["state"] is None
        be_down_for_hours(fleet)
        (one,) = ended(fleet).values()
        assert one["state"] == "finished", (one, fleet.coordinator.last_words())
        run = fleet.coordinator.call.ask("GET", f"/api/runs/{one['run']}")
        assert "42" in run["answer"], run
        assert run["labels"] == ["private"] and run["asked_by"] == f"schedule {one['id']}"
        receipts = [event["receipt"] for event in run["events"] if event["event"] == "heard"]
        for receipt in receipts:
            rows = fleet.coordinator.call.ask("GET", f"/api/ledger/{receipt}")["rows"]
            assert rows[0]["body"]["asked"]["labels"] == ["private"]
        assert receipts
        fleet.restart(fleet.coordinator)
        again = only(fleet)
        assert (again["state"], again["run"], again["labels"]) == ("finished", one["run"], ["private"])
        code, said = type_in(fleet.coordinator, "agent", "schedules")
        assert code == 0 and "finished" in said
        code, said = type_in(fleet.coordinator, "agent", "runs")
        assert code == 0 and "schedule" in said and one["id"] in said
        assert len(fleet.coordinator.call.ask("GET", "/api/runs")["runs"]) == 1


def test_a_schedule_whose_key_was_revoked_fails_three_times_and_is_trouble_until_it_is_paused_by_hand() -> None:
    with Fleet(workers=0) as fleet:
        first = fleet.coordinator
        made = {"name": "phone", "is_owner": True, "labels": ["household"]}
        key = first.call.ask("POST", "/api/keys", made)["key"]
        body = json.dumps({"cron": two_hours_ago(), "agent": "helper", "task": SUM})
        console = http.client.HTTPConnection(fleet.console(), timeout=10)
        console.request("POST", "/api/schedules", body, {"Authorization": f"Bearer {key}"})
        assert console.getresponse().status == 200
        console.close()
        assert (only(fleet)["key"], only(fleet)["labels"]) == ("phone", ["household"])
        assert type_in(first, "keys", "revoke", "phone")[0] == 0
        # Another key of the same name is not the one that made it.
        first.call.ask("POST", "/api/keys", {"name": "phone", "is_owner": True})
        for failures in (1, 2, 3):
            be_down_for_hours(fleet)
            (one,) = ended(fleet).values()
            assert (one["state"], one["code"], one["failures"]) == ("failed", "key_revoked", failures), one
            assert "phone" in one["message"] and "revoked" in one["message"]
            assert one["is_paused"] is (failures == 3)
            conditions = fleet.coordinator.call.ask("GET", "/api/node")["conditions"]
            assert [each["code"] for each in conditions] == ["schedule_paused"] * (failures == 3)
        first = fleet.coordinator
        assert not first.call.ask("GET", "/api/ledger?kind=ticket")["rows"], "no node was asked anything"
        for words in (("doctor",), ("nodes",)):
            code, said = type_in(first, *words)
            text = " ".join(said.split())
            assert code == 0 and one["id"] in text and "key_revoked" in text and f"unschedule {one['id']}" in text, said
        assert "paused" in type_in(first, "agent", "schedules")[1]
        be_down_for_hours(fleet)
        assert "schedule_paused" in str(fleet.coordinator.call.ask("GET", "/api/node")["conditions"])
        assert type_in(fleet.coordinator, "agent", "schedule-pause", one["id"])[0] == 0
        assert "Standing trouble: none" in type_in(fleet.coordinator, "doctor")[1]
        assert not fleet.coordinator.call.ask("GET", "/api/runs")["runs"]


def test_a_label_keeps_a_schedule_s_prompts_and_tools_from_a_node_and_where_none_may_read_it_fails() -> None:
    with Fleet(workers=2) as fleet:
        fleet.enrol()
        first = fleet.coordinator
        put(first, "scout", 'model = "spore"\nsystem = "You are a helper."\ntools = ["calculator"]\n')
        for words in (
            ("for nobody", "--label-any", "secret", "--deny", "no node may read this"),
            ("private", "--label-any", "private", "--node", "worker-1"),
            ("all else", "--node", "worker-2"),
        ):
            code, said = type_in(first, "rules", "add", *words, "--before", "any adopted node on this LAN")
            assert code == 0, said
        ids = [schedule(first, "scout", SUM, *labels) for labels in ((), ("--label", "private"), ("--label", "secret"))]
        be_down_for_hours(fleet)
        plain, private, secret = (ended(fleet)[each] for each in ids)
        first, one, two = fleet.members
        for told, here, away in ((plain, two, (first, one)), (private, one, (first, two))):
            assert told["state"] == "finished", (told, first.last_words())
            at = requests_at(here, told["run"])
            assert len(at["ticket"]) > 1 and at["tool_ticket"] == {told["run"]}, at
            for member in away:
                assert requests_at(member, told["run"]) == {"ticket": set(), "tool_ticket": set()}
        assert (secret["state"], secret["code"]) == ("failed", "denied_by_rule")
        assert "no node may read this" in secret["message"]
        for member in fleet.members:
            assert requests_at(member, secret["run"]) == {"ticket": set(), "tool_ticket": set()}
        run = fleet.coordinator.call.ask("GET", f"/api/runs/{secret['run']}")
        assert run["state"] == "failed" and run["labels"] == ["secret"]
        code, said = type_in(fleet.coordinator, "ledger", "verify")
        assert code == 0, said
