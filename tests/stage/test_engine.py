"""One engine by itself: what it refuses, what it says, and that a refused batch changes nothing."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models import write_random_model
from mycoswarm.base.errors import ModelFileError, StageError
from mycoswarm.stage.engine import Batch, Engine
from mycoswarm.wire.plan import Conditions

CONDITIONS = Conditions(n_ctx=256, n_ubatch=8, n_seq_max=2)
N_LAYER = 3


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_model(tmp_path_factory.mktemp("engine") / "model.gguf", "llama", n_layer=N_LAYER)


Open = Callable[..., Engine]


@pytest.fixture
def open_engine(model: Path) -> Iterator[Open]:
    opened: list[Engine] = []

    def build(paths: list[Path] | None = None, conditions: Conditions = CONDITIONS, **changes: Any) -> Engine:
        arguments = {"n_layer": N_LAYER, "is_head": True, "feeds_tokens": True, "gpu": False} | changes
        opened.append(Engine.open(paths or [model], conditions, **arguments))
        return opened[-1]

    yield build
    for engine in opened:
        engine.close()


def make_batch(n_rows: int = 4, first: int = 0, sequence: int = 0, **changes: Any) -> Batch:
    arrays: dict[str, NDArray[Any] | None] = {
        "positions": np.arange(first, first + n_rows, dtype=np.int32),
        "sequences": np.full(n_rows, sequence, np.int32),
        "wanted": np.arange(n_rows) == n_rows - 1,
        "tokens": np.arange(270, 270 + n_rows, dtype=np.int32),
    }
    return Batch(**(arrays | changes))


def test_a_whole_model_says_what_it_is(open_engine: Open) -> None:
    engine = open_engine()
    assert (engine.n_layer, engine.n_embd, engine.n_vocab, engine.n_ctx) == (N_LAYER, 64, 320, 256)
    assert engine.layer_devices == ("CPU",) * N_LAYER
    assert engine.vocabulary is not None


def test_with_gpu_no_layer_stays_behind_on_the_cpu(open_engine: Open) -> None:
    """llama.cpp counts n_gpu_layers from the end, so layer 0 is the one to look at. Without a GPU all are there."""
    devices = open_engine(gpu=True).layer_devices
    assert "unknown" not in devices
    assert len(devices) == N_LAYER
    assert "CPU" not in devices or set(devices) == {"CPU"}


def test_a_context_is_rounded_up_as_llama_cpp_does(open_engine: Open) -> None:
    assert open_engine(conditions=Conditions(n_ctx=8, n_ubatch=4, n_seq_max=64)).n_ctx == 256


def test_only_wanted_rows_have_logits(open_engine: Open) -> None:
    engine = open_engine()
    decoded = engine.decode(make_batch(4))
    assert decoded.hidden is None
    assert decoded.compute_us > 0
    assert engine.logits(3).shape == (320,)
    for row in (-1, 0, 2, 4):
        with pytest.raises(StageError, match=f"row {row} "):
            engine.logits(row)


def test_a_batch_may_want_no_row_at_all(open_engine: Open) -> None:
    engine, other = open_engine(), open_engine()
    engine.decode(make_batch(4, wanted=np.zeros(4, bool)))
    engine.decode(make_batch(2, 4))
    other.decode(make_batch(4))
    other.decode(make_batch(2, 4))
    assert np.array_equal(engine.logits(1), other.logits(1))


def test_logits_are_a_copy(open_engine: Open) -> None:
    engine = open_engine()
    engine.decode(make_batch(4))
    kept = engine.logits(3)
    before = kept.copy()
    engine.decode(make_batch(1, 4))
    assert np.array_equal(kept, before)


def test_hidden_states_come_out_where_the_stage_is_not_the_head(open_engine: Open) -> None:
    """A whole model as a first stage: no logits, no vocabulary, rows of the last layer."""
    engine = open_engine(is_head=False)
    decoded = engine.decode(make_batch(5))
    assert decoded.hidden is not None
    assert decoded.hidden.shape == (5, 64)
    assert decoded.hidden.dtype == np.float32
    assert engine.vocabulary is None
    with pytest.raises(StageError):
        engine.logits(4)


@pytest.mark.parametrize(
    "changes",
    [
        {"positions": np.arange(-1, 3, dtype=np.int32)},
        {"positions": np.arange(3, dtype=np.int32)},
        {"positions": np.zeros(0, np.int32)},
        {"sequences": np.full(4, -1, np.int32)},
        {"sequences": np.full(4, 2, np.int32)},
        {"sequences": np.full(5, 0, np.int32)},
        {"wanted": np.ones(3, bool)},
        {"tokens": None},
        {"tokens": np.array([1, 2, 3, 320], np.int32)},
        {"tokens": np.array([1, 2, 3, -1], np.int32)},
        {"tokens": np.array([[1, 2, 3, 4]], np.int32)},
        {"tokens": None, "hidden": np.zeros((4, 64), np.float32)},
    ],
)
def test_a_batch_that_cannot_be_right_is_refused_and_changes_nothing(
    open_engine: Open, changes: dict[str, Any]
) -> None:
    engine, other = open_engine(), open_engine()
    with pytest.raises(StageError) as caught:
        engine.decode(make_batch(4, **changes))
    assert caught.value.code == "bad_batch"
    for good in (engine, other):
        good.decode(make_batch(4))
    assert np.array_equal(engine.logits(3), other.logits(3))


def test_more_rows_than_a_step_takes_are_refused(open_engine: Open) -> None:
    with pytest.raises(StageError, match="1 to 8 fit"):
        open_engine().decode(make_batch(9))


def test_a_step_larger_than_the_whole_cache_is_refused(open_engine: Open) -> None:
    with pytest.raises(StageError, match="1 to 256 fit"):
        open_engine(conditions=Conditions(n_ctx=256, n_ubatch=400)).decode(
            make_batch(300, tokens=np.ones(300, np.int32))
        )


@pytest.mark.parametrize("shape", [(4, 63), (4, 65), (3, 64), (4,), (1, 4, 64)])
def test_hidden_states_of_another_shape_are_refused(open_engine: Open, shape: tuple[int, ...]) -> None:
    engine = open_engine(feeds_tokens=False)
    with pytest.raises(StageError) as caught:
        engine.decode(make_batch(4, tokens=None, hidden=np.zeros(shape, np.float32)))
    assert caught.value.code == "bad_batch"


def test_positions_that_leave_a_gap_are_llama_cpps_error_with_its_words(open_engine: Open) -> None:
    engine = open_engine()
    engine.decode(make_batch(4))
    with pytest.raises(StageError, match="failed to decode") as caught:
        engine.decode(make_batch(2, 17))
    assert caught.value.last_words


def test_a_full_cache_is_told_apart_and_goes_on_after_room_is_made(open_engine: Open) -> None:
    engine = open_engine()
    for first in range(0, 256, 8):
        engine.decode(make_batch(8, first))
    with pytest.raises(StageError) as caught:
        engine.decode(make_batch(4, 0, sequence=1))
    assert caught.value.code == "kv_full"
    engine.remove(0, 128, -1)
    engine.decode(make_batch(4, 0, sequence=1))
    assert np.isfinite(engine.logits(3)).all()


def test_sequences_do_not_see_each_other(open_engine: Open) -> None:
    engine, alone = open_engine(), open_engine()
    alone.decode(make_batch(4))
    engine.decode(make_batch(4, sequence=1, tokens=np.array([300, 301, 302, 303], np.int32)))
    engine.decode(make_batch(4, sequence=0))
    assert np.allclose(engine.logits(3), alone.logits(3), atol=1e-4)


@pytest.mark.parametrize("where", [(-1, 0, -1), (2, 0, -1), (0, -2, -1), (0, 0, -2)])
def test_removing_what_cannot_be_is_refused(open_engine: Open, where: tuple[int, int, int]) -> None:
    with pytest.raises(StageError) as caught:
        open_engine().remove(*where)
    assert caught.value.code == "bad_batch"


def test_a_closed_engine_computes_nothing_and_may_be_closed_again(open_engine: Open) -> None:
    engine = open_engine()
    engine.close()
    for act in (lambda: engine.decode(make_batch(1)), lambda: engine.logits(0), lambda: engine.remove(0, 0, -1)):
        with pytest.raises(StageError, match="closed"):
            act()
    engine.close()


def test_another_number_of_layers_than_planned_is_an_error(open_engine: Open) -> None:
    with pytest.raises(ModelFileError, match="hold 3 layers where 4 were asked"):
        open_engine(n_layer=4)


def test_a_missing_file_is_an_error_that_names_it(open_engine: Open, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"gone\.gguf") as caught:
        open_engine([tmp_path / "gone.gguf"])
    assert caught.value.code == "model_file_missing"


@pytest.mark.parametrize("content", [b"", b"GGUF", b"no model at all" * 100])
def test_a_file_that_is_no_model_is_an_error_with_llama_cpps_words(
    open_engine: Open, tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=r"cannot load bad\.gguf: .+"):
        open_engine([path])


def test_a_truncated_model_is_an_error(open_engine: Open, model: Path, tmp_path: Path) -> None:
    path = tmp_path / "short.gguf"
    path.write_bytes(model.read_bytes()[:-5000])
    with pytest.raises(ModelFileError):
        open_engine([path])


@pytest.mark.parametrize(
    "conditions",
    [
        Conditions(n_ctx=256, n_ubatch=8, type_v="q8_0"),  # a quantised V cache needs flash attention
        Conditions(n_ctx=256, n_ubatch=8, type_k="q6_k"),
        Conditions(n_ctx=256, n_ubatch=8, type_k="no such type"),
        Conditions(n_ctx=2**30, n_ubatch=8),
        Conditions(n_ctx=0, n_ubatch=8),
    ],
)
def test_conditions_that_llama_cpp_refuses_are_a_typed_error(open_engine: Open, conditions: Conditions) -> None:
    with pytest.raises(StageError) as caught:
        open_engine(conditions=conditions)
    assert caught.value.code == "context_refused"


def test_progress_is_told_up_to_the_end(open_engine: Open) -> None:
    shares: list[float] = []
    open_engine(on_progress=shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
