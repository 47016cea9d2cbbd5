"""What we say about model files, and how the child that reads them is held."""

import sys
import time
from pathlib import Path

import gguf
import msgspec
import numpy as np
import pytest

from models import TEMPLATE, write_random_model
from mycoswarm.base.errors import ModelFileError, SetupError, StorageError
from mycoswarm.catalog.facts import ModelFacts, facts_of, read_facts

LIMITED = """
import sys
from mycoswarm.catalog.inspection import limit_self
limit_self(int(sys.argv[2]))
"""


def limited(script: str) -> tuple[str, ...]:
    return (sys.executable, "-c", LIMITED + script)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_random_model(tmp_path / "m.gguf", "llama", n_layer=3)


def test_the_facts_of_a_small_llama_are_right(model: Path) -> None:
    facts = read_facts(model)
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(model).tensors}
    layer = sum(int(t.n_bytes) for name, t in tensors.items() if name.startswith("blk.1."))
    assert (facts.architecture, facts.quantisation, facts.name) == ("llama", "Q8_0", "random weights")
    assert (facts.n_layer, facts.n_embd, facts.n_vocab, facts.n_ctx_train) == (3, 64, 320, 2048)
    assert facts.layer_bytes == (layer,) * 3
    assert facts.kv_bytes_per_token == (2 * (16 + 16) * 2,) * 3  # 2 heads, keys and values of 16, two bytes each
    assert facts.parameters == sum(int(t.n_elements) for t in tensors.values())
    assert facts.table_bytes == int(tensors["token_embd.weight"].n_bytes)
    assert facts.output_bytes == int(tensors["output.weight"].n_bytes) + 64 * 4
    assert (facts.template, facts.sliding_window, facts.experts) == (TEMPLATE, None, 0)
    assert (facts.splittable, facts.split_reason, facts.cuts) == (True, "listed", (1, 2))
    assert facts.file_bytes == model.stat().st_size


def test_a_tied_model_counts_its_table_as_output_too(tmp_path: Path) -> None:
    facts = read_facts(write_random_model(tmp_path / "m.gguf", "llama", n_layer=2, tied=True))
    assert facts.output_bytes == facts.table_bytes + 64 * 4


def test_experts_count_into_their_layers(tmp_path: Path) -> None:
    plain = read_facts(write_random_model(tmp_path / "p.gguf", "llama", n_layer=2))
    mixture = read_facts(write_random_model(tmp_path / "e.gguf", "llama", n_layer=2, experts=4))
    assert mixture.experts == 4
    assert mixture.layer_bytes[0] > 2 * plain.layer_bytes[0]


def test_heads_per_layer_give_a_cache_per_layer(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "deci")
    writer.add_block_count(2)
    writer.add_head_count([4, 4])
    writer.add_head_count_kv([1, 2])
    writer.add_tensor("token_embd.weight", np.zeros((32, 64), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    facts = read_facts(tmp_path / "m.gguf")
    assert facts.kv_bytes_per_token == (64, 128)
    assert not facts.splittable
    assert "'deci' is not on the list" in facts.split_reason


@pytest.mark.slow
def test_the_child_says_the_same_and_tells_how_far_it_is(model: Path) -> None:
    seen: list[tuple[int, int]] = []
    assert facts_of(model, 30, watch=lambda done, total: seen.append((done, total))) == read_facts(model)
    assert seen[-1] == (model.stat().st_size, model.stat().st_size)


@pytest.mark.slow
def test_a_refusal_of_the_child_arrives_as_the_same_error(tmp_path: Path) -> None:
    (tmp_path / "no.gguf").write_bytes(b"hello")
    with pytest.raises(ModelFileError, match="does not begin with GGUF") as caught:
        facts_of(tmp_path / "no.gguf", 30)
    assert caught.value.hint == "Name a model file that ends in .gguf."
    with pytest.raises(ModelFileError, match="there is no file"):
        facts_of(tmp_path / "none.gguf")


def test_a_part_of_a_model_and_a_projector_are_refused_with_a_way_out(tmp_path: Path) -> None:
    for keys, words in (({"split.count": 3}, "one part"), ({"clip.block_count": 2}, "no language model")):
        writer = gguf.GGUFWriter(tmp_path / "m.gguf", "clip")
        for key, value in keys.items():
            writer.add_uint32(key, value)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.close()
        with pytest.raises(ModelFileError, match=words) as caught:
            read_facts(tmp_path / "m.gguf")
        assert caught.value.hint


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("while True: pass", "too long"),
        ("import time; time.sleep(60)", "too long"),
        ("bytearray(3 << 30)", "died of it"),
        (
            "import os; os.write(os.open(sys.argv[1] + '.txt', os.O_CREAT | os.O_WRONLY), b'x'); print()",
            "died of it",
        ),
        ("print('[1, 2')", "nonsense"),
        ('print(\'{"type":"outcome"}\')', "nonsense"),
        ("sys.stdout.write('x' * (40 << 20))", "safe limits"),
    ],
)
def test_a_child_that_hangs_grows_writes_or_babbles_costs_only_itself(model: Path, script: str, words: str) -> None:
    start = time.monotonic()
    with pytest.raises(ModelFileError, match=words):
        facts_of(model, 1 if "too long" in words else 30, command=limited(script))
    assert time.monotonic() - start < 15


def test_no_child_is_a_setup_error(model: Path) -> None:
    with pytest.raises(SetupError):
        facts_of(model, command=("/no/such/program",))


def test_facts_of_a_file_that_cannot_be_read_is_a_storage_error(model: Path) -> None:
    refusal = 'print(\'{"type":"refusal","kind":"StorageError","message":"m","hint":"h","code":"c"}\')'
    with pytest.raises(StorageError) as caught:
        facts_of(model, 30, command=(sys.executable, "-c", refusal))
    assert (caught.value.message, caught.value.hint, caught.value.code) == ("m", "h", "c")


def test_facts_survive_a_journey_as_json(model: Path) -> None:
    facts = read_facts(model)
    assert msgspec.json.decode(msgspec.json.encode(facts), type=ModelFacts) == facts
