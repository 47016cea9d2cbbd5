"""Models pulled over real TLS onto a real shelf: taken in, refused, stopped, gone on with, and noted."""

import asyncio
import hashlib
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from certificates import Authority
from endpoints import Doorkeeper
from household import run
from hub import COMMIT, Hub, serving
from models import write_random_model
from mycoswarm.base.errors import BusyError, InputError, ModelFileError, SwarmError
from mycoswarm.base.settings import Settings
from mycoswarm.catalog.arrival import FOLDER_NAME
from mycoswarm.daemon.carter import Carter
from mycoswarm.daemon.home import Home, open_home
from mycoswarm.daemon.stock import Stock
from mycoswarm.external.target import Limits, Passage

pytestmark = pytest.mark.slow

LIMITS = Limits(resolve_s=1.0, connect_s=2.0, head_s=2.0, silence_s=2.0, whole_s=30.0, answer_bytes=1 << 30)
SOURCE = "hf:o/r/tiny.gguf"


class Yard:
    """A node "pi" that pulls, and what it wrote into its ledger."""

    def __init__(self, home: Home, hub: Hub, authority: Authority) -> None:
        self.home, self.hub, self.rows = home, hub, list[dict[str, Any]]()
        self.keeper = Doorkeeper()
        self.stock = Stock(home, models=list, changed=self._changed)
        self.carter = Carter(
            home.shelf.shelf,
            self.stock.add,
            hub=hub.url,
            passage=Passage(permit=self.keeper, limits=LIMITS, resolve=hub.resolve(), trust=authority.trust()),
            note=self._note,
            may_follow=lambda spot: True,
        )

    async def _changed(self) -> None:
        pass

    def _note(self, kind: str, body: Any, request_id: str | None) -> str:
        assert kind == "pull" and request_id is None
        self.rows.append(dict(body))
        return self.home.ledger.append(kind, body, request_id=None, now=1.0).digest

    async def pull(self, source: str = SOURCE, name: str | None = None) -> list[dict[str, Any]]:
        """All that is told of one pull."""
        async with aclosing(self.carter.pull(source, name, "owner")) as events:
            return [event async for event in events]

    async def refusal(self, source: str = SOURCE, name: str | None = None) -> SwarmError:
        """What one fails with."""
        with pytest.raises(SwarmError) as caught:
            await self.pull(source, name)
        return caught.value

    async def names(self) -> set[str]:
        """The models of this node."""
        return {model["name"] for model in (await self.stock.show())["models"]}

    async def unfinished(self) -> list[dict[str, Any]]:
        """Pulls that broke off."""
        told: list[dict[str, Any]] = (await self.stock.show())["unfinished"]
        return told

    def left(self) -> list[str]:
        """What lies where files come in."""
        folder = self.home.folder / "models" / FOLDER_NAME
        return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("model") / "tiny.gguf"
    return write_random_model(path, n_layer=4, width=64, vocab=320).read_bytes()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def hub(authority: Authority, model: bytes) -> Iterator[Hub]:
    with serving(authority, model) as running:
        yield running


@pytest.fixture
def yard(tmp_path: Path, hub: Hub, authority: Authority) -> Iterator[Yard]:
    with open_home(Settings(data_folder=tmp_path / "pi", name="pi")) as home:
        yield Yard(home, hub, authority)


@asynccontextmanager
async def begun(yard: Yard, source: str = SOURCE) -> AsyncIterator[Any]:
    """A pull of which some has come and no more comes, until it is left."""
    yard.hub.gate.clear()
    async with aclosing(yard.carter.pull(source, None, "owner")) as events:
        while (await anext(events))["done_bytes"] == 0:
            pass
        yield events


def test_a_model_of_the_hub_is_fetched_checked_taken_in_and_noted(yard: Yard) -> None:
    async def work() -> None:
        *told, last = await yard.pull()
        total = len(yard.hub.data)
        assert told[0] == {"phase": "fetching", "done_bytes": 0, "total_bytes": total}
        assert {"phase": "fetching", "done_bytes": total, "total_bytes": total} in told
        assert told[-1]["phase"] == "checking"
        assert last["is_checked"] and last["model"]["digest"] == yard.hub.sha256 and last["model"]["name"] == "tiny"
        assert await yard.names() == {"spore", "tiny"} and yard.left() == [] and not yard.keeper.is_open
        assert yard.home.shelf.path(yard.hub.sha256) is not None
        (row,) = yard.rows
        at = f"127.0.0.1:{yard.hub.port}"
        assert row == {
            "name": "tiny",
            "source": SOURCE,
            "by": "owner",
            "outcome": "taken",
            "hosts": [
                {"host": f"hub.example:{yard.hub.port}", "address": at},
                {"host": f"cdn.example:{yard.hub.port}", "address": at},
            ],
            "revision": COMMIT,
            "total_bytes": total,
            "fetched_bytes": total,
            "sha256": yard.hub.sha256,
            "is_checked": True,
        }

    run(work)


def test_a_plain_address_works_under_a_name_of_ones_own_and_its_query_is_kept_nowhere(yard: Yard) -> None:
    async def work() -> None:
        *_, last = await yard.pull(f"{yard.hub.url}/plain/x.gguf?key=secret", "mine")
        assert last["model"]["name"] == "mine" and not last["is_checked"]
        (row,) = yard.rows
        assert row["source"] == f"{yard.hub.url}/plain/x.gguf" and "secret" not in str(row)
        assert row["sha256"] == yard.hub.sha256 and row["is_checked"] is False

    run(work)


@pytest.mark.parametrize("source", [SOURCE, "plain"])
def test_a_connection_that_is_cut_loses_nothing_and_the_next_try_goes_on_there(yard: Yard, source: str) -> None:
    async def work() -> None:
        where = SOURCE if source == SOURCE else f"{yard.hub.url}/plain/tiny.gguf"
        yard.hub.cuts += [20_000, 30_000]
        for _ in range(2):
            assert (await yard.refusal(where)).code == "server_broke_off"
        (part,) = await yard.unfinished()
        assert part == {
            "name": "tiny",
            "source": where,
            "done_bytes": 50_000,
            "total_bytes": len(yard.hub.data),
        }
        told = await yard.pull(where)
        assert told[0]["done_bytes"] == 50_000 and told[-1]["model"]["digest"] == yard.hub.sha256
        assert yard.hub.ranges == [None, "bytes=20000-", "bytes=50000-"]
        assert [row["outcome"] for row in yard.rows] == ["server_broke_off", "server_broke_off", "taken"]
        assert [row["fetched_bytes"] for row in yard.rows] == [20_000, 30_000, len(yard.hub.data) - 50_000]

    run(work)


def test_who_leaves_stops_it_and_it_goes_on_later(yard: Yard) -> None:
    async def work() -> None:
        async with begun(yard):
            assert isinstance(await yard.refusal(name="other"), BusyError), "one at a time"
            with pytest.raises(BusyError):
                await yard.stock.remove("tiny")
        assert yard.rows[-1]["outcome"] == "stopped" and yard.left() == ["tiny.gguf", "tiny.json"]
        (part,) = await yard.unfinished()
        yard.hub.gate.set()
        told = await yard.pull()
        assert told[0]["done_bytes"] == part["done_bytes"] > 0 and "model" in told[-1]

    run(work)


def test_a_pull_that_broke_off_can_be_dropped(yard: Yard) -> None:
    async def work() -> None:
        async with begun(yard):
            pass
        await yard.stock.remove("tiny")
        assert yard.left() == [] and await yard.unfinished() == []
        with pytest.raises(InputError):
            await yard.stock.remove("tiny")

    run(work)


def test_a_file_that_changed_meanwhile_is_fetched_anew(yard: Yard, tmp_path: Path) -> None:
    async def work() -> None:
        for source in (SOURCE, f"{yard.hub.url}/plain/plain.gguf"):
            async with begun(yard, source):
                pass
            yard.hub.gate.set()
            seed = len(yard.rows)
            new = write_random_model(tmp_path / "new.gguf", n_layer=3, width=64, vocab=320, seed=seed).read_bytes()
            yard.hub.data, yard.hub.tag = new, f'"v{seed}"'
            told = await yard.pull(source)
            assert told[-1]["model"]["digest"] == hashlib.sha256(new).hexdigest()

    run(work)


def test_a_file_with_another_hash_than_promised_is_not_taken_and_not_kept(yard: Yard) -> None:
    async def work() -> None:
        yard.hub.hub_headers["X-Linked-Etag"] = f'"{"0" * 64}"'
        error = await yard.refusal()
        assert isinstance(error, ModelFileError) and error.code == "wrong_hash"
        assert await yard.names() == {"spore"} and yard.left() == [] and yard.rows[0]["outcome"] == "wrong_hash"

    run(work)


@pytest.mark.parametrize(
    "data",
    [
        b"<!doctype html><title>Sign in</title>",
        b"GGUF" + struct.pack("<IQQ", 3, (1 << 64) - 1, 2) + bytes(100),
        b"GGUF" + struct.pack("<IQQ", 3, 1, 1 << 40) + bytes(100_000),
        b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1 << 62) + bytes(100),
        b"GGUF"
        + struct.pack("<IQQ", 3, 1, 1)
        + struct.pack("<Q", 1)
        + b"a"
        + struct.pack("<IIQ", 9, 9, 1 << 40) * 2000,
    ],
    ids=["a page", "tensors without end", "keys without end", "a name without end", "arrays in arrays"],
)
def test_what_is_no_sound_model_is_not_taken_and_not_kept(yard: Yard, data: bytes) -> None:
    async def work() -> None:
        yard.hub.data = data
        error = await yard.refusal()
        assert isinstance(error, ModelFileError), error
        assert await yard.names() == {"spore"} and yard.left() == [] and yard.rows[0]["outcome"] == error.code

    run(work)


def test_a_model_that_is_here_and_a_name_that_is_taken_are_said_before_it_is_fetched(yard: Yard) -> None:
    async def work() -> None:
        await yard.pull()
        before = len(yard.hub.asked)
        assert (await yard.refusal()).code == "name_taken" and len(yard.hub.asked) == before
        assert (await yard.refusal(name="spore")).code == "name_taken" and len(yard.hub.asked) == before
        assert (await yard.refusal(name="../x")).code == "bad_request" and len(yard.hub.asked) == before
        assert (await yard.refusal(name="again")).code == "already_there"
        assert yard.left() == [] and yard.rows[-1]["fetched_bytes"] == 0

    run(work)


def test_a_model_that_the_disk_cannot_hold_is_not_begun(yard: Yard) -> None:
    async def work() -> None:
        yard.hub.length = 1 << 43
        yard.hub.hub_headers["X-Linked-Size"] = str(1 << 43)
        error = await yard.refusal()
        assert error.code == "disk_full" and yard.left() == [] and yard.rows[0]["outcome"] == "disk_full"

    run(work)


def test_a_file_that_is_gone_for_now_does_not_cost_what_has_come(yard: Yard) -> None:
    async def work() -> None:
        async with begun(yard):
            pass
        yard.hub.gate.set()
        for status, code in ((404, "not_found"), (403, "server_refuses"), (500, "server_failed")):
            yard.hub.status = status
            assert (await yard.refusal()).code == code and yard.left()
        yard.hub.status = 200
        assert (await yard.pull())[0]["done_bytes"] > 0

    run(work)


def test_a_file_that_had_come_whole_is_only_taken_in(yard: Yard) -> None:
    """As after a kill between the last byte and the shelf."""

    async def work() -> None:
        async with aclosing(yard.carter.pull(SOURCE, None, "owner")) as events:
            async for event in events:
                if event["done_bytes"] == event["total_bytes"]:
                    break
        if await yard.names() == {"spore"}:
            before = len(yard.hub.asked)
            await yard.pull()
            assert len(yard.hub.asked) == before
        assert await yard.names() == {"spore", "tiny"} and yard.left() == []

    run(work)


def test_who_leaves_while_it_is_checked_finds_it_on_the_shelf(yard: Yard) -> None:
    async def work() -> None:
        async with aclosing(yard.carter.pull(SOURCE, None, "owner")) as events:
            async for event in events:
                if event["phase"] == "checking" and event["done_bytes"]:
                    break
        await asyncio.sleep(0)
        yard.home.shelf.refresh()
        assert await yard.names() == {"spore", "tiny"} and yard.left() == []
        assert yard.rows[-1]["outcome"] == "taken"

    run(work)
