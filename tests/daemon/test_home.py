"""The data folder, opened; and the shelf as the daemon asks it."""

import logging
from pathlib import Path

import pytest

from models import write_random_model
from mycoswarm.base.errors import ModelFileError, NotFoundError, SetupError
from mycoswarm.base.settings import Settings
from mycoswarm.catalog.shelf import Shelf
from mycoswarm.daemon.home import LOOK_S, ShelfView, open_home


class Clock:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class CountingShelf(Shelf):
    """A real shelf that counts how often it was read."""

    reads = 0

    def list(self):  # type: ignore[no-untyped-def]  # as the shelf's own
        self.reads += 1
        return super().list()


@pytest.fixture
def view(tmp_path: Path) -> ShelfView:
    """A shelf with one small model and no built-in one."""
    shelf = CountingShelf(tmp_path / "models", built_in=tmp_path / "none")
    shelf.add(write_random_model(tmp_path / "file.gguf", n_layer=2, width=64, vocab=320), "tiny")
    shelf.reads = 0
    return ShelfView(shelf, Clock())


def test_the_shelf_is_read_again_only_when_a_look_is_old(view: ShelfView) -> None:
    shelf, clock = view.shelf, view._clock
    assert isinstance(shelf, CountingShelf) and isinstance(clock, Clock)
    assert [facts.name for facts in view.facts()] == ["tiny"]
    view.models()
    clock.now += LOOK_S
    view.models()
    assert shelf.reads == 1
    clock.now += 0.001
    view.models()
    assert shelf.reads == 2
    view.refresh()
    view.models()
    assert shelf.reads == 3


def test_models_are_found_by_digest_and_changed_files_are_refused(view: ShelfView) -> None:
    digest = view.models()[0].facts.digest
    path = view.path(digest)
    assert path is not None and view.manifest(digest).model_digest == digest
    assert view.path("0" * 64) is None
    with pytest.raises(NotFoundError):
        view.manifest("0" * 64)
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(ModelFileError):
        view.path(digest)


def test_a_shelf_that_cannot_be_read_is_empty_and_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "x.gguf").write_bytes(b"")
    (folder / "x.json").mkdir()  # reading it is an error, for root too
    view = ShelfView(Shelf(folder, built_in=tmp_path / "none"), clock)
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            assert view.models() == ()
            clock.now += LOOK_S * 2
    assert len(caplog.records) == 1
    (folder / "x.json").rmdir()
    assert view.models() == ()


def test_a_home_is_one_daemons_and_keeps_who_it_is(tmp_path: Path) -> None:
    settings = Settings(data_folder=tmp_path / "node", name="attic")
    with open_home(settings) as home:
        assert home.identity.name == "attic" and home.folder == tmp_path / "node"
        first = (home.identity.node_id, home.instance_id)
        with pytest.raises(SetupError), open_home(settings):
            pass
    with open_home(settings) as home:
        assert home.identity.node_id == first[0] and home.instance_id != first[1]
