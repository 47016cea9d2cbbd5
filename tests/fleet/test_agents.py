"""Agents over real daemons: spore and its calculator, a team on two nodes, labels, approvals, stops and restarts."""

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner

from daemons import until
from mycoswarm.cli.entry import main
from mycoswarm.cli.fleet import Fleet, Member
from planner import Planner

pytestmark = pytest.mark.slow

SCOUT = """\
description = "Does sums."
model = "spore"
system = "You are a helper."
tools = ["calculator"]

[budget]
tokens = 200
"""
LEAD = """\
model = "planner"
tools = ["spawn", "calculator"]

[budget]
tokens = 2000
"""


@pytest.fixture(scope="module")
def swarm() -> Iterator[Fleet]:
    """A coordinator and two workers."""
    with Fleet(workers=2) as running:
        running.enrol()
        yield running


def type_in(member: Member, *words: str, text: str | None = None) -> tuple[int, str]:
    done = CliRunner().invoke(main, ["--data", str(member.folder), *words], input=text)
    return done.exit_code, done.output


def run(member: Member, name: str, task: str) -> list[dict[str, Any]]:
    lines = member.call.stream("POST", f"/api/agents/{name}/run", {"task": task}, timeout_s=60)
    return [json.loads(line) for line in lines]


def put(member: Member, name: str, text: str) -> None:
    member.call.ask("PUT", f"/api/agents/{name}", {"toml": text})


def rule(member: Member, *words: str) -> None:
    code, said = type_in(member, "rules", "add", *words, "--position", "1")
    assert code == 0, said


def of(events: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [event for event in events if event["event"] == kind]


def test_the_helper_calls_its_calculator_and_its_answer_uses_the_result(swarm: Fleet) -> None:
    first = swarm.coordinator
    code, said = type_in(first, "agent", "run", "helper", "what is 12 plus 30?")
    assert code == 0 and "42" in said
    run_id = first.call.ask("GET", "/api/runs")["runs"][0]["id"]
    kept = first.call.ask("GET", f"/api/runs/{run_id}")
    assert kept["state"] == "finished" and "42" in kept["answer"]
    (result,) = of(kept["events"], "result")
    assert (result["tool"], json.loads(result["arguments"]), result["text"]) == (
        "calculator",
        {"expression": "12+30"},
        "42",
    )
    assert result["node"] in {member.name for member in swarm.members}
    for heard in of(kept["events"], "heard"):
        rows = first.call.ask("GET", f"/api/ledger/{heard['receipt']}")["rows"]
        assert rows[0]["body"]["asked"]["task"] == "agent"
    code, said = type_in(first, "agent", "run-show", run_id)
    assert code == 0 and "42" in said


def test_two_sub_agents_work_on_two_nodes_and_their_parent_uses_both(swarm: Fleet) -> None:
    first = swarm.coordinator
    with Planner("scout") as planner:
        endpoint = {"name": "planner", "url": planner.url, "place": "LAN", "check": True, "secret": None}
        first.call.ask("POST", "/api/endpoints", endpoint)
        rule(first, "the planner", "--model", "planner", "--external", "planner")
        put(first, "scout", SCOUT)
        put(first, "lead", LEAD)
        events = run(first, "lead", "what is 12 plus 30?; what is 20 plus 5?")
    end = events[-1]
    assert end["end"] == "answer" and "42" in end["answer"] and "25" in end["answer"], end
    nested = of(events, "sub_agent")
    where = {name: set() for name in ("1", "2")}  # type: dict[str, set[str]]
    for event in nested:
        if event["told"]["event"] == "heard":
            where[event["agent"]] |= set(event["told"]["nodes"])
    assert all(len(names) == 1 for names in where.values()) and where["1"] != where["2"], where
    ends = [event["told"]["end"] for event in nested if event["told"]["event"] == "end"]
    assert ends == ["answer", "answer"]


def test_labels_of_an_agent_keep_its_sub_agents_and_tools_on_the_nodes_of_their_rule(swarm: Fleet) -> None:
    first = swarm.coordinator
    with Planner("scout") as planner:
        endpoint = {"name": "planner", "url": planner.url, "place": "LAN", "check": True, "secret": None}
        first.call.ask("DELETE", "/api/endpoints/planner")
        first.call.ask("POST", "/api/endpoints", endpoint)
        put(first, "lead", LEAD)
        put(first, "scout", 'labels = ["private"]\n' + SCOUT)
        rule(first, "private", "--label-any", "private", "--node", "worker-1")
        events = run(first, "lead", "what is 12 plus 30?; what is 20 plus 5?")
    nodes = {n for e in of(events, "sub_agent") if e["told"]["event"] == "heard" for n in e["told"]["nodes"]}
    tools = {e["told"]["node"] for e in of(events, "sub_agent") if e["told"]["event"] == "result"}
    assert nodes == {"worker-1"} and tools <= {"worker-1"}, (nodes, tools)
    # The lead has heard what is private: its next request is, too, and the planner is not for that.
    assert len(planner.heard) == 1
    assert events[-1]["end"] == "error"
    assert type_in(first, "rules", "remove", "private")[0] == 0


def test_a_rule_that_asks_lets_a_run_wait_for_the_owner(swarm: Fleet) -> None:
    first = swarm.coordinator
    put(first, "scout", SCOUT)
    rule(first, "ask me", "--task", "agent", "--ask", "--within", "30")
    code, said = type_in(first, "agent", "run", "scout", "Hello!", text="n\n")
    assert code != 0 and "asks you" in said
    code, said = type_in(first, "agent", "run", "--yes", "scout", "Hello!")
    assert code == 0, said
    assert type_in(first, "rules", "remove", "ask me")[0] == 0


def test_a_run_is_stopped_from_elsewhere_and_one_that_a_restart_ends_is_interrupted(swarm: Fleet) -> None:
    first = swarm.coordinator
    rule(first, "ask me", "--task", "agent", "--ask", "--within", "300")
    heard: list[dict[str, Any]] = []

    def begin() -> None:
        try:
            heard.extend(run(swarm.coordinator, "scout", "Hello!"))
        except Exception as error:
            heard.append({"event": "broken", "why": str(error)})

    def going() -> list[dict[str, Any]]:
        return [r for r in swarm.coordinator.call.ask("GET", "/api/runs")["runs"] if r["state"] == "running"]

    listening = threading.Thread(target=begin)
    listening.start()
    until(lambda: bool(going()), 20, "the run has begun")
    (one,) = going()
    assert type_in(first, "agent", "stop", one["id"])[0] == 0
    listening.join(20)
    assert heard[-1]["end"] == "cancelled" and not going()
    again = threading.Thread(target=begin)
    again.start()
    until(lambda: bool(going()), 20, "the second run has begun")
    (two,) = going()
    swarm.restart(first)
    again.join(20)
    states = {r["id"]: r["state"] for r in swarm.coordinator.call.ask("GET", "/api/runs")["runs"]}
    assert states[one["id"]] == "stopped" and states[two["id"]] in ("interrupted", "stopped")
    assert type_in(swarm.coordinator, "rules", "remove", "ask me")[0] == 0
