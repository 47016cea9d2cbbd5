"""The house at a glance: each figure, each layer range and each line of it is what the API serves."""

import math
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from browsing import PHONE, Opened, Visit, until
from daemons import Answer, endless
from mycoswarm.base.units import format_bytes, format_seconds
from mycoswarm.cli.fleet import Fleet
from talking import Talk, fact

pytestmark = pytest.mark.slow

# The API's word and the page's in one go: the page is read in the same turn in which the last answer has come.
READ = """async () => {
    const get = async (path) => (await fetch(path)).json();
    const [nodes, rings] = await Promise.all([get("/api/nodes"), get("/api/rings")]);
    const text = (one) => one.textContent;
    const pairs = (one) => [...one.querySelectorAll("dl.facts dt")].map((dt) => [dt, dt.nextElementSibling].map(text));
    const card = (one) => ({
        name: one.dataset.node ?? one.dataset.ring, title: text(one.querySelector("h3")), facts: pairs(one),
        badges: [...one.querySelectorAll(".badge")].map(text),
        rows: [...one.querySelectorAll("tbody tr")].map((row) => [...row.children].map(text)),
        meter: one.querySelector(".meter")?.getAttribute("aria-label") ?? null,
        filled: one.querySelector(".meter > div")?.style.width ?? null,
    });
    return {
        nodes: nodes.nodes, rings: rings.rings,
        nodeCards: [...document.querySelectorAll("section[data-node]")].map(card),
        ringCards: [...document.querySelectorAll("section[data-ring]")].map(card),
        drawn: [...document.querySelectorAll("svg.net g[data-node]")].map((one) =>
            [one.dataset.node, one.classList.contains("in-ring"), [...one.querySelectorAll("text")].map(text)]),
        hops: [...document.querySelectorAll("svg.net line.hop")].length,
        took: [...document.querySelectorAll("svg.net .took")].map(text),
        words: document.querySelector("svg.net").getAttribute("aria-label"),
    };
}"""


def span(layers: list[int]) -> str:
    return f"[{layers[0]}, {layers[1]})"


def wanted_facts(one: dict[str, Any], rings: list[dict[str, Any]]) -> list[list[str]]:
    """What a node's card must say, out of the API's answer."""
    machine = one["machine"]
    total = machine["memory_limit_bytes"] or machine["memory_total_bytes"]
    free = f"{format_bytes(one['free_memory_bytes'])} free of {format_bytes(total)} ({machine['memory_source']})"
    held = [
        f"{ring['model']} {span(s['layers'])}"
        for ring in rings
        for s in ring["stages"]
        if s["node_id"] == one["node_id"]
    ]
    warm, load = machine["temperature_celsius"], machine["load"]
    found: list[tuple[str, str | None]] = [
        ("Memory", free),
        ("Board", machine["board"]),
        ("Processor", machine["processor"]),
        ("System", machine["system"]),
        *(("GPU", wanted_gpu(gpu)) for gpu in machine["gpus"] or ()),
        ("Temperature", None if warm is None else f"{warm:.0f} °C"),
        ("Load", None if load is None else f"{load:.1f} on {machine['threads']:g} threads"),
        ("Away by", None if one["is_this"] else format_seconds(one["round_trip_s"])),
        ("Streams weights at", f"{format_bytes(math.floor(one['bytes_per_s'] + 0.5))}/s"),
        ("Models", ", ".join(one["models"])),
        ("Loaded here", ", ".join(held)),
        ("Id", one["node_id"][:12]),
    ]
    return [[name, value] for name, value in found if value]


def wanted_gpu(gpu: dict[str, Any]) -> str:
    if gpu["memory_total_bytes"] is None:
        return f"{gpu['name']}, memory unknown"
    free = f"{format_bytes(gpu['memory_free_bytes'])} free of {format_bytes(gpu['memory_total_bytes'])}"
    return f"{gpu['name']}, {free} ({gpu['memory_source']})"


def took(value: float | None) -> str:
    return "not yet known" if value is None else format_seconds(value)


def wanted_ring(ring: dict[str, Any]) -> dict[str, Any]:
    """What a ring's card must say."""
    speed, hop = ring["decode_tokens_per_s"], ring["hop_overhead_median_s"]
    facts = [["Tokens since it was loaded", str(ring["tokens"])]]
    if speed is not None:
        facts.append(["Last answer", f"{speed:.1f} tokens/s"])
    if hop is not None:
        facts.append(["Hop overhead", f"{format_seconds(hop)} at the median, {ring['hops']} hops per token"])
    return {
        "name": ring["ring_id"],
        "title": ring["model"],
        "rows": [
            [
                s["node"],
                span(s["layers"]),
                format_bytes(s["bytes"]),
                took(s["compute_median_s"]),
                took(s["hop_median_s"]),
            ]
            for s in ring["stages"]
        ],
        "badges": ["idle"],
        "facts": facts,
    }


def differences(told: dict[str, Any]) -> list[str]:
    """Where the page is not what the API says now."""
    found = []
    cards = {card["name"]: card for card in told["nodeCards"]}
    for one in told["nodes"]:
        card = cards.pop(one["name"])
        wanted = wanted_facts(one, told["rings"])
        if card["facts"] != wanted:
            found.append(f"{one['name']}: {card['facts']} is not {wanted}")
        total = one["machine"]["memory_limit_bytes"] or one["machine"]["memory_total_bytes"]
        if card["meter"] != f"{format_bytes(one['free_memory_bytes'])} free of {format_bytes(total)}":
            found.append(f"{one['name']}: the meter says {card['meter']}")
        elif abs(float(card["filled"].rstrip("%")) - 100 * (1 - one["free_memory_bytes"] / total)) > 0.01:
            found.append(f"{one['name']}: the meter is filled by {card['filled']}")
        if card["badges"] != ["ready", "this machine", one["role"], one["class"], *(f"#{t}" for t in one["tags"])]:
            found.append(f"{one['name']}: {card['badges']}")
    found += [f"a card of nobody: {name}" for name in cards]
    shown = {card["name"]: card for card in told["ringCards"]}
    for ring in told["rings"]:
        wanted_card = wanted_ring(ring)
        card = shown.pop(ring["ring_id"], {})
        found += [f"{ring['model']}: {card.get(k)} is not {v}" for k, v in wanted_card.items() if card.get(k) != v]
    hops = [took(s["hop_median_s"]) for ring in told["rings"] for s in ring["stages"] if s["hop_median_s"] is not None]
    if told["took"] != hops:
        found.append(f"the picture's hops: {told['took']} are not {hops}")
    return found + [f"a ring of nobody: {name}" for name in shown]


def read(page: Page) -> dict[str, Any]:
    told: dict[str, Any] = page.evaluate(READ)
    return told


def agreed(visit: Visit) -> dict[str, Any]:
    """The page and the API's answers, once they are of the same moment: figures that move are read again."""
    told: dict[str, Any] = {}

    def is_so() -> bool:
        told.update(read(visit.page))
        return not differences(told)

    try:
        until(visit, is_so, 15_000, "the page says what the API says")
    except AssertionError:
        raise AssertionError("\n".join(differences(told))) from None
    return told


def test_the_ring_of_a_split_answer_is_drawn_with_the_layers_that_each_node_holds(
    open_page: Opened, fleet: Fleet
) -> None:
    visit = open_page()
    answer = Talk(visit, model="spore", route="split; stages=2").ask("What is mycoSwarm?")
    receipt = fact(answer, "Receipt")
    visit.go("swarm")
    told = agreed(visit)
    ring = next(one for one in told["rings"] if len(one["stages"]) == 2)
    stages = {one["node"]: one["layers"] for one in ring["stages"]}
    decided = fleet.coordinator.call.ask("GET", f"/api/ledger/{receipt}")["rows"][0]["body"]["nodes"]
    assert stages == {one["name"]: one["layers"] for one in decided}
    (first, second) = (one["layers"] for one in ring["stages"])
    assert first[0] == 0 < first[1] == second[0] < second[1] == ring["layers"]
    assert all(0 < one["compute_median_s"] < 1 and 0 < one["hop_median_s"] < 1 for one in ring["stages"])
    assert len(told["took"]) == 2, "one time for each hop"
    drawn = {name: (is_in, texts) for name, is_in, texts in told["drawn"]}
    assert set(drawn) == {member.name for member in fleet.members}
    for name, layers in stages.items():
        is_in, texts = drawn[name]
        assert is_in and texts[0] == name and f"spore {span(layers)}" in texts[1]
        assert f"{name}: " in told["words"] and f"spore {span(layers)}" in told["words"]
    assert told["hops"] == 2 * sum(len(one["stages"]) == 2 for one in told["rings"])


def test_a_ring_moves_while_tokens_flow_and_rests_when_they_have_come(open_page: Opened, fleet: Fleet) -> None:
    visit = open_page()
    flowing = Answer(fleet, "split; stages=2", tokens=900, logit_bias=endless())
    flowing.more(5)
    card = visit.page.locator("section[data-ring]").filter(has_text="works")
    expect(card).to_have_count(1)
    expect(card.locator(".badge", has_text="tokens/s")).to_be_visible()
    expect(visit.page.locator("svg.net g.flows line.hop")).to_have_count(2)
    for stage in visit.page.evaluate("fetch('/api/rings').then((answer) => answer.json())")["rings"]:
        if stage["in_use_by"]:
            for one in stage["stages"]:
                expect(visit.page.locator(f"section[data-node={one['node']}] .badge").first).to_have_text("works")
    flowing.rest()
    expect(visit.page.locator("svg.net g.flows")).to_have_count(0)
    agreed(visit)


def test_every_figure_of_the_swarm_is_the_apis(open_page: Opened, fleet: Fleet) -> None:
    call = fleet.coordinator.call
    visit = open_page()
    assert len(agreed(visit)["nodes"]) == 3
    visit.page.locator("section[data-node=worker-1] summary").click()
    visit.page.get_by_label("Tags of worker-1").fill("attic quiet")
    visit.page.locator("section[data-node=worker-1]").get_by_role("button", name="Keep").click()
    expect(visit.page.locator("section[data-node=worker-1] .badge", has_text="#attic")).to_be_visible()
    told = agreed(visit)
    assert next(one for one in told["nodes"] if one["name"] == "worker-1")["tags"] == ["attic", "quiet"]
    (worker,) = [one["node_id"] for one in told["nodes"] if one["name"] == "worker-1"]
    call.ask("POST", "/api/tags", {"node": worker, "add": [], "remove": ["attic", "quiet"]})
    expect(visit.page.locator("section[data-node=worker-1] .badge", has_text="#")).to_have_count(0)
    agreed(visit)


def test_a_figure_that_were_another_would_be_seen(open_page: Opened) -> None:
    """The comparison itself: each kind of figure, changed in the page, is found."""
    visit = open_page()
    told = agreed(visit)
    for card in told["nodeCards"]:
        for place in range(len(card["facts"])):
            name, value = card["facts"][place]
            card["facts"][place] = [name, f"{value}0"]
            assert differences(told), name
            card["facts"][place] = [name, value]
        card["filled"], before = "1%", card["filled"]
        assert differences(told)
        card["filled"] = before
    assert not differences(told)


def test_the_picture_and_the_cards_fit_a_phone(open_page: Opened) -> None:
    visit = open_page(size=PHONE)
    agreed(visit)
    assert visit.overflow() <= 0
    box = visit.page.locator("svg.net").bounding_box()
    assert box is not None and box["width"] <= PHONE[0]
