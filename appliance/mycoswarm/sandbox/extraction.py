"""Documents made into passages, in the limited child: the files "0", "1" ... of a folder, and one answer as a file.

Documents are hostile input, and PDF and HTML are read by libraries that are not ours. Covered: a document that breaks
its reader costs its batch, which is then read one by one, and at last itself; it can take no more memory, time or disk
than a tool, and reaches no network and no other file. Not covered: a document that says other things to a parser than
to an eye.
"""

import codecs
import contextlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, get_args

import msgspec
from msgspec.structs import replace

from mycoswarm.base.errors import InputError, SwarmError
from mycoswarm.sandbox.charset import decoded, seen
from mycoswarm.sandbox.leaflet import MAX_PAGES, pdf_pages
from mycoswarm.sandbox.markup import readable
from mycoswarm.sandbox.passage import MAX_HEADING, Passage, cut

EXTRACT = "extract"  # what the child is told to do; no tool, so no model can call it
ANSWER = "passages.json"
MAX_CHARACTERS = 2_000_000  # of one document; about a thousand pages
MAX_TOGETHER = 6_000_000  # of a batch: its answer must fit into a file that the child may write
MAX_PASSAGES = 20_000  # of one document
MAX_DOCUMENTS = 64

Kind = Literal["text", "markdown", "html", "pdf"]
SUFFIXES: Mapping[str, Kind] = {
    ".txt": "text",
    ".text": "text",
    ".rst": "text",
    ".org": "text",
    ".adoc": "text",
    ".md": "markdown",
    ".markdown": "markdown",
    ".html": "html",
    ".htm": "html",
    ".xhtml": "html",
    ".pdf": "pdf",
}
EDITION = 1  # of what is made of a document; documents that an older one made are read again

log = logging.getLogger(__name__)


class Order(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The kinds of the files, in the order of their numbers."""

    kinds: Annotated[tuple[Kind, ...], msgspec.Meta(max_length=MAX_DOCUMENTS)]


class Extract(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a document holds. `fault`: why there is nothing, or not all of it; empty where all is well."""

    passages: Annotated[tuple[Passage, ...], msgspec.Meta(max_length=MAX_PASSAGES)] = ()
    fault: Annotated[str, msgspec.Meta(max_length=200)] = ""


class Extracts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The child's answer."""

    documents: Annotated[tuple[Extract, ...], msgspec.Meta(max_length=MAX_DOCUMENTS)]


def kinds_of(arguments: str) -> Sequence[str]:
    """The kinds of documents in an `Order`."""
    return msgspec.json.decode(arguments, type=Order).kinds


def warm(kinds: Sequence[str]) -> None:
    """Import what reading these kinds needs, as long as this process may read it: Python may be installed where nobody
    but root may look, and where there is no sandbox the child becomes somebody else there."""
    for name in ("cp1252", "utf-16", "utf-16-le", "utf-16-be"):
        codecs.lookup(name)
    if "html" in kinds:
        readable("<p>")
    if "pdf" in kinds:
        with contextlib.suppress(InputError):
            pdf_pages(b"%PDF-")


def extract(folder: Path, arguments: str) -> str:
    """Do an `Order` in its folder, and write the `Extracts` there.

    Raises:
        InputError: the documents hold too much together; one by one they may be read.
    """
    order = msgspec.json.decode(arguments, type=Order)
    found, together = [], 0
    for number, kind in enumerate(order.kinds):
        one = _extract((folder / str(number)).read_bytes(), kind)
        together += sum(len(passage.text) for passage in one.passages)
        if together > MAX_TOGETHER:
            raise InputError(f"the documents hold more than {MAX_TOGETHER} characters together", code="too_much")
        found.append(one)
    (folder / ANSWER).write_bytes(msgspec.json.encode(Extracts(tuple(found))))
    return ""


def _extract(data: bytes, kind: Kind) -> Extract:
    try:
        passages, is_whole = _passages(data, kind)
    except SwarmError as error:
        return Extract(fault=error.message[:200])
    except Exception as exc:  # whatever a library says of a broken document: the others are read all the same
        log.warning("a document cannot be read", exc_info=exc)
        return Extract(fault=f"it is broken, or no {kind}: {type(exc).__name__}"[:200])
    if not passages:
        return Extract(fault="it holds no text")
    if not is_whole or len(passages) > MAX_PASSAGES:
        return Extract(tuple(passages[:MAX_PASSAGES]), "it is too long: only its beginning was read")
    return Extract(tuple(passages))


def _passages(data: bytes, kind: Kind) -> tuple[list[Passage], bool]:
    """The passages, and whether they are all.

    Raises:
        SwarmError: it is no document of that kind.
    """
    assert kind in get_args(Kind)
    if kind == "pdf":
        return _of_pages(data)
    text = decoded(data, is_markup=kind == "html")
    if "\0" in text:
        raise InputError("it is no text")
    title = ""
    if kind == "html":
        page = readable(text)
        title, text = " ".join(page.title.split())[:MAX_HEADING], page.text
    text = seen(text)
    found = cut(text[:MAX_CHARACTERS], is_markdown=kind != "text")  # a page's headings are marked as Markdown's
    if kind == "html":  # its lines are not those of the file
        found = [replace(one, heading=_under(title, one.heading), first_line=None, last_line=None) for one in found]
    return found, len(text) <= MAX_CHARACTERS


def _under(title: str, heading: str) -> str:
    return (heading if heading.startswith(title) else f"{title} > {heading}".removesuffix(" > "))[:MAX_HEADING]


def _of_pages(data: bytes) -> tuple[list[Passage], bool]:
    found: list[Passage] = []
    left, pages = MAX_CHARACTERS, pdf_pages(data)
    for number, text in enumerate(pages, 1):
        part = text[:left]
        left -= len(part)
        found += [replace(one, page=number, first_line=None, last_line=None) for one in cut(part)]
    return found, left > 0 and len(pages) < MAX_PAGES
