"""`chat`: a talk with a model or an agent on the terminal, with every tool call shown and every approval asked."""

import contextlib
import importlib
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from mycoswarm.base.errors import SwarmError
from mycoswarm.cli.call import Call
from mycoswarm.cli.diary import Diary, save
from mycoswarm.cli.draft import words
from mycoswarm.cli.performance import Performance
from mycoswarm.cli.screen import complain, guarded, note, out, say, write
from mycoswarm.cli.talk import Reply, options, stream_chat, where
from mycoswarm.cli.troupe import stream_run

HELP = "There are /agent NAME (alone: none), /model NAME, /route TEXT, /label L, /new, /save FILE and /quit."
MAX_EARLIER = 64  # messages that an agent is told of
MAX_CHARACTERS = 50_000


@dataclass(slots=True)
class Talk:
    """One chat. `start` is where /new goes back to. `kept`: the labels of what was said; they hold until /new, for all
    that was said goes along with the next line."""

    call: Call
    model: str
    route: str | None
    start: list[dict[str, str]]
    given: dict[str, Any]
    diary: Diary | None
    labels: list[str]
    agent: str | None = None
    kept: set[str] = field(default_factory=set)
    messages: list[dict[str, str]] = field(default_factory=list)

    def turn(self, line: str) -> None:
        """One line of the owner's. An error is said, and the chat goes on without that turn."""
        if line.startswith("/"):
            self._command(*line.partition(" ")[::2])
            return
        answer = self._agent_answers(self.agent, line) if self.agent else self._model_answers(line)
        if not answer:
            return
        self.kept.update(self.labels)
        self.messages += [{"role": "user", "content": line}, {"role": "assistant", "content": answer}]
        if self.diary is not None:
            try:
                self.diary.add(model=self.model, agent=self.agent, you=line, answer=answer)
            except SwarmError as error:
                complain(error)

    def _command(self, word: str, rest: str) -> None:
        rest = rest.strip()
        if word == "/new":
            self.messages = list(self.start)
            self.kept.clear()
        elif word == "/model":
            self.model = rest or self.model
            note(f"model {self.model}")
        elif word == "/route":
            self.route = rest or None
            note(f"route {self.route or 'as the rules say'}")
        elif word == "/label":
            self.labels = words((rest,))
            note(f"labels {', '.join(self._labels()) or 'none added'}")
            if self.kept - set(self.labels):
                note("What was said keeps its labels; /new begins without them.")
        elif word == "/agent":
            self._take(rest or None)
        elif word == "/save" and rest:
            self._save(Path(rest).expanduser())
        else:
            note(HELP)

    def _labels(self) -> list[str]:
        """Those that the next line goes with."""
        return sorted(self.kept.union(self.labels))

    def _take(self, name: str | None) -> None:
        """Talk to an agent from now on, if there is one of that name; None: to the model."""
        if name is None:
            self.agent = None
            note(f"no agent; model {self.model}")
            return
        known = {one["name"]: one for one in self.call.ask("GET", "/api/agents")["agents"]}
        if name not in known:
            note(f"There is no agent {name}; there are {', '.join(known)}.")
            return
        self.agent = name
        note(f"agent {name}: {known[name]['fault'] or known[name]['description']}")

    def _save(self, path: Path) -> None:
        save(path, self.messages)
        note(f"saved as {path}")

    def _model_answers(self, line: str) -> str:
        reply = Reply()
        body = {"model": self.model, "messages": [*self.messages, {"role": "user", "content": line}], **self.given}
        with _surviving():
            for text in stream_chat(self.call, body, reply, self.route, labels=self._labels()):
                write(text)
            say()
            note(where(reply))
        return reply.text

    def _agent_answers(self, agent: str, line: str) -> str:
        stage = Performance(self.call)
        with _surviving():
            given = {"task": line, "earlier": _last(self.messages)}
            for event in stream_run(self.call, agent, given, self._labels()):
                stage.take(event)
            self.kept.update(stage.end.get("labels", ()))
            if stage.end.get("end") != "answer":
                note(f"it ended without an answer: {stage.end.get('message')}")
        return stage.text if stage.end else ""  # else nobody knows its labels


@contextlib.contextmanager
def _surviving() -> Any:
    """What goes wrong in one answer, or Ctrl-C, ends that answer and not the chat."""
    try:
        yield
    except KeyboardInterrupt:
        say()
        note("stopped")
    except SwarmError as error:
        say()
        complain(error)


def _last(messages: list[dict[str, str]]) -> list[dict[str, str]]:
    """The last messages, as many as an agent is told of; system prompts are its own."""
    found: list[dict[str, str]] = []
    room = MAX_CHARACTERS
    for message in reversed(messages):
        room -= len(message["content"])
        if message["role"] == "system" or room < 0 or len(found) == MAX_EARLIER:
            break
        found.append(message)
    return found[::-1]


def _recall(diary: Diary) -> None:
    """Let the arrow keys reach what was typed in earlier chats."""
    if not sys.stdin.isatty():
        return
    with contextlib.suppress(ImportError):  # some Pythons come without
        readline = importlib.import_module("readline")
        for line in diary.lines():
            readline.add_history(line)


@click.command()
@options
@click.option("--agent", help="The agent that answers, in the place of the model alone.")
@click.option(
    "--history/--no-history",
    default=True,
    envvar="MYCOSWARM_CHAT_HISTORY",
    help="Keep what is said in chat.history in the data folder, readable by you only.",
)
@click.pass_obj
@guarded
def chat(
    folder: Path,
    /,
    model: str,
    route: str | None,
    labels: tuple[str, ...],
    system: str | None,
    agent: str | None,
    history: bool,
    **sampling: Any,
) -> None:
    """Chat in the terminal. /agent NAME, /model NAME, /route TEXT, /label L, /new, /save FILE, /quit.

    Ctrl-C stops an answer.
    """
    start = [{"role": "system", "content": system}] if system else []
    given = {name: value for name, value in sampling.items() if value is not None}
    diary = Diary(folder) if history else None
    talk = Talk(Call(folder), model, route, start, given, diary, words(labels), messages=list(start))
    if diary is not None:
        _recall(diary)
    if agent is not None:
        talk.turn(f"/agent {agent}")
    note(f"model {model}; /quit ends")
    while True:
        try:
            line = out.input("> ").strip()
        except (EOFError, KeyboardInterrupt):
            say()
            return
        if line == "/quit":
            return
        if line:
            with _surviving():
                talk.turn(line)
