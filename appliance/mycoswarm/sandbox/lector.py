"""Has the limited child read documents: the daemon's side of extraction.py. The daemon parses none of them itself."""

import asyncio
import logging
import os
import secrets
import stat
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from mycoswarm.base.errors import StorageError
from mycoswarm.sandbox.extraction import ANSWER, EXTRACT, MAX_DOCUMENTS, Extract, Extracts, Kind, Order
from mycoswarm.sandbox.jail import Errand, Jail
from mycoswarm.sandbox.passage import is_clean
from mycoswarm.sandbox.runner import Ended
from mycoswarm.sandbox.workspace import Workspaces

WITHIN_S = 120.0  # for a batch; a PDF of 500 pages takes some 20 s on a slow card
MAX_BATCH = 16  # documents: a child takes a third of a second to start
MAX_BATCH_BYTES = 64 << 20
COPIES = "library-"  # what the workspaces' ids begin with
MAX_ANSWER_BYTES = 64 << 20  # as large as a file that a child may write

log = logging.getLogger(__name__)
_answers = msgspec.json.Decoder(Extracts)


@dataclass(frozen=True, slots=True)
class Document:
    """One document's bytes, and how to read them."""

    kind: Kind
    data: bytes = field(repr=False)


class Reader:
    """Reads batches of documents, one child at a time for each call."""

    def __init__(self, jail: Callable[[], Awaitable[Jail]], workspaces: Workspaces) -> None:
        self._jail, self._workspaces = jail, workspaces

    async def tidy(self) -> None:
        """Remove the copies that a daemon which was killed has left. Before anything is read."""
        await asyncio.to_thread(self._workspaces.clear, COPIES)

    async def read(self, documents: Sequence[Document]) -> list[Extract]:
        """What each document holds. One that breaks its reader is said to be broken, and costs no other.

        Raises:
            SetupError: no child can be started.
            StorageError: there is no room for a copy.
            BusyError: there are too many workspaces.
        """
        if not documents:
            return []
        ended, found = await self._try(documents)
        if found is not None:
            return list(found)
        if len(documents) > 1:
            middle = len(documents) // 2
            return [*await self.read(documents[:middle]), *await self.read(documents[middle:])]
        log.info("a document ended its reader (%s)", ended.code)  # what that says of it may hold the document's words
        why = "it takes too long to read" if ended.code == "timeout" else "it breaks its reader"
        return [Extract(fault=why)]

    async def _try(self, documents: Sequence[Document]) -> tuple[Ended, tuple[Extract, ...] | None]:
        assert len(documents) <= MAX_DOCUMENTS  # as `batches` makes them
        jail, name = await self._jail(), f"{COPIES}{secrets.token_hex(8)}"
        workspace, user_id = await asyncio.to_thread(self._workspaces.open, name)
        try:
            await asyncio.to_thread(_lay_out, workspace, user_id, documents)
            order = msgspec.json.encode(Order(tuple(one.kind for one in documents))).decode()
            errand = Errand(tool=EXTRACT, arguments=order, workspace=workspace, within_s=WITHIN_S, user_id=user_id)
            ended = await jail.run(errand)
            return ended, await asyncio.to_thread(_collect, workspace, len(documents)) if ended.ok else None
        finally:
            await asyncio.to_thread(self._workspaces.release, name)


def batches(sizes: Sequence[int]) -> list[range]:
    """How to divide documents of these sizes in bytes: as few batches as their bounds allow, in order."""
    found, begin, held = [], 0, 0
    for number, size in enumerate(sizes):
        if number > begin and (number - begin == MAX_BATCH or held + size > MAX_BATCH_BYTES):
            found.append(range(begin, number))
            begin, held = number, 0
        held += size
    return [*found, range(begin, len(sizes))] if sizes else []


def _lay_out(workspace: Path, user_id: int | None, documents: Sequence[Document]) -> None:
    try:
        for number, one in enumerate(documents):
            path = workspace / str(number)
            path.write_bytes(one.data)
            if user_id is not None:
                os.chown(path, user_id, user_id)
    except OSError as exc:
        raise StorageError(f"a document cannot be copied for its reader: {exc.strerror}") from exc


def _collect(workspace: Path, count: int) -> tuple[Extract, ...] | None:
    """The child's answer; None where it is no sound one. It was written by whoever a document made of the child."""
    try:
        number = os.open(workspace / ANSWER, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(number, "rb") as file:
            held = os.fstat(number)
            if not stat.S_ISREG(held.st_mode) or held.st_size > MAX_ANSWER_BYTES:
                return None
            documents = _answers.decode(file.read(MAX_ANSWER_BYTES)).documents
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        log.info("a reader's answer cannot be used: %s", str(exc)[:200])
        return None
    texts = (text for one in documents for p in one.passages for text in (p.text, p.heading))
    is_sound = len(documents) == count and all(map(is_clean, texts)) and all(is_clean(one.fault) for one in documents)
    return documents if is_sound else None
