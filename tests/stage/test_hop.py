"""Both hops of stages in one process: real sockets, real TLS."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import numpy as np
import pytest

from mycoswarm.base.errors import CaptureError, ProtocolError, RingError
from mycoswarm.stage.hop import MAX_QUEUED, Hops, Identity, Terms
from mycoswarm.swarm.dial import dial
from mycoswarm.swarm.server import bind
from mycoswarm.swarm.tls import client_context, ephemeral_certificate
from mycoswarm.wire.frame import Begin, Change, Remove, Step, lap
from mycoswarm.wire.order import Neighbour

TERMS = Terms(ring_id="r", model_digest="d", n_embd=2048, n_ubatch=256, n_seq_max=4, laps=2)
CERTIFICATES = [ephemeral_certificate(f"stage-{index}") for index in range(3)]


def make_hops(count: int, terms: Sequence[Terms] | None = None) -> list[Hops]:
    listeners = [bind(["127.0.0.1"], 0) for _ in range(count)]
    neighbours = [
        Neighbour(
            node_id=f"node-{index}",
            certificate_pem=CERTIFICATES[index][0],
            addresses=("127.0.0.1",),
            port=listeners[index][0].getsockname()[1],
        )
        for index in range(count)
    ]
    return [
        Hops(
            terms[index] if terms else TERMS,
            node_id=f"node-{index}",
            identity=Identity(*CERTIFICATES[index]),
            listeners=listeners[index],
            previous=neighbours[index - 1],
            following=neighbours[(index + 1) % count],
        )
        for index in range(count)
    ]


@asynccontextmanager
async def joined(count: int) -> AsyncIterator[list[Hops]]:
    async with asyncio.timeout(30), contextlib.AsyncExitStack() as stack:
        hops = make_hops(count)
        await asyncio.gather(*(stack.enter_async_context(each) for each in hops))
        yield hops


def step(number: int, rows: int = 1) -> Step:
    return Step(
        number=number,
        positions=np.arange(rows, dtype=np.int32),
        sequences=np.zeros(rows, np.int32),
        wanted=np.ones(rows, np.bool_),
        hidden=np.random.default_rng(number).standard_normal((rows, 2048), np.float32),
        laps=lap(None, 7) + lap(3, 8),
    )


async def failure_of(hops: Hops) -> RingError:
    with pytest.raises(RingError) as caught:
        while True:
            await hops.receive()
    return caught.value


@pytest.mark.parametrize("count", [2, 3])
def test_changes_go_round_the_ring_in_order_and_unaltered(count: int) -> None:
    async def main() -> None:
        async with joined(count) as hops:
            sent: list[Change] = [Begin(0, 1, "request"), step(1), step(2, 256), Remove(3, 1, 0, -1)]
            for frame in sent:
                await hops[0].send(frame)
                for each in [*hops[1:], hops[0]]:
                    got = await each.receive()
                    if isinstance(frame, Step):
                        assert isinstance(got, Step) and got.laps == frame.laps
                        np.testing.assert_array_equal(got.hidden, frame.hidden)
                    else:
                        assert got == frame
                    if each is not hops[0]:
                        await each.send(got)

    asyncio.run(main())


def test_each_stage_learns_how_long_a_step_was_on_its_way() -> None:
    async def main() -> None:
        async with joined(3) as hops:
            known: dict[int, int] = {}
            for number in range(5000):
                for index, each in enumerate(hops):
                    await each.send(step(number))
                    got = await hops[(index + 1) % 3].receive()
                    assert isinstance(got, Step)
                    if got.hop_us is not None:
                        known[index] = got.hop_us
                if len(known) == 3:
                    break
            assert len(known) == 3 and all(0 < hop_us < 1_000_000 for hop_us in known.values())

    asyncio.run(main())


@pytest.mark.parametrize("laps", [b"", lap(None, 7), lap(3, 8) * 3, lap(3, 8) * 512])
def test_a_step_with_laps_of_other_stages_than_it_passed_is_its_senders_fault(laps: bytes) -> None:
    """Not that of the next one, which would add its own to them."""

    async def main() -> None:
        async with joined(3) as hops:
            await hops[0].send(replace(step(0), laps=laps))
            for each in (hops[1], hops[2], hops[0]):
                error = await failure_of(each)
                assert (error.code, error.lost_node_id) == (ProtocolError.code, "node-0")

    asyncio.run(main())


@pytest.mark.parametrize("numbers", [(0, 2), (0, 0), (1,)])
def test_a_gap_or_repeat_ends_the_ring_for_all(numbers: tuple[int, ...]) -> None:
    async def main() -> None:
        async with joined(3) as hops:
            for number in numbers:
                await hops[0].send(Remove(number, 0, 0, -1))
            for each in (hops[1], hops[2], hops[0]):
                assert (await failure_of(each)).code == ProtocolError.code

    asyncio.run(main())


def test_trouble_at_one_stage_reaches_every_other_with_its_cause() -> None:
    async def main() -> None:
        async with joined(3) as hops:
            hops[1].fail(CaptureError("no rows came out"))
            for each in hops:
                error = await failure_of(each)
                assert isinstance(error, CaptureError) and error.lost_node_id == "node-1"
                with pytest.raises(CaptureError):
                    await each.send(Remove(0, 0, 0, -1))

    asyncio.run(main())


def test_a_stage_that_leaves_is_named_by_the_others() -> None:
    async def main() -> None:
        async with joined(3) as hops:
            await hops[2].__aexit__(None, None, None)
            for each in hops[:2]:
                assert (await failure_of(each)).lost_node_id == "node-2"

    asyncio.run(main())


def test_more_changes_in_flight_than_the_queue_holds_end_the_ring_instead_of_filling_memory() -> None:
    async def main() -> None:
        async with joined(2) as hops:
            with contextlib.suppress(RingError):
                for number in range(MAX_QUEUED + 2):
                    await hops[0].send(Remove(number, 0, 0, -1))
            for each in hops:
                assert (await failure_of(each)).code == ProtocolError.code

    asyncio.run(main())


def test_a_second_hop_from_the_same_neighbour_is_refused() -> None:
    async def main() -> None:
        async with joined(2) as hops:
            context = client_context(*CERTIFICATES[0], trusted_pem=CERTIFICATES[1][0])
            address = f"127.0.0.1:{hops[1]._listeners[0].getsockname()[1]}"
            async with await dial([address], context, lambda der: True, 5) as connection:
                reply = await connection.request("POST", "/hop", TERMS.headers(), timeout_s=5, limit_bytes=1000)
                assert reply.status == 409
                reply = await connection.request("POST", "/hop", timeout_s=5, limit_bytes=1000)
                assert reply.status == 412

    asyncio.run(main())


@pytest.mark.slow
def test_stages_that_differ_about_the_ring_do_not_join() -> None:
    async def main() -> None:
        other = Terms(ring_id="r", model_digest="another", n_embd=2048, n_ubatch=256, n_seq_max=4, laps=2)
        hops = make_hops(2, [TERMS, other])
        results = await asyncio.gather(*(each.__aenter__() for each in hops), return_exceptions=True)
        assert all(isinstance(result, RingError) for result in results)

    asyncio.run(asyncio.wait_for(main(), 30))
