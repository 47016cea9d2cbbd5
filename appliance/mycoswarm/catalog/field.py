"""GGUF's keys and values: one field as the file's own bytes, so that it can be written again unchanged."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum


class Kind(IntEnum):
    """GGUF's value types."""

    UINT8 = 0
    INT8 = 1
    UINT16 = 2
    INT16 = 3
    UINT32 = 4
    INT32 = 5
    FLOAT32 = 6
    BOOL = 7
    STRING = 8
    ARRAY = 9
    UINT64 = 10
    INT64 = 11
    FLOAT64 = 12


LETTERS = {
    Kind.UINT8: "B",
    Kind.INT8: "b",
    Kind.UINT16: "H",
    Kind.INT16: "h",
    Kind.UINT32: "I",
    Kind.INT32: "i",
    Kind.FLOAT32: "f",
    Kind.BOOL: "?",
    Kind.UINT64: "Q",
    Kind.INT64: "q",
    Kind.FLOAT64: "d",
}
Scalar = int | float | bool | str


@dataclass(frozen=True, slots=True)
class Field:
    """One key and its value as the file's own bytes (an array's begin with its item kind and count)."""

    key: str
    kind: Kind
    raw: bytes

    @property
    def is_array(self) -> bool:
        """Whether `items` may be asked for."""
        return self.kind is Kind.ARRAY

    @property
    def item_kind(self) -> Kind:
        """The kind of an array's items."""
        return Kind(struct.unpack_from("<I", self.raw)[0])

    @property
    def count(self) -> int:
        """How many items an array has."""
        return int(struct.unpack_from("<Q", self.raw, 4)[0])

    @property
    def scalar(self) -> Scalar:
        """The value of a field that is not an array."""
        if self.kind is Kind.STRING:
            return self.raw[8:].decode("utf-8", "replace")
        value: Scalar = struct.unpack("<" + LETTERS[self.kind], self.raw)[0]
        return value

    @property
    def items(self) -> list[Scalar]:
        """The values of an array of numbers or booleans."""
        return list(struct.unpack_from(f"<{self.count}{LETTERS[self.item_kind]}", self.raw, 12))


def number_field(key: str, kind: Kind, value: int | float) -> Field:
    """A field that holds one number or boolean."""
    return Field(key=key, kind=kind, raw=struct.pack("<" + LETTERS[kind], value))


def text_field(key: str, value: str) -> Field:
    """A field that holds a string."""
    return Field(key=key, kind=Kind.STRING, raw=encode_text(value))


def array_field(key: str, kind: Kind, values: Sequence[int | float | bool]) -> Field:
    """A field that holds numbers or booleans."""
    raw = struct.pack("<IQ", kind, len(values)) + struct.pack(f"<{len(values)}{LETTERS[kind]}", *values)
    return Field(key=key, kind=Kind.ARRAY, raw=raw)


def encode_text(value: str) -> bytes:
    """A string as GGUF writes it: its length, then its bytes."""
    data = value.encode("utf-8")
    return struct.pack("<Q", len(data)) + data
