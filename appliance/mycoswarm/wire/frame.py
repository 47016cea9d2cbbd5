"""Ring frames: what flows from stage to stage. Bytes in, values out; no sockets.

A frame is a head of 24 bytes and a payload, all little-endian:

    length u32 | kind u8 | carries u8 | rows u16 | number u64 | sent_us u32 | sequence i32

`length` counts the payload alone. A step's payload is positions i32[rows], then tokens i32[rows] or hidden
f32[rows, n_embd], then sequences i32[rows], then wanted u8[rows], then laps u32[2 * laps], whose number stands in the
head's `sequence`. A beat's `number` holds two u32: `heard_us`, `held_us`. Only steps and beats say when they were sent.
What is equal for a whole ring (width, types, model, layers) is agreed on once, when the hop is opened, and never
travels in a frame. The length that a head announces must be exactly the one that its other fields imply, so a splitter
never buffers more than one frame that it would accept.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from mycoswarm.base.errors import ProtocolError

MAX_REQUEST_ID_BYTES = 128  # ours are 32; room for a client's own
MAX_TROUBLE_BYTES = 8192  # three texts, the message cut at `_MAX_TEXT` characters

_HEAD = struct.Struct("<IBBHQIi")
_SPAN = struct.Struct("<ii")  # Remove: first, last
_LAP = struct.Struct("<II")
_STEP, _BEGIN, _REMOVE, _TROUBLE, _BEAT, _BYE = range(1, 7)
_NOTHING, _TOKENS, _HIDDEN = range(3)
_MAX_ROWS = 0xFFFF
_MAX_LAPS = 512  # more stages than models have layers
_UNKNOWN_US = 0xFFFFFFFF
MAX_US = _UNKNOWN_US - 1  # 71 minutes; a step that long is long lost
_MAX_TEXT, _MAX_NAME = 1000, 100  # characters

_INT = np.dtype("<i4")
_FLOAT = np.dtype("<f4")

_trouble_encoder = msgspec.msgpack.Encoder()
_trouble_decoder = msgspec.msgpack.Decoder(tuple[str, str, str])


class Lap(NamedTuple):
    """What one stage tells of a step, in microseconds: on its way here (None: not known), and inside llama.cpp."""

    hop_us: int | None
    compute_us: int


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One decode: rows in batch order. Exactly one of `tokens` and `hidden` is there.

    `positions`, `sequences`, `tokens`: int32[n]; `wanted`: bool[n], rows that the head will sample; `hidden`:
    float32[n, n_embd]. `laps`: those of the stages passed so far, in their order, as `lap` writes and `read_laps` reads
    them; relays only add theirs, so nobody reads them on the way. Arrays out of a splitter are read-only.

    Where it has just arrived: `sent_us` on the clock of the stage before, and `hop_us`, how long it was on its way.
    """

    number: int
    positions: NDArray[np.int32]
    sequences: NDArray[np.int32]
    wanted: NDArray[np.bool_]
    tokens: NDArray[np.int32] | None = None
    hidden: NDArray[np.float32] | None = None
    laps: bytes = b""
    sent_us: int = 0
    hop_us: int | None = None


@dataclass(frozen=True, slots=True)
class Begin:
    """`sequence` now belongs to a request that the stage has admitted."""

    number: int
    sequence: int
    request_id: str


@dataclass(frozen=True, slots=True)
class Remove:
    """Forget KV positions [first, last) of a sequence; `last` -1 is to its end."""

    number: int
    sequence: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Trouble:
    """The ring is lost, and why; `node_id` is where it broke."""

    code: str
    message: str
    node_id: str


@dataclass(frozen=True, slots=True)
class Beat:
    """Sign of life. Microseconds modulo 2**32: `sent_us` on the sender's clock; `heard_us`, the `sent_us` of the last
    one that the sender has heard, and `held_us`, how long before: None where it has heard none."""

    sent_us: int = 0
    heard_us: int = 0
    held_us: int | None = None


@dataclass(frozen=True, slots=True)
class Bye:
    """The sender closes this hop on purpose."""


Change = Step | Begin | Remove  # what alters the KV cache, and so is numbered
Frame = Change | Trouble | Beat | Bye


class Numbering:
    """The one order of a ring's changes: 0, 1, 2, ... Each stage holds one and checks what it receives."""

    def __init__(self) -> None:
        self._expected = 0

    def take(self) -> int:
        """Give the next number to a change of one's own (the head only)."""
        number, self._expected = self._expected, self._expected + 1
        return number

    def check(self, frame: Change) -> None:
        """Accept the next change.

        Raises:
            ProtocolError: a change is missing, repeated or out of order.
        """
        if frame.number != self._expected:
            raise ProtocolError(f"change {frame.number} arrived where {self._expected} comes next")
        self._expected += 1


def lap(hop_us: int | None, compute_us: int) -> bytes:
    """What a stage adds to a step's laps."""
    return _LAP.pack(_packed(hop_us), min(compute_us, MAX_US))


def read_laps(laps: bytes) -> list[Lap]:
    """The laps of a step, in the order of the stages."""
    return [Lap(_unpacked(hop_us), compute_us) for hop_us, compute_us in _LAP.iter_unpack(laps)]


def encode(frame: Frame, sent_us: int = 0) -> bytes:
    """Write one frame, sent at `sent_us` of this machine's clock. Arrays of other integer or float types are converted;
    texts of a Trouble are cut to fit.

    Raises:
        ProtocolError: what is asked cannot be a frame (side "local").
    """
    match frame:
        case Step():
            return _encode_step(frame, sent_us)
        case Begin(number, sequence, request_id):
            text = request_id.encode(errors="replace")
            if not 0 < len(text) <= MAX_REQUEST_ID_BYTES:
                raise _own_fault(f"a request id of {len(text)} bytes")
            return _head(len(text), _BEGIN, number=number, sequence=sequence) + text
        case Remove(number, sequence, first, last):
            if not _is_span(first, last) or max(first, last) >= 2**31:
                raise _own_fault(f"positions [{first}, {last}) cannot be removed")
            return _head(_SPAN.size, _REMOVE, number=number, sequence=sequence) + _SPAN.pack(first, last)
        case Trouble(code, message, node_id):
            texts = (code[:_MAX_NAME], message[:_MAX_TEXT], node_id[:_MAX_NAME])
            # a log's last words may hold halves of characters
            payload = _trouble_encoder.encode([text.encode(errors="replace").decode() for text in texts])
            return _head(len(payload), _TROUBLE) + payload
        case Beat(_, heard_us, held_us):
            return _head(0, _BEAT, number=heard_us << 32 | _packed(held_us), sent_us=sent_us)
        case Bye():
            return _head(0, _BYE)


class FrameSplitter:
    """Cuts a byte stream into frames, whatever the chunks are.

    `n_embd` is the width of hidden states, `max_rows` the ring's n_ubatch, `max_sequences` its n_seq_max. After an
    error the stream has lost its place: close it.
    """

    def __init__(
        self,
        n_embd: int,
        max_rows: int,
        max_sequences: int,
        hop_us: Callable[[int], int | None] = lambda sent_us: None,
        *,
        laps: int | None = None,
    ) -> None:
        """`hop_us` gives how long a step was on its way that has just arrived; `laps`: how many it has, if known."""
        self._n_embd, self._hop_us, self._laps = n_embd, hop_us, laps
        self._max_rows = min(max_rows, _MAX_ROWS)
        self._max_sequences = max_sequences
        self._rest = bytearray()
        self._wanted_bytes = _HEAD.size  # nothing can be done before `_rest` holds this many

    @property
    def is_between_frames(self) -> bool:
        """No half frame is held: where a stream may end."""
        return not self._rest

    def feed(self, data: bytes) -> list[Frame]:
        """Take bytes, give back the frames that are complete.

        Raises:
            ProtocolError: the other side sent what cannot be a frame of this ring.
        """
        if self._rest:
            self._rest += data
            if len(self._rest) < self._wanted_bytes:
                return []
            data = bytes(self._rest)
            self._rest.clear()
        frames: list[Frame] = []
        at = 0
        self._wanted_bytes = _HEAD.size
        while len(data) - at >= _HEAD.size:
            head = _HEAD.unpack_from(data, at)
            self._check_head(*head)
            end = at + _HEAD.size + head[0]
            if end > len(data):
                self._wanted_bytes = end - at
                break
            frames.append(self._read(head, data, at + _HEAD.size))
            at = end
        if at < len(data):
            self._rest += memoryview(data)[at:]
        return frames

    def _check_head(
        self, length: int, kind: int, carries: int, rows: int, number: int, sent_us: int, sequence: int
    ) -> None:
        if kind == _STEP:
            if carries not in (_TOKENS, _HIDDEN):
                raise ProtocolError(f"a step carries neither tokens nor hidden states ({carries})")
            if not 0 < rows <= self._max_rows:
                raise ProtocolError(f"a step of {rows} rows, where 1 to {self._max_rows} are agreed on")
            if not 0 <= sequence <= _MAX_LAPS or self._laps not in (None, sequence):
                raise ProtocolError(f"a step of {sequence} laps")
            fits = length == _step_bytes(rows, self._n_embd if carries == _HIDDEN else 1, sequence)
        else:
            if carries or rows or (sent_us and kind != _BEAT):
                raise ProtocolError(f"a frame of kind {kind} has fields of a step")
            fits = _fits(kind, length)
            if kind in (_BEGIN, _REMOVE):
                if not 0 <= sequence < self._max_sequences:
                    raise ProtocolError(f"sequence {sequence}, where {self._max_sequences} are agreed on")
            elif (number and kind != _BEAT) or sequence:
                raise ProtocolError(f"a frame of kind {kind} has fields of a change")
        if not fits:
            raise ProtocolError(f"a frame of kind {kind} with {rows} rows announces {length} bytes")

    def _read(self, head: tuple[int, ...], data: bytes, at: int) -> Frame:
        length, kind, _, _, number, sent_us, sequence = head
        if kind == _STEP:
            return self._read_step(head, data, at)
        payload = data[at : at + length]
        if kind == _BEGIN:
            try:
                return Begin(number, sequence, payload.decode())
            except UnicodeDecodeError as exc:
                raise ProtocolError("a request id is not text") from exc
        if kind == _REMOVE:
            first, last = _SPAN.unpack(payload)
            if not _is_span(first, last):
                raise ProtocolError(f"positions [{first}, {last}) cannot be removed")
            return Remove(number, sequence, first, last)
        if kind == _TROUBLE:
            try:
                return Trouble(*_trouble_decoder.decode(payload))
            except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
                raise ProtocolError("a trouble frame cannot be read") from exc
        return Beat(sent_us, number >> 32, _unpacked(number & _UNKNOWN_US)) if kind == _BEAT else Bye()

    def _read_step(self, head: tuple[int, ...], data: bytes, at: int) -> Step:
        length, _, carries, rows, number, sent_us, n_laps = head
        laps = data[at + length - _LAP.size * n_laps : at + length]
        positions = np.frombuffer(data, _INT, rows, at)
        at += 4 * rows
        tokens = hidden = None
        if carries == _HIDDEN:
            hidden = np.frombuffer(data, _FLOAT, rows * self._n_embd, at).reshape(rows, self._n_embd)
            at += hidden.nbytes
        else:
            tokens = np.frombuffer(data, _INT, rows, at)
            at += 4 * rows
        sequences = np.frombuffer(data, _INT, rows, at)
        marks = np.frombuffer(data, np.uint8, rows, at + 4 * rows)
        if _least(positions) < 0 or (tokens is not None and _least(tokens) < 0):
            raise ProtocolError("a step has a negative position or token")
        if _least(sequences) < 0 or _most(sequences) >= self._max_sequences:
            raise ProtocolError(f"a step's row names a sequence beyond the {self._max_sequences} agreed on")
        if _most(marks) > 1:
            raise ProtocolError("a step's row is neither wanted nor not wanted")
        wanted, hop_us = marks.view(np.bool_), self._hop_us(sent_us)
        return Step(number, positions, sequences, wanted, tokens, hidden, laps, sent_us, hop_us)


def _least(values: NDArray[np.int32]) -> int:
    """The least value. Of one row without numpy's reduction, which costs a tenth of a hop on a cold cache."""
    return int(values[0] if len(values) == 1 else values.min())


def _most(values: NDArray[np.int32] | NDArray[np.uint8]) -> int:
    """The greatest value; see `_least`."""
    return int(values[0] if len(values) == 1 else values.max())


def _packed(value_us: int | None) -> int:
    return _UNKNOWN_US if value_us is None else min(value_us, MAX_US)


def _unpacked(value_us: int) -> int | None:
    return None if value_us == _UNKNOWN_US else value_us


def _encode_step(step: Step, sent_us: int) -> bytes:
    rows = len(step.positions)
    if (step.tokens is None) == (step.hidden is None):
        raise _own_fault("a step carries either tokens or hidden states")
    values = step.tokens if step.hidden is None else step.hidden
    assert values is not None
    width = 1 if step.hidden is None else step.hidden.shape[-1]
    shapes_fit = values.shape == ((rows,) if step.hidden is None else (rows, width))
    if not (0 < rows <= _MAX_ROWS and shapes_fit and step.sequences.shape == step.wanted.shape == (rows,)):
        raise _own_fault(f"a step of {rows} positions does not fit its other arrays")
    head = _head(
        _step_bytes(rows, width, len(step.laps) // _LAP.size),
        _STEP,
        carries=_TOKENS if step.hidden is None else _HIDDEN,
        rows=rows,
        number=step.number,
        sent_us=sent_us,
        sequence=len(step.laps) // _LAP.size,
    )
    parts = (
        np.ascontiguousarray(step.positions, _INT),
        np.ascontiguousarray(values, _INT if step.hidden is None else _FLOAT),
        np.ascontiguousarray(step.sequences, _INT),
        np.ascontiguousarray(step.wanted, np.bool_),
    )
    return b"".join((head, *(part.data for part in parts), step.laps))


def _step_bytes(rows: int, width: int, laps: int) -> int:
    return rows * (4 + 4 * width + 4 + 1) + _LAP.size * laps


def _fits(kind: int, length: int) -> bool:
    if kind == _BEGIN:
        return 0 < length <= MAX_REQUEST_ID_BYTES
    if kind == _REMOVE:
        return length == _SPAN.size
    if kind == _TROUBLE:
        return 0 < length <= MAX_TROUBLE_BYTES
    return kind in (_BEAT, _BYE) and length == 0


def _is_span(first: int, last: int) -> bool:
    return first >= 0 and (last == -1 or last > first)


def _head(
    length: int,
    kind: int,
    *,
    carries: int = _NOTHING,
    rows: int = 0,
    number: int = 0,
    sent_us: int = 0,
    sequence: int = 0,
) -> bytes:
    try:
        return _HEAD.pack(length, kind, carries, rows, number, sent_us, sequence)
    except struct.error as exc:
        raise _own_fault(f"a number does not fit a frame: {exc}") from exc


def _own_fault(message: str) -> ProtocolError:
    return ProtocolError(message, side="local", hint="This is a fault of mycoSwarm; look at the node's log.")
