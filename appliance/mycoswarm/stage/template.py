"""A model's own chat template, rendered under limits. It comes out of a file from the internet: hostile input.

The environment is jinja2's immutable sandbox, set up as Hugging Face's transformers does it, which templates are
written for: trimmed blocks, `break` and `continue`, `{% generation %}`, `tojson`, `raise_exception`, `strftime_now`.

Covered: reaching into Python (the sandbox); endless and nested loops and recursion (a deadline, checked at each line
of Python that runs); growing texts and lists by operators, macros, blocks and methods (each result is measured before
or as it is made); arguments that make one call huge, such as widths (only filters and methods that templates use are
offered). Not covered: one comparison of two different, deeply shared structures can take for ever in C. It hangs this
stage alone, whose silence ends it (DESIGN 7).
"""

import json
import logging
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from types import FrameType
from typing import Any, NoReturn

from jinja2 import nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from mycoswarm.base.errors import InputError, ModelError, SwarmError

MAX_SOURCE_CHARS = 256 << 10  # the longest of the 70 templates that llama.cpp tests with has 32 thousand
MAX_TEXT_CHARS = 32 << 20  # twice what an order may carry (wire/line.py)
MAX_ITEMS = 1 << 20  # of one list, or of a structure that is written out
LIMIT_S = 5.0  # rendering takes milliseconds; a Raspberry Pi under load is a hundred times slower
_MAX_BITS = 128  # templates count messages
_MAX_INDENT = 16
_FILTERS = (
    "abs capitalize count d default dictsort e escape first float groupby indent int items join last length list "
    "lower map max min reject rejectattr replace reverse safe select selectattr sort string title tojson trim unique "
    "upper wordcount"
)
_TEXT_METHODS = (
    "capitalize casefold count endswith find format index isalnum isalpha isdigit islower isnumeric isspace isupper "
    "join lower lstrip partition removeprefix removesuffix replace rfind rindex rpartition rsplit rstrip split "
    "splitlines startswith strip swapcase title upper"
)
_WIDE_FORMAT = re.compile(r"\d{4}|:[^{}]*\{")  # a width of thousands, or one that is given as an argument
_WIDE_PERCENT = re.compile(r"%[^a-zA-Z%]*(\d{4}|\*)")
_NOT_ASCII = re.compile(r"[^\x00-\x7f\U00010600-\U0001077f]")  # but the marks of prompt.py, which must come through

_log = logging.getLogger(__name__)

Json = Mapping[str, Any]


class ChatTemplate:
    """A compiled template. `words` are the names and texts that it looks for in what it is given."""

    def __init__(
        self, source: str, *, bos: str, eos: str, now: Callable[[], datetime] = datetime.now, limit_s: float = LIMIT_S
    ) -> None:
        """`limit_s`: how long reading it and each rendering may take.

        Raises:
            ModelError: the template cannot be used.
        """
        if len(source) > MAX_SOURCE_CHARS:
            raise ModelError(f"the model's chat template has {len(source)} characters", code="bad_chat_template")
        environment = _Sandbox(extensions=["jinja2.ext.loopcontrols", _Generation])
        environment.globals |= {"raise_exception": _refuse, "strftime_now": lambda form: now().strftime(str(form))}
        self.source, self._limit_s = source, limit_s
        self._names = {"bos_token": bos, "eos_token": eos}
        with _limits("cannot be read", limit_s, is_loop_bound=False):
            self._template = environment.from_string(source)
            self.words = _words(environment.parse(source))

    def render(self, messages: Sequence[Json], tools: Sequence[Json]) -> str:
        """The prompt's text, up to where the answer begins. Blocks for milliseconds, at most for `limit_s`.

        Raises:
            InputError: the template itself refuses these messages, in its words.
            ModelError: the template fails, or goes beyond a limit.
        """
        with _limits("failed on these messages", self._limit_s):
            return self._template.render(
                messages=list(messages), tools=list(tools) or None, add_generation_prompt=True, **self._names
            )


@contextmanager
def _limits(what: str, limit_s: float, *, is_loop_bound: bool = True) -> Iterator[None]:
    """Run what a template asks for in this thread: against the deadline, and with its errors made ours.

    The deadline is looked at on each call, and, where code of the template itself can loop, on each line.
    """
    deadline = time.monotonic() + limit_s

    def trace(frame: FrameType, event: str, argument: object) -> Any:  # a tracer's type is recursive
        if time.monotonic() > deadline:
            raise _too_much(f"ran for more than {limit_s:g} s")
        return trace if is_loop_bound else None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    except SwarmError:
        raise
    except Exception as exc:  # whatever a template does wrong comes out as the Python error that it leads to
        _log.info("the chat template %s (%s)", what, type(exc).__name__)  # its words may be those of a message
        raise ModelError(
            f"the model's chat template {what}: {exc}",
            code="bad_chat_template",
            hint="Take another conversion of this model, or send plain text to /v1/completions.",
        ) from exc
    finally:
        sys.settrace(before)


def _refuse(message: object) -> NoReturn:
    raise InputError(f"the model's chat template refuses these messages: {str(message)[:500]}", code="template_refused")


def _too_much(what: str) -> ModelError:
    return ModelError(f"the model's chat template {what}", code="bad_chat_template")


class _Generation(Extension):
    """`{% generation %}` marks what the model said, for training; here it is nothing."""

    tags = {"generation"}  # noqa: RUF012 - jinja2 reads the class attribute

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """Give the body."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Compiler(CodeGenerator):
    """`a ~ b` measured, which the sandbox does not intercept."""

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:  # noqa: N802 - jinja2's name
        """Write a call of the environment's own joining."""
        self.write("environment.join_parts((")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write("))")


class _Sandbox(ImmutableSandboxedEnvironment):
    """jinja2's sandbox with measured results."""

    code_generator_class = _Compiler
    intercepted_binops = frozenset(("+", "*", "**", "%"))

    def __init__(self, extensions: Sequence[str | type[Extension]]) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=extensions, finalize=_measured)
        self.concat = _concat  # type: ignore[method-assign]  # jinja2's own is a plain `"".join` too
        self.globals = {name: self.globals[name] for name in ("range", "dict", "namespace", "joiner", "cycler")}
        self.filters = {name: self.filters[name] for name in _FILTERS.split()}
        self.filters |= {
            "tojson": _tojson,
            "string": lambda value: str(_measured(value)),
            "replace": _replace,
            "join": _join_filter(self.filters["join"]),
            "indent": _indent_filter(self.filters["indent"]),
        }

    def join_parts(self, parts: tuple[object, ...]) -> str:
        """`a ~ b ~ c`."""
        return _concat(str(_measured(part)) for part in parts)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Of texts, only the methods that templates use."""
        if isinstance(obj, str) and attr not in _TEXT_METHODS.split():
            return False
        return super().is_safe_attribute(obj, attr, value)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Refuse an operator whose result would be too large."""
        texts = isinstance(left, str | list | tuple), isinstance(right, str | list | tuple)
        if operator == "*" and any(texts):
            size = len(left) * right if texts[0] else len(right) * left
            _check_size(size)
        elif operator == "+" and all(texts):
            _check_size(len(left) + len(right))
        elif operator == "%" and texts[0]:
            if _WIDE_PERCENT.search(str(left)):
                raise _too_much("formats too wide")
            _check_size(len(left) + len(str(_measured(right))) * left.count("%"))
        elif operator in "**" and not any(texts):
            _check_bits(operator, left, right)
        return super().call_binop(context, operator, left, right)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """`"...".format(...)` without widths that could be huge."""
        wrapped = super().wrap_str_format(value)
        if wrapped is None:
            return None
        if _WIDE_FORMAT.search(value.__self__):
            raise _too_much("formats too wide")

        def measured(*args: object, **kwargs: object) -> str:
            given = sum(len(str(_measured(part))) for part in (*args, *kwargs.values()))
            _check_size(len(value.__self__) * (1 + given))
            return wrapped(*args, **kwargs)

        return measured

    def call(self, context: Context, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Measure the methods that make texts longer."""
        owner, name = getattr(function, "__self__", None), getattr(function, "__name__", "")
        if isinstance(owner, str) and name == "replace" and len(args) >= 2:
            return _replace(owner, *args)
        if isinstance(owner, str) and name == "join" and args:
            parts = [str(_measured(part)) for part in args[0]]
            _check_size(sum(map(len, parts)) + len(owner) * len(parts))
            return owner.join(parts)
        return super().call(context, function, *args, **kwargs)


def _concat(parts: Iterable[str]) -> str:
    """Join, but stop where it grows too long: all output, every macro and every block goes through here."""
    kept, size = [], 0
    for part in parts:
        size += len(part)
        _check_size(size)
        kept.append(part)
    return "".join(kept)


def _check_size(size: int) -> None:
    if size > MAX_TEXT_CHARS:
        raise _too_much(f"makes more than {MAX_TEXT_CHARS} characters")


def _check_bits(operator: str, left: Any, right: Any) -> None:
    bits = [value.bit_length() if isinstance(value, int) else 0 for value in (left, right)]
    if (bits[0] * right if operator == "**" and bits[1] else sum(bits)) > _MAX_BITS:
        raise _too_much("computes with huge numbers")


def _measured(value: Any) -> Any:
    """Give a value back, refusing a structure that is huge when it is written out, though small where parts repeat."""
    if not isinstance(value, list | tuple | dict):
        return value
    count, size, left = 0, 0, [value]
    while left:
        part = left.pop()
        count += 1
        if count > MAX_ITEMS:
            raise _too_much(f"writes out more than {MAX_ITEMS} items")
        if isinstance(part, dict):
            left += [*part.keys(), *part.values()]
        elif isinstance(part, list | tuple):
            left += part
        elif isinstance(part, str):
            size += len(part)
            _check_size(size)
    return value


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """As transformers' filter: jinja2's own would escape HTML."""
    indent = None if indent is None else min(int(indent), _MAX_INDENT)
    text = json.dumps(_measured(value), ensure_ascii=False, indent=indent, separators=separators, sort_keys=sort_keys)
    return _NOT_ASCII.sub(lambda found: json.dumps(found[0])[1:-1], text) if ensure_ascii else text


def _replace(text: object, old: object, new: object, count: int | None = None) -> str:
    whole, old, new = str(_measured(text)), str(old), str(new)
    times = whole.count(old) if old else len(whole) + 1
    _check_size(len(whole) + times * len(new))
    return whole.replace(old, new, -1 if count is None else count)


def _join_filter(join: Callable[..., str]) -> Callable[..., str]:
    """jinja2's `join` (which takes the evaluation context first) over measured parts."""

    def measured(context: object, value: Iterable[Any], d: str = "", attribute: str | int | None = None) -> str:
        parts = list(value)
        _check_size(sum(len(str(_measured(part))) + len(d) for part in parts))
        return join(context, parts, d, attribute)

    measured.jinja_pass_arg = join.jinja_pass_arg  # type: ignore[attr-defined]  # jinja2's mark
    return measured


def _indent_filter(indent: Callable[..., str]) -> Callable[..., str]:
    def measured(text: str, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
        amount = width if isinstance(width, int) else len(width)
        _check_size(len(text) + amount * (text.count("\n") + 1))
        return indent(text, width, first, blank)

    return measured


def _words(tree: nodes.Template) -> frozenset[str]:
    """Names of fields and texts of comparisons, tests, look-ups and calls: not the texts that are only written out."""
    words = {found.attr for found in tree.find_all(nodes.Getattr)}
    for found in tree.find_all((nodes.Compare, nodes.Getitem, nodes.Call, nodes.Filter, nodes.Test)):
        words |= {const.value for const in found.find_all(nodes.Const) if isinstance(const.value, str)}
    return frozenset(words)
