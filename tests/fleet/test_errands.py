"""`ledger verify` over calls of tools on real daemons: clean after real work, and what was tampered with is named."""

import asyncio
import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest

from fleet.test_ledger import ledger, told
from fleet.test_tools import Impostor, rows, type_in, use
from mycoswarm.base.errors import SwarmError
from mycoswarm.cli.fleet import Fleet, Member
from mycoswarm.sandbox.clearance import seal
from mycoswarm.wire.chore import Done

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pair() -> Iterator[Fleet]:
    """A coordinator and a worker: Python on the worker, files and sums on the coordinator. Its last tests break it."""
    with Fleet(workers=1) as running:
        running.enrol()
        doctor = running.coordinator.call.ask("GET", "/api/doctor")
        if doctor["sandbox"]["level"] != "bubblewrap":
            pytest.skip(f"this machine has no sandbox: {doctor['sandbox']['why']}")
        for words in (
            ("no secrets", "--task", "tool:*", "--label-any", "private", "--deny", "not what is private"),
            ("python there", "--task", "tool:run_python", "--node", "worker-1"),
            ("files here", "--task", "tool:*_file*", "--node", "coordinator"),
            ("sums here", "--task", "tool:calculator", "--node", "coordinator"),
        ):
            before = ("--before", "any adopted node on this LAN")
            assert type_in(running.coordinator, "rules", "add", *words, *before)[0] == 0
        yield running


def ticket_rows(member: Member, receipt: str) -> list[dict[str, Any]]:
    """Of a call by hand: its ticket, and that for the end of its workspace where it had one."""
    return [row for row in reversed(rows(member, "tool_ticket")) if row["request_id"] == receipt]


def test_calls_on_both_nodes_are_as_decided_and_what_never_ran_is_no_finding(pair: Fleet) -> None:
    first, one = pair.coordinator, pair.workers[0]
    assert use(pair, "run_python", code="print(6 * 7)")["node"] == "worker-1"
    assert use(pair, "write_file", path="a.txt", text="x")["node"] == "coordinator"
    assert use(pair, "calculator", expression="2+2")["node"] == "coordinator"
    assert use(pair, "list_nodes")["ok"] and not use(pair, "read_file", path="no.txt")["ok"]
    with pytest.raises(SwarmError, match="not what is private"):
        use(pair, "run_python", ("private",), code="print(1)")
    assert type_in(first, "tool", "run", "run_shell", '{"command": "id"}', answer="n\n")[0] == 3
    code, said, _ = type_in(first, "agent", "run", "helper", "what is 12 plus 30?")
    assert code == 0 and "42" in said
    verdict = told(first, "verify")
    comparison = verdict["comparison"]
    tools = len(rows(first, "tool_ticket")) + len(rows(one, "tool_ticket"))
    prompts = len(rows(first, "ticket")) + len(rows(one, "ticket"))
    assert comparison["tickets"] == tools + prompts and tools >= 6
    assert (comparison["findings"], comparison["untraced"], comparison["unchecked"]) == ([], 0, 0)
    assert verdict["is_sound"] and "all as decided" in ledger(first, "verify").stdout


def test_a_call_that_the_owner_s_key_was_used_for_without_a_decision_is_found(pair: Fleet) -> None:
    impostor = Impostor(pair)
    sign = impostor.registrar.authority.sign
    done = asyncio.run(impostor.ask(lambda nonce: seal(impostor.ticket(nonce), sign)))
    assert isinstance(done, Done)  # who has the coordinator's key is obeyed
    (row,) = ticket_rows(pair.workers[0], "f" * 16)
    verdict = told(pair.coordinator, "verify", status=1)
    (finding,) = verdict["comparison"]["findings"]
    assert (finding["kind"], finding["node"], finding["row"]) == ("no_decision", "worker-1", row["row"])
    assert all(chain["is_sound"] for chain in verdict["chains"]), "the chains know nothing of it"


def test_rows_of_calls_that_are_gone_or_changed_are_named_and_a_node_that_is_away_is_not_checked(pair: Fleet) -> None:
    first, one = pair.coordinator, pair.workers[0]
    gone, changed = (use(pair, "run_python", code=f"print({n})")["receipt"] for n in range(2))
    removed, altered = (ticket_rows(one, receipt)[0] for receipt in (gone, changed))
    assert removed["body"]["tool"] == altered["body"]["tool"] == "run_python"
    one.process.kill()
    one.process.wait(10)
    connection = sqlite3.connect(one.folder / "node.db")
    with connection:
        connection.execute("DELETE FROM ledger WHERE seq = ?", (removed["row"],))
        change = "UPDATE ledger SET body = replace(body, '\"tool:run_python', '\"tool:run_shell') WHERE seq = ?"
        connection.execute(change, (altered["row"],))
    connection.close()

    away = told(first, "verify")
    assert "worker-1" in away["not_checked"] and away["is_sound"] and away["comparison"]["unchecked"] >= 2
    pair.restart(one)
    pair.wait_ready()
    verdict = told(first, "verify", status=1)
    found = {each["kind"]: each for each in verdict["comparison"]["findings"] if each["request_id"] in (gone, changed)}
    missing = [each for each in verdict["comparison"]["findings"] if each["kind"] == "no_ticket"]
    assert {each["request_id"] for each in missing} == {gone, changed}, "a ticket that nobody signed is none"
    assert found["unsigned"]["row"] == altered["row"] and found["unsigned"]["node"] == "worker-1"
    said = ledger(first, "verify")
    assert said.returncode == 1 and f"worker-1 has no ticket for request {gone}" in said.stdout
    assert "carried out run_python" in said.stdout
