"""Who computes: one worker thread, or, for short steps in a row, the event loop's own thread.

Handing a step to a thread and back costs about 150 µs of a hop in a running ring (both threads sleep between steps,
and wake with cold caches), more than the network. While it computes, the event loop hears nobody; that is harmless for
milliseconds and fatal for seconds, because neighbours that hear nothing for 2 s give the ring up. So a step runs here
only where nothing else is being computed and the last step, of as many rows or more, was short and a moment ago: a
machine that was idle may first have to read its weights from the disk again.
"""

import asyncio
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
    """An executor of one thread. What `do` gets with a `Step` as its first argument may run in the caller's thread."""

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
        """Compute it in the thread, in the order of submitting."""
        self._under_way += 1
        return self._pool.submit(self._counted, fn, *args, **kwargs)

    async def do(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Compute it, here or in the thread, and give its result. Here, no future and no wake-up is paid for."""
        step = args[0] if args and isinstance(args[0], Step) else None
        if step is not None and self._is_free(step):
            self.inline_steps += 1
            return self._timed(step, fn, *args, **kwargs)
        return await asyncio.wrap_future(self.submit(fn, *args, **kwargs))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the thread."""
        self._pool.shutdown(wait, cancel_futures=cancel_futures)

    def _is_free(self, step: Step) -> bool:
        """Whether nothing else is being computed, and this step will be short."""
        if self._under_way != self._done or len(step.positions) > self._last_rows:
            return False
        return self._last_s < SHORT_S and self._clock() - self._last_at < RECENT_S

    def _counted(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        step = args[0] if args and isinstance(args[0], Step) else None
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
