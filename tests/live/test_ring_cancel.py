"""A request that is cancelled stops computing on every stage within one step: counted, with real layers and hops."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from models import write_random_model
from mycoswarm.base.errors import RingError
from mycoswarm.catalog.assembly import assemble
from mycoswarm.catalog.depot import PieceStore
from mycoswarm.catalog.piece import Manifest, open_piece, pieces_for, write_manifest
from mycoswarm.catalog.table import Table
from mycoswarm.stage.engine import Batch, Decoded, Engine
from mycoswarm.stage.equipment import equip
from mycoswarm.stage.head import Head
from mycoswarm.stage.hop import Hops, Identity, Terms
from mycoswarm.stage.relay import Relay, Work
from mycoswarm.stage.worker import Worker
from mycoswarm.swarm.server import bind
from mycoswarm.swarm.tls import ephemeral_certificate
from mycoswarm.wire.order import Neighbour
from mycoswarm.wire.report import AnyReport, Finished, Piece
from nodes import CONDITIONS, generation, until

pytestmark = pytest.mark.slow


class CountingEngine(Engine):
    """Counts its steps and their rows."""

    steps = 0
    rows = 0

    def decode(self, batch: Batch) -> Decoded:
        self.steps += 1
        self.rows += len(batch.positions)
        return super().decode(batch)


class ThreeStages:
    """Layers [0, 2), [2, 4), [4, 6), each with its own thread, joined over TLS in this process."""

    def __init__(self) -> None:
        self.engines: list[CountingEngine] = []
        self.relays: list[Relay] = []
        self.reports: list[AnyReport] = []
        self.head: Head | None = None

    @property
    def steps(self) -> list[int]:
        return [engine.steps for engine in self.engines]

    def pieces(self, request_id: str) -> int:
        return sum(isinstance(report, Piece) and report.request_id == request_id for report in self.reports)


@asynccontextmanager
async def three_stages(folder: Path) -> AsyncIterator[ThreeStages]:
    model = write_random_model(folder / "model.gguf", n_layer=6)
    manifest = write_manifest(model)
    store = PieceStore(folder / "pieces")
    ring = ThreeStages()
    certificates = [ephemeral_certificate(f"stage-{index}") for index in range(3)]
    listeners = [bind(["127.0.0.1"], 0) for _ in range(3)]
    neighbours = [
        Neighbour(
            node_id=f"node-{index}",
            certificate_pem=certificates[index][0],
            addresses=("127.0.0.1",),
            port=listeners[index][0].getsockname()[1],
        )
        for index in range(3)
    ]
    async with asyncio.timeout(60), AsyncExitStack() as stack:
        workers = [stack.enter_context(Worker()) for _ in range(3)]
        tables = []
        for index, worker in enumerate(workers):
            engine, table = await asyncio.wrap_future(
                worker.submit(_load, model, manifest, store, range(2 * index, 2 * index + 2))
            )
            stack.callback(worker.submit, engine.close)
            ring.engines.append(engine)
            tables.append(table)
        digest, n_embd = manifest.model_digest, manifest.n_embd
        hops = [
            Hops(
                Terms("ring", digest, n_embd, CONDITIONS.n_ubatch, CONDITIONS.n_seq_max, laps=index),
                node_id=f"node-{index}",
                identity=Identity(*certificates[index]),
                listeners=listeners[index],
                previous=neighbours[index - 1],
                following=neighbours[(index + 1) % 3],
            )
            for index in range(3)
        ]
        await asyncio.gather(*(stack.enter_async_context(each) for each in hops))
        for index in range(2):
            ring.relays.append(Relay(Work(ring.engines[index], tables[index], workers[index]), hops[index]))
        equipment = equip(ring.engines[2], workers[2])
        ring.head = Head(equipment, hops[2], CONDITIONS, n_stages=3, report=ring.reports.append)
        all_drivers: list[Relay | Head] = [*ring.relays, ring.head]
        drivers = zip(all_drivers, hops, strict=True)
        tasks = [asyncio.create_task(_drive(driver, each)) for driver, each in drivers]
        stack.push_async_callback(asyncio.wait, tasks)
        for task in tasks:
            stack.callback(task.cancel)
        yield ring


async def _drive(driver: Relay | Head, hops: Hops) -> None:
    """As the stage process does it."""
    try:
        await driver.run()
    except RingError as exc:
        hops.fail(exc)


def _load(model: Path, manifest: Manifest, store: PieceStore, layers: range) -> tuple[CountingEngine, Table | None]:
    for piece in pieces_for(manifest, layers.start, layers.stop):
        store.receive(manifest, piece, open_piece(model, manifest, piece.name))
    with assemble(store, manifest, layers.start, layers.stop) as files:
        engine = CountingEngine.open(
            files.paths,
            CONDITIONS,
            n_layer=len(layers),
            is_head=layers.stop == manifest.n_layer,
            feeds_tokens=False,
            gpu=False,
        )
        assert isinstance(engine, CountingEngine)
        return engine, Table.open(files.table, files.table_scale) if files.table else None


def admit(ring: ThreeStages, request_id: str) -> None:
    for each in (*ring.relays, ring.head):
        assert each is not None
        each.admit(request_id)


def test_a_cancelled_request_is_computed_for_at_most_one_more_step_on_every_stage(tmp_path: Path) -> None:
    async def main() -> None:
        async with three_stages(tmp_path) as ring:
            assert ring.head is not None
            admit(ring, "r")
            ring.head.generate(generation("r", max_tokens=450, logit_bias={2: -100.0, 4: -100.0}))
            await until(lambda: ring.pieces("r") >= 10)
            ring.head.cancel("r")
            before = ring.steps
            assert isinstance(ring.reports[-1], Finished) and ring.reports[-1].reason == "cancelled"
            admit(ring, "next")
            ring.head.generate(generation("next", "w1", max_tokens=1))
            await until(lambda: any(isinstance(r, Finished) and r.request_id == "next" for r in ring.reports))
            # the next request's one step has gone through all stages behind whatever was under way
            assert all(after - then <= 2 for then, after in zip(before, ring.steps, strict=True))
            assert ring.pieces("r") + 1 >= before[2]

    asyncio.run(main())


def test_a_head_that_asks_for_a_request_without_a_ticket_at_a_relay_ends_the_ring(tmp_path: Path) -> None:
    async def main() -> None:
        async with three_stages(tmp_path) as ring:
            assert ring.head is not None
            ring.head.admit("r")
            ring.relays[0].admit("r")  # but not the second relay: its daemon has seen no ticket
            ring.head.generate(generation("r"))
            await until(lambda: any(getattr(report, "code", "") for report in ring.reports))
            assert ring.engines[1].steps == 0
            (failed,) = [report for report in ring.reports if getattr(report, "code", "")]
            assert getattr(failed, "code", "") == "bad_ticket" and getattr(failed, "lost_node_id", "") == "node-1"
            with pytest.raises(RingError):
                await ring.relays[0]._loop.receive()

    asyncio.run(main())
