"""The cases of the exam without a call, those behind a long system prompt, and those with a tool's result; all cases.

Data only.
"""

import json
from typing import Any

from mycoswarm.agents.exam import Case, Wanted
from mycoswarm.agents.exercise import (
    CALCULATOR,
    CLOCK,
    HOUSE,
    LIGHT,
    NESTED,
    NODES,
    PARALLEL,
    READ,
    SINGLE,
    SYSTEM,
    TIMER,
    USUAL,
    WEATHER,
    asked,
    works_out,
)
from mycoswarm.wire.tool import ToolSpec

LONG_BYTES = 8 << 10  # of a system prompt


def _none(name: str, text: str, tools: tuple[ToolSpec, ...], *says: str) -> Case:
    return Case(name=name, kind="none", messages=asked(text), tools=tools, says=says)


def _refusal(name: str, text: str, *tools: ToolSpec) -> Case:
    return Case(name=name, kind="refusal", messages=asked(text), tools=tools)


def _long(name: str, text: str, tools: tuple[ToolSpec, ...], *calls: Wanted, says: tuple[str, ...] = ()) -> Case:
    return Case(name=name, kind="long", messages=asked(text, _handbook()), tools=tools, calls=calls, says=says)


def _result(name: str, text: str, call: tuple[ToolSpec, dict[str, Any]], result: str, *says: str) -> Case:
    """The tool was called and has answered; its result has to be in what the model says."""
    used, arguments = call
    function = {"name": used.name, "arguments": json.dumps(arguments)}
    messages = (
        *asked(text),
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": "exam00001", "type": "function", "function": function}],
        },
        {"role": "tool", "tool_call_id": "exam00001", "name": used.name, "content": result},
    )
    tools = USUAL if used in USUAL else HOUSE
    return Case(name=name, kind="result", messages=messages, tools=tools, says=says)


def _handbook() -> str:
    """A system prompt of 8 KB, the same on every machine: rules of a house, of which none matters for the cases."""
    rooms = ("kitchen", "hall", "cellar", "garden", "attic", "study", "porch", "garage")
    things = ("keys", "lamps", "tools", "letters", "boxes", "cups", "maps")
    days = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday")
    text, number = SYSTEM, 0
    while len(text) < LONG_BYTES:
        room, thing, day = rooms[number % len(rooms)], things[number % len(things)], days[number % len(days)]
        number += 1
        text += f"\nRule {number}: on {day} the {thing} from the {room} are counted and put back in their place."
    return text


NONE = (
    _none("a greeting", "Hello!", USUAL),
    _none("thanks", "Thank you, that is all.", USUAL),
    _none("a capital", "What is the capital of France?", USUAL, "Paris"),
    _none("a colour", "Which colour is the sky on a clear day?", USUAL, "blue"),
    _none("days of a week", "How many days has a week?", HOUSE, "7", "seven"),
    _none("an animal", "Which animal says miaow?", HOUSE, "cat", "cats"),
    _none("a word to repeat", "Say only this word: banana", HOUSE, "banana"),
    _none("a translation", 'What does the Spanish word "gato" mean in English?', USUAL, "cat"),
    _none("the opposite", "What is the opposite of hot?", HOUSE, "cold"),
    _none("about the text", 'Which is the first word of "seven green apples"?', USUAL, "seven"),
)
REFUSAL = (
    _refusal("a flight with a calculator", "Book me a flight to Madrid.", CALCULATOR),
    _refusal("a message without a tool for it", "Send Ben a message that I am late.", CALCULATOR, CLOCK),
    _refusal("a song", "Play some music.", READ, CLOCK),
    _refusal("deleting with a reader", "Delete the file old.txt.", READ),
    _refusal("weather without its tool", "How is the weather in Oslo right now?", CALCULATOR, NODES),
    _refusal("the heating with lights", "Set the heating to 21 degrees.", LIGHT, TIMER),
    _refusal("an order for food", "Order me a pizza.", WEATHER, TIMER),
    _refusal("a bank", "Transfer 50 euros to my landlord.", CALCULATOR),
    _refusal("a photo", "Take a photo of the garden.", NODES, CLOCK),
)
LONG = (
    _long("a sum", "What is 51 plus 19?", USUAL, works_out("51+19", "19+51")),
    _long("a file", "What does report.txt say?", USUAL, Wanted("read_file", {"path": ("report.txt", "./report.txt")})),
    _long("the time", "What time is it in Tokyo?", USUAL, Wanted("clock", {"place": "Tokyo"})),
    _long("weather", "How is the weather in Dublin?", HOUSE, Wanted("get_weather", {"city": "Dublin"})),
    _long("a timer", "Set a timer for 12 minutes.", HOUSE, Wanted("set_timer", {"minutes": 12})),
    _long("the machines", "Which machines are in the swarm?", USUAL, Wanted("list_nodes", {})),
    _long("words only", "What is the capital of Italy?", USUAL, says=("Rome",)),
    _long("a greeting", "Good morning!", HOUSE),
)
RESULT = (
    _result("a sum", "What is 12 plus 30?", (CALCULATOR, {"expression": "12+30"}), "42", "42"),
    _result("a wide sum", "What is 731 times 48?", (CALCULATOR, {"expression": "731*48"}), "35088", "35088", "35,088"),
    _result("a fraction", "What is 7 divided by 4?", (CALCULATOR, {"expression": "7/4"}), "1.75", "1.75"),
    _result("a file", "What does code.txt say?", (READ, {"path": "code.txt"}), "The code is heron.", "heron"),
    _result("a fact of a file", "Who wrote memo.txt?", (READ, {"path": "memo.txt"}), "Written by Ingrid.", "Ingrid"),
    _result("the time", "What time is it in Lisbon?", (CLOCK, {"place": "Lisbon"}), "16:45", "16:45", "4:45"),
    _result("weather", "How is the weather in Oslo?", (WEATHER, {"city": "Oslo"}), "-3 degrees, snow", "snow"),
    _result("machines", "Which machines are here?", (NODES, {}), "attic, cellar", "attic"),
    _result(
        "an error", "What does gone.txt say?", (READ, {"path": "gone.txt"}), "error: there is no such file",
        "no such file", "not exist", "doesn't exist", "not found", "no file", "not there", "couldn't find", "is no",
    ),
    _result(
        "JSON", "How is the weather in Cairo?", (WEATHER, {"city": "Cairo"}), '{"sky": "clear", "degrees": 31}', "31",
    ),
)  # fmt: skip
CASES = (*SINGLE, *PARALLEL, *NESTED, *NONE, *REFUSAL, *LONG, *RESULT)
