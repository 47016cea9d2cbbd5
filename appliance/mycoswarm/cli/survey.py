"""`detect`: what this machine is."""

from pathlib import Path

import click

from mycoswarm.cli.screen import guarded, say, show_json, show_table
from mycoswarm.hardware.fit import fitting
from mycoswarm.hardware.grade import classify
from mycoswarm.hardware.inventory import inspect_machine
from mycoswarm.hardware.overview import list_rows
from mycoswarm.hardware.sheet import to_json


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Everything that was found, as JSON.")
@click.pass_obj
@guarded
def detect(folder: Path, as_json: bool) -> None:
    """Show what this machine is, what it can be in a swarm, and which models fit."""
    machine = inspect_machine(folder if folder.exists() else Path.home())
    grade, fits = classify(machine), fitting(machine)
    if as_json:
        shown = [{"size": f.size, "quantisation": f.quantisation, "device": f.device} for f in fits]
        show_json({**to_json(machine), "class": {"name": grade.name, "reason": grade.reason}, "fits": shown})
        return
    show_table(("Part", "Found"), list_rows(machine))
    by_size: dict[str, list[str]] = {}
    for fit in fits:
        by_size.setdefault(f"{fit.size} on {fit.device}", []).append(fit.quantisation)
    say()
    show_table(("Models that fit", "at"), [(size, ", ".join(kinds)) for size, kinds in by_size.items()])
