"""The answering side: who gets in, what an app sees, how it stops."""

import asyncio
import signal
import socket
import ssl
import tempfile
import time
from pathlib import Path

import pytest
import zttp
from starlette.types import Receive, Scope, Send

from mycoswarm.base.errors import SetupError, TrustError, UnreachableError
from mycoswarm.swarm.credit import STREAM_WINDOW_BYTES
from mycoswarm.swarm.dial import dial
from mycoswarm.swarm.server import PeerServer, bind
from mycoswarm.swarm.tls import client_context, fingerprint, server_context
from peers import CLIENT, SERVER, STRANGER, Run, Witness, ask, both_loops, child, connect, pair, serving


async def _raw(port: int, context: ssl.SSLContext | None, data: bytes) -> bytes:
    """What a client gets that is not one of ours."""
    async with asyncio.timeout(10):
        try:
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", port, ssl=context, server_hostname="" if context else None
            )
            try:
                writer.write(data)
                return await reader.read()
            finally:
                writer.transport.abort()
        except (ssl.SSLError, ConnectionError):
            return b""


@both_loops
def test_the_app_sees_whose_certificate_it_is(run: Run) -> None:
    async def main() -> None:
        async with pair() as (_, _, connection):
            answer = await ask(connection, "/whoami?a=1")
            client_der = ssl.PEM_cert_to_DER_cert(CLIENT[0])
            assert answer == {"peer": fingerprint(client_der), "bytes": 0, "query": "a=1"}
            assert connection.peer_der == ssl.PEM_cert_to_DER_cert(SERVER[0])

    run(main())


@both_loops
def test_reading_the_body_of_a_request_without_one_does_not_hang(run: Run) -> None:
    async def main() -> None:
        async with pair() as (_, _, connection):
            stream = await connection.open("GET", "/whoami")
            await stream.end()
            assert await stream.response(5) == 200
            assert await stream.body(1000)

    run(main())


def _get(path: bytes) -> tuple[zttp.H2Connection, bytes]:
    """A client of another make, which ends a request with its head, and the bytes that it sends."""
    http = zttp.Connection(zttp.CLIENT, protocol=zttp.HTTP2)
    http.initiate_connection()
    preface = http.data_to_send()
    http.send_request(b"GET", path, b"2", [(b"host", b"x")])
    head = bytearray(http.data_to_send())
    head[4] |= 1  # END_STREAM; zttp's own client always sends it in a frame of its own
    return http, preface + head


@both_loops
def test_a_request_whose_head_is_its_end_does_not_hang(run: Run) -> None:
    async def main() -> None:
        async with asyncio.timeout(10), serving(Witness()) as server:
            http, request = _get(b"/whoami")
            context = client_context(*CLIENT, trusted_pem=SERVER[0])
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=context, server_hostname="")
            writer.write(request)
            events: list[object] = []
            while not any(isinstance(event, zttp.Data) for event in events):
                http.receive_data(await reader.read(4096))
                while (event := http.next_event()) is not zttp.NEED_DATA:
                    events.append(event)
            writer.transport.abort()

    run(main())


@pytest.mark.parametrize("damage", [b"\xff" * 100, bytes.fromhex("00000000000000000100"), _get(b"/\xff\xfe")[1][24:]])
def test_broken_http_closes_its_connection_alone(damage: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with pair() as (_, server, connection):
            context = client_context(*CLIENT, trusted_pem=SERVER[0])
            preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000")
            assert await _raw(server.port, context, preface + damage)  # the server's settings, then the end
            await ask(connection)

    asyncio.run(main())
    assert all(record.levelname == "WARNING" for record in caplog.records)


@both_loops
def test_plain_http_to_the_peer_port_gets_nothing(run: Run) -> None:
    async def main() -> None:
        async with serving(Witness()) as server:
            assert await _raw(server.port, None, b"GET /whoami HTTP/1.1\r\nHost: x\r\n\r\n") in (b"", _tls_alert())
            preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000")
            assert await _raw(server.port, None, preface) in (b"", _tls_alert())

    run(main())


def _tls_alert() -> bytes:
    return bytes.fromhex("15030100020246")  # "protocol version": TLS's own word to who does not speak it


@both_loops
def test_http_1_inside_tls_gets_nothing(run: Run) -> None:
    async def main() -> None:
        async with serving(Witness()) as server:
            for protocols in (["http/1.1"], []):
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
                _lend_identity(context)
                if protocols:
                    context.set_alpn_protocols(protocols)
                assert await _raw(server.port, context, b"GET /whoami HTTP/1.1\r\nHost: x\r\n\r\n") == b""

    run(main())


@both_loops
def test_tls_1_2_is_refused_at_the_handshake(run: Run) -> None:
    async def main() -> None:
        async with serving(Witness()) as server:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            context.set_alpn_protocols(["h2"])
            _lend_identity(context)
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await asyncio.open_connection("127.0.0.1", server.port, ssl=context, server_hostname="")

    run(main())


def _lend_identity(context: ssl.SSLContext) -> None:
    """Give a context the certificate that the server trusts, so that only the rest is wrong with it."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "both.pem").write_text("".join(CLIENT))
        context.load_cert_chain(Path(folder, "both.pem"))


@both_loops
def test_a_foreign_certificate_is_refused(run: Run) -> None:
    async def main() -> None:
        async with serving(Witness()) as server:
            with pytest.raises(TrustError) as caught:
                await connect(server.port, client_context(*STRANGER, trusted_pem=SERVER[0]))
            assert "refused this node's certificate" in caught.value.message

    run(main())


@both_loops
def test_no_certificate_is_refused(run: Run) -> None:
    async def main() -> None:
        async with serving(Witness()) as server:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            context.set_alpn_protocols(["h2"])
            with pytest.raises(TrustError):
                await connect(server.port, context)

    run(main())


@pytest.mark.slow
@both_loops
def test_a_killed_client_reaches_the_app_as_a_disconnect(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        witness = Witness()
        async with asyncio.timeout(20), serving(witness) as server:
            process = child("client", str(server.port), folder=tmp_path)
            try:
                await witness.began.wait()
                process.kill()
                begun = time.monotonic()
                await witness.gone.wait()
                assert time.monotonic() - begun < 1.0
            finally:
                process.kill()
                process.communicate()

    run(main())


@both_loops
def test_a_reset_by_the_client_reaches_the_app_as_a_disconnect(run: Run) -> None:
    async def main() -> None:
        async with pair() as (witness, _, connection):
            stream = await connection.open("POST", "/hold")
            assert await stream.receive() == b"here"
            stream.reset()
            await witness.gone.wait()
            await ask(connection)

    run(main())


def test_a_reset_ends_an_app_that_waits_to_send(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        witness = Witness()
        left = asyncio.Event()

        async def flood(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": bytes(STREAM_WINDOW_BYTES), "more_body": True})
            witness.began.set()
            try:
                await send({"type": "http.response.body", "body": b"one too many", "more_body": True})
            except OSError:
                left.set()
                raise

        sockets = bind(["127.0.0.1"], 0)
        async with (
            asyncio.timeout(10),
            PeerServer(flood, server_context(*SERVER, trusted_pem=CLIENT[0]), sockets) as it,
        ):
            async with await connect(it.port) as connection:
                stream = await connection.open("GET", "/")
                await witness.began.wait()
                stream.reset()
                await left.wait()
            async with await connect(it.port) as connection:  # and so does a lost connection
                left.clear()
                witness.began.clear()
                await connection.open("GET", "/")
                await witness.began.wait()
                connection.abort()
                await left.wait()

    asyncio.run(main())
    assert not caplog.records  # a client that leaves is no error


def test_a_reset_while_the_app_reads_is_no_error_to_log(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with pair() as (_, _, connection):
            stream = await connection.open("POST", "/echo")
            await stream.send(b"x")
            assert await stream.receive() == b"x"
            stream.reset()
            await ask(connection)

    asyncio.run(main())
    assert not caplog.records


@both_loops
def test_live_connections_of_an_expelled_node_close(run: Run) -> None:
    async def main() -> None:
        async with pair() as (witness, server, connection):
            stream = await connection.open("POST", "/hold")
            assert await stream.receive() == b"here"
            assert server.close_connections(lambda der: der == ssl.PEM_cert_to_DER_cert(STRANGER[0])) == 0
            await ask(connection)
            assert server.close_connections(lambda der: der == ssl.PEM_cert_to_DER_cert(CLIENT[0])) == 1
            with pytest.raises(UnreachableError):
                await stream.receive()
            await witness.gone.wait()

    run(main())


@pytest.mark.slow
@both_loops
def test_a_server_stops_within_two_seconds_with_streams_open(run: Run) -> None:
    async def main() -> None:
        witness = Witness()
        async with asyncio.timeout(20):
            async with serving(witness) as server:
                connection = await connect(server.port)
                stream = await connection.open("POST", "/hold")
                stuck = await connection.open("POST", "/sink")
                assert await stream.receive() == b"here"
                await stuck.send(b"x")
                begun = time.monotonic()
            assert time.monotonic() - begun < 2.0
            assert connection.is_spent
            await witness.gone.wait()
            await connection.close()

    run(main())


@pytest.mark.slow
def test_a_frozen_client_does_not_delay_the_stop(tmp_path: Path) -> None:
    async def main() -> None:
        witness = Witness()
        async with asyncio.timeout(20):
            async with serving(witness) as server:
                process = child("client", str(server.port), folder=tmp_path)
                try:
                    await witness.began.wait()
                    process.send_signal(signal.SIGSTOP)
                    begun = time.monotonic()
                    await server.__aexit__(None, None, None)
                    assert time.monotonic() - begun < 2.0
                    await witness.gone.wait()
                finally:
                    process.kill()
                    process.communicate()

    asyncio.run(main())


@both_loops
def test_a_port_is_free_again_when_its_server_has_stopped(run: Run) -> None:
    async def main() -> None:
        async with serving(Witness()) as server:
            port = server.port
            async with await connect(port) as connection:
                await ask(connection)
        with pytest.raises(UnreachableError):
            await connect(port)
        for sock in bind(["127.0.0.1"], port):
            sock.close()

    run(main())


def test_a_client_that_never_shakes_hands_does_not_delay_the_stop() -> None:
    async def main() -> None:
        async with asyncio.timeout(10):
            async with serving(Witness()) as server:
                _, writer = await asyncio.open_connection("127.0.0.1", server.port)
                begun = time.monotonic()
            assert time.monotonic() - begun < 0.5
            writer.transport.abort()
            await asyncio.sleep(0)

    asyncio.run(main())


def test_a_server_tells_idle_clients_goodbye_and_stops_at_once() -> None:
    async def main() -> None:
        async with asyncio.timeout(20):
            async with serving(Witness()) as server:
                connection = await connect(server.port)
                await ask(connection)
                begun = time.monotonic()
            assert time.monotonic() - begun < 0.5
            with pytest.raises(UnreachableError):
                await connection.open("GET", "/whoami")
            await connection.close()

    asyncio.run(main())


def test_a_busy_port_is_named_in_the_error() -> None:
    (taken,) = bind(["127.0.0.1"], 0)
    with taken:
        port = taken.getsockname()[1]
        with pytest.raises(SetupError) as caught:
            bind(["127.0.0.1"], port)
        assert caught.value.code == "port_in_use"
        assert str(port) in caught.value.message
        assert str(port) in caught.value.hint


def test_an_address_that_is_not_ours_is_a_setup_error() -> None:
    with pytest.raises(SetupError) as caught:
        bind(["192.0.2.1"], 0)  # RFC 5737: never anybody's
    assert caught.value.code == "cannot_listen"


@pytest.mark.skipif(not socket.has_ipv6, reason="this machine has no IPv6")
@both_loops
def test_one_port_serves_ipv4_and_ipv6(run: Run) -> None:
    async def main() -> None:
        try:
            sockets = bind(["127.0.0.1", "::1"], 0)
        except SetupError as exc:
            pytest.skip(f"no IPv6 loopback: {exc}")
        context = server_context(*SERVER, trusted_pem=CLIENT[0])
        async with PeerServer(Witness().app, context, sockets) as server:
            for address in (f"127.0.0.1:{server.port}", f"[::1]:{server.port}"):
                mine = client_context(*CLIENT, trusted_pem=SERVER[0])
                async with await dial([address], mine, lambda der: True, 5) as connection:
                    await ask(connection)

    run(main())
