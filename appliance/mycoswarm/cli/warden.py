"""The egress guard of this process, handed from the entry to the commands along click's context."""

from typing import cast

import click

from mycoswarm.base.egress import Guard

_KEY = "mycoswarm.guard"


def keep(context: click.Context, guard: Guard) -> None:
    """Hand the guard on to every command."""
    context.meta[_KEY] = guard


def kept() -> Guard:
    """The guard over this process; inside a command only."""
    return cast(Guard, click.get_current_context().meta[_KEY])
