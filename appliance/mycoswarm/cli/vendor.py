"""`mcp`: MCP servers whose tools agents may use, once you have looked at each and allowed it."""

import json
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from mycoswarm.base.errors import InputError
from mycoswarm.cli.call import Call
from mycoswarm.cli.screen import guarded, note, say, show_json, show_table

LOOK_S = 120.0  # the server is started for its tools, after another perhaps
MAX_FILE = 64 << 10


@click.group()
def mcp() -> None:
    """MCP servers. Their tools are off until you allow them, one by one (docs/mcp.md)."""


@mcp.command("add")
@click.argument("name")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.option("--url", help="Where it answers (streamable HTTP), in the place of a command.")
@click.option(
    "--place",
    type=click.Choice(("LAN", "outside")),
    default="outside",
    show_default=True,
    help="How far away its URL may be. On the LAN it must prove to be there.",
)
@click.option("--env", "variables", metavar="VARIABLE", multiple=True, help="Ask for this variable of its environment.")
@click.option("--header", "headers", metavar="HEADER", multiple=True, help="Ask for this header of its requests.")
@click.option(
    "--secrets", "file", metavar="FILE", help='Read variables or headers, a line NAME=VALUE each; "-" is stdin.'
)
@click.option("--no-check", is_flag=True, help="Do not start it now; `mcp refresh` does.")
@click.pass_obj
@guarded
def add_server(
    folder: Path,
    /,
    name: str,
    command: tuple[str, ...],
    url: str | None,
    place: str,
    variables: tuple[str, ...],
    headers: tuple[str, ...],
    file: str | None,
    no_check: bool,
) -> None:
    """Register the MCP server NAME: `mcp add NAME -- COMMAND ARGS...`, or `mcp add NAME --url URL`.

    It is started once, in the sandbox, to tell its tools. No secret is ever an argument: other users of this machine
    can see command lines.
    """
    if bool(command) is bool(url):
        raise click.UsageError("Give a command behind `--`, or --url.")
    if (variables and url) or (headers and command):
        raise click.UsageError("--env is for commands, --header for URLs.")
    secrets = {} if file is None else _read(file)
    secrets |= {one: _asked(one) for one in (*variables, *headers)}
    asked: dict[str, Any] = {"name": name, "secrets": secrets, "check": not no_check}
    asked |= {"url": url, "place": place} if url else {"command": list(command)}
    told = Call(folder).ask("POST", "/api/mcp", asked, timeout_s=LOOK_S)
    say(f"{name} is registered.")
    if no_check:
        note(f"It was not started: `mycoswarm-node mcp refresh {name}` has it tell its tools.")
        return
    _show_tools(told)
    note(f"All are off: `mycoswarm-node mcp allow {name} TOOL...` switches on what you have looked at.")


@mcp.command("list")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_obj
@guarded
def list_servers(folder: Path, as_json: bool) -> None:
    """Show all MCP servers."""
    told = Call(folder).ask("GET", "/api/mcp")["servers"]
    if as_json:
        show_json(told)
        return
    rows = [
        (
            one["name"],
            one["url"] or " ".join(one["command"]),
            str(len(one["tools"])) if one["looked_at"] else "not looked at",
            ", ".join(one["allowed"]) or "none",
            ", ".join(one["changed"]),
        )
        for one in told
    ]
    none = "There are no MCP servers: `mycoswarm-node mcp add NAME -- COMMAND` registers one."
    show_table(("Server", "What it is", "Tools", "Allowed", "Changed, so off"), rows, none=none)


@mcp.command("show")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_obj
@guarded
def show_server(folder: Path, name: str, as_json: bool) -> None:
    """Show the tools of the server NAME as it describes them, which are allowed, and what has changed."""
    told = Call(folder).ask("GET", _path(name))
    if as_json:
        show_json(told)
        return
    where = f"{told['url']} ({told['place']})" if told["url"] else " ".join(told["command"])
    say(f"{told['name']}: {where}")
    if told["secrets"]:
        say(f"Secrets, which are shown nowhere: {', '.join(told['secrets'])}")
    _show_tools(told)


@mcp.command("refresh")
@click.argument("name")
@click.pass_obj
@guarded
def refresh_server(folder: Path, name: str) -> None:
    """Have the server NAME tell its tools anew. What has changed is off until you allow it again."""
    _show_tools(Call(folder).ask("POST", f"{_path(name)}/refresh", {}, timeout_s=LOOK_S))


@mcp.command("allow")
@click.argument("name")
@click.argument("tools", metavar="TOOL...", nargs=-1, required=True)
@click.pass_obj
@guarded
def allow_tools(folder: Path, name: str, tools: tuple[str, ...]) -> None:
    """Allow tools of the server NAME, as they are now.

    Where each call runs is still a rule, with the task tool:NAME__TOOL; without one that names it, you are asked.
    """
    told = Call(folder).ask("POST", f"{_path(name)}/allow", {"tools": list(tools)})
    say(f"Allowed: {', '.join(told['allowed'])}.")


@mcp.command("forbid")
@click.argument("name")
@click.argument("tools", metavar="TOOL...", nargs=-1, required=True)
@click.pass_obj
@guarded
def forbid_tools(folder: Path, name: str, tools: tuple[str, ...]) -> None:
    """Switch tools of the server NAME off."""
    told = Call(folder).ask("POST", f"{_path(name)}/forbid", {"tools": list(tools)})
    say(f"Allowed now: {', '.join(told['allowed']) or 'none'}.")


@mcp.command("remove")
@click.argument("name")
@click.pass_obj
@guarded
def remove_server(folder: Path, name: str) -> None:
    """Forget the server NAME, what was allowed of it, and its secrets."""
    Call(folder).ask("DELETE", _path(name))
    say(f"{name} is forgotten.")


def _path(name: str) -> str:
    return f"/api/mcp/{quote(name, safe='')}"


def _asked(name: str) -> str:
    if "=" in name:
        raise InputError(
            "a value does not belong on a command line", hint="Give the name alone: you are asked, or use --secrets."
        )
    return str(click.prompt(name, hide_input=True, err=True))


def _read(file: str) -> dict[str, str]:
    """Lines NAME=VALUE; empty ones, and those that begin with #, say nothing."""
    try:
        text = sys.stdin.read(MAX_FILE + 1) if file == "-" else Path(file).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise InputError(f"{file} cannot be read") from exc
    if len(text) > MAX_FILE:
        raise InputError(f"{file} is longer than {MAX_FILE >> 10} KiB")
    found = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, is_pair, value = line.partition("=")
        if not is_pair:
            raise InputError(f"{file}, line {number}: it is not NAME=VALUE")
        found[name.strip()] = value.strip()
    return found


def _show_tools(told: dict[str, Any]) -> None:
    if not told["tools"]:
        say("It has told of no tools." if told["looked_at"] else "It was not looked at yet.")
    for tool in told["tools"]:
        say(f"\n{tool['whole_name']}: {_state(tool)}")
        say(f"  It says: {tool['description'] or 'nothing'}")
        say(f"  Arguments: {json.dumps(tool['schema'], ensure_ascii=False)}")
        if tool["before"] is not None:
            say(f"  When you allowed it, it said: {tool['before']['description'] or 'nothing'}")
            say(f"  Arguments then: {json.dumps(tool['before']['schema'], ensure_ascii=False)}")


def _state(tool: dict[str, Any]) -> str:
    if not tool["is_there"]:
        return "off: the server has it no more"
    if tool["fault"]:
        return f"cannot be allowed: {tool['fault']}"
    if tool["before"] is not None:
        return "off: it is not what you allowed any more"
    return "allowed" if tool["is_on"] else "off"
