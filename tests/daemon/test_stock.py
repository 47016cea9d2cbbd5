"""Models on a real shelf: added, listed and removed."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from household import run
from models import write_random_model
from mycoswarm.base.errors import InputError, ModelFileError, NotFoundError, SwarmError
from mycoswarm.base.settings import Settings
from mycoswarm.daemon.home import Home, open_home
from mycoswarm.daemon.stock import Stock
from rings import FACTS


@contextmanager
def stocks(folder: Path) -> Iterator[tuple[Home, Stock, list[str]]]:
    """The stock of the node "pi" in a swarm whose attic holds another model; what was told of changes."""
    told: list[str] = []
    elsewhere = msgspec.structs.replace(FACTS, name="big", digest="b" * 64)

    async def changed() -> None:
        told.append("changed")

    with open_home(Settings(data_folder=folder / "pi", name="pi")) as home:
        yield home, Stock(home, models=lambda: [(elsewhere, ("attic",))], changed=changed), told


async def added(stock: Stock, file: Path, name: str) -> list[dict[str, Any]]:
    """Add a file, and give what was told."""
    return [event async for event in stock.add(str(file), name)]


async def holders(stock: Stock) -> dict[str, list[str]]:
    """Who holds which model."""
    return {model["name"]: model["held_by"] for model in (await stock.show())["models"]}


@pytest.mark.slow
def test_models_are_added_listed_and_removed_even_where_their_file_has_changed(tmp_path: Path) -> None:
    file = write_random_model(tmp_path / "file.gguf", n_layer=2, width=64, vocab=320)

    async def work() -> None:
        with stocks(tmp_path) as (home, stock, told):
            *_, last = await added(stock, file, "tiny")
            assert last["model"]["name"] == "tiny" and last["model"]["held_by"] == ["pi"] and told == ["changed"]
            assert await holders(stock) == {"big": ["attic"], "spore": ["pi"], "tiny": ["pi"]}
            shown = {model["name"]: model for model in (await stock.show())["models"]}
            assert {name: (one["is_here"], one["is_built_in"]) for name, one in shown.items()} == {
                "big": (False, False),
                "spore": (True, True),
                "tiny": (True, False),
            }
            held = home.folder / "models" / "tiny.gguf"
            changed = held.read_bytes() + b"x"
            held.unlink()  # it may be a hard link with the owner's own file
            held.write_bytes(changed)
            with pytest.raises(ModelFileError, match="has changed") as caught:
                home.shelf.path(last["model"]["digest"])
            assert "models remove tiny" in caught.value.hint
            assert await stock.remove("tiny") == {"name": "tiny"} and told == ["changed", "changed"]
            assert "tiny" not in await holders(stock)
            with pytest.raises(NotFoundError):
                await stock.remove("tiny")
            with pytest.raises(InputError):
                await stock.remove("spore")

    run(work)


@pytest.mark.slow
def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    async def work() -> None:
        with stocks(tmp_path) as (_, stock, told):
            with pytest.raises(SwarmError, match="none"):
                await added(stock, tmp_path / "none.gguf", "none")
            assert not told

    run(work)
