"""What is wrong with a field of a request, as errors that name it."""

from typing import Any

from mycoswarm.base.errors import InputError, UnsupportedError

MAX_DEPTH = 64  # of JSON handed on to templates and grammars, which walk it recursively

MAX_VALUES = 20_000  # of a message: 2,048 turns have half of it, and as many small lists hold a server up for 0.1 s


def wrong(field: str, message: str) -> InputError:
    """The error of a missing or wrong value."""
    error = InputError(message)
    error.param = field[:80]
    return error


def unsupported(field: str, message: str) -> UnsupportedError:
    """The error of a field or value that this software does not serve."""
    error = UnsupportedError(message)
    error.param = field[:80]
    return error


def is_shallow(value: Any) -> bool:
    """Whether JSON is nested at most `MAX_DEPTH` deep; counted without recursion."""
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for one in level
            if isinstance(one, dict | list)
            for inner in (one.values() if isinstance(one, dict) else one)
        ]
        if not level:
            return True
    return False


def is_sparse(body: bytes) -> bool:
    """Whether JSON holds at most `MAX_VALUES` values; counted without building them, and whatever texts hold."""
    bare = body.replace(rb"\\", b"").replace(rb"\"", b"")
    if bare.count(b'"') > 4 * MAX_VALUES:
        return False
    structure = b"".join(bare.split(b'"')[::2])
    return sum(map(structure.count, (b",", b"[", b"{"))) <= MAX_VALUES
