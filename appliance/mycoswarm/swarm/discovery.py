"""Discovery: nodes announce themselves by mDNS (RFC 6762) and hear each other. Nothing heard is trusted.

Three timings of mDNS are set aside so that a list is complete within milliseconds, each within the RFC:
- Probing for a unique name (three queries, 250 ms apart) is skipped: names are made of the node's key and run.
- A question of our own goes out at once from a port of its own. Such one-shot questions (section 6.7) are answered
  straight back, without the random wait and the one-second pause of multicast answers.
- Later questions ask for multicast answers: unicast ones reach only one of several daemons on a machine.
"""

import asyncio
import logging
import secrets
import socket
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from types import TracebackType
from typing import Self

from zeroconf import DNSQuestionType, IPVersion, ServiceStateChange, Zeroconf
from zeroconf import Error as ZeroconfError
from zeroconf._protocol.incoming import DNSIncoming  # public in zeroconf too, but without a type checker's export
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from mycoswarm.swarm.address import Interface, chosen, interfaces, scoped
from mycoswarm.swarm.candidate import Announcement, Candidate, CandidateTable, from_text, to_text
from mycoswarm.swarm.condition import Condition
from mycoswarm.swarm.dial import parse_address

SERVICE = "_mycoswarm._tcp.local."
_TTL_S = 1125  # the least that zeroconf keeps a service's pointer for
_ASK_AGAIN_S = (0.0, 0.1, 1.0)  # the first is answered within milliseconds; the others are for lost packets
_LISTEN_S = 2.0  # how long answers to a question of our own are taken
_LOOK_S = 5.0  # networks come and go; listing them costs a millisecond
_RESOLVE_MS = 2000
_CLOSE_S = 5.0  # three goodbyes take 250 ms
_MAX_RESOLVING = 32  # announcements that came without their records and are being asked for
_GROUP, _GROUP6, _PORT = "224.0.0.251", "ff02::fb", 5353
_NAME = b"".join(bytes([len(label)]) + label.encode() for label in SERVICE.split("."))
_QUESTION = (
    bytes((0, 0, 0, 1, 0, 0, 0, 0, 0, 0)) + _NAME + bytes((0, 12, 0, 1))
)  # RFC 1035, after the id: one PTR question

_log = logging.getLogger(__name__)


class Discovery:
    """Announces this node and keeps the table of those heard. Use it as `async with`.

    `named` are addresses or interface names to use and no others; None takes every network, and follows changes.
    `advertise` replaces the addresses told to others. `static` are peer addresses ("host:port") that need no mDNS.
    Where mDNS cannot run, that is a Condition and is tried again; static peers still count.
    """

    def __init__(
        self,
        announcement: Announcement,
        *,
        named: Sequence[str] | None = None,
        advertise: Sequence[str] = (),
        static: Sequence[str] = (),
        on_change: Callable[[], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare; nothing is sent yet.

        Raises:
            InputError: a static peer that is no address, or a named interface that is not there.
        """
        for address in static:
            parse_address(address)
        self._named = tuple(named) if named is not None else None
        self._advertise = tuple(advertise)
        self._static = tuple(static)
        self._on_change = on_change
        self._clock = clock
        self._reachable = self._look()
        self._announcement = self._addressed(announcement)
        self._changed = asyncio.Event()
        self._zeroconf: AsyncZeroconf | None = None
        self._browser: AsyncServiceBrowser | None = None
        self._info: AsyncServiceInfo | None = None
        self._fault: str | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.table = CandidateTable()
        self.announced_s: float | None = None

    async def __aenter__(self) -> Self:
        await self._start()
        self._spawn(self._follow())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._stop()

    @property
    def announcement(self) -> Announcement:
        """What this node says now."""
        return self._announcement

    def candidates(self) -> tuple[Candidate, ...]:
        """All nodes heard but this one, by name."""
        mine = (self._announcement.node_id, self._announcement.instance_id)
        heard = self.table.candidates(self._clock())
        return tuple(each for each in heard if (each.announcement.node_id, each.announcement.instance_id) != mine)

    def addresses_of(self, node_id: str, hints: Sequence[str] = ()) -> tuple[str, ...]:
        """Peer addresses ("host:port") to dial for a node: those heard, then `hints` (its card's, the roster's), then
        all static ones. Identity decides.

        Raises:
            InputError: a hint that is no address.
        """
        heard = self.table.peer_addresses(node_id, self._clock())
        return scoped((*heard, *hints, *self._static), self._reachable)

    def conditions(self) -> tuple[Condition, ...]:
        """What is wrong with what is heard, or with hearing."""
        found = self.table.conditions(self._clock())
        if self._fault is None:
            return found
        hint = "Is another program holding UDP port 5353 alone? Until then name the other nodes as static peers."
        return (*found, Condition("mdns_unavailable", f"nodes cannot find each other by mDNS: {self._fault}", hint))

    async def wait_until(self, holds: Callable[[tuple[Candidate, ...]], bool], timeout_s: float) -> bool:
        """Wait until the list of candidates is as asked; False when the time is over."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while not holds(self.candidates()):
                    self._changed.clear()
                    await self._changed.wait()
        return holds(self.candidates())

    async def announce(self, announcement: Announcement) -> None:
        """Say something else from now on: another role, name or door. Node id and run stay."""
        self._announcement = self._addressed(announcement)
        if self._zeroconf is not None:
            self._info = self._service()
            self._watch(await self._zeroconf.async_update_service(self._info))

    async def _start(self) -> None:
        try:
            async with AsyncExitStack() as undo:
                running = AsyncZeroconf(interfaces=_choice(self._reachable), ip_version=_versions(self._reachable))
                undo.push_async_callback(running.async_close)
                await running.zeroconf.async_wait_for_start(timeout=5)
                self._browser = AsyncServiceBrowser(
                    running.zeroconf, SERVICE, handlers=[self._on_service], question_type=DNSQuestionType.QM
                )
                undo.push_async_callback(self._browser.async_cancel)
                self._zeroconf = running
                self._spawn(self._ask())
                self._info = self._service()
                # The awaitable sends the announcements: now, and twice more 225 ms apart.
                self._watch(await running.async_register_service(self._info, cooperating_responders=True))
                self.announced_s = self._clock()
                undo.pop_all()
            self._fault = None
        except (OSError, RuntimeError, ZeroconfError) as exc:
            self._zeroconf, self._browser = None, None
            if self._fault is None:
                _log.warning("mDNS cannot run, and is tried again every %s s: %s", _LOOK_S, exc)
            self._fault = str(exc) or type(exc).__name__

    async def _stop(self) -> None:
        running, browser = self._zeroconf, self._browser
        self._zeroconf, self._browser = None, None
        if browser is not None:
            await browser.async_cancel()
        if running is not None:
            try:
                async with asyncio.timeout(_CLOSE_S):
                    await running.async_close()
            except TimeoutError:
                _log.warning("mDNS did not close within %s s", _CLOSE_S)

    async def _follow(self) -> None:
        """Follow networks that come and go, and try again where mDNS could not start."""
        while True:
            await asyncio.sleep(_LOOK_S)
            now = self._reachable if self._named is not None else interfaces()
            if self._zeroconf is None:
                self._reachable = now
                self._announcement = self._addressed(self._announcement)
                await self._start()
            elif set(now) != set(self._reachable):
                await self._move(now)

    async def _move(self, reachable: tuple[Interface, ...]) -> None:
        assert self._zeroconf is not None
        _log.info("networks changed: now %s", ", ".join(f"{each.address} ({each.name})" for each in reachable))
        self._reachable = reachable
        try:
            await self._zeroconf.async_update_interfaces(_choice(reachable), _versions(reachable))
            await self.announce(self._announcement)
        except (OSError, RuntimeError, ZeroconfError) as exc:
            _log.warning("mDNS is begun anew after a change of networks: %s", exc)
            await self._stop()
            await self._start()
        else:
            self._spawn(self._ask())

    async def _ask(self) -> None:
        """Ask who is there from ports of our own, so that answers come straight back."""
        loop = asyncio.get_running_loop()
        async with AsyncExitStack() as stack:
            askers = []
            for each in self._reachable:
                opened = _asking_socket(each)
                if opened is not None:
                    asking, target = opened
                    transport, _ = await loop.create_datagram_endpoint(lambda: _Answers(self._on_answer), sock=asking)
                    stack.callback(transport.close)
                    askers.append((transport, target))
            before = 0.0
            for moment in _ASK_AGAIN_S:
                await asyncio.sleep(moment - before)
                before = moment
                for transport, target in askers:
                    # A fresh id each time: zeroconf drops a packet that it saw, from anybody, within 800 ms.
                    transport.sendto(secrets.token_bytes(2) + _QUESTION, target)
            await asyncio.sleep(_LISTEN_S - before)

    def _on_answer(self, data: bytes, scope: int | None) -> None:
        """Hand an answer to zeroconf as if it had come by multicast: one cache, one way to read."""
        if self._zeroconf is None:
            return
        message = DNSIncoming(data, None, scope)
        if message.valid and message.is_response():
            self._zeroconf.zeroconf.record_manager.async_updates_from_response(message)

    def _on_service(self, zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        if state_change is ServiceStateChange.Removed:
            for each in self.table.candidates(self._clock()):
                said = each.announcement
                if _service_name(said) == name and self.table.forget(said.node_id, said.instance_id):
                    self._tell()
            return
        info = AsyncServiceInfo(SERVICE, name)
        if info.load_from_cache(zeroconf):
            self._hear(info)
        elif len(self._tasks) < _MAX_RESOLVING:
            self._spawn(self._resolve(zeroconf, info))

    async def _resolve(self, zeroconf: Zeroconf, info: AsyncServiceInfo) -> None:
        if await info.async_request(zeroconf, _RESOLVE_MS, question_type=DNSQuestionType.QM):
            self._hear(info)

    def _hear(self, info: AsyncServiceInfo) -> None:
        text = {key: value for key, value in info.decoded_properties.items() if value is not None}
        said = from_text(text, tuple(info.parsed_scoped_addresses()))
        if said is None or _service_name(said) != info.name:
            _log.debug("an announcement was not understood: %r", info.name[:80])
        elif self.table.hear(said, self._clock()):
            self._tell()

    def _tell(self) -> None:
        self._changed.set()
        if self._on_change is not None:
            self._on_change()

    def _look(self) -> tuple[Interface, ...]:
        return interfaces() if self._named is None else chosen(self._named)

    def _addressed(self, announcement: Announcement) -> Announcement:
        hosts = self._advertise or tuple(each.address for each in self._reachable)
        return replace(announcement, addresses=tuple(dict.fromkeys(hosts))[:16])

    def _service(self) -> AsyncServiceInfo:
        said = self._announcement
        return AsyncServiceInfo(
            SERVICE,
            _service_name(said),
            port=said.peer_port or said.door_port or 0,
            properties=to_text(said),
            server=f"mycoswarm-{said.node_id[:12]}-{said.instance_id[:8]}.local.",
            host_ttl=_TTL_S,
            other_ttl=_TTL_S,
            parsed_addresses=[address for address in said.addresses if _is_ip(address)],
        )

    def _watch(self, sending: object) -> None:
        assert isinstance(sending, asyncio.Task)
        self._keep(sending)

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        self._keep(asyncio.get_running_loop().create_task(work))

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._drop)

    def _drop(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _log.warning("discovery: %s", task.exception(), exc_info=task.exception())


class _Answers(asyncio.DatagramProtocol):
    """Receives answers to our own questions."""

    def __init__(self, receive: Callable[[bytes, int | None], None]) -> None:
        self._receive = receive

    def datagram_received(self, data: bytes, addr: tuple[object, ...]) -> None:
        scope = addr[3] if len(addr) == 4 else None
        self._receive(data, scope if isinstance(scope, int) else None)

    def error_received(self, exc: Exception) -> None:
        _log.debug("a question was not sent: %s", exc)


def _asking_socket(interface: Interface) -> tuple[socket.socket, tuple[str | int, ...]] | None:
    """Open a socket that asks on one interface only; None where the interface takes no multicast."""
    family = socket.AF_INET6 if interface.is_ipv6 else socket.AF_INET
    asking = socket.socket(family, socket.SOCK_DGRAM)
    try:
        asking.setblocking(False)
        if interface.is_ipv6:
            asking.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, interface.index)
            asking.bind((interface.address, 0, 0, interface.index))
            return asking, (_GROUP6, _PORT, 0, interface.index)
        asking.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(interface.address))
        asking.bind((interface.address, 0))
    except OSError as exc:
        asking.close()
        _log.debug("no question on %s (%s): %s", interface.name, interface.address, exc)
        return None
    return asking, (_GROUP, _PORT)


def _choice(reachable: tuple[Interface, ...]) -> list[str | int]:
    """Write interfaces as zeroconf takes them: IPv4 addresses, and IPv6 interfaces by index."""
    indexes = {each.index for each in reachable if each.is_ipv6 and not each.is_loopback and each.index > 0}
    return [*(each.address for each in reachable if not each.is_ipv6), *sorted(indexes)]


def _versions(reachable: tuple[Interface, ...]) -> IPVersion:
    kinds = {isinstance(each, int) for each in _choice(reachable)}
    return IPVersion.All if len(kinds) == 2 else (IPVersion.V6Only if True in kinds else IPVersion.V4Only)


def _service_name(announcement: Announcement) -> str:
    return f"{announcement.node_id[:16]}-{announcement.instance_id[:8]}.{SERVICE}"


def _is_ip(text: str) -> bool:
    for family in (socket.AF_INET, socket.AF_INET6):
        with suppress(OSError):
            socket.inet_pton(family, text)
            return True
    return False
