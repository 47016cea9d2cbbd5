"""Coming in at the dashboard and going out, in a real browser."""

import re

import pytest
from playwright.sync_api import expect

from browsing import VIEWS, Keys, Opened, Visit
from mycoswarm.cli.fleet import Fleet

pytestmark = pytest.mark.slow


def sign_in(visit: Visit, secret: str, *, is_code: bool = False) -> None:
    visit.page.get_by_label("API key").fill(secret)
    visit.page.get_by_label("This is a setup code").set_checked(is_code)
    visit.page.get_by_role("button", name="Sign in").click()


def test_a_key_opens_the_dashboard_a_wrong_one_says_why_and_signing_out_ends_it(open_page: Opened, keys: Keys) -> None:
    visit = open_page(as_owner=None)
    visit.expect_answers(401)
    page = visit.page
    expect(page.get_by_label("API key")).to_be_focused()
    sign_in(visit, "msk-wrong")
    expect(page.get_by_role("alert")).to_contain_text("not known")
    expect(page.locator("nav.views")).to_have_count(0)
    sign_in(visit, f" {keys.owner} ")
    expect(page.locator("nav.views")).to_be_visible()
    assert keys.owner not in page.content() and keys.owner not in str(page.context.cookies())
    (cookie,) = page.context.cookies()
    assert cookie["httpOnly"] and cookie["sameSite"] == "Strict"
    assert page.evaluate("document.cookie") == ""
    page.reload()
    expect(page.locator("nav.views")).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("API key")).to_be_visible()
    page.reload()
    expect(page.get_by_label("API key")).to_be_visible()
    page.context.add_cookies([{**cookie}])  # type: ignore[typeddict-item]  # what it gave
    page.reload()
    expect(page.get_by_label("API key")).to_be_visible()


def test_the_setup_code_opens_it_once_and_shows_a_key_that_opens_it_again(open_page: Opened, fleet: Fleet) -> None:
    code = fleet.coordinator.call.ask("POST", "/api/setup-code", {})["setup_code"]
    visit, other = open_page(as_owner=None), open_page(as_owner=None)
    other.expect_answers(401)
    sign_in(visit, code.lower(), is_code=True)
    secret = visit.page.locator("pre").inner_text()
    assert secret.startswith("msk-")
    visit.page.get_by_role("button", name="I have kept it").click()
    expect(visit.page.locator("nav.views")).to_be_visible()
    assert secret not in visit.page.content()
    sign_in(other, code, is_code=True)
    expect(other.page.get_by_role("alert")).to_contain_text("setup code")
    sign_in(other, secret)
    expect(other.page.locator("nav.views")).to_be_visible()
    name = visit.page.locator("header .end").inner_text()
    assert "dashboard" in name
    fleet.coordinator.call.ask("DELETE", "/api/keys/dashboard")
    for one in (visit, other):
        one.expect_answers(401)


def test_a_key_that_is_revoked_ends_the_open_page_by_itself(open_page: Opened, fleet: Fleet) -> None:
    call = fleet.coordinator.call
    secret = call.ask("POST", "/api/keys", {"name": "fleeting", "is_owner": True})["key"]
    visit = open_page(as_owner=None)
    visit.expect_answers(401)
    sign_in(visit, secret)
    expect(visit.page.locator("[data-node]").first).to_be_visible()
    call.ask("DELETE", "/api/keys/fleeting")
    # The next event ends the stream, ten seconds from now where nothing changes; the page then asks, and is told.
    expect(visit.page.get_by_label("API key")).to_be_visible(timeout=15_000)
    expect(visit.page.locator("[data-node]")).to_have_count(0)


def test_an_owner_finds_every_view_and_a_guest_the_chat_alone(open_page: Opened) -> None:
    owner, guest = open_page(), open_page(as_owner=False)
    assert set(VIEWS) >= {"swarm", "chat"}
    for view in VIEWS:
        owner.go(view)
        expect(owner.page.get_by_role("heading", level=1)).to_have_text(re.compile(view, re.IGNORECASE))
        assert owner.page.title().lower().startswith(view)
    expect(guest.page.locator("nav.views a")).to_have_text(["Chat"])
    for view in VIEWS:
        guest.page.evaluate("(view) => { location.hash = view; }", view)
        guest.settle()
        expect(guest.page.get_by_role("heading", level=1)).to_have_text("Chat")
    assert not [one for one in guest.watch.addresses if "/api/" in one], (
        "a guest's page asks for nothing of the owner's"
    )
    assert guest.page.evaluate("fetch('/api/nodes').then((answer) => answer.status)") == 403
    guest.expect_answers(403)


def test_a_page_that_breaks_a_rule_of_ours_fails_its_test(open_page: Opened) -> None:
    """The watch itself: what these tests would be worth without."""
    visit = open_page()
    visit.page.evaluate("""() => {
        const made = document.createElement("script");
        made.textContent = "window.ran = true";
        document.body.append(made);
        const shown = new Image();
        shown.src = "http://mycoswarm.invalid/pixel";
        document.body.append(shown);
        fetch("/api/nothing-here");
        setTimeout(() => { throw new Error("thrown"); });
        console.error("said");
    }""")
    visit.settle()
    faults = "\n".join(visit.watch.faults())
    for wanted in ("script-src", "img-src", "answer 404", "thrown", "said"):
        assert wanted in faults, wanted
    assert visit.page.evaluate("window.ran") is None
    visit.watch.problems.clear()
