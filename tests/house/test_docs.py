"""What the pages say is what there is."""

import re

import click

from house.tree import ROOT
from mycoswarm.catalog.architecture import ARCHITECTURES
from mycoswarm.cli.entry import COMMANDS, main

README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGE = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8").partition("## Exit codes")[0]


def leaves(name: str) -> list[tuple[str, click.Command]]:
    """A command, or the commands of a group, by their whole names. A group that does something by itself is one too."""
    found = main.get_command(click.Context(main), name)
    assert found is not None
    return _within(name, found)


def _within(name: str, found: click.Command) -> list[tuple[str, click.Command]]:
    if not isinstance(found, click.Group):
        return [(name, found)]
    itself = [(name, found)] if found.invoke_without_command else []
    return itself + [leaf for sub, command in found.commands.items() for leaf in _within(f"{name} {sub}", command)]


def test_every_command_and_every_option_is_on_the_page() -> None:
    rows = dict(re.findall(r"^\| `([a-z -]+)[^`]*` \| (.*) \|$", PAGE, re.MULTILINE))
    rows = {name.strip(): text for name, text in rows.items()}
    wanted = {name: command for top in COMMANDS for name, command in leaves(top)}
    assert set(wanted) <= set(rows)
    for name, command in wanted.items():
        if name in ("run", "chat"):  # run's flags are settings; chat shares those of ask
            continue
        for option in command.params:
            if isinstance(option, click.Option) and not option.hidden and "--yes" not in option.opts:
                assert f"`{option.opts[0]}" in rows[name], (name, option.opts)


def test_every_command_explains_itself() -> None:
    for top in COMMANDS:
        for name, command in leaves(top):
            assert command.help, name
            for option in command.params:
                if isinstance(option, click.Option):
                    assert option.help, (name, option.opts)


def test_the_readme_lists_the_architectures_that_split() -> None:
    listed = re.search(r"<!-- architectures -->(.*?)<!-- /architectures -->", README, re.DOTALL)
    assert listed and set(re.findall(r"`([a-z0-9-]+)`", listed[1])) == set(ARCHITECTURES)


def test_the_files_that_the_readme_names_are_there() -> None:
    for link in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / link).exists(), link
    for path in re.findall(r"^\| `([a-z./]+/)` \|", README, re.MULTILINE):
        assert (ROOT / path).exists(), path
