"""What the page tells in passing: it is read out, can be closed, and stands over nothing that is being typed."""

import pytest
from playwright.sync_api import Page, expect

from browsing import DESKTOP, PHONE, Opened
from mycoswarm.cli.fleet import Fleet

pytestmark = pytest.mark.slow

LONG = "The model could not be loaded: no node that your rules allow has room for it. Free some memory, or ask less."
TELL = "([text, isBad]) => import('/web/dom.js').then((dom) => dom.notice(text, isBad))"
COVERED = """() => {
    const notices = document.getElementById("notices").getBoundingClientRect();
    return [...document.querySelectorAll("[name=text], form button.main")].filter((one) => {
        const box = one.getBoundingClientRect();
        return box.top < notices.bottom && box.bottom > notices.top && box.left < notices.right;
    }).map((one) => one.outerHTML);
}"""


def tell(page: Page, text: str = LONG, is_bad: bool = True) -> None:
    page.evaluate(TELL, [text, is_bad])


@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_four_long_notices_leave_the_message_and_its_button_free(open_page: Opened, size: tuple[int, int]) -> None:
    visit = open_page("chat", size=size)
    for _ in range(6):
        tell(visit.page)
    expect(visit.page.locator("#notices > *")).to_have_count(4)
    assert visit.page.evaluate(COVERED) == []
    assert visit.overflow() <= 0
    visit.page.get_by_label("Your message").fill("still here")
    visit.page.get_by_role("button", name="Send").click(trial=True)


def test_what_went_wrong_is_an_alert_that_stays_until_it_is_closed_and_gives_the_focus_back(open_page: Opened) -> None:
    page = open_page("chat").page
    page.clock.install()
    tell(page)
    tell(page, "Kept.", is_bad=False)
    expect(page.get_by_role("status")).to_contain_text("Kept.")
    expect(page.get_by_role("alert")).to_contain_text(LONG)
    page.clock.fast_forward(60_000)
    expect(page.locator("#notices > *")).to_have_count(1)
    box = page.get_by_label("Your message")
    box.focus()
    page.get_by_role("button", name="Close this notice").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#notices > *")).to_have_count(0)
    expect(box).to_be_focused()


def test_escape_closes_the_newest_notice_first(open_page: Opened) -> None:
    page = open_page("chat").page
    tell(page, "the first")
    tell(page, "the second")
    page.get_by_label("Your message").press("Escape")
    expect(page.locator("#notices")).to_contain_text("the first")
    expect(page.locator("#notices")).not_to_contain_text("the second")
    page.keyboard.press("Escape")
    expect(page.locator("#notices > *")).to_have_count(0)
    page.keyboard.press("Escape")  # nothing to close is no fault


def test_the_focus_stays_where_a_button_was_pressed_and_goes_to_no_other_of_its_name(
    open_page: Opened, fleet: Fleet
) -> None:
    call = fleet.coordinator.call
    for hour in (3, 4):
        call.ask("POST", "/api/schedules", {"cron": f"0 {hour} * * *", "agent": "helper", "task": f"at {hour}"})
    visit = open_page("settings")
    page = visit.page
    again = page.get_by_role("button", name="Look again")
    again.focus()
    again.press("Enter")
    visit.settle()
    expect(again).to_be_focused()
    visit.go("agents")
    remove = page.locator("tr", has_text="at 3").get_by_role("button", name="Remove")
    remove.focus()
    remove.press("Enter")
    expect(remove).to_have_count(0)
    visit.settle()
    focused = page.evaluate("[document.activeElement.tagName, document.activeElement.textContent.includes('at 4')]")
    assert focused == ["DIV", True], "the list has the focus, and not the next schedule's button"
    for one in call.ask("GET", "/api/schedules")["schedules"]:
        call.ask("DELETE", f"/api/schedules/{one['id']}")
