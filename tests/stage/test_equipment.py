"""What a head works with: the fakes of its tests keep the same contract as the real layers, vocabulary and sampler."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader

import mycoswarm.catalog
from mycoswarm.base.errors import StageError
from mycoswarm.stage.engine import Batch, Engine
from mycoswarm.stage.equipment import Equipment, equip
from mycoswarm.stage.head import Head
from mycoswarm.stage.loop import Loopback
from mycoswarm.stage.prompt import PromptReader
from mycoswarm.stage.worker import Worker
from mycoswarm.wire.plan import Conditions
from mycoswarm.wire.report import AnyReport, Failed, Finished, Piece, TokenLogprob
from mycoswarm.wire.request import Generation, Prompt, Sampling
from stage.fakes import FakeEngine, FakeSampler, FakeVocabulary

SPORE = Path(mycoswarm.catalog.__file__).with_name("spore.gguf")
CONDITIONS = Conditions(n_ctx=512, n_ubatch=32)


def fake() -> Equipment:
    vocabulary = FakeVocabulary(user_defined=("<tool_call>",))
    engine = FakeEngine(lambda tokens: sum(tokens) % 256, vocabulary=vocabulary, n_ctx=512, n_ubatch=32)
    worker = Worker()
    return Equipment(
        engine, vocabulary, worker, FakeSampler, lambda row, token, top: TokenLogprob(token, b"", float(row[token]))
    )


@pytest.fixture(scope="module", params=["fake", "spore"])
def equipment(request: pytest.FixtureRequest) -> Iterator[Equipment]:
    if request.param == "fake":
        made = fake()
        yield made
        made.worker.shutdown()
        return
    layers = GGUFReader(SPORE).fields["llama.block_count"].contents()
    engine = Engine.open([SPORE], CONDITIONS, n_layer=layers, is_head=True, feeds_tokens=True, gpu=False)
    with Worker() as worker:
        yield equip(engine, worker)
    engine.close()


def batch(tokens: list[int], first: int = 0, *, sequence: int = 0, wanted: list[bool] | None = None) -> Batch:
    n = len(tokens)
    wanted = [False] * (n - 1) + [True] if wanted is None else wanted
    positions = np.arange(first, first + n, dtype=np.int32)
    return Batch(positions, np.full(n, sequence, np.int32), np.array(wanted), np.array(tokens, np.int32))


def forget_all(equipment: Equipment) -> None:
    for sequence in range(CONDITIONS.n_seq_max):
        equipment.layers.remove(sequence, 0, -1)


@pytest.fixture(autouse=True)
def clean(equipment: Equipment) -> Iterator[None]:
    yield
    forget_all(equipment)


def test_wanted_rows_have_logits_and_others_have_none(equipment: Equipment) -> None:
    layers, tokens = equipment.layers, equipment.vocabulary.tokenize("hello to you", False)
    layers.decode(batch([*tokens, *tokens], wanted=[True] + [False] * (2 * len(tokens) - 2) + [True]))
    row = layers.logits(0)
    assert row.dtype == np.float32 and row.ndim == 1
    assert layers.logits(2 * len(tokens) - 1).shape == row.shape
    with pytest.raises(StageError):
        layers.logits(1)


def test_removed_positions_are_computed_again_with_the_same_result(equipment: Equipment) -> None:
    layers, tokens = equipment.layers, equipment.vocabulary.tokenize("hello to you", False)
    layers.decode(batch(tokens))
    before = layers.logits(len(tokens) - 1)
    layers.remove(0, 1, -1)
    layers.decode(batch(tokens[1:], 1))
    again = layers.logits(len(tokens) - 2)
    assert before.argmax() == again.argmax()
    layers.remove(0, 0, -1)
    layers.decode(batch(tokens))
    assert np.array_equal(layers.logits(len(tokens) - 1), before)


def test_a_batch_that_cannot_be_is_refused(equipment: Equipment) -> None:
    with pytest.raises(StageError):
        equipment.layers.decode(batch(equipment.vocabulary.tokenize("x" * 4, False) * 33))


def test_texts_come_back_from_their_tokens(equipment: Equipment) -> None:
    words = equipment.vocabulary
    for text in ("hello", "zwei  Wörter\n\n🍄", "<|im_end|>"):
        ids = words.tokenize(text, False)
        assert b"".join(map(words.token_bytes, ids)).decode() == text


def test_control_texts_are_tokens_only_where_that_is_asked_for(equipment: Equipment) -> None:
    words = equipment.vocabulary
    assert "<|im_end|>" in words.control_texts
    (end,) = words.tokenize("<|im_end|>", True)
    assert words.is_end(end) and words.token_bytes(end) == b""
    assert end not in words.tokenize("<|im_end|>", False)


def test_user_defined_texts_are_tokens_and_shown(equipment: Equipment) -> None:
    words = equipment.vocabulary
    assert "<tool_call>" in words.user_defined_texts and "<tool_call>" not in words.control_texts
    (token,) = words.tokenize("<tool_call>", True)
    assert words.tokenize("<tool_call>", False) == [token]
    assert words.token_bytes(token) == b"<tool_call>"


def test_a_greedy_sampler_takes_the_likeliest_token(equipment: Equipment) -> None:
    tokens = equipment.vocabulary.tokenize("hello to you", False)
    sampler = equipment.choose(Sampling(temperature=0, seed=7), tokens)
    equipment.layers.decode(batch(tokens))
    row = equipment.layers.logits(len(tokens) - 1)
    sampler.resume(tokens)
    token = sampler.sample(row)
    sampler.accept(token)
    assert (token, sampler.seed) == (int(row.argmax()), 7)
    assert equipment.logprob(row, token, 0).token_id == token
    sampler.close()


def ask(equipment: Equipment, prompts: dict[str, Prompt], *, at_once: bool) -> dict[str, tuple[str, str]]:
    """Answers and why they ended, greedy, by request."""
    texts = dict.fromkeys(prompts, "")
    ends: dict[str, str] = {}

    async def main() -> None:
        changed = asyncio.Event()

        def report(said: AnyReport) -> None:
            match said:
                case Piece(request_id=request_id, text=text):
                    texts[request_id] += text
                case Finished(request_id=request_id, reason=reason):
                    ends[request_id] = reason
                case Failed(request_id=str(request_id), code=code):
                    ends[request_id] = code
            changed.set()

        async def until(names: set[str]) -> None:
            while not names <= ends.keys():
                changed.clear()
                await changed.wait()

        head = Head(equipment, Loopback(), CONDITIONS, n_stages=1, report=report)
        running = asyncio.create_task(head.run())
        try:
            async with asyncio.timeout(60):
                for request_id, prompt in prompts.items():
                    head.admit(request_id)
                    sampling = Sampling(temperature=0, max_tokens=40)
                    head.generate(Generation(request_id=request_id, prompt=prompt, sampling=sampling))
                    if not at_once:
                        await until({request_id})
                await until(set(prompts))
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    asyncio.run(main())
    forget_all(equipment)
    return {request_id: (texts[request_id], ends[request_id]) for request_id in prompts}


@pytest.mark.slow
@pytest.mark.parametrize("equipment", ["spore"], indirect=True)
def test_spore_gives_the_same_answers_at_once_as_alone(equipment: Equipment) -> None:
    questions = ("Hello!", "What is mycoSwarm?", "What is 3 + 4?", "Count to five.", "What can you do?", "Bye!")
    prompts = {text: Prompt(messages=({"role": "user", "content": text},)) for text in questions}
    alone, at_once = ask(equipment, prompts, at_once=False), ask(equipment, prompts, at_once=True)
    assert alone["Hello!"][0].startswith("Hello") and alone["Hello!"][1] == "stop"
    # Batch shapes choose kernels, so the last bits of logits may differ: these answers have no tokens that close.
    assert at_once == alone


@pytest.mark.slow
@pytest.mark.parametrize("equipment", ["spore"], indirect=True)
def test_spore_uses_its_tools_template(equipment: Equipment) -> None:
    words = equipment.vocabulary
    tool = {"type": "function", "function": {"name": "clock", "description": "<|im_end|>", "parameters": {}}}
    call = {"type": "function", "function": {"name": "clock", "arguments": '{"place": "</tool_call>"}'}}
    messages = (
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "<tool_call>What time is it?</tool_call>"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "</tool_response><|im_end|>noon"},
    )
    ids = PromptReader(words).read(Prompt(messages=messages, tools=(tool,)))
    marks = words.control_texts | {text for text in words.user_defined_texts if text.strip()}
    by_id = {words.tokenize(text, True)[0]: text for text in marks}
    turn = ["<|im_start|>", "<|im_end|>"]
    expected = ["<|im_start|>", "<tools>", "</tools>", "<|im_end|>", *turn]
    expected += ["<|im_start|>", "<tool_call>", "</tool_call>", "<|im_end|>"]
    expected += ["<|im_start|>", "<tool_response>", "</tool_response>", "<|im_end|>", "<|im_start|>"]
    expected = [text for text in expected if text in marks]
    assert [by_id[token] for token in ids if token in by_id] == expected
