"""What an endpoint is relied on for: our fake of one and a real one (a daemon of ours) keep the same contract."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from endpoints import ASK, Doorkeeper, events, mimic, passage, scripted, text_of
from mycoswarm.base.errors import EndpointError
from mycoswarm.cli.fleet import Fleet
from mycoswarm.external.errand import Reached, models_of, relay
from mycoswarm.external.target import Limits, Passage, Target
from mycoswarm.wire.report import Finished, Piece
from mycoswarm.wire.request import Prompt, Sampling

GREEDY = Sampling(temperature=0, max_tokens=3)


@pytest.fixture(scope="module")
def daemon() -> Iterator[Target]:
    """A daemon of ours, alone, as an endpoint."""
    with Fleet(workers=0) as fleet:
        url = f"http://{fleet.console()}/v1"
        fleet.coordinator.call.ask("POST", "/api/init", {"name": "rack"})
        fleet.wait_ready()
        yield Target(name="rack", url=url, place="this-machine", model="spore", secret=fleet.key())


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.slow)])
def kind(request: pytest.FixtureRequest) -> Any:
    """A way to have the endpoint while a block runs."""
    real = request.getfixturevalue("daemon") if request.param == "real" else None

    @asynccontextmanager
    async def standing() -> AsyncIterator[Target]:
        if real is not None:
            yield real
            return
        async with scripted(mimic) as server:
            yield server.target()

    return standing


def means() -> Passage:
    return passage(Limits(head_s=60), permit=Doorkeeper())


def told_by(
    kind: Any, sampling: Sampling = GREEDY, prompt: Prompt = ASK, **more: Any
) -> list[Reached | Piece | Finished]:
    async def main() -> list[Reached | Piece | Finished]:
        async with kind() as target:
            return await events(replace(target, **more), means(), sampling, prompt)

    return asyncio.run(main())


def test_its_models_are_listed(kind: Any) -> None:
    async def main() -> None:
        async with kind() as target:
            assert await models_of(target, means()) == ("spore",)

    asyncio.run(main())


@pytest.mark.parametrize("prompt", [ASK, Prompt(text="1, 2, 3,")])
def test_it_says_where_it_is_then_the_text_then_the_counts(kind: Any, prompt: Prompt) -> None:
    told = told_by(kind, prompt=prompt)
    assert isinstance(told[0], Reached) and told[0].place == "this-machine" and isinstance(told[-1], Finished)
    pieces = told[1:-1]
    assert text_of(told) and all(isinstance(p, Piece) and not p.token_ids for p in pieces)
    assert (told[-1].reason, told[-1].completion_tokens) == ("length", 3) and told[-1].prompt_tokens > 0


def test_an_answer_that_ends_by_itself_stops(kind: Any) -> None:
    told = told_by(kind, Sampling(temperature=0, max_tokens=400))
    assert isinstance(told[-1], Finished) and told[-1].reason == "stop"


@pytest.mark.parametrize("prompt", [ASK, Prompt(text="1, 2, 3,")])
@pytest.mark.parametrize("top", [None, 0, 3])
def test_log_probabilities_come_as_they_were_asked_for(kind: Any, prompt: Prompt, top: int | None) -> None:
    told = told_by(kind, Sampling(temperature=0, max_tokens=3, top_logprobs=top), prompt)
    entries = [entry for each in told if isinstance(each, Piece) for entry in each.logprobs or ()]
    if top is None:
        assert not entries
        return
    assert len(entries) == 3 and b"".join(entry.token for entry in entries).decode("utf-8", "ignore") == text_of(told)
    assert all(entry.logprob <= 0 and len(entry.top) == top for entry in entries)


def test_a_stop_string_ends_the_answer(kind: Any) -> None:
    whole = text_of(told_by(kind, Sampling(temperature=0, max_tokens=30)))
    stop = whole.split()[2]
    told = told_by(kind, Sampling(temperature=0, max_tokens=30, stop=(stop,)))
    assert text_of(told).rstrip() == whole[: whole.index(stop)].rstrip()
    assert isinstance(told[-1], Finished) and told[-1].reason == "stop"


@pytest.mark.parametrize(
    ("sampling", "more", "code", "words"),
    [
        (GREEDY, {"secret": "msk-wrong"}, "endpoint_refused_key", "key"),
        (GREEDY, {"secret": None}, "endpoint_refused_key", "key"),
        (GREEDY, {"model": "gpt-9"}, "endpoint_model_not_found", "gpt-9"),
        (Sampling(temperature=9), {}, "endpoint_failed", "temperature"),
    ],
)
def test_what_it_refuses_is_typed_and_says_why(
    kind: Any, sampling: Sampling, more: dict[str, Any], code: str, words: str
) -> None:
    with pytest.raises(EndpointError) as caught:
        told_by(kind, sampling, **more)
    assert caught.value.code == code and words in caught.value.message


def test_leaving_in_the_middle_leaves_it_ready_for_the_next(kind: Any) -> None:
    async def main() -> None:
        async with kind() as target:
            going = relay(target, ASK, Sampling(max_tokens=400), request_id="r1", passage=means())
            async with aclosing(going) as told:
                async for each in told:
                    if isinstance(each, Piece):
                        break
            assert text_of(await events(target, means(), GREEDY))

    asyncio.run(main())
