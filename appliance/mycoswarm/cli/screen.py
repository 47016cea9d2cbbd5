"""How commands speak: tables and lines on stdout, errors and progress on stderr, JSON where a script asks for it."""

import json
import sys
import textwrap
import unicodedata
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any, NoReturn, ParamSpec, TypeVar

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mycoswarm.base.errors import SwarmError, TrustError

Given = ParamSpec("Given")
Result = TypeVar("Result")

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)

ID_SIGNS = 8  # of an id in a list; the ledger takes the beginning for the whole

# Exit codes, as docs/commands.md lists them.
EXIT_WRONG = 1  # something did not work
EXIT_USAGE = 2  # the command line was wrong (click's own)
EXIT_REFUSED = 3  # the rules, or a missing trust, do not allow it
EXIT_UNREACHABLE = 4  # no daemon or node answers
EXIT_STOPPED = 130  # by Ctrl-C, as shells count it

# Marks that turn the direction of the text around them (UAX 9): what is shown would not be what is there.
_TURNING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def fail(error: SwarmError) -> NoReturn:
    """Say an error and its cure, and end with the fitting exit code."""
    complain(error)
    sys.exit(_code(error))


def complain(error: SwarmError) -> None:
    """Say an error and its cure."""
    said = Text(fitted(f"error: {clean(error.message)}", err))
    said.stylize("bold red", 0, len("error:"))
    err.print(said)
    for line in getattr(error, "last_words", ()):
        err.print(Text(f"  | {clean(line)}", style="dim"))
    if error.hint:
        err.print(Text(fitted(f"  {clean(error.hint)}", err)))


def guarded(command: Callable[Given, Result]) -> Callable[Given, Result]:
    """Let a command's SwarmErrors end it the proper way; Ctrl-C ends it quietly."""

    @wraps(command)
    def run(*args: Given.args, **kwargs: Given.kwargs) -> Result:
        try:
            return command(*args, **kwargs)
        except SwarmError as error:
            fail(error)
        except KeyboardInterrupt:
            sys.exit(EXIT_STOPPED)
        except BrokenPipeError:
            sys.exit(EXIT_WRONG)

    return run


def clean(text: str) -> str:
    """Take out of text that came from elsewhere what moves the cursor, turns the text or cannot be written.

    All else stays: the joiners in Persian words and emoji, no-break and ideographic spaces, letters newer than Python.
    """
    return "".join("�" if _is_harmful(c) else c for c in text)


def show_json(value: Any) -> None:
    """Write a value as JSON for scripts. What is no sign on paper is escaped: it may end up on a terminal too."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    click.echo("".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text))


def show_table(headings: Iterable[str], rows: Iterable[Iterable[object]], *, none: str = "", whole: int = 0) -> None:
    """Write a plain table, or the sentence `none` where there are no rows. The first `whole` columns are never cut."""
    rows = list(rows)
    if none and not rows:
        say(none)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, heading in enumerate(headings):
        table.add_column(heading, overflow="fold", no_wrap=number < whole)
    for row in rows:
        table.add_row(*(Text(clean(str(cell))) for cell in row))
    out.print(table)


def say(text: str = "") -> None:
    """Write one line. A terminal gets it broken between words; what a script reads stays one line."""
    out.print(Text(fitted(clean(text), out)))


def write(text: str) -> None:
    """Write a piece of an answer as it comes."""
    out.print(Text(clean(text)), end="", soft_wrap=True)
    out.file.flush()


def note(text: str) -> None:
    """Write one line beside the result, on stderr."""
    err.print(Text(fitted(clean(text), err), style="dim"))


def counted(number: int, what: str) -> str:
    """So many of these: "1 test", "3 tests"."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def fitted(text: str, console: Console) -> str:
    """The text, broken between words where a terminal would break it anywhere; a key or token is never broken."""
    if not console.is_terminal:
        return text
    lines = []
    for line in text.split("\n"):
        if len(line) <= console.width:
            lines.append(line)
            continue
        indent = line[: len(line) - len(line.lstrip(" "))]
        lines += textwrap.wrap(
            line, console.width, subsequent_indent=indent + "  ", break_long_words=False, break_on_hyphens=False
        )
    return "\n".join(lines)


def _is_harmful(character: str) -> bool:
    if character in "\n\t":
        return False
    return character in _TURNING or unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")


def _code(error: SwarmError) -> int:
    if error.code in ("unreachable", "timeout"):
        return EXIT_UNREACHABLE
    return EXIT_REFUSED if isinstance(error, TrustError) else EXIT_WRONG
