"""The calculator: exact, bounded, and deaf to everything that is no arithmetic."""

import contextlib
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mycoswarm.base.errors import InputError
from mycoswarm.sandbox.calculator import calculate


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ("12+30", "42"),
        ("(4+5)*6", "54"),
        ("7/2", "3.5"),
        ("1/3", "0.333333333333333"),
        ("0.1+0.2", "0.3"),
        ("2^10", "1024"),
        ("-7//2", "-4"),
        ("-7%3", "2"),
        ("2**-2", "0.25"),
        ("6 × 7 ÷ 2", "21"),
        ("1e3", "1000"),
        ("10**40/7", "1.42857142857143E+39"),
    ],
)
def test_it_works_out_what_people_write(expression: str, result: str) -> None:
    assert calculate(expression) == result


@pytest.mark.parametrize(
    "expression",
    [
        "", "1+", "x", "f(1)", "__import__('os')", "(1).real", "[1]", "'a'*9", "True+1", "1 if 1 else 2", "1j", "1<2",
        "1/0", "1%0", "0**-1", "2**0.5", "9**9**9", "2**99999", "1e999", "10**999*10**999", "-" * 5000 + "1",
        "(" * 500 + "1" + ")" * 500, "+".join(["1"] * 3000), "1\0", "lambda: 1", "1_0 and 2", "9" * 5000,
    ],
)  # fmt: skip
def test_it_refuses_what_is_none_or_would_never_end(expression: str) -> None:
    with pytest.raises(InputError):
        calculate(expression)


@given(st.integers(-(10**9), 10**9), st.sampled_from("+-*"), st.integers(-(10**9), 10**9))
def test_whole_numbers_come_out_exactly(one: int, sign: str, two: int) -> None:
    wanted = {"+": one + two, "-": one - two, "*": one * two}[sign]
    assert Fraction(calculate(f"({one}){sign}({two})")) == wanted


@given(st.text(max_size=60))
def test_whatever_is_written_gives_a_number_or_a_typed_error(text: str) -> None:
    with contextlib.suppress(InputError):
        Fraction(calculate(text))
