"""A rule out of options: what `rules add` and `rules edit` say, as the plain values of a rule."""

import json
import tomllib
from collections.abc import Callable
from typing import Any, TypeVar

import click

from mycoswarm.base.errors import InputError

Command = TypeVar("Command", bound=Callable[..., Any])

SPLITS = {"solo": "solo", "allowed": "split allowed", "required": "split required"}
CONDITIONS = ("model", "task", "key", "user", "label", "characters", "hours", "client")
_LISTS = {"key": "keys", "user": "users", "client": "client"}
_SELECTORS = {"node": "nodes", "tag": "tags", "fact": "facts", "place": "places", "prefer": "prefer"}
_ACTIONS = (*_SELECTORS, "split", "external", "model_there", "deny")

_OPTIONS = (
    click.option("--model", help="For models of this name; * and ? stand for any signs."),
    click.option("--task", help="For this task: chat, completion, embedding, agent, tool:NAME; * and ? as above."),
    click.option("--key", multiple=True, help="For requests with this API key; again for another, * and ? as above."),
    click.option("--user", multiple=True, help="For requests of this user; again for another, * and ? as above."),
    click.option("--label-any", multiple=True, help="For requests with at least one of these labels."),
    click.option("--label-all", multiple=True, help="For requests with all of these labels."),
    click.option("--label-none", multiple=True, help="For requests with none of these labels."),
    click.option("--characters", help="For prompts of so many characters: 0-8000, 8000-."),
    click.option("--hours", help="For this time of the day: 22:00-06:00."),
    click.option("--days", help="On these days of the week: mon,tue."),
    click.option("--zone", help="The time zone of --hours and --days, such as Europe/Berlin; else UTC."),
    click.option("--client", multiple=True, help="For requests from this network: 192.168.1.0/24."),
    click.option("--node", multiple=True, help="Run on this node, by name or id; again for another."),
    click.option("--tag", multiple=True, help="Run on nodes with this tag."),
    click.option("--fact", multiple=True, help='Run on nodes of which this is true: "vram_bytes >= 24GiB".'),
    click.option("--prefer", multiple=True, help="Try this node before others."),
    click.option(
        "--place",
        multiple=True,
        type=click.Choice(("this-machine", "LAN", "outside")),
        help="Run on nodes that are this far away; else on this machine and the LAN.",
    ),
    click.option("--split", type=click.Choice(tuple(SPLITS)), help="On one node only, on one or more, on two or more."),
    click.option("--external", metavar="NAME", help="Send to the endpoint NAME."),
    click.option("--as", "model_there", metavar="MODEL", help="What the model is called at that endpoint."),
    click.option("--deny", metavar="MESSAGE", help="Refuse, and say this to whoever asked."),
    click.option("--ask", is_flag=True, help="Wait for the owner's yes first."),
    click.option("--within", type=float, metavar="SECONDS", help="How long --ask waits; else 120."),
    click.option(
        "--fallback",
        multiple=True,
        metavar="ACTION",
        help='What to do where the action before cannot be done, as TOML or JSON: \'do = "external", name = "rack"\'.',
    ),
    click.option("--note", help="A note for yourself."),
)


def drafted(command: Command) -> Command:
    """The options for every condition and action."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def changed(rule: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """A rule with what the options say put over it; what they do not say stays.

    Raises:
        InputError: an option cannot be read, or two exclude each other.
    """
    rule = {**rule, "when": _conditions(dict(rule.get("when", {})), given)}
    if (action := _action(rule.get("then", {}), given)) is not None:
        rule["then"] = action
    if given["fallback"]:
        rule["fallback"] = [read_action(text) for text in given["fallback"]]
    if given["note"] is not None:
        rule["note"] = given["note"]
    return rule


def says_something(given: dict[str, Any]) -> bool:
    """Whether any of the options was given."""
    return any(value not in (None, (), False) for value in given.values())


def read_action(text: str) -> dict[str, Any]:
    """Read an action: `do = "run", nodes = ["attic"]`, the same over several lines, or JSON.

    Raises:
        InputError: it is none of these.
    """
    stripped = text.strip()
    for read in (json.loads, _inline, tomllib.loads):
        try:
            found = read(stripped)
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict):
            return found
    raise _wrong("--fallback", text, '\'do = "run", nodes = ["attic"]\'')


def words(given: tuple[str, ...]) -> list[str]:
    """The words of an option that may be given again, or once with commas."""
    return [word.strip() for text in given for word in text.split(",") if word.strip()]


def _inline(text: str) -> Any:
    return tomllib.loads("action = " + (text if text.startswith("{") else f"{{{text}}}"))["action"]


def _conditions(when: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    for name in given.get("clear", ()):
        when.pop({"label": "labels", **_LISTS}.get(name, name), None)
    when |= {name: given[name] for name in ("model", "task") if given[name] is not None}
    when |= {field: words(given[option]) for option, field in _LISTS.items() if given[option]}
    labels = {how: words(given[f"label_{how}"]) for how in ("any", "all", "none") if given[f"label_{how}"]}
    if labels:
        when["labels"] = {**when.get("labels", {}), **labels}
    if given["characters"] is not None:
        when["characters"] = _span(given["characters"])
    if any(given[name] is not None for name in ("hours", "days", "zone")):
        when["hours"] = _hours(when.get("hours", {}), given)
    return when


def _span(text: str) -> dict[str, int]:
    least, dash, below = (part.strip() for part in text.partition("-"))
    if not dash or not (least or below) or any(part and not _is_number(part) for part in (least, below)):
        raise _wrong("--characters", text, "0-8000")
    return {name: int(part) for name, part in (("from", least), ("to", below)) if part}


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 15


def _hours(before: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    hours = dict(before)
    if given["hours"] is not None:
        begin, dash, end = (part.strip() for part in given["hours"].partition("-"))
        if not (begin and dash and end):
            raise _wrong("--hours", given["hours"], "22:00-06:00")
        hours |= {"from": begin, "to": end}
    if given["days"] is not None:
        hours["days"] = words((given["days"].lower(),))
    if given["zone"] is not None:
        hours["zone"] = given["zone"]
    return hours


def _action(before: dict[str, Any], given: dict[str, Any]) -> dict[str, Any] | None:
    """The new action, or None where no option speaks of it. One of the same kind keeps what is not said anew."""
    asked = before.get("do") == "ask"
    inner = before.get("then", {}) if asked else before
    said = [name for name in _ACTIONS if given[name] not in (None, ())]
    if not said and not given["ask"] and given["within"] is None:
        return None
    done = _done(inner, given, said) if said else dict(inner) or {"do": "run"}
    if not given["ask"] and not asked:
        if given["within"] is not None:
            raise InputError("--within says how long --ask waits", hint="Give --ask too.")
        return done
    if done["do"] == "deny":
        if given["ask"]:
            raise InputError("--ask and --deny exclude each other", hint="Give one of them.")
        return done
    within = {"within_s": before["within_s"]} if asked and "within_s" in before else {}
    if given["within"] is not None:
        within = {"within_s": given["within"]}
    return {"do": "ask", "then": done, **within}


def _done(inner: dict[str, Any], given: dict[str, Any], said: list[str]) -> dict[str, Any]:
    kinds = {
        "external" if name in ("external", "model_there") else "deny" if name == "deny" else "run" for name in said
    }
    if len(kinds) > 1:
        raise InputError(
            f"{' and '.join(sorted(kinds))} exclude each other in one rule",
            hint="Give --node, --tag, --fact, --place, --split and --prefer, or --external, or --deny.",
        )
    kind = kinds.pop()
    done: dict[str, Any] = {**inner, "do": kind} if inner.get("do", "run") == kind else {"do": kind}
    if kind == "deny":
        return {**done, "message": given["deny"]}
    if kind == "external":
        if given["external"] is None and "name" not in done:
            raise InputError("--as says what a model is called at an endpoint", hint="Give --external NAME too.")
        done |= {"name": given["external"]} if given["external"] is not None else {}
        return done | ({"model": given["model_there"]} if given["model_there"] is not None else {})
    done |= {field: words(given[option]) for option, field in _SELECTORS.items() if given[option] and option != "fact"}
    if given["fact"]:
        done["facts"] = list(given["fact"])
    return done | ({"split": SPLITS[given["split"]]} if given["split"] is not None else {})


def _wrong(option: str, text: str, example: str) -> InputError:
    return InputError(f"{option} cannot be read: {text[:80]!r}", hint=f"Write for example {option} {example}.")
