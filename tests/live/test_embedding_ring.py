"""Rings that embed: real stage processes over real TLS on 127.0.0.1, whole and when things break."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from mycoswarm.base.errors import InputError, ProtocolError, RingError, SwarmError, TicketError
from mycoswarm.catalog.facts import read_facts
from mycoswarm.catalog.shelf import BUILT_IN_PATH
from mycoswarm.stage.pooled import PooledModel
from mycoswarm.stage.ring import Ring
from mycoswarm.wire.order import Embed
from mycoswarm.wire.plan import Conditions, embedding_under
from mycoswarm.wire.report import Finished, Vector
from mycoswarm.wire.request import Embedding
from nodes import CONDITIONS, WARRANT, Swarm, generation, stage_processes, swarm_of, until

pytestmark = pytest.mark.slow

EMBEDDING: Conditions = embedding_under(CONDITIONS, "mean", 256)
N_LAYER = read_facts(BUILT_IN_PATH).n_layer
TEXTS = ("a ring", "Several small machines.", "a ring", "x" * 90)


@asynccontextmanager
async def opened(
    folder: Path, name: str = "a", conditions: Conditions = EMBEDDING
) -> AsyncIterator[tuple[Swarm, Ring]]:
    async with (
        swarm_of(folder, model=BUILT_IN_PATH) as swarm,
        swarm.ring((name, N_LAYER), conditions=conditions) as ring,
    ):
        yield swarm, ring


async def vectors(ring: Ring, request_id: str, texts: Sequence[str] = TEXTS) -> list[bytes]:
    found: list[bytes] = []
    asked = Embedding(request_id=request_id, inputs=tuple(texts))
    async with contextlib.aclosing(ring.generate(asked, WARRANT)) as reports:
        async for report in reports:
            if isinstance(report, Vector):
                assert report.index == len(found)
                found.append(report.values)
            if isinstance(report, Finished):
                assert report.prompt_tokens > len(texts) and report.reason == "stop"
                return found
    raise AssertionError("the vectors had no end")


def computed_here() -> list[bytes]:
    model = PooledModel.open([BUILT_IN_PATH], EMBEDDING, n_layer=N_LAYER, gpu=False)
    try:
        return [model.embed(model.read(text)).astype("<f4").tobytes() for text in TEXTS]
    finally:
        model.close()


def test_a_ring_gives_the_bits_that_its_model_gives_and_two_requests_at_once_the_same(tmp_path: Path) -> None:
    wanted = computed_here()

    async def main() -> None:
        async with asyncio.timeout(60), opened(tmp_path) as (swarm, ring):
            assert await vectors(ring, "alone") == wanted
            both = await asyncio.gather(vectors(ring, "r1"), vectors(ring, "r2", TEXTS[::-1]))
            assert both == [wanted, wanted[::-1]]
            assert [ticket.request_id for ticket in swarm.nodes["a"].tickets][-3:] == ["alone", "r1", "r2"]
            assert ring.lost is None

    asyncio.run(main())


def test_a_node_that_does_not_hold_the_model_gets_its_pieces_and_gives_the_same_bits(tmp_path: Path) -> None:
    wanted = computed_here()

    async def main() -> None:
        async with asyncio.timeout(60), opened(tmp_path, "b") as (_, ring):
            assert await vectors(ring, "r") == wanted

    asyncio.run(main())


def test_a_text_that_is_too_long_costs_its_own_request_alone(tmp_path: Path) -> None:
    async def main() -> None:
        async with asyncio.timeout(60), opened(tmp_path) as (_, ring):
            long = ["fine", "w " * 300]
            with pytest.raises(InputError, match=r"input 1: .* 256 tokens are the most") as caught:
                await vectors(ring, "long", long)
            assert caught.value.code == "context_length_exceeded" and caught.value.status == 400
            wrong = Embedding(request_id="wide", inputs=("a",), dimensions=7)
            with pytest.raises(InputError, match="dimensions, and 7 are asked for"):
                async for _ in ring.generate(wrong, WARRANT):
                    pass
            assert len(await vectors(ring, "fine")) == len(TEXTS)

    asyncio.run(main())


def test_a_request_that_is_left_is_cancelled_and_the_ring_goes_on(tmp_path: Path) -> None:
    async def main() -> None:
        async with asyncio.timeout(60), opened(tmp_path) as (_, ring):
            many = Embedding(request_id="many", inputs=("a ring of small machines " * 20,) * 2000)
            async with contextlib.aclosing(ring.generate(many, WARRANT)) as reports:
                assert isinstance(await anext(reports), Vector)
            started = asyncio.get_running_loop().time()
            assert len(await vectors(ring, "next")) == len(TEXTS)
            assert asyncio.get_running_loop().time() - started < 5  # the rest of the many takes longer

    asyncio.run(main())


def test_a_killed_stage_is_a_lost_node_at_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with asyncio.timeout(60), opened(tmp_path) as (_, ring):
            many = Embedding(request_id="many", inputs=("a ring of small machines " * 20,) * 2000)
            with pytest.raises(RingError) as caught:
                async for report in ring.generate(many, WARRANT):
                    if isinstance(report, Vector) and report.index == 3:
                        stage_processes()[0].kill()
            assert caught.value.lost_node_id == "a"

    asyncio.run(main())


@pytest.mark.parametrize("embeds", [True, False])
def test_a_ring_does_what_its_plan_is_for_and_nothing_else(tmp_path: Path, embeds: bool) -> None:
    async def main() -> None:
        conditions = EMBEDDING if embeds else CONDITIONS
        async with asyncio.timeout(60), opened(tmp_path, conditions=conditions) as (_, ring):
            work = generation("r") if embeds else Embedding(request_id="r", inputs=("a",))
            with pytest.raises((ProtocolError, RingError)):
                async for _ in ring.generate(work, WARRANT):
                    pass
            await until(lambda: not stage_processes())

    asyncio.run(main())


def test_texts_without_a_ticket_are_refused(tmp_path: Path) -> None:
    async def main() -> None:
        async with asyncio.timeout(60), opened(tmp_path) as (swarm, ring):
            order = Embed(embedding=Embedding(request_id="stolen", inputs=("a",)))
            await ring._seats["a"].tell(order)  # as a coordinator that asks without one
            await until(lambda: swarm.nodes["a"].refused)
            assert isinstance(swarm.nodes["a"].refused[0], TicketError)
            assert len(await vectors(ring, "paid")) == len(TEXTS)

    asyncio.run(main())


def test_a_split_ring_that_embeds_cannot_be_opened(tmp_path: Path) -> None:
    async def main() -> None:
        async with asyncio.timeout(60), swarm_of(tmp_path) as swarm:
            with pytest.raises(SwarmError, match="a ring that embeds has one stage"):
                await _open_split(swarm)

    asyncio.run(main())


async def _open_split(swarm: Swarm) -> None:
    async with swarm.ring(("a", 3), ("b", 6), conditions=EMBEDDING):
        pass


def test_vectors_are_numbers_of_length_one() -> None:
    for values in computed_here():
        assert abs(float(np.linalg.norm(np.frombuffer(values, "<f4"))) - 1) < 1e-5
