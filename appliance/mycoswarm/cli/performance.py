"""A run on the terminal: text as it comes, each call with its node and time, the owner asked for a yes."""

import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import click

from mycoswarm.base.errors import NotFoundError
from mycoswarm.cli.call import Call
from mycoswarm.cli.screen import complain, note, say, write

SHOWN = 200  # characters of a call's arguments or result


@dataclass(slots=True)
class Performance:
    """Shows events. `end` is the last one, `text` what the agent itself has said since its last call."""

    call: Call
    says_yes: bool = False
    text: str = ""
    end: dict[str, Any] = field(default_factory=dict)
    nodes: list[str] = field(default_factory=list)
    _is_open: bool = False  # a line of text has been begun

    def take(self, event: dict[str, Any], agent: str = "") -> None:
        """Show one event; `agent` is the sub-agent it comes from."""
        kind = event.get("event")
        if kind == "sub_agent":
            self.take(event["told"], f"{event['name']} {event['agent']}")
        elif kind == "text" and not agent:
            write(event["text"])
            self.text, self._is_open = self.text + event["text"], True
        elif kind == "heard":
            self.nodes += [name for name in event["nodes"] if name not in self.nodes]
        elif kind == "result":
            self._result(event, agent)
        elif kind == "approval":
            self._approval(event, agent)
        elif kind == "end":
            self._ended(event, agent)

    def _result(self, event: dict[str, Any], agent: str) -> None:
        self._close()
        self.text = "" if not agent else self.text
        where = f"on {event['node']}" if event["node"] else "nowhere"
        outcome = "" if event["ok"] else "failed: "
        text, asked = outcome + _short(event["text"]), f"{event['tool']}({_arguments(event['arguments'])})"
        note(f"{_before(agent)}{asked} {where}, {event['seconds']:.2f} s: {text}")

    def _approval(self, event: dict[str, Any], agent: str) -> None:
        self._close()
        say(f"{_before(agent)}{event['task']} would go to {event['destination']}; the rule {event['rule']} asks you.")
        if event["detail"]:
            say(event["detail"])
        allowed = self.says_yes or click.confirm("Allow it?", default=False)
        try:
            self.call.ask("POST", f"/api/approvals/{quote(event['approval'], safe='')}", {"allow": allowed})
        except NotFoundError as error:  # it took too long, or somebody else answered
            complain(error)

    def _ended(self, event: dict[str, Any], agent: str) -> None:
        self._close()
        if agent:
            note(f"{_before(agent)}{event['end']}: {_short(event['answer'])}")
            return
        self.end = event
        where = " + ".join(self.nodes) or "nowhere"
        note(f"asked {event['steps']} times on {where}, {event['completion_tokens']} tokens written")

    def _close(self) -> None:
        if self._is_open:
            say()
        self._is_open = False


def _before(agent: str) -> str:
    return f"[{agent}] " if agent else ""


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= SHOWN else line[:SHOWN] + "..."


def _arguments(text: str) -> str:
    """Arguments as people write them."""
    try:
        given = json.loads(text)
    except ValueError:
        return _short(text)
    if not isinstance(given, dict):
        return _short(text)
    return _short(", ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in given.items()))
