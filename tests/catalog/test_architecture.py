"""The list of splittable architectures: what is allowed, refused and rewritten."""

from pathlib import Path

import gguf
import numpy as np
import pytest

from models import ARCHITECTURES as TESTED
from models import write_random_model
from mycoswarm.base.errors import SplitError
from mycoswarm.catalog.architecture import (
    ARCHITECTURES,
    cut_points,
    find_architecture,
    find_split_fault,
    input_scale,
    shard_fields,
)
from mycoswarm.catalog.container import read_container


def fault_of(path: Path) -> str:
    return find_split_fault(read_container(path)) or ""


def write_with(path: Path, source: Path, extra: dict[str, object]) -> Path:
    """Copy a model with other or more keys; a list of numbers becomes an array, an array a tensor."""
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(path, reader.fields["general.architecture"].contents())
    for key, field in reader.fields.items():
        if not key.startswith("GGUF.") and key != "general.architecture" and key not in extra:
            kind = field.types[0]
            writer.add_key_value(key, field.contents(), kind, field.types[-1] if kind == 9 else None)
    for key, value in extra.items():
        if isinstance(value, np.ndarray):
            writer.add_tensor(key, value)
        elif isinstance(value, list):
            writer.add_array(key, value)
        elif isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, int):
            writer.add_uint32(key, value)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_at_least_ten_architectures_are_listed_and_each_has_a_test_model() -> None:
    assert len(ARCHITECTURES) >= 10
    assert set(ARCHITECTURES) == set(TESTED)


@pytest.mark.parametrize("name", TESTED)
def test_a_model_of_each_can_be_cut_between_any_two_layers(name: str, tmp_path: Path) -> None:
    model = read_container(write_random_model(tmp_path / "m.gguf", name))
    assert find_split_fault(model) is None
    n_layer = model.integer(f"{name}.block_count")
    assert n_layer is not None
    assert cut_points(n_layer) == tuple(range(1, n_layer))


def test_asking_for_another_architecture_names_those_on_the_list() -> None:
    with pytest.raises(SplitError, match="'mamba'") as caught:
        find_architecture("mamba")
    assert "qwen3moe" in caught.value.hint


@pytest.mark.slow
def test_layer_counts_that_mean_another_behaviour_run_whole(tmp_path: Path) -> None:
    for name, n_layer in (("gemma3", 62), ("gemma3", 63), ("command-r", 64)):
        assert "in another way" in fault_of(write_random_model(tmp_path / "m.gguf", name, n_layer=n_layer))
    for name, n_layer in (("gemma3", 61), ("command-r", 63), ("llama", 62)):
        assert not fault_of(write_random_model(tmp_path / "m.gguf", name, n_layer=n_layer))


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({"llama.deepstack_mapping": [1, 2, 3]}, "do not know how to cut"),
        ({"llama.attention.head_count_kv": [2, 2]}, "2 items for 3 layers"),
        ({"llama.attention.head_count_kv": [2, 2, 1]}, "differs from layer to layer"),
        ({"llama.nextn_predict_layers": 1}, "predict further tokens"),
        ({"llama.pooling_type": 1}, "embedding model"),
        ({"llama.attention.causal": False}, "embedding model"),
        ({"blk.3.attn_norm.weight": np.zeros(64, np.float32)}, "no layer that we know"),
        ({"token_types.weight": np.zeros(64, np.float32)}, "no layer that we know"),
        ({"llama.block_count": 4}, "no tensors"),
        ({"llama.block_count": 0}, "how many layers"),
    ],
)
def test_what_we_cannot_cut_for_certain_runs_whole(tmp_path: Path, extra: dict[str, object], words: str) -> None:
    source = write_random_model(tmp_path / "s.gguf", "llama", n_layer=3)
    assert words in fault_of(write_with(tmp_path / "m.gguf", source, extra))


def test_equal_heads_per_layer_are_cut_to_the_range(tmp_path: Path) -> None:
    source = write_random_model(tmp_path / "s.gguf", "llama", n_layer=3)
    model = read_container(write_with(tmp_path / "m.gguf", source, {"llama.attention.head_count_kv": [2, 2, 2]}))
    assert find_split_fault(model) is None
    fields = shard_fields(find_architecture("llama"), model.fields, 1, 3, 3)
    assert fields["llama.attention.head_count_kv"].items == [2, 2]


def test_the_window_pattern_is_written_out_for_the_range(tmp_path: Path) -> None:
    source = write_random_model(tmp_path / "s.gguf", "gemma3", n_layer=14)
    entry = find_architecture("gemma3")
    whole = [layer % 6 < 5 for layer in range(14)]
    for extra, expected in (
        ({}, whole),
        ({"gemma3.attention.sliding_window_pattern": 3}, [layer % 3 < 2 for layer in range(14)]),
        ({"gemma3.attention.sliding_window_pattern": whole[::-1]}, whole[::-1]),
    ):
        model = read_container(write_with(tmp_path / "m.gguf", source, dict(extra)))
        assert find_split_fault(model) is None
        fields = shard_fields(entry, model.fields, 4, 9, 14)
        assert fields["gemma3.attention.sliding_window_pattern"].items == expected[4:9]
        assert fields["gemma3.block_count"].scalar == 5


def test_a_range_of_layers_that_see_everything_has_no_window_or_one_that_hides_nothing(tmp_path: Path) -> None:
    gemma = read_container(write_random_model(tmp_path / "g.gguf", "gemma3"))
    fields = shard_fields(find_architecture("gemma3"), gemma.fields, 5, 6, 26)
    assert not [key for key in fields if "sliding_window" in key]
    oss = read_container(write_random_model(tmp_path / "o.gguf", "gpt-oss"))
    fields = shard_fields(find_architecture("gpt-oss"), oss.fields, 1, 2, 24)
    assert fields["gpt-oss.attention.sliding_window"].scalar == 1 << 24
    assert fields["gpt-oss.attention.sliding_window_pattern"].items == [True]
    assert fields["gpt-oss.rope.freq_base_swa"].scalar == oss.scalar("gpt-oss.rope.freq_base") == 10000.0
    fields = shard_fields(find_architecture("gpt-oss"), oss.fields, 1, 3, 24)
    assert fields["gpt-oss.attention.sliding_window"].scalar == 16
    assert fields["gpt-oss.attention.sliding_window_pattern"].items == [False, True]


def test_input_scales_go_into_the_look_up(tmp_path: Path) -> None:
    for name, scale in (("gemma3", 8.0), ("granite", 12.0), ("llama", 1.0)):
        model = read_container(write_random_model(tmp_path / "m.gguf", name))
        entry = find_architecture(name)
        assert input_scale(entry, model, 64) == scale
        fields = shard_fields(entry, model.fields, 0, 2, model.integer(f"{name}.block_count") or 0)
        assert f"{name}.embedding_scale" not in fields or fields[f"{name}.embedding_scale"].scalar == 0
