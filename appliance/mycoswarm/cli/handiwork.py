"""`tool`: the built-in tools, and one call by hand, decided and run like an agent's."""

import json
import secrets
import sys
import threading
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from mycoswarm.base.errors import InputError, NotFoundError, SwarmError
from mycoswarm.cli.call import Call
from mycoswarm.cli.screen import EXIT_WRONG, complain, guarded, note, say, show_json, show_table

RUN_S = 600.0  # the owner's yes, and the longest tool
LOOK_S = 0.3


@click.group()
def tool() -> None:
    """Tools that agents use. Where each call runs is decided by the rules (docs/tools.md)."""


@tool.command("list")
@click.option("--json", "as_json", is_flag=True, help="As JSON, with each tool's schema.")
@click.pass_obj
@guarded
def list_tools(folder: Path, as_json: bool) -> None:
    """Show all tools, and which need your yes or a rule that names tools."""
    told = Call(folder).ask("GET", "/api/tools")["tools"]
    if as_json:
        show_json(told)
        return
    rows = [
        (
            t["name"],
            ", ".join(t["parameters"]["properties"]),
            "yes" if t["sandbox"] else "",
            "yes, unless a rule names it" if t["needs_yes"] else "",
            t["description"],
        )
        for t in told
    ]
    show_table(("Tool", "Arguments", "Sandbox", "Asks you", "What it does"), rows, whole=1)


@tool.command("run")
@click.argument("name")
@click.argument("arguments", default="{}")
@click.option(
    "--label", "labels", multiple=True, help="A label that the call brings, which only narrows; may be repeated."
)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_obj
@guarded
def run_tool(folder: Path, name: str, arguments: str, labels: tuple[str, ...], as_json: bool) -> None:
    """Run the tool NAME once with ARGUMENTS, a JSON object ("-" reads it from stdin), in a workspace of its own."""
    try:
        given = json.loads(sys.stdin.read() if arguments == "-" else arguments)
    except (ValueError, RecursionError) as exc:
        raise InputError(
            f"the arguments are no JSON: {exc}", hint='Write them like \'{"path": "notes.txt"}\'.'
        ) from exc
    told = _Trial(Call(folder), name, {"arguments": given, "labels": list(labels)}).run()
    if as_json:
        show_json(told)
    else:
        say(told["text"])
        carried = f", labels: {', '.join(told['labels'])}" if told["labels"] else ""
        note(f"{told['node']}, {told['seconds']:.2f} s, receipt {told['receipt']}{carried}")
    if not told["ok"]:
        sys.exit(EXIT_WRONG)


class _Trial:
    """One call that may have to wait for the owner, who sits here."""

    def __init__(self, call: Call, name: str, given: dict[str, Any]) -> None:
        self._call, self._name, self._given = call, name, given
        self._run_id = secrets.token_hex(8)
        self._told: dict[str, Any] | SwarmError | None = None

    def run(self) -> dict[str, Any]:
        """Have it run, and ask the owner where a rule wants that.

        Raises:
            SwarmError: what the daemon said.
        """
        worker = threading.Thread(target=self._ask, daemon=True)
        worker.start()
        while worker.is_alive():
            worker.join(LOOK_S)
            if worker.is_alive():
                self._answer()
        if isinstance(self._told, SwarmError):
            raise self._told
        assert self._told is not None  # the thread leaves one or the other
        return self._told

    def _ask(self) -> None:
        path = f"/api/tools/{quote(self._name, safe='')}"
        try:
            body = {**self._given, "run": self._run_id}
            self._told = self._call.ask("POST", path, body, timeout_s=RUN_S)
        except SwarmError as error:
            self._told = error

    def _answer(self) -> None:
        """Answer what waits for a yes on this call's behalf."""
        for one in self._call.ask("GET", "/api/approvals")["approvals"]:
            if not one["id"].startswith(f"{self._run_id}-"):
                continue
            note(f"{one['task']} would run on {one['destination']}, by the rule {one['rule']}: {one.get('detail', '')}")
            allowed = click.confirm("Allow it?", default=False, err=True)
            try:
                self._call.ask("POST", f"/api/approvals/{quote(one['id'], safe='')}", {"allow": allowed})
            except NotFoundError as error:  # it took too long, or somebody else answered
                complain(error)
