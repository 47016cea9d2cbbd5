"""What stays when a person goes back, moves on or leaves: labels and files, the view, the focus; another's words do
not."""

from pathlib import Path

import pytest
from playwright.sync_api import expect

from browsing import Keys, Opened
from mycoswarm.cli.fleet import Fleet
from puppet import Line, Puppet
from talking import Talk

pytestmark = pytest.mark.slow


def test_an_edited_message_keeps_its_files_and_its_labels(open_page: Opened, puppet: Puppet, tmp_path: Path) -> None:
    puppet.lines |= {"read": Line(["first"]), "read on": Line(["second"])}
    note = tmp_path / "note.md"
    note.write_text("the attic is damp")
    talk = Talk(open_page(), model="puppet", labels="work")
    talk.page.get_by_label("Attach text files").set_input_files(str(note))
    talk.ask("read")
    talk.choose(labels="")
    talk.page.get_by_role("button", name="Edit this message").click()
    expect(talk.page.locator("[name=labels]")).to_have_value("work")
    expect(talk.page.locator("main")).to_contain_text("note.md")
    puppet.lines["read on"] = Line(["second"])
    talk.ask("read on")
    expect(talk.page.locator("article.said .badge")).to_contain_text("note.md (")
    assert "the attic is damp" in puppet.heard[-1][-1]["content"]
    talk.page.get_by_role("button", name="Edit this message").click()
    talk.page.get_by_role("button", name="Leave note.md out").click()
    talk.ask("read")
    assert puppet.heard[-1][-1]["content"] == "read"


def test_a_message_sent_twice_at_once_goes_once(open_page: Opened, puppet: Puppet, tmp_path: Path) -> None:
    puppet.lines["once"] = Line(["only once"])
    note = tmp_path / "note.md"
    note.write_text("text " * 30_000)
    talk = Talk(open_page(), model="puppet")
    talk.page.get_by_label("Attach text files").set_input_files(str(note))
    talk.page.get_by_label("Your message").fill("once")
    thrice = "for (let i = 0; i < 3; i += 1) document.querySelector('[name=text]').form.requestSubmit()"
    talk.page.evaluate(f"() => {{ {thrice} }}")
    expect(talk.last).to_contain_text("only once")
    talk.rest()
    expect(talk.answers).to_have_count(1)


def test_who_signs_in_after_another_sees_nothing_of_that_ones_chat(open_page: Opened, keys: Keys) -> None:
    visit = open_page(as_owner=None)
    page = visit.page
    for key in (keys.owner, keys.guest):
        page.locator("input[name=given]").fill(key)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_selector("nav.views")
        talk = Talk(visit, model="spore")
        expect(talk.answers).to_have_count(0)
        talk.ask("Hello!")
        page.get_by_role("button", name="Sign out").click()
        page.wait_for_selector("input[name=given]")
    visit.settle()


def test_the_way_to_the_content_leads_to_no_other_view(open_page: Opened) -> None:
    page = open_page("settings").page
    page.locator("body").press("Tab")
    page.locator(".skip").press("Enter")
    expect(page.locator("h1")).to_have_text("Settings")
    assert page.evaluate("document.activeElement.id") == "main"


def test_a_rule_moved_by_keyboard_keeps_the_focus_on_the_button_pressed(open_page: Opened, fleet: Fleet) -> None:
    call = fleet.coordinator.call
    for name in ("third", "second", "first"):
        rule = {"name": name, "when": {"model": name}, "then": {"do": "run"}}
        call.ask("POST", "/api/rules", {"rule": rule, "position": 1})
    page = open_page("rules").page
    down = page.get_by_role("button", name="Move first down")
    down.focus()
    down.press("Enter")
    expect(page.locator("ol.rules > li").nth(1)).to_have_attribute("data-rule", "first")
    expect(down).to_be_focused()
    down.press("Enter")
    expect(page.locator("ol.rules > li").nth(2)).to_have_attribute("data-rule", "first")
    for name in ("first", "second", "third"):
        call.ask("DELETE", f"/api/rules/{name}", {})


def test_older_requests_are_older_and_the_newest_come_back(open_page: Opened, fleet: Fleet) -> None:
    question = {"model": "spore", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}
    for _ in range(52):
        fleet.coordinator.call.ask("POST", "/v1/chat/completions", question)
    receipts = [one["receipt"] for one in fleet.coordinator.call.ask("GET", "/api/ledger?limit=60")["requests"]]
    page = open_page("requests").page
    first = page.locator("tbody tr").first.locator("button")
    expect(first).to_have_attribute("title", receipts[0])
    page.get_by_role("button", name="Older").click()
    expect(first).to_have_attribute("title", receipts[50])
    page.get_by_role("button", name="Newest").click()
    expect(first).to_have_attribute("title", receipts[0])
