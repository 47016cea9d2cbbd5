"""The trainer's tokenizer and llama.cpp's agree, token by token."""

from itertools import chain, islice
from typing import Any

import pytest
from dialogues import KINDS, held_out
from folder import TOKENIZER
from hypothesis import given, settings
from hypothesis import strategies as st
from llama_cpp import Llama
from text import render
from tokens import CONTROL, MARKS, Tokenizer, load
from vocabulary import make_tokenizer

STRINGS = (
    "",
    " ",
    "   ",
    "\n",
    "\n\n",
    " \n \n",
    "\t\tx",
    "a  b   c    d",
    "trailing   ",
    "  leading",
    "line one\nline two\r\nline three\r\r",
    "Hello, how are you? I'm fine; you're not, we've, I'LL, he'd, don't",
    "12+30 = 42. 1,234.56 -7 007 ½ ² Ⅷ ٣ ३",
    "def f(x):\n    return {\"a\": [1, 2], 'b': x ** 2}  # why\n",
    '{"name": "calculator", "arguments": {"expression": "12+30"}}',
    "docs/plan_2024.md ~/notes.txt ./a/b/c.tar.gz C:\\Users\\x",
    "Grüße aus Köln, élève, naïve, Ærøskøbing, İstanbul",
    "Привет, мир! Γειά σου. שלום עולם. مرحبا بالعالم",
    "你好，世界。こんにちは 한국어 ไทย हिन्दी",
    "🙂👍🏽 👩‍👩‍👧 🇮🇹 é é \u200b\u00a0\u3000x",
    "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n",
    "<tool_call>{}</tool_call><tool_response>4</tool_response><tools>\n</tools>",
    "<|im_start|><|im_start|> <|endoftext|> <|im_end <tool_call <tool_call>>",
    "... --- !!! ??? ().[]{}\"'`~@#$%^&*_+=|\\:;<>",
    "mycoSwarm MYCOSWARM mycoswarm spore's SPORE'S",
    "\x00\x01\x7f\x1c\x1d\x1e\x1f\x85",
)


@pytest.mark.parametrize("text", STRINGS)
@pytest.mark.parametrize("special", [True, False])
def test_a_string_has_the_same_tokens_in_both(model: Llama, tokenizer: Tokenizer, text: str, special: bool) -> None:
    assert tokenizer.encode(text, parse_special=special) == model.tokenize(
        text.encode(), add_bos=False, special=special
    )


@settings(max_examples=300, deadline=None)
@given(text=st.text(st.characters(max_codepoint=0x24FF, exclude_categories=("Cs", "Cn", "Co"))))
def test_any_text_has_the_same_tokens_in_both(model: Llama, tokenizer: Tokenizer, text: str) -> None:
    theirs = model.tokenize(text.encode(), add_bos=False, special=True)
    assert tokenizer.encode(text) == theirs
    assert tokenizer.decode(theirs) == text


@pytest.mark.parametrize("kind", KINDS)
def test_a_dialogue_has_the_same_tokens_whole_and_with_its_content_apart(
    model: Llama, tokenizer: Tokenizer, kind: str
) -> None:
    """As the product does it: message content without control tokens, the template's text with them."""
    for dialogue in islice(held_out(5, kind), 10):
        messages: list[dict[str, Any]] = [{"role": "system", "content": "You are spore. Be kind."}, *dialogue.messages]
        marked = [{**message, "content": message["content"] and f"\0{at}\0"} for at, message in enumerate(messages)]
        parts = render(marked, dialogue.tools).split("\0")
        apart = [tokenizer.encode(part) for part in parts[::2]]
        contents = [tokenizer.encode(messages[int(at)]["content"], parse_special=False) for at in parts[1::2]]
        whole = render(messages, dialogue.tools)
        joined = [*chain.from_iterable(chain.from_iterable(zip(apart, contents, strict=False))), *apart[-1]]
        assert tokenizer.encode(whole) == joined == model.tokenize(whole.encode(), add_bos=False, special=True)


def test_control_tokens_in_content_are_plain_text(model: Llama, tokenizer: Tokenizer) -> None:
    ids = model.tokenize(b"<|im_end|>", add_bos=False, special=False)
    assert len(ids) > 1
    assert tokenizer.ids["<|im_end|>"] not in ids


@pytest.mark.parametrize("mark", MARKS)
def test_a_mark_is_one_token_and_survives_detokenising(model: Llama, mark: str) -> None:
    ids = model.tokenize(mark.encode(), add_bos=False, special=True)
    assert len(ids) == 1
    assert model.detokenize(ids) == mark.encode()


@pytest.mark.parametrize("control", CONTROL)
def test_a_control_token_is_dropped_by_detokenising(model: Llama, control: str) -> None:
    ids = model.tokenize(control.encode(), add_bos=False, special=True)
    assert len(ids) == 1
    assert model.detokenize(ids) == b""


def test_every_byte_has_a_token(tokenizer: Tokenizer, model: Llama) -> None:
    assert all(model.detokenize([at]) == bytes([at]) for at in range(256))
    assert len(tokenizer.pieces) == model.n_vocab()


def test_the_file_holds_the_table_that_was_trained(tokenizer: Tokenizer) -> None:
    assert tokenizer == load(TOKENIZER)


@pytest.mark.slow
def test_the_same_seed_makes_the_same_tokenizer() -> None:
    assert make_tokenizer(1, 60) == make_tokenizer(1, 60)
    assert make_tokenizer(1, 60) != make_tokenizer(2, 60)
