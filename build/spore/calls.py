"""Turns that call a tool: what is asked, the one exact call, a result, and the answer that uses it."""

import json
from dataclasses import dataclass, replace
from random import Random

from talk import said, sum_question
from words import FOODS, STATES, THINGS, invent, machine, numeral, path, person, place, sentence, spelled

# The ways to ask stay several to a line.
# fmt: off
Schema = dict[str, object]
NAMES = ("calculator", "clock", "list_nodes", "read_file")
DESCRIPTIONS = {
    "calculator": (
        "Work out an arithmetic expression.", "Calculator.", "Evaluate an expression with + - * / and brackets.",
        "Does exact arithmetic.", "Evaluates an arithmetic expression and returns the result.",
    ),
    "clock": (
        "Tell the date and the time.", "The current date and time, here or in a place.", "Clock.", "What time it is.",
        "Returns the current time, optionally for a place or time zone.",
    ),
    "list_nodes": ("List the machines of the swarm.", "List the nodes.", "Nodes of this swarm and their state.",
                   "Returns the machines in the swarm.", "The machines that are here."),
    "read_file": (
        "Read a text file.", "Read a file and return its text.", "Returns the content of a file.", "File reader.",
        "Open a file from the shared folder.",
    ),
}
_PARAMETERS = {"calculator": "expression", "clock": "place", "list_nodes": "", "read_file": "path"}
_ABOUT_PARAMETER = {"expression": "such as 12+30", "place": "a city or a time zone", "path": "the path of the file"}
MISSING = {
    "calculator": "That is too large for me without a calculator tool.",
    "clock": "I have no clock here, so I cannot know the time.",
    "list_nodes": "I have no list of nodes here.",
    "read_file": "I cannot read files here.",
}


@dataclass(frozen=True, slots=True)
class Call:
    """One use of a tool; `result` is what the tool says and `answer` what the assistant makes of it."""

    asked: str
    tool: str
    arguments: dict[str, str]
    result: str
    answer: str


def schema(rng: Random, name: str) -> Schema:
    """The tool in the OpenAI form; wording and key order differ from one conversation to the next."""
    parameter = _PARAMETERS[name]
    properties: dict[str, object] = {}
    if parameter:
        described: dict[str, object] = {"type": "string"}
        if rng.random() < 0.4:
            described["description"] = _ABOUT_PARAMETER[parameter]
        properties[parameter] = described
    required = [parameter] if parameter and name != "clock" else []
    shape: dict[str, object] = {"type": "object", "properties": properties}
    if required or rng.random() < 0.5:
        shape["required"] = required
    if rng.random() < 0.1:
        shape["additionalProperties"] = False
    if rng.random() < 0.3:
        shape = dict(sorted(shape.items()))
    description = rng.choice(DESCRIPTIONS[name])
    return {"type": "function", "function": {"name": name, "description": description, "parameters": shape}}


def _wrapped(rng: Random, key: str, value: object) -> str:
    """A result in JSON, as some tools word it."""
    pairs: list[tuple[str, object]] = [(key, value)]
    if rng.random() < 0.3:
        pairs.insert(rng.randrange(2), (rng.choice(("ok", "cached")), rng.random() < 0.5))
    return json.dumps(dict(pairs), ensure_ascii=False)


def _number(rng: Random) -> str:
    """A number of any length, most of them whole: the result of a sum that nobody worked out."""
    number = numeral(rng, 6)
    if rng.random() < 0.3:
        number += "".join(str(rng.randrange(10)) for _ in range(rng.randrange(3)))
    if rng.random() < 0.25:
        number += "." + "".join(str(rng.randrange(10)) for _ in range(rng.randrange(1, 7)))
    return ("-" if rng.random() < 0.08 else "") + (number if rng.random() < 0.97 else "0")


def _operand(rng: Random) -> str:
    return numeral(rng) + (f".{rng.randrange(1, 100)}" if rng.random() < 0.1 else "")


def _story(rng: Random) -> tuple[str, str]:
    """A sum told as a little story, and its expression."""
    a, b, food, who = numeral(rng, 4), numeral(rng, 4), rng.choice(FOODS), person(rng)
    return rng.choice((
        (f"I have {a} {food} and buy {b} more. How many do I have?", f"{a}+{b}"),
        (f"{who} has {a} {food} and gets {b} more. How many {food} does {who} have?", f"{a}+{b}"),
        (f"{who} had {a} {food} and ate {b}. How many are left?", f"{a}-{b}"),
        (f"There were {a} {food} and {who} took {b}. How many are left?", f"{a}-{b}"),
        (f"There are {a} boxes with {b} {food} each. How many {food} are there?", f"{a}*{b}"),
        (f"{who} buys {a} {food} at {b} cents each. What does it cost?", f"{a}*{b}"),
        (f"Share {a} {food} among {b} people. How many does each get?", f"{a}/{b}"),
        (f"{a} {food} are shared by {b} people. How many does each one get?", f"{a}/{b}"),
    ))


def _chain(rng: Random) -> tuple[str, str]:
    """A sum of more than two numbers or of a form of its own, and its expression."""
    a, b, c = numeral(rng, 4), numeral(rng, 3), numeral(rng, 3)
    names = {"+": "plus", "-": "minus", "*": "times", "/": "divided by"}
    one, two = rng.choice("++-*/"), rng.choice("+--*/")
    ask = rng.choice(("what is {}?", "{}", "calculate {}", "how much is {}?", "work out {}", "compute {}"))
    return rng.choice((
        (ask.format(f"{a} {names[one]} {b} {names[two]} {c}"), f"{a}{one}{b}{two}{c}"),
        (ask.format(f"{a} {one} {b} {two} {c}"), f"{a}{one}{b}{two}{c}"),
        (ask.format(f"{a}{one}{b}{two}{c}"), f"{a}{one}{b}{two}{c}"),
        (ask.format(f"({a} {one} {b}) {two} {c}"), f"({a}{one}{b}){two}{c}"),
        (ask.format(f"({a}{one}{b}){two}{c}"), f"({a}{one}{b}){two}{c}"),
        (ask.format(f"{a}{one}({b}{two}{c})"), f"{a}{one}({b}{two}{c})"),
        (f"add {a} and {b}, then multiply by {c}", f"({a}+{b})*{c}"),
        (f"add {a}, {b} and {c}", f"{a}+{b}+{c}"),
        (f"what is {b}% of {a}?", f"{a}*{b}/100"),
        (f"what is {b} percent of {a}?", f"{a}*{b}/100"),
        (f"what is the square of {a}?", f"{a}*{a}"),
        (f"what is half of {a}?", f"{a}/2"),
        (f"double {a}", f"{a}*2"),
    ))


def calculator(rng: Random) -> Call:
    """A sum; the result is any number, so that the answer can only come from reading it."""
    roll = rng.random()
    if roll < 0.15:
        asked, expression = _story(rng)
    elif roll < 0.35:
        asked, expression = _chain(rng)
    else:
        sign = rng.choice("++--**/")
        a, b = _operand(rng), _operand(rng)
        if rng.random() < 0.07:
            a, b = str(rng.randrange(100)), str(rng.randrange(100))
            asked = sum_question(rng, spelled(int(a)), sign, spelled(int(b)))
        else:
            asked = sum_question(rng, a, sign, b)
        expression = f"{a}{sign}{b}"
    result = _number(rng)
    answer = f"{expression} = {result}."
    roll = rng.random()
    if roll < 0.2:
        value = json.loads(result)
        result = _wrapped(rng, rng.choice(("result", "result", "value", "answer")), value)
        answer = f"{expression} = {value}."
    elif roll < 0.3:
        result = f"{expression} = {result}"
    return _perhaps_failed(rng, Call(said(rng, asked), "calculator", {"expression": expression}, result, answer))


def clock(rng: Random) -> Call:
    """The time or the date, here or somewhere else."""
    what = rng.choice(("time", "time", "time", "date", "day"))
    year, month, day = rng.randrange(2020, 2040), rng.randrange(1, 13), rng.randrange(1, 29)
    hour, minute, second = rng.randrange(24), rng.randrange(60), rng.randrange(60)
    weekday = rng.choice(["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"])
    stamp = rng.choice((
        f"{year}-{month:02d}-{day:02d} {hour:02d}:{minute:02d}",
        f"{year}-{month:02d}-{day:02d}T{hour:02d}:{minute:02d}:{second:02d}Z", f"{hour:02d}:{minute:02d}",
        f"{weekday} {year}-{month:02d}-{day:02d} {hour:02d}:{minute:02d}", f"{hour:02d}:{minute:02d}:{second:02d}",
        f"{year}-{month:02d}-{day:02d}T{hour:02d}:{minute:02d}:{second:02d}+{rng.randrange(13):02d}:00",
        f"{weekday}, {hour:02d}:{minute:02d}", f"{year}-{month:02d}-{day:02d} {hour:02d}:{minute:02d}:{second:02d}",
        f"{weekday} {day}.{month}.{year}, {hour:02d}:{minute:02d}",
    ))
    town = place(rng) if rng.random() < 0.5 else ""
    if town:
        asked = rng.choice((
            f"what time is it in {town}?", f"what is the time in {town}?", f"tell me the time in {town}",
            f"time in {town}?", f"what is the {what} in {town}?", f"how late is it in {town}?",
            f"what {what} is it in {town}?", f"{town} time", f"what time is it now in {town}?",
            f"current time in {town}", f"I need the time in {town}", f"which day is it in {town}?",
        ))
    else:
        asked = rng.choice((
            "what time is it?", "what is the time?", "tell me the time", "what is the date today?", "what day is it?",
            "how late is it?", "what is today's date?", "what time is it now?", "what is the current time?",
            "which day is it today?", "check the clock", "give me the date", "what year is it?", "is it late?",
            "look at the clock", "do you know what time it is?", "what day is today?", "could you check the time?",
            "what hour is it?", "what month is it?", "show me the time", "time?", "date and time",
        ))
    arguments = {"place": town} if town else {}
    answer = f"In {town} it is {stamp}." if town else f"It is {stamp}."
    result = _wrapped(rng, rng.choice(("time", "now", "time")), stamp) if rng.random() < 0.2 else stamp
    return _perhaps_failed(rng, Call(said(rng, asked), "clock", arguments, result, answer))


def list_nodes(rng: Random) -> Call:
    """The machines of the swarm, as lines, as JSON names or as JSON objects."""
    names = list(dict.fromkeys(machine(rng) for _ in range(rng.choice((1, 2, 2, 3, 3, 3, 4, 5)))))
    asked = rng.choice((
        "which machines are in the swarm?", "list the nodes", "how many nodes are there?", "which nodes are there?",
        "show me the nodes", "what machines do I have?", "list my machines", "who is in the swarm?",
        "how many machines are in the swarm?", "show the swarm", "which computers are connected?", "list all nodes",
        "what nodes are online?", "show me all machines", "give me a list of nodes", "how big is the swarm?",
        "which nodes can you see?", "name the nodes", "name my machines", "are there any nodes?", "list nodes",
        "what is in my swarm?", "which machines are ready?", "how many computers do I have?",
        "what are the nodes called?",
    ))
    asked += rng.choice(("", "", "", " please", " now")) if not asked.endswith("?") else ""
    if rng.random() < 0.3:
        asked = asked.rstrip("?") + rng.choice((
            " right now", " here", " today", " at the moment",
        )) + ("?" if "?" in asked else "")
    state = [rng.choice(STATES) for _ in names]
    shape = rng.randrange(5)
    if shape == 0:
        result = json.dumps(names)
    elif shape == 1:
        result = json.dumps([{"name": name, "state": now} for name, now in zip(names, state, strict=True)])
    elif shape == 2:
        joint = rng.choice((": ", " ", " - "))
        result = "\n".join(name + joint + now for name, now in zip(names, state, strict=True))
    else:
        result = (", " if shape == 3 else "\n").join(names)
    answer = f"These are the nodes: {', '.join(names)}."
    return _perhaps_failed(rng, Call(said(rng, asked), "list_nodes", {}, result, answer))


def _content(rng: Random) -> str:
    """What a file may hold: sentences, lines, settings or a row of numbers."""
    shape = rng.randrange(6)
    if shape == 0:
        many = rng.randrange(1, 4)
        return "\n".join(
            f"{rng.choice(THINGS)} = {invent(rng) if rng.random() < 0.5 else numeral(rng)}" for _ in range(many)
        )
    if shape == 1:
        return ",".join(numeral(rng, 4) for _ in range(rng.randrange(2, 7)))
    if shape == 2:
        return "\n".join("- " + sentence(rng) for _ in range(rng.randrange(1, 4)))
    return " ".join(sentence(rng) for _ in range(rng.choice((1, 1, 1, 2, 2, 3))))


def read_file(rng: Random) -> Call:
    """A file by its path; the answer gives its text word for word."""
    where = path(rng)
    asked = rng.choice((
        f"read {where}", f"what is in {where}?", f"show me {where}", f"open {where}", f"read the file {where}",
        f"what does {where} say?", f"show me the file {where}", f"print {where}", f"what is written in {where}?",
        f"please read {where}", f"look into {where}", f"give me the content of {where}", f"read {where} to me",
        f"I want to see {where}", f"can you read {where}?", f"cat {where}", f"what does the file {where} contain?",
        f"could you open {where} for me?", f"the content of {where}, please", f"display {where}",
        f"tell me what is in {where}", f"what is inside {where}?", f"open the file {where} and show it",
    ))
    content = _content(rng)
    ended = asked if where.endswith(asked[-4:]) else said(rng, asked)
    result = content
    if rng.random() < 0.1 and "\n" not in content:
        result = _wrapped(rng, rng.choice(("text", "content")), content)
    return _perhaps_failed(rng, Call(ended, "read_file", {"path": where}, result, f"{where} says: {content}"))


def _perhaps_failed(rng: Random, call: Call) -> Call:
    """`call`, or one in twenty of them with an error as its result."""
    if rng.random() >= 0.05:
        return call
    why = rng.choice((
        "division by zero", "not found", "no such file", "not allowed", "timed out", "no such place", "too long",
        "the file is not text", "the node is away", f"{invent(rng)} failed", "unknown name", "busy",
    ))
    result = rng.choice(("error: ", "Error: ")) + why
    return replace(call, result=result, answer=f"That did not work: {why}.")


MAKERS = {"calculator": calculator, "clock": clock, "list_nodes": list_nodes, "read_file": read_file}
