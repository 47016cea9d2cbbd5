"""The view of models against real daemons and a hub of this test's own: each figure is one that the API serves."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from certificates import Authority
from daemons import PAIR, answer, logs_of
from hub import Hub, serving
from models import write_random_model
from mycoswarm.cli.fleet import Fleet

pytestmark = pytest.mark.slow

WAIT_MS = 20_000
SOURCE = "hf:o/r/tiny.gguf"


@dataclass
class Shown:
    """The view, open for the owner, and what went wrong in it."""

    page: Page
    fleet: Fleet
    hub: Hub
    problems: list[str] = field(default_factory=list)

    def card(self, name: str) -> Locator:
        """One model's card."""
        return self.page.locator(f'[data-model="{name}"]')

    def press(self, name: str, within: Locator | None = None) -> None:
        """Press a button by its name."""
        (within or self.page.locator("main")).get_by_role("button", name=name).click()

    def get(self, path: str) -> Any:
        """What the API says."""
        return self.fleet.coordinator.call.ask("GET", f"/api/{path}")

    def model(self, name: str) -> dict[str, Any]:
        """One model, as the API lists it."""
        (found,) = [one for one in self.get("models")["models"] if one["name"] == name]
        return dict(found)


@pytest.fixture(scope="module")
def house(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Fleet, Hub, str]]:
    """A swarm that knows a hub, and an owner's key."""
    folder = tmp_path_factory.mktemp("models")
    data = write_random_model(folder / "tiny.gguf", n_layer=4, width=64, vocab=320).read_bytes()
    authority = Authority(folder)
    with pytest.MonkeyPatch.context() as patch, serving(authority, data) as hub:
        patch.setenv("SSL_CERT_FILE", str(authority.write()))
        own = folder / "fleet" / "coordinator"
        own.mkdir(parents=True, mode=0o700)
        (own / "settings.toml").write_text(f'hub = "https://localhost:{hub.port}"\n')
        with Fleet(workers=2, folder=folder / "fleet") as fleet:
            fleet.enrol()
            key = fleet.coordinator.call.ask("POST", "/api/keys", {"name": "boss", "is_owner": True})["key"]
            yield fleet, hub, str(key)
            assert "Traceback" not in logs_of(fleet)


@pytest.fixture
def shown(browser: Browser, house: tuple[Fleet, Hub, str]) -> Iterator[Shown]:
    fleet, hub, key = house
    hub.sends_to = "/cdn/tiny.gguf"
    hub.asked.clear()
    hub.gate.set()
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.set_default_timeout(WAIT_MS)
    one = Shown(page, fleet, hub)
    page.on("pageerror", lambda error: one.problems.append(str(error)))
    page.on("dialog", lambda dialog: dialog.accept())
    page.goto(f"http://{fleet.console()}/#models")
    page.fill("input[name=given]", key)
    page.click("button.main")
    page.wait_for_selector("[data-model=spore]")
    yield one
    context.close()
    assert not one.problems


def test_a_model_is_loaded_where_the_route_says_and_its_ranges_and_speeds_are_those_of_the_api(shown: Shown) -> None:
    card = shown.card("spore")
    expect(card.get_by_text("not loaded", exact=True)).to_be_visible()
    card.locator("details.fit summary").click()
    card.locator("details.fit input").fill(PAIR)
    shown.press("Look again", card)
    expect(card.locator("details.fit")).to_contain_text("the request asks for a split")
    assert card.locator("details.fit tbody tr").count() == len(shown.get("nodes")["nodes"])
    shown.press("Load spore", card)
    expect(card.locator("[data-ring]").get_by_text("loaded", exact=True).first).to_be_visible(timeout=WAIT_MS)
    (ring,) = shown.get("rings")["rings"]
    rows = card.locator("[data-ring] tbody tr").all_inner_texts()
    for stage, row in zip(ring["stages"], rows, strict=True):
        first, last = stage["layers"]
        assert row.split("\t")[:2] == [stage["node"], f"[{first}, {last})"]
    answer(shown.fleet, PAIR, tokens=20)
    expect(card.get_by_text("Measured")).to_be_visible(timeout=WAIT_MS)
    (measured,) = shown.get("models/spore/fit")["measured"]
    expect(card).to_contain_text(f"{measured['decode_tokens_per_s']:.1f} tokens/s on {ring['stages'][0]['node']} [")
    shown.press("Unload spore", card)
    expect(card.get_by_text("not loaded", exact=True)).to_be_visible(timeout=WAIT_MS)
    assert shown.get("rings")["rings"] == []


def test_an_exam_shows_how_far_it_is_and_leaves_its_score(shown: Shown) -> None:
    card = shown.card("spore")
    shown.press("Examine spore", card)
    expect(card.locator("progress")).to_be_visible()
    shown.press("Stop", card)
    expect(card.locator("progress")).to_have_count(0)
    assert shown.model("spore")["certificate"] is None
    shown.press("Examine spore", card)
    expect(card.get_by_text("Score by kind")).to_be_visible(timeout=240_000)
    score = shown.model("spore")["certificate"]
    expect(card).to_contain_text(f"{score['percent']} % ({score['right']} of {score['cases']})")


def test_a_pull_is_stopped_gone_on_with_in_another_view_and_the_model_removed(shown: Shown) -> None:
    page, hub = shown.page, shown.hub
    hub.gate.clear()
    page.get_by_label("From").fill(SOURCE)
    shown.press("Pull")
    expect(page.locator("progress")).to_be_visible()
    expect(page.locator("main")).to_contain_text(re.compile("fetching, 16.0 KiB of"))
    shown.press("Stop")
    part = page.locator("[data-unfinished=tiny]")
    expect(part).to_contain_text("16.0 KiB of", timeout=WAIT_MS)
    shown.press("Go on", part)
    expect(page.locator("progress")).to_be_visible()
    page.goto(f"http://{shown.fleet.console()}/#swarm")
    expect(page.locator("[data-node]").first).to_be_visible()
    hub.gate.set()
    expect(page.locator("#notices")).to_contain_text("done", timeout=WAIT_MS)
    page.goto(f"http://{shown.fleet.console()}/#models")
    expect(shown.card("tiny")).to_contain_text(shown.model("tiny")["digest"][:12], timeout=WAIT_MS)
    assert hub.ranges == [None, "bytes=16384-"] and page.locator("[data-unfinished]").count() == 0
    shown.press("Remove tiny", shown.card("tiny"))
    expect(shown.card("tiny")).to_have_count(0, timeout=WAIT_MS)


def test_a_file_of_the_node_is_added_and_what_goes_wrong_is_said_with_its_cure(shown: Shown, tmp_path: Path) -> None:
    page = shown.page
    path = write_random_model(tmp_path / "own.gguf", n_layer=2, width=64, vocab=320)
    page.get_by_label("Its path there").fill(str(path))
    shown.press("Add")
    expect(shown.card("own")).to_be_visible(timeout=WAIT_MS)
    page.get_by_label("Its path there").fill(os.devnull)
    shown.press("Add")
    expect(page.locator("#notices .bad").first).to_be_visible()
    page.get_by_label("From").fill("http://hub.example/tiny.gguf")
    shown.press("Pull")
    expect(page.locator("#notices .bad").first).to_contain_text("hf:OWNER/REPO/FILE.gguf")
    shown.press("Remove own", shown.card("own"))
    expect(shown.card("own")).to_have_count(0, timeout=WAIT_MS)


def test_nothing_is_wider_than_a_phone(shown: Shown) -> None:
    shown.card("spore").locator("details.fit summary").click()
    expect(shown.card("spore").locator("details.fit table")).to_be_visible()
    shown.page.set_viewport_size({"width": 360, "height": 740})
    assert shown.page.evaluate("document.documentElement.scrollWidth") <= 360
