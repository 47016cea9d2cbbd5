"""Lists and searches over a real ledger."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from household import make_swarm
from mycoswarm.base.errors import InputError, NotFoundError
from mycoswarm.daemon.archivist import MAX_SCANNED, PAGE_ROWS, Archivist
from mycoswarm.daemon.standing import read_standing
from mycoswarm.store.ledger import Entry, Ledger
from store.books import ledger_at


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[tuple[Ledger, Archivist]]:
    """A ledger and its reader."""
    _, identity = make_swarm(tmp_path)
    with ledger_at(tmp_path / "ledger.db") as (ledger, _):
        standing = read_standing(tmp_path / "pi", identity)
        yield ledger, Archivist(ledger, standing, name=lambda: "pi")


def fill(ledger: Ledger, count: int, start: int = 0) -> None:
    """Requests with a decision each, then all their ends, by three keys and with two outcomes."""
    numbers = range(start, start + count)
    asked = {n: {"key": f"key{n % 3}", "model": "spore"} for n in numbers}
    begun = [
        Entry("decision", {"asked": asked[n], "outcome": "run", "attempt": 1}, f"request-{n:05d}") for n in numbers
    ]
    ended = [
        Entry("answer", {"key": f"key{n % 3}", "outcome": "stop" if n % 2 else "length"}, f"request-{n:05d}")
        for n in numbers
    ]
    ledger.append_many([*begun, *ended], 5.0)


def walked(archivist: Archivist, limit: int, **wanted: Any) -> list[str]:
    """All pages of a list, as one."""
    found: list[str] = []
    before = None
    while True:
        page = archivist.requests(limit=limit, before=before, **{"key": None, "outcome": None, **wanted})
        assert len(page["requests"]) <= limit
        found += [one["receipt"] for one in page["requests"]]
        before = page["next"]
        if before is None:
            return found


@pytest.mark.parametrize("limit", [1, 7, 1000])
def test_every_request_comes_once_and_the_newest_first_whatever_the_page(
    kept: tuple[Ledger, Archivist], limit: int
) -> None:
    ledger, archivist = kept
    fill(ledger, 40)
    ledger.append("egress", {}, request_id=None, now=6.0)
    ledger.append("tool", {"node": "x", "name": "y"}, request_id="request-00003", now=6.0)
    wanted = [f"request-{n:05d}" for n in reversed(range(40))]
    assert walked(archivist, limit) == wanted
    assert walked(archivist, limit, key="key1") == [one for one in wanted if int(one[-5:]) % 3 == 1]
    assert walked(archivist, limit, key="key1", outcome="stop") == [one for one in wanted if int(one[-5:]) % 6 == 1]
    assert walked(archivist, limit, outcome="cancelled") == []


@pytest.mark.slow
def test_a_filter_that_fits_nothing_stops_and_says_where_to_go_on(kept: tuple[Ledger, Archivist]) -> None:
    ledger, archivist = kept
    ledger.append_many([Entry("answer", {"outcome": "stop"}, f"r{n}") for n in range(MAX_SCANNED + 5)], 1.0)
    page = archivist.requests(limit=5, before=None, key="nobody", outcome=None)
    assert page == {"requests": [], "next": 6}
    assert walked(archivist, 5, key="nobody") == []


def test_rows_of_other_kinds_are_listed_on_request(kept: tuple[Ledger, Archivist]) -> None:
    ledger, archivist = kept
    ledger.append_many([Entry("egress", {"n": n}) for n in range(5)], 1.0)
    page = archivist.rows("egress", limit=3, before=None)
    assert [row["body"]["n"] for row in page["rows"]] == [4, 3, 2] and page["next"] == 3
    page = archivist.rows("egress", limit=3, before=page["next"])
    assert [row["body"]["n"] for row in page["rows"]] == [1, 0] and page["next"] is None


def test_a_request_is_found_by_the_beginning_of_its_id_where_that_is_enough(kept: tuple[Ledger, Archivist]) -> None:
    ledger, archivist = kept
    fill(ledger, 12)
    ledger.append("answer", {}, request_id="short", now=1.0)
    assert archivist.request("short", with_prompt=False)["receipt"] == "short"
    assert archivist.request("request-00003", with_prompt=False)["outcome"] == "stop"
    assert archivist.exposure("request-00003")["receipt"] == "request-00003"
    with pytest.raises(InputError, match="several"):
        archivist.request("request-0001", with_prompt=False)
    with pytest.raises(InputError, match="at least 8"):
        archivist.request("shor", with_prompt=False)
    for unknown in ("request-9", "%%%%%%%%", "ü" * 9, "x" * 5000):
        with pytest.raises(NotFoundError):
            archivist.request(unknown, with_prompt=False)
    assert archivist.exposure("short")["receipt"] == "short", "what the owner refused has its exposure, too"
    ledger.append("ticket", {}, request_id="worked-for", now=1.0)
    with pytest.raises(InputError, match="only worked"):
        archivist.exposure("worked-for")


def test_tickets_come_in_pages_that_are_bounded(kept: tuple[Ledger, Archivist]) -> None:
    ledger, archivist = kept
    ledger.append_many([Entry("ticket", {"ticket": "{}", "signature": "00"}, "r") for _ in range(PAGE_ROWS + 3)], 1.0)
    page = archivist.tickets(0)
    assert len(page.entries) == PAGE_ROWS and not page.is_last
    rest = archivist.tickets(page.entries[-1].row)
    assert [one.row for one in rest.entries] == list(range(PAGE_ROWS + 1, PAGE_ROWS + 4)) and rest.is_last
    ledger.append_many([Entry("ticket", {"ticket": "x" * 60_000, "signature": ""}, "r") for _ in range(30)], 1.0)
    assert 10 < len(archivist.tickets(PAGE_ROWS + 3).entries) < 30
    ledger.append("ticket", {"ticket": "x" * 70_000, "signature": "00"}, request_id="r", now=1.0)
    ledger.append("ticket", {"ticket": 5}, request_id="r", now=1.0)
    assert [one.ticket for one in archivist.tickets(PAGE_ROWS + 33).entries] == ["", ""]
