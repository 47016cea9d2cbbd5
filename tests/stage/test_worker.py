"""Which steps run in the caller's thread. The clock is passed in."""

import asyncio
import threading

import numpy as np
import pytest

from mycoswarm.stage.worker import Worker
from mycoswarm.wire.frame import Step


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def step(rows: int) -> Step:
    zeros = np.zeros(rows, np.int32)
    return Step(0, zeros, zeros, np.zeros(rows, np.bool_), zeros)


class Work:
    """Takes its time on the given clock; says in which thread it ran."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.worker = Worker(self.clock)

    def ran_here(self, rows: int, took_s: float) -> bool:
        def compute(given: Step) -> int:
            self.clock.now += took_s
            return threading.get_ident()

        return asyncio.run(self.worker.do(compute, step(rows))) == threading.get_ident()


@pytest.fixture
def work() -> Work:
    return Work()


def test_the_first_step_runs_in_the_thread_and_short_ones_after_it_here(work: Work) -> None:
    assert not work.ran_here(1, 0.005)
    assert work.ran_here(1, 0.005) and work.ran_here(1, 0.005)


def test_a_step_of_more_rows_than_the_last_or_after_a_long_one_runs_in_the_thread(work: Work) -> None:
    work.ran_here(2, 0.001)
    assert not work.ran_here(3, 0.001)
    assert work.ran_here(3, 0.5)
    assert not work.ran_here(3, 0.001)
    assert work.ran_here(1, 0.001)


def test_a_step_after_a_pause_runs_in_the_thread_as_its_weights_may_be_on_the_disk(work: Work) -> None:
    work.ran_here(1, 0.001)
    work.clock.now += 5
    assert not work.ran_here(1, 0.001)


def test_nothing_overtakes_what_the_thread_is_doing(work: Work) -> None:
    work.ran_here(1, 0.001)
    gate, order = threading.Event(), []
    first = work.worker.submit(lambda: (gate.wait(10), order.append("first")))
    second = work.worker.submit(lambda given: order.append("second"), step(1))
    assert not second.done()
    gate.set()
    second.result(10)
    assert first.done() and order == ["first", "second"]


def test_errors_come_out_wherever_it_ran(work: Work) -> None:
    def broken(given: Step) -> None:
        raise ValueError("oops")

    for _ in range(2):
        with pytest.raises(ValueError, match="oops"):
            asyncio.run(work.worker.do(broken, step(1)))
    assert work.worker.inline_steps == 1
