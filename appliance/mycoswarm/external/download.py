"""One page from the web, by GET: a host is looked up once, its addresses judged, and exactly a judged one connected to.

Covered: names and redirects that lead to what the judge refuses, on the first look or a later one; certificates; waits,
heads and bodies without end; servers that compress unasked. Nothing of ours goes along: no cookies, no credentials, no
proxy of the environment, no other header than every browser sends. Not covered: what the page says.
"""

import asyncio
import os
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import h11

from mycoswarm.base.errors import EgressError, EndpointError, InputError, UnreachableError
from mycoswarm.base.url import Site
from mycoswarm.external.conduit import open_at
from mycoswarm.external.locator import led_on, worded
from mycoswarm.external.target import SHUT_HINT, Permit, Resolve
from mycoswarm.external.whereabouts import system_addresses
from mycoswarm.swarm.dial import MAX_ADDRESSES, parse_address

MAX_HEAD_BYTES = 64 << 10
_MOVED = frozenset({301, 302, 303, 307, 308})
_READ_BYTES = 64 << 10
_HEADERS = (
    ("user-agent", "mycoswarm"),
    ("accept", "text/html, application/xhtml+xml, application/pdf, application/json, text/*;q=0.9, */*;q=0.1"),
    ("accept-encoding", "identity"),
    ("connection", "close"),
)

# What is wrong with connecting to an address ("host:port" in numbers) that a host led to; None where nothing is.
Judge = Callable[[str, str], str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserve:
    """How long each wait may take, and how much is read."""

    resolve_s: float = 5.0
    connect_s: float = 8.0
    silence_s: float = 15.0
    whole_s: float = 40.0
    body_bytes: int = 2 << 20
    redirects: int = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Crossing:
    """What a download needs from outside. `called`: how errors call the server, where not by its host. `resolve` None
    is the system's resolver, `trust` None the system's certificate authorities."""

    purpose: str
    permit: Permit
    judge: Judge
    reserve: Reserve = field(default_factory=Reserve)
    called: str | None = None
    resolve: Resolve | None = None
    trust: ssl.SSLContext | None = None

    def name(self, site: Site) -> str:
        """What errors call a server."""
        return self.called or site.host


@dataclass(frozen=True, slots=True)
class Download:
    """What came. `address` is where it came from in the end; `kind` the Content-Type as it was said; `is_cut`: there
    was more."""

    address: str
    status: int
    kind: str
    body: bytes
    is_cut: bool


async def download(site: Site, crossing: Crossing) -> Download:
    """Get a page, and where it leads on, what is there; whatever its status.

    Raises:
        EgressError: it leads to where the judge lets nobody go; nothing was sent there.
        UnreachableError: no address, nobody there, or not in time.
        EndpointError: a certificate that does not hold, an answer that is none of HTTP's, or too many redirects.
        InputError: it leads on to what is no address of a page.
    """
    try:
        async with asyncio.timeout(crossing.reserve.whole_s):
            return await _follow(site, crossing)
    except TimeoutError as exc:
        raise _lost(crossing.name(site), f"it took longer than {crossing.reserve.whole_s:g} s") from exc


async def _follow(site: Site, crossing: Crossing) -> Download:
    for _ in range(crossing.reserve.redirects + 1):
        addresses = await _judged(site, crossing)
        with await _connect(site, addresses, crossing) as line:
            head = await line.ask(site)
            location = _header(head, b"location")
            if head.status_code not in _MOVED or not location:
                body, is_cut = await line.body(crossing.reserve.body_bytes)
                return Download(worded(site), head.status_code, _header(head, b"content-type"), body, is_cut)
        if not crossing.reserve.redirects:
            break
        site = led_on(site, location)
    raise EndpointError(
        f"{crossing.name(site)} leads on and on"
        if crossing.reserve.redirects
        else f"{crossing.name(site)} leads elsewhere",
        hint="Ask for the final address.",
        code="page_redirects",
    )


async def _judged(site: Site, crossing: Crossing) -> list[str]:
    """The addresses of a host, all of them judged: one that is refused bars the host."""
    called, resolve = crossing.name(site), crossing.resolve or system_addresses
    try:
        async with crossing.permit(crossing.purpose, (), (site.host,)):
            async with asyncio.timeout(crossing.reserve.resolve_s):
                found = await resolve(site.host, site.port)
        addresses = [str(parse_address(text)) for text in dict.fromkeys(found)][:MAX_ADDRESSES]
    except EgressError:
        raise
    except TimeoutError as exc:
        raise _lost(called, f"looking it up took longer than {crossing.reserve.resolve_s:g} s") from exc
    except (OSError, UnicodeError, InputError) as exc:
        raise _lost(called, "there is no such host") from exc
    # In a thread: listing the machine's networks reads the operating system's tables.
    faults = await asyncio.to_thread(lambda: [crossing.judge(site.host, address) for address in addresses])
    for fault in faults:
        if fault is not None:
            raise EgressError(
                f"{called} {fault}, where no tool goes; nothing was sent",
                hint="Only public addresses of the internet are reached.",
                code="not_public",
            )
    if not addresses:
        raise _lost(called, "there is no such host")
    return addresses


async def _connect(site: Site, addresses: Sequence[str], crossing: Crossing) -> "_Line":
    """Connect to the first that answers; the guard is open for exactly these, and only meanwhile."""
    called, trust, tried = crossing.name(site), None, "nobody answers"
    if site.scheme == "https":
        trust = crossing.trust or await asyncio.to_thread(ssl.create_default_context)
    async with crossing.permit(crossing.purpose, addresses, ()) as shut:
        for address in addresses:
            try:
                async with asyncio.timeout(crossing.reserve.connect_s):
                    reader, writer = await open_at(address, site, trust)
                return _Line(reader, writer, called, crossing.reserve)
            except TimeoutError:
                tried = f"no answer in {crossing.reserve.connect_s:g} s"
            except ssl.SSLCertVerificationError as exc:
                raise EndpointError(
                    f"the certificate of {called} does not hold ({exc.verify_message}); nothing was sent",
                    hint="Do not go there.",
                    code="page_certificate",
                ) from exc
            except EgressError:
                raise
            except ssl.SSLError as exc:
                tried = f"no TLS connection ({exc.reason})"
            except (OSError, ValueError) as exc:
                # Not the error's own words: asyncio's name the address, and that of a search server is its owner's.
                number = exc.errno if isinstance(exc, OSError) else None
                tried = os.strerror(number).lower() if number else "no connection"
    raise _lost(called, tried) if shut is None else _lost(called, f"{tried}; {shut}", SHUT_HINT)


class _Line:
    """One connection and one request on it. Leaving its block closes it at once."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, called: str, reserve: Reserve
    ) -> None:
        self._reader, self._writer, self._called, self._reserve = reader, writer, called, reserve
        self._machine = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD_BYTES)
        self._left_bytes = reserve.body_bytes + 2 * MAX_HEAD_BYTES

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.transport.abort()

    async def ask(self, site: Site) -> h11.Response:
        """Send the request and wait for the answer's head."""
        request = h11.Request(method="GET", target=site.path, headers=[("host", site.authority), *_HEADERS])
        self._writer.writelines(
            part for event in (request, h11.EndOfMessage()) if (part := self._machine.send(event)) is not None
        )
        while not isinstance(event := await self._next(), h11.Response):
            if not isinstance(event, h11.InformationalResponse):
                raise self._failed("closed the connection without an answer")
        if _header(event, b"content-encoding").strip().lower() not in ("", "identity"):
            raise self._failed("answers compressed, which was not asked for")
        return event

    async def body(self, most_bytes: int) -> tuple[bytes, bool]:
        """The body, or its beginning, and whether there was more."""
        parts: list[bytes] = []
        size_bytes = 0
        while size_bytes <= most_bytes and isinstance(event := await self._next(), h11.Data):
            parts.append(bytes(event.data))
            size_bytes += len(event.data)
        return b"".join(parts)[:most_bytes], size_bytes > most_bytes

    async def _next(self) -> object:
        while True:
            try:
                event = self._machine.next_event()
                if event is not h11.NEED_DATA:
                    return event
                self._machine.receive_data(await self._receive())
            except h11.RemoteProtocolError as exc:
                raise self._failed("broke off, or answers what is not HTTP/1.1") from exc

    async def _receive(self) -> bytes:
        try:
            async with asyncio.timeout(self._reserve.silence_s):
                data = await self._reader.read(_READ_BYTES)
        except TimeoutError as exc:
            raise _lost(self._called, f"it said nothing for {self._reserve.silence_s:g} s") from exc
        except OSError as exc:
            raise self._failed("closed the connection in the middle") from exc
        self._left_bytes -= len(data)
        if self._left_bytes < 0:
            raise self._failed("sends more around its answer than there is in it")
        return data

    def _failed(self, what: str) -> EndpointError:
        return EndpointError(f"{self._called} {what}", hint="Try another page.", code="page_failed")


def _header(head: h11.Response, name: bytes) -> str:
    return next((value.decode("utf-8", "replace") for each, value in head.headers if each == name), "")


def _lost(called: str, why: str, hint: str = "Check the address.") -> UnreachableError:
    return UnreachableError(f"{called} cannot be reached: {why}", hint=hint, code="page_unreachable")
