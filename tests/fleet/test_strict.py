"""Models with a poor certificate over real daemons: the calls that they begin keep the tools' schemas, on one node and
on several; others write as they like."""

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from mycoswarm.agents.exam import VERSION
from mycoswarm.cli.fleet import Fleet
from mycoswarm.store.database import Store
from mycoswarm.store.diploma import Diploma, Diplomas

pytestmark = pytest.mark.slow

ROUTES = ("solo; nodes=coordinator", "split; nodes=worker-1,worker-2")
LEVEL = {"type": "integer", "minimum": 0, "maximum": 100}
PROPERTIES = {"room": {"type": "string", "enum": ["hall", "attic"]}, "level": LEVEL}
SCHEMA = {"type": "object", "properties": PROPERTIES, "required": ["room", "level"]}
LAMP = {"type": "function", "function": {"name": "set_lamp", "description": "Sets a lamp.", "parameters": SCHEMA}}
QUESTION = {"role": "user", "content": "Set the lamp in the hall to 40."}


@pytest.fixture
def client(own_fleet: Fleet) -> Iterator[openai.OpenAI]:
    base = f"http://{own_fleet.console()}/v1"
    with openai.OpenAI(base_url=base, api_key=own_fleet.key("tools"), max_retries=0, timeout=60) as made:
        yield made


def certify(fleet: Fleet, percent: int) -> None:
    """Keep this result, as the examiner does."""
    (spore,) = fleet.coordinator.call.ask("GET", "/api/models")["models"]
    store = Store(fleet.coordinator.folder / "node.db")
    Diplomas(store).keep(
        Diploma(
            subject=spore["digest"],
            model="spore",
            at=1.0,
            version=VERSION,
            percent=percent,
            correct=percent,
            cases=100,
            kinds={"single": (percent, 100)},
        )
    )
    store.close()


def ask(client: openai.OpenAI, seed: int, route: str = ROUTES[0]) -> tuple[str, list[dict[str, Any]]]:
    """What spore says when it is hot: its text, and the arguments of its calls."""
    choice = client.chat.completions.create(
        model="spore",
        messages=[QUESTION],  # type: ignore[list-item]  # plain JSON, as it goes out
        tools=[LAMP],  # type: ignore[list-item]  # as above
        temperature=1.5,
        seed=seed,
        max_tokens=150,
        extra_headers={"x-mycoswarm-route": route},
    ).choices[0]
    calls = choice.message.tool_calls or ()
    return choice.message.content or "", [json.loads(call.function.arguments) for call in calls]  # type: ignore[union-attr]  # functions only


def test_a_call_that_would_break_is_whole_where_the_certificate_is_poor(
    own_fleet: Fleet, client: openai.OpenAI
) -> None:
    free = {seed: ask(client, seed) for seed in range(40)}
    broken = [seed for seed, (text, _) in free.items() if "<tool_call>" in text]
    texts = [seed for seed, (text, calls) in free.items() if "<tool_call>" not in text and not calls][:2]
    assert broken and texts
    certify(own_fleet, 40)
    for seed in broken[:3]:
        held = [ask(client, seed, route) for route in ROUTES]
        assert held[0] == held[1]
        text, calls = held[0]
        assert calls and "<tool_call>" not in text
        for call in calls:
            assert set(call) == {"room", "level"} and call["room"] in ("hall", "attic") and call["level"] in range(101)
    assert [ask(client, seed) for seed in texts] == [free[seed] for seed in texts]
    certify(own_fleet, 95)
    assert [ask(client, seed) for seed in broken[:3]] == [free[seed] for seed in broken[:3]]
