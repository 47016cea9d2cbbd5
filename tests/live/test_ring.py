"""Rings of real stage processes over real TLS on 127.0.0.1."""

import asyncio
from pathlib import Path

import pytest
from nodes import answer, generation, swarm_of

pytestmark = pytest.mark.slow


def test_rings_of_one_two_and_three_stages_give_the_same_greedy_tokens(tmp_path: Path) -> None:
    async def main() -> None:
        async with asyncio.timeout(90), swarm_of(tmp_path) as swarm:
            async with swarm.ring(("a", 6)) as ring:
                whole, finished = await answer(ring, generation("one"))
            assert len(whole) == 12 and finished.reason == "length"
            async with swarm.ring(("a", 2), ("b", 6)) as ring:
                tokens, finished = await answer(ring, generation("two"))
                assert tokens == whole
                assert finished.timing is not None and finished.timing.hops == 2
                print(finished.timing)
            async with swarm.ring(("b", 1), ("c", 3), ("a", 6)) as ring:
                tokens, finished = await answer(ring, generation("three"))
                assert tokens == whole
                assert finished.timing is not None and finished.timing.hops == 3
                print(finished.timing)

    asyncio.run(main())
