"""The peer routes, asked by nodes that may and by nodes that may not. No stage starts here unless a test says so."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from mycoswarm.catalog.piece import pieces_for
from mycoswarm.stage.delivery import ticket_header
from mycoswarm.stage.permit import seal_ticket
from mycoswarm.swarm.client import Reply, Stream
from mycoswarm.wire.line import LineSplitter, decode_report, encode_line
from mycoswarm.wire.order import Admit, AnyOrder, Cancel, Generate, Join, Open, Ping
from mycoswarm.wire.plan import RingPlan
from mycoswarm.wire.report import Admitted, AnyReport, Failed, Joined, Nonce, Pong, Progress, Ready
from mycoswarm.wire.ticket import Sealed, Ticket
from nodes import WARRANT, Swarm, dial_as, generation, seal, stage_processes, swarm_of

pytestmark = pytest.mark.slow


def ticket(plan: RingPlan, node_id: str, **changes: object) -> Ticket:
    fields: dict[str, object] = {"nonce": "", "sequence": 0, "lifetime_s": 60.0, "warrant": WARRANT, "request_id": None}
    fields |= {"swarm_id": "swarm", "node_id": node_id, "plan": plan} | changes
    return Ticket(**fields)  # type: ignore[arg-type]  # the fields of a ticket


class Line:
    """A ring stream by hand."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.splitter = LineSplitter()
        self.lines: list[bytes] = []

    async def tell(self, *orders: AnyOrder) -> None:
        for order in orders:
            await self.stream.send(encode_line(order))

    async def hear(self) -> AnyReport | None:
        """The next report that is no mere progress; None at the end."""
        while True:
            while not self.lines:
                data = await self.stream.receive()
                if data is None:
                    return None
                self.lines = self.splitter.feed(data)
            report = decode_report(self.lines.pop(0))
            if not isinstance(report, Progress):
                return report


@asynccontextmanager
async def line_to(swarm: Swarm, node_id: str) -> AsyncIterator[tuple[Line, str]]:
    """A ring stream to a node, and its nonce."""
    async with await swarm.connect(node_id) as connection:
        stream = await connection.open("POST", "/peer/rings")
        assert await stream.response(5) == 200
        line = Line(stream)
        nonce = await line.hear()
        assert isinstance(nonce, Nonce) and len(nonce.nonce) == 32
        yield line, nonce.nonce


async def ask(
    swarm: Swarm, node_id: str, path: str, *, as_name: str, sealed: Sealed | None = None, method: str = "GET"
) -> Reply:
    headers = [ticket_header(sealed)] if sealed else []
    async with await swarm.connect(node_id, as_name=as_name) as connection:
        return await connection.request(method, path, headers, timeout_s=10, limit_bytes=1 << 26)


def in_swarm(folder: Path, test: Callable[[Swarm], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(60), swarm_of(folder) as swarm:
            await test(swarm)

    asyncio.run(main())


async def failure(line: Line) -> Failed:
    report = await line.hear()
    assert isinstance(report, Failed), report
    return report


def test_a_node_outside_the_roster_can_call_nothing(tmp_path: Path) -> None:
    async def test(swarm: Swarm) -> None:
        for method, path in (
            ("POST", "/peer/rings"),
            ("GET", "/peer/card"),
            ("GET", f"/peer/pieces/{swarm.manifest.model_digest}/manifest"),
            ("GET", f"/peer/pieces/{swarm.manifest.model_digest}/keys"),
        ):
            reply = await ask(swarm, "a", path, as_name="stranger", method=method)
            assert reply.status == 403 and b"roster" in reply.body

    in_swarm(tmp_path, test)


def test_only_the_coordinator_opens_rings_and_every_node_may_see_the_card(tmp_path: Path) -> None:
    async def test(swarm: Swarm) -> None:
        reply = await ask(swarm, "a", "/peer/rings", as_name="b", method="POST")
        assert reply.status == 403 and b"coordinator" in reply.body
        reply = await ask(swarm, "a", "/peer/card", as_name="b")
        assert reply.status == 200 and b"node" in reply.body

    in_swarm(tmp_path, test)


def test_a_forged_altered_or_foreign_ticket_starts_nothing(tmp_path: Path) -> None:
    async def test(swarm: Swarm) -> None:
        plan = swarm.plan(("a", 3), ("b", 6))
        async with line_to(swarm, "a") as (_, old_nonce):
            pass

        def altered(nonce: str) -> Sealed:
            sealed = seal_ticket(ticket(plan, "a", nonce=nonce), seal)
            return Sealed(sealed.body.replace(b'"sequence":0', b'"sequence":1'), sealed.signature)

        tries: list[Callable[[str], Sealed]] = [
            lambda nonce: seal_ticket(ticket(plan, "a", nonce=nonce), lambda body: b"forged"),
            altered,
            lambda nonce: seal_ticket(ticket(plan, "a", nonce=old_nonce), seal),
            lambda nonce: seal_ticket(ticket(plan, "b", nonce=nonce), seal),
            lambda nonce: seal_ticket(ticket(plan, "a", nonce=nonce, swarm_id="other"), seal),
            lambda nonce: seal_ticket(ticket(plan, "a", nonce=nonce, lifetime_s=0.0), seal),
            lambda nonce: seal_ticket(ticket(msgspec.structs.replace(plan, n_layer=9), "a", nonce=nonce), seal),
        ]
        for make in tries:
            async with line_to(swarm, "a") as (line, nonce):
                await line.tell(Open(ticket=make(nonce), directory=swarm.directory))
                assert (await failure(line)).code == "bad_ticket"
                assert await line.hear() is None
        assert not stage_processes() and not swarm.nodes["a"].tickets
        assert [error.code for error in swarm.nodes["a"].refused] == ["bad_ticket"] * len(tries)

    in_swarm(tmp_path, test)


def test_orders_out_of_place_end_the_stream_with_a_reason(tmp_path: Path) -> None:
    async def test(swarm: Swarm) -> None:
        orders: list[AnyOrder] = [Ping(), Join(previous=None, following=None), Cancel(request_id="r")]
        for order in orders:
            async with line_to(swarm, "a") as (line, _):
                await line.tell(order)
                assert (await failure(line)).code == "protocol_error"
        async with line_to(swarm, "a") as (line, _):
            await line.stream.send(b"nonsense\n")
            assert (await failure(line)).code == "protocol_error"
        assert (await ask(swarm, "a", "/peer/card", as_name="b")).status == 200

    in_swarm(tmp_path, test)


def test_a_request_needs_its_own_fresh_ticket_on_an_open_ring(tmp_path: Path) -> None:
    async def test(swarm: Swarm) -> None:
        plan = swarm.plan(("a", 6))

        async def heard(line: Line) -> AnyReport | None:
            while isinstance(report := await line.hear(), Pong):
                pass
            return report

        async with line_to(swarm, "a") as (line, nonce):
            await line.tell(Open(ticket=seal_ticket(ticket(plan, "a", nonce=nonce), seal), directory={}))
            beats = asyncio.create_task(beat(line))
            assert isinstance(await heard(line), Ready)
            await line.tell(Join(previous=None, following=None))
            assert isinstance(await heard(line), Joined)
            one = seal_ticket(ticket(plan, "a", nonce=nonce, sequence=1, request_id="one"), seal)
            refused: list[AnyOrder] = [
                Generate(generation=generation("one")),
                Admit(request_id="one", ticket=None),
                Admit(request_id="one", ticket=Sealed(one.body, b"forged")),
                Admit(request_id="two", ticket=seal_ticket(ticket(plan, "a", nonce=nonce), seal)),
            ]
            for order in refused:
                await line.tell(order)
                report = await heard(line)
                assert isinstance(report, Failed) and report.code == "bad_ticket" and report.request_id
            await line.tell(Admit(request_id="one", ticket=one))
            assert await heard(line) == Admitted(request_id="one")
            await line.tell(Admit(request_id="one", ticket=one))  # a replay
            report = await heard(line)
            assert isinstance(report, Failed) and report.code == "bad_ticket"
            assert [each.request_id for each in swarm.nodes["a"].tickets] == [None, "one"]
            beats.cancel()
            await asyncio.gather(beats, return_exceptions=True)

    in_swarm(tmp_path, test)


async def beat(line: Line) -> None:
    while True:
        await line.tell(Ping())
        await asyncio.sleep(0.5)


def test_a_coordinator_that_goes_silent_costs_the_stage_its_life(tmp_path: Path) -> None:
    async def test(swarm: Swarm) -> None:
        plan = swarm.plan(("a", 6))
        async with line_to(swarm, "a") as (line, nonce):
            await line.tell(Open(ticket=seal_ticket(ticket(plan, "a", nonce=nonce), seal), directory={}))
            report = await line.hear()
            while isinstance(report, Ready):
                report = await line.hear()
            assert isinstance(report, Failed) and "silent" in report.message
            assert await line.hear() is None
        assert not stage_processes()

    in_swarm(tmp_path, test)


def test_pieces_go_only_to_the_ticket_s_node_and_range(tmp_path: Path) -> None:
    async def test(swarm: Swarm) -> None:
        plan = swarm.plan(("a", 3), ("b", 6))
        sealed = seal_ticket(ticket(plan, "b"), seal)
        base = f"/peer/pieces/{swarm.manifest.model_digest}"
        reply = await ask(swarm, "a", f"{base}/manifest", as_name="b", sealed=sealed)
        assert reply.status == 200 and b"layer-0000" in reply.body
        facts = {piece.name: piece for piece in swarm.manifest.pieces}
        wanted = {piece.name for piece in pieces_for(swarm.manifest, 3, 6)}
        for name in ("layer-0003", "layer-0002", "keys", "no-such-piece"):
            reply = await ask(swarm, "a", f"{base}/{name}", as_name="b", sealed=sealed)
            assert reply.status == (200 if name in wanted else 403)
            if name in wanted:
                assert len(reply.body) == facts[name].bytes
        refused = [
            ("c", sealed),
            ("b", None),
            ("b", Sealed(sealed.body, b"forged")),
            ("b", seal_ticket(ticket(plan, "b", swarm_id="other"), seal)),
            ("b", seal_ticket(ticket(msgspec.structs.replace(plan, model_digest="f" * 64), "b"), seal)),
        ]
        for name, shown in refused:
            assert (await ask(swarm, "a", f"{base}/layer-0003", as_name=name, sealed=shown)).status == 403

    in_swarm(tmp_path, test)


def test_a_node_that_does_not_hold_the_model_says_so(tmp_path: Path) -> None:
    async def test(swarm: Swarm) -> None:
        sealed = seal_ticket(ticket(swarm.plan(("a", 3), ("b", 6)), "b"), seal)
        path = f"/peer/pieces/{swarm.manifest.model_digest}/manifest"
        reply = await ask(swarm, "c", path, as_name="b", sealed=sealed)
        assert reply.status == 404

    in_swarm(tmp_path, test)


def test_a_caller_that_leaves_in_the_middle_costs_the_node_nothing(tmp_path: Path) -> None:
    async def test(swarm: Swarm) -> None:
        for _ in range(20):
            connection = await dial_as("coordinator", [swarm.addresses["a"]])
            stream = await connection.open("POST", "/peer/rings")
            with contextlib.suppress(Exception):
                await stream.response(5)
            connection.abort()
        assert (await ask(swarm, "a", "/peer/card", as_name="b")).status == 200

    in_swarm(tmp_path, test)
