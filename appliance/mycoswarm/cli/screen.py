"""How commands speak: tables and lines on stdout, errors and progress on stderr, JSON where a script asks for it."""

import json
import sys
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any, NoReturn, ParamSpec, TypeVar

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mycoswarm.base.errors import SwarmError

Given = ParamSpec("Given")
Result = TypeVar("Result")

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)

# Exit codes, as docs/commands.md lists them.
EXIT_WRONG = 1  # something did not work
EXIT_USAGE = 2  # the command line was wrong (click's own)
EXIT_REFUSED = 3  # the rules, or a missing trust, do not allow it
EXIT_UNREACHABLE = 4  # no daemon or node answers


def fail(error: SwarmError) -> NoReturn:
    """Say an error and its cure, and end with the fitting exit code."""
    err.print(Text("error: ", style="bold red") + Text(clean(error.message)))
    for line in getattr(error, "last_words", ()):
        err.print(Text(f"  | {clean(line)}", style="dim"))
    if error.hint:
        err.print(Text(f"  {clean(error.hint)}"))
    sys.exit(_code(error))


def guarded(command: Callable[Given, Result]) -> Callable[Given, Result]:
    """Let a command's SwarmErrors end it the proper way; Ctrl-C ends it quietly."""

    @wraps(command)
    def run(*args: Given.args, **kwargs: Given.kwargs) -> Result:
        try:
            return command(*args, **kwargs)
        except SwarmError as error:
            fail(error)
        except KeyboardInterrupt:
            sys.exit(130)
        except BrokenPipeError:
            sys.exit(EXIT_WRONG)

    return run


def clean(text: str) -> str:
    """Take control characters out of text that came from elsewhere, so that it cannot move the cursor."""
    return "".join(c if c.isprintable() or c in "\n\t" else "�" for c in text)


def show_json(value: Any) -> None:
    """Write a value as JSON for scripts."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def show_table(headings: Iterable[str], rows: Iterable[Iterable[object]], title: str | None = None) -> None:
    """Write a plain table."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*(Text(clean(str(cell))) for cell in row))
    out.print(table)


def say(text: str = "") -> None:
    """Write one line."""
    out.print(Text(clean(text)))


def write(text: str) -> None:
    """Write a piece of an answer as it comes."""
    out.print(Text(clean(text)), end="", soft_wrap=True)
    out.file.flush()


def note(text: str) -> None:
    """Write one line beside the result, on stderr."""
    err.print(Text(clean(text), style="dim"))


def _code(error: SwarmError) -> int:
    if error.code in ("unreachable", "timeout"):
        return EXIT_UNREACHABLE
    return EXIT_REFUSED if error.status in (401, 403) or error.code == "refused_by_rules" else EXIT_WRONG
