"""`agent`: agents that work with tools, their files and their runs."""

import json
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from mycoswarm.base.errors import RingError, SwarmError
from mycoswarm.cli.call import Call, as_error, decode
from mycoswarm.cli.document import read_text
from mycoswarm.cli.performance import Performance
from mycoswarm.cli.routine import add_schedule, list_schedules, pause_schedule, remove_schedule, resume_schedule
from mycoswarm.cli.screen import guarded, note, say, show_json, show_table
from mycoswarm.cli.talk import beside
from mycoswarm.cli.things import percent

SHOWN = 60  # characters of a task in a list


def stream_run(call: Call, name: str, body: dict[str, Any], labels: Iterable[str] = ()) -> Iterator[dict[str, Any]]:
    """Have an agent work, and give what is told of it.

    Raises:
        SwarmError: what the daemon said; `RingError` where the run breaks off without its end.
    """
    is_over = False
    for line in call.stream("POST", f"/api/agents/{quote(name, safe='')}/run", body, beside(None, labels)):
        told = decode(line)
        if "error" in told:
            raise as_error(line)
        is_over = told.get("event") == "end"
        yield told
    if not is_over:
        raise RingError("the run broke off", hint="`mycoswarm-node agent runs` shows how far it came.")


@click.group()
def agent() -> None:
    """Agents: a model, tools and a budget, under your rules."""


for command in (add_schedule, list_schedules, remove_schedule, pause_schedule, resume_schedule):
    agent.add_command(command)


@agent.command("run")
@click.argument("name")
@click.argument("task", nargs=-1, required=True)
@click.option("--yes", is_flag=True, help="Allow everything that waits for your yes.")
@click.option("--json", "as_json", is_flag=True, help="All that happens, as JSON lines.")
@click.pass_obj
@guarded
def run_agent(folder: Path, /, name: str, task: tuple[str, ...], yes: bool, as_json: bool) -> None:
    """Have the agent NAME do a TASK. Ctrl-C stops it."""
    call = Call(folder)
    events = stream_run(call, name, {"task": " ".join(task)})
    if as_json:
        _as_lines(call, events, yes=yes)
        return
    stage = Performance(call, says_yes=yes)
    for event in events:
        stage.take(event)
    if stage.end.get("end") != "answer":
        raise _unfinished(stage.end)


def _as_lines(call: Call, events: Iterator[dict[str, Any]], *, yes: bool) -> None:
    end: dict[str, Any] = {}
    for event in events:
        click.echo(json.dumps(event))
        end = event
        if event["event"] == "approval" and yes:
            call.ask("POST", f"/api/approvals/{quote(event['approval'], safe='')}", {"allow": True})
    if end.get("end") != "answer":
        raise _unfinished(end)


def _unfinished(end: dict[str, Any]) -> SwarmError:
    hint = "Raise its budget in the agent file, or ask for less."
    if end.get("end") in ("error", "cancelled", "loop"):
        hint = "`mycoswarm-node agent runs` lists the run; `agent run-show ID` shows each step."
    return SwarmError(f"the run ended without an answer: {end.get('message')}", hint=hint, code=str(end.get("code")))


@agent.command("list")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_obj
@guarded
def list_agents(folder: Path, as_json: bool) -> None:
    """Show all agents."""
    told = Call(folder).ask("GET", "/api/agents")["agents"]
    if as_json:
        show_json(told)
        return
    rows = [
        (one["name"], one.get("model", ""), " ".join(one.get("tools", ())), one["fault"] or one["description"])
        for one in told
    ]
    show_table(("Agent", "Model", "Tools", "What it is"), rows)


@agent.command("show")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_obj
@guarded
def show_agent(folder: Path, name: str, as_json: bool) -> None:
    """Show the agent file NAME, and which tools it gets."""
    told = Call(folder).ask("GET", f"/api/agents/{quote(name, safe='')}")
    if as_json:
        show_json(told)
        return
    say(told["toml"].rstrip())
    note(f"It gets these tools: {', '.join(told['granted']) or 'none'}.")
    if told["fault"]:
        note(told["fault"])
        return
    wants = "" if told["certificate"] is None else f"; the file asks for {told['certificate']} %"
    note(f"Certificate of {told['model']}: {percent(told['model_certificate'])}{wants}.")


@agent.command("add")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--name", help="Its name; else the file's.")
@click.pass_obj
@guarded
def add_agent(folder: Path, file: Path, name: str | None) -> None:
    """Take the agent file FILE in, or put it in the place of the one of its name."""
    name = name or file.name.removesuffix(".toml")
    told = Call(folder).ask("PUT", f"/api/agents/{quote(name, safe='')}", {"toml": read_text(file)})
    say(f"{told['name']} can be run: mycoswarm-node agent run {told['name']} TASK")


@agent.command("remove")
@click.argument("name")
@click.pass_obj
@guarded
def remove_agent(folder: Path, name: str) -> None:
    """Take the agent file NAME away. Its runs stay."""
    Call(folder).ask("DELETE", f"/api/agents/{quote(name, safe='')}")
    say(f"{name} is gone.")


@agent.command("runs")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 500), help="How many.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_obj
@guarded
def list_runs(folder: Path, limit: int, as_json: bool) -> None:
    """Show the newest runs."""
    told = Call(folder).ask("GET", f"/api/runs?limit={limit}")["runs"]
    if as_json:
        show_json(told)
        return
    rows = [
        (r["id"], _date(r["started_at"]), r["agent"], r["asked_by"], r["state"], r["steps"], r["task"][:SHOWN])
        for r in told
    ]
    show_table(("Run", "Begun", "Agent", "Asked by", "State", "Steps", "Task"), rows)


@agent.command("run-show")
@click.argument("run_id", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_obj
@guarded
def show_run(folder: Path, run_id: str, as_json: bool) -> None:
    """Show what happened in the run ID."""
    call = Call(folder)
    told = call.ask("GET", f"/api/runs/{quote(run_id, safe='')}")
    if as_json:
        show_json(told)
        return
    say(f"{told['agent']} ({told['model']}), {_date(told['started_at'])}, asked by {told['asked_by']}: {told['state']}")
    say(f"Task: {told['task']}")
    stage = Performance(call)
    for event in told["events"]:
        stage.take(event)
    say(told["answer"])
    if told["message"]:
        note(told["message"])
    note(f"{told['steps']} steps, {told['prompt_tokens']} tokens read, {told['completion_tokens']} written")


@agent.command("stop")
@click.argument("run_id", metavar="ID")
@click.pass_obj
@guarded
def stop_run(folder: Path, run_id: str) -> None:
    """Stop the run ID."""
    Call(folder).ask("POST", f"/api/runs/{quote(run_id, safe='')}/stop", {})
    say(f"{run_id} is stopped.")


def _date(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at))
