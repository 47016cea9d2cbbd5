"""The one function that makes outgoing connections to peers. Addresses are hints; the certificate decides.

Names are looked up by Python's `socket.getaddrinfo` and sockets connected by its `socket.connect`, under uvloop too, so
that the egress guard sees every one.
"""

import asyncio
import functools
import logging
import os
import socket
import ssl
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from mycoswarm.base.egress import Opening, packed
from mycoswarm.base.errors import EgressError, InputError, SwarmError, TrustError, UnreachableError
from mycoswarm.swarm.client import Connection

log = logging.getLogger(__name__)

STAGGER_S = 0.1  # RFC 8305 section 5 names 100 ms as the least for connections raced on one machine
MAX_ADDRESSES = 32  # a machine has a handful; more is a mistake or an attack
_SHUTDOWN_S = 1.0


@dataclass(frozen=True, slots=True)
class Address:
    """Where a peer may listen. `host` is a name or an address, an IPv6 one with its scope: "fe80::1%eth0"."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """Read "127.0.0.1:6927", "node.example:6927" or "[fe80::1%eth0]:6927".

    Raises:
        InputError: not an address with a port.
    """
    host, colon, port = text.strip().rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if bracketed:
        host = host[1:-1]
    is_whole = bool(colon and host) and bracketed == (":" in host) and host.isascii() and not set(host) & set("[]/ \0")
    if not (is_whole and _can_be_looked_up(host) and port.isascii() and port.isdigit() and 0 < int(port[:6]) < 65536):
        raise InputError(
            f"{text!r} is not an address with a port", hint='Write "192.168.1.5:6927" or "[fe80::1%eth0]:6927".'
        )
    return Address(host, int(port))


def _can_be_looked_up(host: str) -> bool:
    """Whether the resolver takes the name; Python raises UnicodeError for labels that are empty or too long."""
    try:
        host.encode("idna")
    except UnicodeError:
        return False
    return True


async def dial(
    addresses: Sequence[str],
    context: ssl.SSLContext,
    expected: Callable[[bytes], bool],
    timeout_s: float,
    *,
    opening: Opening = nullcontext,
) -> Connection:
    """Connect to the peer whose certificate (DER) `expected` accepts, wherever it answers first.

    Attempts start `STAGGER_S` apart, the next at once when one fails; the losers are closed before this returns.
    `opening` opens the egress guard while they are dialled: to all numeric addresses at once, to a name by itself, and
    then to that name with the addresses that it led to.

    Raises:
        UnreachableError: no address led to it in time; the message says what was tried.
        TrustError: every address answered, and each with a wrong or no identity, or refused ours.
        EgressError: the guard lets this process connect to none of them.
        InputError: an address cannot be read.
    """
    targets = [parse_address(text) for text in dict.fromkeys(addresses)][:MAX_ADDRESSES]
    if not targets:
        raise UnreachableError("no address of the node is known")
    race = _Race(context, expected, opening)
    with opening(numeric(targets)):
        try:
            async with asyncio.timeout(timeout_s):
                connection = await race.run(targets)
        except TimeoutError:
            connection = None
        finally:
            await race.stop()
    if connection is not None:
        return connection
    raise race.failure(targets, timeout_s)


def numeric(targets: Iterable[Address]) -> list[str]:
    """Those that need no look-up, as text."""
    return [str(target) for target in targets if packed(target.host) is not None]


async def connect(target: Address, opening: Opening = nullcontext) -> socket.socket:
    """Open a TCP connection to the first address of a name that answers. `opening`: as in `dial`.

    Raises:
        UnreachableError: there is no such name, or nothing listens.
        EgressError: the guard refuses the name, or the last of its addresses.
    """
    look_up = functools.partial(socket.getaddrinfo, target.host, target.port, type=socket.SOCK_STREAM)
    try:
        if packed(target.host) is not None:  # this asks nobody: it turns a scope's name into its number
            return await _first(look_up(flags=socket.AI_NUMERICHOST))
        with opening([str(target)]):
            found = await asyncio.to_thread(look_up)
    except EgressError:
        raise
    except OSError as exc:
        raise UnreachableError(exc.strerror or str(exc)) from exc
    with opening([str(target), *(str(Address(str(host), target.port)) for *_, (host, *_) in found[:MAX_ADDRESSES])]):
        return await _first(found)


async def _first(found: Sequence[tuple[Any, ...]]) -> socket.socket:
    failed: SwarmError = UnreachableError("the name has no address")
    for family, kind, protocol, _, address in found[:MAX_ADDRESSES]:
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setblocking(False)
            await _establish(sock, address)
        except SwarmError as exc:
            sock.close()
            failed = exc
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise failed


async def _establish(sock: socket.socket, address: tuple[Any, ...]) -> None:
    """What `loop.sock_connect` does; but uvloop's drops an IPv6 address's scope and looks the rest up itself."""
    try:
        sock.connect(address)
        return
    except (BlockingIOError, InterruptedError):
        pass  # under way
    except EgressError:
        raise
    except OSError as exc:
        raise UnreachableError(exc.strerror or str(exc)) from exc
    loop = asyncio.get_running_loop()
    connected = asyncio.Event()
    loop.add_writer(sock, connected.set)
    try:
        await connected.wait()
    finally:
        loop.remove_writer(sock)
    if code := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
        raise UnreachableError(os.strerror(code))


class _Race:
    """Attempts on several addresses, of which at most one wins."""

    def __init__(self, context: ssl.SSLContext, expected: Callable[[bytes], bool], opening: Opening) -> None:
        self._context = context
        self._expected = expected
        self._opening = opening
        self._attempts: dict[asyncio.Task[Connection], Address] = {}
        self._errors: dict[Address, SwarmError] = {}
        self._winner: Connection | None = None

    async def run(self, targets: Sequence[Address]) -> Connection | None:
        waiting = list(targets)
        pending: set[asyncio.Task[Connection]] = set()
        while (waiting or pending) and self._winner is None:
            if waiting:
                target = waiting.pop(0)
                attempt = asyncio.create_task(self._attempt(target))
                self._attempts[attempt] = target
                pending.add(attempt)
            done, pending = await asyncio.wait(
                pending, timeout=STAGGER_S if waiting else None, return_when=asyncio.FIRST_COMPLETED
            )
            for attempt in done:
                self._note(attempt)
        return self._winner

    async def stop(self) -> None:
        """End the attempts that have not won, also where the race itself was cancelled."""
        for attempt in self._attempts:
            attempt.cancel()
        try:
            await asyncio.gather(*self._attempts, return_exceptions=True)
        except asyncio.CancelledError:
            if self._winner is not None:
                self._winner.abort()  # nobody will take it any more
            raise
        for attempt in self._attempts:
            if not attempt.cancelled() and attempt.exception() is None and attempt.result() is not self._winner:
                attempt.result().abort()

    def failure(self, targets: Sequence[Address], timeout_s: float) -> SwarmError:
        """Why nobody won."""
        tried = "; ".join(
            f"{target}: {self._errors.get(target) or f'no answer in {timeout_s:g} s'}" for target in targets
        )
        reasons = [self._errors.get(target) for target in targets]
        if all(isinstance(reason, EgressError) for reason in reasons):
            return EgressError(f"no address of the node may be dialled ({tried})")
        if all(isinstance(reason, TrustError) and not isinstance(reason, EgressError) for reason in reasons):
            return TrustError(
                f"no address led to the expected node ({tried})",
                hint="Another machine may have taken its address, or the node belongs to another swarm.",
                code="wrong_identity",
            )
        return UnreachableError(f"the node does not answer ({tried})")

    def _note(self, attempt: asyncio.Task[Connection]) -> None:
        error = attempt.exception()
        if error is None:
            if self._winner is None:
                self._winner = attempt.result()
            return
        if not isinstance(error, SwarmError):
            raise error
        self._errors[self._attempts[attempt]] = error
        log.debug("%s: %s", self._attempts[attempt], error)

    async def _attempt(self, target: Address) -> Connection:
        sock = await connect(target, self._opening)
        connection = Connection(str(target))
        try:
            await _secure(connection, sock, self._context)
            if not self._expected(connection.peer_der):
                raise TrustError("another node answered")
        except BaseException:
            connection.abort()
            sock.close()
            raise
        return connection


async def _secure(connection: Connection, sock: socket.socket, context: ssl.SSLContext) -> None:
    """Raise TLS on a socket and wait until the server has accepted us too."""
    loop = asyncio.get_running_loop()
    try:
        await loop.create_connection(
            lambda: connection, sock=sock, ssl=context, server_hostname="", ssl_shutdown_timeout=_SHUTDOWN_S
        )
        await connection.ready()
    except ssl.SSLCertVerificationError as exc:
        raise TrustError(f"its certificate does not hold: {exc.verify_message}") from exc
    except ssl.SSLError as exc:
        raise UnreachableError(f"no TLS connection: {exc.reason or exc}") from exc
    except OSError as exc:
        raise UnreachableError("it closed the connection") from exc
    except UnreachableError as exc:
        # asyncio and uvloop drop the alert that would say so; but a server that trusts us speaks first
        raise TrustError("it refused this node's certificate") from exc
