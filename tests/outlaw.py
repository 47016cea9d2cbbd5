"""A process that tries every way out, and one that listens where it may not come. Tests start both.

    outlaw.py try LOOP JSON     tries; a line of JSON says how each way ended: "done", "refused" or another error
    outlaw.py trap JSON         listens; a line with its ports, and for each line on stdin one with what has arrived

Each way out has a trap of its own, so that what arrives says who sent it.
"""

import asyncio
import http.client
import json
import select
import socket
import sys
import urllib.request
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from typing import Any

from mycoswarm.base.egress import Guard, install
from mycoswarm.base.errors import EgressError
from mycoswarm.stage.fence import FencedLoop

Way = Callable[[str, int], Awaitable[object]]
LIMIT_S = 5.0
HERE = socket.inet_aton("127.0.0.1")


async def sock_connect(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as sock:
        sock.settimeout(LIMIT_S)
        await asyncio.to_thread(sock.connect, (host, port))


async def sock_connect_ex(host: str, port: int) -> None:
    with socket.socket() as sock:
        sock.settimeout(LIMIT_S)
        assert sock.connect_ex((host, port)) == 0


async def sock_sendto(host: str, port: int) -> None:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"x", (host, port))


async def sock_sendto_flags(host: str, port: int) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.sendto(b"x", 0, (host, port))


async def sock_sendmsg(host: str, port: int) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.sendmsg([b"x"], [], 0, (host, port))


async def datagram_connect(host: str, port: int) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.connect((host, port))
        sock.send(b"x")


async def create_connection(host: str, port: int) -> None:
    socket.create_connection((host, port), LIMIT_S).close()


async def by_http_client(host: str, port: int) -> None:
    connection = http.client.HTTPConnection(host, port, timeout=LIMIT_S)
    try:
        connection.connect()
    finally:
        connection.close()


async def by_urllib(host: str, port: int) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        await asyncio.to_thread(opener.open, f"http://{host}:{port}/", None, 0.5)
    except urllib.error.URLError as exc:
        if isinstance(exc.reason, EgressError):
            raise exc.reason from exc
    except TimeoutError:
        pass  # connected; traps do not answer


async def loop_create_connection(host: str, port: int) -> None:
    transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, host, port)
    transport.close()


async def loop_sock_connect(host: str, port: int) -> None:
    with socket.socket() as sock:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, (host, port))


class _Ear(asyncio.DatagramProtocol):
    error: Exception | None = None

    def error_received(self, exc: Exception) -> None:
        self.error = exc


async def loop_datagram_remote(host: str, port: int) -> None:
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(_Ear, remote_addr=(host, port))
    transport.sendto(b"x")
    transport.close()


async def loop_datagram_sendto(host: str, port: int) -> None:
    sock = socket.socket(type=socket.SOCK_DGRAM)
    try:
        sock.bind(("127.0.0.1", 0) if host.startswith("127.") else ("0.0.0.0", 0))
        transport, ear = await asyncio.get_running_loop().create_datagram_endpoint(_Ear, sock=sock)
        transport.sendto(b"x", (host, port))
        is_alive = not transport.is_closing()
        transport.close()
        assert is_alive
        if ear.error is not None:
            raise ear.error
    finally:
        sock.close()


async def loop_getaddrinfo(host: str, port: int) -> None:
    await asyncio.get_running_loop().getaddrinfo(host, port)


async def loop_getnameinfo(host: str, port: int) -> None:
    await asyncio.get_running_loop().getnameinfo((host, port))


async def loop_create_server(host: str, port: int) -> None:
    (await asyncio.get_running_loop().create_server(asyncio.Protocol, host, 0)).close()


async def getaddrinfo(host: str, port: int) -> None:
    socket.getaddrinfo(host, port)


async def gethostbyname(host: str, port: int) -> None:
    socket.gethostbyname(host)


async def gethostbyname_ex(host: str, port: int) -> None:
    socket.gethostbyname_ex(host)


async def gethostbyaddr(host: str, port: int) -> None:
    socket.gethostbyaddr(host)


async def getnameinfo(host: str, port: int) -> None:
    socket.getnameinfo((host, port), 0)


async def bind_to_name(host: str, port: int) -> None:
    with socket.socket() as sock:
        sock.bind((host, 0))


async def unix_socket(host: str, port: int) -> None:
    one, other = socket.socketpair()
    one.close()
    other.close()


async def packet_socket(host: str, port: int) -> None:
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM) as sock:
        sock.bind(("lo", 0))


async def mdns(host: str, port: int) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, HERE)
        sock.sendto(b"x", ("224.0.0.251", port))


WAYS: dict[str, Way] = {name: way for name, way in list(globals().items()) if asyncio.iscoroutinefunction(way)}


async def _try(way: str, host: str, port: int) -> str:
    try:
        async with asyncio.timeout(LIMIT_S):
            await WAYS[way](host, port)
    except EgressError:
        return "refused"
    except Exception as exc:
        return repr(exc)
    return "done"


def attempt(loop: str, told: dict[str, Any]) -> dict[str, str]:
    """Try each of `cases`: key -> [way, host, port]."""
    if told["guarded"]:
        narrow = {"is_loopback": lambda raw: raw == HERE} if told["is_narrow"] else {}
        guard = install(Guard(**narrow))
        guard.stand(lambda: standing)
        from mycoswarm.base.egress import permit

        standing = (permit("the test", addresses=told["addresses"], names=told["names"]),)

    async def main() -> dict[str, str]:
        return {key: await _try(*case) for key, case in told["cases"].items()}

    with asyncio.Runner(loop_factory=FencedLoop if loop == "fenced" else asyncio.new_event_loop) as runner:
        return runner.run(main())


def trap(told: dict[str, list[str]]) -> None:
    """Listen for each of `told`: key -> [kind, host]; kind is "tcp" or "udp", or "udp:53" for a port by number."""
    with ExitStack() as stack:
        traps: dict[str, socket.socket] = {}
        for key, (kind, host) in told.items():
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            kind, _, port = kind.partition(":")
            sock = stack.enter_context(
                socket.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
            )
            sock.bind((host, int(port or 0)))
            if kind == "tcp":
                sock.listen()
            traps[key] = sock
        print(json.dumps({key: sock.getsockname()[1] for key, sock in traps.items()}), flush=True)
        for _ in sys.stdin:
            heard, _, _ = select.select(list(traps.values()), [], [], 0.1)
            arrived = {key: sock.type == socket.SOCK_DGRAM for key, sock in traps.items() if sock in heard}
            texts = {key: repr(traps[key].recv(2048)) if is_udp else "" for key, is_udp in arrived.items()}
            print(json.dumps(texts), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "try":
        print(json.dumps(attempt(sys.argv[2], json.loads(sys.argv[3]))), flush=True)
    else:
        trap(json.loads(sys.argv[2]))
