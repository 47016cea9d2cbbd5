"""What a node holds: `models` and `keys`."""

import json
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click
from rich.progress import Progress

from mycoswarm.base.errors import UnreachableError
from mycoswarm.base.units import format_bytes
from mycoswarm.cli.call import Call, as_error, decode
from mycoswarm.cli.freight import fit_model, load_model, pull_model, unload_model
from mycoswarm.cli.screen import clean, err, guarded, note, say, show_json, show_table

EXAM_S = 1200.0  # that one case of an exam may take: twice the usual limit of an answer


@click.group()
def models() -> None:
    """Model files (GGUF) of this node and its swarm."""


for command in (pull_model, load_model, unload_model, fit_model):
    models.add_command(command)


@models.command("add")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--name", help="What to call it; else the file's name.")
@click.pass_obj
@guarded
def add_model(folder: Path, file: Path, name: str | None) -> None:
    """Put FILE on this node's shelf. It is checked first, in a process of its own."""
    added = upload(Call(folder), file, name)
    say(f"{added['name']}: {added['architecture']}, {added['layers']} layers, {format_bytes(added['file_bytes'])}.")
    if not added["splittable"]:
        note(f"It runs whole on one node only: {added['split_reason']}.")


def upload(call: Call, file: Path, name: str | None = None) -> dict[str, Any]:
    """Have a daemon put a file on its shelf, with progress on stderr; gives the model as the daemon lists it.

    Raises:
        SwarmError: what the daemon said of the file.
    """
    with Progress(console=err, transient=True, disable=not err.is_terminal) as progress:
        task = progress.add_task(f"Reading {file.name}", total=None)
        asked = {"path": str(file.expanduser().absolute()), "name": name}
        for line in call.stream("POST", "/api/models", asked):
            told = decode(line)
            if "error" in told:
                raise as_error(line)
            if "model" in told:
                added: dict[str, Any] = told["model"]
                return added
            progress.update(task, completed=told["done_bytes"], total=told["total_bytes"])
    raise UnreachableError(f"the daemon stopped before {file.name} was on its shelf", hint="Look at its log.")


@models.command("list")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_obj
@guarded
def list_models(folder: Path, as_json: bool) -> None:
    """Show all models of this node and, on the coordinator, of its swarm."""
    told = Call(folder).ask("GET", "/api/models")["models"]
    if as_json:
        show_json(told)
        return
    rows = [
        (
            m["name"],
            m["architecture"],
            m["quantisation"],
            format_bytes(m["file_bytes"]),
            m["layers"],
            "yes" if m["splittable"] else "no",
            ", ".join(m["held_by"]),
            "none" if m["certificate"] is None else f"{m['certificate']['percent']} %",
            m["digest"][:12],
        )
        for m in told
    ]
    show_table(("Model", "Architecture", "Type", "Size", "Layers", "Splits", "Held by", "Certificate", "Digest"), rows)


@models.command("certify")
@click.argument("name", metavar="MODEL")
@click.option("--json", "as_json", is_flag=True, help="All that happens, as JSON lines.")
@click.pass_obj
@guarded
def certify_model(folder: Path, name: str, as_json: bool) -> None:
    """Examine how well MODEL calls tools, and keep the score. Ctrl-C ends the exam, and nothing is kept."""
    certificate: dict[str, Any] = {}
    with Progress(console=err, transient=True, disable=as_json or not err.is_terminal) as progress:
        task = progress.add_task("Exam", total=None)
        for line in Call(folder).stream("POST", f"/api/models/{quote(name, safe='')}/certify", {}, timeout_s=EXAM_S):
            told = decode(line)
            if "error" in told:
                raise as_error(line)
            if as_json:
                click.echo(json.dumps(told))
            if told["event"] == "exam":
                progress.update(task, total=told["cases"])
            elif told["event"] == "case":
                progress.update(task, completed=told["number"], description=told["kind"])
                if not told["right"] and not as_json:
                    progress.console.print(clean(f"{told['kind']}, {told['name']}: {told['why']}"), markup=False)
            else:
                certificate = told
    if not certificate:
        raise UnreachableError("the exam broke off; nothing was kept", hint="Look at the daemon's log.")
    if not as_json:
        rows = [(kind, f"{one['right']} of {one['cases']}") for kind, one in certificate["kinds"].items()]
        show_table(("Kind", "Right"), [*rows, ("all", f"{certificate['right']} of {certificate['cases']}")])
        say(f"{name}: {certificate['percent']} %")


@models.command("remove")
@click.argument("name")
@click.pass_obj
@guarded
def remove_model(folder: Path, name: str) -> None:
    """Take the model NAME off this node's shelf, with the pieces of it that lie here; or drop a pull that broke off."""
    Call(folder).ask("DELETE", f"/api/models/{quote(name, safe='')}")
    say(f"{name} is off the shelf.")


@click.group()
def keys() -> None:
    """API keys for clients of this node."""


@keys.command("create")
@click.argument("name")
@click.option("--label", "labels", multiple=True, help="A label put on each of its requests; may be given again.")
@click.option("--user", help="Whom the key is for; rules can name users.")
@click.option("--owner", "is_owner", is_flag=True, help="The key may do over the network what this command line may.")
@click.option("--requests-per-minute", type=click.IntRange(min=1), help="Refuse more requests within any minute.")
@click.option("--tokens-per-day", type=click.IntRange(min=1), help="Refuse requests once so many tokens are spent.")
@click.pass_obj
@guarded
def create_key(folder: Path, /, name: str, labels: tuple[str, ...], **terms: Any) -> None:
    """Make a key called NAME and show it, once."""
    asked = {"name": name, "labels": list(labels), **terms}
    say(Call(folder).ask("POST", "/api/keys", asked)["key"])
    if sys.stdout.isatty():
        note("It is shown this once. Clients send it as `Authorization: Bearer KEY`.")


@keys.command("setup-code")
@click.pass_obj
@guarded
def setup_code(folder: Path) -> None:
    """Make a one-time code that opens the dashboard in a browser, where no key is at hand; an older one ends.

    Whoever types it in is given an owner's key.
    """
    told = Call(folder).ask("POST", "/api/setup-code", {})
    say(told["setup_code"])
    note(f"It holds for {told['holds_s'] / 86400:.0f} days, once. The dashboard asks for it at its first page.")


@keys.command("list")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_obj
@guarded
def list_keys(folder: Path, as_json: bool) -> None:
    """Show all keys: their labels, users and limits, and when each was last used."""
    told = Call(folder).ask("GET", "/api/keys")["keys"]
    if as_json:
        show_json(told)
        return
    rows = [
        (
            k["name"],
            k["user"] or "",
            ", ".join(k["labels"]),
            "yes" if k["is_owner"] else "",
            "" if k["requests_per_minute"] is None else str(k["requests_per_minute"]),
            "" if k["tokens_per_day"] is None else str(k["tokens_per_day"]),
            _date(k["made_at"]),
            _date(k["used_at"]),
        )
        for k in told
    ]
    show_table(
        ("Key", "User", "Labels", "Owner", "Requests/min", "Tokens/day", "Made", "Last used"),
        rows,
        none="There are no keys yet: `mycoswarm-node keys create NAME` makes one.",
    )


@keys.command("revoke")
@click.argument("name")
@click.pass_obj
@guarded
def revoke_key(folder: Path, name: str) -> None:
    """End the key NAME at once."""
    Call(folder).ask("DELETE", f"/api/keys/{quote(name, safe='')}")
    say(f"The key {name} is revoked.")


def percent(certificate: dict[str, Any] | None) -> str:
    """A certificate in a few letters."""
    return "none" if certificate is None else f"{certificate['percent']} % ({_date(certificate['at'])})"


def _date(at: float | None) -> str:
    return "never" if at is None else time.strftime("%Y-%m-%d", time.localtime(at))
