"""Who computes: one worker thread, or, for short steps in a row, the event loop's own thread.

Handing a step to a thread and back costs about 150 µs of a hop in a running ring (both threads sleep between steps,
and wake with cold caches), more than the network. While it computes, the event loop hears nobody; that is harmless for
milliseconds and fatal for seconds, because neighbours that hear nothing for 2 s give the ring up. So a step runs here
only where nothing else is being computed and the last step, of as many rows or more, was short and a moment ago: a
machine that was idle may first have to read its weights from the disk again.
"""

import time
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from mycoswarm.wire.frame import Step

SHORT_S = 0.02  # a hundredth of what neighbours bear
RECENT_S = 1.0

P = ParamSpec("P")
T = TypeVar("T")


class Worker(Executor):
    """An executor of one thread. Works whose first argument is a `Step` may run in the thread that submits them."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._pool = ThreadPoolExecutor(1, "llama")
        self._clock = clock
        self._under_way = 0  # changed in the submitting thread and by the pool's one thread, each a single operation
        self._done = 0
        self._last_rows = 0
        self._last_s = SHORT_S
        self._last_at = 0.0
        self.inline_steps = 0

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Compute it, here or in the thread. What is submitted is done in order."""
        step = args[0] if args and isinstance(args[0], Step) else None
        if step is not None and self._under_way == self._done and self._is_short(len(step.positions)):
            self.inline_steps += 1
            future: Future[T] = Future()
            try:
                future.set_result(self._timed(step, fn, *args, **kwargs))
            except Exception as exc:
                future.set_exception(exc)
            return future
        self._under_way += 1
        return self._pool.submit(self._counted, step, fn, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the thread."""
        self._pool.shutdown(wait, cancel_futures=cancel_futures)

    def _is_short(self, rows: int) -> bool:
        is_recent = self._clock() - self._last_at < RECENT_S
        return rows <= self._last_rows and self._last_s < SHORT_S and is_recent

    def _counted(self, step: Step | None, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return fn(*args, **kwargs) if step is None else self._timed(step, fn, *args, **kwargs)
        finally:
            self._done += 1

    def _timed(self, step: Step, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        started = self._clock()
        try:
            return fn(*args, **kwargs)
        finally:
            self._last_at = self._clock()
            self._last_rows, self._last_s = len(step.positions), self._last_at - started
