"""Samplers over the embedded model's vocabulary, with logits made up here."""

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import mycoswarm.catalog
from mycoswarm.base.errors import InputError, StageError
from mycoswarm.stage.llama import Model
from mycoswarm.stage.sampler import Sampler, token_logprob
from mycoswarm.stage.vocabulary import Vocabulary
from mycoswarm.wire.request import Sampling

SPORE = Path(mycoswarm.catalog.__file__).with_name("spore.gguf")
GREEDY = {"temperature": 0.0}


@pytest.fixture(scope="module")
def spore() -> Iterator[Vocabulary]:
    model = Model.load([SPORE], gpu=False)
    yield Vocabulary(model)
    model.close()


Make = Callable[..., Sampler]


@pytest.fixture
def make(spore: Vocabulary) -> Iterator[Make]:
    made: list[Sampler] = []

    def build(prompt: tuple[int, ...] = (), **settings_: Any) -> Sampler:
        made.append(Sampler(spore, Sampling(**settings_), prompt))
        return made[-1]

    yield build
    for sampler in made:
        sampler.close()


def make_row(spore: Vocabulary, seed: int = 0, **logits: float) -> NDArray[np.float32]:
    """Random logits around 0; `t5=3.0` sets token 5's."""
    row = np.random.default_rng(seed).standard_normal(spore.n_vocab).astype(np.float32)
    for name, value in logits.items():
        row[int(name[1:])] = value
    return row


def generate(sampler: Sampler, spore: Vocabulary, count: int, first: int = 0) -> list[int]:
    tokens = []
    for step in range(first, first + count):
        tokens.append(sampler.sample(make_row(spore, step)))
        sampler.accept(tokens[-1])
    return tokens


def test_temperature_zero_takes_the_likeliest_token(spore: Vocabulary, make: Make) -> None:
    sampler = make(temperature=0.0, top_k=5, top_p=0.5)
    assert sampler.sample(make_row(spore, t77=9.0)) == 77


def test_a_temperature_too_small_to_divide_by_is_greedy(spore: Vocabulary, make: Make) -> None:
    row = make_row(spore, t77=9.0, t78=8.9)
    assert {make(temperature=1e-30, seed=seed).sample(row) for seed in range(20)} == {77}


def test_the_same_seed_gives_the_same_tokens_and_another_seed_others(spore: Vocabulary, make: Make) -> None:
    first = generate(make(seed=7), spore, 40)
    assert generate(make(seed=7), spore, 40) == first
    assert generate(make(seed=8), spore, 40) != first


def test_a_drawn_seed_is_told_and_repeats_the_answer(spore: Vocabulary, make: Make) -> None:
    one = make()
    assert generate(make(seed=one.seed), spore, 20) == generate(one, spore, 20)


@pytest.mark.parametrize("seed", [0, 2**32 - 1, 2**32, 2**63 - 1, -5])
def test_any_seed_is_taken_and_repeats(spore: Vocabulary, make: Make, seed: int) -> None:
    assert generate(make(seed=seed), spore, 10) == generate(make(seed=seed), spore, 10)


@pytest.mark.parametrize("settings_", [{}, {"repeat_penalty": 1.5}, {"frequency_penalty": 1.0}, {"top_k": 40}, GREEDY])
def test_an_answer_carried_on_elsewhere_goes_on_as_it_would_have(
    spore: Vocabulary, make: Make, settings_: dict[str, float]
) -> None:
    prompt = (3, 4, 5)
    whole = generate(make(prompt, seed=7, **settings_), spore, 30)
    second = make(prompt, seed=7, **settings_)
    second.resume(whole[:12])
    assert generate(second, spore, 18, first=12) == whole[12:]


def test_draws_follow_the_models_distribution(spore: Vocabulary, make: Make) -> None:
    row = np.full(spore.n_vocab, -100, np.float32)
    row[[5, 6]] = np.log([0.75, 0.25])
    sampler = make(seed=1)
    counts = Counter(sampler.sample(row) for _ in range(2000))
    assert set(counts) == {5, 6}
    assert abs(counts[5] / 2000 - 0.75) < 0.05


@pytest.mark.parametrize(
    ("settings_", "allowed"),
    [
        ({"top_k": 2}, {5, 6}),
        ({"top_p": 0.6}, {5, 6}),
        ({"top_p": 0.0}, {5}),
        ({"min_p": 0.5}, {5, 6}),
        ({"min_p": 1.0}, {5}),
        ({"top_k": 1}, {5}),
        ({}, {5, 6, 7, 8}),
    ],
)
def test_truncation_keeps_the_likeliest_and_at_least_one(
    spore: Vocabulary, make: Make, settings_: dict[str, float], allowed: set[int]
) -> None:
    row = np.full(spore.n_vocab, -100, np.float32)
    row[[5, 6, 7, 8]] = np.log([0.4, 0.3, 0.15, 0.15])
    sampler = make(seed=3, **settings_)
    assert {sampler.sample(row) for _ in range(300)} == allowed


def test_truncation_looks_at_the_distribution_before_temperature(spore: Vocabulary, make: Make) -> None:
    row = np.full(spore.n_vocab, -100, np.float32)
    row[[5, 6]] = np.log([0.9, 0.1])
    sampler = make(seed=3, temperature=50.0, top_p=0.8)
    assert {sampler.sample(row) for _ in range(100)} == {5}


def test_logit_bias_bans_and_forces(spore: Vocabulary, make: Make) -> None:
    row = make_row(spore, t77=9.0)
    assert make(**GREEDY, logit_bias={77: -100.0}).sample(row) != 77
    assert make(**GREEDY, logit_bias={12: 100.0}).sample(row) == 12


def test_presence_and_frequency_count_what_was_generated_and_never_the_prompt(spore: Vocabulary, make: Make) -> None:
    row = make_row(spore, t77=9.0, t78=8.0)
    for settings_ in ({"presence_penalty": 1.5}, {"frequency_penalty": 1.5}):
        sampler = make((77, 77, 77), **GREEDY, **settings_)
        assert sampler.sample(row) == 77
        sampler.accept(77)
        assert sampler.sample(row) == 78


def test_frequency_grows_with_each_time_and_presence_does_not(spore: Vocabulary, make: Make) -> None:
    row = make_row(spore, t77=9.0, t78=6.0)
    frequent, present = make(**GREEDY, frequency_penalty=1.0), make(**GREEDY, presence_penalty=1.0)
    for _ in range(4):
        frequent.accept(77)
        present.accept(77)
    assert frequent.sample(row) == 78
    assert present.sample(row) == 77


def test_frequency_counts_the_whole_answer_and_repeat_the_last_64_tokens(spore: Vocabulary, make: Make) -> None:
    row = make_row(spore, t77=9.0, t78=8.9)
    frequent, repeated = make(**GREEDY, frequency_penalty=1.0), make(**GREEDY, repeat_penalty=2.0)
    for sampler in (frequent, repeated):
        sampler.accept(77)
        assert sampler.sample(row) == 78
        for _ in range(64):
            sampler.accept(3)
    assert frequent.sample(row) == 78
    assert repeated.sample(row) == 77


def test_the_repeat_penalty_counts_the_prompts_end(spore: Vocabulary, make: Make) -> None:
    row = make_row(spore, t77=9.0, t78=8.9)
    assert make((77,), **GREEDY, repeat_penalty=2.0).sample(row) == 78
    assert make((77, *[3] * 64), **GREEDY, repeat_penalty=2.0).sample(row) == 77


SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 5}, "age": {"type": "integer", "minimum": 0, "maximum": 99}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


def write_json(sampler: Sampler, spore: Vocabulary, limit: int = 400) -> str:
    """Random logits under a grammar, the end token likely as soon as it is allowed."""
    text, end = b"", spore.eos_id
    for step in range(limit):
        row = make_row(spore, step)
        row[end] = 20
        token = sampler.sample(row)
        sampler.accept(token)
        if spore.is_end(token):
            return text.decode("utf-8", "replace")  # random logits: llama.cpp's grammars take broken UTF-8
        text += spore.token_bytes(token)
    raise AssertionError(f"no end within {limit} tokens: {text!r}")


@pytest.mark.parametrize("seed", range(3))
def test_a_schema_gives_an_object_that_keeps_it(spore: Vocabulary, make: Make, seed: int) -> None:
    found = json.loads(write_json(make(seed=seed, json_schema=SCHEMA), spore))
    assert set(found) == {"name", "age"}
    assert isinstance(found["name"], str) and len(found["name"]) <= 5
    assert 0 <= found["age"] <= 99


def test_an_empty_schema_gives_any_object(spore: Vocabulary, make: Make) -> None:
    row = np.zeros(spore.n_vocab, np.float32)
    sampler = make(**GREEDY, json_schema={})
    text = b""
    for wanted in '{"a": [1, true]}':
        row[:] = 0
        row[spore.tokenize(wanted, special=False)[0]] = 9
        token = sampler.sample(row)
        sampler.accept(token)
        text += spore.token_bytes(token)
    assert json.loads(text) == {"a": [1, True]}
    row[spore.eos_id] = 99
    assert sampler.sample(row) == spore.eos_id


def test_the_end_token_is_not_let_through_before_the_object_ends(spore: Vocabulary, make: Make) -> None:
    row = make_row(spore)
    row[spore.eos_id] = 99
    sampler = make(**GREEDY, json_schema={})
    assert sampler.sample(row) != spore.eos_id


def test_a_token_that_the_grammar_forbids_is_a_typed_error_and_no_crash(spore: Vocabulary, make: Make) -> None:
    sampler = make(**GREEDY, json_schema={})
    for token in (spore.tokenize("z", special=False)[0], spore.eos_id, spore.bos_id):
        assert token is not None
        with pytest.raises(InputError) as caught:
            sampler.accept(token)
        assert caught.value.code == "grammar_mismatch"
    assert spore.token_bytes(sampler.sample(make_row(spore))).lstrip().startswith((b"{", b""))


def test_a_grammar_that_lets_nothing_through_is_a_typed_error(spore: Vocabulary, make: Make) -> None:
    sampler = make(**GREEDY, json_schema={"const": 1})
    for token in spore.tokenize("1", special=False):
        sampler.accept(token)
    row = make_row(spore)
    row[:] = -np.inf
    row[5] = 1.0
    sampler = make(**GREEDY, json_schema={"const": 1})
    with pytest.raises(StageError) as caught:
        sampler.sample(row)
    assert caught.value.code == "grammar_stuck"


def test_an_answer_under_a_grammar_can_be_carried_on(spore: Vocabulary, make: Make) -> None:
    sampler = make(seed=1, json_schema=SCHEMA)
    head = spore.tokenize('{"name":', special=False)
    sampler.resume(head)
    assert "name" in json.loads('{"name":' + write_json(sampler, spore))


def test_a_schema_that_cannot_be_used_is_an_input_error(make: Make) -> None:
    with pytest.raises(InputError, match="JSON schema"):
        make(json_schema={"type": "no such type"})


@pytest.mark.parametrize(
    "settings_",
    [
        {"temperature": -1.0},
        {"temperature": math.nan},
        {"temperature": math.inf},
        {"top_p": 1.5},
        {"min_p": -0.1},
        {"repeat_penalty": 0.0},
        {"frequency_penalty": math.inf},
        {"top_k": 2**40},
        {"logit_bias": {-1: 1.0}},
        {"logit_bias": {10**6: 1.0}},
        {"logit_bias": {1: math.nan}},
    ],
)
def test_values_out_of_range_are_input_errors(make: Make, settings_: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        make(**settings_)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_logits_that_are_no_numbers_are_an_error_and_no_token(spore: Vocabulary, make: Make, value: float) -> None:
    with pytest.raises(StageError, match="not numbers"):
        make().sample(make_row(spore, t5=value))


def test_a_row_of_another_width_is_an_error(make: Make) -> None:
    with pytest.raises(StageError):
        make().sample(np.zeros(3, np.float32))


def test_a_token_that_does_not_exist_cannot_be_accepted(spore: Vocabulary, make: Make) -> None:
    for token in (-1, spore.n_vocab):
        with pytest.raises(InputError):
            make().accept(token)


@given(seed=st.integers(0, 2**31), top=st.integers(0, 20))
@settings(deadline=None, max_examples=30)
def test_log_probabilities_are_the_models_own(spore: Vocabulary, seed: int, top: int) -> None:
    row = make_row(spore, seed) * 3
    found = token_logprob(spore, row, 9, top)
    every = row.astype(np.float64) - math.log(sum(math.exp(float(value)) for value in row))
    assert found.token_id == 9
    assert found.token == spore.token_bytes(9)
    assert found.logprob == pytest.approx(every[9], abs=1e-6)
    assert [entry.token_id for entry in found.top] == [int(i) for i in np.argsort(-every, kind="stable")[:top]]
    assert [entry.logprob for entry in found.top] == pytest.approx(sorted(every, reverse=True)[:top], abs=1e-6)


def test_equal_logits_give_the_lower_ids_first_and_the_asked_number(spore: Vocabulary) -> None:
    found = token_logprob(spore, np.zeros(spore.n_vocab, np.float32), 5, 3)
    assert [entry.token_id for entry in found.top] == [0, 1, 2]
