"""`stage`, internal: a stage as a packed program starts it."""

import click

from mycoswarm.cli.screen import guarded
from mycoswarm.stage.process import main


@click.command(hidden=True)
@guarded
def stage() -> None:
    """Run one stage: orders on stdin, reports on stdout. Started by the daemon."""
    main()
