"""A new machine is heard, adopted with one button and one code on both screens, and works."""

import os
import subprocess
from collections.abc import Iterator

import pytest
from playwright.sync_api import Locator, expect

from browsing import Opened, Visit, until
from mycoswarm.cli.fleet import ARGV, Fleet, Member

pytestmark = pytest.mark.slow

NAME = f"newcomer-{os.getpid()}"  # of no other fleet's daemon that is heard on this machine


@pytest.fixture
def newcomer() -> Iterator[Member]:
    """A daemon of nobody's."""
    with Fleet(workers=0, flags=("--threads", "1", "--name", NAME)) as alone:
        yield alone.coordinator


def begin(visit: Visit) -> Locator:
    """Press the button beside the newcomer; gives what then asks for a comparison of the codes."""
    visit.page.get_by_role("button", name=f"Adopt {NAME}").click()
    asking = visit.page.get_by_role("region", name=f"Adoption of {NAME}")
    expect(asking).to_be_visible()
    return asking


def test_a_daemon_that_is_heard_is_adopted_with_one_button_and_equal_codes_and_expelled_with_another(
    open_page: Opened, fleet: Fleet, newcomer: Member
) -> None:
    visit = open_page()
    page = visit.page
    asking = begin(visit)
    (there,) = until(visit, lambda: newcomer.call.ask("GET", "/api/adoptions")["adoptions"], 10_000, "it is asked")
    here = asking.locator("[data-code]").inner_text()
    assert here == there["code"] and len(here.replace(" ", "")) == 6
    card = page.locator(f"section[data-node={NAME}]")
    asking.get_by_role("button", name="The codes are equal").click()
    expect(asking).to_contain_text(f"It waits for {NAME}")
    expect(card).to_have_count(0)
    # As its owner does it, at the machine itself.
    argv = [*ARGV, "--data", str(newcomer.folder), "adopt"]
    done = subprocess.run(argv, input="y\n", capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and here in done.stdout + done.stderr
    expect(card.locator(".badge", has_text="ready")).to_be_visible()
    expect(asking).to_have_count(0)
    expect(page.get_by_role("button", name=f"Adopt {NAME}")).to_have_count(0)
    expect(page.locator(f"svg.net g[data-node={NAME}]")).to_be_visible()
    assert NAME in {node["name"] for node in fleet.nodes()}

    card.locator("summary").click()
    visit.watch.says_yes = True
    card.get_by_role("button", name=f"Expel {NAME}").click()
    expect(card).to_have_count(0)
    assert NAME not in {node["name"] for node in fleet.nodes()}


def test_codes_that_differ_are_refused_and_nothing_is_adopted(open_page: Opened, newcomer: Member) -> None:
    visit = open_page()
    asking = begin(visit)
    asking.get_by_role("button", name="Refuse").click()
    expect(asking).to_have_count(0)
    assert newcomer.call.ask("GET", "/api/node")["role"] == "unclaimed"
