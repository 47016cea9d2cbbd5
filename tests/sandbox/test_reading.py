"""What was brought in from the web is read in the tool's own process, whatever it is made of, at either level."""

import asyncio
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mycoswarm.sandbox.haul import Haul
from mycoswarm.sandbox.jail import Errand, Jail
from mycoswarm.sandbox.level import SandboxLevel
from mycoswarm.sandbox.runner import Ended
from sandbox.conftest import Room

pytestmark = pytest.mark.slow

PAGE = Haul("https://example.org/", 200, "text/html", b"<title>T</title><p>read <a href=b>on</a>")
SLOW = b"<!--" * 100_000  # Python's own parser takes a minute over it


def read(jail: Jail, errand: Errand, haul: Haul) -> Ended:
    errand = Errand(
        tool="fetch_page",
        arguments=json.dumps({"url": haul.address}),
        workspace=errand.workspace,
        within_s=errand.within_s,
        user_id=errand.user_id,
        haul=haul,
    )
    return asyncio.run(jail.run(errand))


def read_in(room: Room, haul: Haul, **more: Any) -> Ended:
    """As the user whose room it is."""
    return room.do(read, room.jail, room.errand("fetch_page", **more), haul)


def test_a_page_is_read_in_the_sandbox(room: Room) -> None:
    ended = read_in(room, PAGE)
    assert ended == Ended(
        "Address: https://example.org/\nTitle: T\n\nread on [#1]\n\nLinks:\n[#1] https://example.org/b", True
    )


def test_a_page_is_read_where_there_is_no_sandbox(tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    (tmp_path / "work").mkdir()
    jail = Jail(SandboxLevel("limits", None, False, (), ()), folder=tmp_path / "scratch")
    errand = Errand(tool="fetch_page", arguments="", workspace=tmp_path / "work", within_s=20)
    assert read(jail, errand, PAGE).ok


def test_a_whole_body_of_the_longest_kind_comes_through(room: Room) -> None:
    haul = msgspec.structs.replace(PAGE, body=b"<p>" + b"\xff\x00 long " * 262_144, is_cut=True)
    ended = read_in(room, haul)
    assert ended.ok and "[part 1 of" in ended.text and "there was more" in ended.text


def test_a_page_that_is_made_to_take_for_ever_is_stopped(room: Room) -> None:
    ended = read_in(room, msgspec.structs.replace(PAGE, body=SLOW), within_s=1.0)
    assert not ended.ok and ended.code in {"timeout", "ended"}


def test_what_cannot_be_read_is_an_outcome(room: Room) -> None:
    ended = read_in(room, Haul("https://example.org/", 200, "image/png", b"\x89PNG"))
    assert (ended.ok, ended.code) == (False, "not_text")
    ended = read_in(room, Haul("https://example.org/", 200, "application/pdf", b"%PDF-1"))
    assert (ended.ok, ended.code) == (False, "bad_pdf")
