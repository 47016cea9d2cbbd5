"""Nodes and the coordinator die while the dashboard is open: it says so at once, and goes on when they are back."""

import signal
import time

import pytest
from playwright.sync_api import expect

from browsing import Opened
from mycoswarm.cli.fleet import Fleet
from talking import Talk

pytestmark = pytest.mark.slow

SHOWN_S = 3.0


def test_a_killed_worker_is_shown_lost_within_three_seconds_and_back_when_it_is(
    open_page: Opened, fleet: Fleet
) -> None:
    visit = open_page()
    victim = fleet.workers[1]
    card = visit.page.locator(f"section[data-node={victim.name}]")
    expect(card.locator(".badge.good").first).to_have_text("ready")
    began = time.monotonic()
    victim.process.kill()
    expect(card.locator(".badge.bad")).to_have_text("lost", timeout=10_000)
    took = time.monotonic() - began
    assert took < SHOWN_S, f"it took {took:.1f} s"
    expect(visit.page.locator(f"svg.net g.lost[data-node={victim.name}]")).to_be_visible()
    (told,) = [node for node in fleet.nodes() if node["name"] == victim.name]
    expect(card.locator("p.bad")).to_have_text(told["trouble"])
    fleet.restart(victim)
    expect(card.locator(".badge.good").first).to_have_text("ready")
    expect(visit.page.locator("svg.net g.lost")).to_have_count(0)
    fleet.wait_ready()


def test_the_page_outlives_its_coordinator_says_so_and_goes_on_by_itself(open_page: Opened, fleet: Fleet) -> None:
    visit, chat = open_page(), Talk(open_page(), model="spore")
    for one in (visit, chat.visit):
        one.expect(r"request failed: net::ERR_", r"console: Failed to load resource: net::ERR_")
    said = chat.ask("What is mycoSwarm?").locator("p").first.inner_text()
    address, first = fleet.console(), fleet.coordinator
    visit.page.evaluate("window.sameePage = true")
    away = visit.page.get_by_role("alert").filter(has_text="does not answer")
    expect(away).to_be_hidden()
    first.process.kill()
    expect(away).to_be_visible()
    fleet.restart(first, "--console", address)
    expect(away).to_be_hidden(timeout=20_000)
    expect(visit.page.locator("section[data-node] .badge.good", has_text="ready")).to_have_count(3, timeout=20_000)
    fleet.wait_ready()
    assert visit.page.evaluate("window.sameePage"), "it was never loaded anew"
    (worker,) = [node["node_id"] for node in fleet.nodes() if node["name"] == "worker-1"]
    for change in ({"add": ["fresh"], "remove": []}, {"add": [], "remove": ["fresh"]}):
        fleet.coordinator.call.ask("POST", "/api/tags", {"node": worker, **change})
        badge = visit.page.locator("section[data-node=worker-1] .badge", has_text="#fresh")
        expect(badge).to_have_count(len(change["add"]))
    expect(chat.answers.first).to_contain_text(said)
    expect(chat.ask("Hello!")).to_contain_text("ran on")


def test_a_coordinator_that_falls_silent_without_a_word_is_told_of_too(open_page: Opened, fleet: Fleet) -> None:
    """As where a cable is pulled: no connection ends, and none answers."""
    visit = open_page()
    visit.page.clock.install()
    away = visit.page.get_by_role("alert").filter(has_text="does not answer")
    with visit.page.expect_response("**/api/events"):  # its own clock runs from there
        visit.page.evaluate("location.reload()")
    expect(visit.page.locator("section[data-node]")).to_have_count(3)
    process = fleet.coordinator.process
    process.send_signal(signal.SIGSTOP)
    try:
        visit.page.clock.fast_forward(26_000)
        expect(away).to_be_visible()
    finally:
        process.send_signal(signal.SIGCONT)
    expect(away).to_be_hidden(timeout=20_000)
