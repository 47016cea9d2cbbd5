"""Vectors that a node sends: the right ones pass, every other is a typed error."""

import struct

import pytest

from mycoswarm.base.errors import ProtocolError
from mycoswarm.chat.sheaf import Sheaf
from mycoswarm.wire.report import Finished, Vector

END = Finished(request_id="r", reason="stop", prompt_tokens=1, completion_tokens=0)


def vector(index: int, *values: float) -> Vector:
    return Vector(request_id="r", index=index, values=struct.pack(f"<{len(values)}f", *values))


def test_vectors_of_one_width_in_order_pass() -> None:
    sheaf = Sheaf(2)
    sheaf.take(vector(0, 1, 2))
    sheaf.take(vector(1, 0, 0))
    sheaf.end(END)
    Sheaf(0).end(END)


@pytest.mark.parametrize(
    ("vectors", "why"),
    [
        ([vector(1, 1.0)], "vector 1 where 0 of 2 comes next"),
        ([vector(0, 1.0), vector(0, 1.0)], "vector 0 where 1 of 2 comes next"),
        ([vector(0, 1.0), vector(1, 1.0), vector(2, 1.0)], "vector 2 where 2 of 2 comes next"),
        ([vector(0, 1.0), vector(1, 1.0, 2.0)], "different widths"),
        ([Vector(request_id="r", index=0, values=b"12345")], "different widths"),
        ([vector(0, 1.0, float("nan"))], "not all numbers"),
        ([vector(0, float("inf"))], "not all numbers"),
    ],
)
def test_other_vectors_are_refused(vectors: list[Vector], why: str) -> None:
    sheaf = Sheaf(2)
    with pytest.raises(ProtocolError, match=why):
        for one in vectors:
            sheaf.take(one)


def test_an_end_before_all_vectors_is_refused() -> None:
    sheaf = Sheaf(2)
    sheaf.take(vector(0, 1.0))
    with pytest.raises(ProtocolError, match=r"ended \(stop\) after 1 of 2"):
        sheaf.end(END)
