import sys

import pytest

from mycoswarm.hardware.board import Board
from mycoswarm.hardware.darwin import Darwin, ask_darwin, parse_board, parse_memory, parse_system


def test_a_mac_that_says_nothing_is_unknown() -> None:
    nothing = Darwin({}, None)
    assert parse_memory(nothing).total_bytes is None
    assert parse_memory(nothing).free_bytes is None
    assert parse_board(nothing) == Board(None, "Apple", False)
    assert parse_system(nothing).name is None


@pytest.mark.skipif(sys.platform != "darwin", reason="needs a Mac")
def test_this_mac_tells_its_memory() -> None:
    assert parse_memory(ask_darwin()).total_bytes
