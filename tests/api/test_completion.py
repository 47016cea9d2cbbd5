"""Clients that hang up, wait or send too much, on raw connections."""

import asyncio
import json
from typing import Any

import openai
import pytest

from consoles import Console, console
from mycoswarm.api.completion import Waits
from mycoswarm.wire.plan import RingPlan
from rings import Bench, FakeRing, until

pytestmark = pytest.mark.slow  # a server for each


class Held(FakeRing):
    """Says two tokens and waits."""

    def __init__(self, plan: RingPlan, held_at: int = 2) -> None:
        super().__init__(plan)
        self._held_at = held_at
        self.gate = _Countdown(held_at)


class _Countdown(asyncio.Event):
    def __init__(self, free: int) -> None:
        super().__init__()
        self._free = free

    async def wait(self) -> bool:  # type: ignore[override]  # narrower is fine
        self._free -= 1
        return True if self._free >= 0 else bool(await super().wait())


def body(stream: bool) -> bytes:
    return json.dumps({"model": "spore", "stream": stream, "messages": [{"role": "user", "content": "hi"}]}).encode()


async def hang_up(c: Console, streams: bool, after: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", c.port)
    writer.write(c.post("/v1/chat/completions", body(streams)))
    if after:
        await reader.readuntil(after)
    else:
        await until(lambda: c.bench.rings and c.ring.generations)
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize(("streams", "held_at", "after"), [(False, 2, b""), (True, 2, b"small"), (True, 0, b"")])
def test_a_client_that_hangs_up_ends_the_work_at_once(streams: bool, held_at: int, after: bytes) -> None:
    async def main() -> None:
        async with console(Bench(ring_for=lambda plan: Held(plan, held_at))) as c:
            await hang_up(c, streams, after)
            await until(lambda: c.ring.ends == ["cancelled"], limit_s=2)
            await until(lambda: [row["outcome"] for row in c.bench.rows("answer")] == ["cancelled"], limit_s=2)
            assert c.ring.lost is None  # and the ring serves the next one

    asyncio.run(main())


def test_a_stream_that_nobody_reads_is_closed_with_its_client() -> None:
    async def main() -> None:
        big = tuple("x" * 100_000 for _ in range(200))
        async with console(Bench(ring_for=lambda plan: FakeRing(plan, tokens=big))) as c:
            reader, writer = await asyncio.open_connection("127.0.0.1", c.port, limit=1024)
            writer.write(c.post("/v1/chat/completions", body(True)))
            await reader.readuntil(b"xxx")
            await until(lambda: c.bench.rows)  # the ring is free although the client does not read
            writer.transport.abort()
            await until(lambda: not any("sse" in repr(task) for task in asyncio.all_tasks()), limit_s=2)

    asyncio.run(main())


def test_a_stream_says_that_it_is_alive_while_the_model_loads() -> None:
    async def main() -> None:
        waits = Waits(patience_s=0.02, keep_alive_s=0.02)
        async with console(Bench(ring_for=lambda plan: Held(plan, 0)), waits=waits) as c:
            reader, writer = await asyncio.open_connection("127.0.0.1", c.port)
            writer.write(c.post("/v1/chat/completions", body(True)))
            head = await reader.readuntil(b"\r\n\r\n")
            assert b" 200 " in head and b"text/event-stream" in head and b"no-cache" in head
            await reader.readuntil(b": still working\n\n")
            c.ring.gate.set()
            rest = await reader.read()
            assert b"data: [DONE]" in rest
            writer.close()

    asyncio.run(main())


def test_who_sends_too_much_or_has_no_key_gets_the_answer_and_no_broken_connection() -> None:
    async def main() -> None:
        large: Any = [{"role": "user", "content": "x" * (20 << 20)}]
        async with console() as c, c.client() as client, c.client("msk-wrong") as stranger:
            with pytest.raises(openai.BadRequestError, match="larger than 8 MiB"):
                await client.chat.completions.create(model="spore", messages=large)
            with pytest.raises(openai.AuthenticationError):
                await stranger.chat.completions.create(model="spore", messages=large)
            assert not c.bench.rings

    asyncio.run(main())


def test_a_body_that_does_not_come_is_not_waited_for_without_end() -> None:
    async def main() -> None:
        async with console(waits=Waits(body_s=0.05)) as c:
            head = c.post("/v1/chat/completions", b"x" * 10)[:-5]
            answer = await c.raw(head)
            assert b" 400 " in answer and b"did not arrive" in answer

    asyncio.run(main())
