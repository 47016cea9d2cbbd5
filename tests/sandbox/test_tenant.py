"""A program that stays in the sandbox and takes too much ends with all that it began, however fast that moves on."""

import asyncio
import os
import signal
import time

import pytest

from mycoswarm.sandbox import jail as place
from mycoswarm.sandbox.guest import Program
from mycoswarm.sandbox.jail import Errand, Jail
from sandbox.conftest import Room

BEGINS_ANOTHER = """
import os, time
if not os.fork():
    os.setsid()
    while True:
        open("alive", "w").close()
        time.sleep(0.01)
for number in range(99):
    open(str(number), "w").close()
time.sleep(60)
"""

pytestmark = pytest.mark.slow


def stay(jail: Jail, errand: Errand, words: tuple[str, ...]) -> str:
    """Hold a program until it is stopped; gives what for. As where all that it began moves on from process to process
    faster than they can be listed: no list has any of them."""

    async def whole() -> str:
        async with asyncio.timeout(40), jail.hold(errand, Program(words)) as tenant:
            while not tenant.why:
                await asyncio.sleep(0.02)
            why = tenant.why
        await asyncio.sleep(0.1)  # its pipes are closed in the next turns of the loop
        return why

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(place, "MAX_ENTRIES", 50)
        patch.setattr(place, "descendants", lambda pid: [])
        return asyncio.run(whole())


def stay_and_be_cancelled(jail: Jail, errand: Errand, words: tuple[str, ...]) -> None:
    """Hold a program, and be cancelled once more while it is ended."""

    async def held() -> None:
        async with jail.hold(errand, Program(words)):
            await asyncio.sleep(60)

    async def whole() -> None:
        async with asyncio.timeout(40):
            holding = asyncio.create_task(held())
            while not (errand.workspace / "alive").exists():
                await asyncio.sleep(0.02)
            holding.cancel()
            if jail.level.in_place:
                await is_leaving.wait()
                holding.cancel()
            await asyncio.wait({holding})
            await asyncio.sleep(0.1)  # as above

    async def leave(process: asyncio.subprocess.Process) -> None:
        is_leaving.set()
        await usual(process)

    is_leaving, usual = asyncio.Event(), place._leave
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(place, "_leave", leave)
        patch.setattr(place, "descendants", lambda pid: [])
        asyncio.run(whole())


def test_what_it_has_begun_ends_also_where_its_end_is_cancelled(room: Room) -> None:
    alive = room.place()[0] / "alive"
    try:
        room.do(stay_and_be_cancelled, room.jail, room.errand("odd__act"), ("python3", "-c", BEGINS_ANOTHER))
        last = alive.stat().st_mtime_ns
        time.sleep(0.3)
        assert alive.stat().st_mtime_ns == last
    finally:
        if room.pool is not None:
            room.do(os.kill, -1, signal.SIGKILL)  # as below


def test_what_it_has_begun_ends_with_it_ends_with_it_when_it_takes_too_much(room: Room) -> None:
    alive = room.place()[0] / "alive"
    try:
        why = room.do(stay, room.jail, room.errand("odd__act"), ("python3", "-c", BEGINS_ANOTHER))
        assert "more than 50 files" in why
        last = alive.stat().st_mtime_ns
        time.sleep(0.3)
        assert alive.stat().st_mtime_ns == last
    finally:
        if room.pool is not None:
            room.do(os.kill, -1, signal.SIGKILL)  # all that this user has, which is nobody's but these tests'
