"""The owner's routes for folders of documents and for what runs have remembered."""

import asyncio
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mycoswarm.agents.recollection import USUAL, place_of
from mycoswarm.api.body import Given, json_route, maybe_text, most, only, read_body, text, texts
from mycoswarm.api.visitor import envelope_of
from mycoswarm.base.errors import InputError
from mycoswarm.chat.job import Asker
from mycoswarm.store.apikey import Key
from mycoswarm.store.holding import NoteRow
from mycoswarm.store.index import MAX_HITS, Hit


class Shelves(Protocol):
    """Folders; agents/librarian.py."""

    async def add(self, folder: str, name: str | None, labels: tuple[str, ...]) -> dict[str, Any]:
        """Take one in; InputError, BusyError."""

    async def folders(self) -> list[dict[str, Any]]:
        """All of them."""

    async def show(self, name: str) -> dict[str, Any]:
        """One with its files; NotFoundError."""

    async def refresh(self, name: str | None) -> list[str]:
        """Have one or all read anew; NotFoundError."""

    async def remove(self, name: str) -> None:
        """Forget one; NotFoundError."""


class Search(Protocol):
    """Finds passages; agents/recollection.py."""

    async def search(self, query: str, most: int, asker: Asker) -> list[Hit]:
        """The best passages."""


class Notes(Protocol):
    """What runs remembered; store/holding.py. Blocking."""

    def notes(self) -> tuple[NoteRow, ...]:
        """All notes."""

    def forget(self, note_id: str) -> None:
        """Forget one; NotFoundError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LibraryServices:
    """What the routes need. `admit` counts a search against its key's limits; BusyError where one is reached."""

    shelves: Shelves
    search: Search
    notes: Notes
    admit: Callable[[Key | None], None]


def library_routes(services: LibraryServices) -> list[Route]:
    """Build the routes under `/api/library` and `/api/notes`."""
    shelves, kept = services.shelves, services.notes

    async def folders(given: Given, by: str) -> Any:
        return {"folders": await shelves.folders()}

    async def add(given: Given, by: str) -> Any:
        only(given, "folder", "name", "labels")
        return await shelves.add(text(given, "folder"), maybe_text(given, "name"), texts(given, "labels"))

    async def show(given: Given, by: str) -> Any:
        return await shelves.show(text(given, "name"))

    async def refresh(given: Given, by: str) -> Any:
        only(given, "name")
        return {"names": await shelves.refresh(maybe_text(given, "name"))}

    async def remove(given: Given, by: str) -> Any:
        await shelves.remove(text(given, "name"))
        return {"name": given["name"]}

    async def find(request: Request) -> Response:
        """The query may be embedded, which is a request of whoever asks, with their labels."""
        given = await read_body(request)
        only(given, "query", "most")
        envelope = envelope_of(request, "")
        if envelope.route:
            raise InputError("a search goes as the rules say, and takes no X-Mycoswarm-Route")
        query, limit = text(given, "query"), most(given, "most", MAX_HITS) or USUAL
        services.admit(request.scope["state"]["key"])
        hits = await services.search.search(query, limit, envelope.asker)
        return JSONResponse({"hits": [_hit(one) for one in hits]})

    async def notes(given: Given, by: str) -> Any:
        found = await asyncio.to_thread(kept.notes)
        return {"notes": [asdict(one) | {"labels": sorted(one.labels)} for one in found]}

    async def forget(given: Given, by: str) -> Any:
        await asyncio.to_thread(kept.forget, text(given, "id"))
        return {"id": given["id"]}

    return [
        json_route("library", "GET", folders),
        json_route("library", "POST", add),
        Route("/api/library/search", find, methods=["POST"]),
        json_route("library/refresh", "POST", refresh),
        json_route("library/{name}", "GET", show),
        json_route("library/{name}", "DELETE", remove),
        json_route("library/{name}/refresh", "POST", refresh),
        json_route("notes", "GET", notes),
        json_route("notes/{id}", "DELETE", forget),
    ]


def _hit(one: Hit) -> dict[str, Any]:
    return asdict(one) | {"labels": sorted(one.labels), "place": place_of(one)}
