from pathlib import Path

import pytest

from mycoswarm.hardware.board import UNKNOWN_BOARD, Board, read_board


def test_the_device_tree_names_a_pi(tmp_path: Path) -> None:
    (tmp_path / "sys/firmware/devicetree/base").mkdir(parents=True)
    (tmp_path / "sys/firmware/devicetree/base/model").write_bytes(b"Raspberry Pi Compute Module 4 Rev 1.0\0")
    assert read_board(tmp_path) == Board("Raspberry Pi Compute Module 4 Rev 1.0", "Raspberry Pi", True)


@pytest.mark.parametrize("word", ["To Be Filled By O.E.M.", "Default string", "  \n", "System Product Name"])
def test_words_that_a_maker_left_unfilled_are_unknown(tmp_path: Path, word: str) -> None:
    (tmp_path / "sys/class/dmi/id").mkdir(parents=True)
    (tmp_path / "sys/class/dmi/id/product_name").write_text(word)
    assert read_board(tmp_path) == UNKNOWN_BOARD
