"""Arithmetic as a tree, worked out by hand: nothing of the expression is ever run. Bounded in size and in time."""

import ast
import math
import operator
from collections.abc import Callable
from decimal import Decimal, DecimalException, localcontext
from fractions import Fraction

from mycoswarm.base.errors import InputError

MAX_DIGITS = 1000  # of any number on the way
MAX_POWER = 10_000
MAX_DEPTH = 100
SHOWN_DIGITS = 15  # of a result that is no whole number

_TWO: dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction | int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}


def calculate(expression: str) -> str:
    """Work out + - * / // % ** and brackets over numbers, exactly; the result as decimal text.

    Raises:
        InputError: it is no such expression, or its result cannot be.
    """
    text = expression.strip().replace("×", "*").replace("÷", "/").replace("−", "-").replace("^", "**")
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError) as exc:
        raise _wrong("it is no arithmetic expression") from exc
    return _shown(_value(tree.body, 0))


def _value(node: ast.expr, depth: int) -> Fraction:
    if depth > MAX_DEPTH:
        raise _wrong("it is nested too deep")
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return _bounded(_number(number))
        case ast.UnaryOp(op=ast.UAdd(), operand=inner):
            return _value(inner, depth + 1)
        case ast.UnaryOp(op=ast.USub(), operand=inner):
            return -_value(inner, depth + 1)
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            return _power(_value(left, depth + 1), _value(right, depth + 1))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _TWO:
            one, two = _value(left, depth + 1), _value(right, depth + 1)
            if two == 0 and isinstance(op, ast.Div | ast.FloorDiv | ast.Mod):
                raise _wrong("division by zero")
            return _bounded(Fraction(_TWO[type(op)](one, two)))
    raise _wrong("only numbers, brackets and + - * / // % ** can stand in it")


def _number(number: int | float) -> Fraction:
    if isinstance(number, float) and not math.isfinite(number):
        raise _wrong("a number is too large")
    return Fraction(repr(number)) if isinstance(number, float) else Fraction(number)


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    if exponent.denominator != 1:
        raise _wrong("an exponent must be a whole number")
    times = int(exponent)
    size = max(abs(base.numerator), base.denominator)
    if abs(times) > MAX_POWER or math.log10(size) * abs(times) > MAX_DIGITS:
        raise _wrong("the result is too large")
    if base == 0 and times < 0:
        raise _wrong("division by zero")
    return _bounded(base**times)


def _bounded(value: Fraction) -> Fraction:
    limit = 10**MAX_DIGITS
    if abs(value.numerator) >= limit or value.denominator >= limit:
        raise _wrong("the result is too large")
    return value


def _shown(value: Fraction) -> str:
    if value.denominator == 1:
        return str(value.numerator)
    try:
        with localcontext() as context:
            context.prec = SHOWN_DIGITS
            found = Decimal(value.numerator) / Decimal(value.denominator)
            return f"{found.normalize():f}" if -30 < found.adjusted() < 30 else str(found.normalize())
    except DecimalException as exc:
        raise _wrong("the result is too large") from exc


def _wrong(why: str) -> InputError:
    return InputError(why, hint="Write it like (12+30)*2.", code="bad_expression")
