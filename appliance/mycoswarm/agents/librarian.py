"""The owner's folders of documents: taken in, read anew each hour, made into passages and vectors, and let go.

Reading and embedding are one piece of work after the other, in the background. What a reading found is written as one
transaction, so that a daemon which is killed leaves the old or the new. Vectors follow batch by batch: a passage that
has none yet is found by its words.
"""

import asyncio
import hashlib
import logging
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mycoswarm.agents.harvest import Harvest, checked_folder, fetch, kind_of, look
from mycoswarm.agents.likeness import Likeness
from mycoswarm.agents.persona import MAX_LABELS
from mycoswarm.base.errors import InputError, NotFoundError, StorageError, SwarmError
from mycoswarm.chat.failing import plainly
from mycoswarm.chat.job import Asker
from mycoswarm.routing.clause import is_label
from mycoswarm.sandbox.extraction import EDITION, Extract
from mycoswarm.sandbox.lector import Document, Reader, batches
from mycoswarm.sandbox.passage import Passage
from mycoswarm.store.holding import FileRow, FolderRow, Holdings, PassageRow, Turnover
from mycoswarm.store.index import MAX_VECTORS, Index

EVERY_S = 3600.0
READY = "ready"  # nothing is to be done with a folder
AT_ONCE = 32  # passages that one request embeds
MAX_PASSAGES = 25_000  # of one folder; about 20 million characters
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
_NO_NAME = re.compile(r"[^a-z0-9]+")

log = logging.getLogger(__name__)

Fresh = tuple[FileRow, tuple[PassageRow, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What a librarian works with. `wall_clock`: seconds since 1970."""

    holdings: Holdings
    reader: Reader
    likeness: Likeness
    data_folder: Path
    wall_clock: Callable[[], float]
    every_s: float = EVERY_S


class Librarian:
    """`async with Librarian(means)`: works while inside, until `close`."""

    def __init__(self, means: Means) -> None:
        self._with = means
        self._index = Index(means.holdings.store)
        self._waiting: dict[str, None] = {}  # in order
        self._doing: dict[str, str] = {}
        self._wake = asyncio.Event()
        self._working: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._working = asyncio.create_task(self._work(), name="library")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop working. What was read and not yet written is read the next time."""
        if self._working is not None:
            self._working.cancel()
            await asyncio.wait({self._working})
            self._working = None

    # What the owner asks

    async def add(self, folder: str, name: str | None, labels: Iterable[str]) -> dict[str, Any]:
        """Take a folder in; it is read as soon as what waits before it is done.

        Raises:
            InputError: it is none that can be taken, or name or labels cannot be used, or it is there already.
            BusyError: there are too many folders.
            StorageError: it could not be written.
        """
        held = frozenset(labels)
        if len(held) > MAX_LABELS or not all(map(is_label, held)):
            raise InputError(f"labels must be at most {MAX_LABELS} labels: small letters, digits, hyphens")
        root = await asyncio.to_thread(checked_folder, folder, self._with.data_folder)
        name = name or _NO_NAME.sub("-", root.name.lower()).strip("-")[:40]
        if not _NAME.fullmatch(name):
            raise InputError(
                f"{name[:80]!r} can be no name: 1 to 40 small letters, digits, hyphens", hint="Say --name NAME."
            )
        await asyncio.to_thread(self._with.holdings.add, name, str(root), held, self._with.wall_clock())
        self._put((name,))
        return await self.show(name)

    async def folders(self) -> list[dict[str, Any]]:
        """All folders as JSON values.

        Raises:
            StorageError: they could not be read.
        """
        states = self._states()
        rows = await asyncio.to_thread(self._with.holdings.folders)
        vectors = await asyncio.to_thread(self._index.vectors)
        files = [await asyncio.to_thread(self._with.holdings.files, row.id) for row in rows]
        return [
            self._shown(row, held, sum(vectors.get(row.name, {}).values())) | {"state": _state(row, states)}
            for row, held in zip(rows, files, strict=True)
        ]

    async def show(self, name: str) -> dict[str, Any]:
        """One folder with its files as JSON values.

        Raises:
            NotFoundError: there is none of that name.
            StorageError: it could not be read.
        """
        states = self._states()
        row = await asyncio.to_thread(self._with.holdings.folder, name)
        files = await asyncio.to_thread(self._with.holdings.files, row.id)
        vectors = (await asyncio.to_thread(self._index.vectors)).get(name, {})
        listed = [{"path": one.path, "passages": one.passages, "fault": one.fault or None} for one in files]
        shown = self._shown(row, files, sum(vectors.values()))
        return shown | {"state": _state(row, states), "listed": listed, "makers": vectors}

    async def refresh(self, name: str | None) -> list[str]:
        """Have a folder read anew, or all; gives their names.

        Raises:
            NotFoundError: there is none of that name.
            StorageError: they could not be read.
        """
        rows = await asyncio.to_thread(self._with.holdings.folders)
        if name is not None:
            rows = (await asyncio.to_thread(self._with.holdings.folder, name),)
        names = [row.name for row in rows]
        self._put(names)
        return names

    async def remove(self, name: str) -> None:
        """Forget a folder and all that was read of it. Its files are not touched.

        Raises:
            NotFoundError: there is none of that name.
            StorageError: it could not be written.
        """
        await asyncio.to_thread(self._with.holdings.remove, name)
        self._waiting.pop(name, None)

    # The work

    def _put(self, names: Iterable[str]) -> None:
        self._waiting.update(dict.fromkeys(names))
        self._wake.set()

    async def _work(self) -> None:
        now = self._with.wall_clock()
        with suppress(SwarmError, OSError):  # then the first look says it
            await self._with.reader.tidy()
            rows = await asyncio.to_thread(self._with.holdings.folders)
            due = [row for row in rows if row.read_at is None or not 0 <= now - row.read_at < self._with.every_s]
            self._put(row.name for row in due)
        while True:
            try:
                await self._look()
            except SwarmError as error:
                log.error("the library could not be read anew: %s", error.message)
            except Exception:
                log.exception("the library could not be read anew: a bug of ours")
            finally:
                self._doing.clear()
            self._wake.clear()
            try:
                async with asyncio.timeout(None if self._waiting else self._with.every_s):
                    if not self._waiting:
                        await self._wake.wait()
            except TimeoutError:
                with suppress(SwarmError):
                    await self.refresh(None)

    async def _look(self) -> None:
        """Read what waits, then embed what has no vector."""
        while self._waiting:
            name = next(iter(self._waiting))
            self._waiting.pop(name)
            self._doing[name] = "reading"
            with suppress(NotFoundError):  # it was removed meanwhile
                row = await asyncio.to_thread(self._with.holdings.folder, name)
                await self._read_or_say(row)
            self._doing[name] = "embedding"
        rows = await asyncio.to_thread(self._with.holdings.folders)
        notes = await asyncio.to_thread(self._with.holdings.notes)
        for labels in dict.fromkeys([*(row.labels for row in rows), *(note.labels for note in notes)]):
            why = await self._embed(labels)
            for row in rows:
                if row.labels == labels:
                    await asyncio.to_thread(self._with.holdings.explain, row.id, why)

    async def _read_or_say(self, row: FolderRow) -> None:
        """Read one folder anew; where that fails, all stays as it was read before, and the folder says why."""
        try:
            await self._read(row)
        except StorageError:
            raise  # of the library itself, most likely: there is no place to say it
        except SwarmError as error:
            log.warning("the folder %s could not be read anew: %s", row.name, error.message)
            told = Turnover(fault=f"{error.message}; what was read before is still found", others=row.others)
            await asyncio.to_thread(self._with.holdings.turn_over, row.id, told, self._with.wall_clock())

    async def _read(self, row: FolderRow) -> None:
        """Read one folder anew, and write what is new in it.

        Raises:
            InputError: the folder is not there any more.
            SwarmError: its documents cannot be read now.
        """
        known = {one.path: one for one in await asyncio.to_thread(self._with.holdings.files, row.id)}
        now = self._with.wall_clock()
        harvest = await asyncio.to_thread(look, Path(row.path), self._with.data_folder)
        fresh, kept = await self._gather(row, harvest, known)
        turnover = Turnover(
            gone=tuple(path for path in known if path not in harvest.found and path not in harvest.faults),
            kept=tuple(kept),
            fresh=tuple(fresh),
            fault=harvest.fault,
            others=dict(harvest.others),
        )
        await asyncio.to_thread(self._with.holdings.turn_over, row.id, turnover, now)

    async def _gather(
        self, row: FolderRow, harvest: Harvest, known: dict[str, FileRow]
    ) -> tuple[list[Fresh], list[FileRow]]:
        """What of the documents is new, and files that were touched and are the same."""
        changed = [one for path, one in harvest.found.items() if not _is_same(one, known.get(path))]
        fresh: list[Fresh] = [(one, ()) for one in harvest.faults.values() if known.get(one.path) != one]
        kept: list[FileRow] = []
        stays = set(harvest.found) - {one.path for one in changed}
        room = MAX_PASSAGES - sum(known[path].passages for path in stays)
        for batch in batches([one.bytes for one in changed]):
            self._doing[row.name] = f"reading, {batch.start} of {len(changed)} new documents"
            taken: list[tuple[FileRow, Document]] = []
            for one in changed[batch.start : batch.stop]:
                try:
                    now, data = await asyncio.to_thread(_taken, Path(row.path), one)
                except InputError as error:
                    fresh.append((replace(one, fault=error.message), ()))
                    continue
                before = known.get(one.path)
                if before is not None and (before.digest, before.edition) == (now.digest, now.edition):
                    kept.append(now)
                    room -= before.passages
                else:
                    kind = kind_of(one.path)
                    assert kind is not None  # `look` takes no others
                    taken.append((now, Document(kind, data)))
            read = await self._with.reader.read([document for _, document in taken])
            for (file, _), extract in zip(taken, read, strict=True):
                one_fresh = _fresh(file, extract, room)
                room -= len(one_fresh[1])
                fresh.append(one_fresh)
        return fresh, kept

    async def _embed(self, labels: frozenset[str]) -> str | None:
        """Give vectors to all passages under these labels; why some have none, where that is so."""
        asker, likeness = Asker(labels=labels), self._with.likeness
        try:
            while True:
                maker = await likeness.maker(asker, 0)
                rows = await asyncio.to_thread(self._index.bare, labels, maker, AT_ONCE)
                if not rows:
                    return None
                made = await likeness.vectors([text for _, text in rows], asker)
                if made.maker != maker:
                    return "the rules chose one model for embeddings and then another: let one rule send all to one"
                ids = (passage_id for passage_id, _ in rows)
                pairs = list(zip(ids, made.vectors, strict=True))
                if not await asyncio.to_thread(self._index.put, maker, pairs):
                    return f"the library has {MAX_VECTORS} vectors already"
        except SwarmError as error:
            words = plainly(error)
            log.info("passages stay without vectors: %s", words)
            return error.message if error.code == "no_embeddings" else words

    def _states(self) -> dict[str, str]:
        """What is being done with folders, of those with which something is. Asked before the disk is read: so who is
        told that one is ready is told all that was done."""
        return dict.fromkeys(self._waiting, "waiting") | self._doing

    def _shown(self, row: FolderRow, files: Iterable[FileRow], embedded: int) -> dict[str, Any]:
        held = list(files)
        passages = sum(one.passages for one in held)
        return {
            "name": row.name,
            "path": row.path,
            "labels": sorted(row.labels),
            "added_at": row.added_at,
            "read_at": row.read_at,
            "files": sum(one.passages > 0 for one in held),
            "unread": sum(bool(one.fault) for one in held),
            "passages": passages,
            "embedded": embedded,
            "unembedded": row.unembedded if embedded < passages else None,
            "fault": row.fault,
            "others": row.others,
        }


def _state(row: FolderRow, states: dict[str, str]) -> str:
    return states.get(row.name) or ("waiting" if row.read_at is None else READY)


def _is_same(now: FileRow, before: FileRow | None) -> bool:
    """Whether a file need not be opened: it is as it was when it was read."""
    return (
        before is not None
        and before.digest is not None
        and (before.bytes, before.mtime_ns, before.edition) == (now.bytes, now.mtime_ns, EDITION)
    )


def _taken(root: Path, one: FileRow) -> tuple[FileRow, bytes]:
    """A file as it is now, and its bytes. Blocks.

    Raises:
        InputError: it cannot be read.
    """
    data, held = fetch(root, one.path)
    digest = hashlib.sha256(data).hexdigest()
    row = FileRow(path=one.path, bytes=held.st_size, mtime_ns=held.st_mtime_ns, digest=digest, edition=EDITION)
    return row, data


def _fresh(row: FileRow, extract: Extract, room: int) -> Fresh:
    passages = tuple(map(_kept, extract.passages))
    if len(passages) > room:
        return replace(row, fault=f"the folder has {MAX_PASSAGES} passages already"), ()
    return replace(row, fault=extract.fault, passages=len(passages)), passages


def _kept(one: Passage) -> PassageRow:
    return PassageRow(
        text=one.text, heading=one.heading, page=one.page, first_line=one.first_line, last_line=one.last_line
    )
