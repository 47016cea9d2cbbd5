"""`rules`: what the owner decides. Lists, order, history, whole documents; one rule is revision.py's."""

import math
import time
from pathlib import Path
from typing import Any

import click

from mycoswarm.base.units import parse_seconds
from mycoswarm.cli.call import Call
from mycoswarm.cli.document import read_document, read_text, shown_document, written
from mycoswarm.cli.example import explain, tests
from mycoswarm.cli.revision import FILE, add_rule, amending, amendment, edit_rule, path_of, placed, said
from mycoswarm.cli.screen import ID_SIGNS, counted, guarded, note, say, show_json, show_table
from mycoswarm.cli.stray import warn
from mycoswarm.cli.wording import chain_words, when_words


@click.group()
def rules() -> None:
    """Rules: the first that matches decides where a prompt may go; no match refuses."""


rules.add_command(add_rule)
rules.add_command(edit_rule)
rules.add_command(explain)
rules.add_command(tests)


@rules.command("list")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_obj
@guarded
def list_rules(folder: Path, as_json: bool) -> None:
    """Show all rules in their order, and what of them never decides anything."""
    call = Call(folder)
    told = call.ask("GET", "/api/rules")
    if as_json:
        show_json(told)
        return
    rows = [
        (r["position"], r["name"], when_words(r.get("when", {})), chain_words(r), _state(r), r.get("note", ""))
        for r in told["rules"]
    ]
    show_table(("#", "Rule", "When", "Then", "State", "Note"), rows)
    for rule in told["rules"]:
        if rule.get("shadowed_by"):
            say(f"\n! {rule['name']} never decides anything: {rule['shadowed_by']}.")
    warn(call, told["rules"])
    note(f"Version {told['version']}, {counted(len(told['tests']), 'test')}. What matches no rule is refused.")


@rules.command("move")
@click.argument("name")
@placed
@amending
@click.pass_obj
@guarded
def move_rule(folder: Path, /, name: str, tests: Path | None, drop_test: tuple[str, ...], **spot: Any) -> None:
    """Put the rule NAME elsewhere in the order: --position, --before or --after."""
    if all(value is None for value in spot.values()):
        raise click.UsageError("Say where: --position, --before or --after.")
    told = Call(folder).ask("POST", path_of(name, "/move"), {**spot, **amendment(tests, drop_test)})
    said(told, f"{name} is rule {told['position']}.")


@rules.command("enable")
@click.argument("name")
@amending
@click.pass_obj
@guarded
def enable_rule(folder: Path, /, name: str, tests: Path | None, drop_test: tuple[str, ...]) -> None:
    """Switch the rule NAME on."""
    said(Call(folder).ask("POST", path_of(name, "/enable"), amendment(tests, drop_test)), f"{name} is on.")


@rules.command("disable")
@click.argument("name")
@amending
@click.pass_obj
@guarded
def disable_rule(folder: Path, /, name: str, tests: Path | None, drop_test: tuple[str, ...]) -> None:
    """Switch the rule NAME off; it stays in its place."""
    said(Call(folder).ask("POST", path_of(name, "/disable"), amendment(tests, drop_test)), f"{name} is off.")


@rules.command("remove")
@click.argument("name")
@amending
@click.pass_obj
@guarded
def remove_rule(folder: Path, /, name: str, tests: Path | None, drop_test: tuple[str, ...]) -> None:
    """Take the rule NAME out. `rules undo` brings it back."""
    said(Call(folder).ask("DELETE", path_of(name), amendment(tests, drop_test)), f"{name} is out.")


@rules.command("history")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 1000), help="How many versions.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_obj
@guarded
def show_history(folder: Path, limit: int, as_json: bool) -> None:
    """Show who changed the rules, when and how; the newest first."""
    told = Call(folder).ask("GET", f"/api/rules/history?limit={limit}")["versions"]
    if as_json:
        show_json(told)
        return
    rows = [(one["version"], _date(one["at"]), one["by"], one["what"]) for one in told]
    show_table(("Version", "When", "Who", "What"), rows)


@rules.command("undo")
@click.pass_obj
@guarded
def undo(folder: Path) -> None:
    """Take back the last change of the rules. It becomes a change of its own, so nothing is lost."""
    told = Call(folder).ask("POST", "/api/rules/undo", {})
    said(told, f"{told['what']}.")


@rules.command("export")
@click.pass_obj
@guarded
def export(folder: Path) -> None:
    """Print all rules and their tests as TOML. `rules import` takes it back."""
    click.echo(written(shown_document(Call(folder).ask("GET", "/api/rules"))), nl=False)


@rules.command("import")
@click.argument("file", type=FILE)
@click.pass_obj
@guarded
def import_rules(folder: Path, file: Path) -> None:
    """Put the rules and tests of FILE ("-": stdin) in the place of all there are. `rules undo` takes it back."""
    document = read_document(read_text(file))
    call = Call(folder)
    told = call.ask("PUT", "/api/rules", {"rules": document.rules, "tests": document.tests})
    rules, tests = counted(len(document.rules), "rule"), counted(len(document.tests), "test")
    said(told, f"The list is {rules} and {tests}.")
    warn(call, document.rules)


@rules.command("replay")
@click.option(
    "--last", type=click.IntRange(1, 10_000), help="How many requests at most.  [default: 200, with --since 10000]"
)
@click.option("--since", metavar="TIME", help="Those of the last 7d, 12h ... alone.")
@click.option("--file", type=FILE, metavar="FILE", help="Under the rules in FILE (TOML), instead of the present ones.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_obj
@guarded
def replay(folder: Path, last: int | None, since: str | None, file: Path | None, as_json: bool) -> None:
    """Show how the last requests in the ledger would move under these rules. Sends nothing."""
    within_s = None if since is None else math.ceil(parse_seconds(since))
    rules = None if file is None else read_document(read_text(file)).rules
    asked = {"last": last, "within_s": within_s, "rules": rules}
    told = Call(folder).ask("POST", "/api/rules/replay", asked, timeout_s=120.0)
    if as_json:
        show_json(told)
        return
    rows = [
        (_date(m["at"]), m["request_id"][:ID_SIGNS], m["model"], m["was"], m["now"], m["why"]) for m in told["moved"]
    ]
    if rows:
        show_table(("When", "Request", "Model", "Was", "Would be", "Because"), rows)
    after = "" if told["since"] is None else f" since {_date(told['since'])}"
    say(f"Of {counted(told['requests'], 'request')}{after} {len(told['moved'])} would move, {told['same']} would not.")
    if told["is_cut"]:
        say("There are older ones that were not looked at: --last looks at more, up to 10000.")


def _state(rule: dict[str, Any]) -> str:
    if not rule.get("enabled", True):
        return "off"
    return "shadowed" if rule.get("shadowed_by") else "on"


def _date(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at))
