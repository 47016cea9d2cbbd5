"""The dashboard's code: small, without a way for text to become code, and without the world outside."""

import ipaddress
import re
from urllib.parse import urlsplit

from house.tree import ROOT

WEB = ROOT / "web"
MAX_LINES = 2500
FIRST_PAINT_BYTES = 100_000
LINE = 250

FILES = {path.relative_to(WEB).as_posix(): path.read_text("utf-8") for path in sorted(WEB.rglob("*")) if path.is_file()}
CODE = {name: text for name, text in FILES.items() if name.endswith(".js")}
PAGES = {name: text for name, text in FILES.items() if name.endswith((".html", ".svg"))}
SERVED = (".js", ".css", ".html", ".svg")

AS_CODE = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|createContextualFragment|DOMParser|setHTML|srcdoc|parseFromString"
    r"|document\.write|\beval\b|new Function|javascript:|setAttribute\(\s*[\"'`](on|style)|\bimport\(\s*(?![\"'`]|`\./)"
    r"|set(Timeout|Interval)\(\s*[\"'`]"
)
SPEAKING = re.compile(
    r"\bfetch\(|\bEventSource\b|\bXMLHttpRequest\b|\bWebSocket\b|\bsendBeacon\b|\bRTCPeerConnection\b"
)
KEEPING = re.compile(r"\blocalStorage\b|\bsessionStorage\b|\bindexedDB\b|document\.cookie")
ADDRESS = re.compile(r"[a-z]+://[^\"'`\s)]*", re.IGNORECASE)
SVG_SPACE = "http://www.w3.org/2000/svg"


def wrong(pattern: re.Pattern[str], texts: dict[str, str]) -> list[str]:
    """Where it stands, as FILE:LINE."""
    return [
        f"{name}:{number}: {line.strip()[:80]}"
        for name, text in texts.items()
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]


def test_no_text_can_become_code() -> None:
    assert not wrong(AS_CODE, CODE)


def test_one_file_speaks_to_the_node_and_none_keeps_anything_in_the_browser() -> None:
    assert not wrong(SPEAKING, {name: text for name, text in CODE.items() if name != "net.js"})
    assert not wrong(KEEPING, CODE)


def test_what_is_read_out_and_asked_goes_through_what_shows_hidden_marks() -> None:
    others = {name: text for name, text in CODE.items() if name != "dom.js"}
    assert not wrong(re.compile(r"\b(confirm|alert|prompt)\("), others)
    assert not wrong(re.compile(r"setAttribute\(\"(aria-label|title|alt|placeholder)\", (?!visible\()"), others)
    assert not wrong(re.compile(r"\.(title|ariaLabel|placeholder|alt) = (?!`\$\{title\} · )(?!\"Sign in)"), others)


def test_the_page_has_no_script_style_or_handler_of_its_own() -> None:
    assert not wrong(re.compile(r"<style|\bstyle=|\son[a-z]+=|<script(?![^>]*\bsrc=)", re.IGNORECASE), PAGES)


def test_no_other_site_is_named() -> None:
    """But as an example in an empty field: an address of a private network, or a name that is nobody's."""
    found = {(name, address) for name, text in FILES.items() for address in ADDRESS.findall(text)}
    assert not {(name, address) for name, address in found if address != SVG_SPACE and not is_private(address)}


def is_private(address: str) -> bool:
    host = urlsplit(address).hostname or ""
    if host.endswith(".example"):  # RFC 2606: nobody's
        return True
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return False


def test_all_of_it_stays_small() -> None:
    assert all(name.endswith(SERVED) for name in FILES), "only what is served lies in web/"
    assert sum(len(text.splitlines()) for text in FILES.values()) < MAX_LINES
    assert not [f"{n}: {len(line)}" for n, text in CODE.items() for line in text.splitlines() if len(line) > LINE]


def test_the_first_view_is_drawn_after_less_than_100_kb() -> None:
    """The page, its styles and icon, the frame, and the view with the most code, each file once."""
    start = set(re.findall(r"/web/([\w./-]+)", FILES["index.html"]))
    views = [name for name in CODE if name.startswith("views/")]
    assert views and {"app.js", "style.css", "tokens.css"} <= start
    for view in views:
        loaded = modules_of({*start, view})
        assert sum(len(FILES[name].encode()) for name in loaded | {"index.html"}) < FIRST_PAINT_BYTES, view


def modules_of(names: set[str]) -> set[str]:
    """These files and all that they import."""
    found: set[str] = set()
    while names:
        name = names.pop()
        found.add(name)
        folder = (WEB / name).parent
        for path in re.findall(r"from \"(\.[^\"]+)\"", FILES[name]):
            other = (folder / path).resolve().relative_to(WEB).as_posix()
            assert other in FILES, f"{name} imports {path}"
            names |= {other} - found
    return found


def test_each_file_begins_with_what_it_is_for() -> None:
    assert not [name for name, text in CODE.items() if not text.startswith("// ")]
    assert not [name for name, text in FILES.items() if name.endswith(".css") and not text.startswith("/* ")]


def test_every_view_stands_in_the_frames_list() -> None:
    listed = set(re.findall(r"^  \[\"(\w+)\", \"", FILES["app.js"], re.MULTILINE))
    assert {name.removeprefix("views/").removesuffix(".js") for name in CODE if name.startswith("views/")} <= listed
