"""The GGUF container: read a header without trusting it, and write headers of our own.

Source of the format: ggml/src/gguf.cpp of llama.cpp. `gguf.GGUFReader` is not used: it maps the file and loops over
counts that the file names, so 40 bytes can keep it busy for ever. Covered here: every count, length and offset is
checked against a limit and the file's size before it is used, so reading costs at most `MAX_HEADER_BYTES` of memory
and time in proportion. Not covered: whether the weights make sense; big-endian files and GGUF 1 are refused.
"""

import os
import stat
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from mycoswarm.base.errors import ModelFileError, StorageError
from mycoswarm.catalog.field import LETTERS, Field, Kind, Scalar, encode_text, number_field

MAGIC = b"GGUF"
VERSION = 3
MAX_HEADER_BYTES = 256 << 20  # the largest tokenizers (262k words with merges) take about 20 MB
MAX_FIELDS = 1 << 14  # real files hold some dozens
MAX_TENSORS = 1 << 16
MAX_NAME_BYTES = 63  # GGML_MAX_NAME - 1
MAX_KEY_BYTES = 1 << 10  # the format allows 65535; real keys stay under 100
MAX_DIMENSIONS = 4  # GGML_MAX_DIMS
PAGE_BYTES = 4096  # our own files: data begins on a page, so that a file system can share blocks
_FIRST_READ_BYTES = 1 << 20
_OLD_ALIGNMENT = 32  # GGUF_DEFAULT_ALIGNMENT
_PADDING_KEY = "mycoswarm.padding"


_SIZES = {kind: struct.calcsize("<" + letter) for kind, letter in LETTERS.items()}

_read_length = struct.Struct("<Q").unpack_from


@dataclass(frozen=True, slots=True)
class TensorFacts:
    """One tensor. `shape` is ggml's order (row width first), `offset` counts from the start of the file."""

    name: str
    shape: tuple[int, ...]
    kind: GGMLQuantizationType
    offset: int
    bytes: int

    @property
    def elements(self) -> int:
        """How many numbers it holds."""
        product = 1
        for width in self.shape:
            product *= width
        return product


@dataclass(frozen=True, slots=True)
class Container:
    """A GGUF file's header. Tensors stand in file order; `data_offset` is where their data begins."""

    fields: dict[str, Field]
    tensors: tuple[TensorFacts, ...]
    data_offset: int
    file_bytes: int

    def scalar(self, key: str) -> Scalar | None:
        """A value that is not an array, or None where the key is absent or an array."""
        field = self.fields.get(key)
        return None if field is None or field.is_array else field.scalar

    def integer(self, key: str) -> int | None:
        """A whole number, or None where the key is absent or something else."""
        value = self.scalar(key)
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    def text(self, key: str) -> str | None:
        """A string, or None where the key is absent or something else."""
        value = self.scalar(key)
        return value if isinstance(value, str) else None


def read_container(path: Path) -> Container:
    """Read a file's header, trusting nothing in it.

    Raises:
        ModelFileError: not a sound GGUF file; the message says where it is wrong.
        StorageError: the file cannot be read.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ModelFileError(f"{path} is not a file", hint="Name the .gguf file itself.")
        with path.open("rb") as file:
            return _Parser(file, file.seek(0, os.SEEK_END)).parse()
    except FileNotFoundError as exc:
        raise ModelFileError(f"there is no file {path}", hint="Check the path.", code="no_such_file") from exc
    except OSError as exc:
        raise StorageError(f"{path} cannot be read: {exc.strerror}") from exc


class _Parser:
    """Walks over a header; `_buffer` grows by doubling, never past `MAX_HEADER_BYTES` or the file's end."""

    def __init__(self, file: BinaryIO, file_bytes: int) -> None:
        self._file = file
        self._file_bytes = file_bytes
        self._buffer = b""
        self._position = 0

    def parse(self) -> Container:
        self._file.seek(0)
        if self._take(4) != MAGIC:
            raise _fault("it does not begin with GGUF", hint="Name a model file that ends in .gguf.")
        self._check_version(self._number(Kind.UINT32))
        tensor_count, field_count = self._number(Kind.UINT64), self._number(Kind.UINT64)
        if field_count > MAX_FIELDS or tensor_count > MAX_TENSORS:
            raise _fault(f"it claims {field_count} keys and {tensor_count} tensors")
        fields: dict[str, Field] = {}
        for _ in range(field_count):
            field = self._field()
            if field.key in fields:
                raise _fault(f"the key {field.key!r} stands twice")
            fields[field.key] = field
        alignment = _alignment(fields)
        raw = [self._tensor() for _ in range(tensor_count)]
        start = _pad(self._position, alignment)
        tensors = _place(raw, start, alignment, self._file_bytes)
        return Container(fields=fields, tensors=tensors, data_offset=start, file_bytes=self._file_bytes)

    @staticmethod
    def _check_version(version: int) -> None:
        if version & 0xFFFF == 0:
            raise _fault("it is written for big-endian machines", hint="Download the little-endian file.")
        if version not in (2, 3):
            raise _fault(f"it is of GGUF version {version}", hint="Download a current file of this model (GGUF 3).")

    def _need(self, count: int) -> None:
        """Have `count` more bytes in the buffer."""
        end = self._position + count
        if end <= len(self._buffer):
            return
        if end > self._file_bytes:
            raise _fault(f"it ends in the middle of its header, at byte {self._file_bytes}")
        if end > MAX_HEADER_BYTES:
            raise _fault(f"its header is longer than {MAX_HEADER_BYTES} bytes")
        goal = min(max(end, 2 * len(self._buffer), _FIRST_READ_BYTES), self._file_bytes, MAX_HEADER_BYTES)
        self._buffer += self._file.read(goal - len(self._buffer))
        if end > len(self._buffer):
            raise _fault("it grew shorter while it was read")

    def _take(self, count: int) -> bytes:
        self._need(count)
        self._position += count
        return self._buffer[self._position - count : self._position]

    def _number(self, kind: Kind) -> int:
        value: int = struct.unpack("<" + LETTERS[kind], self._take(_SIZES[kind]))[0]
        return value

    def _kind(self) -> Kind:
        number = self._number(Kind.UINT32)
        try:
            return Kind(number)
        except ValueError as exc:
            raise _fault(f"it holds a value of unknown type {number}") from exc

    def _name(self, limit: int) -> str:
        length = self._number(Kind.UINT64)
        if not 0 < length <= limit:
            raise _fault(f"a name in it is {length} bytes long")
        try:
            return self._take(length).decode("utf-8")
        except UnicodeDecodeError as exc:
            raise _fault("a name in it is not text") from exc

    def _field(self) -> Field:
        key = self._name(MAX_KEY_BYTES)
        kind = self._kind()
        start = self._position
        if kind is Kind.ARRAY:
            item = self._kind()
            count = self._number(Kind.UINT64)
            if item is Kind.ARRAY:
                raise _fault(f"the key {key!r} holds arrays of arrays")
            if item is Kind.STRING:
                self._skip_strings(count)
            else:
                self._take(count * _SIZES[item])
        elif kind is Kind.STRING:
            self._skip_strings(1)
        else:
            self._take(_SIZES[kind])
        return Field(key=key, kind=kind, raw=self._buffer[start : self._position])

    def _skip_strings(self, count: int) -> None:
        self._need(8 * count)  # refuses an absurd count before the loop
        position, buffer = self._position, self._buffer
        for _ in range(count):  # half a million in a large tokenizer: kept lean
            if position + 8 > len(buffer):
                self._position = position
                self._need(8)
                buffer = self._buffer
            position += 8 + _read_length(buffer, position)[0]
        self._position = position
        self._need(0)

    def _tensor(self) -> tuple[str, tuple[int, ...], GGMLQuantizationType, int]:
        name = self._name(MAX_NAME_BYTES)
        dimensions = self._number(Kind.UINT32)
        if not 1 <= dimensions <= MAX_DIMENSIONS:
            raise _fault(f"the tensor {name!r} has {dimensions} dimensions")
        shape = tuple(self._number(Kind.UINT64) for _ in range(dimensions))
        number, offset = self._number(Kind.UINT32), self._number(Kind.UINT64)
        try:
            return name, shape, GGMLQuantizationType(number), offset
        except ValueError as exc:
            raise _fault(
                f"the tensor {name!r} is of unknown type {number}", hint="Update this software, or take another file."
            ) from exc


def tensor_bytes(shape: Sequence[int], kind: GGMLQuantizationType) -> int:
    """How many bytes a tensor's data takes; a row is a whole number of the type's blocks.

    Raises:
        ModelFileError: a width of zero or below, a row that is not whole blocks, or an absurd product.
    """
    block: int
    block_bytes: int
    block, block_bytes = GGML_QUANT_SIZES[kind]
    elements = 1
    for width in shape:
        elements *= width
        if width <= 0 or elements > 1 << 48:
            raise _fault(f"a tensor in it has the shape {tuple(shape)}")
    if shape[0] % block:
        raise _fault(f"a row of {shape[0]} numbers cannot be stored as {kind.name}")
    return elements // block * block_bytes


def encode_header(
    fields: Iterable[Field],
    tensors: Sequence[tuple[str, tuple[int, ...], GGMLQuantizationType]],
    region_bytes: int | None = None,
) -> bytes:
    """Write a GGUF 3 header of exactly `region_bytes` (default: the fewest whole pages); data follows, by pages.

    Raises:
        StorageError: the header does not fit its region (a fault of ours).
    """
    plain = [field for field in fields if field.key not in ("general.alignment", _PADDING_KEY)]
    plain.append(number_field("general.alignment", Kind.UINT32, PAGE_BYTES))
    infos, offset = [], 0
    for name, shape, kind in tensors:
        infos.append(encode_text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset))
        offset += _pad(tensor_bytes(shape, kind), PAGE_BYTES)
    start = MAGIC + struct.pack("<IQQ", VERSION, len(infos), len(plain) + 1)
    body = b"".join(encode_text(field.key) + struct.pack("<I", field.kind) + field.raw for field in plain)
    rest = b"".join(infos)
    bare = len(start) + len(body) + len(encode_text(_PADDING_KEY)) + 4 + 8 + len(rest)
    region = _pad(bare, PAGE_BYTES) if region_bytes is None else region_bytes
    if bare > region or region % PAGE_BYTES:
        raise StorageError(f"a header of {bare} bytes does not fit {region}", hint="Please report this as a fault.")
    padding = encode_text(_PADDING_KEY) + struct.pack("<I", Kind.STRING) + encode_text(" " * (region - bare))
    return start + body + padding + rest


def padded_bytes(count: int) -> int:
    """`count` rounded up to whole pages, as tensors lie in our own files."""
    return _pad(count, PAGE_BYTES)


def _pad(count: int, alignment: int) -> int:
    return -(-count // alignment) * alignment


def _alignment(fields: dict[str, Field]) -> int:
    field = fields.get("general.alignment")
    if field is None:
        return _OLD_ALIGNMENT
    value = field.scalar if field.kind is Kind.UINT32 else 0
    if not isinstance(value, int) or not 0 < value <= 1 << 20 or value & (value - 1):
        raise _fault(f"its alignment is {value}, not a power of two")
    return value


def _place(
    raw: list[tuple[str, tuple[int, ...], GGMLQuantizationType, int]], start: int, alignment: int, file_bytes: int
) -> tuple[TensorFacts, ...]:
    """Check that the tensors lie one after the other inside the file, as llama.cpp wants them."""
    seen: set[str] = set()
    placed: list[TensorFacts] = []
    expected = 0
    for name, shape, kind, offset in raw:
        if name in seen:
            raise _fault(f"the tensor {name!r} stands twice")
        seen.add(name)
        count = tensor_bytes(shape, kind)
        if offset != expected:
            raise _fault(f"the tensor {name!r} lies at {offset} where {expected} comes next")
        if start + offset + count > file_bytes:
            raise _fault(f"it ends before the tensor {name!r} does: it is not whole")
        placed.append(TensorFacts(name=name, shape=shape, kind=kind, offset=start + offset, bytes=count))
        expected += _pad(count, alignment)
    return tuple(placed)


def _fault(what: str, hint: str | None = None) -> ModelFileError:
    return ModelFileError(f"this is not a sound GGUF file: {what}", hint=hint)
