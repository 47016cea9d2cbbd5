"""The asking side: streams, limits, and what a reset or a lost connection looks like."""

import asyncio
import time
from pathlib import Path

import pytest

from mycoswarm.base.errors import ProtocolError, UnreachableError
from mycoswarm.swarm.client import MAX_RESETS, MAX_STREAMS
from peers import Run, Witness, ask, both_loops, child, connect, pair, serving

MB = 1 << 20


@both_loops
def test_both_directions_of_a_stream_flow_at_once(run: Run) -> None:
    async def main() -> None:
        async with pair() as (_, _, connection), await connection.open("POST", "/echo") as stream:
            assert await stream.response(5) == 200
            for number in range(20):
                message = bytes((number,)) * 8192
                await stream.send(message)
                echoed = bytearray()
                while len(echoed) < len(message):
                    echoed += await stream.receive() or b""
                assert echoed == message
            await stream.end()
            assert await stream.receive() is None

    run(main())


@pytest.mark.slow
@both_loops
def test_messages_of_4_mb_arrive_whole_both_ways(run: Run) -> None:
    async def main() -> None:
        async with pair() as (_, _, connection), await connection.open("POST", "/echo") as stream:
            message = b"".join(number.to_bytes(4, "big") for number in range(MB))
            for _ in range(2):
                sending = asyncio.create_task(stream.send(message))
                echoed = bytearray()
                while len(echoed) < len(message):
                    echoed += await stream.receive() or b""
                await sending
                assert echoed == message
            await stream.end()
            assert await stream.receive() is None

    run(main())


@pytest.mark.slow
@both_loops
def test_a_reader_that_stops_stalls_only_its_own_stream(run: Run) -> None:
    async def main() -> None:
        async with pair() as (witness, _, connection), await connection.open("GET", "/flood?128") as stream:
            await stream.end()
            await witness.began.wait()
            for _ in range(50):  # other streams go on
                await ask(connection)
            assert witness.sent_bytes <= 12 * MB  # of 32: the stream's window and what the sockets hold
            pieces = bytearray()
            while (chunk := await stream.receive()) is not None:
                pieces += chunk
            assert len(pieces) == 32 * MB
            assert pieces[:: 256 << 10] == bytes(range(128))

    run(main())


@both_loops
def test_a_sender_waits_while_the_app_does_not_read(run: Run) -> None:
    async def main() -> None:
        async with pair() as (witness, _, connection), await connection.open("POST", "/sink") as stream:
            sending = asyncio.create_task(stream.send(bytes(20 * MB)))
            await witness.began.wait()
            for _ in range(50):
                await ask(connection)
            assert not sending.done()
            witness.gate.set()
            await sending
            await stream.end()
            assert await stream.response(5) == 200
            assert await stream.body(100) == b'{"bytes":20971520}'

    run(main())


def test_several_stalled_streams_do_not_stall_the_connection() -> None:
    async def main() -> None:
        async with pair() as (witness, _, connection):
            streams = [await connection.open("POST", "/sink") for _ in range(4)]
            sendings = [asyncio.create_task(stream.send(bytes(9 * MB))) for stream in streams]
            for _ in range(50):
                await ask(connection)
            assert not any(sending.done() for sending in sendings)
            witness.gate.set()
            await asyncio.gather(*sendings)
            for stream in streams:
                await stream.end()
                assert await stream.response(5) == 200
            assert witness.read_bytes == 36 * MB

    asyncio.run(main())


@pytest.mark.slow
@both_loops
def test_a_hundred_streams_at_once_are_served_fairly(run: Run) -> None:
    async def main() -> None:
        done = [0] * 100
        seen: list[int] = []

        async with pair() as (_, _, connection):

            async def one(index: int) -> None:
                async with await connection.open("POST", "/echo") as stream:
                    for _ in range(20):
                        await stream.send(bytes(8192))
                        count = 0
                        while count < 8192:
                            count += len(await stream.receive() or b"")
                        done[index] += 1
                    seen.append(min(done))
                    await stream.end()
                    assert await stream.receive() is None

            await asyncio.gather(*(one(index) for index in range(100)))
        assert seen[0] >= 10  # when the first had all 20 answers, the last had half

    run(main())


def test_more_streams_than_the_server_allows_wait_for_their_turn() -> None:
    async def main() -> None:
        async with pair() as (_, _, connection):
            answers = await asyncio.gather(*(ask(connection) for _ in range(300)))
            assert len(answers) == 300

    asyncio.run(main())


def test_an_opener_that_is_cancelled_passes_its_turn_on() -> None:
    async def main() -> None:
        async with pair() as (witness, _, connection):
            held = [await connection.open("POST", "/sink") for _ in range(128)]
            openers = [asyncio.create_task(connection.open("POST", "/sink")) for _ in range(2)]
            await asyncio.sleep(0)
            held[0].reset()
            openers[0].cancel()  # in the very moment in which its turn has come
            (await openers[1]).reset()
            witness.gate.set()

    asyncio.run(main())


@pytest.mark.slow
def test_a_connection_says_that_it_is_spent_before_the_server_hangs_up() -> None:
    async def main() -> None:
        async with pair() as (_, _, connection):
            for _ in range(MAX_STREAMS // 100):
                assert not connection.is_spent
                await asyncio.gather(*(ask(connection) for _ in range(100)))
            assert connection.is_spent
            assert not connection.is_closed
            with pytest.raises(UnreachableError) as caught:
                await connection.open("GET", "/whoami")
            assert caught.value.code == "connection_spent"

    asyncio.run(main())


@pytest.mark.slow
def test_many_resets_spend_the_connection_without_breaking_it() -> None:
    async def main() -> None:
        async with pair() as (_, _, connection):
            kept = await connection.open("POST", "/echo")
            for _ in range(MAX_RESETS):
                assert not connection.is_spent
                stream = await connection.open("POST", "/echo")
                await stream.send(b"x")
                stream.reset()
            assert connection.is_spent
            await kept.send(b"still here")
            assert await kept.receive() == b"still here"

    asyncio.run(main())


@pytest.mark.slow
def test_data_that_comes_after_a_reset_does_not_cost_the_connection() -> None:
    async def main() -> None:
        async with pair() as (_, _, connection):
            for _ in range(4):  # up to 500 late frames each, and zttp answers every one with a reset
                stream = await connection.open("GET", "/flood?64")
                await stream.end()
                assert await stream.receive()
                stream.reset()
            for _ in range(20):
                await ask(connection)
            async with await connection.open("GET", "/flood?128") as stream:  # nor its window
                await stream.end()
                assert len(await stream.body(32 * MB)) == 32 * MB

    asyncio.run(main())


def test_a_stream_given_up_says_so_to_its_own_side() -> None:
    async def main() -> None:
        async with pair() as (_, _, connection):
            stream = await connection.open("POST", "/echo")
            stream.reset()
            with pytest.raises(ProtocolError) as caught:
                await stream.receive()
            assert (caught.value.code, caught.value.side) == ("stream_reset", "local")
            with pytest.raises(ProtocolError):
                await stream.send(b"x")
            stream.reset()  # again is nothing

    asyncio.run(main())


def test_a_response_that_is_whole_ends_the_request() -> None:
    async def main() -> None:
        async with pair() as (_, _, connection):
            for _ in range(150):  # more than may be open at once, so each was closed on both sides
                stream = await connection.open("POST", "/early")
                await stream.send(b"x")
                assert await stream.response(5) == 413
                assert await stream.receive() is None
                with pytest.raises(ProtocolError) as caught:
                    await stream.send(b"x")
                assert caught.value.code == "stream_ended"
            assert not connection.is_spent

    asyncio.run(main())


def test_a_sender_that_waits_for_credit_learns_that_the_response_is_whole() -> None:
    async def main() -> None:
        async with pair() as (_, _, connection):
            stream = await connection.open("POST", "/early")
            with pytest.raises(ProtocolError) as caught:
                await stream.send(bytes(64 * MB))
            assert caught.value.code == "stream_ended"
            await ask(connection)

    asyncio.run(main())


@both_loops
def test_an_app_that_breaks_resets_its_stream_only(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with pair() as (witness, _, connection):
            stream = await connection.open("GET", "/boom")
            await stream.end()
            assert await stream.receive() == b"half of"
            witness.gate.set()
            with pytest.raises(ProtocolError) as caught:
                await stream.receive()
            assert caught.value.code == "stream_reset"
            await ask(connection)

    run(main())
    assert "the app broke" in caplog.text


@pytest.mark.slow
@both_loops
def test_a_killed_server_ends_every_wait_at_once(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        process = child("server", folder=tmp_path)
        try:
            assert process.stdout is not None
            port = int(await asyncio.to_thread(process.stdout.readline))
            async with asyncio.timeout(20), await connect(port) as connection:
                stream = await connection.open("POST", "/hold")
                assert await stream.receive() == b"here"
                reading = asyncio.create_task(stream.receive())
                blocked = asyncio.create_task((await connection.open("POST", "/sink")).send(bytes(64 * MB)))
                process.kill()
                begun = time.monotonic()
                with pytest.raises(UnreachableError) as caught:
                    await reading
                assert time.monotonic() - begun < 1.0
                assert caught.value.code == "connection_lost"
                with pytest.raises(UnreachableError):
                    await blocked
                with pytest.raises(UnreachableError):
                    await connection.open("POST", "/hold")
                assert connection.is_spent
        finally:
            process.kill()
            process.communicate()

    run(main())


def test_no_answer_in_time_is_unreachable_and_leaves_no_stream() -> None:
    async def main() -> None:
        async with pair() as (witness, _, connection):
            with pytest.raises(UnreachableError):
                await connection.request("POST", "/sink", timeout_s=0.05, limit_bytes=10)
            stream = await connection.open("POST", "/sink")
            with pytest.raises(UnreachableError):
                await stream.response(0.05)
            stream.reset()
            witness.gate.set()
            await ask(connection)

    asyncio.run(main())


def test_a_body_longer_than_its_limit_is_refused() -> None:
    async def main() -> None:
        async with pair() as (_, _, connection):
            with pytest.raises(ProtocolError):
                await connection.request("GET", "/flood?4", timeout_s=5, limit_bytes=1000)
            await ask(connection)

    asyncio.run(main())


def test_what_http_forbids_in_a_request_is_our_own_fault() -> None:
    async def main() -> None:
        async with pair() as (_, _, connection):
            for path, headers in (("/a b\n", []), ("/", [(b"x-name", b"two\r\nlines")]), ("/", [(b"Upper", b"x")])):
                with pytest.raises(ProtocolError) as caught:
                    await connection.open("GET", path, headers)
                assert caught.value.side == "local"
            await ask(connection)

    asyncio.run(main())


def test_closing_fails_what_is_open_and_takes_no_time() -> None:
    async def main() -> None:
        witness = Witness()
        async with asyncio.timeout(10), serving(witness) as server:
            connection = await connect(server.port)
            stream = await connection.open("POST", "/hold")
            await stream.receive()
            begun = time.monotonic()
            await connection.close()
            await connection.close()
            assert time.monotonic() - begun < 1.0
            with pytest.raises(UnreachableError) as caught:
                await stream.receive()
            assert caught.value.code == "connection_closed"
            await witness.gone.wait()

    asyncio.run(main())
