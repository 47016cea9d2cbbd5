"""`rules explain` and `rules test`: example requests, that are decided on and never sent."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from mycoswarm.cli.call import Call
from mycoswarm.cli.draft import words
from mycoswarm.cli.reason import show_reasons
from mycoswarm.cli.screen import EXIT_WRONG, counted, guarded, say, show_json, show_table

Command = TypeVar("Command", bound=Callable[..., Any])

OUTCOMES = ("run", "external", "ask", "deny", "refuse")

_OPTIONS = (
    click.option("--model", default="spore", show_default=True, help="Of this model."),
    click.option("--task", help="For this task: chat, completion, embedding, agent, tool:NAME; else chat."),
    click.option("--characters", type=click.IntRange(min=0), help="With a prompt of so many characters; else 0."),
    click.option("--key", help="With the API key of this name; else as the owner at this machine."),
    click.option("--user", help="Of this user."),
    click.option("--label", multiple=True, help="With this label of its key; again for another."),
    click.option("--added-label", multiple=True, help="With this label that the request adds itself."),
    click.option(
        "--client", metavar="ADDRESS", help='From this address; "" is the owner\'s own socket. Else 127.0.0.1.'
    ),
    click.option("--at", metavar="TIME", help='At this time: "2026-05-01T23:00+02:00".'),
)


def exemplified(command: Command) -> Command:
    """The options of an example request."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def request_of(given: dict[str, Any]) -> dict[str, Any]:
    """The example request that the options describe; what they do not say is left out."""
    named = {"labels": words(given["label"]), "added": words(given["added_label"])}
    plain = {name: given[name] for name in ("model", "task", "characters", "key", "user", "client", "at")}
    return {name: value for name, value in {**plain, **named}.items() if value not in (None, [])}


@click.command("explain")
@exemplified
@click.option("--route", help='Narrowed by the request itself: "solo", "split; stages=2", "nodes=attic".')
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_obj
@guarded
def explain(folder: Path, /, route: str | None, as_json: bool, **given: Any) -> None:
    """Show where a request like this would go now, and why; send nothing. Without --at the time is now."""
    told = Call(folder).ask("POST", "/api/rules/explain", {"request": request_of(given), "route": route})
    if as_json:
        show_json(told)
    else:
        show_reasons(told)


@click.group("test", invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_context
def tests(ctx: click.Context, as_json: bool) -> None:
    """Run all tests of the rules, as every edit does. Status 1 where one does not hold."""
    if ctx.invoked_subcommand is None:
        run_tests(ctx.obj, as_json)


@guarded
def run_tests(folder: Path, as_json: bool) -> None:
    """Run the stored tests, show them, and end with the fitting status."""
    told = Call(folder).ask("POST", "/api/rules/test", {}, timeout_s=120.0)
    if as_json:
        show_json(told)
    else:
        rows = [(one["name"], "holds" if one["passed"] else "broken", one["why"] or "") for one in told["tests"]]
        if rows:
            show_table(("Test", "State", "Why"), rows)
        broken = sum(not one["passed"] for one in told["tests"])
        if rows:
            say(f"{counted(len(rows), 'test')}: {len(rows) - broken} hold, {broken} broken.")
        else:
            say("There are no tests yet: `mycoswarm-node rules test add NAME` makes one.")
    if not told["passed"]:
        raise SystemExit(EXIT_WRONG)


@tests.command("add")
@click.argument("name")
@exemplified
@click.option("--expect", required=True, type=click.Choice(OUTCOMES), help="What must come of it.")
@click.option("--rule", help="By this rule.")
@click.option("--endpoint", help="At this endpoint.")
@click.option("--only", multiple=True, metavar="NAME", help="It may reach these nodes and endpoints only: A,B.")
@click.option("--never", multiple=True, metavar="NAME", help='It may never reach these: nodes, endpoints, "outside".')
@click.pass_obj
@guarded
def add_test(
    folder: Path,
    /,
    name: str,
    expect: str,
    rule: str | None,
    endpoint: str | None,
    only: tuple[str, ...],
    never: tuple[str, ...],
    **given: Any,
) -> None:
    """Put a test called NAME in, or another in its place: a request like this, and what must come of it.

    Without --at it is noon on a Monday (UTC). The test must hold now; from then on an edit that breaks it is refused.
    """
    found = {"outcome": expect, "rule": rule, "endpoint": endpoint, "only": words(only), "never": words(never)}
    expected = {part: value for part, value in found.items() if value}
    asked = {"tests": {name: {"request": request_of(given), "expect": expected}}}
    told = Call(folder).ask("POST", "/api/rules/tests", asked)
    say(f"The test {name} holds. The rules have version {told['version']} now.")


@tests.command("remove")
@click.argument("name")
@click.pass_obj
@guarded
def remove_test(folder: Path, name: str) -> None:
    """Take the test NAME away."""
    told = Call(folder).ask("POST", "/api/rules/tests", {"tests": {name: None}})
    say(f"The test {name} is out. The rules have version {told['version']} now.")
