"""The models of a swarm as their owner handles them: listed, put on this node's shelf, taken off it."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

from mycoswarm.agents.exam import VERSION
from mycoswarm.catalog.arrival import FOLDER_NAME, Slip, discard, unfinished
from mycoswarm.catalog.facts import ModelFacts
from mycoswarm.daemon.home import Home

TELL_S = 0.25  # between two words on how far the adding of a file is

Models = Callable[[], list[tuple[ModelFacts, tuple[str, ...]]]]


class Stock:
    """`models` gives what the swarm holds, with the names of the holders; `changed` lets others know of this shelf."""

    def __init__(self, home: Home, *, models: Models, changed: Callable[[], Awaitable[object]]) -> None:
        self._home, self._models, self._changed = home, models, changed
        self._incoming = home.shelf.shelf.folder / FOLDER_NAME

    async def show(self) -> dict[str, Any]:
        """Every model of the swarm and of this shelf (`is_here`), with its certificate of the present exam; and pulls
        that have not come to their end.

        Raises:
            StorageError: the certificates or the shelf could not be read.
        """
        held = {facts.digest: (facts, names) for facts, names in self._models()}
        for facts in self._home.shelf.facts():
            held.setdefault(facts.digest, (facts, (self._home.identity.name,)))
        own = {model.facts.digest: model.is_built_in for model in self._home.shelf.models()}
        kept = await asyncio.to_thread(self._home.diplomas.all)
        shown = []
        for facts, names in held.values():
            found = kept.get(facts.digest)
            certificate = found.shown() if found is not None and found.version == VERSION else None
            here = {"is_here": facts.digest in own, "is_built_in": own.get(facts.digest, False)}
            shown.append({**_shown(facts, names), **here, "certificate": certificate})
        begun = await asyncio.to_thread(unfinished, self._incoming)
        return {"models": shown, "unfinished": [_begun(*one) for one in begun]}

    async def add(self, path: str, name: str | None) -> AsyncGenerator[dict[str, Any], None]:
        """Put a file on the shelf, telling how far it is: `{done_bytes, total_bytes}` ..., last `{model}`.

        Raises:
            ModelFileError: no sound model file.
            InputError: the name cannot be used or is taken, or the model is already there.
            StorageError: the disk is full, or a file cannot be read or written.
        """
        shelf = self._home.shelf
        latest: dict[str, int] = {}

        def watch(done: int, total: int) -> None:
            latest.update(done_bytes=done, total_bytes=total)

        work = asyncio.create_task(asyncio.to_thread(shelf.shelf.add, Path(path), name, watch))
        try:
            while not work.done():
                await asyncio.wait({work}, timeout=TELL_S)
                if latest:
                    yield dict(latest)
            model = work.result()
        finally:
            await asyncio.gather(work, return_exceptions=True)
        await self._turned_over()
        yield {"model": _shown(msgspec.structs.replace(model.facts, name=model.name), (self._home.identity.name,))}

    async def remove(self, name: str) -> dict[str, Any]:
        """Take a model off the shelf, and its pieces out of the depot; or drop what has come of one that is not there.

        Raises:
            NotFoundError: there is none of that name.
            BusyError: it is being pulled now.
            InputError: it is the built-in one.
            StorageError: it cannot be removed.
        """
        shelf = self._home.shelf
        held = await asyncio.to_thread(shelf.shelf.list)  # find would refuse a file that has changed
        if all(model.name != name for model in held) and await asyncio.to_thread(discard, self._incoming, name):
            return {"name": name}
        await asyncio.to_thread(shelf.shelf.remove, name)
        for model in held:
            if model.name == name:
                await asyncio.to_thread(self._home.pieces.remove, model.facts.digest)
        await self._turned_over()
        return {"name": name}

    async def _turned_over(self) -> None:
        """Let what the shelf holds now count at once."""
        self._home.shelf.refresh()
        await self._changed()


def _begun(name: str, slip: Slip, done_bytes: int) -> dict[str, Any]:
    return {"name": name, "source": slip.source, "done_bytes": done_bytes, "total_bytes": slip.total_bytes}


def _shown(facts: ModelFacts, holders: tuple[str, ...]) -> dict[str, Any]:
    return {
        "name": facts.name,
        "digest": facts.digest,
        "architecture": facts.architecture,
        "quantisation": facts.quantisation,
        "parameters": facts.parameters,
        "file_bytes": facts.file_bytes,
        "layers": facts.n_layer,
        "context_tokens": facts.n_ctx_train,
        "splittable": facts.splittable,
        "split_reason": facts.split_reason,
        "pooling": facts.pooling,
        "held_by": list(holders),
    }
