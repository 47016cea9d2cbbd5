"""`stage`, internal: a stage as a packed program starts it."""

import click

from mycoswarm.cli.screen import guarded
from mycoswarm.cli.warden import kept
from mycoswarm.stage.process import live


@click.command(hidden=True)
@guarded
def stage() -> None:
    """Run one stage: orders on stdin, reports on stdout. Started by the daemon."""
    live(kept())
