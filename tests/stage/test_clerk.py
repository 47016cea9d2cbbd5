"""The driver of a ring that embeds, over a scripted model: turns, limits, cancelling, and whose fault ends what."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import numpy as np
import pytest
from numpy.typing import NDArray

from mycoswarm.base.errors import BusyError, InputError, ProtocolError, RingError, StageError, TicketError
from mycoswarm.stage.clerk import MAX_ADMITTED, MAX_OPEN, Clerk
from mycoswarm.stage.worker import Worker
from mycoswarm.wire.report import AnyReport, Failed, Finished, Vector
from mycoswarm.wire.request import MAX_INPUTS, Embedding, Generation, Prompt, Sampling


class Scripted:
    """A token for each character. `gate` holds back what it computes; `error` is raised at the text "bad"."""

    width = 2

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.error: Exception = StageError("llama.cpp failed")
        self.embedded: list[str] = []

    def read(self, text: str) -> list[int]:
        if len(text) > 10:
            raise InputError("it is too long", code="context_length_exceeded")
        return [ord(letter) for letter in text]

    def embed(self, tokens: list[int]) -> NDArray[np.float32]:
        assert self.gate.wait(5)
        text = "".join(map(chr, tokens))
        self.embedded.append(text)
        if text == "bad":
            raise self.error
        return np.array([len(tokens), 1], np.float32)


class Stand:
    """A clerk at work, and what it has said."""

    def __init__(self) -> None:
        self.model, self.worker, self.said = Scripted(), Worker(), list[AnyReport]()
        self.clerk = Clerk(self.model, self.worker, self.said.append)
        self.running = asyncio.create_task(self.clerk.run())

    def ask(self, request_id: str, *texts: str, dimensions: int | None = None) -> None:
        self.clerk.admit(request_id)
        self.clerk.embed(Embedding(request_id=request_id, inputs=texts, dimensions=dimensions))

    async def until(self, is_so: Callable[[], object]) -> None:
        async with asyncio.timeout(5):
            while not is_so():
                await asyncio.sleep(0.001)

    async def ended(self, request_id: str) -> list[AnyReport]:
        """All that was said of a request, once it has ended."""
        mine = lambda: [one for one in self.said if getattr(one, "request_id", None) == request_id]  # noqa: E731
        await self.until(lambda: any(isinstance(one, Finished | Failed) for one in mine()))
        return mine()


@asynccontextmanager
async def stand() -> AsyncIterator[Stand]:
    made = Stand()
    yield made
    made.model.gate.set()
    made.running.cancel()
    with suppress(asyncio.CancelledError, RingError):
        await made.running
    made.worker.shutdown()


def vector(request_id: str, index: int, *values: float) -> Vector:
    return Vector(request_id=request_id, index=index, values=np.array(values, "<f4").tobytes())


def test_each_text_gets_its_vector_in_order_and_the_tokens_are_counted() -> None:
    async def main() -> None:
        async with stand() as s:
            s.ask("r1", "a", "bcd", dimensions=2)
            end = Finished(request_id="r1", reason="stop", prompt_tokens=4, completion_tokens=0)
            assert await s.ended("r1") == [vector("r1", 0, 1, 1), vector("r1", 1, 3, 1), end]

    asyncio.run(main())


def test_two_requests_take_turns() -> None:
    async def main() -> None:
        async with stand() as s:
            s.ask("r1", *"aaaa")
            s.ask("r2", *"bbbb")
            await s.ended("r1")
            await s.ended("r2")
            assert "".join(s.model.embedded) not in ("aaaabbbb", "bbbbaaaa")
            assert sorted(s.model.embedded) == list("aaaabbbb")

    asyncio.run(main())


def test_a_text_that_is_too_long_ends_its_request_before_anything_is_computed() -> None:
    async def main() -> None:
        async with stand() as s:
            s.ask("r1", "a", "x" * 11)
            (failed,) = await s.ended("r1")
            assert isinstance(failed, Failed) and failed.code == "context_length_exceeded"
            assert failed.message.startswith("input 1: ") and s.model.embedded == []
            s.ask("r2", "a")
            assert len(await s.ended("r2")) == 2

    asyncio.run(main())


def test_a_cancelled_request_ends_at_once_and_computes_no_more_texts() -> None:
    async def main() -> None:
        async with stand() as s:
            s.model.gate.clear()
            s.ask("r1", "a", "b", "c")
            await asyncio.sleep(0.01)
            s.clerk.cancel("r1")
            end = Finished(request_id="r1", reason="cancelled", prompt_tokens=0, completion_tokens=0)
            assert s.said == [end]
            s.ask("r2", "z")
            s.clerk.cancel("r2")  # before its task has begun
            s.clerk.cancel("unknown")
            s.model.gate.set()
            s.ask("r1", "d")
            await s.until(lambda: len(s.said) == 4)
            assert s.said[2:] == [
                vector("r1", 0, 1, 1),
                Finished(**{**_fields(end), "reason": "stop", "prompt_tokens": 1}),
            ]
            assert set(s.model.embedded) <= {"a", "d"}

    asyncio.run(main())


def _fields(end: Finished) -> dict[str, object]:
    return {name: getattr(end, name) for name in end.__struct_fields__}


@pytest.mark.parametrize("error", [StageError("llama.cpp failed"), RuntimeError("a bug")])
def test_a_failure_of_llama_cpp_ends_the_ring_for_all_requests(error: Exception) -> None:
    async def main() -> None:
        async with stand() as s:
            s.model.error = error
            s.model.gate.clear()
            s.ask("r1", "bad")
            s.ask("r2", "a", "b")
            s.model.gate.set()
            with pytest.raises(StageError):
                await s.running
            for request_id in ("r1", "r2"):
                assert isinstance((await s.ended(request_id))[-1], Failed)
            with pytest.raises(StageError):
                s.ask("r3", "a")

    asyncio.run(main())


def test_what_cannot_be_asked_is_refused() -> None:
    async def main() -> None:
        async with stand() as s:
            with pytest.raises(TicketError):
                s.clerk.embed(Embedding(request_id="r1", inputs=("a",)))
            with pytest.raises(InputError, match="have 2 dimensions, and 1 are"):
                s.ask("r1", "a", dimensions=1)
            for count in (0, MAX_INPUTS + 1):
                with pytest.raises(InputError, match="1 to 2048"):
                    s.ask("r1", *["a"] * count)
            generation = Generation(request_id="r1", prompt=Prompt(text="a"), sampling=Sampling())
            with pytest.raises(ProtocolError, match="wants an answer"):
                s.clerk.generate(generation)
            s.model.gate.clear()
            for number in range(MAX_OPEN):
                s.ask(f"open {number}", "a")
            with pytest.raises(BusyError):
                s.ask("one more", "a")
            with pytest.raises(TicketError):
                s.ask("open 0", "a")

    asyncio.run(main())


def test_tickets_that_are_never_used_are_forgotten() -> None:
    async def main() -> None:
        async with stand() as s:
            for number in range(MAX_ADMITTED + 1):
                s.clerk.admit(f"r{number}")
            with pytest.raises(TicketError):
                s.clerk.embed(Embedding(request_id="r0", inputs=("a",)))
            s.clerk.embed(Embedding(request_id="r1", inputs=("a",)))
            await s.ended("r1")

    asyncio.run(main())
