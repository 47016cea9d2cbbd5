"""Where the time of one request goes: the phases of each try. Numbers alone."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

# Of one try, in their order: until it was decided and written down (the wait for the owner's yes is in it), until the
# ring stood or the endpoint was connected, until the first word, until the end. A try that breaks off ends in any.
PHASES = ("deciding_s", "opening_s", "first_s", "answering_s")


class Stopwatch:
    """Of one request, from when it was asked. `clock` is monotonic."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._started_s = self._turned_s = clock()
        self._tries: list[list[float]] = []
        self._asking_s = 0.0
        self._first_s: float | None = None

    def elapsed_s(self) -> float:
        """Since it was asked."""
        return self._clock() - self._started_s

    def begin(self) -> None:
        """A try begins, with deciding."""
        self._tries.append([])

    def turn(self) -> None:
        """A phase ends, and the next one begins, where there is one."""
        if self._tries and len(self._tries[-1]) < len(PHASES):
            now = self._clock()
            self._tries[-1].append(now - self._turned_s)
            self._turned_s = now

    def speak(self) -> None:
        """A word of the answer has come."""
        if self._tries and len(self._tries[-1]) == PHASES.index("first_s"):
            self.turn()
            if self._first_s is None:
                self._first_s = self.elapsed_s()

    @contextlib.contextmanager
    def asking(self) -> Iterator[None]:
        """While inside, the owner is asked."""
        began = self._clock()
        try:
            yield
        finally:
            self._asking_s += self._clock() - began

    def shown(self) -> dict[str, Any]:
        """As JSON, in seconds. `first_token_s` is from when it was asked, `asking_s` the wait for the owner."""
        if self._tries and not self._tries[-1]:
            self.turn()  # it ended while it was being decided
        row: dict[str, Any] = {"tries": [_named(one) for one in self._tries]}
        if self._first_s is not None:
            row["first_token_s"] = round(self._first_s, 6)
        if self._asking_s:
            row["asking_s"] = round(self._asking_s, 6)
        return row


def _named(phases: list[float]) -> dict[str, float]:
    return {name: round(took_s, 6) for name, took_s in zip(PHASES, phases, strict=False)}
