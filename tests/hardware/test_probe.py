import sys

import pytest

from mycoswarm.hardware.probe import run_briefly

PYTHON = (sys.executable, "-S", "-E", "-c")


def test_the_output_of_a_command_comes_back() -> None:
    assert run_briefly(["echo", "hello"], limit_s=10).output == "hello\n"


def test_a_command_that_is_absent_is_a_reason() -> None:
    outcome = run_briefly(["mycoswarm-no-such-command"], limit_s=10)
    assert outcome.output is None
    assert (outcome.reason or "").startswith("could not be started")


def test_an_impossible_command_is_a_reason() -> None:
    assert run_briefly(["echo", "a\0b"], limit_s=10).output is None


def test_a_failure_carries_the_last_words() -> None:
    outcome = run_briefly([*PYTHON, "import sys; sys.exit('first\\nno driver\\n')"], limit_s=10)
    assert outcome.reason == "ended with code 1: no driver"


def test_a_crash_names_the_signal() -> None:
    assert run_briefly([*PYTHON, "import os; os.abort()"], limit_s=10).reason == "was ended by SIGABRT"


@pytest.mark.slow
def test_a_hanging_command_is_ended_in_time() -> None:
    outcome = run_briefly([*PYTHON, "import signal; signal.pause()"], limit_s=0.3)
    assert outcome.reason == "took longer than 0.3 s"
