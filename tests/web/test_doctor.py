"""The doctor's report in Settings, and trouble that stands: each figure is the API's, each fault has its cure."""

import json
from typing import Any

import pytest
from playwright.sync_api import Route, expect

from browsing import PHONE, Opened, Visit
from mycoswarm.cli.fleet import Fleet

pytestmark = pytest.mark.slow

WRONG = {"code": "disk_nearly_full", "message": "only 300.0 MiB are free", "hint": "Free some space."}
STANDING = {"code": "mdns_unavailable", "message": "nodes cannot find each other", "hint": "Name them in `peers`."}
MOVING = ("Memory", "Disk", "Temperature", "Largest model")  # between two looks


def facts_of(visit: Visit) -> dict[str, str]:
    """What stands in the report, by name."""
    card = visit.page.locator("h2", has_text="Doctor").locator("xpath=following-sibling::div[1]")
    names, values = card.locator("dt").all_inner_texts(), card.locator("dd").all_inner_texts()
    return dict(zip(names, values, strict=True))


def test_settings_show_the_report_that_the_api_serves(open_page: Opened, fleet: Fleet) -> None:
    visit = open_page("settings")
    told = fleet.coordinator.call.ask("GET", "/api/doctor")
    shown = facts_of(visit)
    assert shown["Sandbox of tools"].startswith(told["sandbox"]["level"])
    assert shown["Workspaces kept"] == str(told["sandbox"]["workspaces"])
    assert shown["Egress guard"] == "on" and told["egress"]["active"]
    assert shown["Listens for nodes"] == f"at port {told['listens']['peer_port']}"
    assert shown["Data folder"] == told["folder"] == str(fleet.coordinator.folder)
    machine = dict(told["machine"])
    assert {"CPU", "Memory", "Disk"} <= machine.keys()
    assert {name: shown[name] for name in machine if name not in MOVING} == {
        name: value for name, value in machine.items() if name not in MOVING
    }
    assert all(name in shown for name in machine)
    visit.page.get_by_text("What the sandbox covers").click()
    for each in (*told["sandbox"]["covers"], *told["sandbox"]["lacks"]):
        expect(visit.page.locator("li", has_text=each).first).to_be_visible()
    wrong = visit.page.locator("main .trouble")
    expect(wrong).to_have_count(len(told["findings"]) + len(told["conditions"]))
    if not (told["findings"] or told["conditions"]):
        expect(visit.page.get_by_text("Nothing is wrong on this node.")).to_be_visible()


def test_what_is_wrong_stands_there_with_its_cause_its_cure_and_its_code(open_page: Opened) -> None:
    def answer(route: Route) -> None:
        body: dict[str, Any] = route.fetch().json()
        route.fulfill(body=json.dumps({**body, "findings": [WRONG], "conditions": [STANDING]}))

    visit = open_page(size=PHONE)
    visit.page.route("**/api/doctor", answer)
    visit.go("settings")
    cards = visit.page.locator("main .trouble")
    expect(cards).to_have_count(2)
    for card, one in zip(cards.all(), (STANDING, WRONG), strict=True):
        for text in one.values():
            expect(card).to_contain_text(text)
    assert visit.overflow() <= 0


def test_trouble_that_stands_is_the_first_thing_in_the_view_swarm(open_page: Opened, fleet: Fleet) -> None:
    visit = open_page("chat")
    visit.expect(r"request failed: net::ERR_")  # the stream ends, and is asked for again
    node = {**fleet.coordinator.call.ask("GET", "/api/node"), "conditions": [STANDING]}
    stream = f"retry: 60000\n\nevent: state\nid: x-1\ndata: {json.dumps({'node': node})}\n\n"
    visit.page.route("**/api/events", lambda route: route.fulfill(body=stream, content_type="text/event-stream"))
    visit.page.reload()
    visit.page.wait_for_selector("nav.views")
    visit.go("swarm")
    first = visit.page.get_by_role("alert").filter(has_text=STANDING["message"]).locator(".trouble")
    for text in STANDING.values():
        expect(first).to_contain_text(text)
    expect(visit.page.locator("h1 + div .trouble")).to_have_count(1)
    visit.page.unroute_all(behavior="ignoreErrors")


def test_a_token_with_its_picture_fits_a_phone(open_page: Opened) -> None:
    visit = open_page("settings", size=PHONE)
    visit.page.get_by_role("button", name="Make a token").click()
    picture = visit.page.get_by_role("img", name="The token as a QR code")
    expect(picture).to_be_visible()
    box = picture.bounding_box()
    assert box is not None and box["width"] == box["height"] > 180 and box["x"] + box["width"] < PHONE[0]
    assert visit.overflow() <= 0
