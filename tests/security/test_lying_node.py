"""A node that keeps the protocol as long as it pays: what the coordinator hears is bounded, and costs that ring."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from mycoswarm.base.errors import ProtocolError, RingError
from mycoswarm.stage.hearsay import MAX_TOKEN_BYTES
from mycoswarm.stage.ring import Ring
from mycoswarm.swarm.server import PeerServer, bind
from mycoswarm.swarm.tls import server_context
from mycoswarm.wire.line import MAX_LINE_BYTES, LineSplitter, decode_order, encode_line
from mycoswarm.wire.order import Admit, AnyOrder, Generate, Join, Open
from mycoswarm.wire.plan import Conditions, RingPlan, StagePlan
from mycoswarm.wire.report import Admitted, AnyReport, Failed, Joined, Nonce, Piece, Ready
from nodes import CERTIFICATES, TRUSTED, WARRANT, dial_as, generation, seal

PLAN = RingPlan(
    ring_id="r",
    model_digest="d" * 64,
    n_layer=2,
    holder_id="a",
    stages=(StagePlan(node_id="a", first=0, last=2),),
    conditions=Conditions(n_ctx=16, n_ubatch=8),
)

Say = Callable[[bytes], Awaitable[None]]


def honest(order: AnyOrder) -> AnyReport | None:
    """What a node answers to an order; nothing to a Generate."""
    match order:
        case Open():
            return Ready(certificate_pem="", addresses=(), port=0)
        case Join():
            return Joined()
        case Admit(request_id=request_id):
            return Admitted(request_id=request_id)
    return None


@contextlib.asynccontextmanager
async def ring_to(lie: Callable[[Say], Awaitable[None]]) -> AsyncIterator[Ring]:
    """An open ring over one real connection to a node that answers a Generate with `lie`."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async def say(data: bytes) -> None:
            await send({"type": "http.response.body", "body": data, "more_body": True})

        await send({"type": "http.response.start", "status": 200, "headers": []})
        await say(encode_line(Nonce(nonce="n")))
        splitter = LineSplitter()
        with contextlib.suppress(OSError):
            while (message := await receive())["type"] == "http.request" and message.get("more_body"):
                for line in splitter.feed(message["body"]):
                    order = decode_order(line)
                    if isinstance(order, Generate):
                        await lie(say)
                    elif (report := honest(order)) is not None:
                        await say(encode_line(report))

    context = server_context(*CERTIFICATES["a"], trusted_pem=TRUSTED)
    async with (
        PeerServer(app, context, bind(["127.0.0.1"], 0)) as server,
        await Ring.open(
            PLAN,
            connect=lambda node_id: dial_as("coordinator", [f"127.0.0.1:{server.port}"]),
            seal=seal,
            swarm_id="swarm",
            warrant=WARRANT,
            directory={},
        ) as ring,
    ):
        yield ring


def outcome(lie: Callable[[Say], Awaitable[None]]) -> tuple[int, RingError]:
    """How many pieces came before the error, and the error."""

    async def main() -> tuple[int, RingError]:
        async with asyncio.timeout(20), ring_to(lie) as ring:
            heard = 0
            with pytest.raises(RingError) as caught:
                async with contextlib.aclosing(ring.generate(generation("r1"), WARRANT)) as reports:
                    async for _ in reports:
                        heard += 1
            assert ring.lost is not None
            return heard, caught.value

    return asyncio.run(main())


@pytest.mark.slow
@pytest.mark.parametrize("text", ["", "x" * 50_000])
def test_a_head_that_never_stops_talking_ends_its_ring(text: str) -> None:
    line = encode_line(Piece(request_id="r1", text=text, token_ids=()))

    async def lie(say: Say) -> None:
        while True:
            await say(line * 20)

    heard, error = outcome(lie)
    assert isinstance(error, ProtocolError) and error.lost_node_id == "a"
    assert heard * max(len(text), 64) <= 17 * MAX_TOKEN_BYTES


@pytest.mark.slow
@pytest.mark.parametrize(
    "line",
    [
        b"x" * (MAX_LINE_BYTES + (1 << 17)),
        b"{}\n",
        b'{"report":"nonce","nonce":"again"}\n',
        b'{"report":"configure"}\n',
        b'{"report":"piece","request_id":"r1","text":"a","token_ids":[-1]}\n',
        b"[" * 100_000 + b"\n",
        b"\xff\xfe\n",
    ],
    ids=["endless", "empty", "out of place", "an order", "negative", "deep", "no text"],
)
def test_a_line_that_is_no_report_ends_its_ring(line: bytes) -> None:
    async def lie(say: Say) -> None:
        await say(line)

    _, error = outcome(lie)
    assert isinstance(error, ProtocolError) and error.lost_node_id == "a"


@pytest.mark.slow
def test_a_node_that_blames_a_stranger_loses_its_ring_all_the_same() -> None:
    async def lie(say: Say) -> None:
        await say(encode_line(Failed(request_id=None, code="made_up", message="\x1b[2J", hint="", lost_node_id="zz")))

    _, error = outcome(lie)
    assert error.code == "made_up"
