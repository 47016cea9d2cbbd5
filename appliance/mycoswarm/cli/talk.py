"""`ask`: a prompt from the terminal, with where it ran; and the streams that `chat` and others hear."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from mycoswarm.base.errors import RingError
from mycoswarm.cli.call import SILENCE_S, Call, as_error, decode
from mycoswarm.cli.draft import words
from mycoswarm.cli.reason import show_reasons
from mycoswarm.cli.screen import guarded, note, say, show_json, write


@dataclass(slots=True)
class Reply:
    """A whole answer, gathered from its stream. `mycoswarm` says where it ran and how fast."""

    text: str = ""
    mycoswarm: dict[str, Any] = field(default_factory=dict)
    usage: dict[str, int] = field(default_factory=dict)
    finish_reason: str | None = None
    logprobs: list[dict[str, Any]] = field(default_factory=list)


def stream_chat(
    call: Call,
    body: dict[str, Any],
    reply: Reply,
    route: str | None = None,
    path: str = "/v1/chat/completions",
    labels: Iterable[str] = (),
) -> Iterator[str]:
    """Send a chat or completion request and give its text as it comes; `reply` holds the rest afterwards.

    Raises:
        SwarmError: what the daemon said; `RingError` where the answer ends without its end.
    """
    headers = beside(route, labels)
    asked = {**body, "stream": True, "stream_options": {"include_usage": True}}
    for line in call.stream("POST", path, asked, headers):
        if not line.startswith(b"data: "):
            continue
        data = line[6:].strip()
        if data == b"[DONE]":
            return
        told = decode(data)
        if "error" in told:
            raise as_error(data)
        reply.usage = told.get("usage") or reply.usage
        reply.mycoswarm = told.get("mycoswarm") or reply.mycoswarm
        for choice in told.get("choices", ()):
            reply.finish_reason = choice.get("finish_reason") or reply.finish_reason
            reply.logprobs += (choice.get("logprobs") or {}).get("content") or []
            if text := choice.get("delta", {}).get("content") or choice.get("text"):
                reply.text += text
                yield text
    raise RingError("the answer broke off", hint="Send it again.")


def where(reply: Reply) -> str:
    """What stands beside an answer: which machines saw the prompt, how far away they are, how fast they were, which
    rule decided, and the receipt."""
    told = reply.mycoswarm
    stages = told.get("stages", [])
    named = " + ".join(f"{s['node']}[{s['layers'][0]},{s['layers'][1]})" for s in stages)
    named = named or ", ".join(map(str, told.get("nodes") or ())) or "unknown"
    far = f" ({told['ran']})" if told.get("ran") else ""
    timing = told.get("timing") or {}
    speed = f", {timing['steps'] / timing['step_s']:.1f} tokens/s" if timing.get("step_s") else ""
    receipt = f"; receipt: {told['receipt']}" if told.get("receipt") else ""
    return f"ran on {named}{far}{speed}; rule: {told.get('rule', 'unknown')}{receipt}"


def beside(route: str | None, labels: Iterable[str]) -> dict[str, str]:
    """The headers of what is said beside a request."""
    said = {"x-mycoswarm-route": route, "x-mycoswarm-labels": ", ".join(labels)}
    return {name: text for name, text in said.items() if text}


def options(command: Any) -> Any:
    """Give a command the options that `ask` and `chat` share."""
    shared = (
        click.option("--model", default="spore", show_default=True, help="Which model answers."),
        click.option("--route", help='Narrow where it may run: "solo", "split; stages=2", "nodes=attic".'),
        click.option("--label", "labels", multiple=True, help="Add this label; again for another. Labels only narrow."),
        click.option("--temperature", type=float, help="0 is always the likeliest word."),
        click.option("--max-tokens", type=int, help="The longest answer."),
        click.option("--seed", type=int, help="The same seed gives the same answer."),
        click.option("--system", help="A system prompt."),
    )
    for option in reversed(shared):  # the last one put on is shown first
        command = option(command)
    return command


def _body(model: str, system: str | None, prompt: str, **sampling: Any) -> dict[str, Any]:
    messages = [{"role": "system", "content": system}] if system else []
    messages.append({"role": "user", "content": prompt})
    return {"model": model, "messages": messages, **{k: v for k, v in sampling.items() if v is not None}}


@click.command()
@click.argument("prompt", nargs=-1, required=True)
@options
@click.option("--json", "as_json", is_flag=True, help="The whole answer as JSON.")
@click.option("--explain", is_flag=True, help="Show where it would run and why; send nothing.")
@click.pass_obj
@guarded
def ask(
    folder: Path,
    /,
    prompt: tuple[str, ...],
    model: str,
    route: str | None,
    labels: tuple[str, ...],
    system: str | None,
    as_json: bool,
    explain: bool,
    **sampling: Any,
) -> None:
    """Ask one question and print the answer."""
    call, body = Call(folder), _body(model, system, " ".join(prompt), **sampling)
    if explain:
        _explain(call, {**body, "route": route, "labels": words(labels)}, as_json)
        return
    if as_json:
        headers = beside(route, words(labels))
        show_json(call.ask("POST", "/v1/chat/completions", body, headers, timeout_s=SILENCE_S))
        return
    reply = Reply()
    for text in stream_chat(call, body, reply, route, labels=words(labels)):
        write(text)
    say()
    note(where(reply))


def _explain(call: Call, body: dict[str, Any], as_json: bool) -> None:
    told = call.ask("POST", "/api/explain", body)
    if as_json:
        show_json(told)
    else:
        show_reasons(told)
