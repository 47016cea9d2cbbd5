"""Documents made into passages by the child's own code, and through the real child in its jail."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from leaflets import pdf
from mycoswarm.base.errors import InputError
from mycoswarm.sandbox.extraction import (
    ANSWER,
    MAX_CHARACTERS,
    MAX_TOGETHER,
    Extract,
    Extracts,
    Kind,
    Order,
    extract,
)
from mycoswarm.sandbox.jail import Errand, Jail
from mycoswarm.sandbox.lector import MAX_BATCH, MAX_BATCH_BYTES, Document, Reader, batches
from mycoswarm.sandbox.level import SandboxLevel
from mycoswarm.sandbox.passage import MOST, Passage
from mycoswarm.sandbox.runner import Ended
from mycoswarm.sandbox.workspace import Workspaces
from sandbox.conftest import find

HTML = b"<title>The &amp; cellar</title><nav>menu</nav><h1>Wine</h1><p>Red <b>wine</b>.</p><script>x()</script>"


def made(folder: Path, *documents: tuple[Kind, bytes]) -> tuple[Extract, ...]:
    for number, (_, data) in enumerate(documents):
        (folder / str(number)).write_bytes(data)
    extract(folder, msgspec.json.encode(Order(tuple(kind for kind, _ in documents))).decode())
    return msgspec.json.decode((folder / ANSWER).read_bytes(), type=Extracts).documents


def test_each_kind_gives_passages_with_their_places(tmp_path: Path) -> None:
    documents: tuple[tuple[Kind, bytes], ...] = (
        ("text", "\ufeffa\nß".encode()),
        ("text", "ä".encode("utf-16")),
        ("text", b"caf\xe9 noir"),
        ("markdown", b"# H\n\nx"),
        ("html", HTML),
        ("pdf", pdf("first page", "", "third page")),
    )
    text, wide, western, markdown, html, file = made(tmp_path, *documents)
    assert text.passages == (Passage(text="a\nß", first_line=1, last_line=2),)
    assert wide.passages[0].text == "ä" and western.passages[0].text == "café noir"
    assert markdown.passages == (Passage(text="# H\n\nx", heading="H", first_line=1, last_line=3),)
    assert html.passages == (Passage(text="# Wine\n\nRed wine.", heading="The & cellar > Wine"),)
    assert [(one.text, one.page, one.first_line) for one in file.passages] == [
        ("first page", 1, None),
        ("third page", 3, None),
    ]
    assert not any(one.fault for one in (text, wide, western, markdown, html, file))


@pytest.mark.parametrize(
    ("kind", "data", "why"),
    [
        ("text", b"a\0b", "no text"),
        ("text", b" \n\n", "holds no text"),
        ("pdf", b"no pdf", "cannot be read"),
        ("pdf", b"%PDF-1.4\n" + b"<" * 500, "cannot be read"),
        ("html", b"<script>only</script>", "holds no text"),
    ],
)
def test_what_is_no_document_says_why_and_costs_no_other(tmp_path: Path, kind: Kind, data: bytes, why: str) -> None:
    broken, sound = made(tmp_path, (kind, data), ("text", b"sound"))
    assert why in broken.fault and not broken.passages and sound.passages[0].text == "sound"


@pytest.mark.slow
def test_what_is_too_long_is_said(tmp_path: Path) -> None:
    long = b"word " * (MAX_CHARACTERS // 4)
    (one,) = made(tmp_path, ("text", long))
    held = sum(len(passage.text) for passage in one.passages)
    assert "only its beginning" in one.fault and MAX_CHARACTERS * 0.99 < held <= MAX_CHARACTERS
    with pytest.raises(InputError, match="together"):
        made(tmp_path, *[("text", long)] * (MAX_TOGETHER // MAX_CHARACTERS + 1))


def test_batches_hold_all_in_order_and_keep_their_bounds() -> None:
    for sizes in ([], [1], [1] * 100, [MAX_BATCH_BYTES] * 3, [MAX_BATCH_BYTES // 3] * 10, [0, MAX_BATCH_BYTES * 2, 5]):
        found = batches(sizes)
        assert [number for batch in found for number in batch] == list(range(len(sizes)))
        assert all(0 < len(b) <= MAX_BATCH for b in found)
        assert all(len(b) == 1 or sum(sizes[n] for n in b) <= MAX_BATCH_BYTES for b in found)


class Canned(Jail):
    """A jail in which the child does what `act` says: a document may have made anything of it."""

    def __init__(self, act: Callable[[Path, Order], Awaitable[Ended]]) -> None:
        self._act, self.orders = act, list[Order]()

    async def run(self, errand: Errand, bounds: object = None) -> Ended:
        order = msgspec.json.decode(errand.arguments, type=Order)
        self.orders.append(order)
        return await self._act(errand.workspace, order)


def read(jail: Jail, folder: Path, *documents: Document) -> list[Extract]:
    async def find() -> Jail:
        return jail

    return asyncio.run(Reader(find, Workspaces(folder / "workspaces")).read(documents))


def test_a_document_that_ends_its_reader_is_found_and_costs_no_other(tmp_path: Path) -> None:
    async def act(workspace: Path, order: Order) -> Ended:
        held = [(workspace / str(n)).read_bytes() for n in range(len(order.kinds))]
        if b"bomb" in held:
            return Ended("[stopped: its processes took 2000 MiB of memory]", False, "too_much")
        extract(workspace, msgspec.json.encode(order).decode())
        return Ended("", True)

    jail = Canned(act)
    documents = [Document("text", data) for data in (b"a", b"b", b"bomb", b"c", b"d")]
    found = read(jail, tmp_path, *documents)
    assert [one.passages[0].text if one.passages else one.fault for one in found] == [
        "a",
        "b",
        "it breaks its reader",
        "c",
        "d",
    ]
    assert list((tmp_path / "workspaces").iterdir()) == []


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"{}",
        b'{"documents": []}',
        b'{"documents": [{"passages": [{"text": ""}]}]}',
        b'{"documents": [{"passages": [{"text": "\\u001b[2J"}]}]}',
        b'{"documents": [{"passages": [{"text": "x", "heading": "\\u0007"}]}]}',
        b'{"documents": [{"passages": [{"text": "x", "page": -1}]}]}',
        b'{"documents": [{"passages": [{"text": "x", "path": "/etc"}]}]}',
        b'{"documents": [{"passages": [{"text": "' + b"x" * (MOST + 1) + b'"}]}]}',
        b'{"documents": [{"fault": "\\u009b"}]}',
        b"[" * 100_000,
    ],
    ids=range(11),
)
def test_a_child_that_answers_nonsense_gives_nothing(tmp_path: Path, answer: bytes) -> None:
    async def act(workspace: Path, order: Order) -> Ended:
        (workspace / ANSWER).write_bytes(answer)
        return Ended("", True)

    (found,) = read(Canned(act), tmp_path, Document("text", b"a"))
    assert found == Extract(fault="it breaks its reader")


def test_a_child_s_answer_is_read_through_no_link_and_from_no_pipe(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(msgspec.json.encode(Extracts((Extract((Passage(text="secret"),)),))))

    async def link(workspace: Path, order: Order) -> Ended:
        (workspace / ANSWER).symlink_to(tmp_path / "secret")
        return Ended("", True)

    async def folder(workspace: Path, order: Order) -> Ended:
        (workspace / ANSWER).mkdir()
        return Ended("", True)

    for act in (link, folder):
        assert not read(Canned(act), tmp_path, Document("text", b"a"))[0].passages


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bubblewrap", "landlock"])
def test_the_real_child_reads_all_kinds_shut_in(kind: str, tmp_path: Path) -> None:
    level = find(kind)
    if level.name != kind:
        pytest.skip(f"this machine has not {kind}: {level.why}")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    jail = Jail(level, folder=scratch, hidden=(tmp_path,))
    documents = (
        Document("markdown", b"# H\n\nx"),
        Document("html", HTML),
        Document("pdf", pdf("first", "second")),
        Document("pdf", b"broken"),
    )
    found = read(jail, tmp_path, *documents)
    assert [len(one.passages) for one in found] == [1, 1, 2, 0] and found[3].fault
    assert found[2].passages[1].page == 2
    assert json.dumps([one.fault for one in found[:3]]) == '["", "", ""]'


@pytest.mark.slow
def test_the_child_reads_where_there_is_no_sandbox_too(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    jail = Jail(SandboxLevel("limits", None, False, (), (), "none"), folder=scratch)
    (found,) = read(jail, tmp_path, Document("text", b"words"))
    assert found.passages[0].text == "words"
