"""Ring frames: what is written is read back, whatever the chunks; anything else is a protocol error."""

import itertools
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mycoswarm.base.errors import ProtocolError
from mycoswarm.wire.frame import (
    MAX_REQUEST_ID_BYTES,
    MAX_US,
    Beat,
    Begin,
    Bye,
    Frame,
    FrameSplitter,
    Numbering,
    Remove,
    Step,
    Trouble,
    encode,
    lap,
    read_laps,
)

N_EMBD, MAX_ROWS, MAX_SEQUENCES = 6, 8, 4
HEAD_BYTES = 24

numbers = st.integers(0, 2**64 - 1)
sequences = st.integers(0, MAX_SEQUENCES - 1)
texts = st.text(max_size=30)
clocks = st.integers(0, MAX_US)


@st.composite
def steps(draw: st.DrawFn) -> Step:
    rows = draw(st.integers(1, MAX_ROWS))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    tokens = hidden = None
    if draw(st.booleans()):
        hidden = generator.standard_normal((rows, N_EMBD), np.float32)
    else:
        tokens = generator.integers(0, 2**31, rows).astype(np.int32)
    return Step(
        draw(numbers),
        generator.integers(0, 2**31, rows).astype(np.int32),
        generator.integers(0, MAX_SEQUENCES, rows).astype(np.int32),
        generator.integers(0, 2, rows).astype(np.bool_),
        tokens,
        hidden,
        b"".join(draw(st.lists(st.builds(lap, st.none() | clocks, clocks), max_size=4))),
    )


request_ids = st.text(min_size=1).filter(lambda text: len(text.encode()) <= MAX_REQUEST_ID_BYTES)
spans = st.tuples(st.integers(0, 2**30), st.integers(1, 2**30) | st.none()).map(
    lambda pair: (pair[0], -1 if pair[1] is None else pair[0] + pair[1])
)
frames: st.SearchStrategy[Frame] = st.one_of(
    steps(),
    st.builds(Begin, numbers, sequences, request_ids),
    st.builds(lambda number, sequence, span: Remove(number, sequence, *span), numbers, sequences, spans),
    st.builds(Trouble, texts, texts, texts),
    st.builds(Beat, st.just(0), clocks, st.none() | clocks),
    st.builds(Bye),
)


def _splitter() -> FrameSplitter:
    return FrameSplitter(N_EMBD, MAX_ROWS, MAX_SEQUENCES)


def _same(one: Frame, other: Frame) -> bool:
    if not (isinstance(one, Step) and isinstance(other, Step)):
        return one == other
    fields = ("number", "laps")
    arrays = ("positions", "sequences", "wanted", "tokens", "hidden")
    return all(getattr(one, field) == getattr(other, field) for field in fields) and all(
        _same_array(getattr(one, field), getattr(other, field)) for field in arrays
    )


def _same_array(one: np.ndarray | None, other: np.ndarray | None) -> bool:
    if one is None or other is None:
        return one is other
    return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()


def _cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[first:last] for first, last in itertools.pairwise(ends)]


@settings(deadline=None)  # other work on the machine comes in bursts
@given(st.lists(frames, max_size=6), st.lists(st.integers(0, 10_000), max_size=12))
def test_frames_are_read_back_as_written_whatever_the_chunks(written: list[Frame], places: list[int]) -> None:
    splitter = _splitter()
    read: list[Frame] = []
    for chunk in _cut(b"".join(map(encode, written)), places):
        read += splitter.feed(chunk)
    assert len(read) == len(written)
    assert all(map(_same, written, read))
    assert splitter.is_between_frames


def test_frames_are_read_back_byte_by_byte() -> None:
    step = Step(1, np.array([3], np.int32), np.array([0], np.int32), np.array([True]), np.array([7], np.int32))
    splitter = _splitter()
    read: list[Frame] = []
    data = encode(step) + encode(Beat()) + encode(Begin(2, 1, "a"))
    for at in range(len(data)):
        read += splitter.feed(data[at : at + 1])
    assert [type(frame) for frame in read] == [Step, Beat, Begin]


@settings(max_examples=300, deadline=None)
@given(frames, st.integers(0, 10_000), st.binary(min_size=1, max_size=8))
def test_a_damaged_frame_is_an_error_or_a_sound_frame(frame: Frame, place: int, damage: bytes) -> None:
    data = bytearray(encode(frame))
    place %= len(data)
    data[place : place + len(damage)] = damage
    try:
        read = _splitter().feed(bytes(data))
    except ProtocolError as error:
        assert error.side == "remote"
        return
    for sound in read:
        assert encode(sound)  # what gets through could have been sent
        _check_bounds(sound)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.binary(max_size=100), max_size=5))
def test_rubbish_is_an_error_and_never_more_than_one_frame_is_held(chunks: list[bytes]) -> None:
    splitter = _splitter()
    try:
        for chunk in chunks:
            for sound in splitter.feed(chunk):
                _check_bounds(sound)
    except ProtocolError:
        pass


def _check_bounds(frame: Frame) -> None:
    if isinstance(frame, Step):
        rows = len(frame.positions)
        assert 0 < rows <= MAX_ROWS
        assert (frame.tokens is None) != (frame.hidden is None)
        assert frame.hidden is None or frame.hidden.shape == (rows, N_EMBD)
        assert frame.sequences.min() >= 0
        assert frame.sequences.max() < MAX_SEQUENCES
        assert frame.positions.min() >= 0
    if isinstance(frame, Begin | Remove):
        assert 0 <= frame.sequence < MAX_SEQUENCES


def _head(length: int, kind: int, carries: int = 0, rows: int = 0, sequence: int = 0, number: int = 0) -> bytes:
    return struct.pack("<IBBHQIi", length, kind, carries, rows, number, 0, sequence)


@pytest.mark.parametrize(
    "data",
    [
        _head(0, 0),
        _head(0, 7),
        _head(13, 1, 1, 0),  # a step without rows
        _head(13, 1, 0, 1),  # that carries nothing
        _head(13, 1, 3, 1),  # or something unknown
        _head(14, 1, 1, 1),  # a length that is not the rows'
        _head(13 * (MAX_ROWS + 1), 1, 1, MAX_ROWS + 1),
        _head(0xFFFFFFFF, 1, 2, 8),
        _head(0xFFFFFFFF, 2),
        _head(0, 2),  # a request without a name
        _head(8, 3, sequence=MAX_SEQUENCES),
        _head(8, 3, sequence=-1),
        _head(9, 3),
        _head(0xFFFFFFFF, 4),
        _head(1, 5),
        _head(0, 6, number=1),
        _head(0, 5, sequence=1),
        _head(13, 1, 1, 1, sequence=1),  # a lap less than is said
        _head(13 + 8 * 513, 1, 1, 1, sequence=513),
        _head(13, 1, 1, 1, sequence=-1),
        _head(8, 3) + struct.pack("<ii", -1, 5),
        _head(8, 3) + struct.pack("<ii", 5, 5),
        _head(8, 3) + struct.pack("<ii", 5, -2),
        _head(1, 2) + b"\xff",
        _head(1, 4) + b"\xc1",
        _head(13, 1, 1, 1) + struct.pack("<iiiB", -1, 0, 0, 0),  # position
        _head(13, 1, 1, 1) + struct.pack("<iiiB", 0, -1, 0, 0),  # token
        _head(13, 1, 1, 1) + struct.pack("<iiiB", 0, 0, MAX_SEQUENCES, 0),
        _head(13, 1, 1, 1) + struct.pack("<iiiB", 0, 0, -1, 0),
        _head(13, 1, 1, 1) + struct.pack("<iiiB", 0, 0, 0, 2),  # wanted
    ],
)
def test_what_no_stage_would_send_is_a_protocol_error(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        _splitter().feed(data)


@given(st.lists(st.tuples(st.none() | clocks, clocks), max_size=5))
def test_laps_are_read_as_they_were_written(laps: list[tuple[int | None, int]]) -> None:
    assert read_laps(b"".join(lap(*one) for one in laps)) == laps


@given(steps() | st.builds(Beat, st.just(0), clocks, st.none() | clocks), st.integers(0, 2**32 - 1))
def test_steps_and_beats_say_when_they_were_sent(frame: Step | Beat, now_us: int) -> None:
    (read,) = _splitter().feed(encode(frame, now_us))
    assert isinstance(read, Step | Beat) and read.sent_us == now_us


def test_an_absurd_length_is_refused_before_its_bytes_come() -> None:
    with pytest.raises(ProtocolError):
        _splitter().feed(_head(1 << 31, 1, 2, 8))


def test_arrays_of_other_types_are_converted() -> None:
    step = Step(0, np.arange(2), np.zeros(2, np.int8), np.ones(2, np.uint8) > 0, hidden=np.ones((2, N_EMBD)))  # type: ignore[arg-type]  # on purpose
    (read,) = _splitter().feed(encode(step))
    assert isinstance(read, Step)
    assert read.positions.dtype == np.int32
    assert read.hidden is not None
    assert read.hidden.dtype == np.float32


def test_hidden_states_that_are_not_contiguous_are_sent_right() -> None:
    wide = np.arange(4 * N_EMBD, dtype=np.float32).reshape(2, 2 * N_EMBD)[:, ::2]
    step = Step(0, np.arange(2, dtype=np.int32), np.zeros(2, np.int32), np.ones(2, np.bool_), hidden=wide)
    (read,) = _splitter().feed(encode(step))
    assert isinstance(read, Step)
    assert read.hidden is not None
    assert np.array_equal(read.hidden, wide)


def test_arrays_that_were_read_cannot_be_written_to() -> None:
    step = Step(0, np.zeros(1, np.int32), np.zeros(1, np.int32), np.ones(1, np.bool_), np.zeros(1, np.int32))
    (read,) = _splitter().feed(encode(step))
    assert isinstance(read, Step)
    with pytest.raises(ValueError, match="read-only"):
        read.positions[0] = 1


@pytest.mark.parametrize(
    "frame",
    [
        Begin(0, 0, ""),
        Begin(0, 0, "x" * (MAX_REQUEST_ID_BYTES + 1)),
        Begin(-1, 0, "x"),
        Begin(0, 2**31, "x"),
        Remove(0, 0, -1, 4),
        Remove(0, 0, 4, 4),
        Remove(0, 0, 4, -2),
        Remove(0, 0, 0, 2**40),
        Step(0, np.zeros(1, np.int32), np.zeros(1, np.int32), np.ones(1, np.bool_)),
        Step(0, np.zeros(0, np.int32), np.zeros(0, np.int32), np.ones(0, np.bool_), np.zeros(0, np.int32)),
        Step(0, np.zeros(2, np.int32), np.zeros(1, np.int32), np.ones(2, np.bool_), np.zeros(2, np.int32)),
        Step(0, np.zeros(2, np.int32), np.zeros(2, np.int32), np.ones(2, np.bool_), np.zeros(3, np.int32)),
        Step(0, np.zeros(2, np.int32), np.zeros(2, np.int32), np.ones(1, np.bool_), np.zeros(2, np.int32)),
        Step(0, np.zeros(2, np.int32), np.zeros(2, np.int32), np.ones(2, np.bool_), hidden=np.zeros(12, np.float32)),
    ],
)
def test_what_cannot_be_a_frame_is_our_own_fault(frame: Frame) -> None:
    with pytest.raises(ProtocolError) as caught:
        encode(frame)
    assert caught.value.side == "local"


def test_a_long_trouble_is_cut_rather_than_lost() -> None:
    (read,) = _splitter().feed(encode(Trouble("x" * 500, "é" * 100_000, "n" * 500)))
    assert isinstance(read, Trouble)
    assert read.message == "é" * len(read.message)
    assert len(read.message) >= 1000


def test_half_characters_in_texts_do_not_stop_a_trouble() -> None:
    (read,) = _splitter().feed(encode(Trouble("code", "words \ud83d", "node")))
    assert read == Trouble("code", "words ?", "node")


def test_changes_are_numbered_without_gap_or_repeat() -> None:
    numbering = Numbering()
    for number in range(3):
        numbering.check(Begin(number, 0, "a"))
    for wrong in (2, 4):
        with pytest.raises(ProtocolError):
            numbering.check(Remove(wrong, 0, 0, -1))
    numbering.check(Remove(3, 0, 0, -1))


def test_a_head_takes_numbers_in_order() -> None:
    numbering = Numbering()
    assert [numbering.take() for _ in range(3)] == [0, 1, 2]
