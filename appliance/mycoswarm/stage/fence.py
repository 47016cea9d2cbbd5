"""The event loop of stages: uvloop, with a fence before its own ways out, which Python's audit events do not see.

libuv connects, sends datagrams and looks names up in C. Here each of those either goes by Python's own calls, raises
the audit event that Python's call would have raised, or is refused:

    create_connection(host)        looked up and connected by Python, then handed to libuv as a ready socket
    create_server(host)            its hosts are asked as look-ups; libuv then listens
    getaddrinfo, getnameinfo       asked first, then done by libuv; sock_connect uses the first, and Python's connect
    create_datagram_endpoint       refused: its transport sends anywhere in C, also around a socket that was given

What stays: sockets that are connected already, Unix sockets, pipes, and started programs. None of them names a place
in the network.
"""

import socket
import sys
from typing import Any

import uvloop

from mycoswarm.base.errors import EgressError


class FencedLoop(uvloop.Loop):
    """uvloop whose every way out asks the egress guard. Without a guard it is uvloop without datagrams."""

    async def create_connection(
        self, protocol_factory: Any, host: Any = None, port: Any = None, *, sock: Any = None, **options: Any
    ) -> Any:
        """As asyncio's, without `local_addr` and the flags of look-ups.

        Raises:
            EgressError: nothing allows it.
        """
        if sock is not None or host is None:
            return await super().create_connection(protocol_factory, host, port, sock=sock, **options)
        if options.get("ssl") and options.get("server_hostname") is None:
            options["server_hostname"] = host
        fresh = await self._connected(host, port)
        try:
            return await super().create_connection(protocol_factory, sock=fresh, **options)
        except BaseException:
            fresh.close()
            raise

    async def create_server(self, protocol_factory: Any, host: Any = None, port: Any = None, **options: Any) -> Any:
        """As asyncio's.

        Raises:
            EgressError: a host is a name that may not be looked up.
        """
        for each in (host,) if host is None or isinstance(host, str) else host:
            sys.audit("socket.getaddrinfo", each, port, 0, 0, 0)
        return await super().create_server(protocol_factory, host, port, **options)

    async def create_datagram_endpoint(self, *arguments: Any, **options: Any) -> Any:
        """Refuse.

        Raises:
            EgressError: always.
        """
        where = options.get("remote_addr") or options.get("sock") or arguments[2:3] or "anywhere"
        sys.audit("mycoswarm.datagrams", str(where))
        raise EgressError("a stage may send no datagrams", hint="Stages speak TCP alone.")

    async def getaddrinfo(self, host: Any, port: Any, **options: Any) -> Any:
        """As asyncio's.

        Raises:
            EgressError: the name may not be looked up.
        """
        sys.audit("socket.getaddrinfo", host, port, 0, 0, 0)
        return await super().getaddrinfo(host, port, **options)

    async def getnameinfo(self, sockaddr: Any, flags: int = 0) -> Any:
        """As asyncio's.

        Raises:
            EgressError: the address may not be looked up.
        """
        sys.audit("socket.getnameinfo", sockaddr)
        return await super().getnameinfo(sockaddr, flags)

    async def _connected(self, host: Any, port: Any) -> socket.socket:
        failed: OSError | None = None
        for family, kind, protocol, _, address in await self.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            fresh = socket.socket(family, kind, protocol)
            try:
                fresh.setblocking(False)
                await self.sock_connect(fresh, address)
            except OSError as exc:
                fresh.close()
                failed = exc
            except BaseException:
                fresh.close()
                raise
            else:
                return fresh
        assert failed is not None  # getaddrinfo raises where it finds nothing
        raise failed
