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
            return tenant.why

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(place, "MAX_ENTRIES", 50)
        patch.setattr(place, "descendants", lambda pid: [])
        return asyncio.run(whole())


def test_what_it_has_begun_ends_with_it_when_it_takes_too_much(room: Room) -> None:
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
