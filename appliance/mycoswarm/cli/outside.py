"""`endpoints`, the servers outside that rules may name, `search`, the one that the tool `search_web` asks, and
`approvals`, the requests that wait for a yes."""

import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from mycoswarm.base.errors import InputError, NotFoundError
from mycoswarm.cli.call import Call
from mycoswarm.cli.screen import complain, guarded, note, say, show_json, show_table

PROBE_S = 60.0  # the endpoint is asked for its models, and may be slow
MAX_SECRET = 4096  # characters
LOOK_S = 1.0


@click.group()
def endpoints() -> None:
    """External OpenAI-compatible servers. Only a rule that names one sends anything there."""


@endpoints.command("add")
@click.argument("name")
@click.argument("url")
@click.option(
    "--place",
    type=click.Choice(("LAN", "outside")),
    default="outside",
    show_default=True,
    help="How far away it may be. On the LAN it must prove to be there.",
)
@click.option("--key", metavar="-", help='Its API key: "-" reads it from stdin; else you are asked for it.')
@click.option("--no-key", is_flag=True, help="It asks for no API key.")
@click.option("--no-check", is_flag=True, help="Do not try it now.")
@click.pass_obj
@guarded
def add_endpoint(
    folder: Path, /, name: str, url: str, place: str, key: str | None, no_key: bool, no_check: bool
) -> None:
    """Register the server at URL ("http://rack.local:8000/v1") under NAME.

    Its API key is never an argument: other users of this machine can see command lines.
    """
    asked = {"name": name, "url": url, "place": place, "check": not no_check, "secret": _secret(key, no_key)}
    told = Call(folder).ask("POST", "/api/endpoints", asked, timeout_s=PROBE_S)
    say(f"{told['name']} is registered ({told['place']}).")
    if no_check:
        say("It was not tried: its place is proved at each request.")
    elif told.get("models") is not None:
        say(f"It serves: {', '.join(told['models']) or 'no models'}.")
    if not told["rules"]:
        note(f"Nothing goes there until a rule names it: `mycoswarm-node rules add RULE --external {told['name']}`.")


@endpoints.command("list")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_obj
@guarded
def list_endpoints(folder: Path, as_json: bool) -> None:
    """Show all endpoints, and which rules name them."""
    told = Call(folder).ask("GET", "/api/endpoints")["endpoints"]
    if as_json:
        show_json(told)
        return
    rows = [
        (
            e["name"],
            e["url"],
            e["place"],
            "yes" if e["has_secret"] else "no",
            ", ".join(e["rules"]) or "none: unreachable",
        )
        for e in told
    ]
    none = "There are no endpoints: `mycoswarm-node endpoints add NAME URL` registers one."
    show_table(("Endpoint", "URL", "Place", "Key", "Rules"), rows, none=none)


@endpoints.command("remove")
@click.argument("name")
@click.pass_obj
@guarded
def remove_endpoint(folder: Path, name: str) -> None:
    """Forget the endpoint NAME and its key."""
    told = Call(folder).ask("DELETE", f"/api/endpoints/{quote(name, safe='')}")
    say(f"{name} is forgotten.")
    if told["rules"]:
        note(f"These rules name it and go nowhere now: {', '.join(told['rules'])}.")


@click.group()
def search() -> None:
    """The search server, a SearXNG, that the tool search_web asks. There is none until you set one."""


@search.command("set")
@click.argument("url")
@click.pass_obj
@guarded
def set_search(folder: Path, url: str) -> None:
    """Have searches asked of the SearXNG at URL ("http://192.168.1.5:8080"), as seen from the node that runs them."""
    told = Call(folder).ask("PUT", "/api/search", {"url": url})
    say(f"search_web asks {told['url']}.")
    note("Each search waits for your yes, unless a rule means the tool: --task tool:search_web (docs/tools.md).")


@search.command("show")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_obj
@guarded
def show_search(folder: Path, as_json: bool) -> None:
    """Show which search server is set."""
    told = Call(folder).ask("GET", "/api/search")
    if as_json:
        show_json(told)
    elif told["url"] is None:
        say("No search server is set, so there is no tool search_web: `mycoswarm-node search set URL`.")
    else:
        say(f"search_web asks {told['url']}, set by {told['set_by']}.")


@search.command("unset")
@click.pass_obj
@guarded
def unset_search(folder: Path) -> None:
    """Forget the search server; the tool search_web goes with it."""
    Call(folder).ask("DELETE", "/api/search")
    say("The search server is forgotten.")


@click.group()
def approvals() -> None:
    """Requests that wait for your yes, because a rule says `ask`."""


@approvals.command("list")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_obj
@guarded
def list_approvals(folder: Path, as_json: bool) -> None:
    """Show who waits: no prompt, only what it is about."""
    told = Call(folder).ask("GET", "/api/approvals")["approvals"]
    if as_json:
        show_json(told)
        return
    headings = ("Id", "Who", "Model", "Task", "Length", "Labels", "Would go to", "Rule", "Time left")
    show_table(headings, map(_row, told), none="Nobody waits for your yes.", whole=1)
    if told:
        note("`mycoswarm-node approvals allow ID` or `refuse ID`.")


@approvals.command("allow")
@click.argument("approval_id", metavar="ID")
@click.pass_obj
@guarded
def allow(folder: Path, approval_id: str) -> None:
    """Let the request ID go on."""
    _answer(Call(folder), approval_id, allowed=True)
    say(f"{approval_id} is allowed.")


@approvals.command("refuse")
@click.argument("approval_id", metavar="ID")
@click.pass_obj
@guarded
def refuse(folder: Path, approval_id: str) -> None:
    """Refuse the request ID."""
    _answer(Call(folder), approval_id, allowed=False)
    say(f"{approval_id} is refused.")


@approvals.command("watch")
@click.pass_obj
@guarded
def watch(folder: Path) -> None:
    """Ask about each request as it comes, until Ctrl-C."""
    call, known = Call(folder), set()
    note("Waiting for requests; Ctrl-C ends.")
    while True:
        for one in call.ask("GET", "/api/approvals")["approvals"]:
            if one["id"] in known:
                continue
            known.add(one["id"])
            who, model, task, characters, labels, where, rule, left = _row(one)[1:]
            say(f"\n{who} asks {model} ({task}, {characters} characters, labels: {labels or 'none'}).")
            if one.get("detail"):
                say(f"With: {one['detail']}")
            say(f"It would go to {where}, by the rule {rule}. Time left: {left}.")
            try:
                _answer(call, one["id"], allowed=click.confirm("Allow it?", default=False))
            except NotFoundError as error:  # it took too long, or somebody else answered
                complain(error)
        time.sleep(LOOK_S)


def _secret(key: str | None, no_key: bool) -> str | None:
    """The API key as the owner gives it, None where there is none."""
    if no_key:
        if key is not None:
            raise click.UsageError("--key and --no-key exclude each other.")
        return None
    if key is None:
        return click.prompt("API key (empty: none)", default="", hide_input=True, show_default=False, err=True) or None
    if key != "-":
        raise InputError("an API key does not belong on a command line", hint='Give it on stdin, with "--key -".')
    return sys.stdin.readline(MAX_SECRET + 2).strip() or None


def _answer(call: Call, approval_id: str, *, allowed: bool) -> None:
    call.ask("POST", f"/api/approvals/{quote(approval_id, safe='')}", {"allow": allowed})


def _row(one: dict[str, Any]) -> tuple[str, ...]:
    who = " / ".join(filter(None, (one["key"], one["user"]))) or "the owner"
    left = f"{max(0.0, one['expires_at'] - time.time()):.0f} s"
    what = (str(one["model"]), str(one["task"]), str(one["characters"]), ", ".join(one["labels"]))
    return (one["id"], who, *what, str(one["destination"]), str(one["rule"]), left)
