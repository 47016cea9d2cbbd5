"""The edge to llama.cpp: its words become lines, its symbols come out of the copy that computes."""

import logging
from pathlib import Path

import pytest

from mycoswarm.stage.llama import shared_log, tensor_functions
from mycoswarm.stage.log import KEPT_LINES, LAST_WORDS, Log

DEBUG, INFO, WARN, ERROR, CONTINUED = 1, 2, 3, 4, 5


def test_lines_come_together_out_of_parts_and_go_to_pythons_log(caplog: pytest.LogCaptureFixture) -> None:
    log = Log()
    with caplog.at_level(logging.DEBUG), log.heard() as lines:
        log.take(INFO, b"first ")
        log.take(CONTINUED, b"line\n")
        log.take(ERROR, b"second line\n")
        log.take(DEBUG, b"without end")
        log.take(INFO, b"next\n")
    assert lines == ["first line", "second line", "without end", "next"]
    assert [(r.levelno, r.message) for r in caplog.records][:2] == [
        (logging.INFO, "first line"),
        (logging.ERROR, "second line"),
    ]


def test_progress_dots_and_empty_lines_are_no_words() -> None:
    log = Log()
    with log.heard() as lines:
        for _ in range(3):
            log.take(CONTINUED, b".")
        log.take(CONTINUED, b"\n")
        log.take(INFO, b"\n")
    assert lines == []


def test_last_words_are_the_grave_ones_and_else_the_last_ones() -> None:
    log = Log()
    for number in range(KEPT_LINES * 2):
        log.take(INFO, b"line %d\n" % number)
    assert log.last_words()[-1] == f"line {KEPT_LINES * 2 - 1}"
    assert len(log.last_words()) == LAST_WORDS
    log.take(ERROR, b"it broke\n")
    log.take(INFO, b"bye\n")
    assert log.last_words() == ("it broke",)


def test_bytes_that_are_no_text_are_shown_and_not_lost() -> None:
    log = Log()
    with log.heard() as lines:
        log.take(INFO, b"caf\xff\n")
    assert lines == ["caf�"]


def test_what_was_said_before_is_not_blamed_for_what_comes() -> None:
    log = Log()
    log.take(ERROR, b"old trouble\n")
    with log.heard():
        log.take(INFO, b"fine\n")
    assert log.last_words() == ("fine",)


def test_there_is_one_log_as_llama_cpp_has_one() -> None:
    assert shared_log() is shared_log()


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc to see which libraries are loaded")
def test_ggmls_functions_come_from_the_one_loaded_copy() -> None:
    functions = tensor_functions()
    assert all((functions.name_of, functions.bytes_of, functions.read))
    mapped = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "libggml-base" in line}
    assert len(mapped) == 1
