"""The egress guard: one audit hook (PEP 578) refuses to connect, send or look up a name unless something allows it.

Open always: this machine (loopback, 0.0.0.0 and :: as destinations, Unix and netlink sockets), multicast DNS, and
look-ups that ask nobody (numeric addresses, "localhost", no host). Everything else needs a `Permit`: a standing one,
asked for at every look, or one that code holds for as long as it needs it (`permitted`).

    socket.connect, sendto, sendmsg ─▶ judged by address and port      look-ups ─▶ judged by name
    bind ─▶ the family alone: packet, Bluetooth and other sockets send without an address once bound

A permit's name opens the look-up and nothing more. Connecting takes an address, so that who looked the name up has
seen where it leads before anything is sent there.

CPython looks up a *name* given to `connect`, `sendto`, `sendmsg` or `bind` before it raises their event, and a refusal
would come after the question had gone out. So `install` also puts a question before these five methods of
`socket.socket`.

The hook runs in whatever thread connects, at any point of its code: it takes no lock, imports nothing, logs nothing.
What it refused is kept, bounded, until `drain` takes it. docs/egress.md says what the guard does not see.
"""

import functools
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any

from mycoswarm.base.errors import EgressError, InputError

MAX_BARRED = 256  # distinct refusals between two drains; more are counted as one
MAX_WHERE = 255  # characters: as long as a DNS name may be
KEPT_ADDRESSES = 1024  # read once: parsing takes longer than all the rest of a look
OTHERS = "others"  # where refusals are counted that the table has no room for

_MDNS_GROUPS = frozenset(
    {socket.inet_pton(socket.AF_INET, "224.0.0.251"), socket.inet_pton(socket.AF_INET6, "ff02::fb")}
)
_MDNS_PORT = 5353  # RFC 6762
_MAPPED = bytes(10) + b"\xff\xff"  # RFC 4291 section 2.5.5.2: IPv4 in IPv6
_ANY = frozenset({bytes(4), bytes(16)})  # as a destination the kernel takes these for this machine
_LOOPBACK6 = bytes(15) + b"\x01"
_NUMERIC = frozenset("0123456789abcdefx.")  # inet_aton takes other characters after a space
_IP = frozenset({socket.AF_INET, socket.AF_INET6})
_LOCAL = frozenset(
    int(getattr(socket, name)) for name in ("AF_UNIX", "AF_NETLINK", "AF_ALG") if hasattr(socket, name)
)  # these never leave the machine; AF_PACKET, AF_BLUETOOTH, AF_VSOCK and the rest may
_FAMILY, _TYPE = (vars(socket.SocketType)[name].__get__ for name in ("family", "type"))  # without making enums

_AHEAD = "mycoswarm.ahead"  # no event of Python's
_DOING = {"connect": "connect to", "send": "send to", "look up": "look up", "bind": "open a socket of"}

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Permit:
    """What one purpose opens. Make it with `permit`."""

    purpose: str
    addresses: frozenset[tuple[bytes, int | None]]  # packed, and a port or any
    names: frozenset[str]


@dataclass(frozen=True, slots=True)
class Barred:
    """Refusals of one kind and destination. `kind`: "connect", "send", "look up", "bind". Times are Unix time."""

    kind: str
    where: str
    count: int
    first_s: float
    last_s: float


Source = Callable[[], Iterable[Permit]]
Opening = Callable[[Sequence[str]], AbstractContextManager[object]]  # `nullcontext` opens nothing


@functools.lru_cache(KEPT_ADDRESSES)
def packed(host: str) -> bytes | None:
    """A numeric address in its one form, whatever its spelling or scope: 4 bytes, or 16. None for a name."""
    try:
        return socket.inet_pton(socket.AF_INET, host)
    except (OSError, ValueError):
        pass
    try:
        raw = socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
    except (OSError, ValueError):
        if host and set(host.lower()) <= _NUMERIC:
            try:
                return socket.inet_aton(host)  # "127.1", "0x7f000001": the resolver takes them for addresses too
            except OSError:
                return None
        return None
    return raw[12:] if raw.startswith(_MAPPED) else raw


def permit(purpose: str, *, addresses: Iterable[str] = (), names: Iterable[str] = ()) -> Permit:
    """Open addresses ("192.168.1.5", "192.168.1.5:6927", "fe80::1%eth0", "[fe80::1%eth0]:6927") and names.

    A "host:port" whose host is a name opens the look-up of that name.

    Raises:
        InputError: an address that cannot be read.
    """
    opened: set[tuple[bytes, int | None]] = set()
    named = {_plain(name) for name in names}
    for text in addresses:
        raw = packed(text)
        host, _, port = text.rpartition(":")
        if raw is not None:
            opened.add((raw, None))
        elif not host or not port.isascii() or not port.isdigit() or int(port[:6]) > 65535:
            raise InputError(f"{text[:MAX_WHERE]!r} is not an address, with or without a port")
        elif (raw := packed(host.strip("[]"))) is not None:
            opened.add((raw, int(port)))
        else:
            named.add(_plain(host))
    return Permit(purpose, frozenset(opened), frozenset(named))


def is_loopback(raw: bytes) -> bool:
    """Whether a packed address is this machine by its number alone."""
    return raw[0] == 127 if len(raw) == 4 else raw == _LOOPBACK6


class Guard:
    """Decides what may leave this process, and remembers what may not. `install` makes it so.

    `is_on_link` says whether an address is this machine's or in its own networks; it is asked only about unicast
    answers of multicast DNS, in any thread. `is_loopback` is narrowed by tests alone.
    """

    def __init__(
        self,
        *,
        is_on_link: Callable[[str], bool] = lambda host: False,
        is_loopback: Callable[[bytes], bool] = is_loopback,
        clock: Clock = time.time,
    ) -> None:
        self.is_on_link = is_on_link
        self.is_installed = False
        self._is_loopback = is_loopback
        self._clock = clock
        self._sources: tuple[Source, ...] = ()
        self._held: dict[object, Permit] = {}
        self._barred: dict[tuple[str, str], Barred] = {}

    def stand(self, source: Source) -> None:
        """Ask `source` for permits at every look, from now on.

        It is called in any thread, so it must be quick, take no lock, connect nowhere, and read nothing that another
        thread changes in place: best one attribute that holds a tuple. Where it raises, it opens nothing.
        """
        self._sources = (*self._sources, source)

    @contextmanager
    def permitted(self, purpose: str, *, addresses: Iterable[str] = (), names: Iterable[str] = ()) -> Iterator[None]:
        """Open addresses and names to the whole process while the context lasts.

        Raises:
            InputError: an address that cannot be read.
        """
        key = object()
        self._held[key] = permit(purpose, addresses=addresses, names=names)
        try:
            yield
        finally:
            del self._held[key]

    def opening(self, purpose: str) -> Opening:
        """`permitted` for addresses that are not known yet, to give to code that looks names up."""
        return lambda addresses: self.permitted(purpose, addresses=addresses)

    def drain(self) -> tuple[Barred, ...]:
        """Take what was refused since the last time."""
        return tuple(self._barred.pop(key) for key in list(self._barred))

    def permits(self) -> list[Permit]:
        """What is open now beyond this machine, and for what purposes."""
        permits = list(self._held.values())
        for source in self._sources:
            try:
                permits += source()
            except Exception as exc:  # whatever it is, it must not come out of somebody's `connect`
                self._note("read permits", repr(exc))
        return permits

    def check(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Judge an audit event; most are none of ours.

        Raises:
            EgressError: nothing allows it.
        """
        look = _LOOKS.get(event)
        if look is not None:
            try:
                look(self, *arguments)
            except EgressError:
                raise
            except Exception as exc:  # the hook lets nothing else out, and lets nothing pass that it cannot read
                raise self._refusal("connect", f"something that cannot be read ({event})") from exc

    def _ask_ahead(self, kind: str, sock: socket.socket, address: Any) -> None:
        """A socket's method is about to be called: is there a name in the address?"""
        if _FAMILY(sock) not in _IP or not isinstance(address, tuple) or not address:
            return  # the method itself says what is wrong with it
        host = _text(address[0])
        if host and packed(host) is None and _plain(host) != "localhost" and not (kind == "bind" and self._names(host)):
            raise self._refusal(kind, host)

    def _connect(self, sock: socket.socket, address: Any) -> None:
        self._reach("connect", sock, address)

    def _send(self, sock: socket.socket, address: Any) -> None:
        if address is not None:  # else it is connected, and was judged then
            self._reach("send", sock, address)

    def _bind(self, sock: socket.socket, address: Any) -> None:
        if _FAMILY(sock) not in _IP:
            self._reach("bind", sock, address)

    def _reach(self, kind: str, sock: socket.socket, address: Any) -> None:
        family = _FAMILY(sock)
        if family in _LOCAL:
            return
        if family not in _IP:
            raise self._refusal(kind, f"socket family {family}")
        host, port = _text(address[0]), address[1]
        raw = packed(host) if host else bytes(4)
        if raw is None and _plain(host) == "localhost":
            return
        if raw is None or not (
            raw in _ANY
            or self._is_loopback(raw)
            or (_TYPE(sock) == socket.SOCK_DGRAM and self._is_mdns(kind, sock, raw, port))
            or self._opens(raw, port)
        ):
            raise self._refusal(kind, f"[{host}]:{port}" if ":" in host else f"{host}:{port}")

    def _is_mdns(self, kind: str, sock: socket.socket, raw: bytes, port: int) -> bool:
        if raw in _MDNS_GROUPS:
            return port == _MDNS_PORT
        # RFC 6762 sections 5.4 and 6.7: some questions are answered straight back to who asked.
        if kind != "send" or socket.SocketType.getsockname(sock)[1] != _MDNS_PORT:
            return False
        return self.is_on_link(socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, raw))

    def _datagrams(self, where: str) -> None:
        """The fenced event loop of stages says that somebody wants its datagrams."""
        raise self._refusal("send", where)

    def _look_up(self, host: Any, *rest: Any) -> None:
        name = _text(host)
        if name and packed(name) is None and _plain(name) != "localhost" and not self._names(name):
            raise self._refusal("look up", name)

    def _look_back(self, address: Any) -> None:
        """A number's name is asked of the network as well."""
        host = _text(address[0] if isinstance(address, tuple) else address)
        raw = packed(host)
        if raw is None:
            self._look_up(host)
        elif not (raw in _ANY or self._is_loopback(raw) or self._opens(raw, None)):
            raise self._refusal("look up", host)

    def _opens(self, raw: bytes, port: int | None) -> bool:
        """Whether a permit covers an address; with None as the port, at any port."""
        for each in self.permits():
            if (raw, None) in each.addresses or (raw, port) in each.addresses:
                return True
            if port is None and any(raw == opened for opened, _ in each.addresses):
                return True
        return False

    def _names(self, name: str) -> bool:
        plain = _plain(name)
        return any(plain in each.names for each in self.permits())

    def _refusal(self, kind: str, where: str) -> EgressError:
        where = where[:MAX_WHERE].encode("ascii", "backslashreplace").decode()
        self._note(kind, where)
        return EgressError(f"this process may not {_DOING[kind]} {where}")

    def _note(self, kind: str, where: str) -> None:
        """Keep a refusal. Between threads a count may be lost, never the entry: no lock is worth a deadlock here."""
        now = self._clock()
        key = (kind, where[:MAX_WHERE])
        if key not in self._barred and len(self._barred) >= MAX_BARRED:
            key = (kind, OTHERS)
        before = self._barred.get(key)
        if before is None:
            self._barred[key] = Barred(*key, 1, now, now)
        else:
            self._barred[key] = replace(before, count=before.count + 1, last_s=now)


def install(guard: Guard) -> Guard:
    """Put a guard over this process, for good: no hook can be taken back. Gives the guard."""
    check = guard.check
    concerns = _LOOKS.__contains__

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if concerns(event):
            check(event, arguments)

    sys.addaudithook(hook)
    guard.is_installed = True
    for name, kind, index in (
        ("bind", "bind", 0),
        ("connect", "connect", 0),
        ("connect_ex", "connect", 0),
        ("sendto", "send", -1),
        ("sendmsg", "send", 3),
    ):
        setattr(socket.socket, name, _asking(guard, kind, getattr(socket.SocketType, name), index))
    return guard


def _asking(guard: Guard, kind: str, method: Callable[..., Any], index: int) -> Callable[..., Any]:
    """A method of sockets that asks the guard before the system looks a name up. `index`: of its address."""

    def asking(sock: socket.socket, *arguments: Any) -> Any:
        if arguments and len(arguments) > index:
            guard.check(_AHEAD, (kind, sock, arguments[index]))
        return method(sock, *arguments)

    asking.__name__, asking.__doc__ = method.__name__, method.__doc__
    return asking


def _text(host: Any) -> str:
    """A host as the socket functions take it: text, bytes or nothing."""
    if host is None:
        return ""
    return host.decode("ascii") if isinstance(host, bytes | bytearray) else str(host)


def _plain(name: str) -> str:
    return name.lower().removesuffix(".")


_LOOKS: dict[str, Callable[..., None]] = {
    _AHEAD: Guard._ask_ahead,
    "mycoswarm.datagrams": Guard._datagrams,
    "socket.bind": Guard._bind,
    "socket.connect": Guard._connect,
    "socket.sendto": Guard._send,
    "socket.sendmsg": Guard._send,
    "socket.getaddrinfo": Guard._look_up,
    "socket.gethostbyname": Guard._look_up,
    "socket.gethostbyaddr": Guard._look_back,
    "socket.getnameinfo": Guard._look_back,
}
