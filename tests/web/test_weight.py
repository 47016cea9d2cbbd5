"""How much a browser has to fetch before the first view stands there, as the browser itself counts it."""

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Browser

from browsing import opened
from house.test_web import FIRST_PAINT_BYTES
from mycoswarm.cli.fleet import Fleet

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("is_signed_in", [False, True])
def test_the_first_view_is_drawn_after_less_than_100_kb(
    browser: Browser, fleet: Fleet, sessions: Callable[[bool], str], is_signed_in: bool
) -> None:
    """Everything with its headers: page, code, styles, icon, what the API says, and the stream of events so far."""
    host, ended, flowing = fleet.console(), dict[str, float](), dict[str, float]()
    asked: list[str] = []

    def came(event: dict[str, Any]) -> None:
        flowing[event["requestId"]] = flowing.get(event["requestId"], 0) + event["dataLength"]

    with opened(browser, host) as visit:
        if is_signed_in:
            name, _, value = sessions(True).partition("=")
            visit.page.context.add_cookies([{"name": name, "value": value, "url": f"http://{host}"}])
        wire = visit.page.context.new_cdp_session(visit.page)
        wire.send("Network.enable")
        wire.on("Network.requestWillBeSent", lambda event: asked.append(event["request"]["url"]))
        wire.on("Network.dataReceived", came)
        wire.on("Network.loadingFinished", lambda event: ended.update({event["requestId"]: event["encodedDataLength"]}))
        visit.page.goto(f"http://{host}/")
        visit.page.wait_for_selector("section[data-node]" if is_signed_in else "input[name=given]")
        visit.settle()
    total = sum(ended.values()) + sum(size for request, size in flowing.items() if request not in ended)
    assert any(url.endswith("/web/app.js") for url in asked)
    assert any(url.endswith("/api/events") for url in asked) is is_signed_in
    assert 20_000 < total < FIRST_PAINT_BYTES, (total, asked)
