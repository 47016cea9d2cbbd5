"""Speeds that answers showed: they count at once, and again after a restart."""

import logging
from pathlib import Path

import pytest

from daemon.test_gauge import FACTS, finished, plan
from household import run
from mycoswarm.base.settings import Settings
from mycoswarm.daemon.home import open_home
from mycoswarm.daemon.pace import Pace

SPEED = (1000 << 20) * 100 / 10.0  # of 100 steps of a gigabyte of weights in 10 s


def test_a_graded_answer_counts_at_once_and_after_a_restart(tmp_path: Path) -> None:
    async def work() -> None:
        settings = Settings(data_folder=tmp_path)
        with open_home(settings) as home:
            pace = Pace(home)
            assert not pace.known()
            pace.grade(plan(0, 2), FACTS, finished(100, 10.0))
            assert pace.known() == {"n0": pytest.approx(SPEED)}
            await pace.finish()
        with open_home(settings) as home:
            assert Pace(home).known() == {"n0": pytest.approx(SPEED)}

    run(work)


def test_an_answer_that_says_nothing_of_its_node_changes_nothing(tmp_path: Path) -> None:
    async def work() -> None:
        with open_home(Settings(data_folder=tmp_path)) as home:
            pace = Pace(home)
            pace.grade(plan(0, 1, 2), FACTS, finished(100, 10.0))
            await pace.finish()
            assert not pace.known() and not home.speeds.known()

    run(work)


def test_the_own_benchmark_is_no_answer(tmp_path: Path) -> None:
    with open_home(Settings(data_folder=tmp_path)) as home:
        home.speeds.note(home.identity.node_id, 1e9, 1.0)
        home.speeds.note("other", 2e9, 1.0)
        assert Pace(home).known() == {"other": 2e9}


def test_a_speed_that_cannot_be_kept_still_counts_and_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def work() -> None:
        with open_home(Settings(data_folder=tmp_path)) as home:
            pace = Pace(home)
            home.store.write("DROP TABLE speeds")
            with caplog.at_level(logging.ERROR):
                pace.grade(plan(0, 2), FACTS, finished(100, 10.0))
                await pace.finish()
            assert "n0" in pace.known() and "was not kept" in caplog.text

    run(work)
