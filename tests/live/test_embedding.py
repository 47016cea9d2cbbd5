"""The vectors of real llama.cpp: against llama-cpp-python's own call, against numpy, and against each other."""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from encoders import CONTEXT, WIDTH, bert, tokens_of, write_encoder
from models import write_random_model
from mycoswarm.base.errors import InputError, ModelFileError, StageError
from mycoswarm.catalog.facts import read_facts
from mycoswarm.catalog.shelf import BUILT_IN_PATH
from mycoswarm.chat.load import fitted
from mycoswarm.stage.engine import Engine
from mycoswarm.stage.pooled import PooledModel
from mycoswarm.wire.plan import Conditions, Pooling, embedding_under

POOLINGS: dict[Pooling, int] = {"mean": 1, "cls": 2, "last": 3}
TEXTS = ["the cat", "the dog", "a", "the cat !", "the dog the cat the dog the cat", "\u2603 snow", "the cat"]
CONDITIONS = Conditions(n_ctx=CONTEXT, n_ubatch=16, n_threads=1)

# What the package itself makes of a file, in a process of its own. One text in each batch, as we do.
THEIRS = """
import json, sys
import llama_cpp
path, pooling, size, texts = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), json.loads(sys.argv[4])
llama = llama_cpp.Llama(path, embedding=True, pooling_type=pooling, n_ctx=size, n_batch=size, n_ubatch=size,
                        n_threads=1, n_threads_batch=1, n_gpu_layers=0, verbose=False)
print(json.dumps([llama.embed(text, normalize=pooling != 0, truncate=False) for text in texts]))
"""

pytestmark = pytest.mark.slow


def theirs(path: Path, pooling: int, texts: Sequence[str], size: int = CONTEXT) -> list[Any]:
    arguments = [sys.executable, "-c", THEIRS, str(path), str(pooling), str(size), json.dumps(texts)]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=True)
    return list(json.loads(done.stdout))


@contextmanager
def opened(path: Path, pooling: Pooling = "mean", n_ctx: int = CONTEXT) -> Iterator[PooledModel]:
    conditions = embedding_under(CONDITIONS, pooling, n_ctx)
    model = PooledModel.open([path], conditions, n_layer=read_facts(path).n_layer, gpu=False)
    try:
        yield model
    finally:
        model.close()


def ours(model: PooledModel, texts: Sequence[str]) -> list[NDArray[np.float32]]:
    return [model.embed(model.read(text)) for text in texts]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("embedding")


@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_bert_gives_what_numpy_computes(folder: Path, pooling: Pooling) -> None:
    path = folder / f"numpy-{pooling}.gguf"
    weights = write_encoder(path, pooling=POOLINGS[pooling])
    texts = ["the", "the cat", "the dog a b c the cat"]
    with opened(path, pooling) as model:
        assert model.read("the cat") == tokens_of("the cat")
        for text, vector in zip(texts, ours(model, texts), strict=True):
            assert np.abs(vector - bert(weights, tokens_of(text), POOLINGS[pooling])).max() < 2e-3  # their GELU is f16


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("arch", ["bert", "nomic-bert"])
def test_an_encoder_gives_what_the_package_itself_gives(folder: Path, arch: str, pooling: Pooling) -> None:
    path = folder / f"{arch}-{pooling}.gguf"
    write_encoder(path, arch, pooling=POOLINGS[pooling])
    with opened(path, pooling) as model:
        assert np.abs(np.array(ours(model, TEXTS)) - theirs(path, POOLINGS[pooling], TEXTS)).max() < 1e-6


@pytest.mark.parametrize("is_causal", [True, False])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_decoder_gives_what_the_package_itself_gives(folder: Path, pooling: Pooling, is_causal: bool) -> None:
    path = folder / f"llama-{pooling}-{is_causal}.gguf"
    write_random_model(path, n_layer=3, pooling=POOLINGS[pooling], is_causal=is_causal)
    with opened(path, pooling, 256) as model:
        vectors = np.array(ours(model, TEXTS))
    assert np.abs(vectors - theirs(path, POOLINGS[pooling], TEXTS, 256)).max() < 1e-6


def test_the_mean_is_that_of_the_states_of_all_tokens(folder: Path) -> None:
    with opened(BUILT_IN_PATH, n_ctx=256) as model:
        for text, vector in zip(TEXTS, ours(model, TEXTS), strict=True):
            (states,) = theirs(BUILT_IN_PATH, 0, [text], 256)
            assert len(states) == len(model.read(text))
            mean = np.mean(states, axis=0)
            assert np.abs(vector - mean / np.linalg.norm(mean)).max() < 1e-5


def test_a_vector_has_length_one_and_the_same_bits_whatever_came_before(folder: Path) -> None:
    with opened(BUILT_IN_PATH, n_ctx=256) as model:
        vectors = ours(model, TEXTS)
        again = ours(model, TEXTS[::-1])[::-1]
    with opened(BUILT_IN_PATH, n_ctx=256) as model:
        (fresh,) = ours(model, TEXTS[3:4])
    assert all(abs(float(vector @ vector) - 1) < 1e-5 for vector in vectors)
    assert all(one.tobytes() == other.tobytes() for one, other in zip(vectors, again, strict=True))
    assert fresh.tobytes() == vectors[3].tobytes()
    assert vectors[0].tobytes() == vectors[-1].tobytes()  # the same text
    assert all(float(vectors[0] @ other) < 0.9999 for other in vectors[1:-1])


def test_a_text_that_is_as_long_as_the_micro_batch_fits_and_one_token_more_is_refused(folder: Path) -> None:
    path = folder / "long.gguf"
    write_encoder(path)
    with opened(path) as model:
        fits = " ".join(["the"] * (CONTEXT - 2))
        assert len(model.read(fits)) == CONTEXT and model.embed(model.read(fits)).shape == (WIDTH,)
        for text in (f"{fits} cat", "the " * 100_000):
            with pytest.raises(InputError, match=f"{CONTEXT} tokens are the most") as caught:
                model.read(text)
            assert caught.value.code == "context_length_exceeded"
        with pytest.raises(StageError, match="1 to 64 fit"):
            model.embed([5] * (CONTEXT + 1))


def test_control_tokens_in_a_text_are_text(folder: Path) -> None:
    path = folder / "control.gguf"
    write_encoder(path)
    with opened(path) as model:
        assert tokens_of("")[1] not in model.read("a [SEP] b")[1:-1]


def test_a_model_without_a_key_pools_by_the_mean_and_one_that_ranks_is_refused(folder: Path) -> None:
    for number, said in ((None, None), (0, "none"), (1, "mean"), (2, "cls"), (3, "last"), (4, "rank")):
        path = folder / f"facts-{number}.gguf"
        write_encoder(path, pooling=number)
        facts = read_facts(path)
        assert facts.pooling == said and facts.n_embd == WIDTH and not facts.splittable
        if said in ("none", "rank"):
            with pytest.raises(Exception, match=f"its file says pooling {said}"):
                fitted(CONDITIONS, facts, "embedding")
        else:
            assert fitted(CONDITIONS, facts, "embedding").pooling == (said or "mean")
        assert fitted(CONDITIONS, facts, "chat") is CONDITIONS


def test_an_encoder_that_is_asked_to_chat_says_that_it_cannot(folder: Path) -> None:
    path = folder / "mute.gguf"
    write_encoder(path)
    with pytest.raises(ModelFileError, match="only makes embeddings") as caught:
        Engine.open([path], CONDITIONS, n_layer=3, is_head=True, feeds_tokens=True, gpu=False)
    assert caught.value.code == "embeddings_only"


def test_states_that_are_no_numbers_end_the_ring(folder: Path) -> None:
    path = folder / "broken.gguf"
    write_encoder(path, fill=float("nan"))
    with opened(path) as model, pytest.raises(StageError, match="not numbers"):
        model.embed(model.read("the cat"))
