"""`mycoswarm-node`: the one command. Light to start: a command's module is imported when the command is asked for."""

import importlib
import os
import sys
from pathlib import Path
from typing import Any

import click

from mycoswarm.base.egress import Guard, install
from mycoswarm.base.errors import SwarmError
from mycoswarm.base.program import asked_module, settle
from mycoswarm.cli.warden import keep

# Command -> the module that holds it.
COMMANDS = {
    "adopt": "enrol",
    "agent": "troupe",
    "approvals": "outside",
    "ask": "talk",
    "bench": "timing",
    "chat": "parlour",
    "demo": "demo",
    "detect": "survey",
    "doctor": "checkup",
    "endpoints": "outside",
    "expel": "enrol",
    "init": "enrol",
    "join": "enrol",
    "keys": "things",
    "leave": "enrol",
    "licenses": "imprint",
    "ledger": "proof",
    "library": "bookcase",
    "mcp": "vendor",
    "models": "things",
    "nodes": "enrol",
    "rules": "ruling",
    "run": "running",
    "search": "outside",
    "service": "upkeep",
    "token": "enrol",
    "tool": "handiwork",
    "update": "renewal",
    "version": "edition",
}


class _Commands(click.Group):
    """Loads commands late, so that `version` does not pay for numpy. Called, it is the program."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Be the program: first of all, the egress guard goes over this process."""
        guard = install(Guard())
        return super().__call__(*args, obj=guard, **kwargs)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All commands."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        home = COMMANDS.get(cmd_name)
        if home is None:
            return None
        module = importlib.import_module(f"mycoswarm.cli.{home}")
        found = getattr(module, cmd_name)
        assert isinstance(found, click.Command)  # the table above names commands only
        return found


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--data",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=lambda: Path.home() / ".local/share/mycoswarm",
    envvar="MYCOSWARM_DATA",
    show_default="~/.local/share/mycoswarm",
    help="The node's data folder.",
)
@click.pass_context
def main(ctx: click.Context, folder: Path) -> None:
    """Private AI on machines you own. The same program runs on each; you decide where every prompt goes."""
    keep(ctx, ctx.find_object(Guard) or Guard())  # a test that calls a command inside its own process has none
    ctx.obj = folder


def program() -> None:
    """What a process of ours begins with: it becomes the child that it is asked to be, or the command line."""
    settle(os.environ, sys.path)
    try:
        module = asked_module(sys.argv[1:])
    except SwarmError as error:
        sys.exit(f"mycoswarm-node: {error.message}")
    if module is None:
        main()
    else:
        sys.argv[:] = [sys.argv[0], *sys.argv[3:]]
        sys.exit(importlib.import_module(module).main())


if __name__ == "__main__":
    program()
