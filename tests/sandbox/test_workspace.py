"""Workspaces: one folder each, bounded, gone when their time is over."""

import os
from pathlib import Path

import pytest

from mycoswarm.base.errors import BusyError, InputError
from mycoswarm.sandbox.workspace import KEPT_S, MAX_WORKSPACES, Workspaces


class Clock:
    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


def test_a_workspace_lasts_as_long_as_it_is_used_and_a_day(tmp_path: Path) -> None:
    clock = Clock()
    spaces = Workspaces(tmp_path / "spaces", clock)
    old, user_id = spaces.open("old")
    used, _ = spaces.open("used")
    (old / "x").write_text("x")
    assert old.stat().st_mode & 0o777 == 0o700 and (user_id is None) == (os.geteuid() != 0)
    clock.now += KEPT_S * 0.6
    assert spaces.open("used")[0] == used
    os.utime(old, (clock.now + 1e9, clock.now + 1e9))  # what a tool can do to its own folder
    clock.now += KEPT_S * 0.6
    spaces.open("new")
    assert not old.exists() and used.exists() and spaces.count() == 2
    spaces.release("used")
    assert not used.exists()


def test_two_workspaces_have_two_owners(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give folders away")
    spaces = Workspaces(tmp_path)
    (one, first), (two, second) = spaces.open("one"), spaces.open("two")
    assert one.stat().st_uid == first != second == two.stat().st_uid and first and first > 1 << 30


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../a", "A", "a" * 65, "a\0", "-a"])
def test_no_name_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "spaces").mkdir()
    (tmp_path / "a").write_text("kept")
    spaces = Workspaces(tmp_path / "spaces")
    with pytest.raises(InputError):
        spaces.open(name)
    spaces.release(name)
    assert (tmp_path / "a").exists() and (tmp_path / "spaces").exists()


def test_there_are_only_so_many(tmp_path: Path) -> None:
    spaces = Workspaces(tmp_path)
    for number in range(MAX_WORKSPACES):
        spaces.open(f"run-{number}")
    with pytest.raises(BusyError):
        spaces.open("one-more")
    assert spaces.open("run-0")
