"""One NaN in a KV cache spoils every sequence in it, removed ones too: it gets in nowhere, or ends the ring."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader

from models import write_random_model
from mycoswarm.base.errors import RingError, StageError
from mycoswarm.stage.engine import Batch, Engine
from mycoswarm.wire.plan import Conditions
from mycoswarm.wire.report import Failed
from stage.stand import play, stand

WIDTH = 64


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """The last layers of a model, fed with hidden states by a neighbour."""
    engine = opened(write_random_model(tmp_path / "model.gguf", "llama", n_layer=2))
    yield engine
    engine.close()


def opened(model: Path) -> Engine:
    conditions = Conditions(n_ctx=256, n_ubatch=8)
    return Engine.open([model], conditions, n_layer=2, is_head=True, feeds_tokens=False, gpu=False)


def states(sequence: int, value: float | None = None) -> Batch:
    hidden = np.random.default_rng(7).standard_normal((4, WIDTH)).astype(np.float32)
    if value is not None:
        hidden[1, 3] = value
    ramp = np.arange(4, dtype=np.int32)
    return Batch(ramp, np.full(4, sequence, np.int32), ramp == 3, None, hidden)


@pytest.mark.slow
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_neighbours_nan_reaches_no_cache(engine: Engine, value: float) -> None:
    engine.decode(states(0))
    expected = engine.logits(3)
    engine.remove(0, 0, -1)
    with pytest.raises(StageError, match="no numbers"):
        engine.decode(states(1, value))
    engine.decode(states(0))
    assert np.array_equal(engine.logits(3), expected)


@pytest.mark.slow
def test_logits_that_overflow_are_an_error_and_no_token(tmp_path: Path) -> None:
    model = write_random_model(tmp_path / "model.gguf", "llama", n_layer=2)
    (norm,) = (tensor for tensor in GGUFReader(model, "r+").tensors if tensor.name == "output_norm.weight")
    norm.data[:] = np.inf
    engine = opened(model)
    engine.decode(states(0))
    with pytest.raises(StageError) as caught:
        engine.logits(3)
    engine.close()
    assert caught.value.code == "not_numbers"


def test_a_head_whose_cache_is_spoilt_ends_its_ring_for_all() -> None:
    async def scene() -> None:
        async with stand() as s:
            s.engine.is_spoilt = True
            s.ask("one", "abc")
            s.ask("two", "defg")
            for request_id in ("one", "two"):
                end = await s.ended(request_id)
                assert isinstance(end, Failed) and end.code == "not_numbers"
            assert s.running is not None
            with pytest.raises(RingError):
                await s.running

    play(scene)
