"""The library of the node that decides: documents and notes, joined with sandbox, chat and the owner's routes."""

import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from mycoswarm.agents.librarian import Librarian, Means
from mycoswarm.agents.likeness import Likeness
from mycoswarm.agents.recollection import Recollection
from mycoswarm.api.library import LibraryServices
from mycoswarm.chat.life import Chat
from mycoswarm.daemon.home import Home
from mycoswarm.daemon.outlook import Outlook
from mycoswarm.sandbox.lector import Reader
from mycoswarm.sandbox.workshop import Workshop
from mycoswarm.store.apikey import Key
from mycoswarm.store.holding import Holdings


@dataclass(frozen=True, slots=True)
class Annex:
    """Both halves: who keeps the folders, and who finds in them."""

    holdings: Holdings
    librarian: Librarian
    recollection: Recollection

    def services(self, admit: Callable[[Key | None], None]) -> LibraryServices:
        """What the owner's routes need."""
        return LibraryServices(shelves=self.librarian, search=self.recollection, notes=self.holdings, admit=admit)


@contextlib.asynccontextmanager
async def annex(home: Home, chat: Chat, outlook: Outlook, workshop: Workshop) -> AsyncIterator[Annex]:
    """Open the library, and work on it while inside.

    Raises:
        StorageError: it cannot be opened.
    """
    likeness = Likeness(
        chat,
        named=home.settings.library_embedding_model,
        models=lambda: [facts for facts, _ in outlook.models()],
        find=outlook.find,
        new_id=lambda: f"library-{secrets.token_hex(8)}",
    )
    holdings = Holdings(home.folder)
    try:
        means = Means(
            holdings=holdings,
            reader=Reader(workshop.jail, workshop.workspaces),
            likeness=likeness,
            data_folder=home.folder,
            wall_clock=time.time,
        )
        recollection = Recollection(holdings, likeness, new_id=lambda: secrets.token_hex(4), wall_clock=time.time)
        async with Librarian(means) as librarian:
            yield Annex(holdings, librarian, recollection)
    finally:
        holdings.close()
