"""`ledger`: what happened here, who could have read it, and whether anybody altered what was written."""

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote, urlencode

import click
from rich.progress import Progress

from mycoswarm.base.errors import StorageError, UnreachableError
from mycoswarm.cli.call import Call, as_error, decode
from mycoswarm.cli.itinerary import timing_lines
from mycoswarm.cli.screen import EXIT_WRONG, ID_SIGNS, counted, err, guarded, note, say, show_json, show_table

NODE_SIGNS = 12
LIST_S = 60.0  # a filter that fits few requests looks through many


@click.group()
def ledger() -> None:
    """What happened on this node, row by row, signed and chained. No prompt is shown unless it is asked for."""


@ledger.command("list")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 1000), help="How many requests.")
@click.option("--key", help="Only those of the API key of this name.")
@click.option("--outcome", help="Only those that ended so: stop, length, cancelled, refused_by_rules ...")
@click.option("--kind", help="Rows of this kind instead of requests: ticket, refused_ticket, decision, answer ...")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_obj
@guarded
def list_requests(
    folder: Path, /, limit: int, key: str | None, outcome: str | None, kind: str | None, as_json: bool
) -> None:
    """Show the newest requests, one line each; or the newest rows of one kind."""
    if kind is not None and (key is not None or outcome is not None):
        raise click.UsageError("--kind lists rows; --key and --outcome are for requests.")
    found = _listed(Call(folder), limit, {"key": key, "outcome": outcome, "kind": kind})
    if as_json:
        show_json(found)
    elif kind is not None:
        for row in found:
            _show_row(row, with_prompt=False)
    else:
        _show_requests(found)


def _show_requests(found: list[dict[str, Any]]) -> None:
    rows = [
        (
            _date(r["at"], "%m-%d %H:%M"),
            str(r["receipt"])[:ID_SIGNS],
            _word(r["key"]) or ("owner" if r["tries"] or r["outcome"] else ""),
            _word(r["model"]) or _word(r["model_digest"])[:ID_SIGNS],
            _word(r["rule"]),
            _where(r),
            (_word(r["outcome"]) or "no end here").replace("_", " "),
            _word(r["completion_tokens"]),
            f"{r['seconds']:.1f} s" if isinstance(r["seconds"], int | float) else "",
        )
        for r in found
    ]
    headings = ("When", "Receipt", "Key", "Model", "Rule", "Ran on", "End", "Tokens", "Time")
    show_table(headings, rows, none="No request has come yet.", whole=2)
    if rows:
        note("`mycoswarm-node ledger show RECEIPT` says all of one; `ledger exposure RECEIPT` who could have read it.")


@ledger.command("show")
@click.argument("id")
@click.option(
    "--prompt", "with_prompt", is_flag=True, help="Show the prompt's text too, where `ledger_prompts` kept it."
)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_obj
@guarded
def show(folder: Path, id: str, with_prompt: bool, as_json: bool) -> None:
    """Show all rows of the request ID on this node. ID is the receipt of an answer, or at least 8 signs of it."""
    query = "?prompt=yes" if with_prompt else ""
    told = Call(folder).ask("GET", f"/api/ledger/{quote(id, safe='')}{query}")
    if as_json:
        show_json(told)
        return
    say(f"Request {told['receipt']} on {told['node']}: {told['outcome'] or 'its end is not in this ledger'}.")
    for row in told["rows"]:
        _show_row(row, with_prompt=with_prompt)


@ledger.command("exposure")
@click.argument("id")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_obj
@guarded
def exposure(folder: Path, id: str, as_json: bool) -> None:
    """Show every machine that could have read the prompt of the request ID, in all tries."""
    told = Call(folder).ask("GET", f"/api/ledger/{quote(id, safe='')}/exposure")
    if as_json:
        show_json(told)
        return
    say(f"Machines that could have read the prompt of {told['receipt']}:")
    rows = [
        (
            _word(r["name"]),
            _word(r["id"])[:NODE_SIGNS],
            _what(r),
            _word(r.get("place")),
            _word(r.get("try")),
            _date(r["at"]),
        )
        for r in told["readers"]
    ]
    show_table(("Machine", "Id", "As", "Place", "Try", "When"), rows)
    for one in told["informed"]:
        say(f"{one['name']} holds the model: it knew that there was a request, and never its prompt.")
    for text in told["notes"]:
        say(f"Note: {text}.")


@ledger.command("export")
@click.argument("file", default="-", type=click.Path(dir_okay=False, allow_dash=True, path_type=Path))
@click.pass_obj
@guarded
def export(folder: Path, file: Path) -> None:
    """Write the whole ledger as JSON lines to FILE, or to stdout. docs/ledger.md says how to check it by yourself.

    Prompts are in it where `ledger_prompts` kept them.
    """
    has_head = False
    with _sink(file) as sink:
        for line in Call(folder).stream("GET", "/api/ledger/export"):
            if line.startswith(b'{"error"'):
                raise as_error(line)
            sink.write(line)
            has_head = line.startswith(b'{"head"')
    if not has_head:
        note("There is no head at the end: the ledger is empty, or the export was cut off.")


@ledger.command("verify")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_obj
@guarded
def verify(folder: Path, as_json: bool) -> None:
    """Check this node's ledger and, on the coordinator, every node's and all of them against each other.

    Status 1 where something is wrong.
    """
    told = _verified(Call(folder))
    if as_json:
        show_json(told)
    else:
        _explain(told)
    if not told["is_sound"]:
        raise SystemExit(EXIT_WRONG)


@contextlib.contextmanager
def _sink(file: Path) -> Iterator[BinaryIO]:
    """The file, for its owner's eyes only, or stdout."""
    if str(file) == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    try:
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as opened:
            yield opened
    except BrokenPipeError:
        raise
    except OSError as exc:
        raise StorageError(f"{file} cannot be written: {exc.strerror or exc}") from exc


def _show_row(row: dict[str, Any], *, with_prompt: bool) -> None:
    say()
    say(f"row {row['row']}  {row['kind']}  {_date(row['at'])}  digest {row['digest']}")
    if row["body"] is None:
        say("  it was altered and cannot be read: run `mycoswarm-node ledger verify`")
    for name, value in _lines(row["body"] or {}):
        say(f"  {name}: {value}")
    for text in timing_lines((row["body"] or {}).get("timing")):
        say(f"  {text}")
    if row["has_prompt"] and not with_prompt:
        say("  (the prompt's text is kept in this row; `ledger show --prompt` shows it)")


def _listed(call: Call, limit: int, wanted: dict[str, str | None]) -> list[dict[str, Any]]:
    """The newest requests, or rows of a kind, out of as many pages as it takes."""
    found: list[dict[str, Any]] = []
    after: int | None = None
    while True:
        query = {**wanted, "limit": limit - len(found), "after": after}
        text = urlencode({name: value for name, value in query.items() if value is not None})
        told = call.ask("GET", f"/api/ledger?{text}", timeout_s=LIST_S)
        found += told["requests" if wanted["kind"] is None else "rows"]
        after = told["next"]
        if after is None or len(found) >= limit:
            return found


def _verified(call: Call) -> dict[str, Any]:
    """Have it verified, with progress on stderr; gives the verdict, the chains, the comparison and who was left out."""
    told: dict[str, Any] = {"chains": [], "unanswered": [], "comparison": None}
    with Progress(console=err, transient=True, disable=not err.is_terminal) as progress:
        task = progress.add_task("Verifying", total=None)
        for line in call.stream("POST", "/api/ledger/verify", {}):
            event = decode(line)
            if "error" in event:
                raise as_error(line)
            match event.pop("event", None):
                case "chain":
                    told["chains"].append(event)
                case "not_checked":
                    told["unanswered"].append(event)
                case "comparison":
                    told["comparison"] = event
                case "verdict":
                    return {**event, **told}
                case _:
                    counts = ", ".join(f"{event[n]} {n}" for n in ("rows", "tickets", "decisions") if n in event)
                    progress.update(task, description=f"Verifying {event.get('node') or 'decisions'}: {counts}")
    raise UnreachableError("the daemon stopped before the ledger was verified", hint="Look at its log.")


def _explain(told: dict[str, Any]) -> None:
    for chain in told["chains"]:
        state = "sound" if chain["is_sound"] else "NOT SOUND"
        say(f"{chain['node']}: {counted(chain['rows'], 'row')}, the chain is {state}.")
        for one in chain["findings"]:
            say(f"  {chain['node']}: {one['words']}.")
        if chain["more"]:
            say(f"  and {chain['more']} more findings.")
    for one in told["unanswered"]:
        say(f"{one['node']}: not checked: {one['why']}.")
    found = told["comparison"]
    if found is not None:
        state = "NOT all as decided" if found["findings"] or found["more"] else "all as decided"
        tickets, decisions = counted(found["tickets"], "ticket"), counted(found["decisions"], "decision")
        say(f"{tickets} of the nodes against {decisions}: {state}.")
        for one in found["findings"]:
            say(f"  {one['words']}.")
        if found["more"]:
            say(f"  and {found['more']} more findings.")
        _remark(found)
    elif not told["compares"]:
        say("Only this node's own ledger was checked; the coordinator compares all of them.")
    say("Nothing is wrong with what was checked." if told["is_sound"] else "Something is wrong: see above.")


def _remark(found: dict[str, Any]) -> None:
    """What is no fault, and good to know."""
    for name, words in (
        ("untraced", "decisions left no trace on a node that they name: it was never reached, or the answer broke off"),
        ("unchecked", "decisions name a node that was not checked, or is in the swarm no more"),
        ("foreign", "tickets are from another swarm, or from before this one"),
    ):
        if found[name]:
            say(f"  {found[name]} {words}.")


def _lines(body: dict[str, Any]) -> list[tuple[str, str]]:
    """What a row says, in lines; the ticket's own text only as JSON."""
    hidden = ("ticket", "signature", "timing")
    found = []
    for name, value in body.items():
        if name in hidden:
            continue
        if isinstance(value, dict):
            found += [(f"{name}.{inner}", _plain(each)) for inner, each in value.items() if each not in (None, [], "")]
        elif value not in (None, [], ""):
            found.append((name, _plain(value)))
    return found


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(_plain(one) for one in value)
    if isinstance(value, dict):
        return " ".join(f"{name}={_plain(one)}" for name, one in value.items() if one is not None)
    return str(value)


def _where(request: dict[str, Any]) -> str:
    """The nodes or the endpoint, and whether that was outside; on a node that only worked for it, its layers."""
    names = ", ".join(map(str, request["nodes"] or ())) or _layers(request["layers_here"])
    return f"{names} (outside)" if request["ran"] == "outside" else names


def _what(reader: dict[str, Any]) -> str:
    match reader["what"]:
        case "layers":
            return _layers(reader["layers"])
        case "endpoint":
            return "endpoint" + (", not reached" if reader["was_reached"] is False else "")
        case "tool":
            return f"tool {reader['tool']}"
        case what:
            return str(what)


def _layers(layers: Any) -> str:
    return f"layers [{layers[0]}, {layers[1]})" if isinstance(layers, list) and len(layers) == 2 else ""


def _word(value: Any) -> str:
    return "" if value is None else str(value)


def _date(at: float, form: str = "%Y-%m-%d %H:%M:%S") -> str:
    try:
        return time.strftime(form, time.localtime(at))
    except (OverflowError, ValueError, OSError):
        return "at no time"  # an altered row
