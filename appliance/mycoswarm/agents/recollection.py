"""The tools `recall` and `remember`, and the search behind them: by words and, where vectors are, by meaning.

What is found is data: each line of a passage stands behind a mark, so that no text can play another passage or its
place, and the whole is fenced like every result. Whoever is given a passage is given its labels with it.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping

from mycoswarm.agents.likeness import Likeness
from mycoswarm.agents.quotation import MAX_CHARACTERS
from mycoswarm.agents.toolbox import Errand, Finding
from mycoswarm.base.errors import SwarmError
from mycoswarm.chat.failing import plainly
from mycoswarm.chat.job import Asker
from mycoswarm.sandbox.argument import Arguments
from mycoswarm.sandbox.passage import clean
from mycoswarm.store.holding import Holdings, NoteRow
from mycoswarm.store.index import Hit, Index, fused

USUAL = 5  # passages
# How far nearer than the mean of all, in standard deviations, a passage must be to be found by meaning alone: something
# is always the nearest, and who is given a passage that has nothing to do with his question is given its labels, too.
STANDS_OUT = 2.0
IS_NEAR = 1.0  # where no words are found
NOTHING = "nothing was found"

log = logging.getLogger(__name__)


class Recollection:
    """Searches the library and the notes. `wall_clock`: seconds since 1970."""

    def __init__(
        self,
        holdings: Holdings,
        likeness: Likeness,
        *,
        new_id: Callable[[], str],
        wall_clock: Callable[[], float],
    ) -> None:
        self._holdings, self._index, self._likeness = holdings, Index(holdings.store), likeness
        self._new_id, self._clock = new_id, wall_clock

    def tools(self) -> Mapping[str, Callable[[Arguments, Errand], Awaitable[Finding]]]:
        """The coordinator's own tools, by name."""
        return {"recall": self.recall, "remember": self.remember}

    async def search(self, query: str, most: int, asker: Asker) -> list[Hit]:
        """The passages that fit a query best. Its vector, where there are any to hold against, is a request of this
        asker's: where the rules refuse it, words alone decide.

        Raises:
            StorageError: the library cannot be read.
        """
        orders = [await asyncio.to_thread(self._index.by_words, query)]
        if makers := await asyncio.to_thread(self._index.makers):
            try:
                made = await self._likeness.query(query, asker)
            except SwarmError as error:
                log.info("a query finds by words only: %s", plainly(error))
            else:
                if made.maker in makers and made.vectors[0]:
                    spread = STANDS_OUT if orders[0] else IS_NEAR
                    near = await asyncio.to_thread(self._index.by_meaning, made.maker, made.vectors[0], most, spread)
                    orders.append(near)
        return await asyncio.to_thread(self._index.hits, fused(*orders)[:most])

    async def recall(self, given: Arguments, errand: Errand) -> Finding:
        """The tool: passages with their places, and the labels of all that are shown.

        Raises:
            StorageError: the library cannot be read.
        """
        hits = await self.search(given["query"], given.get("most", USUAL), errand.asker)
        shown: list[str] = []
        labels: set[str] = set()
        left = MAX_CHARACTERS
        for number, hit in enumerate(hits, 1):
            text = _worded(number, hit)
            left -= len(text) + 2
            if left < 0:
                break  # one that would be cut in the middle
            shown.append(text)
            labels |= hit.labels
        return Finding("\n\n".join(shown) or NOTHING, frozenset(labels))

    async def remember(self, given: Arguments, errand: Errand) -> Finding:
        """The tool: keeps a note, with all labels of who asks.

        Raises:
            BusyError: too many are kept already.
            StorageError: it could not be written.
        """
        asker = errand.asker
        note = NoteRow(
            id=self._new_id(),
            text=clean(given["text"]),
            labels=asker.labels | asker.added,
            run_id=errand.run_id,
            key_name=asker.key_name,
            at=self._clock(),
        )
        await asyncio.to_thread(self._holdings.remember, note)
        return Finding(f"remembered as note {note.id}", note.labels)


def place_of(hit: Hit) -> str:
    """Where a passage stands, as people say it."""
    if hit.note_id is not None:
        return f"note {hit.note_id}, {time.strftime('%Y-%m-%d', time.gmtime(hit.at or 0))}"
    place = f"{hit.folder}/{hit.path}"
    if hit.page is not None:
        return f"{place}, page {hit.page}"
    if hit.first_line is None:
        return place
    if hit.first_line == hit.last_line:
        return f"{place}, line {hit.first_line}"
    return f"{place}, lines {hit.first_line}-{hit.last_line}"


def _worded(number: int, hit: Hit) -> str:
    heading = f" ({hit.heading})" if hit.heading else ""
    lines = "\n".join(f"> {line}" for line in hit.text.split("\n"))
    return f"[{number}] {place_of(hit)}{heading}\n{lines}"
