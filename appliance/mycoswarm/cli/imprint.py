"""`licenses`: whose software is inside the packed program, and under which terms."""

import json
from pathlib import Path

import click

import mycoswarm
from mycoswarm.base.errors import NotFoundError, SetupError
from mycoswarm.cli.screen import guarded, say, show_json

OURS = "ours"


@click.command()
@click.argument("part", required=False)
@click.option("--json", "as_json", is_flag=True, help="The list as JSON.")
@guarded
def licenses(part: str | None, as_json: bool) -> None:
    """Show whose software is inside, or the licence text of one PART (`ours` for this program's own)."""
    folder = Path(mycoswarm.__file__).with_name("licenses")
    if not folder.is_dir():
        raise SetupError(
            "this is not the packed program: it has nothing of others inside",
            hint="Each installed package has its licence beside it; LICENSE is this program's own.",
        )
    listed = json.loads((folder / "list.json").read_text("utf-8"))
    if part is None:
        if as_json:
            show_json(listed)
            return
        say(f"mycoswarm-node itself: Apache-2.0 (`licenses {OURS}`)")
        for each in listed:
            say(f"{each['name']} {each['version']}: {each['licence']}")
        return
    names = {OURS, *(each["name"] for each in listed)}
    if part not in names:
        raise NotFoundError(f"nothing named {part} is inside", hint="`licenses` lists all parts.")
    say((folder / f"{part}.txt").read_text("utf-8"))
