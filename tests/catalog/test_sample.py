"""The model of random weights is one that this program takes, cuts and describes like any other."""

from pathlib import Path

import pytest

from mycoswarm.catalog.facts import read_facts
from mycoswarm.catalog.sample import write_sample


@pytest.mark.parametrize(("n_layer", "n_embd"), [(1, 64), (3, 128)])
def test_a_sample_has_the_shape_asked_for_and_can_be_cut_anywhere(tmp_path: Path, n_layer: int, n_embd: int) -> None:
    path = tmp_path / "sample.gguf"
    write_sample(path, n_layer=n_layer, n_embd=n_embd, n_vocab=320, n_ctx=256)
    facts = read_facts(path)
    assert (facts.architecture, facts.n_layer, facts.n_embd) == ("llama", n_layer, n_embd)
    assert (facts.n_vocab, facts.n_ctx_train, facts.quantisation) == (320, 256, "Q8_0")
    assert facts.cuts == tuple(range(1, n_layer)) and facts.splittable == (n_layer > 1)
    assert len(set(facts.layer_bytes)) == 1 and facts.layer_bytes[0] > 0


def test_two_samples_of_one_shape_are_the_same_file(tmp_path: Path) -> None:
    for name in ("one", "other"):
        write_sample(tmp_path / name, n_layer=1, n_embd=64, n_vocab=320)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


def test_a_light_sample_has_the_width_asked_for_and_little_else(tmp_path: Path) -> None:
    for name, is_light in (("light", True), ("real", False)):
        write_sample(tmp_path / name, n_layer=2, n_embd=512, is_light=is_light, n_vocab=320)
    light, real = read_facts(tmp_path / "light"), read_facts(tmp_path / "real")
    assert light.n_embd == real.n_embd == 512 and light.layer_bytes[0] < real.layer_bytes[0] / 3
