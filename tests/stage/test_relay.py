"""What a relay passes on, and what it refuses. The layers are faked: they add one."""

import asyncio

import numpy as np
import pytest
from numpy.typing import NDArray

from mycoswarm.base.errors import CaptureError, ProtocolError, RingError, StageError
from mycoswarm.stage.engine import Batch, Decoded
from mycoswarm.stage.relay import Relay, Work
from mycoswarm.stage.worker import Worker
from mycoswarm.wire.frame import Begin, Change, Remove, Step, lap, read_laps

WIDTH = 8


class AddingLayers:
    """Adds one to each hidden state, counts what it did; `rows` of what it should give are missing."""

    def __init__(self, missing: int = 0) -> None:
        self.n_embd = WIDTH
        self.missing = missing
        self.decoded = 0
        self.removed: list[tuple[int, int, int]] = []

    def decode(self, batch: Batch) -> Decoded:
        assert batch.hidden is not None
        self.decoded += 1
        return Decoded(batch.hidden[self.missing :] + 1, 5)

    def remove(self, sequence: int, first: int, last: int) -> None:
        self.removed.append((sequence, first, last))


class DoublingTable:
    """A token's embedding is twice its id."""

    def rows(self, tokens: NDArray[np.int32]) -> NDArray[np.float32]:
        return np.repeat(tokens[:, None] * np.float32(2), WIDTH, axis=1).astype(np.float32)


class ListLoop:
    """Gives out a list of changes, keeps what it is sent, then is lost."""

    def __init__(self, *changes: Change) -> None:
        self.changes = list(changes)
        self.sent: list[Change] = []

    async def send(self, frame: Change) -> None:
        self.sent.append(frame)

    async def receive(self) -> Change:
        if not self.changes:
            raise RingError("no more", code="end")
        return self.changes.pop(0)


def tokens(number: int, sequence: int = 0) -> Step:
    ids = np.array([3, 4], np.int32)
    return Step(number, np.arange(2, dtype=np.int32), np.full(2, sequence, np.int32), np.ones(2, np.bool_), ids)


def hidden(number: int, sequence: int = 0) -> Step:
    step = tokens(number, sequence)
    states = np.zeros((2, WIDTH), np.float32)
    return Step(number, step.positions, step.sequences, step.wanted, None, states, lap(None, 100), hop_us=40)


def run(loop: ListLoop, layers: AddingLayers, *, first: bool, admitted: tuple[str, ...] = ("r",)) -> RingError:
    async def main() -> None:
        with Worker() as worker:
            relay = Relay(Work(layers, DoublingTable() if first else None, worker), loop)
            for request_id in admitted:
                relay.admit(request_id)
            await relay.run()

    with pytest.raises(RingError) as caught:
        asyncio.run(main())
    return caught.value


def test_the_first_stage_looks_tokens_up_and_passes_hidden_states_on() -> None:
    loop, layers = ListLoop(Begin(0, 0, "r"), tokens(1)), AddingLayers()
    assert run(loop, layers, first=True).code == "end"
    begin, step = loop.sent
    assert begin == Begin(0, 0, "r")
    assert isinstance(step, Step) and step.tokens is None and step.hidden is not None and step.number == 1
    np.testing.assert_array_equal(step.hidden[:, 0], [7, 9])


def test_a_later_stage_adds_its_own_times_after_those_of_the_stages_before() -> None:
    loop, layers = ListLoop(Begin(0, 0, "r"), hidden(1)), AddingLayers()
    assert run(loop, layers, first=False).code == "end"
    step = loop.sent[1]
    assert isinstance(step, Step) and read_laps(step.laps) == [(None, 100), (40, 5)]
    np.testing.assert_array_equal(step.hidden, np.ones((2, WIDTH)))


def test_a_removal_is_applied_and_passed_on() -> None:
    loop, layers = ListLoop(Remove(0, 2, 3, -1)), AddingLayers()
    assert run(loop, layers, first=False).code == "end"
    assert loop.sent == [Remove(0, 2, 3, -1)] and layers.removed == [(2, 3, -1)]


@pytest.mark.parametrize(
    "changes",
    [
        (Begin(0, 0, "stranger"), hidden(1)),
        (hidden(0),),
        (Begin(0, 1, "r"), hidden(1, sequence=0)),
        (Begin(0, 0, "r"), Begin(1, 0, "stranger")),
    ],
)
def test_a_row_or_request_without_a_ticket_here_computes_nothing_and_ends_the_ring(changes: tuple[Change, ...]) -> None:
    loop, layers = ListLoop(*changes), AddingLayers()
    assert run(loop, layers, first=False).code == "bad_ticket"
    assert layers.decoded == 0 and not any(isinstance(frame, Step) for frame in loop.sent)


def test_a_request_whose_ticket_is_over_computes_nothing_more() -> None:
    layers = AddingLayers()

    async def main() -> None:
        with Worker() as worker:
            loop = ListLoop(Begin(0, 0, "r"), hidden(1), hidden(2))
            relay = Relay(Work(layers, None, worker), loop)
            relay.admit("r")

            async def send(frame: Change) -> None:
                if frame.number == 1:
                    relay.dismiss("r")

            loop.send = send  # type: ignore[method-assign]  # the ticket ends between two steps
            await relay.run()

    with pytest.raises(RingError) as caught:
        asyncio.run(main())
    assert caught.value.code == "bad_ticket" and layers.decoded == 1


@pytest.mark.parametrize(("first", "step"), [(True, hidden(1)), (False, tokens(1))])
def test_tokens_are_for_the_first_stage_and_hidden_states_for_the_others(first: bool, step: Step) -> None:
    loop, layers = ListLoop(Begin(0, 0, "r"), step), AddingLayers()
    assert isinstance(run(loop, layers, first=first), ProtocolError)
    assert layers.decoded == 0


def test_missing_rows_are_an_error_and_are_never_sent_on() -> None:
    loop = ListLoop(Begin(0, 0, "r"), hidden(1))
    assert isinstance(run(loop, AddingLayers(missing=1), first=False), CaptureError)
    assert loop.sent == [Begin(0, 0, "r")]


def test_an_unexpected_fault_of_the_layers_is_a_stages_failure() -> None:
    class BrokenLayers(AddingLayers):
        def decode(self, batch: Batch) -> Decoded:
            raise ZeroDivisionError("oops")

    loop = ListLoop(Begin(0, 0, "r"), hidden(1))
    assert isinstance(run(loop, BrokenLayers(), first=False), StageError)
