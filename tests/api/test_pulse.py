"""The event stream of the dashboard."""

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from mycoswarm.api.pulse import MAX_BEHIND, MAX_LISTENERS, Pulse, Section
from mycoswarm.base.errors import BusyError, StorageError


class House:
    """Two sections whose values a test sets; `reads` counts."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {"nodes": ["a"], "rings": []}
        self.reads = 0
        self.pulse = Pulse([Section(name, self.reader(name)) for name in self.values], "run1")

    def reader(self, name: str) -> Any:
        async def read() -> Any:
            self.reads += 1
            if isinstance(self.values[name], Exception):
                raise self.values[name]
            return self.values[name]

        return read


def house(**waits: float) -> House:
    made = House()
    sections = [Section(name, made.reader(name), 0.0) for name in made.values]
    made.pulse = Pulse(sections, "run1", look_s=0.005, **waits)
    return made


async def take(events: AsyncGenerator[bytes, None]) -> tuple[str, dict[str, Any]]:
    """The next event that is one: its id and its value."""
    async with asyncio.timeout(5):
        while True:
            text = (await anext(events)).decode()
            if text.startswith("event: state"):
                lines = dict(line.split(": ", 1) for line in text.strip().splitlines())
                return lines["id"], json.loads(lines["data"])


def test_a_stream_begins_with_all_and_goes_on_with_what_changed() -> None:
    async def main() -> None:
        h = house()
        events = h.pulse.listen(None)
        assert (await take(events))[1] == {"nodes": ["a"], "rings": []}
        h.values["rings"] = [1]
        assert (await take(events))[1] == {"rings": [1]}
        await events.aclose()
        await h.pulse.close()

    asyncio.run(main())


def test_nothing_is_read_while_nobody_listens() -> None:
    async def main() -> None:
        h = house()
        await asyncio.sleep(0.03)
        assert h.reads == 0
        events = h.pulse.listen(None)
        await take(events)
        await events.aclose()
        before = h.reads
        await asyncio.sleep(0.03)
        assert h.reads == before
        h.values["nodes"] = ["b"]
        again = h.pulse.listen(None)
        assert (await take(again))[1]["nodes"] == ["b"]
        await again.aclose()

    asyncio.run(main())


def test_who_comes_back_is_given_what_changed_since_and_a_stranger_all() -> None:
    async def main() -> None:
        h = house()
        events = h.pulse.listen(None)
        seen, _ = await take(events)
        h.values["nodes"] = ["a", "b"]
        last, _ = await take(events)
        for given, wanted in (
            (seen, {"nodes"}),
            (last, set()),
            ("run0-1", {"nodes", "rings"}),
            ("run1-99", {"nodes", "rings"}),
            ("run1-x", {"nodes", "rings"}),
            ("", {"nodes", "rings"}),
            ("run1-" + "9" * 4000, {"nodes", "rings"}),
        ):
            other = h.pulse.listen(given)
            assert set((await take(other))[1]) == wanted, given
            await other.aclose()
        await events.aclose()

    asyncio.run(main())


def test_a_section_that_fails_keeps_what_it_was_and_the_others_go_on() -> None:
    async def main() -> None:
        h = house()
        events = h.pulse.listen(None)
        await take(events)
        h.values["rings"] = StorageError("the disk is full")
        h.values["nodes"] = ["b"]
        assert (await take(events))[1] == {"nodes": ["b"]}
        h.values["rings"] = ValueError("a bug")
        h.values["nodes"] = ["c"]
        assert (await take(events))[1] == {"nodes": ["c"]}
        await events.aclose()

    asyncio.run(main())


def test_a_listener_that_does_not_read_is_cut_off_and_the_rest_are_served() -> None:
    async def main() -> None:
        h = house()
        slow, quick_one = h.pulse.listen(None), h.pulse.listen(None)
        await take(slow)
        await take(quick_one)
        for number in range(MAX_BEHIND + 5):
            h.values["rings"] = [number]
            assert (await take(quick_one))[1] == {"rings": [number]}
        with pytest.raises(StopAsyncIteration):
            async with asyncio.timeout(5):
                while True:
                    await anext(slow)
        await quick_one.aclose()

    asyncio.run(main())


def test_listeners_are_bounded_and_close_ends_them() -> None:
    async def main() -> None:
        h = house()
        streams = [h.pulse.listen(None) for _ in range(MAX_LISTENERS)]
        for each in streams:
            await take(each)
        with pytest.raises(BusyError):
            await anext(h.pulse.listen(None))
        await h.pulse.close()
        for each in streams:
            with pytest.raises(StopAsyncIteration):
                async with asyncio.timeout(5):
                    while True:
                        await anext(each)
        with pytest.raises(BusyError):
            await anext(h.pulse.listen(None))

    asyncio.run(main())


def test_a_stream_says_that_it_is_there_in_a_way_that_a_page_can_hear() -> None:
    async def main() -> None:
        h = house(keep_alive_s=0.01)
        events = h.pulse.listen(None)
        await take(events)
        async with asyncio.timeout(5):
            assert (await anext(events)).decode() == "event: here\ndata: \n\n"
        await events.aclose()
        await h.pulse.close()

    asyncio.run(main())
