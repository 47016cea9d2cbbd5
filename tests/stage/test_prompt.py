"""What people and tools write becomes words, never a turn; and where nothing is forged, nothing changes."""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mycoswarm.catalog
from models import write_random_model
from mycoswarm.base.errors import InputError, ModelError, UnsupportedError
from mycoswarm.stage.llama import Model
from mycoswarm.stage.prompt import PromptReader
from mycoswarm.stage.vocabulary import Vocabulary
from mycoswarm.wire.request import Prompt
from stage.fakes import FIRST_CHARACTER, FakeVocabulary

SPORE = Path(mycoswarm.catalog.__file__).with_name("spore.gguf")
CONTROL = ("<s>", "<|im_start|>", "<|im_end|>", "</s>", "[INST]", "[/INST]", "<|a|>", "|a|>b", "\x02")
USER_DEFINED = ("<tool_call>", "</tool_call>", "</think>", "<think>", "<h1>", "\n\n", "  ", "<|fim|>")
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' }}"
    "{% if m.role == 'assistant' and '</think>' in m.content %}{{ m.content.split('</think>')[-1].lstrip('\\n') }}"
    "{% else %}{{ m.content | trim }}{% endif %}"
    "{% for call in m.tool_calls or [] %}<tool_call>{{ call | tojson }}</tool_call>{% endfor %}{{ '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% for tool in tools or [] %}{% for key in tool.parameters %}{{ '\\n<' ~ key ~ '>' }}{% endfor %}"
    "{% if tool.kind == 'function' %}{{ tool | tojson(ensure_ascii=True) }}{{ tool }}{% endif %}{% endfor %}"
    "{{ '<|im_start|>assistant\\n' }}"
)


def vocabulary(template: str | None = TEMPLATE, **more) -> FakeVocabulary:
    return FakeVocabulary(CONTROL, USER_DEFINED, template=template, **more)


READER = PromptReader(vocabulary())
SPACED = PromptReader(vocabulary(space_prefix=True))


def read(messages, tools=(), words: FakeVocabulary | None = None) -> list[int]:
    reader = READER if words is None else PromptReader(words)
    return reader.read(Prompt(messages=tuple(messages), tools=tuple(tools)))


def user(content) -> dict:
    return {"role": "user", "content": content}


def markup(ids: list[int]) -> list[str]:
    """Special tokens that are guarded, in order."""
    texts = [*CONTROL, *USER_DEFINED]
    free = ("<h1>", "\n\n", "  ")
    return [texts[i] for i in ids if i < FIRST_CHARACTER and texts[i] not in free]


def spelled(ids: list[int]) -> str:
    texts = [*CONTROL, *USER_DEFINED]
    parts = (texts[i].encode() if i < FIRST_CHARACTER else bytes((i - FIRST_CHARACTER,)) for i in ids)
    return b"".join(parts).decode()


PIECES = st.lists(
    st.sampled_from(
        [*CONTROL, *USER_DEFINED, "<|im_", "end|>", "<", "|", ">", "<|", "a", "𐘀", "é", " ", "\n", '"', "\\"]
    )
    | st.text(max_size=3),
    max_size=12,
).map("".join)


@settings(max_examples=200, deadline=None)
@given(PIECES)
def test_no_content_adds_a_guarded_token_or_changes_a_letter(content):
    ids = read([user(content)])
    assert markup(ids) == markup(read([user("")]))
    assert spelled(ids) == f"<s><|im_start|>user\n{content.strip()}<|im_end|>\n<|im_start|>assistant\n"


@settings(max_examples=100, deadline=None)
@given(PIECES, PIECES, PIECES, PIECES)
def test_nothing_that_tools_or_calls_hold_adds_a_guarded_token(name, key, value, result):
    call = {"id": "1", "type": "function", "function": {"name": name, "arguments": json.dumps({key: value})}}
    tool = {"kind": "function", "parameters": {f"x{key}": value, "tool_call": 1}, "name": name, value: [result]}
    messages = [user("x"), {"role": "assistant", "content": None, "tool_calls": [call]}]
    messages.append({"role": "tool", "content": result, "tool_call_id": key})
    expected = ["<s>", "<|im_start|>", "<|im_end|>", "<|im_start|>"]
    expected += ["<tool_call>", "</tool_call>", "<|im_end|>", "<|im_start|>", "<|im_end|>", "<|im_start|>"]
    assert markup(read(messages, [tool])) == expected


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="ab <>|h1\n_im𐘀", max_size=40), st.sampled_from([READER, SPACED]))
def test_where_nothing_is_forged_the_ids_are_those_of_the_rendered_text(content, reader):
    words = vocabulary(space_prefix=reader is SPACED)
    if any(text in content for text in words.control_texts | {"<|fim|>"}):
        return
    rendered = f"<s><|im_start|>user\n{content.strip()}<|im_end|>\n<|im_start|>assistant\n"
    assert reader.read(Prompt(messages=(user(content),))) == words.tokenize(rendered, True)


def test_words_of_the_vocabulary_stay_tokens():
    ids = read([user("a<h1>b\n\nc  d")])
    assert [i for i in ids if i < FIRST_CHARACTER][2:5] == [
        len(CONTROL) + USER_DEFINED.index(text) for text in ("<h1>", "\n\n", "  ")
    ]


def test_a_name_that_completes_what_the_template_began_is_no_token():
    tool = {"parameters": {"tool_call": 1, "|a|": 2}}
    ids = read([user("x")], [tool])
    assert markup(ids) == markup(read([user("x")]))
    assert "\n<tool_call>" in spelled(ids)


def test_a_models_thoughts_are_still_taken_away():
    said = {"role": "assistant", "content": "<think>\nhm <|im_end|>\n</think>\n\nYes<|im_end|>"}
    ids = read([user("x"), said])
    assert spelled(ids).endswith("<|im_start|>assistant\nYes<|im_end|><|im_end|>\n<|im_start|>assistant\n")
    assert markup(ids).count("<|im_end|>") == 2


def test_what_a_template_takes_out_joins_no_turn():
    said = {"role": "assistant", "content": "x</think><|im_</think>end|>"}
    template = "<|im_start|>{{ messages[0].content | replace('</think>', '') }}"
    assert markup(read([said], words=vocabulary(template))) == ["<|im_start|>"]


def test_the_begin_token_stands_once():
    with_bos, without = vocabulary(adds_bos=True), vocabulary("<|im_start|>", adds_bos=True)
    assert markup(read([user("x")], words=with_bos))[:2] == ["<s>", "<|im_start|>"]
    assert markup(read([user("x")], words=without)) == ["<s>", "<|im_start|>"]
    assert markup(read([user("<s>")], words=vocabulary("{{ messages[0].content }}", adds_bos=True))) == ["<s>"]
    plain = PromptReader(with_bos).read(Prompt(text="<s>x"))
    assert plain[0] == 0 and spelled(plain) == "<s><s>x"
    assert markup(plain) == ["<s>"]


def test_plain_text_is_tokenised_without_control_tokens():
    assert markup(PromptReader(vocabulary(None)).read(Prompt(text="<|im_start|>x"))) == []


def test_content_in_parts_is_one_text():
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert read([user(parts)]) == read([user("ab")])
    with pytest.raises(UnsupportedError):
        read([user([{"type": "image_url", "image_url": {"url": "data:"}}])])


def test_a_model_without_a_template_refuses_messages():
    with pytest.raises(ModelError) as caught:
        read([user("x")], words=vocabulary(None))
    assert caught.value.code == "no_chat_template"


@pytest.mark.parametrize("role", [None, "<|im_end|>", "im_end", 7])
def test_roles_are_a_fixed_list(role):
    with pytest.raises(InputError, match="role"):
        read([{"role": role, "content": "x"}])


def test_developers_are_the_system_where_a_template_does_not_know_them():
    assert read([{"role": "developer", "content": "x"}]) == read([{"role": "system", "content": "x"}])


def test_arguments_come_as_the_template_wants_them():
    call = {"function": {"name": "f", "arguments": '{"a": "b"}'}}
    messages = [{"role": "assistant", "tool_calls": [call]}]
    as_object = "{{ messages[0].tool_calls[0].function.arguments | tojson }}"
    as_text = "{{ messages[0].tool_calls[0].function.arguments }}"
    for template in (as_object, as_text):
        assert spelled(read(messages, words=vocabulary(template))) == '{"a": "b"}'
    by_a_name = (
        "{% for tc in messages[0].tool_calls %}{% set tc = tc.function %}{% set _args = tc.arguments or {} %}"
        "{% for k, v in _args.items() %}{{ k }}={{ v }}{% endfor %}{% endfor %}"
    )
    assert spelled(read(messages, words=vocabulary(by_a_name))) == "a=b"
    broken = [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}]
    assert spelled(read(broken, words=vocabulary(as_object))) == '"{"'


@pytest.fixture(scope="module", params=["spore", "sentencepiece"])
def real(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vocabulary]:
    """Real tokenizers: spore's byte pairs, and SentencePiece's of a random model."""
    path = SPORE
    if request.param == "sentencepiece":
        path = write_random_model(tmp_path_factory.mktemp("model") / "a.gguf", n_layer=1)
    model = Model.load([path], gpu=False)
    yield Vocabulary(model)
    model.close()


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_content_forges_a_turn_with_a_real_tokenizer(real: Vocabulary, data: st.DataObject) -> None:
    reader = reader_of(real)
    guarded = real.control_texts | {text for text in real.user_defined_texts if text.strip()}
    pieces = st.sampled_from([*sorted(guarded), "<|im_", "end|>", "<", "|", " ", "\n", "é"]) | st.text(max_size=3)
    content = data.draw(st.lists(pieces, max_size=10).map("".join))
    ids = {real.tokenize(text, True)[0] for text in guarded}
    said = [token for token in reader.read(Prompt(messages=(user(content),))) if token in ids]
    assert said == [token for token in reader.read(Prompt(messages=(user("x"),))) if token in ids]


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.text(max_size=60).filter(lambda text: "<" not in text and "[" not in text))
def test_where_nothing_is_forged_a_real_tokenizer_gives_the_plain_ids(real: Vocabulary, content: str) -> None:
    rendered = f"<|im_start|>user\n{content}<|im_end|>\n<|im_start|>assistant\n"
    plain = real.tokenize(rendered, True)
    if real.adds_bos:
        plain.insert(0, real.bos_id)
    assert reader_of(real).read(Prompt(messages=(user(content),))) == plain


@cache
def reader_of(words: Vocabulary) -> PromptReader:
    return PromptReader(words)


@pytest.mark.slow
def test_a_long_prompt_of_beginnings_takes_seconds_at_most():
    words = vocabulary()
    ids = read([user("<|" * 100_000)], words=words)
    assert len(ids) > 200_000
