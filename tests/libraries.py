"""What tests of the library over real daemons share: folders of documents, rules, runs, and what ledgers show."""

import json
from pathlib import Path
from typing import Any

from daemons import until
from mycoswarm.cli.fleet import Fleet, Member

SECRET = "heliotrope4711"  # in private documents, and nowhere else
ANY = {"name": "any node", "then": {"do": "run"}}
HERE = {"do": "run", "nodes": ["coordinator"]}
THERE = {"do": "run", "nodes": ["worker-1"]}


def lay_out(folder: Path, **documents: str) -> Path:
    """Write a folder of Markdown files."""
    folder.mkdir(exist_ok=True)
    for name, text in documents.items():
        (folder / f"{name}.md").write_text(text)
    return folder


def add(member: Member, folder: Path, name: str, *labels: str) -> dict[str, Any]:
    """Take a folder in and wait until it is read."""
    member.call.ask("POST", "/api/library", {"folder": str(folder), "name": name, "labels": list(labels)})
    return settled(member, name)


def refresh(member: Member, name: str) -> dict[str, Any]:
    """Have a folder read anew."""
    member.call.ask("POST", f"/api/library/{name}/refresh", {})
    return settled(member, name)


def settled(member: Member, name: str) -> dict[str, Any]:
    """A folder, once nothing waits to be done with it."""
    told: dict[str, Any] = {}

    def look() -> bool:
        told.update(member.call.ask("GET", f"/api/library/{name}"))
        return bool(told["state"] == "ready")

    until(look, 60, f"{name} is read")
    return told


def rule(name: str, then: dict[str, Any], **when: Any) -> dict[str, Any]:
    """One rule; `label` stands for any of these."""
    if "label" in when:
        when["labels"] = {"any": [when.pop("label")]}
    return {"name": name, "when": when, "then": then}


def decide_by(member: Member, *rules: dict[str, Any]) -> None:
    """Let these rules be all there are."""
    known = member.call.ask("GET", "/api/rules")
    member.call.ask("PUT", "/api/rules", {"rules": list(rules), "tests": {}, "version": known["version"]})


def agent(member: Member, name: str, model: str, *tools: str, more: str = "", seconds: int = 30) -> None:
    """Write an agent file."""
    listed = json.dumps(list(tools))
    text = f'model = "{model}"\ntools = {listed}\n{more}\n[budget]\nmax_steps = 6\ntokens = 3000\nseconds = {seconds}\n'
    member.call.ask("PUT", f"/api/agents/{name}", {"toml": text})


def run(member: Member, name: str, task: str = "Go.", labels: str = "") -> list[dict[str, Any]]:
    """Have an agent work to its end; all that is told."""
    headers = {"X-Mycoswarm-Labels": labels} if labels else {}
    lines = member.call.stream("POST", f"/api/agents/{name}/run", {"task": task}, headers, timeout_s=60)
    return [json.loads(line) for line in lines]


def results(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the calls of a run gave, those of sub-agents too."""
    inner = [event["told"] if event["event"] == "sub_agent" else event for event in events]
    return [event for event in inner if event["event"] == "result"]


def of_run(member: Member, events: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """The rows of a member's own ledger that belong to a run, newest first."""
    run_id = events[0]["id"]
    rows = member.call.ask("GET", f"/api/ledger?kind={kind}&limit=500")["rows"]
    return [row["body"] for row in rows if str(row["request_id"]).startswith(run_id)]


def private_tickets(member: Member) -> list[dict[str, Any]]:
    """The tickets in a member's own ledger that carry the label private: for layers, and for tools that ran."""
    rows = [
        row
        for kind in ("ticket", "tool_ticket")
        for row in member.call.ask("GET", f"/api/ledger?kind={kind}&limit=500")["rows"]
    ]
    return [row["body"] for row in rows if "private" in row["body"]["labels"]]


def tools_run(fleet: Fleet) -> list[str]:
    """The names of all tools that ran on any node."""
    rows = [
        row
        for member in fleet.members
        for row in member.call.ask("GET", "/api/ledger?kind=tool_ticket&limit=500")["rows"]
    ]
    return [row["body"]["tool"] for row in rows]
