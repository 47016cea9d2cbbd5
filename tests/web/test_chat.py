"""Talking to models and agents in the dashboard, and what stands beside each answer."""

import json
from pathlib import Path

import pytest
from playwright.sync_api import expect

from browsing import Opened, until
from mycoswarm.cli.fleet import Fleet
from puppet import Line, Puppet
from talking import ANSWER_MS, Talk, fact

pytestmark = pytest.mark.slow


def test_an_answer_says_where_it_ran_by_which_rule_how_fast_and_its_receipt(open_page: Opened, fleet: Fleet) -> None:
    talk = Talk(open_page(), model="spore")
    answer = talk.ask("What is mycoSwarm?")
    expect(answer).to_contain_text("private AI appliance")
    receipt = fact(answer, "Receipt")
    decision = fleet.coordinator.call.ask("GET", f"/api/ledger/{receipt}")["rows"][0]["body"]
    assert fact(answer, "Rule") == decision["rule"] and decision["outcome"] == "run"
    ran = " + ".join(f"{one['name']} [{one['layers'][0]}, {one['layers'][1]})" for one in decision["nodes"])
    expect(answer.locator(".about")).to_contain_text(f"ran on {ran}")
    (place,) = {one["place"] for one in decision["nodes"]}
    assert place == "this-machine"
    expect(answer.locator(".badge.this-machine")).to_have_text("this machine")
    (ring,) = [one for one in fleet.coordinator.call.ask("GET", "/api/rings")["rings"] if one["answers"]][-1:]
    expect(answer.locator(".about")).to_contain_text(f"{ring['decode_tokens_per_s']:.1f} tokens/s")
    answer.get_by_text("Who could have read this?").click()
    exposed = fleet.coordinator.call.ask("GET", f"/api/ledger/{receipt}/exposure")
    for reader in exposed["readers"]:
        expect(answer).to_contain_text(reader["name"])


def test_text_is_shown_as_it_comes_and_a_stop_reaches_who_speaks(open_page: Opened, puppet: Puppet) -> None:
    puppet.lines["count"] = line = Line(["one ", "two ", "three "], is_slow=True)
    talk = Talk(open_page(), model="puppet")
    answer = talk.say("count")
    expect(answer).to_contain_text("one")
    assert "two" not in answer.inner_text()
    line.go.release()
    expect(answer).to_contain_text("one two")
    assert "three" not in answer.inner_text()
    puppet.left.clear()
    talk.page.get_by_role("button", name="Stop").click()
    talk.rest()
    expect(answer.locator(".badge")).to_have_text(["this machine", "stopped"])
    expect(answer).to_contain_text("one two")
    for _ in range(50):  # it finds out when it writes on
        line.go.release()
    until(talk.visit, puppet.left.is_set, 10_000, "the endpoint is let go")


def test_an_answer_is_tried_again_and_a_question_edited(open_page: Opened, puppet: Puppet) -> None:
    puppet.lines |= {"a": Line(["first"]), "b": Line(["second"]), "c": Line(["third"])}
    talk = Talk(open_page(), model="puppet", system="Be brief.")
    expect(talk.ask("a")).to_contain_text("first")
    expect(talk.last.locator(".badge")).to_have_text(["this machine", "stage-door"])
    expect(talk.ask("b")).to_contain_text("second")
    puppet.lines["b"] = Line(["anew"])
    talk.page.get_by_role("button", name="Try again").click()
    expect(talk.rest()).to_contain_text("anew")
    assert talk.answers.count() == 2 and "second" not in talk.page.locator("main").inner_text()
    said = [(m["role"], m["content"]) for m in puppet.heard[-1]]
    assert said == [("system", "Be brief."), ("user", "a"), ("assistant", "first"), ("user", "b")]
    talk.page.get_by_role("button", name="Edit this message").first.click()
    expect(talk.page.get_by_label("Your message")).to_have_value("a")
    expect(talk.ask("c")).to_contain_text("third")
    assert talk.answers.count() == 1
    assert [m["content"] for m in puppet.heard[-1]] == ["Be brief.", "c"]


def test_the_helper_shows_its_call_with_input_output_and_node(open_page: Opened, fleet: Fleet) -> None:
    talk = Talk(open_page(), agent="helper")
    answer = talk.ask("what is 12 plus 30?")
    expect(answer.locator("div > p")).to_contain_text(["42"])
    step = answer.locator("details.step")
    assert step.get_attribute("data-tool") == "calculator"
    run = fleet.coordinator.call.ask("GET", "/api/runs")["runs"][0]
    events = fleet.coordinator.call.ask("GET", f"/api/runs/{run['id']}")["events"]
    (result,) = [event for event in events if event["event"] == "result"]
    expect(step.locator("summary")).to_contain_text(f"on {result['node']}")
    step.locator("summary").click()
    given, told = step.locator("pre").all_inner_texts()
    assert json.loads(given) == {"expression": "12+30"} == json.loads(result["arguments"]) and told == "42"
    heard = [event for event in events if event["event"] == "heard"]
    assert fact(answer, "Rule") == heard[-1]["rule"] and fact(answer, "Receipt") == heard[-1]["receipt"]


def test_an_answer_of_an_agent_says_where_and_how_fast_each_step_ran_and_leads_to_its_receipts(
    open_page: Opened, fleet: Fleet
) -> None:
    visit = open_page()
    talk = Talk(visit, agent="helper")
    answer = talk.ask("what is 12 plus 30?")
    call = fleet.coordinator.call
    events = call.ask("GET", f"/api/runs/{call.ask('GET', '/api/runs')['runs'][0]['id']}")["events"]
    heard = [event for event in events if event["event"] == "heard"]
    speeds = [event["tokens_per_s"] for event in events if event["event"] == "tokens"]
    assert len(heard) == len(speeds) == 2 and {event["ran"] for event in heard} == {"this-machine"}
    expect(answer.locator(".about > .row .badge")).to_have_text(["this machine"])
    expect(answer.locator("details.step summary .badge")).to_have_text(["done", "this machine"])
    expect(answer.locator(".about > .row")).to_contain_text("tokens/s")
    answer.get_by_text("Where the model was asked, step by step (2)").click()
    rows = answer.locator("tbody tr")
    for number, (step, speed) in enumerate(zip(heard, speeds, strict=True)):
        texts = rows.nth(number).locator("td").all_inner_texts()
        rest = [", ".join(step["nodes"]), step["rule"], f"{speed:.1f} tokens/s", step["receipt"]]
        assert texts == [str(number + 1), "this machine", *rest]
    rows.first.get_by_role("link").click()
    shown = visit.page.get_by_role("region", name=f"Request {heard[0]['receipt']}")
    expect(shown).to_contain_text("Who could have read it")
    expect(visit.page.locator("nav.views a[aria-current]")).to_have_text("Requests")


def test_an_agent_whose_model_is_elsewhere_has_been_where_that_is(
    open_page: Opened, fleet: Fleet, puppet: Puppet
) -> None:
    call = fleet.coordinator.call
    call.ask("PUT", "/api/agents/speaker", {"toml": 'description = "Speaks."\nmodel = "puppet"\ntools = []\n'})
    puppet.lines["speak"] = Line(["I speak."])
    answer = Talk(open_page(), agent="speaker").ask("speak")
    expect(answer).to_contain_text("I speak.")
    run = call.ask("GET", "/api/runs")["runs"][0]["id"]
    events = call.ask("GET", f"/api/runs/{run}")["events"]
    (place,) = {event["ran"] for event in events if event["event"] == "heard"}
    expect(answer.locator(".about > .row .badge")).to_have_text([{"this-machine": "this machine"}.get(place, place)])
    expect(answer.locator(".about > .row")).not_to_contain_text("tokens/s")
    answer.get_by_text("Where the model was asked").click()
    expect(answer.locator("tbody td").nth(4)).to_have_text("not measured")
    call.ask("DELETE", "/api/agents/speaker")


def test_labels_narrow_a_message_and_are_carried_on_by_the_chat(open_page: Opened, fleet: Fleet) -> None:
    talk = Talk(open_page(), model="spore", labels="work, private")
    first = fact(talk.ask("Hello!"), "Receipt")
    talk.choose(labels="")
    expect(talk.page.locator("main")).to_contain_text("This chat carries: privatework")
    second = fact(talk.ask("And again!"), "Receipt")
    for receipt in (first, second):
        asked = fleet.coordinator.call.ask("GET", f"/api/ledger/{receipt}")["rows"][0]["body"]["asked"]
        assert {"private", "work"} <= set(json.dumps(asked).split('"')), asked
    talk.page.locator("summary", has_text="Model, agent, labels").click()
    talk.page.locator("summary", has_text="Model, agent, labels").click()
    talk.page.get_by_role("button", name="New chat").click()
    expect(talk.page.locator("main")).not_to_contain_text("This chat carries")


def test_what_the_rules_refuse_is_said_with_its_cause_hint_and_code(open_page: Opened, fleet: Fleet) -> None:
    call = fleet.coordinator.call
    rule = {
        "name": "nowhere",
        "when": {"labels": {"any": ["nowhere"]}},
        "then": {"do": "deny", "message": "not at all"},
    }
    call.ask("POST", "/api/rules", {"rule": rule, "position": 1})
    visit = open_page()
    visit.expect_answers(403)
    talk = Talk(visit, model="spore", labels="nowhere")
    answer = talk.ask("Hello!")
    expect(answer.get_by_role("alert")).to_contain_text("not at all")
    expect(answer.get_by_role("alert")).to_contain_text("denied_by_rule")
    call.ask("DELETE", "/api/rules/nowhere", {})


def test_a_file_goes_along_as_text_and_one_that_is_none_is_refused(
    open_page: Opened, puppet: Puppet, tmp_path: Path
) -> None:
    puppet.lines["read"] = Line(["I have read it."])
    note, picture = tmp_path / "note <b>.md", tmp_path / "picture.png"
    note.write_text("# The attic\n```\ncode\n```\n")
    picture.write_bytes(b"\x89PNG\x00\x01")
    talk = Talk(open_page(), model="puppet")
    talk.page.get_by_label("Attach text files").set_input_files(str(note))
    expect(talk.ask("read")).to_contain_text("I have read it.", timeout=ANSWER_MS)
    assert "# The attic\n```\ncode\n```" in puppet.heard[-1][-1]["content"]
    expect(talk.page.locator("article.said .badge")).to_contain_text("note <b>.md (")
    talk.page.get_by_label("Attach text files").set_input_files(str(picture))
    talk.page.get_by_label("Your message").fill("read")
    talk.page.get_by_role("button", name="Send").click()
    expect(talk.page.get_by_role("alert")).to_contain_text("picture.png is no text file")
    assert talk.answers.count() == 1
