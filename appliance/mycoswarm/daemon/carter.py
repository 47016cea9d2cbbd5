"""Pulls: a model file fetched from where the owner says, checked, put on the shelf, and written into the ledger.

It ends when nobody listens any more. What has come stays, and the same pull goes on there.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any

from mycoswarm.base.errors import BusyError, InputError, ModelFileError, NotFoundError, SwarmError
from mycoswarm.catalog.arrival import FOLDER_NAME, Intake, Slip
from mycoswarm.catalog.shelf import Shelf, name_of
from mycoswarm.external.origin import Origin, read_source
from mycoswarm.external.pull import Found, Have, haul, may_follow_to
from mycoswarm.external.target import Passage
from mycoswarm.external.whereabouts import Spot
from mycoswarm.store.record import PULL

TELL_S = 0.25
BUSY_S = 60

Add = Callable[[str, str | None], AsyncGenerator[dict[str, Any], None]]
Note = Callable[[str, Mapping[str, Any], str | None], str]

log = logging.getLogger(__name__)


class Carter:
    """One pull at a time: they share one line and one disk. `add` puts a file on the shelf, as `Stock.add`. `note`
    writes a row into the ledger, and blocks. `may_follow`: see external/pull.py."""

    def __init__(
        self,
        shelf: Shelf,
        add: Add,
        *,
        hub: str,
        passage: Passage,
        note: Note,
        may_follow: Callable[[Spot], bool] = may_follow_to,
    ) -> None:
        self._shelf, self._add, self._hub = shelf, add, hub
        self._passage, self._note, self._may_follow = passage, note, may_follow
        self._is_pulling = False

    async def pull(self, source: str, name: str | None, by: str) -> AsyncGenerator[dict[str, Any], None]:
        """Fetch a model and put it on the shelf, telling how far it is: `{phase, done_bytes, total_bytes}` ..., last
        `{model, is_checked}`. Phases: fetching, checking. `is_checked`: its SHA-256 is the one that was promised.

        Raises:
            InputError: nothing to pull from, a name that cannot be used or is taken, or a model that is there already.
            BusyError: another pull runs.
            ModelFileError: what came is no sound model, or not what was promised; it is not kept.
            SwarmError: it could not be fetched (see `haul`) or written; what has come is kept.
        """
        origin = read_source(source, self._hub)
        chosen = name if name is not None else name_of(Path(origin.file))
        await asyncio.to_thread(self._shelf.check_new, chosen, None)
        if self._is_pulling:
            raise BusyError("another model is being pulled", retry_after_s=BUSY_S, hint="Wait for it, or stop it.")
        self._is_pulling = True
        row: dict[str, Any] = {"name": chosen, "source": origin.shown, "by": by, "outcome": None}
        intake = Intake(self._shelf.folder / FOLDER_NAME, chosen)
        try:
            async with aclosing(self._carry(origin, chosen, intake, row)) as events:
                async for event in events:
                    yield event
        except SwarmError as error:
            row["outcome"] = row["outcome"] or error.code
            raise
        except (GeneratorExit, asyncio.CancelledError):
            row["outcome"] = row["outcome"] or "stopped"
            raise
        finally:
            self._is_pulling = False
            await _whole(intake.close)
            await _whole(lambda: self._keep(row))

    async def _carry(
        self, origin: Origin, name: str, intake: Intake, row: dict[str, Any]
    ) -> AsyncGenerator[dict[str, Any], None]:
        try:
            await _whole(lambda: intake.open(origin.shown), intake.stop)
            if not intake.is_whole:
                async with aclosing(self._fetch(origin, name, intake, row)) as events:
                    async for event in events:
                        yield event
            await _whole(intake.finish)
            assert intake.slip is not None  # it is whole
            row |= {"sha256": intake.digest, "is_checked": intake.slip.sha256 is not None}
            async with aclosing(self._take_in(name, intake, row)) as events:
                async for event in events:
                    yield event
        except (ModelFileError, InputError) as error:
            if not isinstance(error, NotFoundError):  # else it may be there again tomorrow
                await _whole(intake.discard)
            raise

    async def _fetch(
        self, origin: Origin, name: str, intake: Intake, row: dict[str, Any]
    ) -> AsyncGenerator[dict[str, Any], None]:
        arriving = haul(origin, _have(intake), self._passage, may_follow=self._may_follow)
        async with aclosing(arriving):
            found = await anext(arriving)
            assert isinstance(found, Found)  # always the first
            slip = Slip(
                source=origin.shown,
                total_bytes=found.total_bytes,
                sha256=found.sha256,
                validator=found.validator,
            )
            row |= {
                "hosts": [{"host": host, "address": address} for host, address in found.hosts],
                "revision": found.revision,
                "total_bytes": found.total_bytes,
                "fetched_bytes": 0,
            }
            await asyncio.to_thread(self._shelf.check_new, name, found.sha256)  # it may be here under another name
            await _whole(lambda: intake.begin(slip, found.first))
            yield _progress("fetching", intake.count, found.total_bytes)
            told_s = float("-inf")
            async for data in arriving:
                assert isinstance(data, bytes)  # always after the first
                # Each as it comes: what the server broke off after is kept, too.
                await _whole(lambda data=data: intake.write(data))  # type: ignore[misc]  # a default binds it
                row["fetched_bytes"] += len(data)
                if intake.is_whole or time.monotonic() - told_s >= TELL_S:
                    told_s = time.monotonic()
                    yield _progress("fetching", intake.count, found.total_bytes)

    async def _take_in(self, name: str, intake: Intake, row: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """Have the shelf look at the file, in a child of its own, and take it."""
        model: dict[str, Any] = {}
        yield _progress("checking", 0, intake.count)
        try:
            async with aclosing(self._add(str(intake.path), name)) as events:
                async for event in events:
                    if "model" in event:
                        model = event["model"]
                    else:
                        yield _progress("checking", event["done_bytes"], event["total_bytes"])
        finally:  # the shelf's work goes to its end, whoever leaves
            held = await asyncio.to_thread(self._shelf.list)
            if any((one.name, one.facts.digest) == (name, intake.digest) for one in held):
                row["outcome"] = "taken"
                await _whole(intake.discard)
        yield {"model": model, "is_checked": row["is_checked"]}

    def _keep(self, row: Mapping[str, Any]) -> None:
        try:
            self._note(PULL, {**row, "outcome": row["outcome"] or "internal_error"}, None)
        except SwarmError as error:
            log.error("the ledger could not keep the pull of %s: %s", row["name"], error.message)


def _have(intake: Intake) -> Have:
    slip = intake.slip
    if slip is None:
        return Have()
    return Have(count=intake.count, total_bytes=slip.total_bytes, sha256=slip.sha256, validator=slip.validator)


def _progress(phase: str, done_bytes: int, total_bytes: int) -> dict[str, Any]:
    return {"phase": phase, "done_bytes": done_bytes, "total_bytes": total_bytes}


async def _whole(work: Callable[[], None], stop: Callable[[], None] | None = None) -> None:
    """Do it in a thread and wait for its end, also while being cancelled: no file is closed under who writes it."""
    doing = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        await asyncio.shield(doing)
    except asyncio.CancelledError:
        if stop is not None:
            stop()
        await asyncio.wait({doing})
        raise
