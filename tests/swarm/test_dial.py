"""Dialling: addresses are hints, certificates decide, nothing is left behind."""

import asyncio
import socket
import ssl
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mycoswarm.base.errors import InputError, TrustError, UnreachableError
from mycoswarm.swarm.dial import Address, dial, parse_address
from mycoswarm.swarm.tls import client_context, server_context
from peers import CLIENT, SERVER, STRANGER, Run, Witness, ask, both_loops, serving

SERVER_DER = ssl.PEM_cert_to_DER_cert(SERVER[0])


def _context() -> ssl.SSLContext:
    return client_context(*CLIENT, trusted_pem=SERVER[0] + STRANGER[0])


def _is_server(der: bytes) -> bool:
    return der == SERVER_DER


@contextmanager
def _mute() -> Iterator[socket.socket]:
    """A port that accepts and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.setblocking(False)
        yield sock


def _address(sock: socket.socket) -> str:
    return f"127.0.0.1:{sock.getsockname()[1]}"


def _closed_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return _address(sock)


@both_loops
def test_the_first_address_with_the_right_identity_wins_and_the_others_are_closed(run: Run) -> None:
    async def main() -> None:
        async with asyncio.timeout(10), serving(Witness()) as server:
            stranger = server_context(*STRANGER, trusted_pem=CLIENT[0])
            async with serving(Witness(), stranger) as other:
                with _mute() as mute:
                    addresses = [_address(mute), f"127.0.0.1:{other.port}", f"127.0.0.1:{server.port}"]
                    async with await dial(addresses, _context(), _is_server, 5) as connection:
                        assert connection.peer_der == SERVER_DER
                        await ask(connection)
                        loop = asyncio.get_running_loop()
                        accepted, _ = await loop.sock_accept(mute)
                        with accepted:
                            accepted.setblocking(False)
                            while await loop.sock_recv(accepted, 4096):
                                pass  # its hello, then the end: the loser is closed

    run(main())


@both_loops
def test_a_wrong_identity_everywhere_is_a_trust_error(run: Run) -> None:
    async def main() -> None:
        stranger = server_context(*STRANGER, trusted_pem=CLIENT[0])
        async with serving(Witness(), stranger) as other:
            with pytest.raises(TrustError) as caught:
                await dial([f"127.0.0.1:{other.port}"], _context(), _is_server, 5)
            assert caught.value.code == "wrong_identity"
            pinned = client_context(*CLIENT, trusted_pem=SERVER[0])
            with pytest.raises(TrustError):  # this time TLS itself refuses it
                await dial([f"127.0.0.1:{other.port}"], pinned, _is_server, 5)

    run(main())


@both_loops
def test_nobody_there_is_unreachable_at_once_and_says_what_was_tried(run: Run) -> None:
    async def main() -> None:
        addresses = [_closed_port(), _closed_port()]
        begun = time.monotonic()
        with pytest.raises(UnreachableError) as caught:
            await dial(addresses, _context(), _is_server, 5)
        assert time.monotonic() - begun < 1.0  # a refusal starts the next attempt at once
        for address in addresses:
            assert address in caught.value.message

    run(main())


@pytest.mark.slow
@both_loops
def test_silence_is_unreachable_when_the_time_is_up(run: Run) -> None:
    async def main() -> None:
        with _mute() as mute:
            begun = time.monotonic()
            with pytest.raises(UnreachableError) as caught:
                await dial([_address(mute), _closed_port()], _context(), _is_server, 0.3)
            assert time.monotonic() - begun < 1.0
            assert "no answer in 0.3 s" in caught.value.message

    run(main())


def test_one_wrong_node_among_dead_addresses_is_unreachable() -> None:
    async def main() -> None:
        stranger = server_context(*STRANGER, trusted_pem=CLIENT[0])
        async with serving(Witness(), stranger) as other:
            with pytest.raises(UnreachableError) as caught:
                await dial([f"127.0.0.1:{other.port}", _closed_port()], _context(), _is_server, 5)
            assert "another node answered" in caught.value.message

    asyncio.run(main())


def test_a_port_that_speaks_something_else_is_unreachable() -> None:
    async def main() -> None:
        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
            await writer.drain()
            await reader.read()
            writer.transport.abort()

        server = await asyncio.start_server(talk, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            with pytest.raises((UnreachableError, TrustError)):
                await dial([f"127.0.0.1:{port}"], _context(), _is_server, 5)

    asyncio.run(main())


@both_loops
def test_a_cancelled_dial_leaves_nothing_behind(run: Run) -> None:
    async def main() -> None:
        with _mute() as mute:
            dialling = asyncio.create_task(dial([_address(mute)], _context(), _is_server, 5))
            loop = asyncio.get_running_loop()
            async with asyncio.timeout(5):
                accepted, _ = await loop.sock_accept(mute)
                with accepted:
                    accepted.setblocking(False)
                    assert await loop.sock_recv(accepted, 4096)
                    dialling.cancel()
                    with pytest.raises(asyncio.CancelledError):
                        await dialling
                    while await loop.sock_recv(accepted, 4096):
                        pass
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(main())


@both_loops
def test_names_and_ipv6_with_a_scope_are_dialled_too(run: Run) -> None:
    async def main() -> None:
        async with serving(Witness()) as server:
            async with await dial([f"localhost:{server.port}"], _context(), _is_server, 5) as connection:
                await ask(connection)
            with pytest.raises(UnreachableError):
                await dial([f"[fe80::1%lo]:{server.port}"], _context(), _is_server, 0.3)
            with pytest.raises(UnreachableError):
                await dial([f"[fe80::1%nowhere0]:{server.port}"], _context(), _is_server, 0.3)

    run(main())


@both_loops
def test_an_audit_hook_sees_every_connection(run: Run) -> None:
    seen: list[object] = []
    is_watching = True

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if is_watching and event == "socket.connect":
            seen.append(arguments[1])

    async def main() -> None:
        async with serving(Witness()) as server:
            sys.addaudithook(hook)  # for the rest of this process, so it goes deaf below
            async with await dial([f"127.0.0.1:{server.port}"], _context(), _is_server, 5):
                assert seen == [("127.0.0.1", server.port)]

    run(main())
    is_watching = False


def test_no_address_is_unreachable() -> None:
    with pytest.raises(UnreachableError):
        asyncio.run(dial([], _context(), _is_server, 5))


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:6927", "127.0.0.1", 6927),
        ("[::1]:1", "::1", 1),
        ("[fe80::1%eth0]:6927", "fe80::1%eth0", 6927),
        ("pi.local:65535", "pi.local", 65535),
    ],
)
def test_addresses_are_read_and_written_alike(text: str, host: str, port: int) -> None:
    assert parse_address(text) == Address(host, port)
    assert str(parse_address(text)) == text


@pytest.mark.parametrize(
    "text",
    ["", ":", "host", "host:", ":1", "host:0", "host:65536", "host:x", "::1:80", "[host]:80", "[::1]", "h:1²", "a b:1"],
)
def test_what_is_no_address_is_an_input_error(text: str) -> None:
    with pytest.raises(InputError):
        parse_address(text)


@settings(deadline=None)  # other work on the machine comes in bursts
@given(st.text(max_size=60))
def test_any_text_is_an_address_or_an_input_error(text: str) -> None:
    try:
        address = parse_address(text)
    except InputError:
        return
    assert parse_address(str(address)) == address
