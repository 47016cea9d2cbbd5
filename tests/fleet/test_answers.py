"""The official `openai` client against real daemons: whole, split, streamed, sampled."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest

from mycoswarm.cli.fleet import Fleet

pytestmark = pytest.mark.slow

ASK = [{"role": "user", "content": "What is mycoSwarm?"}]
SPLIT = {"x-mycoswarm-route": "split; nodes=worker-1,worker-2"}
SOLO = {"x-mycoswarm-route": "solo; nodes=coordinator"}


@pytest.fixture(scope="module")
def client(fleet: Fleet) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=f"http://{fleet.console()}/v1", api_key=fleet.key("openai"), max_retries=0, timeout=60
    ) as made:
        yield made
    fleet.coordinator.call.ask("DELETE", "/api/keys/openai", {})


def test_the_models_are_listed(client: openai.OpenAI) -> None:
    assert "spore" in [model.id for model in client.models.list()]
    assert client.models.retrieve("spore").id == "spore"


@pytest.mark.parametrize("stream", [False, True])
def test_split_equals_whole_to_the_last_bit_of_every_logprob(client: openai.OpenAI, stream: bool) -> None:
    answers = []
    for headers in (SPLIT, SOLO):
        told = client.chat.completions.create(
            model="spore",
            messages=ASK,
            temperature=0,
            max_tokens=40,
            logprobs=True,
            top_logprobs=3,
            stream=stream,
            extra_headers=headers,
        )
        if stream:
            entries = [
                e
                for chunk in told
                if chunk.choices and chunk.choices[0].logprobs
                for e in chunk.choices[0].logprobs.content
            ]
        else:
            entries = told.choices[0].logprobs.content
        answers.append([(e.token, e.logprob, [(t.token, t.logprob) for t in e.top_logprobs]) for e in entries])
    assert answers[0] == answers[1] and len(answers[0]) > 3


def test_the_headers_say_which_machines_saw_the_prompt(client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model="spore", messages=ASK, max_tokens=3, extra_headers=SPLIT
    )
    assert set(raw.headers["x-mycoswarm-nodes"].split(",")) == {"worker-1", "worker-2"}
    assert raw.headers["x-mycoswarm-ran"] == "this-machine"
    assert raw.headers["x-mycoswarm-rule"]


def test_usage_counts_add_up_and_max_tokens_ends_with_length(client: openai.OpenAI) -> None:
    told = client.chat.completions.create(model="spore", messages=ASK, max_tokens=4, temperature=0)
    assert told.usage.completion_tokens == 4 and told.choices[0].finish_reason == "length"
    assert told.usage.total_tokens == told.usage.prompt_tokens + 4


def test_a_seed_makes_the_answer_repeat(client: openai.OpenAI) -> None:
    texts = {
        client.chat.completions.create(
            model="spore", messages=ASK, max_tokens=30, temperature=1.5, seed=7, extra_headers=SPLIT
        )
        .choices[0]
        .message.content
        for _ in range(2)
    }
    assert len(texts) == 1


def test_a_stop_string_ends_the_answer_and_is_not_part_of_it(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model="spore", messages=ASK, max_tokens=40, temperature=0)
    text = whole.choices[0].message.content
    stop = text[len(text) // 2 : len(text) // 2 + 3]
    cut = client.chat.completions.create(model="spore", messages=ASK, max_tokens=40, temperature=0, stop=stop)
    assert cut.choices[0].message.content == text[: text.index(stop)]
    assert cut.choices[0].finish_reason == "stop"


def test_a_json_schema_is_kept(client: openai.OpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {"yes": {"type": "boolean"}},
        "required": ["yes"],
        "additionalProperties": False,
    }
    told = client.chat.completions.create(
        model="spore",
        messages=ASK,
        max_tokens=60,
        temperature=0,
        response_format={"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}},
        extra_headers=SPLIT,
    )
    assert isinstance(json.loads(told.choices[0].message.content)["yes"], bool)


def test_text_completions_stream_and_do_not(client: openai.OpenAI) -> None:
    whole = client.completions.create(model="spore", prompt="1, 2, 3, 4,", max_tokens=12, temperature=0)
    parts = client.completions.create(model="spore", prompt="1, 2, 3, 4,", max_tokens=12, temperature=0, stream=True)
    assert "".join(part.choices[0].text for part in parts if part.choices) == whole.choices[0].text


def test_several_requests_at_once_each_get_their_own_answer(fleet: Fleet, client: openai.OpenAI) -> None:
    def ask(question: str) -> str:
        told = client.chat.completions.create(
            model="spore",
            messages=[{"role": "user", "content": question}],
            max_tokens=24,
            temperature=0,
            extra_headers=SPLIT,
        )
        return told.choices[0].message.content or ""

    questions = ["Hello!", "What is mycoSwarm?", "Count from 3 to 6.", "Who are you?"]
    alone = [ask(question) for question in questions]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(ask, questions))
    assert together == alone


def test_a_wrong_key_and_no_key_are_refused(fleet: Fleet) -> None:
    for key in ("msk-wrong", "x"):
        stranger = openai.OpenAI(base_url=f"http://{fleet.console()}/v1", api_key=key, max_retries=0)
        with stranger, pytest.raises(openai.AuthenticationError):
            stranger.models.list()


def test_an_unknown_model_is_named_with_those_there_are(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="gpt-9", messages=ASK)
    assert "gpt-9" in str(caught.value) and "spore" in str(caught.value.body)
