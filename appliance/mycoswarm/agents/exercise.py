"""The cases of the exam in which a model has to call: one tool, several at once, nested arguments. Data only."""

from typing import Any

from mycoswarm.agents.exam import Case, Wanted
from mycoswarm.wire.tool import ToolSpec

TEXT = {"type": "string"}
NUMBER = {"type": "number"}
SYSTEM = "You are a helper. Use a tool where one is needed, and answer in words where none is."


def tool(name: str, description: str, needed: dict[str, Any], more: dict[str, Any] | None = None) -> ToolSpec:
    """A tool with these parameters; those of `more` may be left out."""
    shape = {"type": "object", "properties": {**needed, **(more or {})}, "required": list(needed)}
    return ToolSpec(name, description, shape)


def _group(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


CALCULATOR = tool("calculator", "Work out an arithmetic expression.", {"expression": TEXT})
WEATHER = tool("get_weather", "The weather in a city now.", {"city": TEXT})
READ = tool("read_file", "Read a text file.", {"path": TEXT})
CLOCK = tool("clock", "The date and the time in a place.", {"place": TEXT})
NODES = tool("list_nodes", "List the machines of the swarm.", {})
TIMER = tool("set_timer", "Start a timer.", {"minutes": NUMBER})
LIGHT = tool("set_light", "Switch the light of a room on or off.", {"room": TEXT, "on": {"type": "boolean"}})
MESSAGE = tool("send_message", "Send a message to a person.", {"to": TEXT, "text": TEXT})
CONVERT = tool(
    "convert_currency", "Convert money; currencies as ISO codes.", {"amount": NUMBER, "from": TEXT, "to": TEXT}
)
USUAL = (CALCULATOR, READ, CLOCK, NODES)
HOUSE = (WEATHER, TIMER, LIGHT, MESSAGE, CONVERT)

_PLACE = _group(city=TEXT, country=TEXT)
_TRIP = tool("plan_trip", "Plan a trip between two cities.", {"start": _PLACE, "end": _PLACE, "travellers": NUMBER})
_ITEM = _group(name=TEXT, count=NUMBER)
_ORDER = tool("place_order", "Order things.", {"customer": TEXT, "items": {"type": "array", "items": _ITEM}})
_USER = _group(name=TEXT, address=_group(street=TEXT, city=TEXT))
_ENTER = tool("add_user", "Add a user to the address book.", {"user": _USER})
_WHEN = _group(date=TEXT, time=TEXT)
_PEOPLE = {"type": "array", "items": TEXT}
_EVENT = tool("create_event", "Put an event into the calendar.", {"title": TEXT, "when": _WHEN, "people": _PEOPLE})


def asked(text: str, system: str = SYSTEM) -> tuple[dict[str, Any], ...]:
    """The beginning of a talk."""
    return ({"role": "system", "content": system}, {"role": "user", "content": text})


def _case(kind: str, name: str, text: str, tools: tuple[ToolSpec, ...], *calls: Wanted) -> Case:
    return Case(name=name, kind=kind, messages=asked(text), tools=tools, calls=calls)


def works_out(*expressions: str) -> Wanted:
    """A call of the calculator; any of these expressions is right."""
    return Wanted("calculator", {"expression": expressions})


def _product(a: int, b: int) -> Wanted:
    return works_out(*(form for one, two in ((a, b), (b, a)) for form in (f"{one}*{two}", f"{one}×{two}")))


def _sum(a: int, b: int) -> Wanted:
    return works_out(f"{a}+{b}", f"{b}+{a}")


def _weather(city: str) -> Wanted:
    return Wanted("get_weather", {"city": city})


def _read(path: str) -> Wanted:
    return Wanted("read_file", {"path": (path, f"./{path}")})


def _light(room: str, *, on: bool) -> Wanted:
    return Wanted("set_light", {"room": (room, f"the {room}"), "on": on})


def _timer(minutes: int) -> Wanted:
    return Wanted("set_timer", {"minutes": minutes})


def _convert(amount: float, source: str, target: str) -> Wanted:
    return Wanted("convert_currency", {"amount": amount, "from": source, "to": target})


def _trip(start: tuple[str, str], end: tuple[str, str], travellers: int) -> Wanted:
    places = [{"city": city, "country": country} for city, country in (start, end)]
    return Wanted("plan_trip", {"start": places[0], "end": places[1], "travellers": travellers})


def _order(customer: str, *items: tuple[str, int]) -> Wanted:
    listed = [{"name": (name, name.removesuffix("s")), "count": count} for name, count in items]
    return Wanted("place_order", {"customer": customer, "items": listed})


def _user(name: str, street: str, city: str) -> Wanted:
    return Wanted("add_user", {"user": {"name": name, "address": {"street": street, "city": city}}})


def _event(title: str, date: str, time: str, *people: str) -> Wanted:
    return Wanted("create_event", {"title": title, "when": {"date": date, "time": time}, "people": list(people)})


SINGLE = (
    _case("single", "a sum", "What is 12 plus 30?", USUAL, _sum(12, 30)),
    _case("single", "a large product", "What is 4817 times 236?", USUAL, _product(4817, 236)),
    _case("single", "a file", "What does notes.txt say?", USUAL, _read("notes.txt")),
    _case("single", "a file in a folder", "Read the file plans/garden.md.", USUAL, _read("plans/garden.md")),
    _case("single", "the time", "What time is it in Lisbon?", USUAL, Wanted("clock", {"place": "Lisbon"})),
    _case("single", "no arguments", "Which machines are in the swarm?", USUAL, Wanted("list_nodes", {})),
    _case("single", "weather", "How is the weather in Oslo?", HOUSE, _weather("Oslo")),
    _case("single", "a number", "Set a timer for 25 minutes.", HOUSE, _timer(25)),
    _case("single", "hours as minutes", "Set a timer for one and a half hours.", HOUSE, _timer(90)),
    _case("single", "true", "Switch the light in the kitchen on.", HOUSE, _light("kitchen", on=True)),
    _case("single", "false", "Switch the light in the bedroom off.", HOUSE, _light("bedroom", on=False)),
    _case("single", "three", "Convert 49.5 EUR to JPY.", HOUSE, _convert(49.5, "EUR", "JPY")),
    _case(
        "single",
        "a text to hand on",
        "Send Ana exactly this message: The train is late.",
        HOUSE,
        Wanted("send_message", {"to": "Ana", "text": ("The train is late.", "The train is late")}),
    ),
)
_CITIES = "What is the weather in Paris and in Rome?"
_THREE = "Compare the weather in Kyiv, Cairo and Lima."
_ROOMS = "Switch the light in the kitchen on and the one in the hall off."
PARALLEL = (
    _case("parallel", "two cities", _CITIES, HOUSE, _weather("Paris"), _weather("Rome")),
    _case("parallel", "three cities", _THREE, HOUSE, _weather("Kyiv"), _weather("Cairo"), _weather("Lima")),
    _case("parallel", "two rooms", _ROOMS, HOUSE, _light("kitchen", on=True), _light("hall", on=False)),
    _case("parallel", "two sums", "What is 17 plus 5, and what is 6 times 7?", USUAL, _sum(17, 5), _product(6, 7)),
    _case("parallel", "two files", "Read a.txt and b.txt.", USUAL, _read("a.txt"), _read("b.txt")),
    _case("parallel", "two timers", "Set two timers: 3 minutes and 10 minutes.", HOUSE, _timer(3), _timer(10)),
    _case("parallel", "two tools", "Read todo.txt, and work out 8 times 9.", USUAL, _read("todo.txt"), _product(8, 9)),
    _case(
        "parallel", "weather and a timer", "How is the weather in Bern? And start a timer for 4 minutes.",
        HOUSE, _weather("Bern"), _timer(4),
    ),
    _case(
        "parallel", "two amounts", "Convert 10 USD to EUR and 20 GBP to CHF.",
        HOUSE, _convert(10, "USD", "EUR"), _convert(20, "GBP", "CHF"),
    ),
)  # fmt: skip
_NESTED_TOOLS = (_TRIP, _ORDER, _ENTER, _EVENT)
NESTED = (
    _case(
        "nested", "two places", "Plan a trip from Porto, Portugal to Lyon, France for 2 travellers.",
        _NESTED_TOOLS, _trip(("Porto", "Portugal"), ("Lyon", "France"), 2),
    ),
    _case(
        "nested", "two far places", "We are 5 travellers. Plan our trip from Quito, Ecuador to Osaka, Japan.",
        _NESTED_TOOLS, _trip(("Quito", "Ecuador"), ("Osaka", "Japan"), 5),
    ),
    _case(
        "nested", "a list of one", "Order 3 lamps for the customer Mira.",
        _NESTED_TOOLS, _order("Mira", ("lamps", 3)),
    ),
    _case(
        "nested", "a list of two", "Order 2 chairs and 1 table for the customer Jonas, in this order.",
        _NESTED_TOOLS, _order("Jonas", ("chairs", 2), ("table", 1)),
    ),
    _case(
        "nested", "a list of three", "The customer Lena orders 4 pens, 2 books and 7 folders, in this order.",
        _NESTED_TOOLS, _order("Lena", ("pens", 4), ("books", 2), ("folders", 7)),
    ),
    _case(
        "nested", "two levels", "Add the user Tom Reed. He lives in the street Mill Lane 4, in Bath.",
        _NESTED_TOOLS, _user("Tom Reed", "Mill Lane 4", "Bath"),
    ),
    _case(
        "nested", "letters beyond ASCII", "Add the user Zoë Müller. She lives in the street Blumenweg 9, in Köln.",
        _NESTED_TOOLS, _user("Zoë Müller", "Blumenweg 9", "Köln"),
    ),
    _case(
        "nested", "a date and people",
        'Put the event "Review" into the calendar: date 2027-03-14, time 09:30, people Ana and Ben.',
        _NESTED_TOOLS, _event("Review", "2027-03-14", "09:30", "Ana", "Ben"),
    ),
    _case(
        "nested", "one of the people",
        'Put the event "Lunch" into the calendar: date 2027-05-02, time 12:00, people Kim.',
        _NESTED_TOOLS, _event("Lunch", "2027-05-02", "12:00", "Kim"),
    ),
)  # fmt: skip
