"""`agent schedule` and what belongs to it: agents that run by themselves."""

import time
from pathlib import Path
from urllib.parse import quote

import click

from mycoswarm.cli.call import Call
from mycoswarm.cli.screen import guarded, say, show_json, show_table

SHOWN = 40  # characters of a task in a list


@click.command("schedule")
@click.argument("cron")
@click.argument("name")
@click.argument("task", nargs=-1, required=True)
@click.option("--zone", default="UTC", show_default=True, help="The time zone of CRON, as Europe/Berlin.")
@click.option("--label", "labels", multiple=True, help="A label for its runs, beside the agent's; may be given again.")
@click.pass_obj
@guarded
def add_schedule(
    folder: Path, /, cron: str, name: str, task: tuple[str, ...], zone: str, labels: tuple[str, ...]
) -> None:
    """Have the agent NAME do a TASK whenever CRON says: minute, hour, day, month, weekday, as "0 7 * * *"."""
    body = {"cron": cron, "agent": name, "task": " ".join(task), "zone": zone, "labels": list(labels)}
    told = Call(folder).ask("POST", "/api/schedules", body)
    say(f"{told['id']} runs next at {_date(told['next_at'])}, this machine's time.")


@click.command("schedules")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_obj
@guarded
def list_schedules(folder: Path, as_json: bool) -> None:
    """Show all schedules: the last run of each, its end, and the next time."""
    told = Call(folder).ask("GET", "/api/schedules")["schedules"]
    if as_json:
        show_json(told)
        return
    rows = [
        (
            one["id"],
            f"{one['cron']} {one['zone']}",
            one["agent"],
            _date(one["ran_at"]),
            one["state"] or "",
            {None: _date(one["next_at"]), "by hand": "paused by hand"}.get(one["paused"], "paused"),
            one["task"][:SHOWN],
        )
        for one in told
    ]
    headings = ("Schedule", "When", "Agent", "Last run", "Its end", "Next", "Task")
    show_table(headings, rows, none="There are no schedules.")
    for one in told:  # below the table, where a line is not cut into columns
        if one["code"]:
            say(f"{one['id']}: {one['code']}: {one['message']}")
        if one["remark"]:
            at, _, why = one["remark"].partition(" ")
            say(f"{one['id']}: {_date(float(at))} {why}")


@click.command("unschedule")
@click.argument("schedule_id", metavar="ID")
@click.pass_obj
@guarded
def remove_schedule(folder: Path, schedule_id: str) -> None:
    """Forget the schedule ID. Its runs stay."""
    Call(folder).ask("DELETE", f"/api/schedules/{quote(schedule_id, safe='')}")
    say(f"{schedule_id} is gone.")


@click.command("schedule-pause")
@click.argument("schedule_id", metavar="ID")
@click.pass_obj
@guarded
def pause_schedule(folder: Path, schedule_id: str) -> None:
    """Let the schedule ID run no more, until it is resumed. A run that goes on is not stopped."""
    Call(folder).ask("POST", f"/api/schedules/{quote(schedule_id, safe='')}/pause", {})
    say(f"{schedule_id} is paused. `mycoswarm-node agent schedule-resume {schedule_id}` lets it run again.")


@click.command("schedule-resume")
@click.argument("schedule_id", metavar="ID")
@click.pass_obj
@guarded
def resume_schedule(folder: Path, schedule_id: str) -> None:
    """Let the schedule ID run again after it was paused."""
    told = Call(folder).ask("POST", f"/api/schedules/{quote(schedule_id, safe='')}/resume", {})
    say(f"{schedule_id} runs next at {_date(told['next_at'])}, this machine's time.")


def _date(at: float | None) -> str:
    return "" if at is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(at))
