"""The library's commands and routes over real daemons: what is read, shown, found, refused, and forgotten."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fleet.test_agents import type_in
from leaflets import pdf
from libraries import add, lay_out, settled
from mycoswarm.base.errors import InputError, NotFoundError, SwarmError
from mycoswarm.cli.fleet import Fleet
from mycoswarm.sandbox.toolset import MAX_NOTE

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pair() -> Iterator[Fleet]:
    """A coordinator and one worker."""
    with Fleet(workers=1) as running:
        running.enrol()
        yield running


def test_the_commands_take_in_show_find_and_forget(pair: Fleet, tmp_path: Path) -> None:
    first = pair.coordinator
    folder = lay_out(tmp_path / "My Notes", trip="# Trip\n\nThe train to Lisbon\n")
    (folder / "manual.pdf").write_bytes(pdf("one", "turn the valve"))
    (folder / "page.html").write_text("<title>T</title><h1>Goats</h1><p>Goats climb.</p>")
    (folder / "broken.pdf").write_bytes(b"no")
    (folder / "photo.jpg").touch()
    code, said = type_in(first, "library", "add", str(folder), "--label", "private")
    assert code == 0 and "my-notes: 3 files, 3 passages" not in said and "my-notes: 3 files, 4 passages." in said, said
    assert "1 file could not be read" in said and "1 .jpg" in said and "Found by words only: no model for" in said
    code, said = type_in(first, "library", "list")
    assert code == 0 and all(word in said for word in ("my-notes", "private"))
    code, said = type_in(first, "library", "show", "my-notes")
    assert code == 0 and "broken.pdf" in said and "does not begin as one" in said and "labels: private" in said
    code, said = type_in(first, "library", "search", "the", "valve")
    assert code == 0 and "my-notes/manual.pdf, page 2 [private]" in said and "turn the valve" in said
    code, said = type_in(first, "library", "search", "goats")
    assert code == 0 and "my-notes/page.html (T > Goats) [private]" in said
    assert "Nothing was found." in type_in(first, "library", "search", "zebra")[1]
    (found,) = json.loads(type_in(first, "library", "search", "lisbon", "--most", "1", "--json")[1])
    assert (found["place"], found["labels"]) == ("my-notes/trip.md, lines 1-3", ["private"])
    (folder / "trip.md").write_text("The boat to Porto")
    code, said = type_in(first, "library", "refresh", "my-notes")
    assert code == 0 and "Porto" in type_in(first, "library", "search", "porto")[1]
    assert type_in(first, "library", "refresh")[0] == 0
    code, said = type_in(first, "tool", "run", "remember", '{"text": "goats like salt"}', "--label", "farm")
    assert code == 0, said
    code, said = type_in(first, "tool", "run", "recall", '{"query": "salt"}')
    assert code == 0 and "> goats like salt" in said and "labels: farm" in said
    code, said = type_in(first, "library", "notes")
    assert code == 0 and "goats like salt" in said and "farm" in said and "owner" in said
    (note,) = json.loads(type_in(first, "library", "notes", "--json")[1])
    assert type_in(first, "library", "forget", note["id"])[0] == 0
    assert type_in(first, "library", "forget", note["id"])[0] == 1
    assert "Nothing is remembered." in type_in(first, "library", "notes")[1]
    assert type_in(first, "library", "remove", "my-notes")[0] == 0
    assert "The library is empty" in type_in(first, "library", "list")[1] and (folder / "trip.md").exists()


def test_what_cannot_be_is_a_typed_error(pair: Fleet, tmp_path: Path) -> None:
    first = pair.coordinator
    add(first, lay_out(tmp_path / "here", a="x"), "here")
    wrong: tuple[tuple[str, str, Any], ...] = (
        ("POST", "/api/library", {"folder": "relative"}),
        ("POST", "/api/library", {"folder": str(first.folder)}),
        ("POST", "/api/library", {"folder": "/etc"}),
        ("POST", "/api/library", {"folder": str(tmp_path / "here"), "name": "again"}),
        ("POST", "/api/library", {"folder": str(tmp_path), "name": "here"}),
        ("POST", "/api/library", {"folder": str(tmp_path), "labels": ["No Label"]}),
        ("POST", "/api/library", {"folder": str(tmp_path), "label": ["x"]}),
        ("POST", "/api/library", {}),
        ("POST", "/api/library/search", {"query": ""}),
        ("POST", "/api/library/search", {"query": "x", "most": 0}),
        ("POST", "/api/tools/recall", {"arguments": {"query": "x", "folder": "here"}}),
        ("POST", "/api/tools/remember", {"arguments": {"text": "x" * (MAX_NOTE + 1)}}),
    )
    for method, path, body in wrong:
        with pytest.raises(InputError):
            first.call.ask(method, path, body)
    for method, path in (("GET", "/api/library/no"), ("DELETE", "/api/library/no"), ("DELETE", "/api/notes/no")):
        with pytest.raises(NotFoundError):
            first.call.ask(method, path)
    first.call.ask("DELETE", "/api/library/here")


def test_a_worker_has_no_library(pair: Fleet) -> None:
    for path in ("/api/library", "/api/notes", "/api/library/x"):
        with pytest.raises(SwarmError, match="coordinator"):
            pair.workers[0].call.ask("GET", path)


def test_tools_are_listed_as_the_coordinator_s_own_that_ask_nobody(pair: Fleet) -> None:
    told = {one["name"]: one for one in pair.coordinator.call.ask("GET", "/api/tools")["tools"]}
    for name in ("recall", "remember"):
        assert told[name]["runs_on"] == "the coordinator itself" and not told[name]["needs_yes"]


def test_a_folder_whose_reading_was_killed_is_read_at_the_next_start(pair: Fleet, tmp_path: Path) -> None:
    first = pair.coordinator
    folder = lay_out(tmp_path / "many", **{f"n{number}": f"number{number} is here" for number in range(150)})
    first.call.ask("POST", "/api/library", {"folder": str(folder), "name": "many"})
    first.process.kill()
    left = first.folder / "workspaces" / "library-0123"
    left.mkdir(parents=True)
    lay_out(left / "files", copy="as if it had been killed while a child read")
    first = pair.restart(first)
    assert first.call.ask("GET", "/api/library/many")["passages"] in (0, 150)
    assert settled(first, "many")["passages"] == 150
    folder.rename(tmp_path / "away")
    first.call.ask("POST", "/api/library/many/refresh", {})
    assert "what was read before is still found" in settled(first, "many")["fault"]
    assert not list((first.folder / "workspaces").iterdir()), "no copy is left"
