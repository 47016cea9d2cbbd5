"""Stages that misbehave in every way, as their daemon sees them. The stage is a small Python program."""

import asyncio
import sys
from pathlib import Path

import psutil
import pytest

from mycoswarm.base.errors import StageError
from mycoswarm.stage.supervisor import Launch, StageProcess, load_limit_s, stage_environment, telling_lines
from mycoswarm.wire.order import Admit, Cancel
from mycoswarm.wire.report import Admitted, Ready

PROLOGUE = """
import json, os, sys, time
def say(kind, **fields):
    print(json.dumps({"report": kind, **fields}), flush=True)
def orders():
    for line in sys.stdin:
        order = json.loads(line)
        if order["order"] == "ping":
            say("pong")
        else:
            yield order
ready = dict(certificate_pem="", addresses=[], port=0)
"""
OBEDIENT = "say('ready', **ready)\nfor order in orders(): say('admitted', request_id=order['request_id'])"


def launch(program: str, folder: Path) -> Launch:
    return Launch((sys.executable, "-c", PROLOGUE + program), folder, stage_environment({"PATH": "/usr/bin"}))


def run_with(program: str, folder: Path) -> tuple[StageError, int]:
    """Listen until the stage fails."""

    async def main() -> tuple[StageError, int]:
        async with asyncio.timeout(20), StageProcess(launch(program, folder), node_id="here") as stage:
            with pytest.raises(StageError) as caught:
                while True:
                    await stage.hear()
            with pytest.raises(StageError):
                await stage.hear()
            return caught.value, stage.pid

    error, pid = asyncio.run(main())
    assert not psutil.pid_exists(pid)
    return error, pid


def test_orders_go_in_and_reports_come_out(tmp_path: Path) -> None:
    async def main() -> int:
        async with asyncio.timeout(20), StageProcess(launch(OBEDIENT, tmp_path), node_id="here") as stage:
            assert isinstance(await stage.hear(), Ready)
            for request_id in ("r", "s"):
                await stage.tell(Admit(request_id=request_id))
                assert await stage.hear() == Admitted(request_id=request_id)
            return stage.pid

    assert not psutil.pid_exists(asyncio.run(main()))


def test_a_crash_is_an_error_with_the_stages_own_last_words(tmp_path: Path) -> None:
    noise = "for n in range(100): print('loading layer', n, file=sys.stderr)\n"
    error, _ = run_with(noise + "print('GGML_ASSERT(n > 0) failed', file=sys.stderr, flush=True); os.abort()", tmp_path)
    assert "SIGABRT" in error.message and error.lost_node_id == "here"
    assert error.last_words == ("GGML_ASSERT(n > 0) failed",)


def test_an_exit_without_a_word_tells_its_code(tmp_path: Path) -> None:
    error, _ = run_with("print('nothing special', file=sys.stderr); sys.exit(7)", tmp_path)
    assert "exit code 7" in error.message and error.last_words == ("nothing special",)


@pytest.mark.parametrize("line", ["hello", '{"report": "unheard of"}', "[]", '{"report": "ready"}'])
def test_nonsense_on_stdout_is_an_error(tmp_path: Path, line: str) -> None:
    error, _ = run_with(f"print({line!r}, flush=True); time.sleep(60)", tmp_path)
    assert "nonsense" in error.message


@pytest.mark.slow
def test_a_stage_that_goes_silent_is_noticed_in_two_seconds_and_killed(tmp_path: Path) -> None:
    error, _ = run_with("say('ready', **ready); time.sleep(60)", tmp_path)
    assert "silent" in error.message


@pytest.mark.slow
def test_a_stage_that_ignores_its_closed_stdin_and_sigterm_is_killed(tmp_path: Path) -> None:
    program = (
        "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); say('ready', **ready)\nfor o in orders(): pass\n"
    )

    async def main() -> int:
        stage = StageProcess(launch(program + "time.sleep(60)", tmp_path), node_id="here")
        async with asyncio.timeout(20), stage:
            await stage.hear()
            return stage.pid

    assert not psutil.pid_exists(asyncio.run(main()))


def test_a_cancelled_owner_still_ends_the_process(tmp_path: Path) -> None:
    pids: list[int] = []

    async def own() -> None:
        async with StageProcess(launch(OBEDIENT, tmp_path), node_id="here") as stage:
            await stage.hear()
            pids.append(stage.pid)
            await stage.hear()

    async def main() -> None:
        async with asyncio.timeout(20):
            task = asyncio.create_task(own())
            while not pids:
                await asyncio.sleep(0.01)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())
    assert not psutil.pid_exists(pids[0])


def test_a_program_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    async def main() -> None:
        with pytest.raises(StageError, match="cannot be started"):
            async with StageProcess(Launch((str(tmp_path / "none"),), tmp_path, {}), node_id="here"):
                pass

    asyncio.run(main())


def test_telling_a_stage_that_has_ended_is_an_error(tmp_path: Path) -> None:
    async def main() -> None:
        async with asyncio.timeout(20), StageProcess(launch("pass", tmp_path), node_id="here") as stage:
            with pytest.raises(StageError):
                await stage.hear()
            with pytest.raises(StageError):
                while True:
                    await stage.tell(Cancel(request_id="r" * 10000))

    asyncio.run(main())


def test_a_stage_sees_no_secret_of_the_daemons_environment() -> None:
    given = {"PATH": "/bin", "OPENAI_API_KEY": "sk", "MYCOSWARM_KEY": "k", "CUDA_VISIBLE_DEVICES": "0"}
    assert stage_environment(given) == {"PATH": "/bin", "CUDA_VISIBLE_DEVICES": "0"}


def test_loading_may_take_longer_the_more_there_is_to_load() -> None:
    assert load_limit_s(0) == 60
    assert load_limit_s(10**9) == 160


def test_the_lines_that_tell_are_the_grave_ones_or_else_the_last() -> None:
    assert telling_lines(["a", "llama: error loading", "b"]) == ("llama: error loading",)
    assert telling_lines(["a", "", "b"]) == ("a", "b")
    assert len(telling_lines(["failed"] * 100)) == 8
