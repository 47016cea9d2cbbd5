"""HTML as text that a person, or a model, can read: what a page says, without what only draws or steers it. Pure.

Covered: scripts, styles, navigation, parts that are marked as hidden, characters that are not seen, endless nesting.
Not covered: what a style sheet hides or a script would add; and parsing may take long for pages that are made to, so
whoever reads a stranger's page bounds the process.
"""

import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal
from urllib.parse import urljoin, urlsplit

from mycoswarm.sandbox.charset import seen

if TYPE_CHECKING:
    from bs4 import BeautifulSoup, Tag
    from bs4.element import PageElement

MAX_TITLE = 300
MAX_LINKS = 100
MAX_ADDRESS = 500  # characters; a link that is longer is text only
MAX_DEPTH = 8  # of lists and quotations that are shown as nested

_LEFT_OUT = re.compile(
    "script|style|noscript|template|nav|iframe|frame|object|embed|svg|canvas|audio|video|map|head|title|input|select"
    "|textarea|button|datalist|dialog|menu|meter|progress"
)
_LEFT_ROLES = frozenset({"navigation", "search", "menu", "menubar", "dialog", "alertdialog", "banner", "contentinfo"})
_HIDING = re.compile(
    r"(?:^|;)\s*(?:display\s*:\s*none|visibility\s*:\s*hidden|(?:opacity|font-size)\s*:\s*0(?:px|pt|r?em|%)?\s*(?:[;!]|$))",
    re.IGNORECASE,
)
_BLOCKS = re.compile(
    "address|article|aside|blockquote|body|caption|center|details|dd|div|dl|dt|fieldset|figcaption|figure|footer|form"
    "|h[1-6]|header|hgroup|hr|html|legend|li|main|ol|p|pre|section|summary|table|tbody|td|tfoot|th|thead|tr|ul"
)
_HEADINGS = {f"h{number}": "#" * number + " " for number in range(1, 7)}
_Kind = Literal["text", "item", "row"]


@dataclass(frozen=True, slots=True)
class Readable:
    """A page's text. Its paragraphs stand apart; headings begin with "#", entries of lists with "-" or a number; the
    cells of a table's row stand between "|". `links`: what "[#1]" in the text leads to, "[#2]" and so on."""

    title: str
    text: str
    links: tuple[str, ...] = ()


def readable(html: str, address: str | None = None) -> Readable:
    """Read a page. With its `address`, links to other pages are numbered in the text."""
    # 0.1 s, which nobody waits for who reads no HTML.
    from bs4 import BeautifulSoup  # noqa: PLC0415

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it guesses that a text might be no HTML; whoever calls this knows
        soup = BeautifulSoup(html, "html.parser")
    title = soup.title.get_text() if soup.title is not None else ""
    links = None if address is None else _Links(_base(soup, address))
    text = ""
    for root in _roots(soup):
        text = _Page(root, links).text()
        if text:
            break
    return Readable(" ".join(seen(title).split())[:MAX_TITLE], text, tuple(links.found) if links is not None else ())


def _roots(soup: "BeautifulSoup") -> "Iterator[Tag]":
    """Where a page's own text may be, the narrowest first."""
    yield from soup.find_all("main", limit=1)
    yield from soup.find_all(None, {"role": "main"}, limit=1)
    articles = soup.find_all("article", limit=2)
    if len(articles) == 1:
        yield articles[0]
    yield soup


def _base(soup: "BeautifulSoup", address: str) -> str:
    stated = soup.find("base", href=True)
    return _joined(address, str(stated["href"])) if stated is not None else address


def _joined(base: str, href: str) -> str:
    try:
        return urljoin(base, href.strip())
    except ValueError:
        return ""


class _Links:
    """The addresses that a text names, numbered in their order."""

    def __init__(self, base: str) -> None:
        self._base = base
        self.found: dict[str, int] = {}

    def number(self, href: str) -> int | None:
        """A link's number; None where it leads nowhere else, or there are too many."""
        if not href.strip() or href.lstrip().startswith("#") or len(href) > MAX_ADDRESS:
            return None
        where = "".join(seen(_joined(self._base, href)).split())
        try:
            is_page = urlsplit(where).scheme in ("http", "https")
        except ValueError:
            return None
        if not is_page or len(where) > MAX_ADDRESS:
            return None
        if where not in self.found and len(self.found) >= MAX_LINKS:
            return None
        return self.found.setdefault(where, len(self.found) + 1)


class _Page:
    """Walks over one element, without recursion: its depth is a stranger's."""

    def __init__(self, root: "Tag", links: _Links | None) -> None:
        self._root, self._links = root, links
        self._layouts = self._tables_of_layout()
        self._written: list[tuple[_Kind, str]] = []
        self._inline: list[str] = []
        self._lists: list[int | None] = []  # of each list around us: its next number, None where it has none
        self._tables: list[bool] = []  # of each table around us: whether its rows are rows
        self._quotes = self._pre = 0
        self._mark = ""  # that the next block begins with
        self._cells: list[str] | None = None  # of the row that we are in
        self._anchor = 0, 0  # how much there was, in line and in blocks, when a link began

    def text(self) -> str:
        """All of it."""
        from bs4.element import Tag  # noqa: PLC0415  # as in `readable`

        for is_end, node in _walk(self._root):
            if not isinstance(node, Tag):
                self._inline.append(str(node))
                continue
            is_block = _BLOCKS.fullmatch(node.name) is not None
            if is_end:
                self._leave(node.name, node, is_block)
            else:
                self._enter(node.name, node, is_block)
        self._flush()
        parts: list[str] = []
        before: _Kind = "text"
        for kind, text in self._written:
            if parts:
                parts.append("\n" if kind == before != "text" else "\n\n")
            parts.append(text)
            before = kind
        return "".join(parts)

    def _tables_of_layout(self) -> set[int]:
        """Tables that hold others only place things on the page; by id."""
        around: list[int] = []
        found = set()
        for is_end, node in _walk(self._root):
            if getattr(node, "name", None) == "table":
                if is_end:
                    around.pop()
                    continue
                found.update(around[-1:])
                around.append(id(node))
        return found

    def _enter(self, name: str, tag: "Tag", is_block: bool) -> None:
        if is_block and self._cells is None:
            self._flush()
        match name:
            case "br":
                self._inline.append("\n" if self._pre else "\0")
            case "img":
                self._inline.append(f" {_said(tag, 'alt')} ")
            case "a":
                self._anchor = len(self._inline), len(self._written)
            case "pre":
                self._pre += 1
            case "ul":
                self._lists.append(None)
            case "ol":
                start = _said(tag, "start")
                self._lists.append(int(start) if start.isascii() and start.isdigit() and len(start) < 7 else 1)
            case "li" | "dd":
                self._mark = self._item_mark() if name == "li" else "- "
            case "blockquote":
                self._quotes += 1
            case "table":
                self._tables.append(id(tag) not in self._layouts)
            case "tr" if self._tables[-1:] == [True]:
                self._end_row()
                self._cells = []
            case "td" | "th" if self._cells is not None:
                self._end_cell()
            case _ if name in _HEADINGS and self._cells is None:
                self._mark += _HEADINGS[name]
            case _ if is_block:
                self._inline.append(" ")

    def _leave(self, name: str, tag: "Tag", is_block: bool) -> None:
        match name:
            case "a":
                self._number(tag)
            case "td" | "th" if self._cells is not None:
                self._cells.append(self._line())
            case "tr" if self._cells is not None:
                self._end_row()
            case _ if is_block and self._cells is None:
                self._flush()
        match name:
            case "li" | "dd" | "h1" | "h2" | "h3" | "h4" | "h5" | "h6":
                self._mark = ""
            case "pre":
                self._pre -= 1
            case "ul" | "ol":
                self._lists.pop()
            case "blockquote":
                self._quotes -= 1
            case "table":
                self._end_row()
                self._tables.pop()

    def _number(self, tag: "Tag") -> None:
        """A link is over: its number follows on its text, which may have been a block of its own, or nothing."""
        if self._links is None:
            return
        inline, written = self._anchor
        has_line = any(part.strip() for part in self._inline[inline:])
        has_block = len(self._written) > written
        if (has_line or has_block) and (number := self._links.number(_said(tag, "href"))):
            if has_line:
                self._inline.append(f" [#{number}]")
            else:
                kind, text = self._written[-1]
                self._written[-1] = kind, f"{text} [#{number}]"
        self._anchor = len(self._inline), len(self._written)

    def _item_mark(self) -> str:
        number = self._lists[-1] if self._lists else None
        if number is None:
            return "- "
        self._lists[-1] = number + 1
        return f"{number}. "

    def _end_cell(self) -> None:
        """A cell begins, and the one before it may not have been closed."""
        if self._cells is not None and (text := self._line()):
            self._cells.append(text)

    def _end_row(self) -> None:
        self._end_cell()
        cells, self._cells = self._cells, None
        while cells and not cells[-1]:
            cells.pop()
        if cells:
            self._write("row", " | ".join(cells))

    def _line(self) -> str:
        """What stood in line, as one line."""
        text = " ".join(seen("".join(self._inline).replace("\0", " ")).split())
        self._inline.clear()
        return text

    def _flush(self) -> None:
        """A block is over: what stood in line becomes one."""
        if not self._inline:
            return
        raw = "".join(self._inline)
        self._inline.clear()
        if self._pre:
            lines = [line.rstrip() for line in seen(raw.replace("\0", "\n")).strip("\n").split("\n")]
        else:
            lines = [line for part in raw.split("\0") if (line := " ".join(seen(part).split()))]
        if any(lines):
            self._write("item" if self._lists else "text", "\n".join(lines))

    def _write(self, kind: _Kind, text: str) -> None:
        quoted, mark = "> " * min(self._quotes, MAX_DEPTH), self._mark
        depth = min(len(self._lists), MAX_DEPTH)
        first = quoted + "  " * (depth - bool(mark and depth)) + mark
        rest = quoted + " " * (len(first) - len(quoted))
        if mark.startswith("#"):
            rest = quoted
        self._mark = ""
        self._written.append((kind, first + text.replace("\n", "\n" + rest)))


def _walk(root: "Tag") -> "Iterator[tuple[bool, PageElement]]":
    """All that is shown of an element, in order: (False, what begins or stands there), (True, what ends)."""
    from bs4.element import NavigableString, PreformattedString, Tag  # noqa: PLC0415  # as above

    waiting: list[tuple[bool, PageElement]] = [(False, root)]
    while waiting:
        is_end, node = waiting.pop()
        if isinstance(node, Tag):
            if not is_end:
                if node is not root and _is_hidden(node):
                    continue
                waiting.append((True, node))
                waiting.extend((False, child) for child in reversed(node.contents))
            yield is_end, node
        elif isinstance(node, NavigableString) and not isinstance(node, PreformattedString):  # comments and their like
            yield False, node


def _is_hidden(tag: "Tag") -> bool:
    if _LEFT_OUT.fullmatch(tag.name) or tag.has_attr("hidden"):
        return True
    attributes = tag.attrs
    if not attributes:
        return False
    return (
        _said(tag, "aria-hidden").lower() == "true"
        or _said(tag, "role").lower() in _LEFT_ROLES
        or _HIDING.search(_said(tag, "style")) is not None
    )


def _said(tag: "Tag", name: str) -> str:
    value = tag.attrs.get(name)
    return value if isinstance(value, str) else " ".join(value or ())
