"""Limits of keys, over a clock that is moved by hand."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mycoswarm.base.errors import BusyError, InputError
from mycoswarm.store.allowance import DAY_S, Allowances
from mycoswarm.store.apikey import Key
from mycoswarm.store.database import Store

NOON = 20_000 * DAY_S + DAY_S / 2


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    made = Store(tmp_path_factory.mktemp("store") / "node.db")
    yield made
    made.close()


def wait_of(allowances: Allowances, key: Key, now: float) -> int | None:
    """None where the request is let in, else for how long it must wait."""
    try:
        allowances.take(key, now)
    except BusyError as error:
        assert error.code == "rate_limited"
        return error.retry_after_s
    return None


def test_a_key_without_limits_is_always_let_in(store: Store) -> None:
    allowances = Allowances(store)
    allowances.spend("free", 10**12, NOON)
    assert [wait_of(allowances, Key("free", 0.0), NOON) for _ in range(100)] == [None] * 100


def test_the_minute_slides_and_the_wait_is_honest(store: Store) -> None:
    allowances, key = Allowances(store), Key("k", 0.0, requests_per_minute=2)
    assert [wait_of(allowances, key, NOON + at) for at in (0.0, 30.5, 40.0, 59.5)] == [None, None, 20, 1]
    assert wait_of(allowances, key, NOON + 60.0) is None  # the request of 0 s has left the minute
    assert wait_of(allowances, key, NOON + 60.0) == 31


def test_keys_do_not_share_a_limit(store: Store) -> None:
    allowances = Allowances(store)
    one, two = Key("one", 0.0, requests_per_minute=1), Key("two", 0.0, requests_per_minute=1)
    assert wait_of(allowances, one, NOON) is None and wait_of(allowances, two, NOON) is None
    assert wait_of(allowances, one, NOON) == 60


@given(st.integers(1, 4), st.lists(st.floats(0, 50).map(lambda gap: gap * gap / 50), max_size=40), st.floats(0, 4e9))
def test_no_minute_ever_holds_more_than_the_limit_and_waiting_as_told_is_enough(
    store: Store, limit: int, gaps: list[float], start: float
) -> None:
    allowances, key = Allowances(store), Key("k", 0.0, requests_per_minute=limit)
    now, let_in = start, []
    for gap in gaps:
        now += gap
        wait_s = wait_of(allowances, key, now)
        if wait_s is not None:
            assert 1 <= wait_s <= 61
            if wait_s > 1:
                assert wait_of(allowances, key, now + wait_s - 1.01) is not None
            now += wait_s
            assert wait_of(allowances, key, now) is None
        let_in.append(now)
        assert sum(now - each < 60 for each in let_in) <= limit


def test_a_clock_that_is_set_back_locks_nobody_out_for_longer_than_a_minute(store: Store) -> None:
    allowances, key = Allowances(store), Key("k", 0.0, requests_per_minute=1)
    assert wait_of(allowances, key, NOON) is None
    assert wait_of(allowances, key, NOON - 7200) == 60
    assert wait_of(allowances, key, NOON - 7140) is None


def test_keys_that_ask_no_more_take_no_memory(store: Store) -> None:
    allowances = Allowances(store)
    for number in range(50):
        allowances.take(Key(f"k{number}", 0.0, requests_per_minute=5), NOON)
    allowances.take(Key("last", 0.0, requests_per_minute=5), NOON + 120)
    assert list(allowances._asked) == ["last"]


def test_tokens_last_until_the_day_turns_also_over_a_restart(tmp_path: Path) -> None:
    store = Store(tmp_path / "node.db")
    allowances, key = Allowances(store), Key("k", 0.0, tokens_per_day=100)
    allowances.spend("k", 99, NOON)
    assert wait_of(allowances, key, NOON) is None
    allowances.spend("k", 1, NOON + 1)
    assert wait_of(allowances, key, NOON + 1.25) == DAY_S // 2 - 1
    store.close()
    store = Store(tmp_path / "node.db")
    allowances = Allowances(store)
    assert allowances.spent("k", NOON) == 100
    assert wait_of(allowances, key, NOON + DAY_S / 2 - 0.5) == 1
    assert wait_of(allowances, key, NOON + DAY_S / 2) is None
    store.close()


def test_days_gone_by_are_deleted(tmp_path: Path) -> None:
    store = Store(tmp_path / "node.db")
    for day in range(3):
        allowances = Allowances(store)
        allowances.spend("a", 1, NOON + day * DAY_S)
        allowances.spend("b", 1, NOON + day * DAY_S)
    assert len(store.read("SELECT * FROM spending")) == 2 and len(allowances._spent) == 2
    store.close()


def test_a_refused_request_counts_as_none(store: Store) -> None:
    allowances, key = Allowances(store), Key("spent", 0.0, requests_per_minute=1, tokens_per_day=1)
    allowances.spend("spent", 1, NOON)
    assert wait_of(allowances, key, NOON) == DAY_S // 2
    assert not allowances._asked.get("spent")


@pytest.mark.parametrize("tokens", [-1, 10**15, 2**63])
def test_a_number_that_no_answer_has_is_refused(store: Store, tokens: int) -> None:
    with pytest.raises(InputError):
        Allowances(store).spend("k", tokens, NOON)


def test_threads_that_spend_at_once_lose_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "node.db")
    allowances = Allowances(store)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: allowances.spend("k", 3, NOON), range(40)))
    assert allowances.spent("k", NOON) == 120 == Allowances(store).spent("k", NOON)
    store.close()
