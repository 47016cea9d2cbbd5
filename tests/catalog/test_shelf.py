"""The shelf: models under names, and the built-in one."""

import os
from pathlib import Path

import pytest

from models import write_random_model
from mycoswarm.base.errors import InputError, ModelFileError, NotFoundError, StorageError
from mycoswarm.catalog.piece import write_manifest
from mycoswarm.catalog.shelf import BUILT_IN, Shelf

pytestmark = pytest.mark.slow  # each addition starts the child that reads the file


@pytest.fixture
def built_in(tmp_path: Path) -> Path:
    return write_random_model(tmp_path / "built-in.gguf", n_layer=4, seed=7)


@pytest.fixture
def shelf(tmp_path: Path, built_in: Path) -> Shelf:
    return Shelf(tmp_path / "shelf", built_in=built_in)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_random_model(tmp_path / "My Model.v2.gguf", n_layer=3)


def test_an_added_model_is_found_by_name_and_digest_and_can_be_removed(shelf: Shelf, model: Path) -> None:
    seen: list[tuple[int, int]] = []
    added = shelf.add(model, watch=lambda done, total: seen.append((done, total)))
    assert added.name == "My-Model.v2"
    assert added.manifest == write_manifest(model)
    assert added.path.read_bytes() == model.read_bytes()
    assert seen[-1][0] == seen[-1][1]
    assert seen == sorted(seen)
    assert shelf.find("My-Model.v2") == shelf.find(added.facts.digest[:8].upper()) == added
    assert [entry.name for entry in shelf.list()] == ["My-Model.v2", BUILT_IN]
    shelf.remove("My-Model.v2")
    assert [entry.name for entry in shelf.list()] == [BUILT_IN]
    assert model.exists()
    assert not [path for path in shelf.folder.iterdir() if "My" in path.name]


def test_a_model_that_cannot_be_split_is_kept_without_a_manifest(shelf: Shelf, tmp_path: Path) -> None:
    added = shelf.add(write_random_model(tmp_path / "one.gguf", n_layer=1))
    assert added.manifest is None
    assert added.facts.split_reason == "it has one layer only"
    assert shelf.find("one") == added


def test_a_broken_file_leaves_the_shelf_as_it_was(shelf: Shelf, model: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(model.read_bytes()[:-5000])
    with pytest.raises(ModelFileError):
        shelf.add(broken)
    assert [entry.name for entry in shelf.list()] == [BUILT_IN]


def test_names_are_unique_plain_and_not_the_built_in_ones(shelf: Shelf, model: Path, tmp_path: Path) -> None:
    shelf.add(model, "small")
    other = write_random_model(tmp_path / "other.gguf", n_layer=3, seed=1)
    for name in ("SMALL", "small", "spore", "Spore", "", "a/b", "..", ".hidden", "a b", "x" * 200):
        with pytest.raises(InputError) as caught:
            shelf.add(other, name)
        assert caught.value.hint
    with pytest.raises(InputError, match="already here under the name 'small'"):
        shelf.add(model, "again")
    assert len(shelf.list()) == 2


def test_a_model_that_is_not_there_is_an_error_that_names_what_there_is(shelf: Shelf, model: Path) -> None:
    shelf.add(model, "small")
    for reference in ("big", "", "../small", shelf.find("small").facts.digest[:5], "f" * 64):
        with pytest.raises(NotFoundError) as caught:
            shelf.find(reference)
        assert "small" in caught.value.hint
        assert BUILT_IN in caught.value.hint
    with pytest.raises(NotFoundError):
        shelf.remove("big")


def test_the_built_in_model_is_always_there_and_cannot_be_removed(shelf: Shelf, built_in: Path) -> None:
    spore = shelf.find(BUILT_IN)
    assert spore.is_built_in
    assert spore.path == built_in
    assert spore.manifest == write_manifest(built_in)
    with pytest.raises(InputError):
        shelf.remove(BUILT_IN)
    assert shelf.find(spore.facts.digest[:12]) == spore


def test_a_new_built_in_model_replaces_its_record(shelf: Shelf, built_in: Path) -> None:
    old = shelf.find(BUILT_IN)
    write_random_model(built_in, n_layer=5, seed=8)
    assert shelf.find(BUILT_IN).facts.n_layer == 5 != old.facts.n_layer


def test_a_shelf_without_the_built_in_file_is_empty(tmp_path: Path) -> None:
    assert Shelf(tmp_path / "shelf", built_in=tmp_path / "none.gguf").list() == ()


def test_a_file_that_changed_or_went_is_noticed(shelf: Shelf, model: Path) -> None:
    added = shelf.add(model, "small")
    os.utime(added.path, (1, 1))
    with pytest.raises(ModelFileError, match="changed"):
        shelf.find("small")
    added.path.unlink()
    with pytest.raises(NotFoundError):
        shelf.find("small")


def test_another_shelf_on_the_same_folder_sees_the_same(shelf: Shelf, model: Path, built_in: Path) -> None:
    added = shelf.add(model, "small")
    assert Shelf(shelf.folder, built_in=built_in).find("small") == added


def test_a_shelf_that_cannot_be_written_is_a_storage_error(tmp_path: Path, model: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError):
        Shelf(tmp_path / "file", built_in=tmp_path / "none.gguf").add(model)


def test_the_real_built_in_model_can_be_split(tmp_path: Path) -> None:
    spore = Shelf(tmp_path).find(BUILT_IN)
    assert spore.facts.splittable
    assert spore.facts.n_layer >= 6
