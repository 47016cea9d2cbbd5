"""`run`: the daemon."""

from pathlib import Path
from typing import Any

import click

from mycoswarm.base.settings import load_settings
from mycoswarm.cli.screen import guarded, note
from mycoswarm.cli.warden import kept
from mycoswarm.daemon.node import Node
from mycoswarm.daemon.service import serve


@click.command()
@click.option("--name", help="This node's name, on its first start.")
@click.option("--console", metavar="HOST:PORT", help="Where clients connect.")
@click.option("--peer", metavar="HOST:PORT", help="Where other nodes connect.")
@click.option("--interface", "interfaces", multiple=True, metavar="ADDRESS", help="Use multicast DNS only there.")
@click.option("--peers", multiple=True, metavar="HOST:PORT", help="A node that multicast DNS does not reach.")
@click.option("--advertise", multiple=True, metavar="ADDRESS", help="Announce this address instead.")
@click.option("--threads", type=int, help="CPU threads for llama.cpp.")
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), help="How much to log.")
@click.option("--with-stdin", is_flag=True, hidden=True, help="Stop when stdin closes.")
@click.pass_obj
@guarded
def run(folder: Path, /, with_stdin: bool, **flags: Any) -> None:
    """Run this node until it is stopped. Settings: docs/settings.md."""
    given = {name: list(value) if isinstance(value, tuple) else value for name, value in flags.items()}
    settings = load_settings(folder, flags={name: value for name, value in given.items() if value not in (None, [])})

    def ready(node: Node) -> None:
        place = f"clients connect to http://{node.console_address}/v1" if node.console_address else "a worker"
        note(f"ready: {place} (data in {folder})")

    serve(settings, ready, kept(), with_stdin=with_stdin)
