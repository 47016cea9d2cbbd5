"""Which rows go into the next step of a ring: admission, queue and batching of sequences. Pure; `now` is given.

A step has at most `n_ubatch` rows. Sequences that wait to decode come first, the one that waits longest in front, then
prompts in the order of their arrival, each in chunks that fill what is left. At most `window` steps are under way:
chunks of a prompt follow each other, while decoding waits for its sample. With as many as the ring has stages every
stage has work, and in a ring of one all sequences share each step.

The KV cache of `n_ctx` tokens is shared. A request gets a slot once its prompt and its `max_tokens` fit beside what the
others have reserved, so nothing that runs is ever pushed out; requests wait in order and none overtakes. One without
`max_tokens` reserves its prompt and an equal share, and grows beyond it while the cache has room.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from mycoswarm.base.errors import BusyError, InputError

MAX_QUEUED = 32  # requests that wait; on a small machine the last of them already waits for many minutes
_REMEMBERED = 16  # durations of answers that the honest Retry-After is made of
_MAX_RETRY_S = 3600


@dataclass(frozen=True, slots=True)
class Row:
    """One token at one position of a slot's sequence. `is_wanted`: the head samples after it."""

    request_id: str
    slot: int
    position: int
    token: int
    is_wanted: bool


@dataclass(frozen=True, slots=True)
class Turn:
    """The next step. `begun` are requests that got their slot with it: (slot, request id)."""

    begun: tuple[tuple[int, str], ...]
    rows: tuple[Row, ...]


@dataclass(slots=True)
class _Lane:
    """One request. `pending` are tokens not yet sent, the next at `position`; `reserved` is in tokens of KV cache."""

    request_id: str
    pending: deque[int]
    reserved: int
    can_grow: bool
    slot: int = -1
    position: int = 0
    is_decoding: bool = False
    began_at: float = 0.0


@dataclass(slots=True)
class Schedule:
    """The queue and the slots of one ring. Owned by its head."""

    n_ctx: int
    n_ubatch: int
    n_seq_max: int
    window: int = 1
    max_queued: int = MAX_QUEUED
    _queue: deque[_Lane] = field(default_factory=deque)
    _running: dict[str, _Lane] = field(default_factory=dict)
    _free_slots: list[int] = field(default_factory=list)
    _under_way: int = 0
    _durations_s: deque[float] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))

    def __post_init__(self) -> None:
        self._free_slots = list(range(self.n_seq_max))

    def submit(self, request_id: str, tokens: Sequence[int], *, max_tokens: int | None, now: float) -> None:
        """Queue a request whose sequence begins with `tokens` and of which `max_tokens` more will be sampled.

        Raises:
            InputError: no tokens, or more than the context holds (code "context_length_exceeded").
            BusyError: the queue is full.
        """
        if not tokens:
            raise InputError("the prompt is empty", code="empty_prompt")
        if len(tokens) > self.n_ctx:
            raise InputError(
                f"the prompt has {len(tokens)} tokens and the context holds {self.n_ctx}",
                code="context_length_exceeded",
                hint="Shorten the prompt, or open the model with a longer context.",
            )
        if len(self._queue) >= self.max_queued:
            raise BusyError(
                f"{len(self._running)} requests run and {len(self._queue)} wait",
                retry_after_s=self.retry_after_s(now),
            )
        share = max(1, self.n_ctx // self.n_seq_max) if max_tokens is None else max_tokens
        reserved = min(len(tokens) + share, self.n_ctx)
        self._queue.append(_Lane(request_id, deque(tokens), reserved, can_grow=max_tokens is None))

    def turn(self, now: float) -> Turn | None:
        """Take the next step, None where nothing can be sent now."""
        if self._under_way >= self.window:
            return None
        begun = self._begin(now)
        rows: list[Row] = []
        lanes = [lane for lane in self._running.values() if lane.pending]
        prompts = [lane for lane in lanes if not lane.is_decoding]
        decoding = [lane for lane in lanes if lane.is_decoding]
        decoding = decoding[: self._decoding_rows if prompts else self.n_ubatch]
        for lane in decoding + prompts:
            self._take_rows(lane, rows)
        if not rows:
            return None
        self._under_way += 1
        return Turn(begun=tuple((lane.slot, lane.request_id) for lane in begun), rows=tuple(rows))

    def landed(self) -> None:
        """A step came back."""
        self._under_way -= 1

    def sampled(self, request_id: str, token: int) -> bool:
        """Feed a sampled token back. False where the context has no room for it: the sequence has to end."""
        lane = self._running[request_id]
        if lane.position >= lane.reserved:
            if not lane.can_grow or self._reserved >= self.n_ctx:
                return False
            lane.reserved += 1
        lane.pending.append(token)
        lane.is_decoding = True
        self._running[request_id] = self._running.pop(request_id)  # it waits from now on: behind all that wait already
        return True

    def finish(self, request_id: str, now: float) -> int | None:
        """Forget a request, wherever it is. Gives back the slot whose KV has to be removed, None where it had none.

        The slot may be given away at once: frames are in order, so the removal comes before what follows.
        """
        lane = self._running.pop(request_id, None)
        if lane is None:
            self._queue = deque(waiting for waiting in self._queue if waiting.request_id != request_id)
            return None
        self._free_slots.append(lane.slot)
        self._durations_s.append(now - lane.began_at)
        return lane.slot

    def retry_after_s(self, now: float) -> int:
        """When the queue will likely have moved by one: an answer's usual seconds over the answers that run at once.

        Before the first answer is known, what runs has lasted that long and is taken to be half done.
        """
        usual = sorted(self._durations_s)
        lasted = [now - lane.began_at for lane in self._running.values()]
        usual_s = usual[len(usual) // 2] if usual else max(lasted, default=0.0)
        return min(max(1, math.ceil(usual_s / max(1, len(self._running)))), _MAX_RETRY_S)

    @property
    def _reserved(self) -> int:
        return sum(lane.reserved for lane in self._running.values())

    @property
    def _decoding_rows(self) -> int:
        """Rows for decoding where a prompt waits too: one is left for it, or it would wait for all answers to end."""
        return max(1, self.n_ubatch - 1)

    def _begin(self, now: float) -> list[_Lane]:
        """Give slots to the first in the queue, as many as fit; each sends its first rows with this step.

        A request waits for its slot until rows are left for it, so that none is begun without work in the same step.
        """
        begun: list[_Lane] = []
        lanes = [lane for lane in self._running.values() if lane.pending]
        decoding = min(sum(lane.is_decoding for lane in lanes), self._decoding_rows)
        left = self.n_ubatch - decoding - sum(len(lane.pending) for lane in lanes if not lane.is_decoding)
        while self._queue and self._free_slots and left > 0:
            lane = self._queue[0]
            if self._reserved + lane.reserved > self.n_ctx:
                break
            self._queue.popleft()
            lane.slot = self._free_slots.pop(0)
            lane.began_at = now
            self._running[lane.request_id] = lane
            left -= len(lane.pending)
            begun.append(lane)
        return begun

    def _take_rows(self, lane: _Lane, rows: list[Row]) -> None:
        for _ in range(min(len(lane.pending), self.n_ubatch - len(rows))):
            token = lane.pending.popleft()
            rows.append(Row(lane.request_id, lane.slot, lane.position, token, is_wanted=not lane.pending))
            lane.position += 1
