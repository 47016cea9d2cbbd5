"""The file tools on a folder of this machine: what they do, and every way out of it that is refused."""

import contextlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mycoswarm.base.errors import InputError
from mycoswarm.sandbox.papers import Papers
from mycoswarm.sandbox.toolset import MAX_FILE


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_text("outside")
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


def test_files_are_written_read_edited_listed_and_found(place: Path) -> None:
    papers = Papers(place)
    papers.write("notes/today.txt", "one\r\ntwo fish\n")
    assert papers.read("notes/today.txt") == "one\r\ntwo fish\n"
    papers.edit("notes/today.txt", "two", "three")
    assert papers.read("notes/../notes/today.txt") == "one\r\nthree fish\n"
    assert papers.listing() == "notes/\nnotes/today.txt (16 bytes)"
    assert papers.search("fish") == "notes/today.txt:2: three fish"
    assert papers.search("whale", "notes") == "found nowhere"


@pytest.mark.parametrize(
    "path", ["../secret", "/etc/passwd", "a/../../secret", "/proc/self/environ", "link", "deep/secret"]
)
def test_no_path_leads_out(place: Path, path: str) -> None:
    (place / "link").symlink_to("../secret")
    (place / "deep").symlink_to("..")
    papers = Papers(place)
    for act in (papers.read, papers.listing, lambda p: papers.write(p, "x"), lambda p: papers.edit(p, "outside", "x")):
        with pytest.raises(InputError, match="out of the workspace") as caught:
            act(path)
        assert caught.value.code == "outside_workspace"
    assert (place.parent / "secret").read_text() == "outside"


def test_a_search_and_a_list_follow_no_links(place: Path) -> None:
    (place / "link").symlink_to("../secret")
    (place / "deep").symlink_to("..")
    assert Papers(place).search("outside") == "found nowhere"
    assert "secret" not in Papers(place).listing()


def test_what_is_no_plain_text_file_is_refused_and_nothing_hangs(place: Path) -> None:
    os.mkfifo(place / "pipe")
    (place / "bytes").write_bytes(b"\xff\xfe")
    (place / "zero").write_bytes(b"a\0b")
    (place / "long").write_text("x" * (MAX_FILE + 1))
    papers = Papers(place)
    for path in ("pipe", "bytes", "zero", "long", "none", ".", ""):
        with pytest.raises(InputError):
            papers.read(path)
    for path in ("pipe", ".", "bytes/x"):
        with pytest.raises(InputError):
            papers.write(path, "x")


def test_an_edit_needs_its_text_exactly_once(place: Path) -> None:
    papers = Papers(place)
    papers.write("a", "so so")
    for old, why in (("so", "2 times"), ("no", "not in the file")):
        with pytest.raises(InputError, match=why):
            papers.edit("a", old, "x")
    assert papers.read("a") == "so so"


@given(st.text(alphabet="./ab\\~", max_size=12))
def test_whatever_the_path_nothing_outside_is_read_or_made(tmp_path_factory: pytest.TempPathFactory, path: str) -> None:
    top = tmp_path_factory.mktemp("top")
    work = top / "work"
    work.mkdir()
    with contextlib.suppress(InputError):
        Papers(work).write(path, "x")
    assert [one.name for one in top.iterdir()] == ["work"]
