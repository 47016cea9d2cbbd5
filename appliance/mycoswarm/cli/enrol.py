"""Who belongs to the swarm: `init`, `token`, `join`, `adopt`, `expel`, `leave`, `nodes` and their tags."""

import logging
import sys
import time
from pathlib import Path
from typing import Any

import click

from mycoswarm.base.errors import EnrolmentError, SwarmError
from mycoswarm.base.units import format_bytes, format_seconds, parse_seconds
from mycoswarm.cli.call import Call
from mycoswarm.cli.screen import guarded, note, say, show_json, show_table
from mycoswarm.daemon.claim import claimed
from mycoswarm.swarm.identity import Identity
from mycoswarm.swarm.registrar import Registrar

RESTART_S = 10.0

log = logging.getLogger(__name__)


@click.command()
@click.option("--name", help="What to call this node.")
@click.pass_obj
@guarded
def init(folder: Path, name: str | None) -> None:
    """Found a swarm: this node becomes its coordinator. Works with and without a running daemon."""
    call = Call(folder)
    if call.is_alive():
        told = call.ask("POST", "/api/init", {"name": name})
        wait_for_role(call, "coordinator")
        found = told["name"]
    else:
        with claimed(folder):
            identity = Identity.load_or_create(folder, name=name)
            if name is not None and identity.membership is None:
                identity.rename(name)
            Registrar.found(folder, identity)
            found = identity.name
    say(f"{found} is the coordinator of a new swarm.")
    note("Next, with `mycoswarm-node run` going here and there: `mycoswarm-node token` here, then")
    note("`mycoswarm-node join TOKEN` there; or `mycoswarm-node nodes` and `mycoswarm-node adopt NAME` here.")


@click.command()
@click.option("--for", "lifetime", default="1h", show_default=True, help="How long it can be used (15m, 2h, 7d).")
@click.option("--uses", default=1, show_default=True, type=click.IntRange(1, 100), help="How many nodes it lets in.")
@click.pass_obj
@guarded
def token(folder: Path, lifetime: str, uses: int) -> None:
    """Make a join token, on the coordinator. It lets a machine in: treat it like a password."""
    say(Call(folder).ask("POST", "/api/token", {"lifetime_s": parse_seconds(lifetime), "uses": uses})["token"])
    if sys.stdout.isatty():
        note(
            f"Within {lifetime}, on the other machine: `mycoswarm-node run`, and beside it `mycoswarm-node join TOKEN`."
        )


@click.command()
@click.argument("token")
@click.pass_obj
@guarded
def join(folder: Path, token: str) -> None:
    """Join a swarm with a TOKEN made on its coordinator. The daemon must be running here.

    As "-" it is read from stdin: other users of this machine can see command lines.
    """
    call = Call(folder)
    given = sys.stdin.readline().strip() if token == "-" else token  # noqa: S105  # a sign, no token
    told = call.ask("POST", "/api/join", {"token": given})
    wait_for_role(call, "worker")
    say(f"This node is now {told['name']}, a worker of the swarm {told['swarm_id'][:16]}.")


@click.command()
@click.argument("name", required=False)
@click.option("--yes", is_flag=True, help="Confirm without asking. Only where you have compared the codes elsewhere.")
@click.pass_obj
@guarded
def adopt(folder: Path, name: str | None, yes: bool) -> None:
    """Adopt the candidate NAME, on the coordinator; or, on the new machine without NAME, confirm the adoption.

    Both machines show the same six digits. Confirm on both only if they are the same.
    """
    call = Call(folder)
    told = _waiting(call) if name is None else call.ask("POST", "/api/adopt", {"node": name})
    say(f"Adoption with {told['name']} ({told['node_id']}). The code on this screen:")
    say(f"\n    {told['code']}\n")
    sure = yes or click.confirm("Does the other machine show the same code?", default=False)
    answer = call.ask("POST", "/api/adopt/answer", {"code": told["code"], "accept": sure})
    if not sure:
        say("Refused. Nothing was changed.")
    elif answer["pending"]:
        say("Confirmed here. Now confirm on the other machine with `mycoswarm-node adopt`.")
    else:
        say(f"{answer['name']} belongs to the swarm.")


@click.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
@guarded
def expel(folder: Path, name: str, yes: bool) -> None:
    """Take the node NAME out of the swarm, at once: its live connections close."""
    if not yes:
        click.confirm(f"Expel {name}? It must be enrolled anew to come back.", abort=True)
    told = Call(folder).ask("POST", "/api/expel", {"node": name})
    say(f"{told['name']} ({told['node_id']}) is expelled.")


@click.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
@guarded
def leave(folder: Path, yes: bool) -> None:
    """Take this machine out of its swarm; its key and models stay."""
    if not yes:
        click.confirm("Leave the swarm?", abort=True)
    call = Call(folder)
    call.ask("POST", "/api/leave", {})
    wait_for_role(call, "unclaimed")
    say("This node belongs to no swarm now.")


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_context
def nodes(ctx: click.Context, as_json: bool) -> None:
    """Show the swarm's nodes, the candidates that announce themselves, and standing trouble; or put tags on nodes."""
    if ctx.invoked_subcommand is None:
        show_nodes(ctx.obj, as_json)


@guarded
def show_nodes(folder: Path, as_json: bool) -> None:
    """The list, on stdout."""
    call = Call(folder)
    told, status = call.ask("GET", "/api/nodes"), call.ask("GET", "/api/node")
    if as_json:
        show_json({**told, "conditions": status["conditions"]})
        return
    if told["is_coordinator"] or status["role"] == "unclaimed":
        headings = ("Node", "Role", "Class", "Tags", "Free memory", "Round trip", "Models", "State")
        show_table(headings, map(_row, told["nodes"]))
    else:
        show_table(("Node", "Role", "Tags"), ((_named(n), n["role"], ", ".join(n["tags"])) for n in told["nodes"]))
        note("How they are is known to the coordinator: ask there.")
    note("* is this one.")
    strangers = {one["node_id"]: one for one in told["candidates"] if not one["is_member"]}.values()
    if strangers:
        say()
        show_table(("Candidate", "Says it is", "Id"), ((c["name"], _stranger(c), c["node_id"]) for c in strangers))
        if told["is_coordinator"]:
            note("Adopt an unclaimed one with `mycoswarm-node adopt NAME`.")
    for condition in status["conditions"]:
        say(f"\n! {condition['message']}\n  {condition['hint']}")


@nodes.command("tag")
@click.argument("name")
@click.argument("tags", nargs=-1, required=True)
@click.pass_obj
@guarded
def tag_node(folder: Path, name: str, tags: tuple[str, ...]) -> None:
    """Put TAGS on the node NAME, on the coordinator. Rules choose nodes by them: `rules add NAME --tag gpu`."""
    _tag(folder, {"node": name, "add": list(tags)})


@nodes.command("untag")
@click.argument("name")
@click.argument("tags", nargs=-1, required=True)
@click.pass_obj
@guarded
def untag_node(folder: Path, name: str, tags: tuple[str, ...]) -> None:
    """Take TAGS off the node NAME, on the coordinator."""
    _tag(folder, {"node": name, "remove": list(tags)})


def _tag(folder: Path, asked: dict[str, Any]) -> None:
    told = Call(folder).ask("POST", "/api/tags", asked)
    say(f"{told['name']} has the tags {', '.join(told['tags'])}." if told["tags"] else f"{told['name']} has no tags.")


def _waiting(call: Call) -> dict[str, Any]:
    """The adoption that waits here; of several, which anybody on the LAN can offer, the one whose code the owner types.

    Raises:
        EnrolmentError: none waits, or none with that code.
    """
    waiting: list[dict[str, Any]] = call.ask("GET", "/api/adoptions")["adoptions"]
    start = "Start it on the coordinator with `mycoswarm-node adopt NAME`."
    if not waiting:
        raise EnrolmentError("no adoption waits here", hint=start)
    if len(waiting) == 1:
        return waiting[0]
    show_table(("Coordinator", "Id"), ((one["name"], one["node_id"]) for one in waiting))
    typed = _digits(click.prompt("Several adoptions wait. The code on your coordinator's screen"))
    found = [one for one in waiting if _digits(one["code"]) == typed]
    if len(found) != 1:
        raise EnrolmentError("no adoption that waits here has that code: do not confirm it there either", hint=start)
    return found[0]


def _digits(text: str) -> str:
    return "".join(character for character in text if character.isdigit())


def wait_for_role(call: Call, role: str) -> None:
    """Wait until the daemon has taken up its new role.

    Raises:
        SwarmError: it did not in time.
    """
    deadline = time.monotonic() + RESTART_S
    while time.monotonic() < deadline:
        try:
            if call.ask("GET", "/api/node", timeout_s=2.0)["role"] == role:
                return
        except SwarmError as error:
            log.debug("the daemon is being built anew: %s", error.message)
        time.sleep(0.05)
    raise SwarmError(f"the daemon did not become {role} within {RESTART_S:.0f} s", hint="Look at its log.")


def _row(node: dict[str, Any]) -> tuple[str, ...]:
    return (
        _named(node),
        node["role"],
        node["class"] or "unknown",
        ", ".join(node["tags"]),
        format_bytes(node["free_memory_bytes"]),
        format_seconds(node["round_trip_s"]),
        ", ".join(node["models"]),
        node["trouble"] or "ready",
    )


def _named(node: dict[str, Any]) -> str:
    return str(node["name"]) + (" *" if node["is_this"] else "")


def _stranger(candidate: dict[str, Any]) -> str:
    if candidate["role"] == "unclaimed":
        return "unclaimed"
    return f"{candidate['role']} of another swarm ({candidate['swarm']})"
