"""Where a request's time went, and a look back by time: each figure is what the API serves."""

import time
from typing import Any

import pytest
from playwright.sync_api import Locator, expect

from browsing import Opened
from mycoswarm.base.units import format_seconds
from mycoswarm.cli.call import Call
from mycoswarm.cli.fleet import Fleet

pytestmark = pytest.mark.slow

PHASES = {
    "deciding_s": "Until it was decided",
    "opening_s": "Until loaded or connected",
    "first_s": "Until the first word",
    "answering_s": "Until the end",
}
TOTALS = {
    "first_token_s": "First word",
    "asking_s": "Asked the owner for",
    "queued_s": "In the head's queue",
    "prefill_s": "Read the prompt for",
    "decode_s": "Made tokens for",
}


def asked(call: Call, *, route: str = "any", **more: Any) -> str:
    """Have a question answered; gives its receipt."""
    body = {"model": "spore", "messages": [{"role": "user", "content": "What is mycoSwarm?"}], **more}
    told: dict[str, Any] = call.ask("POST", "/v1/chat/completions", body, {"X-Mycoswarm-Route": route})
    return str(told["mycoswarm"]["receipt"])


def timing_of(call: Call, receipt: str) -> dict[str, Any]:
    rows = call.ask("GET", f"/api/ledger/{receipt}")["rows"]
    found: dict[str, Any] = next(row["body"]["timing"] for row in rows if row["kind"] == "answer")
    return found


def cells(table: Locator) -> list[list[str]]:
    return [[each.strip() for each in row.locator("td").all_inner_texts()] for row in table.locator("tbody tr").all()]


def test_a_requests_time_is_drawn_by_phase_stage_and_hop_as_the_ledger_has_it(open_page: Opened, fleet: Fleet) -> None:
    call = fleet.coordinator.call
    receipt = asked(call, route="split; stages=2")
    timing = timing_of(call, receipt)
    page = open_page("requests").page
    page.locator(f"button[title='{receipt}']").click()
    shown = page.locator("[data-timing]")
    expect(shown.locator(".table")).to_have_count(2)  # `all` does not wait for the row to be fetched
    phases, token = shown.locator(".table").all()
    (one,) = timing["tries"]
    assert set(one) == set(PHASES)
    assert cells(phases) == [[label, format_seconds(one[name])] for name, label in PHASES.items()]
    wanted = []
    for stage in timing["stages"]:
        first, last = stage["layers"]
        wanted.append([f"{stage['node']} [{first}, {last})", format_seconds(stage["compute_median_s"])])
        wanted.append(["on the way to the next", format_seconds(stage["hop_median_s"])])
    assert cells(token) == wanted and len(wanted) == 4
    pairs = zip(shown.locator("dt").all_inner_texts(), shown.locator("dd").all_inner_texts(), strict=True)
    assert dict(pairs) == {label: format_seconds(timing[name]) for name, label in TOTALS.items() if name in timing}
    of_token = [took for stage in timing["stages"] for took in (stage["compute_median_s"], stage["hop_median_s"])]
    for drawn, figures in zip(
        shown.locator("svg.time[role=img]").all(), ([one[name] for name in PHASES], of_token), strict=True
    ):
        said = drawn.get_attribute("aria-label") or ""
        assert all(format_seconds(took) in said for took in figures)
        widths = [float(rect.get_attribute("width") or 0) for rect in drawn.locator("rect").all()]
        assert widths == pytest.approx([max(1, 720 * took / sum(figures)) for took in figures], abs=0.01)


def test_a_row_without_times_is_shown_as_before(open_page: Opened, fleet: Fleet) -> None:
    call = fleet.coordinator.call
    call.ask("POST", "/api/tools/calculator", {"arguments": {"expression": "1 + 1"}})
    page = open_page("requests").page
    receipt = call.ask("GET", "/api/ledger?limit=1")["requests"][0]["receipt"]
    page.locator(f"button[title='{receipt}']").click()
    expect(page.get_by_role("heading", name="What happened")).to_be_visible()
    expect(page.locator("[data-timing]")).to_have_count(0)


def test_a_look_back_by_time_says_how_many_it_looked_at_and_where_it_was_cut_off(
    open_page: Opened, fleet: Fleet
) -> None:
    call = fleet.coordinator.call
    for _ in range(3):
        asked(call, max_tokens=1)
    page = open_page("rules").page
    page.get_by_text("What would the last requests have done?").click()
    most, replay = page.get_by_label("Requests at most"), page.get_by_role("button", name="Replay")
    for count, words in ((10_000, "The last 7 days"), (2, "The last day"), (1, "However old")):
        page.get_by_label("Asked in").select_option(words)
        most.fill(str(count))
        replay.click()
        within = {"The last 7 days": {"within_s": 7 * 86400}, "The last day": {"within_s": 86400}}.get(words, {})
        told = call.ask("POST", "/api/rules/replay", {"last": count, **within})
        facts = page.locator("details:has-text('What would the last requests') dl.facts")
        expect(facts.locator("dd").first).to_have_text(str(told["requests"]))
        assert facts.locator("dt").all_inner_texts()[:1] == ["Requests looked at"]
        expect(facts.locator("dd").last).to_have_text(str(told["same"]))
        expect(page.get_by_text("There are older ones that were not looked at.")).to_have_count(int(told["is_cut"]))
        assert told["is_cut"] == (count < 3) and told["requests"] >= min(count, 3)
        if within:
            assert abs(told["since"] + within["within_s"] - time.time()) < 60


def test_an_address_that_names_no_request_leaves_the_list_that_follows(open_page: Opened, fleet: Fleet) -> None:
    """A link in an answer may lead anywhere within the page."""
    visit = open_page("requests/%")
    visit.expect_answers(400)
    page = visit.page
    expect(page.get_by_role("alert").last).to_be_visible()
    receipt = asked(fleet.coordinator.call, max_tokens=1)
    expect(page.locator(f"button[title='{receipt}']")).to_be_visible()
