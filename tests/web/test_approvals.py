"""Saying yes or no to a tool's call where it is asked: beside the answer, or in the swarm."""

import json
import re
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from playwright.sync_api import Locator, expect

from browsing import Keys, Opened, until
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
    expect(step.locator(".badge")).to_have_text(["done", "this machine"])
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


def test_a_run_begun_elsewhere_is_followed_step_by_step_to_its_end(
    open_page: Opened, runner: Fleet, puppet: Puppet
) -> None:
    puppet.lines["far"] = Line(["Done far away."], call=("run_shell", {"command": "echo far"}))
    visit, asked = open_page("agents"), Talk(open_page(), agent="runner")
    asked.say("far")
    row = visit.page.locator("tr", has_text="far").filter(has_text="running")
    row.get_by_role("button", name="Steps").click()
    shown = visit.page.get_by_role("region", name=re.compile("^Run [0-9a-f]"))
    expect(shown).to_contain_text("running")
    expect(shown.locator("details[data-tool]")).to_have_count(0)
    asking(asked).get_by_role("button", name="Allow once").click()
    expect(shown.locator("details[data-tool=run_shell]")).to_have_count(1)
    shown.locator("summary").click()
    expect(shown).to_contain_text("Done far away.")
    expect(shown).to_contain_text("finished")
    expect(shown.locator("details pre").last).to_be_visible()
    asked.rest()


def test_beside_an_answer_stands_its_own_request_and_no_other_of_the_same_key(
    open_page: Opened, fleet: Fleet, puppet: Puppet, keys: Keys
) -> None:
    call = fleet.coordinator.call
    rule = {"name": "chats-ask", "when": {"task": "chat"}, "then": {"do": "ask", "then": {"do": "run"}, "within_s": 30}}
    call.ask("POST", "/api/rules", {"rule": rule, "position": 1})
    body = json.dumps({"model": "spore", "messages": [{"role": "user", "content": "Another's."}]}).encode()
    about = {"authorization": f"Bearer {keys.owner}", "content-type": "application/json"}
    request = urllib.request.Request(f"http://{fleet.console()}/v1/chat/completions", body, about)
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(lambda: urllib.request.urlopen(request, timeout=60).read())
        talk = Talk(open_page(), model="spore")
        expect(talk.page.locator("header")).to_contain_text("1 wait for your yes")
        talk.say("What is mycoSwarm?")
        expect(talk.page.locator("header")).to_contain_text("2 wait for your yes")
        expect(asking(talk)).to_have_count(1)
        asking(talk).get_by_role("button", name="Allow once").click()
        assert "private AI appliance" in talk.rest().inner_text()
        (waits,) = call.ask("GET", "/api/approvals")["approvals"]
        assert waits["characters"] == len("Another's.")
        call.ask("POST", f"/api/approvals/{waits['id']}", {"allow": True})
        other.result(60)
    call.ask("DELETE", "/api/rules/chats-ask", {})


def test_who_follows_the_call_for_a_yes_to_another_view_finds_the_answer_when_back(
    open_page: Opened, runner: Fleet, puppet: Puppet
) -> None:
    puppet.lines["wait"] = Line(["It waited."], call=("run_shell", {"command": "echo waited"}))
    talk = Talk(open_page(), agent="runner")
    talk.say("wait")
    expect(asking(talk)).to_be_visible()
    talk.page.get_by_role("link", name="1 wait for your yes").click()
    expect(talk.page.locator("h1")).to_have_text("Requests")
    talk.page.get_by_role("button", name="Allow once").click()
    expect(talk.page.locator("[data-approval]")).to_have_count(0)
    talk.visit.go("chat")
    expect(talk.rest()).to_contain_text("It waited.")
    expect(talk.last.locator("details.step .badge")).to_have_text(["done", "this machine"])
