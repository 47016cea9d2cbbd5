"""One node under one standing: every part built and joined. A change of role builds it anew."""

import asyncio
import contextlib
import logging
import os
import secrets
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Self

from mycoswarm.api.chronicle import chronicle_routes
from mycoswarm.api.completion import Completions
from mycoswarm.api.console import ConsoleServices, console_app, socket_app
from mycoswarm.api.disclosure import disclosure_routes
from mycoswarm.api.embedding import Embeddings
from mycoswarm.api.gate import Doorway
from mycoswarm.api.governance import worker_routes
from mycoswarm.api.listener import Listener
from mycoswarm.api.membership import membership_routes
from mycoswarm.api.owner import owner_routes
from mycoswarm.api.peer import PeerServices, peer_app
from mycoswarm.api.session import Porch, Throttle
from mycoswarm.api.stockroom import stockroom_routes
from mycoswarm.base.errors import RefusedError, StorageError, TrustError
from mycoswarm.catalog.facts import ModelFacts
from mycoswarm.chat.life import Chat
from mycoswarm.chat.surroundings import Surroundings
from mycoswarm.daemon.archivist import Archivist
from mycoswarm.daemon.auditor import Auditor
from mycoswarm.daemon.border import Border
from mycoswarm.daemon.cabinet import Cabinet
from mycoswarm.daemon.directory import endpoint_states
from mycoswarm.daemon.home import STAGE_ARGV, Home
from mycoswarm.daemon.keeper import Keeper
from mycoswarm.daemon.notary import Notary
from mycoswarm.daemon.odometer import Odometer
from mycoswarm.daemon.office import Office, Premises, Stop, open_office
from mycoswarm.daemon.outlook import Outlook, Sources
from mycoswarm.daemon.pace import Pace
from mycoswarm.daemon.profile import Profile
from mycoswarm.daemon.site import Site
from mycoswarm.daemon.standing import Standing
from mycoswarm.daemon.steward import Parts, Steward
from mycoswarm.daemon.stoker import Stoker
from mycoswarm.daemon.workroom import Workroom
from mycoswarm.external.pull import LIMITS
from mycoswarm.external.target import Passage
from mycoswarm.stage.delivery import Delivery
from mycoswarm.stage.host import HostServices
from mycoswarm.stage.pool import OpenedRing, Opening, RingPool
from mycoswarm.stage.ring import Ring
from mycoswarm.stage.supervisor import Launch, stage_environment
from mycoswarm.swarm.candidate import announcement_of
from mycoswarm.swarm.client import Connection
from mycoswarm.swarm.condition import Condition
from mycoswarm.swarm.contact import Contacts
from mycoswarm.swarm.discovery import Discovery
from mycoswarm.swarm.place import PLACES, Place
from mycoswarm.swarm.roster import Entry, SignedRoster
from mycoswarm.swarm.server import PeerServer
from mycoswarm.swarm.tls import client_context, fingerprint, server_context
from mycoswarm.wire.plan import Conditions

log = logging.getLogger(__name__)


class Node:
    """`async with Node(home, standing, restart)`: serving while inside. `restart` asks to be built anew."""

    def __init__(self, home: Home, standing: Standing, restart: Callable[[], None], border: Border) -> None:
        self._border = border
        self._home, self._standing, self._restart = home, standing, restart
        self._stack = contextlib.AsyncExitStack()
        self._site = Site(home.settings, home.ports)
        self._server: PeerServer | None = None
        self._rings: RingPool | None = None
        self._odometer = Odometer()
        self._pace = Pace(home)
        self._profile = Profile(
            home,
            standing,
            self._site,
            heard=self._heard,
            door_port=lambda: self._steward.door_port,
        )
        self._contacts: Contacts
        self._discovery: Discovery | None = None
        self._steward: Steward
        self._office: Office | None = None
        self._notary = Notary(home.ledger)
        self._workroom = Workroom(
            home, standing, self._notary, border, members=self._members, status=self._profile.status
        )
        self._archivist = Archivist(home.ledger, standing, name=lambda: home.identity.name)

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()
        await asyncio.gather(self._pace.finish(), self._notary.finish(), return_exceptions=True)

    @property
    def console_address(self) -> str:
        """Where clients connect, "host:port"; empty on workers."""
        return self._profile.console_address

    async def _start(self) -> None:
        home, standing, enter = self._home, self._standing, self._stack.enter_async_context
        key_pem = home.identity.key.pem.decode()
        context = client_context(standing.certificate_pem, key_pem, standing.authority_pem)
        self._contacts = Contacts(
            own_id=home.identity.node_id,
            roster=standing.roster,
            context=context,
            addresses=self._addresses,
            card=self._profile.bare_card,
            met=self._met,
            polls=standing.decides,
            place=self._border.place,
            opening=self._border.nodes,
        )
        self._stack.push_async_callback(
            self._workroom.close
        )  # after the listener for its tools, so that none comes later
        sockets = self._own(self._site.bind_peer())
        routes = membership_routes(lambda: standing.roster()[0], self._accept, self._cut)
        routes += [*disclosure_routes(self._who, self._archivist), *self._workroom.peer_routes(self._who)]
        app = peer_app(self._peer_services(), routes)
        serving = server_context(standing.certificate_pem, key_pem, standing.authority_pem)
        self._server = await enter(PeerServer(app, serving, sockets))  # type: ignore[arg-type]  # starlette types its ASGI more widely
        parts = Parts(
            home=home,
            standing=standing,
            contacts=self._contacts,
            addresses=self._site.addresses,
            restart=self._restart,
            cut=self._cut,
            open_enrolment=self._border.enrolment,
            open_adoption=self._border.adoption,
            passage=Passage(permit=self._border.outward("pull"), limits=LIMITS, place=self._border.place),
            note=self._notary.note,
        )
        self._steward = await enter(Steward(parts, door_hosts=self._site.hosts, door_port=self._site.door_port()))
        if home.settings.discovery:
            self._discovery = await enter(self._discover())
        self._steward.watch(self._discovery)
        await enter(self._contacts)
        for work in (self._border.watch(self._notary.barred), self._pace.look()):
            self._stack.push_async_callback(_cancel, asyncio.create_task(work))
        await self._open_console()

    async def _open_console(self) -> None:
        home, enter = self._home, self._stack.enter_async_context
        outlook = self._outlook()
        self._rings = rings = await enter(RingPool(self._open_ring, idle_s=home.settings.idle_s))
        keeper = await enter(Keeper(home.rules, swarm=lambda: outlook.swarm(None)))
        cabinet = Cabinet(home, self._notary, keeper, self._border)
        around = self._surroundings(cabinet, outlook)
        chat = Chat(around, rings)
        stops: list[Stop] = [chat.stop, rings.stop]  # before the listeners: open answers end with a typed error
        if self._standing.decides:
            sockets = self._own(self._site.bind_console())
        own = self._steward.services(chat, outlook, self._profile.status)
        porch = Porch(home.logins, Throttle())
        console = self._console(chat, cabinet, outlook, porch)
        stoker = Stoker(chat, outlook, rings, self._odometer)
        owner = [*owner_routes(own), *stockroom_routes(stoker.services(cabinet.admit))]
        owner += chronicle_routes(self._archivist, self._auditor())
        if self._standing.decides:
            premises = Premises(
                home=home,
                chat=chat,
                outlook=outlook,
                rings=rings,
                odometer=self._odometer,
                rules=keeper.rules,
                cabinet=cabinet,
                around=around,
                workroom=self._workroom,
                reach=self._reach,
                archivist=self._archivist,
                owner=own,
                console=console,
                porch=porch,
            )
            self._office = office = await open_office(premises, self._stack)
            owner += office.owner_routes
            stops += office.stops
            await enter(Listener(console_app(console, owner, office.open_routes), sockets))
            owner += office.socket_routes
        else:
            owner += [*worker_routes(), *self._workroom.owner_routes(None)]
        await enter(Listener(socket_app(console, owner), [self._site.bind_owner()]))
        for stop in stops:
            self._stack.push_async_callback(stop)

    def _console(self, chat: Chat, cabinet: Cabinet, outlook: Outlook, porch: Porch) -> ConsoleServices:
        home = self._home
        return ConsoleServices(
            completions=Completions(chat, time.time, lambda: secrets.token_hex(12), admit=cabinet.admit),
            embeddings=Embeddings(chat, lambda: secrets.token_hex(12), admit=cabinet.admit),
            doorway=Doorway(
                names=lambda: self._site.names(home.identity.name),
                check=home.keys.check,
                note=self._note_key,
                porch=porch,
            ),
            models=outlook.models,
            health=self._profile.health,
            elsewhere=cabinet.elsewhere,
        )

    # What the parts ask of each other

    def _peer_services(self) -> PeerServices:
        home, standing = self._home, self._standing
        host = HostServices(
            node_id=home.identity.node_id,
            swarm_id=standing.swarm_id,
            is_signed=lambda sealed: standing.is_signed(sealed.body, sealed.signature),
            record=self._notary.record,
            refuse=self._notary.refuse,
            barred=self._notary.barred_in_stage,
            prepare=Delivery(home.shelf, home.pieces, self._dial),
            launch=Launch(argv=STAGE_ARGV, cwd=home.folder, environment=stage_environment(os.environ)),
            addresses=self._site.stage_hosts,
            is_near=self._border.is_near,
            gpu=home.settings.gpu,
            crashes=home.crashes,
        )
        return PeerServices(who=self._who, host=host, library=home.shelf, card=self._profile.encoded_card)

    def _surroundings(self, cabinet: Cabinet, outlook: Outlook) -> Surroundings:
        settings = self._home.settings

        def conditions(facts: ModelFacts, node_ids: tuple[str, ...]) -> Conditions:
            n_ctx = min(settings.context_tokens, facts.n_ctx_train or settings.context_tokens)
            return Conditions(
                n_ctx=n_ctx,
                n_ubatch=min(settings.step_tokens, n_ctx),
                n_seq_max=settings.sequences,
                n_threads=outlook.threads(node_ids),
            )

        return cabinet.surroundings(outlook, conditions, self._pace.grade)

    def _auditor(self) -> Auditor:
        return Auditor(self._home.ledger, self._archivist, self._standing, self._contacts.fresh)

    def _outlook(self) -> Outlook:
        return Outlook(
            Sources(
                standing=self._standing,
                contact=self._contacts.contact,
                settings=self._home.settings,
                rings=lambda: self._rings.warm() if self._rings else (),
                returning=lambda: self._rings.returning() if self._rings else {},
                speeds=self._pace.known,
                conditions=self._profile.conditions,
                endpoints=lambda: endpoint_states(self._home.endpoints),
            )
        )

    async def _open_ring(self, opening: Opening) -> OpenedRing:
        assert self._standing.sign is not None  # only who decides has a pool in use
        plan = opening.plan
        wanted = {stage.node_id for stage in plan.stages} | {plan.holder_id}
        directory = {node_id: self._contacts.addresses(node_id) for node_id in wanted}
        ring = await Ring.open(
            plan,
            connect=lambda node_id: self._reach(node_id, opening.reach),
            seal=self._standing.sign,
            swarm_id=self._standing.swarm_id,
            warrant=opening.warrant,
            directory=directory,
            request_id=opening.request_id,
            tell=self._odometer.begin(plan),
        )
        return self._odometer.over(plan, ring)

    async def _reach(self, node_id: str, reach: Mapping[str, Place]) -> Connection:
        """Dial a node for a ring, and hold the way there against the place that was decided on.

        Addresses race: a node decided on as one of this LAN could answer first over a routed address, now or when the
        poll dials it anew after the decision.

        Raises:
            SwarmError: it does not answer, or only from further away.
        """
        decided = reach.get(node_id)
        connection = await self._contacts.fresh(node_id)
        now = self._border.place(connection.remote)
        if decided is None or PLACES.index(now) > PLACES.index(decided):
            await connection.close()
            entry = self._standing.roster()[0].find(node_id)
            counted = "did not count on it" if decided is None else f"counted on {decided}"
            raise RefusedError(
                f"{entry.name if entry else node_id} answers from {now}, and the decision {counted}",
                hint="Send the request again: it is decided by where the node is then (`mycoswarm-node nodes`).",
            )
        return connection

    async def _dial(self, node_id: str, directory: Mapping[str, tuple[str, ...]]) -> Connection:
        return await self._contacts.fresh(node_id, directory.get(node_id, ()))

    def _heard(self) -> tuple[Condition, ...]:
        """Trouble that stands in parts of this node."""
        found = tuple(self._discovery.conditions()) if self._discovery else ()
        return found + (self._office.conditions() if self._office else ())

    def _who(self, der: bytes) -> Entry | None:
        print_ = fingerprint(der)
        return next((entry for entry in self._standing.roster()[0].entries if entry.fingerprint == print_), None)

    def _accept(self, signed: SignedRoster) -> frozenset[str]:
        if self._standing.held is None:
            raise TrustError("this node keeps its own roster", hint="Change it here, with `expel`.")
        return self._standing.held.accept(signed)

    def _cut(self, gone: frozenset[str]) -> None:
        """Close the live connections of nodes that left the roster."""
        if not gone or self._server is None:
            return
        for node_id in gone:
            self._contacts.forget(node_id)
        closed = self._server.close_connections(lambda der: self._who(der) is None)
        log.info("%d nodes left the swarm, %d connections closed", len(gone), closed)

    def _met(self, node_id: str, instance_id: str) -> None:
        if self._discovery is not None:
            self._discovery.table.meet(node_id, instance_id, time.monotonic())

    async def _note_key(self, name: str) -> None:
        try:
            await asyncio.to_thread(self._home.keys.note_use, name, time.time())
        except StorageError as error:
            log.error("the use of key %r was not noted: %s", name, error.message)

    def _addresses(self, node_id: str, hints: Sequence[str]) -> tuple[str, ...]:
        """Where a node of the roster may answer; our own listener is always where we bound it."""
        if node_id == self._home.identity.node_id:
            return (self._site.own_address(),)
        if self._discovery is not None:
            return self._discovery.addresses_of(node_id, hints)
        return tuple(dict.fromkeys((*hints, *self._home.settings.peers)))

    def _members(self) -> list[str]:
        """Where nodes of the swarm may answer."""
        entries = self._standing.roster()[0].entries
        return [address for entry in entries for address in self._contacts.addresses(entry.node_id)]

    def _own(self, sockets: tuple[socket.socket, ...]) -> tuple[socket.socket, ...]:
        for sock in sockets:
            self._stack.callback(sock.close)
        return sockets

    def _discover(self) -> Discovery:
        settings = self._home.settings
        announcement = announcement_of(
            self._home.identity,
            instance_id=self._home.instance_id,
            peer_port=self._site.peer_port,
            door_port=self._steward.door_port,
        )
        return Discovery(
            announcement,
            named=settings.interfaces or None,
            advertise=settings.advertise,
            static=settings.peers,
        )


async def _cancel(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
