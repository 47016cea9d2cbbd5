"""Rings of real stage processes over real TLS on 127.0.0.1, whole and when things break."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from mycoswarm.base.errors import (
    ModelFileError,
    RingError,
    StageError,
    SwarmError,
)
from mycoswarm.stage.ring import Ring
from mycoswarm.swarm.server import bind
from mycoswarm.wire.report import AnyReport, Piece
from nodes import WARRANT, Swarm, answer, generation, stage_processes, swarm_of, until

pytestmark = pytest.mark.slow

ENDLESS: dict[str, Any] = {"max_tokens": 450, "logit_bias": {2: -100.0, 4: -100.0}}


async def first_pieces(reports: AsyncIterator[AnyReport], count: int) -> None:
    """Wait until an answer is under way."""
    async for report in reports:
        count -= isinstance(report, Piece)
        if count <= 0:
            return


async def rest(reports: AsyncIterator[AnyReport]) -> RingError:
    """The error that an answer ends with."""
    with pytest.raises(RingError) as caught:
        async for _ in reports:
            pass
    return caught.value


async def stage_of(swarm: Swarm, name: str) -> psutil.Process:
    """The stage process of a node, by its folder."""
    home = str(swarm.model.parent / name)
    return next(process for process in stage_processes() if process.cwd() == home)


def test_rings_of_one_two_and_three_stages_give_the_same_greedy_tokens(tmp_path: Path) -> None:
    async def main() -> None:
        async with asyncio.timeout(90), swarm_of(tmp_path) as swarm:
            async with swarm.ring(("a", 6)) as ring:
                whole, finished = await answer(ring, generation("one"))
                assert finished.timing is not None and finished.timing.hops == 0
            assert len(whole) == 12 and finished.reason == "length"
            for cuts in ([("a", 2), ("b", 6)], [("b", 1), ("c", 3), ("a", 6)]):
                async with swarm.ring(*cuts) as ring:
                    tokens, finished = await answer(ring, generation("many"))
                    assert tokens == whole
                    timing = finished.timing
                    assert timing is not None and timing.hops == len(cuts) and timing.steps == 11
                    assert 0 < timing.compute_s < timing.step_s
                    assert timing.hop_overhead_median_s is not None

    asyncio.run(main())


def test_several_requests_on_one_ring_get_what_each_would_get_alone(tmp_path: Path) -> None:
    async def main() -> None:
        texts = ["hello", "w1 w2 w3 " * 12, "something else", "w7"]
        async with asyncio.timeout(90), swarm_of(tmp_path) as swarm, swarm.ring(("a", 3), ("b", 6)) as ring:
            alone = [(await answer(ring, generation(f"alone {n}", text)))[0] for n, text in enumerate(texts)]
            work = (answer(ring, generation(f"at once {n}", text)) for n, text in enumerate(texts))
            at_once = [tokens for tokens, _ in await asyncio.gather(*work)]
            assert at_once == alone
            assert len(swarm.nodes["a"].tickets) == len(swarm.nodes["b"].tickets) == 1 + 2 * len(texts)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("sign", "lost", "words"),
    [(signal.SIGKILL, "b", "SIGKILL"), (signal.SIGKILL, "c", "SIGKILL"), (signal.SIGSTOP, "b", "silent")],
    ids=["kill a relay", "kill the head", "freeze a relay"],
)
def test_a_lost_stage_ends_every_request_with_an_error_that_names_its_node(
    tmp_path: Path, sign: signal.Signals, lost: str, words: str
) -> None:
    async def main() -> None:
        async with (
            asyncio.timeout(60),
            swarm_of(tmp_path) as swarm,
            swarm.ring(("a", 2), ("b", 4), ("c", 6)) as ring,
        ):
            half = ENDLESS | {"max_tokens": 230}  # both have room in the KV cache
            answers = [ring.generate(generation(f"r{n}", **half), WARRANT) for n in range(2)]
            for reports in answers:
                await first_pieces(reports, 3)
            os.kill((await stage_of(swarm, lost)).pid, sign)
            started = time.monotonic()
            errors = await asyncio.gather(*(rest(reports) for reports in answers))
            assert time.monotonic() - started < 3.5
            assert {error.lost_node_id for error in errors} == {lost}
            assert words in errors[0].message
            assert ring.lost is not None and ring.lost.lost_node_id == lost
            with pytest.raises(RingError):
                await answer(ring, generation("late"))
            await until(lambda: not stage_processes())

    asyncio.run(main())


def test_a_node_whose_stream_breaks_is_lost_and_its_stage_ends(tmp_path: Path) -> None:
    async def main() -> None:
        async with asyncio.timeout(60), swarm_of(tmp_path) as swarm, swarm.ring(("a", 3), ("b", 6)) as ring:
            reports = ring.generate(generation("r", **ENDLESS), WARRANT)
            await first_pieces(reports, 3)
            swarm.nodes["a"].server.close_connections(lambda der: True)
            assert (await rest(reports)).lost_node_id == "a"
            await until(lambda: not stage_processes())

    asyncio.run(main())


def test_an_answer_that_nobody_wants_any_more_leaves_the_ring_free_for_the_next(tmp_path: Path) -> None:
    async def main() -> None:
        async with asyncio.timeout(60), swarm_of(tmp_path) as swarm, swarm.ring(("a", 3), ("b", 6)) as ring:
            wanted, _ = await answer(ring, generation("before"))
            for number in range(6):  # more than there are sequences, each of nearly the whole context
                async with contextlib.aclosing(ring.generate(generation(f"r{number}", **ENDLESS), WARRANT)) as reports:
                    await first_pieces(reports, 2)
            tokens, _ = await answer(ring, generation("after"))
            assert tokens == wanted

    asyncio.run(main())


def test_a_request_whose_ticket_runs_out_is_stopped_by_the_nodes_themselves(tmp_path: Path) -> None:
    async def main() -> None:
        async with asyncio.timeout(60), swarm_of(tmp_path) as swarm, swarm.ring(("a", 3), ("b", 6)) as ring:
            wanted = generation("r", **ENDLESS | {"max_tokens": 480})
            reports = [report async for report in ring.generate(wanted, WARRANT, 0.05)]
            assert getattr(reports[-1], "reason", None) in ("cancelled", "length")
            await answer(ring, generation("next"))

    asyncio.run(main())


def test_a_ring_whose_tickets_run_out_is_closed_by_its_nodes(tmp_path: Path) -> None:
    async def main() -> None:
        async with asyncio.timeout(60), swarm_of(tmp_path) as swarm, swarm.ring(("a", 6), lifetime_s=3.0) as ring:
            await until(lambda: ring.lost is not None)
            assert ring.lost is not None and ring.lost.code == "ticket_expired"
            await until(lambda: not stage_processes())

    asyncio.run(main())


def _truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _overwrite(path: Path) -> None:
    path.write_bytes(b"GGUF" + b"\xff" * 4000)


@pytest.mark.parametrize("spoil", [_truncate, _overwrite])
def test_a_broken_model_file_is_a_typed_error_and_the_node_lives_on(
    tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    async def main() -> None:
        async with asyncio.timeout(60), swarm_of(tmp_path) as swarm:
            good = swarm.model.read_bytes()
            spoil(swarm.model)
            with pytest.raises(ModelFileError):
                async with swarm.ring(("a", 6)):
                    pass
            with pytest.raises(SwarmError):
                async with swarm.ring(("b", 3), ("c", 6)):
                    pass
            assert not stage_processes()
            swarm.model.write_bytes(good)
            async with swarm.ring(("a", 6)) as ring:
                await answer(ring, generation("r"))

    asyncio.run(main())


def test_a_model_that_crashes_its_stage_three_times_in_a_row_is_marked_bad(tmp_path: Path) -> None:
    async def open_and_kill(swarm: Swarm) -> None:
        async with swarm.ring(("a", 6)) as ring:
            (await stage_of(swarm, "a")).kill()
            await until(lambda: ring.lost is not None)
            assert isinstance(ring.lost, StageError)
        crashes = swarm.nodes["a"].services.host.crashes  # as if it had been long ago: no waiting here
        crashes._entries = {key: replace(entry, at_s=-1e6) for key, entry in crashes._entries.items()}

    async def main() -> None:
        async with asyncio.timeout(60), swarm_of(tmp_path) as swarm:
            for _ in range(3):
                await open_and_kill(swarm)
            started = time.monotonic()
            with pytest.raises(StageError) as caught:
                async with swarm.ring(("a", 6)):
                    pass
            assert caught.value.code == "model_marked_bad" and time.monotonic() - started < 1
            async with swarm.ring(("b", 6)) as ring:
                await answer(ring, generation("elsewhere"))

    asyncio.run(main())


def test_a_node_that_cannot_be_reached_is_named(tmp_path: Path) -> None:
    async def main() -> None:
        async with asyncio.timeout(60), swarm_of(tmp_path) as swarm:
            (unused,) = bind(["127.0.0.1"], 0)
            swarm.addresses["d"] = f"127.0.0.1:{unused.getsockname()[1]}"
            unused.close()
            with pytest.raises(RingError) as caught:
                async with swarm.ring(("a", 3), ("d", 6)):
                    pass
            assert caught.value.lost_node_id == "d" and caught.value.code == "unreachable"
            await until(lambda: not stage_processes())

    asyncio.run(main())


def test_closing_a_ring_ends_its_stages_before_it_returns(tmp_path: Path) -> None:
    async def main() -> None:
        async with asyncio.timeout(60), swarm_of(tmp_path) as swarm:
            async with swarm.ring(("a", 3), ("b", 6)) as ring:
                assert len(stage_processes()) == 2
                reports = ring.generate(generation("r", **ENDLESS), WARRANT)
                await first_pieces(reports, 1)
            assert not stage_processes()
            assert (await rest(reports)).code == "ring_closed"

    asyncio.run(main())


def _are_running(count: int) -> bool:
    return len(stage_processes()) >= count


def test_opening_that_is_cancelled_leaves_nothing_behind(tmp_path: Path) -> None:
    async def main() -> None:
        async def open_ring(swarm: Swarm) -> Ring:
            async with swarm.ring(("a", 3), ("b", 6)) as ring:
                return ring

        async with asyncio.timeout(60), swarm_of(tmp_path) as swarm:
            for moment in range(3):
                task = asyncio.create_task(open_ring(swarm))
                await until(partial(_are_running, moment))
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                await until(lambda: not stage_processes())

    asyncio.run(main())
