"""The pool of rings: sharing, failing, idling, making room, closing."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import pytest

from mycoswarm.base.errors import BusyError, NotFoundError, RingError, StageError
from mycoswarm.stage.pool import Opening, RingPool, shape_of
from mycoswarm.swarm.place import Place
from mycoswarm.wire.plan import Conditions, RingPlan, StagePlan
from mycoswarm.wire.ticket import Warrant
from rings import FakeRing, lost_at, until

BIG = 10**9


def plan(*names: str, digest: str = "d") -> RingPlan:
    cuts = range(len(names) + 1)
    return RingPlan(
        ring_id="-".join((digest, *names)),
        model_digest=digest,
        n_layer=len(names),
        holder_id=names[0],
        stages=tuple(StagePlan(node_id=n, first=a, last=b) for n, a, b in zip(names, cuts, cuts[1:], strict=False)),
        conditions=Conditions(n_ctx=64, n_ubatch=8),
    )


def opening(one: RingPlan, **reach: Place) -> Opening:
    return Opening(plan=one, warrant=Warrant(rule="any"), request_id="r", reach=reach)


class Told(FakeRing):
    """A ring that takes a moment to close, and tells when it has."""

    def __init__(self, one: RingPlan, story: list[str]) -> None:
        super().__init__(one)
        self._story = story

    async def close(self) -> None:
        await asyncio.sleep(0)
        self._story.append(f"{self.plan.model_digest} closed")
        await super().close()


class Yard:
    """A pool whose rings open when `gate` is set; `fault` is raised instead, once. `story` tells what happened."""

    def __init__(self) -> None:
        self.story: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.fault: Exception | None = None
        self.rings: list[FakeRing] = []
        self.now_s = 0.0
        self.pool = RingPool(self.open, idle_s=10, clock=lambda: self.now_s)

    async def open(self, opening: Opening) -> FakeRing:
        one = opening.plan
        await self.gate.wait()
        await asyncio.sleep(0)
        if self.fault:
            fault, self.fault = self.fault, None
            raise fault
        self.story.append(f"{one.model_digest} opened")
        self.rings.append(Told(one, self.story))
        return self.rings[-1]

    async def borrow(self, one: RingPlan, takes: int = 1, room: Mapping[str, int] | None = None) -> FakeRing:
        taken = {stage.node_id: takes for stage in one.stages}
        space = room or {stage.node_id: BIG for stage in one.stages}
        async with self.pool.lend(opening(one), node_bytes=taken, room=space) as ring:
            await asyncio.sleep(0)
            assert isinstance(ring, FakeRing)
            return ring


@asynccontextmanager
async def yard() -> AsyncIterator[Yard]:
    before = asyncio.all_tasks()
    async with asyncio.timeout(10):
        made = Yard()
        async with made.pool:
            yield made
        assert asyncio.all_tasks() <= before
        assert all(ring.is_closed for ring in made.rings)


def test_one_opening_serves_all_who_wait_for_it() -> None:
    async def main() -> None:
        async with yard() as y:
            got = await asyncio.gather(*(y.borrow(plan("a", "b")) for _ in range(5)))
            assert len(y.rings) == 1 and set(got) == set(y.rings)
            assert await y.borrow(plan("b", "a")) is not y.rings[0]  # another order is another ring
            assert {warm.shape for warm in y.pool.warm()} == {shape_of(plan("a", "b")), shape_of(plan("b", "a"))}

    asyncio.run(main())


def test_a_waiting_client_that_leaves_does_not_end_the_loading_for_the_others() -> None:
    async def main() -> None:
        async with yard() as y:
            y.gate.clear()
            leaving, staying = (asyncio.create_task(y.borrow(plan("a"))) for _ in range(2))
            await until(lambda: y.pool.warm() and y.pool.warm()[0].users == 2)
            leaving.cancel()
            await asyncio.wait({leaving})
            y.gate.set()
            assert await staying is y.rings[0]

    asyncio.run(main())


def test_a_failed_opening_fails_for_all_who_wait_and_is_not_kept() -> None:
    async def main() -> None:
        async with yard() as y:
            y.fault = StageError("GGML_ASSERT")
            got = await asyncio.gather(*(y.borrow(plan("a")) for _ in range(3)), return_exceptions=True)
            assert all(isinstance(one, StageError) for one in got)
            assert not y.pool.warm()
            assert (await y.borrow(plan("a"))).lost is None

    asyncio.run(main())


def test_a_lost_ring_is_closed_and_replaced() -> None:
    async def main() -> None:
        async with yard() as y:
            first = await y.borrow(plan("a"))
            first.lose(lost_at("a"))
            assert not y.pool.warm()
            second = await y.borrow(plan("a"))
            assert second is not first and first.is_closed and not second.is_closed

    asyncio.run(main())


def test_a_ring_lost_while_it_is_lent_is_closed_when_it_comes_back() -> None:
    async def main() -> None:
        async with yard() as y:
            one = plan("a")
            async with y.pool.lend(opening(one), node_bytes={"a": 1}, room={"a": BIG}) as ring:
                assert isinstance(ring, FakeRing)
                ring.lose(lost_at("a"))
            await until(lambda: ring.is_closed)

    asyncio.run(main())


def test_an_idle_ring_leaves_memory_and_a_lent_one_does_not() -> None:
    async def main() -> None:
        async with yard() as y:
            idle = await y.borrow(plan("a"))
            async with y.pool.lend(opening(plan("b")), node_bytes={"b": 1}, room={"b": BIG}) as lent:
                y.now_s = 10.0
                y.pool.sweep()
                assert len(y.pool.warm()) == 2
                y.now_s = 10.1
                y.pool.sweep()
                await until(lambda: idle.is_closed)
                assert isinstance(lent, FakeRing) and not lent.is_closed
            y.pool.sweep()
            assert len(y.pool.warm()) == 1  # its idle time began just now

    asyncio.run(main())


def test_only_so_many_idle_rings_end_as_the_new_one_needs_the_longest_idle_first() -> None:
    async def main() -> None:
        async with yard() as y:
            old = await y.borrow(plan("a", digest="old"), takes=40)
            y.now_s = 1
            young = await y.borrow(plan("a", digest="young"), takes=40)
            elsewhere = await y.borrow(plan("b", digest="elsewhere"), takes=40)
            assert not old.is_closed
            await y.borrow(plan("a", digest="new"), takes=40, room={"a": 100})
            assert old.is_closed and not young.is_closed and not elsewhere.is_closed

    asyncio.run(main())


def test_a_new_ring_opens_after_those_that_make_room_have_ended() -> None:
    async def main() -> None:
        async with yard() as y:
            await y.borrow(plan("a", digest="x"), takes=60)
            await y.borrow(plan("a", digest="y"), takes=60, room={"a": 100})
            assert y.story == ["x opened", "x closed", "y opened"]

    asyncio.run(main())


def test_what_idle_and_ending_rings_give_back_is_known() -> None:
    async def main() -> None:
        async with yard() as y:
            await y.borrow(plan("a", "b"), takes=40)
            assert y.pool.returning() == {"a": 40, "b": 40}
            one = plan("a", digest="y")
            async with y.pool.lend(opening(one), node_bytes={"a": 5}, room={"a": BIG}):
                assert y.pool.returning() == {"a": 40, "b": 40}
            y.rings[0].lose(lost_at("b"))
            y.pool.sweep()
            assert y.pool.returning() == {"a": 45, "b": 40}
            await until(lambda: y.pool.returning() == {"a": 5})

    asyncio.run(main())


def test_closing_the_pool_ends_what_is_being_opened_and_tells_who_waits() -> None:
    async def main() -> None:
        async with yard() as y:
            y.gate.clear()
            waiting = asyncio.create_task(y.borrow(plan("a")))
            await until(lambda: y.pool.warm())
        with pytest.raises(RingError, match="closed while"):
            await waiting
        with pytest.raises(RingError, match="stopping"):
            await y.borrow(plan("a"))

    asyncio.run(main())


def test_a_model_is_unloaded_with_all_its_rings_and_only_while_nobody_uses_it() -> None:
    async def main() -> None:
        async with yard() as y:
            with pytest.raises(NotFoundError):
                await y.pool.unload("d")
            await y.borrow(plan("a"))
            await y.borrow(plan("a", "b"))
            await y.borrow(plan("a", digest="e"))
            async with y.pool.lend(opening(plan("a")), node_bytes={}, room={}):
                with pytest.raises(BusyError) as caught:
                    await y.pool.unload("d")
                assert caught.value.code == "model_in_use" and len(y.pool.warm()) == 3
            assert set(await y.pool.unload("d")) == {plan("a"), plan("a", "b")}
            assert y.story[-2:] == ["d closed", "d closed"], "its memory is free on return"
            assert [warm.plan.model_digest for warm in y.pool.warm()] == ["e"]

    asyncio.run(main())
