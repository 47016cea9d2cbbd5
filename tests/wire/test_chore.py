"""Lines of a tool stream: what we write is read, and nothing else."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mycoswarm.base.errors import ProtocolError
from mycoswarm.wire.chore import MAX_TEXT, Chore, Done, Failed, Farewell, Greeting, read_chore, write_chore
from mycoswarm.wire.ticket import Sealed

SEALED = Sealed(b"body", b"signature")


def test_every_line_comes_back_as_it_was() -> None:
    for line in (
        Greeting("n"),
        Chore(ticket=SEALED, arguments='{"a": "\\n"}'),
        Farewell(ticket=SEALED),
        Done(text="one\ntwo", ok=True, seconds=0.5),
        Failed(code="busy", message="no"),
    ):
        written = write_chore(line)
        assert written.count(b"\n") == 1 and read_chore(written) == line


@pytest.mark.parametrize(
    "line", [Done(text="x" * (MAX_TEXT + 1), ok=True, seconds=0), Done(text="", ok=False, seconds=0, code="x" * 65)]
)
def test_a_result_or_a_code_without_end_is_none(line: Done) -> None:
    with pytest.raises(ProtocolError):
        read_chore(write_chore(line))


@given(st.binary(max_size=200))
def test_any_bytes_give_a_line_or_a_typed_error(data: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        read_chore(data)
