"""`rules add` and `rules edit`: one rule, out of options, a file or an editor."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import click

from mycoswarm.base.errors import InputError, NotFoundError
from mycoswarm.cli.call import Call
from mycoswarm.cli.document import Document, edited, read_document, read_text, rule_words, shown_document, written
from mycoswarm.cli.draft import CONDITIONS, changed, drafted, says_something
from mycoswarm.cli.screen import complain, guarded, note, say
from mycoswarm.cli.stray import warn

Command = TypeVar("Command", bound=Callable[..., Any])

FILE = click.Path(path_type=Path, allow_dash=True)


def placed(command: Command) -> Command:
    """The options that say where a rule stands."""
    command = click.option("--after", metavar="NAME", help="Right after the rule NAME.")(command)
    command = click.option("--before", metavar="NAME", help="Right before the rule NAME.")(command)
    return click.option("--position", type=click.IntRange(min=1), help="As the rule at this position; 1 is first.")(
        command
    )


def amending(command: Command) -> Command:
    """The options that change tests in the same step as a rule."""
    command = click.option("--drop-test", multiple=True, metavar="NAME", help="Take the test NAME away with it.")(
        command
    )
    return click.option("--tests", type=FILE, metavar="FILE", help="Tests ([[test]] in TOML) to put in with it.")(
        command
    )


def amendment(tests: Path | None, drop_test: tuple[str, ...], more: dict[str, Any] | None = None) -> dict[str, Any]:
    """What an edit says of tests, as the daemon takes it.

    Raises:
        InputError: the file holds something else than tests.
        StorageError: it cannot be read.
    """
    found = dict(more or {})
    if tests is not None:
        document = read_document(read_text(tests))
        if document.rules:
            raise InputError(f"{tests} holds rules", hint="Give --tests a file with [[test]] only.")
        found |= document.tests
    return {"tests": {**found, **dict.fromkeys(drop_test)}}


def path_of(name: str, act: str = "") -> str:
    """The address of a rule."""
    return f"/api/rules/{quote(name, safe='')}{act}"


def said(told: dict[str, Any], what: str) -> None:
    """Say that an edit was done, and what of it the owner should know."""
    say(f"{what} The rules have version {told['version']} now.")
    if told.get("shadowed_by"):
        note(f"It never decides anything: {told['shadowed_by']}.")
        note("`mycoswarm-node rules move NAME --before OTHER` puts it earlier.")


@click.command("add")
@click.argument("name", required=False)
@drafted
@click.option("--file", type=FILE, metavar="FILE", help='Read the rule as TOML from FILE; "-" is stdin.')
@placed
@amending
@click.pass_obj
@guarded
def add_rule(
    folder: Path,
    /,
    name: str | None,
    file: Path | None,
    position: int | None,
    before: str | None,
    after: str | None,
    tests: Path | None,
    drop_test: tuple[str, ...],
    **given: Any,
) -> None:
    """Add a rule called NAME, at the end unless told otherwise.

    Conditions that are not given always hold. Without an action it runs on any adopted node of this machine and LAN.
    What becomes of a request is shown by `rules explain`.

    \b
    rules add "private at home" --label-any private --node tower --position 1
    rules add "big ones" --model "big-*" --external rack --ask
    rules add "not at night" --hours 22:00-06:00 --key lena --deny "Sleep."
    """
    if file is None:
        if name is None:
            raise click.UsageError("A rule needs a NAME, or --file.")
        document = Document([changed({"name": name, "then": {"do": "run"}}, given)])
    else:
        if says_something(given):
            raise click.UsageError("--file holds the whole rule: leave the other options out.")
        document = read_document(read_text(file))
        if len(document.rules) != 1:
            raise InputError(f"{file} holds {len(document.rules)} rules", hint="`rules import` takes a whole list.")
        if name is not None:
            document.rules[0]["name"] = name
    (rule,) = document.rules
    spot = {"position": position, "before": before, "after": after}
    asked = {"rule": rule, **spot, **amendment(tests, drop_test, document.tests)}
    call = Call(folder)
    told = call.ask("POST", "/api/rules", asked)
    said(told, f"{told['name']} is rule {told['position']}.")
    warn(call, [rule])


@click.command("edit")
@click.argument("name")
@drafted
@click.option("--rename", metavar="NAME", help="Call it NAME from now on.")
@click.option("--clear", multiple=True, type=click.Choice(CONDITIONS), help="Take this condition away.")
@click.option("--no-fallback", is_flag=True, help="Take its fallbacks away.")
@click.option("--no-ask", is_flag=True, help="Do not ask the owner any more.")
@click.option("--file", type=FILE, metavar="FILE", help='Read the whole rule as TOML from FILE; "-" is stdin.')
@amending
@click.pass_obj
@guarded
def edit_rule(
    folder: Path,
    /,
    name: str,
    rename: str | None,
    no_fallback: bool,
    no_ask: bool,
    file: Path | None,
    tests: Path | None,
    drop_test: tuple[str, ...],
    **given: Any,
) -> None:
    """Change the rule NAME: only what the options say. Without any, an editor shows it and all tests."""
    call = Call(folder)
    shown = call.ask("GET", "/api/rules")
    rule = next((rule_words(one) for one in shown["rules"] if one["name"] == name), None)
    if rule is None:
        raise NotFoundError(f"there is no rule called {name!r}", hint="`mycoswarm-node rules list` shows them.")

    def send(document: Document, gone: tuple[str, ...] = ()) -> None:
        if len(document.rules) != 1:
            raise InputError(f"there are {len(document.rules)} rules in it", hint="Leave exactly the one.")
        changes = amendment(tests, (*drop_test, *gone), document.tests)
        asked = {"rule": document.rules[0], "version": shown["version"], **changes}
        said(call.ask("PUT", path_of(name), asked), f"{document.rules[0].get('name', name)} is changed.")
        warn(call, document.rules)

    has_options = says_something({**given, "rename": rename, "no_fallback": no_fallback, "no_ask": no_ask})
    if file is not None:
        if has_options:
            raise click.UsageError("--file holds the whole rule: leave the other options out.")
        send(read_document(read_text(file)))
    elif has_options or tests is not None or drop_test:
        fresh = changed(_without(rule, no_fallback=no_fallback, no_ask=no_ask), given)
        send(Document([{**fresh, "name": rename or name}]))
    else:
        _in_editor(Document([rule], shown_document(shown).tests), send)


def _without(rule: dict[str, Any], *, no_fallback: bool, no_ask: bool) -> dict[str, Any]:
    kept = {part: value for part, value in rule.items() if part != "fallback" or not no_fallback}
    if no_ask and kept.get("then", {}).get("do") == "ask":
        kept["then"] = kept["then"]["then"]
    return kept


def _in_editor(document: Document, send: Callable[[Document, tuple[str, ...]], None]) -> None:
    """Have the rule edited until the daemon takes it or the owner gives up. Its tests stand below it, to be changed in
    the same step; one that is taken out of the text goes."""
    before = text = written(document)
    while True:
        text = edited(text)
        if text == before:
            say("Nothing was changed.")
            return
        try:
            fresh = read_document(text)
            gone = tuple(sorted(document.tests.keys() - fresh.tests.keys()))
            moved = {name: test for name, test in fresh.tests.items() if document.tests.get(name) != test}
            send(Document(fresh.rules, moved), gone)
            return
        except InputError as error:
            complain(error)
            if not click.confirm("Edit it again?", default=True):
                say("Nothing was changed.")
                return
