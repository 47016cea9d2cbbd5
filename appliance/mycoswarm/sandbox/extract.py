"""What was brought in from the web as text for a model. Works on strangers' bytes, so it runs in the tool's process."""

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

import msgspec

from mycoswarm.base.errors import EndpointError, InputError, UnsupportedError
from mycoswarm.sandbox.charset import decoded, seen
from mycoswarm.sandbox.haul import Haul
from mycoswarm.sandbox.leaflet import pdf_pages
from mycoswarm.sandbox.markup import readable

MAX_PART = 20_000  # characters of a page that one call gives; a model of 8,000 tokens can hold no more
MAX_HITS = 10
MAX_TITLE, MAX_ADDRESS, MAX_SNIPPET = 200, 500, 500  # characters of each hit

_HTML = frozenset({"text/html", "application/xhtml+xml"})
_TEXT = re.compile(r"text/.*|application/(.*\+)?(json|xml|yaml|toml)|application/(ld|nd)?json|application/javascript")
_CHARSET = re.compile(r";\s*charset\s*=\s*[\"']?([^\s;\"']{1,40})", re.IGNORECASE)
_LOOKS_LIKE_HTML = re.compile(rb"\s*(?:\xef\xbb\xbf)?\s*<(?:!doctype html|html|head|body|!--)", re.IGNORECASE)
_MARK = re.compile(r"\[#(\d{1,3})\]")


@dataclass(frozen=True, slots=True)
class _Content:
    text: str
    title: str = ""
    links: tuple[str, ...] = ()


class _Hit(msgspec.Struct, frozen=True):
    url: str | None = None
    title: str | None = None
    content: str | None = None


class _Hits(msgspec.Struct, frozen=True):
    results: list[_Hit]


_decode = msgspec.json.Decoder(_Hits).decode


def page_text(haul: Haul, part: int) -> str:
    """A part of a page, counted from 1, under its address and title, with the links that stand in it.

    Raises:
        EndpointError: the server says that there is no such page, or that it gives none.
        UnsupportedError: it is no text, or locked.
        InputError: it cannot be read, or has not so many parts.
    """
    if not 200 <= haul.status < 300:
        raise EndpointError(f"{_host(haul)} answers with status {haul.status}", code="page_status")
    content = _content(haul)
    parts = max(1, -(-len(content.text) // MAX_PART))
    if part > parts:
        raise InputError(f"there is no part {part}: the page has {parts}", code="bad_arguments")
    shown = content.text[(part - 1) * MAX_PART : part * MAX_PART]
    blocks = [f"Address: {haul.address}" + (f"\nTitle: {content.title}" if content.title else ""), shown or "[no text]"]
    numbers = sorted({int(found) for found in _MARK.findall(shown)})
    if listed := [f"[#{each}] {content.links[each - 1]}" for each in numbers if 0 < each <= len(content.links)]:
        blocks.append("Links:\n" + "\n".join(listed))
    if parts > 1:
        blocks.append(f"[part {part} of {parts}" + (f"; part {part + 1} goes on]" if part < parts else "]"))
    if haul.is_cut:
        blocks.append(f"[only the first {len(haul.body) >> 20} MiB were read; there was more]")
    return "\n\n".join(blocks)


def hits_text(haul: Haul) -> str:
    """What a SearXNG found.

    Raises:
        EndpointError: it gives no JSON, or something else.
    """
    if haul.status == 403:
        raise EndpointError(
            "the search server gives no JSON (status 403): its settings.yml must list json under search, formats",
            code="search_no_json",
        )
    if haul.status != 200:
        raise EndpointError(f"the search server answers with status {haul.status}", code="search_failed")
    try:
        hits = _decode(haul.body).results
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise EndpointError("the search server answers what is no list of SearXNG's", code="search_failed") from exc
    found = [hit for hit in hits if (hit.url or "").startswith(("http://", "https://"))]
    blocks = [
        "\n   ".join(
            line
            for line in (
                f"{number}. {_line(hit.title or hit.url, MAX_TITLE)}",
                _line(hit.url, MAX_ADDRESS),
                _line(hit.content, MAX_SNIPPET),
            )
            if line
        )
        for number, hit in enumerate(found[:MAX_HITS], 1)
    ]
    return "\n\n".join(blocks) or "[nothing was found]"


def _content(haul: Haul) -> _Content:
    kind, body = haul.kind.partition(";")[0].strip().lower(), haul.body
    charset = found[1] if (found := _CHARSET.search(haul.kind)) else ""
    if b"%PDF-" in body[:1024] and kind in ("application/pdf", "application/octet-stream", ""):
        kind = "application/pdf"
    elif kind in ("", "application/octet-stream") and b"\0" not in body[:4096]:
        kind = "text/html" if _LOOKS_LIKE_HTML.match(body) else "text/plain"
    if kind in _HTML:
        page = readable(decoded(body, charset, is_markup=True, is_cut=haul.is_cut), haul.address)
        return _Content(page.text, page.title, page.links)
    if kind == "application/pdf":
        pages = enumerate(pdf_pages(body), 1)
        return _Content("\n\n".join(f"[page {number}]\n{text}" for number, text in pages))
    if _TEXT.fullmatch(kind):
        return _Content(seen(decoded(body, charset, is_cut=haul.is_cut)))
    shown = _line(kind, 80) or "of no kind that is said"
    raise UnsupportedError(f"what {_host(haul)} gives is {shown}, which is no text", code="not_text")


def _host(haul: Haul) -> str:
    return urlsplit(haul.address).hostname or "the server"


def _line(text: str | None, most: int) -> str:
    """A stranger's text on one short line."""
    plain = " ".join(seen((text or "")[: 4 * most]).split())
    return plain if len(plain) <= most else plain[:most] + "…"
