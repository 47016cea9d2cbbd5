"""Everybody can use it: axe finds nothing serious, the keyboard reaches all, and nothing is wider than a phone.

Leaves a picture of each view, light and dark, desktop and phone, in build/out/screens/.
"""

from typing import Any

import pytest
from playwright.sync_api import Page, expect

from browsing import DESKTOP, PHONE, VIEWS, Opened, Visit
from house.tree import ROOT
from mycoswarm.cli.fleet import Fleet
from talking import Talk

pytestmark = pytest.mark.slow

SCREENS = ROOT / "build" / "out" / "screens"
RULES = {
    "runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
}
FOUND = """async (options) => (await axe.run(document, options)).violations
    .filter((one) => ["serious", "critical"].includes(one.impact))
    .map((one) => `${one.impact} ${one.id}: ${one.help}: ` + one.nodes.slice(0, 4).map((each) =>
        `${each.target.join(" ")} (${each.any.map((any) => any.message).join("; ").slice(0, 200)})`).join(", "))"""
# All that can be pressed or filled in and is not hidden or disabled, each with a mark of its own.
REACHABLE = """() => {
    const all = [...document.querySelectorAll("a[href], button, input, select, textarea, summary, [tabindex='0']")]
        .filter((one) => !one.disabled && one.tabIndex >= 0 && one.checkVisibility({ visibilityProperty: true }));
    all.forEach((one, number) => { one.dataset.reach = number; });
    return all.length;
}"""
FOCUSED = """() => {
    const one = document.activeElement;
    const style = getComputedStyle(one);
    const box = one.getBoundingClientRect();
    return { reach: one.dataset.reach ?? null, name: one.outerHTML.slice(0, 120),
        isSeen: (style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0) && box.width > 0
            && box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth };
}"""


@pytest.fixture(scope="package")
def axe() -> str:
    """axe-core's code."""
    found = sorted((ROOT / "build" / "out").glob("axe-core-*/axe.min.js"))
    if not found:
        pytest.skip("axe-core is missing: build/axe fetches it, and says why where it cannot")
    return found[-1].read_text("utf-8")


def judged(visit: Visit, axe: str) -> list[str]:
    """What axe finds. Its code is put in by the debugger, past the page's own policy, which keeps other code out."""
    if not visit.page.evaluate("typeof axe !== 'undefined'"):
        visit.page.evaluate(axe)
    found: list[str] = visit.page.evaluate(FOUND, RULES)
    return found


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_and_pictures_are_taken(
    open_page: Opened, lived_in: Fleet, axe: str, scheme: str
) -> None:
    SCREENS.mkdir(parents=True, exist_ok=True)
    visit = open_page(scheme=scheme)
    Talk(visit, agent="helper").ask("what is 12 plus 30?")
    found = []
    for view in VIEWS:
        for name, size in (("desktop", DESKTOP), ("phone", PHONE)):
            visit.size(*size)
            visit.go(view)
            visit.page.screenshot(path=SCREENS / f"{view}-{scheme}-{name}.png", full_page=True)
            if view == "requests":  # one of them, with where its time went
                visit.page.locator("tbody button").first.click()
                visit.page.locator("[data-timing]").wait_for()
            visit.open_all()
            found += [f"{view}, {scheme}, {name}: {one}" for one in judged(visit, axe)]
            if visit.overflow() > 0:
                found.append(f"{view}, {scheme}, {name}: {visit.overflow()} pixels too wide")
    assert not found, "\n".join(found)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_where_one_signs_in(open_page: Opened, axe: str, scheme: str) -> None:
    visit = open_page(as_owner=None, scheme=scheme)
    visit.page.screenshot(path=SCREENS / f"signin-{scheme}-desktop.png")
    assert not judged(visit, axe)
    visit.size(*PHONE)
    assert not judged(visit, axe) and visit.overflow() <= 0


def test_axe_would_find_what_is_wrong(open_page: Opened, axe: str) -> None:
    """The judge itself: a button without a name, and grey on grey."""
    visit = open_page()
    visit.page.evaluate("""() => {
        const button = document.createElement("button");
        const text = document.createElement("p");
        text.textContent = "hard to read";
        text.style.color = "#999";
        document.querySelector("main").append(button, text);
    }""")
    found = "\n".join(judged(visit, axe))
    assert "button-name" in found and "color-contrast" in found


@pytest.mark.parametrize("view", VIEWS)
def test_the_keyboard_reaches_everything_and_shows_where_it_is(open_page: Opened, lived_in: Fleet, view: str) -> None:
    visit = open_page()
    visit.go(view)
    visit.open_all()
    page = visit.page
    hold_still(page)
    wanted = page.evaluate(REACHABLE)
    assert wanted > len(VIEWS)
    page.evaluate("document.activeElement.blur(); getSelection().removeAllRanges(); scrollTo(0, 0)")
    seen: set[str] = set()
    for _ in range(wanted + 10):
        page.keyboard.press("Tab")
        now: dict[str, Any] = page.evaluate(FOCUSED)
        if now["reach"] is None or now["reach"] in seen:
            continue
        assert now["isSeen"], f"the focus is not seen on {now['name']}"
        seen.add(now["reach"])
    missed = [
        page.locator(f"[data-reach='{n}']").evaluate("(one) => one.outerHTML")
        for n in range(wanted)
        if str(n) not in seen
    ]
    assert not missed, missed
    page.keyboard.press("Escape")


def test_a_view_is_chosen_and_a_message_sent_without_a_mouse(open_page: Opened) -> None:
    visit = open_page()
    page = visit.page
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    expect(page.get_by_role("link", name="Skip to the content")).to_be_in_viewport()
    page.get_by_role("link", name="Chat").focus()
    page.keyboard.press("Enter")
    box = page.get_by_label("Your message")
    expect(box).to_be_visible()
    box.focus()
    page.keyboard.type("What is mycoSwarm?")
    page.keyboard.press("Shift+Enter")
    expect(box).to_have_value("What is mycoSwarm?\n")
    page.keyboard.press("Enter")
    expect(page.locator("article.answer .about")).to_contain_text("ran on")
    expect(page.locator("article.answer")).to_contain_text("private AI appliance")


def hold_still(page: Page) -> None:
    """Let no event change the page any more, so that what was counted stays."""
    page.context.set_offline(True)
    page.wait_for_timeout(100)
