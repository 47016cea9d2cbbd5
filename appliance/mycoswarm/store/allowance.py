"""Allowances: how much each API key may ask. Requests per minute in memory, tokens per UTC day on disk.

Covered: a key asks no more than its limits, also across a restart of the daemon for the tokens of a day. Not covered:
an answer that is being made when the day's tokens run out is not cut off; and requests of the last minute are
forgotten when the daemon stops.
"""

import math
import threading
from collections import deque

from mycoswarm.base.errors import BusyError, InputError
from mycoswarm.store.apikey import Key
from mycoswarm.store.database import Store

MINUTE_S = 60.0
DAY_S = 86_400
MAX_SPENT = 10**15  # far above any limit, far below what SQLite can hold


class Allowances:
    """Counts what keys have asked. `now` is always the wall clock, in seconds since 1970. Blocking and thread-safe.

    Bounded: a key's minute holds at most its limit of times, and goes once it is empty; days gone by are deleted.
    """

    def __init__(self, store: Store) -> None:
        """Read what was spent.

        Raises:
            StorageError: it could not be read.
        """
        self._store = store
        self._lock = threading.Lock()
        self._asked: dict[str, deque[float]] = {}
        self._swept_s = 0.0
        rows = store.read("SELECT key_name, day, tokens FROM spending")
        self._spent = {(str(name), int(day)): int(tokens) for name, day, tokens in rows}

    def take(self, key: Key, now: float) -> None:
        """Let one request of `key` in and count it, or refuse it and count nothing.

        Raises:
            BusyError: its limit is reached; `retry_after_s` seconds later a request is let in, to the second.
        """
        with self._lock:
            self._sweep(now)
            if key.tokens_per_day is not None:
                self._hold_tokens(key, key.tokens_per_day, now)
            if key.requests_per_minute is not None:
                self._hold_requests(key, key.requests_per_minute, now)

    def spend(self, key_name: str, tokens: int, now: float) -> None:
        """Count the tokens of an answer, prompt and completion, to the day that it is. They count even where the write
        fails, until the daemon stops.

        Raises:
            InputError: a number of tokens that no answer has.
            StorageError: it could not be written.
        """
        if not 0 <= tokens < MAX_SPENT:
            raise InputError(f"{tokens} is no number of tokens")
        today = int(now // DAY_S)
        with self._lock:
            is_first = not any(day == today for _, day in self._spent)
            total = min(self._spent.get((key_name, today), 0) + tokens, MAX_SPENT)
            self._spent[key_name, today] = total
            if is_first:
                self._spent = {known: spent for known, spent in self._spent.items() if known[1] >= today}
            with self._store.transaction() as transaction:
                if is_first:
                    transaction.write("DELETE FROM spending WHERE day < ?", (today,))
                transaction.write(
                    "INSERT INTO spending (key_name, day, tokens) VALUES (?, ?, ?)"
                    " ON CONFLICT (key_name, day) DO UPDATE SET tokens = excluded.tokens",
                    (key_name, today, total),
                )

    def spent(self, key_name: str, now: float) -> int:
        """The tokens that a key has spent on the UTC day of `now`."""
        with self._lock:
            return self._spent.get((key_name, int(now // DAY_S)), 0)

    def _hold_tokens(self, key: Key, limit: int, now: float) -> None:
        today = int(now // DAY_S)
        if self._spent.get((key.name, today), 0) < limit:
            return
        wait_s = max(1, math.ceil((today + 1) * DAY_S - now))
        raise BusyError(
            f"the key {key.name!r} has spent its {limit} tokens of today",
            retry_after_s=wait_s,
            hint="Wait until midnight UTC, or have the owner raise the key's limit.",
            code="rate_limited",
        )

    def _hold_requests(self, key: Key, limit: int, now: float) -> None:
        asked = self._asked.setdefault(key.name, deque())
        if asked and asked[-1] > now:  # the clock was set back; without this, its keys would wait for the difference
            asked = self._asked[key.name] = deque(min(each, now) for each in asked)
        while asked and now - asked[0] >= MINUTE_S:
            asked.popleft()
        if len(asked) < limit:
            asked.append(now)
            return
        freeing = asked[-limit]  # not the oldest where the key's limit has become smaller
        wait_s = max(1, math.ceil(MINUTE_S - (now - freeing)))
        if now + wait_s - freeing < MINUTE_S:  # floats far from 0 are coarse
            wait_s += 1
        raise BusyError(
            f"the key {key.name!r} has asked {limit} times within a minute",
            retry_after_s=wait_s,
            hint=f"Wait {wait_s} s, or have the owner raise the key's limit.",
            code="rate_limited",
        )

    def _sweep(self, now: float) -> None:
        """Forget the minutes of keys that ask no more, once a minute."""
        if 0 <= now - self._swept_s < MINUTE_S:
            return
        self._swept_s = now
        self._asked = {name: asked for name, asked in self._asked.items() if asked and now - asked[-1] < MINUTE_S}
