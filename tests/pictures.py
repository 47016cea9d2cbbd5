"""Takes the README's pictures of the dashboard: a coordinator and two workers, the embedded model, a real browser."""

import base64
import shutil
import struct
import sys
import threading
import zlib
from pathlib import Path

import numpy as np
from playwright.sync_api import Browser, Page, expect, sync_playwright

from browsing import ROOT, Visit, opened, until
from daemons import Answer, endless
from mycoswarm.cli.fleet import Fleet
from talking import Talk

MOST_BYTES = 120_000
MOST_COLOURS = 256
QUIET_MS = 60_000
PIXELS = """async (address) => {
    const shown = new Image();
    shown.src = address;
    await shown.decode();
    const sheet = new OffscreenCanvas(shown.width, shown.height).getContext("2d");
    sheet.drawImage(shown, 0, 0);
    const { data } = sheet.getImageData(0, 0, shown.width, shown.height);
    let text = "";
    for (let at = 0; at < data.length; at += 32768) text += String.fromCharCode(...data.subarray(at, at + 32768));
    return [shown.width, shown.height, btoa(text)];
}"""


def packed(picture: bytes, page: Page) -> bytes:
    """A picture with at most 256 colours, which no eye tells from the browser's own and is a third of it in bytes."""
    width, height, text = page.evaluate(PIXELS, f"data:image/png;base64,{base64.b64encode(picture).decode()}")
    colours = np.frombuffer(base64.b64decode(text), np.uint8).reshape(height * width, 4)[:, :3]
    step, found = 1, colours
    while len(table := np.unique(found, axis=0)) > MOST_COLOURS:
        step *= 2
        found = np.minimum((colours.astype(np.uint16) + step // 2) // step * step, 255).astype(np.uint8)
    places = np.unique(found, axis=0, return_inverse=True)[1].reshape(height, width).astype(np.uint8)
    rows = np.hstack([np.zeros((height, 1), np.uint8), places]).tobytes()
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)  # PNG, section 11.2: eight bits, a palette
    parts = (b"IHDR", header), (b"PLTE", table.tobytes()), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b"")
    chunks = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def keep(visit: Visit, blank: Page, path: Path) -> None:
    """Take one picture of what the window shows."""
    data = packed(visit.page.screenshot(animations="disabled"), blank)
    if len(data) > MOST_BYTES:
        raise SystemExit(f"{path.name} has {len(data)} bytes; {MOST_BYTES} are the most")
    path.write_bytes(data)
    print(f"{path.relative_to(ROOT)}: {len(data)} bytes")


def swarm(visit: Visit, blank: Page, fleet: Fleet) -> None:
    """A model split over two nodes, while tokens flow."""
    question = [{"role": "user", "content": "Who are you, and what can you do for me?"}]
    Answer(fleet, "split; stages=2", tokens=400, messages=question, logit_bias=endless()).rest()  # tells of its hops
    flowing = Answer(fleet, "split; stages=2", tokens=1500, messages=question, logit_bias=endless())
    flowing.more(1)
    reading = threading.Thread(target=flowing.rest)
    reading.start()
    expect(visit.page.locator("section[data-ring] .badge", has_text="tokens/s")).to_be_visible()
    visit.page.wait_for_timeout(1500)  # until the rate is of more than its first moment
    keep(visit, blank, ROOT / "docs" / "swarm.png")
    reading.join(60)


def chat(visit: Visit, blank: Page) -> None:
    """An answer with where it ran, and one that a tool was called for."""
    talk = Talk(visit, model="spore", route="split; stages=2")
    talk.ask("What is mycoSwarm?")
    talk.choose(route="", agent="helper")
    answer = talk.ask("what is 12 plus 30?")
    answer.locator("details.step summary").click()
    visit.page.locator("main details > summary").first.click()
    visit.page.mouse.move(0, 0)
    visit.page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
    visit.settle()
    keep(visit, blank, ROOT / "docs" / "chat.png")


def take(browser: Browser, fleet: Fleet) -> None:
    """Both."""
    call = fleet.coordinator.call
    secret = call.ask("POST", "/api/keys", {"name": "owner", "is_owner": True})["key"]
    blank = browser.new_page()
    with opened(browser, fleet.console(), size=(1080, 860)) as visit:
        visit.page.goto(f"http://{fleet.console()}/#swarm")
        visit.page.get_by_label("API key").fill(secret)
        visit.page.get_by_role("button", name="Sign in").click()
        expect(visit.page.locator("section[data-node] .badge.good", has_text="ready")).to_have_count(3)
        others = visit.page.get_by_role("heading", name="Heard on this network")
        until(visit, lambda: not others.count(), QUIET_MS, "no other node on this machine is heard")
        swarm(visit, blank, fleet)
        chat(visit, blank)


def main() -> int:
    """Take them; 1 where there is no Chromium."""
    path = shutil.which("chromium")
    if path is None:
        print("Chromium is missing: apt install chromium", file=sys.stderr)
        return 1
    with Fleet(workers=2) as fleet, sync_playwright() as driver:
        fleet.enrol()
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        take(browser, fleet)
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
