"""`library`: folders of documents that agents may recall, and what they have remembered."""

import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from mycoswarm.cli.call import Call
from mycoswarm.cli.screen import counted, guarded, note, say, show_json, show_table

LOOK_S = 0.3
SEARCH_S = 60.0  # the query's vector may wait for a model to be loaded
SHOWN = 80  # characters of a note in the list


@click.group()
def library() -> None:
    """Documents and notes that agents recall, with their places and labels (docs/library.md)."""


@library.command("add")
@click.argument("documents", metavar="FOLDER", type=click.Path(file_okay=False, path_type=Path))
@click.option("--name", help="Its name in the library; else the folder's.")
@click.option("--label", "labels", multiple=True, help="A label of all that is in it, as private; may be given again.")
@click.option("--no-wait", is_flag=True, help="Do not wait until it is read.")
@click.pass_obj
@guarded
def add_documents(folder: Path, documents: Path, name: str | None, labels: tuple[str, ...], no_wait: bool) -> None:
    """Take the documents in FOLDER in: text, Markdown, HTML, PDF. It is looked at again every hour."""
    body = {"folder": str(documents.absolute()), "name": name, "labels": list(labels)}
    call = Call(folder)
    told = call.ask("POST", "/api/library", body)
    if no_wait:
        say(f"{told['name']} will be read.")
    else:
        _tell(_wait(call, told["name"]))


@library.command("list")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_obj
@guarded
def list_documents(folder: Path, as_json: bool) -> None:
    """Show all folders of the library."""
    told = Call(folder).ask("GET", "/api/library")["folders"]
    if as_json:
        show_json(told)
        return
    rows = [
        (
            one["name"],
            ", ".join(one["labels"]),
            one["files"],
            one["passages"],
            one["embedded"],
            one["unread"] or "",
            _date(one["read_at"]) if one["state"] == "ready" else one["state"],
            one["path"],
        )
        for one in told
    ]
    headings = ("Folder", "Labels", "Files", "Passages", "With vector", "Not read", "Read", "Path")
    show_table(headings, rows, none="The library is empty: `mycoswarm-node library add FOLDER` fills it.")


@library.command("show")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_obj
@guarded
def show_documents(folder: Path, name: str, as_json: bool) -> None:
    """Show the folder NAME: its files, what could not be read and why, and whether it is found by meaning."""
    told = Call(folder).ask("GET", f"/api/library/{quote(name, safe='')}")
    if as_json:
        show_json(told)
        return
    rows = [(one["path"], one["passages"], one["fault"] or "") for one in told["listed"]]
    show_table(("File", "Passages", "Trouble"), rows, none="There are no documents in it.")
    say(f"Folder: {told['path']}; labels: {', '.join(told['labels']) or 'none'}")
    _tell(told)


@library.command("refresh")
@click.argument("name", required=False)
@click.option("--no-wait", is_flag=True, help="Do not wait until it is done.")
@click.pass_obj
@guarded
def refresh_documents(folder: Path, name: str | None, no_wait: bool) -> None:
    """Look at the folder NAME again now, or at all."""
    call = Call(folder)
    path = "/api/library/refresh" if name is None else f"/api/library/{quote(name, safe='')}/refresh"
    for one in call.ask("POST", path, {})["names"]:
        if not no_wait:
            _tell(_wait(call, one))


@library.command("remove")
@click.argument("name")
@click.pass_obj
@guarded
def remove_documents(folder: Path, name: str) -> None:
    """Forget the folder NAME and all that was read of it. Its files stay."""
    Call(folder).ask("DELETE", f"/api/library/{quote(name, safe='')}", timeout_s=SEARCH_S)
    say(f"{name} is forgotten.")


@library.command("search")
@click.argument("words", nargs=-1, required=True)
@click.option("--most", default=5, show_default=True, type=click.IntRange(1, 30), help="How many passages.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_obj
@guarded
def search_documents(folder: Path, words: tuple[str, ...], most: int, as_json: bool) -> None:
    """Find passages by WORDS and, where there are vectors, by meaning."""
    body = {"query": " ".join(words), "most": most}
    told = Call(folder).ask("POST", "/api/library/search", body, timeout_s=SEARCH_S)["hits"]
    if as_json:
        show_json(told)
        return
    for one in told:
        labels = f" [{', '.join(one['labels'])}]" if one["labels"] else ""
        heading = f" ({one['heading']})" if one["heading"] else ""
        say(f"{one['place']}{heading}{labels}")
        for line in one["text"].split("\n"):
            say(f"  {line}")
        say()
    if not told:
        say("Nothing was found.")


@library.command("notes")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_obj
@guarded
def list_notes(folder: Path, as_json: bool) -> None:
    """Show what runs have remembered."""
    told = Call(folder).ask("GET", "/api/notes")["notes"]
    if as_json:
        show_json(told)
        return
    rows = [
        (n["id"], _date(n["at"]), n["run_id"], n["key_name"] or "owner", ", ".join(n["labels"]), n["text"][:SHOWN])
        for n in told
    ]
    show_table(("Note", "When", "Run", "Key", "Labels", "Text"), rows, none="Nothing is remembered.")


@library.command("forget")
@click.argument("note_id", metavar="ID")
@click.pass_obj
@guarded
def forget_note(folder: Path, note_id: str) -> None:
    """Forget the note ID."""
    Call(folder).ask("DELETE", f"/api/notes/{quote(note_id, safe='')}", timeout_s=SEARCH_S)
    say(f"{note_id} is forgotten.")


def _wait(call: Call, name: str) -> Any:
    """Wait until a folder is read, which may take long. Ctrl-C ends the waiting, not the reading."""
    said = ""
    while True:
        told = call.ask("GET", f"/api/library/{quote(name, safe='')}")
        if told["state"] == "ready":
            return told
        if told["state"] != said:
            said = told["state"]
            note(f"{name}: {said}")
        time.sleep(LOOK_S)


def _tell(told: dict[str, Any]) -> None:
    """What was made of a folder, and what was not, and why."""
    say(f"{told['name']}: {counted(told['files'], 'file')}, {counted(told['passages'], 'passage')}.")
    if told["unread"]:
        say(f"{counted(told['unread'], 'file')} could not be read whole: `mycoswarm-node library show {told['name']}`.")
    if told["others"]:
        kinds = ", ".join(f"{number} {kind}" for kind, number in told["others"].items())
        say(f"Left out, as they are no text, Markdown, HTML or PDF: {kinds}.")
    if told["fault"]:
        say(f"Trouble: {told['fault']}.")
    if told["embedded"]:
        say(f"{counted(told['embedded'], 'passage')} can be found by meaning, too.")
    if told["unembedded"]:
        say(f"Found by words only: {told['unembedded']}.")


def _date(at: float | None) -> str:
    return "" if at is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(at))
