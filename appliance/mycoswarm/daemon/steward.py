"""What the owner asks of a node: found, let in, join, adopt, expel; nodes and keys. Answers are plain JSON values."""

import asyncio
import contextlib
import dataclasses
import logging
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self

from mycoswarm.api.matrix import qr_rows
from mycoswarm.api.owner import OwnerServices
from mycoswarm.base.egress import Opening
from mycoswarm.base.errors import InputError, NotFoundError, SwarmError
from mycoswarm.chat.life import Chat
from mycoswarm.daemon.carter import Carter, Note
from mycoswarm.daemon.home import Home
from mycoswarm.daemon.outlook import Outlook
from mycoswarm.daemon.portrait import portrait_of
from mycoswarm.daemon.standing import Standing
from mycoswarm.daemon.stock import Stock
from mycoswarm.external.target import Passage
from mycoswarm.store.apikey import Terms
from mycoswarm.swarm.adoption import Adoption
from mycoswarm.swarm.candidate import Candidate
from mycoswarm.swarm.contact import Contacts
from mycoswarm.swarm.desk import AdoptionDesk, TokenDesk
from mycoswarm.swarm.discovery import Discovery
from mycoswarm.swarm.door import Door
from mycoswarm.swarm.registrar import Registrar
from mycoswarm.swarm.token import parse_token
from mycoswarm.swarm.visit import begin_adoption, join

MAX_ADOPTIONS = 8  # that one owner has open at a time
RESTART_S = 0.2  # after the answer that announces it

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the steward needs of the node. `cut` closes the live connections of nodes that left.

    The openings are the egress guard's: to the coordinator of a join token, and to a candidate that the owner adopts.
    `passage` is for pulls of models, and `note` writes a row into the ledger.
    """

    home: Home
    standing: Standing
    contacts: Contacts
    addresses: Callable[[], tuple[str, ...]]
    restart: Callable[[], None]
    cut: Callable[[frozenset[str]], None]
    open_enrolment: Opening
    open_adoption: Opening
    passage: Passage
    note: Note


class Steward:
    """Runs the enrolment door and carries the owner's wishes out."""

    def __init__(self, parts: Parts, *, door_hosts: tuple[str, ...], door_port: int) -> None:
        self._parts = parts
        self._discovery: Discovery | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._restarting: asyncio.TimerHandle | None = None
        self._offered: list[Adoption] = []
        self._adoption_desk: AdoptionDesk | None = None
        self._door = self._make_door(door_hosts, door_port)

    async def __aenter__(self) -> Self:
        if self._door is not None:
            await self._door.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._restarting is not None:
            self._restarting.cancel()  # whoever leaves is being built anew already, or stops
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._door is not None:
            await self._door.__aexit__(kind, error, trace)

    @property
    def door_port(self) -> int | None:
        """Where the enrolment door is open, None while it is closed."""
        return self._door.port if self._door is not None else None

    def watch(self, discovery: Discovery | None) -> None:
        """Take up discovery, once it runs."""
        self._discovery = discovery

    def services(self, chat: Chat, outlook: Outlook, status: Callable[[], dict[str, Any]]) -> OwnerServices:
        """All of it, as the owner's routes want it."""
        home, parts = self._parts.home, self._parts
        stock = Stock(home, models=outlook.models, changed=self._shelf_changed)
        carter = Carter(home.shelf.shelf, stock.add, hub=home.settings.hub, passage=parts.passage, note=parts.note)
        return OwnerServices(
            node=status,
            nodes=lambda: self._nodes(outlook),
            found=self._found,
            token=self._token,
            join=self._join,
            leave=self._leave,
            adopt=self._adopt,
            adoptions=self._adoptions,
            answer_adoption=self._answer_adoption,
            expel=self._expel,
            tag=self._tag,
            keys=self._keys,
            create_key=self._create_key,
            revoke_key=self._revoke_key,
            add_model=stock.add,
            pull_model=carter.pull,
            remove_model=stock.remove,
            models=stock.show,
            chat=chat,
        )

    def _make_door(self, hosts: tuple[str, ...], port: int) -> Door | None:
        standing, identity = self._parts.standing, self._parts.home.identity
        if standing.registrar is not None:
            desk: TokenDesk | AdoptionDesk = TokenDesk(standing.registrar, identity)
        elif standing.role == "unclaimed":
            desk = self._adoption_desk = AdoptionDesk(
                identity, addresses=self._parts.addresses, on_enrolled=lambda enrolled: self._restart_soon()
            )
        else:
            return None
        return Door(desk, identity, hosts=hosts, port=port, on_change=self._door_moved)

    def _door_moved(self, port: int | None) -> None:
        if self._discovery is not None:
            said = replace(self._discovery.announcement, door_port=port)
            self._spawn(self._discovery.announce(said))

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._drop)

    def _drop(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a task of the owner's failed: %s", error, exc_info=error)

    def _restart_soon(self) -> None:
        """Have the node built anew once the answer that announces it is out."""
        if self._restarting is None:
            self._restarting = asyncio.get_running_loop().call_later(RESTART_S, self._parts.restart)

    # Belonging

    async def _found(self, name: str | None) -> dict[str, Any]:
        home = self._parts.home
        if name is not None and home.identity.membership is None:
            await asyncio.to_thread(home.identity.rename, name)
        registrar = await asyncio.to_thread(Registrar.found, home.folder, home.identity)
        self._restart_soon()
        return {"swarm_id": registrar.authority.swarm_id, "name": home.identity.name}

    async def _token(self, lifetime_s: float, uses: int) -> dict[str, Any]:
        registrar = self._parts.standing.coordinating()
        assert self._door is not None  # coordinators have one
        port = self._door.port or self._parts.home.ports["door"]
        addresses = tuple(f"{text.rpartition(':')[0]}:{port}" for text in self._parts.addresses())
        token = await asyncio.to_thread(lambda: registrar.mint_token(addresses, lifetime_s=lifetime_s, uses=uses))
        await self._door.refresh()
        return {"token": token.text, "lifetime_s": lifetime_s, "uses": uses, "qr": qr_rows(token.text)}

    async def _join(self, text: str) -> dict[str, Any]:
        parts = self._parts
        enrolled = await join(
            parse_token(text), parts.home.identity, addresses=parts.addresses(), opening=parts.open_enrolment
        )
        self._restart_soon()
        return {"name": enrolled.name, "swarm_id": enrolled.membership.swarm_id}

    async def _leave(self) -> dict[str, Any]:
        if self._parts.standing.role == "coordinator":
            raise InputError(
                "this node is the coordinator: its swarm would be lost",
                hint="Stop the node and remove its data folder if that is what you want.",
            )
        await asyncio.to_thread(self._parts.home.identity.leave)
        self._restart_soon()
        return {}

    async def _expel(self, name: str) -> dict[str, Any]:
        registrar = self._parts.standing.coordinating()
        entry = registrar.roster.named(name)
        gone = await asyncio.to_thread(registrar.expel, entry.node_id)
        try:
            await self._parts.contacts.farewell(entry.node_id)
        finally:
            self._parts.cut(gone)
        await self._parts.contacts.tell_all()
        return {"name": entry.name, "node_id": entry.node_id}

    async def _tag(self, name: str, add: tuple[str, ...], remove: tuple[str, ...]) -> dict[str, Any]:
        entry = await asyncio.to_thread(self._parts.standing.coordinating().retag, name, add, remove)
        await self._parts.contacts.tell_all()
        return {"name": entry.name, "node_id": entry.node_id, "tags": list(entry.tags)}

    async def _adopt(self, name: str) -> dict[str, Any]:
        registrar = self._parts.standing.coordinating()
        heard = self._discovery.table.find(name, time.monotonic()) if self._discovery else ()
        found = [each for each in heard if each.announcement.role == "unclaimed"]
        if len(found) != 1:
            wrong = "more than one candidate is" if found else "no candidate is heard that is"
            raise NotFoundError(f"{wrong} called {name!r}", hint="See `mycoswarm-node nodes`; an id works, too.")
        if len(self._offered) >= MAX_ADOPTIONS:
            raise InputError(f"{MAX_ADOPTIONS} adoptions wait already", hint="Answer those first.")
        begun: asyncio.Future[Adoption] = asyncio.get_running_loop().create_future()
        self._spawn(self._carry_adoption(registrar, found[0], begun))
        adoption = await begun
        return {"code": adoption.code, "name": adoption.peer_name, "node_id": adoption.peer_id}

    async def _carry_adoption(
        self, registrar: Registrar, candidate: Candidate, begun: "asyncio.Future[Adoption]"
    ) -> None:
        """Hold one adoption open until it has ended."""
        node_id, addresses = candidate.announcement.node_id, candidate.door_addresses()
        identity = self._parts.home.identity
        adoption: Adoption | None = None
        try:
            async with begin_adoption(
                registrar, identity, node_id=node_id, addresses=addresses, opening=self._parts.open_adoption
            ) as adoption:
                if begun.done():
                    return  # nobody waits for the code any more
                self._offered.append(adoption)
                begun.set_result(adoption)
                await adoption.outcome()
        except SwarmError as error:
            if not begun.done():
                begun.set_exception(error)
            else:
                log.warning("the adoption of %s ended: %s", node_id, error.message)
        finally:
            begun.cancel()
            if adoption in self._offered:
                self._offered.remove(adoption)

    def _adoptions(self) -> dict[str, Any]:
        waiting = [*self._offered, *(self._adoption_desk.pending() if self._adoption_desk else ())]
        return {
            "adoptions": [
                {"code": each.code, "name": each.peer_name, "node_id": each.peer_id, "confirmed": each.is_confirmed}
                for each in waiting
            ]
        }

    async def _answer_adoption(self, code: str, accept: bool) -> dict[str, Any]:
        waiting = [*self._offered, *(self._adoption_desk.pending() if self._adoption_desk else ())]
        found = [each for each in waiting if each.code == code]
        if len(found) != 1:
            raise NotFoundError(
                f"no adoption waits with the code {code[:12]!r}",
                hint="Compare both screens: codes that differ mean that somebody is in between. Do not confirm.",
            )
        if accept:
            found[0].confirm()
        else:
            found[0].refuse()
        name = None
        if accept:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(10):
                    name = await found[0].outcome()
        return {"name": name, "pending": name is None and accept}

    # What there is

    async def _nodes(self, outlook: Outlook) -> dict[str, Any]:
        standing = self._parts.standing
        shown = []
        for entry in standing.roster()[0].entries:
            contact = outlook.contact(entry.node_id)
            card = contact.card
            own = entry.node_id == self._parts.home.identity.node_id
            shown.append(
                {
                    "node_id": entry.node_id,
                    "name": entry.name,
                    "role": entry.role,
                    "tags": list(entry.tags),
                    "is_this": own,
                    "place": "this-machine" if own else contact.place,
                    "trouble": contact.trouble,
                    "round_trip_s": contact.round_trip_s,
                    "free_memory_bytes": card.free_memory_bytes if card else None,
                    "class": outlook.grade(entry.node_id),
                    "bytes_per_s": outlook.speed(entry.node_id),
                    "models": [facts.name for facts in outlook.held(entry.node_id)],
                    "addresses": list(card.addresses) if card else [],
                    "machine": portrait_of(card),
                }
            )
        return {
            "nodes": shown,
            "candidates": self._candidates(),
            "announced_s": self._discovery.announced_s if self._discovery else None,
            "is_coordinator": standing.registrar is not None,
        }

    def _candidates(self) -> list[dict[str, Any]]:
        members = {entry.node_id for entry in self._parts.standing.roster()[0].entries}
        heard = self._discovery.candidates() if self._discovery else ()
        return [
            {
                "node_id": each.announcement.node_id,
                "name": each.announcement.name,
                "role": each.announcement.role,
                "swarm": each.announcement.swarm,
                "is_member": each.announcement.node_id in members,
                "addresses": list(each.announcement.addresses),
                "first_heard_s": each.first_heard_s,
            }
            for each in heard
        ]

    async def _keys(self) -> dict[str, Any]:
        return {"keys": [dataclasses.asdict(key) for key in self._parts.home.keys.entries()]}

    async def _create_key(self, name: str, terms: Terms) -> dict[str, Any]:
        secret = await asyncio.to_thread(lambda: self._parts.home.keys.create(name, time.time(), **terms))
        return {"name": name, "key": secret}

    async def _revoke_key(self, name: str) -> dict[str, Any]:
        await asyncio.to_thread(self._parts.home.keys.revoke, name)
        return {"name": name}

    async def _shelf_changed(self) -> None:
        """A coordinator knows its own models from its card, as all do."""
        if self._parts.standing.decides:
            await self._parts.contacts.refresh(self._parts.home.identity.node_id)
