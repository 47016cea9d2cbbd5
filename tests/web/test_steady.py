"""What a person opens, types and is about to press stays while the house lives on around it."""

import pytest
from playwright.sync_api import expect

from browsing import VIEWS, Opened, Visit
from mycoswarm.cli.fleet import Fleet
from puppet import Line, Puppet
from talking import Talk

pytestmark = pytest.mark.slow

TYPE = """() => {
    const fields = [...document.querySelectorAll("main input, main textarea")].filter((one) =>
        one.checkVisibility() && !one.disabled && ["text", "search", "password", "textarea"].includes(one.type));
    fields.forEach((one, number) => { one.value = `typed ${number}`; });
    window.kept = { fields, open: [...document.querySelectorAll("main details[open]")] };
    (fields.at(-1) ?? document.querySelector("main summary, main button"))?.focus();
    kept.focused = document.activeElement;
    window.heard = 0;
    new EventSource("/api/events").addEventListener("state", () => { window.heard += 1; });
}"""
LOST = """() => [
    ...kept.fields.filter((one, number) => !one.isConnected || one.value !== `typed ${number}`),
    ...kept.open.filter((one) => !one.isConnected || !one.open),
    ...(document.activeElement === kept.focused ? [] : [kept.focused]),
].map((one) => one.outerHTML.slice(0, 200))"""


def ask(fleet: Fleet) -> None:
    """Let something happen: a request, which loads a ring, fills the ledger and moves figures."""
    question = {"model": "spore", "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 8}
    fleet.coordinator.call.ask("POST", "/v1/chat/completions", question, timeout_s=60)


@pytest.mark.parametrize("view", VIEWS)
def test_what_is_open_typed_and_focused_stays(open_page: Opened, lived_in: Fleet, view: str) -> None:
    visit = open_page()
    visit.expect_answers(400)  # what is typed is no route, and the node says so
    visit.go(view)
    visit.open_all()
    visit.page.evaluate(TYPE)
    ask(lived_in)
    visit.page.wait_for_function("() => heard > 2")
    visit.settle()
    assert not visit.page.evaluate(LOST)


def test_an_answer_that_streams_leaves_what_came_before_alone(open_page: Opened, puppet: Puppet) -> None:
    puppet.lines |= {"first": Line(["before"]), "stream": (line := Line(["one "] * 6, is_slow=True))}
    talk = Talk(open_page(), model="puppet")
    talk.ask("first")
    answer = talk.answers.first
    answer.get_by_text("Who could have read this?").click()
    talk.visit.settle()
    button = talk.page.get_by_role("button", name="Edit this message").first
    streaming = talk.say("stream")
    button.focus()
    held = button.element_handle()
    for _ in range(5):
        line.go.release()
        talk.page.wait_for_timeout(80)
    talk.rest()
    expect(streaming).to_contain_text("one one one one one one")
    assert held is not None and held.evaluate("(one) => one === document.activeElement")
    assert answer.locator("details").first.evaluate("(one) => one.open")
    assert_steady(talk.visit)


def assert_steady(visit: Visit) -> None:
    """A view that is left and entered again shows the talk as it was."""
    shown = visit.page.locator("article").all_inner_texts()
    visit.go("swarm")
    visit.go("chat")
    assert len(visit.page.locator("article").all_inner_texts()) == len(shown)
