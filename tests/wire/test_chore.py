"""Lines of a tool stream: what we write is read, and nothing else."""

import contextlib

from hypothesis import given
from hypothesis import strategies as st

from mycoswarm.base.errors import ProtocolError
from mycoswarm.wire.chore import Chore, Done, Failed, Farewell, Greeting, read_chore, write_chore
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


@given(st.binary(max_size=200))
def test_any_bytes_give_a_line_or_a_typed_error(data: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        read_chore(data)
