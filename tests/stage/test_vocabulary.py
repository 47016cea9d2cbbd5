"""The tokenizer inside the embedded model and inside a model with a sentencepiece vocabulary."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mycoswarm.catalog
from models import TEMPLATE, write_random_model
from mycoswarm.base.errors import InputError
from mycoswarm.stage.llama import Model
from mycoswarm.stage.vocabulary import Vocabulary

SPORE = Path(mycoswarm.catalog.__file__).with_name("spore.gguf")


@pytest.fixture(scope="module")
def spore() -> Iterator[Vocabulary]:
    model = Model.load([SPORE], gpu=False)
    yield Vocabulary(model)
    model.close()


@pytest.fixture(scope="module")
def pieces(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vocabulary]:
    """A vocabulary of bytes and some words, sentencepiece style, with "<|im_start|>" and the like as control tokens."""
    model = Model.load([write_random_model(tmp_path_factory.mktemp("model") / "a.gguf", n_layer=1)], gpu=False)
    yield Vocabulary(model)
    model.close()


def join(vocabulary: Vocabulary, ids: list[int]) -> bytes:
    return b"".join(vocabulary.token_bytes(token) for token in ids)


@given(text=st.text(max_size=200))
@settings(deadline=None)
def test_any_text_comes_back_from_its_tokens(spore: Vocabulary, text: str) -> None:
    assert join(spore, spore.tokenize(text, special=False)) == text.encode()


def test_text_with_nulls_and_long_text_come_back_whole(spore: Vocabulary) -> None:
    text = "a\0b\0" + "word " * 5000
    assert join(spore, spore.tokenize(text, special=False)) == text.encode()


def test_empty_text_has_no_tokens(spore: Vocabulary, pieces: Vocabulary) -> None:
    assert spore.tokenize("", special=False) == []
    assert pieces.tokenize("", special=True) == []


def test_only_with_special_is_a_control_tokens_text_taken_for_it(spore: Vocabulary) -> None:
    turn = "<|im_start|>user"
    with_special, without = spore.tokenize(turn, special=True), spore.tokenize(turn, special=False)
    assert spore.token_text(with_special[0]) == "<|im_start|>"
    assert spore.token_bytes(with_special[0]) == b""
    assert with_special[0] not in without
    assert join(spore, without) == turn.encode()


def test_user_defined_tokens_are_shown(spore: Vocabulary) -> None:
    ids = spore.tokenize("<tool_call>{}</tool_call>", special=False)
    assert spore.token_bytes(ids[0]) == b"<tool_call>"
    assert join(spore, ids) == b"<tool_call>{}</tool_call>"


def test_control_tokens_are_shown_where_their_text_is_asked_for(spore: Vocabulary) -> None:
    (start,) = spore.tokenize("<|im_start|>", special=True)
    assert spore.token_bytes(start) == b"" == spore.token_bytes(start, frozenset({"<|im_end|>"}))
    assert spore.token_bytes(start, frozenset({"<|im_start|>"})) == b"<|im_start|>"


def test_half_a_character_is_bytes(pieces: Vocabulary) -> None:
    ids = pieces.tokenize("é", special=False)
    assert [pieces.token_bytes(token) for token in ids[-2:]] == [b"\xc3", b"\xa9"]


def test_what_ends_an_answer_is_known(spore: Vocabulary) -> None:
    assert spore.eos_id is not None
    assert spore.is_end(spore.eos_id)
    assert not spore.is_end(spore.tokenize("a", special=False)[0])


def test_the_files_own_words_on_bos_and_template_are_given(pieces: Vocabulary, spore: Vocabulary) -> None:
    assert (pieces.bos, pieces.eos, pieces.adds_bos) == ("<s>", "<|im_end|>", True)
    assert pieces.template == TEMPLATE
    assert not spore.adds_bos
    assert spore.template is not None


def test_a_file_without_template_has_none(tmp_path: Path) -> None:
    model = Model.load([write_random_model(tmp_path / "a.gguf", n_layer=1, template=None)], gpu=False)
    assert Vocabulary(model).template is None
    model.close()


@pytest.mark.parametrize("token", [-1, 10**6, 2**40])
def test_a_token_that_does_not_exist_is_an_input_error(spore: Vocabulary, token: int) -> None:
    for ask in (spore.token_bytes, spore.token_text, spore.is_end):
        with pytest.raises(InputError, match="there is no token"):
            ask(token)


def test_half_a_surrogate_pair_is_an_input_error(spore: Vocabulary) -> None:
    with pytest.raises(InputError, match="surrogate"):
        spore.tokenize("a\ud800b", special=False)


def test_every_token_has_bytes_or_none(spore: Vocabulary) -> None:
    shown = [spore.token_bytes(token) for token in range(spore.n_vocab)]
    assert len(shown) == spore.n_vocab
    assert sum(not piece for piece in shown) < 32  # control tokens only
