"""Who waits for the owner's yes, and what happens without one."""

import asyncio

import pytest

from mycoswarm.base.errors import BusyError, NotFoundError, RefusedError
from mycoswarm.chat.consent import MAX_WAITING, MAX_WAITING_OF_KEY, Approvals, Plea
from rings import until


def plea(request_id: str = "r1", key_name: str = "desk") -> Plea:
    return Plea(
        request_id=request_id,
        key_name=key_name,
        user="anna",
        model="spore",
        task="chat",
        characters=22,
        labels=("public",),
        destination="the endpoint cloud (outside)",
        rule="cloud, asked first",
    )


def test_a_yes_lets_the_request_go_on_and_names_who_said_it() -> None:
    async def main() -> None:
        desk = Approvals(lambda: 1000.0)
        asking = asyncio.create_task(desk.ask(plea(), 30))
        await until(desk.waiting)
        (shown,) = desk.waiting()
        assert shown["id"] == "r1" and shown["asked_at"] == 1000.0 and shown["expires_at"] == 1030.0
        assert shown["destination"] == "the endpoint cloud (outside)" and shown["labels"] == ["public"]
        assert await desk.answer("r1", True, "owner") == {"id": "r1", "allowed": True}
        assert await asking == "owner" and not desk.waiting()

    asyncio.run(main())


def test_a_no_and_no_answer_are_refusals() -> None:
    async def main() -> None:
        desk = Approvals()
        asking = asyncio.create_task(desk.ask(plea(), 30))
        await until(desk.waiting)
        await desk.answer("r1", False, "owner")
        with pytest.raises(RefusedError, match="said no") as caught:
            await asking
        assert caught.value.code == "not_approved"
        with pytest.raises(RefusedError, match="did not answer") as late:
            await desk.ask(plea(), 0.01)
        assert late.value.code == "not_approved" and not desk.waiting()

    asyncio.run(main())


def test_nobody_answers_for_what_does_not_wait_and_nobody_twice() -> None:
    async def main() -> None:
        desk = Approvals()
        with pytest.raises(NotFoundError):
            await desk.answer("r1", True, "owner")
        asking = asyncio.create_task(desk.ask(plea(), 30))
        await until(desk.waiting)
        await desk.answer("r1", False, "owner")
        with pytest.raises(NotFoundError):
            await desk.answer("r1", True, "somebody else")
        with pytest.raises(RefusedError):
            await asking

    asyncio.run(main())


def test_a_client_that_leaves_waits_no_more_and_a_crowd_is_told_to_come_again() -> None:
    async def main() -> None:
        desk = Approvals()
        numbers = range(MAX_WAITING)
        crowd = [asyncio.create_task(desk.ask(plea(f"r{n}", f"key {n // MAX_WAITING_OF_KEY}"), 30)) for n in numbers]
        await until(lambda: desk.count("key 0") == MAX_WAITING_OF_KEY)
        with pytest.raises(BusyError, match="of this key"):
            await desk.ask(plea("one too many of one", "key 0"), 30)
        await until(lambda: len(desk.waiting()) == MAX_WAITING)
        with pytest.raises(BusyError):
            await desk.ask(plea("one too many"), 30)
        for one in crowd:
            one.cancel()
        await asyncio.gather(*crowd, return_exceptions=True)
        assert not desk.waiting()

    asyncio.run(main())
