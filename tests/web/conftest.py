"""One swarm, one owner's session and one browser for all tests of the dashboard; what a test breaks it mends.

The fixtures end with this folder: Playwright's loop runs in the main thread as long as its browser does, and other
tests run loops of their own there.
"""

import json
import os
import shutil
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from browsing import WAIT_MS, Keys, Opened, Visit, opened
from daemons import logs_of
from mycoswarm.cli.fleet import Fleet
from puppet import Puppet

ARGUMENTS = [
    "--no-sandbox",  # tests may run as root, where Chromium's own sandbox cannot
    "--disable-dev-shm-usage",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # no name is ever looked up
]


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Debian's Chromium."""
    path = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if path is None:
        pytest.skip("Chromium is missing: apt install chromium")
    with sync_playwright() as driver:
        expect.set_options(timeout=WAIT_MS)
        running = driver.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield running
        running.close()


@pytest.fixture(scope="package")
def house(browser: Browser) -> Iterator[Fleet]:
    """A coordinator and two workers, enrolled. The browser is asked for first: without it nothing starts."""
    with Fleet(workers=2) as running:
        running.enrol()
        yield running
        assert "Traceback" not in logs_of(running)


@pytest.fixture(scope="package")
def keys(house: Fleet) -> Keys:
    """An owner's key and a guest's."""

    def make(name: str, is_owner: bool) -> str:
        return str(house.coordinator.call.ask("POST", "/api/keys", {"name": name, "is_owner": is_owner})["key"])

    return Keys(make("boss", True), make("guest", False))


@pytest.fixture(scope="package")
def sessions(house: Fleet, keys: Keys) -> Callable[[bool], str]:
    """The cookie of a session, made once for each key."""
    made: dict[bool, str] = {}

    def cookie(is_owner: bool) -> str:
        if is_owner not in made:
            body = json.dumps({"key": keys.owner if is_owner else keys.guest}).encode()
            request = urllib.request.Request(
                f"http://{house.console()}/login", body, {"content-type": "application/json"}
            )
            with urllib.request.urlopen(request, timeout=20) as answer:
                made[is_owner] = answer.headers["set-cookie"].partition(";")[0]
        return made[is_owner]

    return cookie


@pytest.fixture(scope="package")
def puppet(house: Fleet) -> Iterator[Puppet]:
    """An endpoint that says what a test has it say, as the model `puppet`."""
    call = house.coordinator.call
    with Puppet() as running:
        given = {"name": "stage-door", "url": running.url, "place": "LAN", "check": True, "secret": None}
        call.ask("POST", "/api/endpoints", given)
        rule = {"name": "the puppet", "when": {"model": "puppet"}, "then": {"do": "external", "name": "stage-door"}}
        call.ask("POST", "/api/rules", {"rule": rule, "position": 1})
        yield running


@pytest.fixture(scope="package")
def lived_in(house: Fleet) -> Fleet:
    """The swarm after some use, so that every view has something to show."""
    call = house.coordinator.call
    question = {"model": "spore", "messages": [{"role": "user", "content": "What is mycoSwarm?"}]}
    call.ask("POST", "/v1/chat/completions", question, {"x-mycoswarm-route": "split; stages=2"}, timeout_s=60)
    for _ in call.stream("POST", "/api/agents/helper/run", {"task": "what is 12 plus 30?"}):
        pass
    call.ask("POST", "/api/schedules", {"cron": "0 7 * * *", "agent": "helper", "task": "Say hello."})
    return house


@pytest.fixture
def fleet(house: Fleet) -> Fleet:
    """The swarm, whole again whatever the test before did."""
    for member in house.members:
        if member.process.poll() is not None:
            house.restart(member)
            house.wait_ready()
    return house


@pytest.fixture
def open_page(browser: Browser, fleet: Fleet, sessions: Callable[[bool], str]) -> Iterator[Opened]:
    """`open_page(view)`: a page where the owner is signed in; `as_owner=None`: where nobody is, False: a guest."""
    with ExitStack() as stack:
        host = fleet.console()

        def open_one(view: str = "swarm", *, as_owner: bool | None = True, **more: object) -> Visit:
            visit = stack.enter_context(opened(browser, host, **more))  # type: ignore[arg-type]  # as it takes them
            if as_owner is not None:
                name, _, value = sessions(as_owner).partition("=")
                visit.page.context.add_cookies(
                    [{"name": name, "value": value, "url": f"http://{host}", "httpOnly": True, "sameSite": "Strict"}]
                )
            visit.page.goto(f"http://{host}/#{view}")
            visit.page.wait_for_selector("nav.views" if as_owner is not None else "form")
            visit.settle()
            return visit

        yield open_one
