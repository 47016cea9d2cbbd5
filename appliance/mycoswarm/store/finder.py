"""The search server that the owner registered: one SearXNG, or none.

Its address is the owner's matter: it stands in no error here, no log and no ledger.
"""

import threading
from dataclasses import dataclass

from mycoswarm.base.errors import InputError, NotFoundError
from mycoswarm.store.database import Store
from mycoswarm.store.endpoint import normal_url


@dataclass(frozen=True, slots=True)
class SearchServer:
    """`url` is what comes before `/search`, in its normal form. `set_at`: seconds since 1970."""

    url: str
    set_at: float
    set_by: str


class Finder:
    """The registration of one node, held in memory. Blocking where it writes; thread-safe."""

    def __init__(self, store: Store) -> None:
        """Read it.

        Raises:
            StorageError: it could not be read.
        """
        self._store = store
        self._changing = threading.Lock()
        found = store.read("SELECT url, set_at, set_by FROM search")
        self._known = next((SearchServer(str(url), float(at), str(by)) for url, at, by in found), None)

    def server(self) -> SearchServer | None:
        """What is registered now."""
        return self._known

    def set(self, url: str, *, by: str, now: float) -> SearchServer:
        """Register a server, in place of one that was there.

        Raises:
            InputError: a bad address.
            StorageError: it could not be written.
        """
        try:
            server = SearchServer(normal_url(url), now, by)
        except InputError as error:
            why = error.message.partition(": ")[2]
            hint = "Write it like http://192.168.1.5:8080"
            raise InputError(f"this is no address of a search server: {why}", hint=hint, code="bad_url") from error
        with self._changing:
            self._store.write(
                "INSERT OR REPLACE INTO search (id, url, set_at, set_by) VALUES (1, ?, ?, ?)", (server.url, now, by)
            )
            self._known = server
        return server

    def unset(self) -> None:
        """Forget it.

        Raises:
            NotFoundError: none is registered.
            StorageError: that could not be written.
        """
        with self._changing:
            if self._known is None:
                raise NotFoundError(
                    "no search server is registered", hint="`mycoswarm-node search set URL` registers one."
                )
            self._store.write("DELETE FROM search")
            self._known = None
