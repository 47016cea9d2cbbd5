"""Calls that a model begins by itself: where they open in the bytes of tokens, and what llama.cpp lets through then."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import mycoswarm.catalog
from mycoswarm.base.errors import InputError
from mycoswarm.stage.llama import Model
from mycoswarm.stage.opening import Lookout
from mycoswarm.stage.sampler import Sampler
from mycoswarm.stage.vocabulary import Vocabulary
from mycoswarm.wire.dialect import DIALECTS, Dialect
from mycoswarm.wire.request import CallForm, CallTool, CallWay, Prompt, Sampling
from mycoswarm.wire.tool import ToolChoice, ToolSpec, tool_json

SPORE = Path(mycoswarm.catalog.__file__).with_name("spore.gguf")
ADD = ToolSpec("add", "", {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]})
PROMPT = Prompt(messages=(), tools=(tool_json(ADD),))
STRICT = ToolChoice(is_strict=True)
WAYS = [pytest.param(dialect, way, id=f"{dialect.name} {way.opening}") for dialect in DIALECTS for way in dialect.ways]


@pytest.fixture(scope="module")
def spore() -> Iterator[Vocabulary]:
    model = Model.load([SPORE], gpu=False)
    yield Vocabulary(model)
    model.close()


def form_of(dialect: Dialect) -> CallForm:
    form = dialect.form(PROMPT, STRICT)
    assert form is not None and form.is_free
    return form


def call(way: CallWay, value: str = "5") -> str:
    member = "".join([*(text.replace("KEY", "a") for text in way.member[:-1]), value, *way.member[-1:]])
    before = [text.replace("NAME", "add") for text in way.before]
    arguments = member if way.member else f'{{"a": {value}}}'
    return "".join([way.opening, *way.first, *before, arguments, *way.after, *way.last])


def opened_at(form: CallForm, pieces: list[bytes]) -> tuple[str, int] | None:
    """Which opening is found, and how many bytes lie before its end."""
    lookout, passed = Lookout(form), 0
    for piece in pieces:
        if (opened := lookout.look(piece)) is not None:
            return opened.way.opening, passed + opened.n_bytes
        lookout.pass_over(piece)
        passed += len(piece)
    return None


@pytest.mark.parametrize(("dialect", "way"), WAYS)
def test_an_opening_is_found_at_its_end_however_tokens_are_cut(dialect: Dialect, way: CallWay) -> None:
    before = " \n" if way.is_start else "Well, <tool, [TOOL or <| then: "
    data, form = (before + call(way)).encode(), form_of(dialect)
    expected = way.opening, len((before + way.opening).encode())
    assert opened_at(form, [data]) == expected
    assert opened_at(form, [bytes([byte]) for byte in data]) == expected
    for at in range(1, len(data)):
        assert opened_at(form, [data[:at], data[at:]]) == expected


@given(
    st.lists(st.sampled_from(["<tool", "_call>", "{", '"', " ", "[", "to=functions.", "<|", "é", "```json\n"])),
    st.data(),
)
def test_cuts_change_nothing_of_what_is_found(some: list[str], data: st.DataObject) -> None:
    text = "".join(some).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    pieces = [text[a:b] for a, b in pairwise([0, *cuts, len(text)])]
    for dialect in DIALECTS:
        form = form_of(dialect)
        assert opened_at(form, pieces) == opened_at(form, [bytes([byte]) for byte in text])


def test_text_that_only_resembles_an_opening_opens_nothing() -> None:
    plain, hermes = (next(one for one in DIALECTS if one.name == name) for name in ("plain", "hermes"))
    assert opened_at(form_of(plain), [b"So: ", b'{"name": "add"}']) is None
    assert opened_at(form_of(plain), [b"[1] ", b"{"]) is None
    assert opened_at(form_of(hermes), [b"<tool_", b"<tool_", b"call"]) is None


def tokens_of(spore: Vocabulary, *parts: str) -> list[int]:
    """Tokens of these parts, of which none crosses a border."""
    return [token for part in parts for token in spore.tokenize(part, special=False)]


def refusal(spore: Vocabulary, form: CallForm, tokens: list[int]) -> int | None:
    """Which of these tokens is the first that is not let through."""
    sampler = Sampler(spore, Sampling(call_form=form))
    try:
        for number, token in enumerate(tokens):
            try:
                sampler.accept(token)
            except InputError as exc:
                assert exc.code == "grammar_mismatch"
                return number
    finally:
        sampler.close()
    return None


@pytest.mark.slow
@pytest.mark.parametrize(("dialect", "way"), WAYS)
def test_a_call_passes_and_a_wrong_one_does_not_however_tokens_are_cut(
    spore: Vocabulary, dialect: Dialect, way: CallWay
) -> None:
    form, end = form_of(dialect), spore.end_id
    before = "" if way.is_start else "Let me see, {}: "
    text, wrong = before + call(way), before + call(way, "5x")
    assert end is not None
    later = [] if way.is_last else tokens_of(spore, " Then <b>{text}</b>.") + tokens_of(spore, call(way))
    for at in range(1, len(text)):
        tokens = tokens_of(spore, text[:at], text[at:])
        assert refusal(spore, form, [*tokens, *later, end]) is None
        tokens = tokens_of(spore, wrong[:at], wrong[at:])
        stopped = refusal(spore, form, [*tokens, end])
        assert stopped is not None
        said = b"".join(spore.token_bytes(token) for token in tokens[: stopped + 1]).decode()
        assert len(before + way.opening) < len(said) and said.endswith(
            ("x", "x}", "x<", 'x"', 'x"}', "x\n", "x</", "x}}")
        )
    assert (refusal(spore, form, [*tokens_of(spore, text), *tokens_of(spore, " Then"), end]) is None) != way.is_last


def test_where_a_call_is_not_begun_no_token_is_refused(spore: Vocabulary) -> None:
    form = form_of(next(one for one in DIALECTS if one.name == "hermes"))
    assert refusal(spore, form, list(range(0, spore.n_vocab, 7))) is None


def favouring(spore: Vocabulary, *tokens: int) -> NDArray[np.float32]:
    """Logits of a row, the first of these tokens likeliest; all others are as good as impossible."""
    row = np.full(spore.n_vocab, -50, np.float32)
    for rank, token in enumerate(tokens):
        row[token] = 50 - 10 * rank
    return row


def crossing(spore: Vocabulary) -> tuple[CallForm, int, int, int]:
    """A form behind "{" at the start, a token with that and more that does not fit, one that fits, and one of text."""
    (brace_and_more,) = spore.tokenize('{"', special=False)
    (brace,) = spore.tokenize("{", special=False)
    (text,) = spore.tokenize("Hello", special=False)[:1]
    way = CallWay(opening="{", is_start=True, is_last=True, before=("5",))
    return CallForm(tools=(CallTool(name="add", schema=ADD.parameters),), ways=(way,)), brace_and_more, brace, text


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_token_that_crosses_an_opening_and_does_not_fit_is_not_chosen(spore: Vocabulary, temperature: float) -> None:
    form, misfit, brace, text = crossing(spore)
    sampler = Sampler(spore, Sampling(call_form=form, temperature=temperature, seed=3))
    assert sampler.sample(favouring(spore, misfit, text, brace)) == brace
    assert sampler.sample(favouring(spore, text, misfit)) == text
    sampler.accept(text)
    assert sampler.sample(favouring(spore, misfit)) == misfit  # no start of an answer any more
    sampler.close()
    free = Sampler(spore, Sampling(temperature=temperature, seed=3))
    assert free.sample(favouring(spore, misfit, text, brace)) == misfit
    free.close()


def test_an_answer_goes_on_elsewhere_as_it_would_have_here(spore: Vocabulary) -> None:
    form = form_of(next(one for one in DIALECTS if one.name == "plain"))
    rng = np.random.default_rng(1)
    rows = [rng.standard_normal(spore.n_vocab, np.float32) * 3 for _ in range(40)]
    openings = [token for token in range(spore.n_vocab) if spore.token_bytes(token).startswith(b"{")]
    assert spore.end_id is not None
    for row in rows:
        row[spore.end_id] = -50
    rows[0][openings] += 20  # so that a call is begun, by whichever of them

    def produce(done: list[int]) -> list[int]:
        sampler = Sampler(spore, Sampling(call_form=form, temperature=1.5, seed=7))
        sampler.resume(done)
        tokens = list(done)
        for row in rows[len(done) :]:
            tokens.append(sampler.sample(row))
            sampler.accept(tokens[-1])
        sampler.close()
        return tokens

    whole = produce([])
    assert b"".join(map(spore.token_bytes, whole)).startswith(b"{")
    for at in range(len(whole)):
        assert produce(whole[:at]) == whole


@pytest.mark.slow
@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1), st.sampled_from(range(len(DIALECTS))))
def test_whatever_the_logits_are_a_call_that_begins_is_never_wrong(seed: int, number: int) -> None:
    model = Model.load([SPORE], gpu=False)
    spore, form = Vocabulary(model), form_of(DIALECTS[number])
    rng = np.random.default_rng(seed)
    way = form.ways[seed % len(form.ways)]
    sampler = Sampler(spore, Sampling(call_form=form, temperature=1.0, seed=seed, shown=DIALECTS[number].shown))
    tokens = spore.tokenize(way.opening, special=False)[:-1]
    for token in tokens:
        sampler.accept(token)
    for _ in range(60):
        tokens.append(sampler.sample(rng.standard_normal(spore.n_vocab, np.float32) * 5))
        sampler.accept(tokens[-1])
        if spore.is_end(tokens[-1]):
            break
    sampler.close()
    assert refusal(spore, form, tokens) is None
    model.close()
