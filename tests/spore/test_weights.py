"""The shipped file: what it says of itself, its size, and what it still gets right."""

from itertools import islice
from math import prod

import pytest
import score as scoring
from dialogues import held_out
from folder import CARD, MODEL
from gguf import GGMLQuantizationType, GGUFReader
from llama_cpp import Llama
from text import TEMPLATE

# Fractions of exact answers on the first twelve held-out dialogues, well under what was measured (see the card).
CALL_FLOOR = 0.75
ANSWER_FLOOR = 0.6
TALK_FLOOR = 0.5


def fact(reader: GGUFReader, key: str) -> object:
    return reader.fields[key].contents()


def test_it_is_a_small_llama_of_at_least_six_layers(reader: GGUFReader) -> None:
    assert fact(reader, "general.architecture") == "llama"
    assert fact(reader, "general.name") == "spore"
    assert fact(reader, "general.license") == "Apache-2.0"
    assert fact(reader, "llama.block_count") == 8
    assert 3_000_000 <= sum(prod(map(int, tensor.shape)) for tensor in reader.tensors) <= 6_000_000
    assert MODEL.stat().st_size < 6_000_000


def test_its_matrices_are_q8_0_and_its_output_is_its_own(reader: GGUFReader) -> None:
    kinds = {tensor.name: tensor.tensor_type for tensor in reader.tensors}
    assert {"token_embd.weight", "output.weight"} <= kinds.keys()
    assert all((kind == GGMLQuantizationType.F32) == ("norm" in name) for name, kind in kinds.items())
    assert set(kinds.values()) == {GGMLQuantizationType.F32, GGMLQuantizationType.Q8_0}


def test_it_carries_the_template_and_the_tokens_to_stop_at(reader: GGUFReader, model: Llama) -> None:
    assert fact(reader, "tokenizer.chat_template") == TEMPLATE
    assert fact(reader, "tokenizer.ggml.add_bos_token") is False
    assert fact(reader, "tokenizer.ggml.pre") == "qwen2"
    assert model.token_eos() == model.tokenize(b"<|im_end|>", add_bos=False, special=True)[0]


def test_its_card_names_its_scores() -> None:
    text = CARD.read_text(encoding="utf-8")
    assert "| **all** |" in text
    assert "not" in text


@pytest.mark.slow
def test_it_calls_tools_and_uses_their_results(model: Llama) -> None:
    judged = [
        scoring.judge(model, dialogue)
        for kind in ("calculator", "clock", "list_nodes", "read_file")
        for dialogue in islice(held_out(1, kind), 3)
    ]
    assert sum(right is True for right, _, _ in judged) >= CALL_FLOOR * len(judged)
    assert sum(exact for _, exact, _ in judged) >= ANSWER_FLOOR * len(judged)


@pytest.mark.slow
def test_it_talks_without_tools(model: Llama) -> None:
    judged = [
        scoring.judge(model, dialogue)
        for kind in ("greeting", "about", "count", "sum", "yes_no", "unknown")
        for dialogue in islice(held_out(1, kind), 2)
    ]
    assert sum(exact for _, exact, _ in judged) >= TALK_FLOOR * len(judged)
