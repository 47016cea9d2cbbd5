"""`doctor`: what protects this node, what it runs on, and what is wrong with it."""

from pathlib import Path
from typing import Any

import click

from mycoswarm.cli.call import Call
from mycoswarm.cli.screen import guarded, say, show_json, show_table


@click.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_obj
@guarded
def doctor(folder: Path, as_json: bool) -> None:
    """Show this node's sandbox for tools, its egress guard, its machine, and what is wrong, with what to do."""
    told = Call(folder).ask("GET", "/api/doctor")
    if as_json:
        show_json(told)
        return
    sandbox, egress = told["sandbox"], told["egress"]
    say(f"Sandbox: {sandbox['level']}" + (f" ({sandbox['why']})" if sandbox["why"] else ""))
    for mark, words in (("covered", sandbox["covers"]), ("not covered", sandbox["lacks"])):
        for each in words:
            say(f"  {mark}: {each}")
    say(f"  workspaces kept now: {sandbox['workspaces']}")
    say(f"Egress guard: {'active' if egress['active'] else 'NOT active'}")
    for purpose, count in sorted(egress["open"].items()):
        say(f"  open for {purpose}: {count} addresses and names")
    listens = told["listens"]
    say(f"Listens for clients at {listens['console'] or 'no address: this node does not decide'},")
    door = "shut" if listens["door_port"] is None else f"port {listens['door_port']}"
    say(f"  for nodes at port {listens['peer_port']}; door for new machines: {door}")
    say(f"Data folder: {told['folder']}")
    show_table(("Machine", "Now"), told["machine"] or [["Not looked at yet", "ask again in some seconds"]])
    _list("Standing trouble", told["conditions"])
    _list("Found on this machine", told["findings"])


def _list(title: str, found: list[dict[str, Any]]) -> None:
    say(f"{title}:" if found else f"{title}: none")
    for each in found:
        say(f"  {each['message']}. {each['hint']}")
