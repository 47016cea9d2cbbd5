"""`doctor`: what protects this node, and what does not."""

from pathlib import Path

import click

from mycoswarm.cli.call import Call
from mycoswarm.cli.screen import guarded, say, show_json


@click.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_obj
@guarded
def doctor(folder: Path, as_json: bool) -> None:
    """Show this node's sandbox for tools, its egress guard and its standing trouble."""
    call = Call(folder)
    told = call.ask("GET", "/api/doctor")
    node = call.ask("GET", "/api/node")
    told["conditions"] = node["conditions"]
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
    say("Standing trouble:" if told["conditions"] else "Standing trouble: none")
    for each in told["conditions"]:
        say(f"  {each['message']} {each['hint']}")
