"""What the dashboard's tests share: a browser's pages, watched, so that nothing goes wrong in them unseen."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, ConsoleMessage, Page, Request, Response

from house.tree import ROOT

WEB = ROOT / "web"
# As the frame lists them; those that are not written yet are left out.
LISTED = tuple(re.findall(r"^  \[\"(\w+)\", \"", (WEB / "app.js").read_text("utf-8"), re.MULTILINE))
VIEWS = tuple(name for name in LISTED if (WEB / "views" / f"{name}.js").is_file())
DESKTOP = (1280, 900)
PHONE = (360, 740)
WAIT_MS = 15_000
QUIET_LOOKS = 3

_STREAMS = ("/api/events",)  # without end


@dataclass(frozen=True)
class Keys:
    """Secrets of API keys of one swarm."""

    owner: str
    guest: str


@dataclass
class Watch:
    """What went wrong in a page. `expected` are patterns of what a test means to go wrong; `says_yes`: to what the page
    asks in a box of its own, which is a problem otherwise."""

    host: str
    problems: list[str] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)
    addresses: list[str] = field(default_factory=list)
    pending: set[Request] = field(default_factory=set)
    says_yes: bool = False

    def over(self, page: Page) -> None:
        """Watch a page from now on."""
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.problems.append(f"error in the page: {error}"))
        page.on("dialog", self._asked)
        page.on("request", self._began)
        page.on("requestfinished", lambda request: self.pending.discard(request))
        page.on("requestfailed", self._failed)
        page.on("response", self._answered)

    def faults(self) -> list[str]:
        """All problems that no test meant."""
        return [one for one in self.problems if not any(re.search(each, one) for each in self.expected)]

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):  # refusals by the page's own policy are errors here
            self.problems.append(f"console: {message.text}")

    def _asked(self, dialog: Any) -> None:
        if self.says_yes:
            dialog.accept()
            return
        self.problems.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _began(self, request: Request) -> None:
        self.addresses.append(request.url)
        where = urlsplit(request.url)
        if where.scheme not in ("data", "blob") and where.netloc != self.host:
            self.problems.append(f"a request to another host: {request.url}")
        if where.path not in _STREAMS:
            self.pending.add(request)

    def _failed(self, request: Request) -> None:
        self.pending.discard(request)
        if request.failure != "net::ERR_ABORTED":  # what the page itself gave up
            self.problems.append(f"request failed: {request.failure} {request.url}")

    def _answered(self, response: Response) -> None:
        if response.status >= 400:
            self.problems.append(f"answer {response.status}: {response.url}")


@dataclass
class Visit:
    """A page and what is watched of it."""

    page: Page
    watch: Watch

    def expect(self, *patterns: str) -> None:
        """These problems are meant; a browser also tells its console of each answer from 400 on."""
        self.watch.expected += patterns

    def expect_answers(self, *statuses: int) -> None:
        """Answers of these kinds are meant."""
        for status in statuses:
            self.expect(rf"answer {status}:", rf"console: Failed to load resource.*status of {status}\b")

    def go(self, view: str) -> None:
        """Open a view and wait until it has drawn itself."""
        self.page.evaluate("(view) => { location.hash = view; }", view)
        self.page.wait_for_function(
            "(view) => document.querySelector('nav.views a[aria-current]')?.hash === `#${view}`", arg=view
        )
        self.settle()

    def open_all(self, most: int = 12) -> None:
        """Open what opens in the view."""
        for box in self.page.locator("main details:not([open]) > summary").all()[:most]:
            if box.is_visible():
                box.click()
        self.settle()

    def settle(self, limit_ms: float = WAIT_MS) -> None:
        """Wait until no question is open and the page stays as it is; figures that move may go on moving."""
        shape = "document.querySelectorAll('body *').length"
        quiet, before, waited = 0, -1, 0.0
        while quiet < QUIET_LOOKS and waited < limit_ms:
            self.page.wait_for_timeout(60)
            waited += 60
            now = self.page.evaluate(shape)
            quiet = quiet + 1 if now == before and not self.watch.pending else 0
            before = now

    def size(self, width: int, height: int) -> None:
        """Make the window so large."""
        self.page.set_viewport_size({"width": width, "height": height})

    def overflow(self) -> float:
        """By how many pixels the page is wider than its window."""
        found: float = self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        return found


Opened = Callable[..., Visit]


@contextmanager
def opened(browser: Browser, host: str, *, scheme: str = "light", size: tuple[int, int] = DESKTOP) -> Iterator[Visit]:
    """A page of its own, watched; nothing may have gone wrong in it when it is closed."""
    context = browser.new_context(
        color_scheme=scheme,  # type: ignore[arg-type]  # "light" or "dark"
        viewport={"width": size[0], "height": size[1]},
        service_workers="block",
        reduced_motion="reduce",
        timezone_id="UTC",
        locale="en-GB",
    )
    context.set_default_timeout(WAIT_MS)
    visit = Visit(context.new_page(), Watch(host))
    visit.watch.over(visit.page)
    try:
        yield visit
    finally:
        context.close()
    faults = visit.watch.faults()
    assert not faults, "\n".join(faults)


def until(visit: Visit, look: Callable[[], Any], limit_ms: float, what: str) -> Any:
    """Ask until the answer is true, and let the page live on meanwhile."""
    waited = 0.0
    while not (found := look()):
        assert waited < limit_ms, f"{what}: not within {limit_ms / 1000:g} s"
        visit.page.wait_for_timeout(50)
        waited += 50
    return found
