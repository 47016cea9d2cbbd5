"""`models pull`, `load`, `unload` and `fit`: what comes to this node, what is in memory, and what would be."""

from pathlib import Path
from typing import Any
from urllib.parse import quote

import click
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from mycoswarm.base.errors import UnreachableError
from mycoswarm.base.units import format_bytes
from mycoswarm.cli.call import Call, as_error, decode
from mycoswarm.cli.reason import show_reasons
from mycoswarm.cli.screen import counted, err, guarded, note, say, show_json, show_table
from mycoswarm.cli.talk import beside

LOAD_S = 180.0  # without a word; a daemon that loads speaks each second

route_option = click.option("--route", help='Narrow where it may run: "solo", "split; stages=2", "nodes=attic".')
label_option = click.option(
    "--label", "labels", multiple=True, help="Add this label; again for another. Labels only narrow."
)


@click.command("pull")
@click.argument("source")
@click.option("--name", help="What to call it; else the file's name.")
@click.pass_obj
@guarded
def pull_model(folder: Path, source: str, name: str | None) -> None:
    """Fetch a model onto this node's shelf, from an https URL of a .gguf file, or from the hub.

    On the hub SOURCE is hf:OWNER/REPO/FILE.gguf, with @REVISION behind it for another than main. Only the host that you
    name is asked, and those that it sends on to. Ctrl-C stops; the same command goes on where it stopped.
    """
    told: dict[str, Any] = {}
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:
        task, phase = progress.add_task("Asking", total=None), ""
        asked = {"source": source, "name": name}
        for line in Call(folder).stream("POST", "/api/models/pull", asked):
            told = decode(line)
            if "error" in told:
                raise as_error(line)
            if "model" not in told:
                if told["phase"] != phase:
                    phase = told["phase"]
                    progress.reset(task, description=phase.capitalize())
                progress.update(task, completed=told["done_bytes"], total=told["total_bytes"])
    if "model" not in told:
        hint = "What has come is kept: the same command goes on there. Look at the daemon's log."
        raise UnreachableError("the pull broke off", hint=hint)
    model = told["model"]
    say(f"{model['name']}: {model['architecture']}, {model['layers']} layers, {format_bytes(model['file_bytes'])}.")
    say(f"SHA-256 {model['digest']}, " + ("as promised." if told["is_checked"] else "which nobody had promised."))
    if not model["splittable"]:
        note(f"It runs whole on one node only: {model['split_reason']}.")


@click.command("load")
@click.argument("name", metavar="MODEL")
@route_option
@label_option
@click.pass_obj
@guarded
def load_model(folder: Path, name: str, route: str | None, labels: tuple[str, ...]) -> None:
    """Load MODEL into memory where the rules say, before anybody asks it. It stays as after an answer: `idle_s`."""
    loaded: dict[str, Any] = {}
    with Progress(console=err, transient=True, disable=not err.is_terminal) as progress:
        task = progress.add_task(f"Loading {name}", total=None)
        asked = Call(folder).stream("POST", _path(name, "load"), {}, beside(route, labels), timeout_s=LOAD_S)
        for line in asked:
            told = decode(line)
            if "error" in told:
                raise as_error(line)
            if told["event"] == "loading" and told["nodes"]:
                done, total = (sum(one[key] for one in told["nodes"]) for key in ("done_bytes", "total_bytes"))
                progress.update(task, completed=done, total=total)
            elif told["event"] == "loaded":
                loaded = told
    if not loaded:
        raise UnreachableError("the loading broke off", hint="Look at the daemon's log.")
    say(f"{loaded['model']} is loaded on {placed(loaded['stages'])}. Rule: {loaded['rule']}.")
    say(f"Predicted speed: {_speed(loaded['predicted_tokens_per_s'])}")


@click.command("unload")
@click.argument("name", metavar="MODEL")
@click.pass_obj
@guarded
def unload_model(folder: Path, name: str) -> None:
    """Take MODEL out of memory on all nodes; while a request uses it, that is an error."""
    for one in Call(folder).ask("POST", _path(name, "unload"), {})["rings"]:
        say(f"{name} has left {placed(one['stages'])}.")


@click.command("fit")
@click.argument("name", metavar="MODEL")
@route_option
@label_option
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_obj
@guarded
def fit_model(folder: Path, name: str, route: str | None, labels: tuple[str, ...], as_json: bool) -> None:
    """Where MODEL would fit now, where the rules would have it run, and how fast. Loads nothing."""
    told = Call(folder).ask("GET", _path(name, "fit"), headers=beside(route, labels))
    if as_json:
        show_json(told)
        return
    say(f"{told['model']} needs {format_bytes(told['needed_bytes'])} on one node.")
    rows = [
        (
            one["name"],
            one["place"],
            format_bytes(one["free_bytes"]),
            format_bytes(one["usable_bytes"]),
            "yes" if one["fits_whole"] else "no",
            _speed(one["predicted_tokens_per_s"]),
        )
        for one in told["nodes"]
    ]
    show_table(("Node", "Place", "Free", "Usable", "Fits whole", "Predicted alone"), rows)
    show_reasons(told["decision"])
    for one in told["measured"]:
        state = "loaded now" if one["is_loaded"] else "not loaded now"
        say(f"Measured: {_speed(one['decode_tokens_per_s'])} on {placed(one['stages'])} ({state})")


def placed(stages: list[dict[str, Any]]) -> str:
    """Who holds which layers, in words."""
    if len(stages) == 1:
        return f"{stages[0]['node']} (all {counted(stages[0]['layers'][1], 'layer')})"
    return ", ".join(f"{one['node']} [{one['layers'][0]}, {one['layers'][1]})" for one in stages)


def _speed(tokens_per_s: float | None) -> str:
    return "" if tokens_per_s is None else f"{tokens_per_s:.1f} tokens/s"


def _path(name: str, what: str) -> str:
    return f"/api/models/{quote(name, safe='')}/{what}"
