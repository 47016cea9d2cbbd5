"""Saying yes or no to a tool's call where it is asked: beside the answer, or in the swarm."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Locator, expect

from browsing import Opened, until
from mycoswarm.cli.fleet import Fleet
from puppet import Line, Puppet
from talking import Talk

pytestmark = pytest.mark.slow

AGENT = """\
description = "Runs commands."
model = "puppet"
tools = ["run_shell"]

[budget]
tokens = 2000
seconds = 60
"""
RULE = {
    "name": "programs-ask",
    "when": {"task": "tool:run_shell"},
    "then": {"do": "ask", "then": {"do": "run", "nodes": ["worker-2"]}, "within_s": 30.0},
}


@pytest.fixture
def runner(fleet: Fleet, puppet: Puppet) -> Iterator[Fleet]:
    """The swarm, with an agent that may run commands on worker-2 where the owner says yes."""
    call = fleet.coordinator.call
    call.ask("PUT", "/api/agents/runner", {"toml": AGENT})
    call.ask("POST", "/api/rules", {"rule": RULE, "position": 1})
    yield fleet
    call.ask("DELETE", f"/api/rules/{RULE['name']}", {})
    call.ask("DELETE", "/api/agents/runner", {})


def calls_of(fleet: Fleet, node: int) -> int:
    """How many tickets for the tool a worker has been shown."""
    told = fleet.workers[node - 1].call.ask("GET", "/api/ledger?kind=tool_ticket")
    return len({row["request_id"] for row in told["rows"]})


def asking(talk: Talk) -> Locator:
    return talk.last.get_by_role("region", name="Waits for your yes")


def test_a_yes_beside_the_answer_runs_the_command_that_was_shown_on_the_node_that_was_shown(
    open_page: Opened, runner: Fleet, puppet: Puppet
) -> None:
    command = "echo ran-$((40 + 2)) <b>"
    puppet.lines["run it"] = Line(["It ran."], call=("run_shell", {"command": "echo ran-$((40 + 2)) '<b>'"}))
    talk = Talk(open_page(), agent="runner")
    talk.say("run it")
    card = asking(talk)
    expect(card.get_by_role("heading")).to_have_text("May run_shell run on worker-2?")
    expect(card.locator("pre")).to_contain_text(command.replace("<b>", "'<b>'"))
    expect(card).to_contain_text(str(RULE["name"]))
    before = calls_of(runner, 2)
    expect(talk.last.locator("details.step .badge")).to_have_text("runs")
    card.get_by_role("button", name="Allow once").click()
    answer = talk.rest()
    expect(card).to_have_count(0)
    expect(answer).to_contain_text("It ran.")
    step = answer.locator("details.step")
    expect(step.locator("summary")).to_contain_text("on worker-2")
    expect(step.locator(".badge")).to_have_text("done")
    step.locator("summary").click()
    assert "ran-42 <b>" in step.locator("pre").last.inner_text()
    assert calls_of(runner, 2) == before + 1


def test_a_no_runs_nothing_and_the_model_is_told(open_page: Opened, runner: Fleet, puppet: Puppet) -> None:
    puppet.lines["never"] = Line(["Then not."], call=("run_shell", {"command": "echo never"}))
    talk = Talk(open_page(), agent="runner")
    before = calls_of(runner, 2)
    talk.say("never")
    asking(talk).get_by_role("button", name="Refuse").click()
    answer = talk.rest()
    expect(answer).to_contain_text("Then not.")
    expect(answer.locator("details.step .badge")).to_have_text("failed")
    assert calls_of(runner, 2) == before
    assert "said no" in str(puppet.heard[-1][-1]["content"])


def test_what_waits_is_shown_above_every_view_and_answered_in_the_swarm(
    open_page: Opened, runner: Fleet, puppet: Puppet
) -> None:
    puppet.lines["elsewhere"] = Line(["Done elsewhere."], call=("run_shell", {"command": "echo elsewhere"}))
    asked, other = Talk(open_page(), agent="runner"), open_page()
    asked.say("elsewhere")
    expect(asking(asked)).to_be_visible()
    expect(other.page.locator("header")).to_contain_text("1 wait for your yes")
    card = other.page.locator("main").get_by_role("region", name="Waits for your yes")
    expect(card.locator("pre")).to_contain_text("echo elsewhere")
    card.get_by_role("button", name="Allow once").click()
    expect(asked.rest()).to_contain_text("Done elsewhere.")
    expect(other.page.locator("header")).not_to_contain_text("wait for your yes")
    until(other, lambda: not other.page.locator("[data-approval]").count(), 5_000, "nothing waits")
