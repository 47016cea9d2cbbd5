"""One connection to a judged address of an endpoint or other server, one HTTP/1.1 request on it, and its answer.

On h11 and asyncio's streams, with no HTTP client library over them: the caller must stand between "connected, TLS and
name proved" and the first byte sent, and must choose the very address, which those clients' pools do not offer. There
is nothing here that could go elsewhere: no redirects, cookies, proxies of the environment, pools or second look-ups.
The connection is closed by `close` at once, without waiting for the other side.
"""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import h11

from mycoswarm.base.errors import EgressError, EndpointError, UnreachableError
from mycoswarm.base.url import Site
from mycoswarm.external.complaint import broken_off, garbled
from mycoswarm.external.target import SHUT_HINT, Limits, Passage, Target
from mycoswarm.external.whereabouts import Spot
from mycoswarm.swarm.dial import parse_address

MAX_HEAD_BYTES = 64 << 10  # as much as the largest headers of real servers, several times
MAX_WAITS = 3  # of `connect_s`, over all addresses of a name together
_READ_BYTES = 64 << 10
_CLOSE_S = 1.0


@dataclass(frozen=True, slots=True)
class Head:
    """An answer's beginning. `kind` is its media type without parameters; `fields` are all headers, names small."""

    status: int
    kind: str
    retry_after: str | None
    fields: Mapping[str, str] = field(default_factory=dict, repr=False)


async def connect(target: Target, site: Site, spots: Sequence[Spot], passage: Passage) -> "Conduit":
    """Connect to the first of these addresses that answers; with https, prove its certificate for the host's name.

    Raises:
        UnreachableError: none answers in time.
        EndpointError: one answers with a certificate that does not hold for that name.
        EgressError: this process may not connect there.
    """
    trust = None
    if site.scheme == "https":
        trust = passage.trust or await asyncio.to_thread(ssl.create_default_context)
    tried = []
    clock = asyncio.get_running_loop().time
    deadline_s = clock() + passage.limits.connect_s * MAX_WAITS
    async with passage.permit(target.words, [spot.address for spot in spots], ()) as shut:
        for spot in spots:
            wait_s = min(passage.limits.connect_s, deadline_s - clock())
            if wait_s <= 0:
                break
            try:
                async with asyncio.timeout(wait_s):
                    reader, writer = await open_at(spot.address, site, trust)
            except TimeoutError:
                tried.append(f"{spot.address}: no answer in {wait_s:.3g} s")
            except ssl.SSLCertVerificationError as exc:
                raise EndpointError(
                    f"{target.words}: the certificate at {spot.address} does not hold for {site.host} "
                    f"({exc.verify_message}); nothing was sent",
                    hint=f"Correct the {target.kind}'s URL or its certificate.",
                    code=f"{target.stem}_certificate",
                ) from exc
            except EgressError:
                raise
            except ssl.SSLError as exc:
                tried.append(f"{spot.address}: no TLS connection ({exc.reason})")
            except (OSError, ValueError) as exc:
                tried.append(f"{spot.address}: {getattr(exc, 'strerror', None) or 'no connection'}")
            else:
                return Conduit(target, site, spot, reader=reader, writer=writer, limits=passage.limits)
    raise UnreachableError(
        f"{target.words} does not answer ({'; '.join(tried)})" + (f"; {shut}" if shut else ""),
        hint=f"Check the {target.kind}'s URL, and that its machine is on." if shut is None else SHUT_HINT,
        code=f"{target.stem}_unreachable",
    )


async def open_at(
    address: str, site: Site, trust: ssl.SSLContext | None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a socket to exactly this address, "host:port" in numbers, and TLS on it in the host's name; raises OSError.

    Raises:
        EgressError: this process may not connect there.
    """
    where = parse_address(address)
    host, _, scope = where.host.partition("%")
    is_six = ipaddress.ip_address(host).version == 6
    number = (int(scope) if scope.isdigit() else socket.if_nametoindex(scope)) if scope else 0
    sock = socket.socket(socket.AF_INET6 if is_six else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        exact = (host, where.port, 0, number) if is_six else (host, where.port)
        await asyncio.get_running_loop().sock_connect(sock, exact)
        if trust is None:
            return await asyncio.open_connection(sock=sock)
        return await asyncio.open_connection(
            sock=sock, ssl=trust, server_hostname=site.host, ssl_shutdown_timeout=_CLOSE_S
        )
    except BaseException:
        sock.close()
        raise


class Conduit:
    """Use with `with`: leaving the block closes the connection at once."""

    def __init__(
        self,
        target: Target,
        site: Site,
        spot: Spot,
        *,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        limits: Limits,
    ) -> None:
        self.spot = spot
        self._target, self._site, self._limits = target, site, limits
        self._reader, self._writer = reader, writer
        self._machine = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD_BYTES)
        self._deadline_s = 0.0
        self._read_bytes = 0
        self._has_head = self._has_ended = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.transport.abort()

    async def ask(self, method: str, path: str, body: bytes = b"", more: Mapping[str, str] | None = None) -> Head:
        """Send the one request and wait for the answer's head. `more`: headers over the usual ones, names small.

        Raises:
            EndpointError: no answer in time, none at all, or none of HTTP's.
        """
        self._deadline_s = asyncio.get_running_loop().time() + self._limits.whole_s
        request = h11.Request(method=method, target=self._site.path + path, headers=self._headers(body, more or {}))
        # Without waiting for it to be gone: a server may answer before it has read everything, or never read.
        self._writer.writelines(
            part for event in (request, h11.Data(data=body), h11.EndOfMessage()) if (part := self._machine.send(event))
        )
        while not isinstance(event := await self._next(self._limits.head_s), h11.Response):
            if not isinstance(event, h11.InformationalResponse):
                raise broken_off(self._target, "it closed the connection before it answered")
        self._has_head = True
        headers = {name.decode("ascii"): value.decode("latin-1") for name, value in event.headers}
        if headers.get("content-encoding", "identity").lower() != "identity":
            raise garbled(self._target, "it is compressed, which was not asked for")
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        return Head(event.status_code, kind, headers.get("retry-after"), headers)

    def hurry(self) -> None:
        """What matters has been read: the rest may take `tail_s` from the first call of this."""
        self._deadline_s = min(self._deadline_s, asyncio.get_running_loop().time() + self._limits.tail_s)

    async def read(self) -> bytes | None:
        """The body's next bytes; None at its end, where the framing says so.

        Raises:
            EndpointError: silence for too long, a connection lost in the middle, or too much of an answer.
        """
        event = await self._next(self._limits.silence_s)
        if isinstance(event, h11.Data):
            return bytes(event.data)
        return None

    async def read_all(self, most_bytes: int, *, cut: bool = False) -> bytes:
        """The whole body; with `cut` only its beginning where it is longer.

        Raises:
            EndpointError: it is longer, or what `read` raises.
        """
        parts: list[bytes] = []
        size_bytes = 0
        while size_bytes <= most_bytes and (data := await self.read()) is not None:
            parts.append(data)
            size_bytes += len(data)
        body = b"".join(parts)
        if size_bytes > most_bytes and not cut:
            raise self._too_much(most_bytes)
        return body[:most_bytes]

    def _headers(self, body: bytes, more: Mapping[str, str]) -> list[tuple[str, str]]:
        headers = {
            "host": self._site.authority,
            "user-agent": "mycoswarm",
            "accept": "text/event-stream, application/json",
            "accept-encoding": "identity",
            "connection": "close",
        }
        if body:
            headers |= {"content-type": "application/json", "content-length": str(len(body))}
        if self._target.secret:
            headers["authorization"] = f"Bearer {self._target.secret}"
        if self._target.via:
            headers["x-mycoswarm-via"] = ",".join(self._target.via)
        return list({**headers, **more}.items())

    async def _next(self, wait_s: float) -> object:
        """h11's next event, or one of its marks."""
        while True:
            try:
                event = self._machine.next_event()
                if event is not h11.NEED_DATA:
                    return event
                self._machine.receive_data(await self._receive(wait_s))
            except h11.RemoteProtocolError:
                # Without the cause: its text may repeat the endpoint's bytes, and in them our key.
                if self._has_ended:
                    raise broken_off(self._target, "it closed the connection in the middle") from None
                raise garbled(self._target, "it is not HTTP/1.1") from None

    async def _receive(self, wait_s: float) -> bytes:
        """Whatever has arrived, waited for not longer than this nor than the whole may take; b"" is the end."""
        left_s = self._deadline_s - asyncio.get_running_loop().time()
        if left_s <= 0:  # said here too: a read that need not wait never times out
            raise self._silent(wait_s, left_s)
        try:
            async with asyncio.timeout(min(wait_s, left_s)):
                data = await self._reader.read(_READ_BYTES)
        except TimeoutError as exc:
            raise self._silent(wait_s, left_s) from exc
        except OSError as exc:
            raise broken_off(self._target, "the connection was lost") from exc
        self._has_ended = not data
        self._read_bytes += len(data)
        if self._read_bytes > self._limits.answer_bytes:
            raise self._too_much(self._limits.answer_bytes)
        return data

    def _silent(self, wait_s: float, left_s: float) -> EndpointError:
        if left_s < wait_s:
            return broken_off(self._target, "its answer took too long")
        if self._has_head:
            return broken_off(self._target, f"nothing came for {wait_s:g} s")
        return EndpointError(
            f"{self._target.words} took the request and said nothing for {wait_s:g} s",
            code=f"{self._target.stem}_silent",
        )

    def _too_much(self, most_bytes: int) -> EndpointError:
        return EndpointError(
            f"{self._target.words} sent more than {most_bytes} bytes", code=f"{self._target.stem}_too_much"
        )
