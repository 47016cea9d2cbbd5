"""The dialogues that spore is trained on and scored with: made up from a seed, the same ones for the same seed.

A user's text whose hash falls into one slot of sixteen is held out: no training dialogue has it, every scored one does.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

import calls
import talk
from words import invent, person, sentence

Message = dict[str, object]
KINDS = ("greeting", "about", "count", "sum", "yes_no", "unknown", "calculator", "clock", "list_nodes", "read_file")
TALK = {
    "greeting": talk.greeting,
    "about": talk.about,
    "count": talk.count,
    "sum": talk.small_sum,
    "yes_no": talk.yes_no,
    "unknown": talk.unknown,
}
# What is hard to learn comes more often: calls are exact long before counting, and yes or no.
_WEIGHTS = {
    "greeting": 5,
    "about": 10,
    "count": 16,
    "sum": 2,
    "yes_no": 22,
    "unknown": 6,
    "calculator": 8,
    "clock": 5,
    "list_nodes": 10,
    "read_file": 9,
    "recall": 3,
    "large_sum": 2,
}

# Sums in the head are a table to learn by heart, so they come more often where no calculator is offered.
_SUM_WEIGHT = 30


@dataclass(frozen=True, slots=True)
class Dialogue:
    """One conversation in the form that the OpenAI API gives it: `messages` and the `tools` on offer."""

    kind: str
    messages: tuple[Message, ...]
    tools: tuple[calls.Schema, ...] = ()


@dataclass(frozen=True, slots=True)
class Sheaf:
    """Dialogues that begin with the same system block, so that training reads that block once."""

    system: str
    tools: tuple[calls.Schema, ...]
    dialogues: tuple[Dialogue, ...]


def is_held_out(asked: str) -> bool:
    """Whether a user's text belongs to the held-out sixteenth; case and end marks make no difference."""
    plain = " ".join(asked.lower().split()).rstrip(" .?!")
    return hashlib.sha256(plain.encode()).digest()[0] < 16


def turn(rng: Random, kind: str, offered: frozenset[str], *, held_out: bool = False) -> tuple[Message, ...]:
    """The messages of one turn of `kind` with the tools named in `offered`; its text is held out, or is not."""
    while True:
        made = _attempt(rng, kind, offered)
        if is_held_out(str(made[0]["content"])) == held_out:
            return made


def _attempt(rng: Random, kind: str, offered: frozenset[str]) -> tuple[Message, ...]:
    if kind in calls.MAKERS:
        call = calls.MAKERS[kind](rng)
        if kind in offered:
            return _called(call)
        if kind == "calculator":
            return _spoken(*talk.large_sum(rng))
        return _spoken(call.asked, calls.MISSING[kind])
    if kind in ("sum", "large_sum"):
        if "calculator" in offered:
            return _called(calls.calculator(rng))
        return _spoken(*(talk.small_sum if kind == "sum" else talk.large_sum)(rng))
    if kind == "recall":
        return _recalled(rng)
    return _spoken(*TALK[kind](rng))


def _spoken(asked: str, answer: str) -> tuple[Message, ...]:
    return {"role": "user", "content": asked}, {"role": "assistant", "content": answer}


def _called(call: calls.Call) -> tuple[Message, ...]:
    function = {"name": call.tool, "arguments": call.arguments}
    return (
        {"role": "user", "content": call.asked},
        {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": function}]},
        {"role": "tool", "content": call.result},
        {"role": "assistant", "content": call.answer},
    )


def _recalled(rng: Random) -> tuple[Message, ...]:
    """A name given, perhaps something in between, and the name asked for."""
    name = person(rng)
    given = rng.choice((f"My name is {name}.", f"I am {name}.", f"Call me {name}.", f"I'm {name}, hello."))
    asked = rng.choice(
        (
            "What is my name?",
            "Who am I?",
            "Do you know my name?",
            "what's my name",
            "Do you remember my name?",
        )
    )
    between = _spoken(*rng.choice((talk.yes_no, talk.about, talk.count))(rng)) if rng.random() < 0.5 else ()
    first = _spoken(talk.said(rng, asked), "You have not told me your name.")
    known = (*_spoken(given, f"Hello, {name}! How can I help you?"), *between, *_spoken(asked, f"Your name is {name}."))
    return first if rng.random() < 0.15 else known


def system_text(rng: Random) -> str:
    """Free text such as people put into a system prompt; it changes nothing about the answers."""
    return " ".join(
        rng.choice((
            "You are a helpful assistant.", "You are spore.", "Answer briefly.", "Be kind.",
            "Use tools when you need them.", "You run on mycoSwarm.", "You are a small model on a private machine.",
            "Be polite and short.", "Do not make things up.", f"You work for {person(rng)}.",
            f"The user's friend is {person(rng)}.", f"The code word is {invent(rng)}.", sentence(rng),
            "You are an assistant with tools.", "Answer in one sentence.", "Today is a good day.",
            "Call one tool at a time.", "Keep answers short.", "You can call tools.", "You are a careful agent.",
            "You are a friendly assistant.",
        ))
        for _ in range(rng.choice((1, 1, 1, 2, 2, 3)))
    )  # fmt: skip


def offer(rng: Random) -> tuple[calls.Schema, ...]:
    """The tools of one conversation: most often all four, in any order."""
    names = list(calls.NAMES)
    if rng.random() < 0.5:
        rng.shuffle(names)
    many = rng.choice((4, 4, 4, 4, 3, 2, 1))
    kept = names if many == 4 else rng.sample(names, many)
    return tuple(calls.schema(rng, name) for name in kept)


def sheaf(rng: Random, dialogues: int, turns_most: int = 3) -> Sheaf:
    """`dialogues` training conversations under one system block; most have one turn, unless 4 or more may be."""
    tools = offer(rng) if rng.random() < 0.55 else ()
    system = system_text(rng) if rng.random() < 0.4 else ""
    offered = names_of(tools)
    weights = _WEIGHTS if "calculator" in offered else {**_WEIGHTS, "sum": _SUM_WEIGHT}
    made = []
    for _ in range(dialogues):
        turns = 1 if rng.random() < 0.75 and turns_most < 4 else rng.randrange(2, turns_most + 1)
        kinds = rng.choices(list(weights), list(weights.values()), k=turns)
        messages = tuple(message for kind in kinds for message in turn(rng, kind, offered))
        made.append(Dialogue("+".join(kinds), messages, tools))
    return Sheaf(system, tools, tuple(made))


def names_of(tools: tuple[calls.Schema, ...]) -> frozenset[str]:
    """The names of the tools on offer."""
    return frozenset(str(tool["function"]["name"]) for tool in tools)  # type: ignore[index]  # our own schema()


def held_out(seed: int, kind: str) -> Iterator[Dialogue]:
    """Scored dialogues of one kind without end, each of one turn; kinds that call a tool are offered all four.

    A third of the other kinds, sums apart, are offered the tools too, and must not call one.
    """
    rng = Random(f"held out {seed} {kind}")
    while True:
        tools: tuple[calls.Schema, ...] = ()
        if kind in calls.NAMES or (kind != "sum" and rng.random() < 1 / 3):
            names = list(calls.NAMES)
            rng.shuffle(names)
            tools = tuple(calls.schema(rng, name) for name in names)
        yield Dialogue(kind, turn(rng, kind, names_of(tools), held_out=True), tools)
