"""An endpoint's answer, streamed or in one piece, as our own pieces: body bytes in, `Piece`s out. No sockets.

A model's reasoning in a field of its own (`reasoning_content`) is left out. Tool calls come out whole, at the answer's
end, with ids of ours and under the same terms as those of our own models: of an offered tool, and with an object in
JSON for arguments; others become text. A call where no tool was offered is a typed error.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any

import msgspec

from mycoswarm.base.errors import EndpointError
from mycoswarm.external.complaint import broken_off, garbled, in_answer
from mycoswarm.external.sse import EventParser
from mycoswarm.external.target import Target
from mycoswarm.wire.cursor import MAX_VALUE_CHARACTERS
from mycoswarm.wire.dialect import is_arguments
from mycoswarm.wire.report import Count, Finished, Piece, TokenLogprob, TopLogprob
from mycoswarm.wire.tool import ToolCall, call_id
from mycoswarm.wire.toolcall import MAX_CALLS

MAX_CHARACTERS = 8 << 20  # of one answer, which may be held in memory whole: two million tokens
UNKNOWN_TOKEN = -1  # an endpoint says what a token reads like, not its number
_REASONS = {
    "tool_calls": "stop",
    "function_call": "stop",
    "stop": "stop",
    "eos": "stop",
    "stop_sequence": "stop",
    "length": "length",
    "max_tokens": "length",
}

_Byte = Annotated[int, msgspec.Meta(ge=0, le=255)]


class _Top(msgspec.Struct, frozen=True):
    token: str
    logprob: float
    bytes: list[_Byte] | None = None


class _Entry(_Top, frozen=True):
    top_logprobs: list[_Top] | None = None


class _Logprobs(msgspec.Struct, frozen=True):
    """Chat completions give `content`; text completions the other three, of equal length."""

    content: list[_Entry] | None = None
    tokens: list[str] | None = None
    token_logprobs: list[float | None] | None = None
    top_logprobs: list[dict[str, float] | None] | None = None


class _Function(msgspec.Struct, frozen=True):
    name: str | None = None
    arguments: str | None = None


class _Called(msgspec.Struct, frozen=True):
    """A tool call, or a part of one: those of one index are one."""

    index: Count | None = None
    function: _Function = _Function()


class _Said(msgspec.Struct, frozen=True):
    content: str | None = None
    refusal: str | None = None
    tool_calls: list[_Called] | None = None


class _Choice(msgspec.Struct, frozen=True):
    index: int = 0
    delta: _Said | None = None
    message: _Said | None = None
    text: str | None = None
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None


class _Details(msgspec.Struct, frozen=True):
    cached_tokens: Count | None = None


class _Usage(msgspec.Struct, frozen=True):
    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None
    prompt_tokens_details: _Details | None = None


class _Chunk(msgspec.Struct, frozen=True):
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    error: Any = None


_decode = msgspec.json.Decoder(_Chunk).decode


class Transcript:
    """One answer as it is read. `top_logprobs` as in `Sampling`: None wants no log-probabilities.

    A stream is fed until `is_over`; an answer in one piece is read by `whole`. Pieces come one by one, so that those
    before an error are not lost with it.
    """

    def __init__(
        self,
        target: Target,
        request_id: str,
        *,
        top_logprobs: int | None,
        event_bytes: int,
        offered: frozenset[str] = frozenset(),
        most_calls: int = MAX_CALLS,
    ) -> None:
        """`offered` are the names of the tools that the endpoint was told of; `most_calls` are passed on."""
        self._target, self._request_id, self._top = target, request_id, top_logprobs
        self._offered, self._most_calls = offered, most_calls
        self._calls: dict[int, tuple[str, str]] = {}  # by the endpoint's index: name, arguments so far
        self._events = EventParser(event_bytes)
        self._reason: str | None = None
        self._usage = _Usage()
        self._said_characters = 0
        self.is_over = False

    @property
    def has_reason(self) -> bool:
        """Whether the endpoint has said how the answer ends, so that all text is there."""
        return self._reason is not None

    def feed(self, data: bytes) -> Iterator[Piece | ToolCall]:
        """Take the stream's next bytes.

        Raises:
            EndpointError: they are no completion, too much of one, or the endpoint says that it failed.
        """
        yield from self._read(self._events.feed(data))

    def end(self) -> Iterator[Piece | ToolCall]:
        """The stream was ended in order.

        Raises:
            EndpointError: the answer is not whole, or what `feed` raises.
        """
        yield from self._read(self._events.end())
        if not self.is_over and not self.has_reason:
            raise broken_off(self._target, "its answer has no end")
        self.is_over = True

    def whole(self, body: bytes) -> Iterator[Piece | ToolCall]:
        """Read an answer in one piece, as servers send it that ignore `stream`.

        Raises:
            EndpointError: it is no completion, or the endpoint says that it failed.
        """
        choice = self._choice(body)
        if choice is None:
            raise garbled(self._target, "no choice in it")
        yield from self._choose(choice)
        yield from self._called()
        self.is_over = True

    def finished(self) -> Finished:
        """How it ended. Tokens are as the endpoint counts them, 0 where it does not."""
        details = self._usage.prompt_tokens_details or _Details()
        return Finished(
            request_id=self._request_id,
            reason=self._reason or "stop",
            prompt_tokens=self._usage.prompt_tokens or 0,
            completion_tokens=self._usage.completion_tokens or 0,
            cached_tokens=details.cached_tokens or 0,
        )

    def _read(self, events: list[bytes]) -> Iterator[Piece | ToolCall]:
        for event in events:
            if self.is_over:
                break
            if event.strip() == b"[DONE]":
                self.is_over = True
                yield from self._called()
            elif choice := self._choice(event):
                yield from self._choose(choice)

    def _choice(self, text: bytes) -> _Choice | None:
        """The first choice of one JSON object: a chunk of a stream, or the whole answer. Usage is kept."""
        try:
            chunk = _decode(text)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
            raise garbled(self._target, "not JSON as OpenAI's API has it") from exc
        if chunk.error is not None:
            raise in_answer(self._target, chunk.error)
        if chunk.usage is not None:
            self._usage = chunk.usage
        return next((choice for choice in chunk.choices or () if choice.index == 0), None)

    def _choose(self, choice: _Choice) -> Iterator[Piece | ToolCall]:
        said = choice.delta or choice.message or _Said()
        if self._reason is None:
            self._call(said.tool_calls or ())
        text = said.content or said.refusal or choice.text or ""
        self._said_characters += len(text)
        if self._said_characters > MAX_CHARACTERS:
            raise EndpointError(
                f"endpoint {self._target.name} said more than {MAX_CHARACTERS} characters", code="endpoint_too_much"
            )
        logprobs = self._logprobs(choice.logprobs) if choice.logprobs and self._top is not None else ()
        if self._reason is None and (text or logprobs):
            yield Piece(request_id=self._request_id, text=text, token_ids=(), logprobs=logprobs or None)
        if choice.finish_reason and self._reason is None:
            self._reason = self._ended(choice.finish_reason)
            yield from self._called()

    def _call(self, parts: Sequence[_Called]) -> None:
        """Gather calls, bounded."""
        for number, part in enumerate(parts):
            if not self._offered:
                raise EndpointError(
                    f"endpoint {self._target.name} answered with a tool call, and no tool was offered",
                    code="endpoint_tool_call",
                )
            index = number if part.index is None else part.index
            name, arguments = self._calls.get(index, ("", ""))
            name, arguments = name or part.function.name or "", arguments + (part.function.arguments or "")
            if len(name) + len(arguments) > MAX_VALUE_CHARACTERS or len(self._calls) > MAX_CALLS:
                raise garbled(self._target, "tool calls without end")
            self._calls[index] = name, arguments

    def _called(self) -> Iterator[Piece | ToolCall]:
        """The calls, once they are whole."""
        gathered, self._calls = list(self._calls.values()), {}
        for number, (name, arguments) in enumerate(gathered[: self._most_calls]):
            if name in self._offered and is_arguments(arguments := arguments or "{}"):
                yield ToolCall(call_id(self._request_id, number), name, arguments)
            else:
                text = f'{{"name": {json.dumps(name)}, "arguments": {arguments}}}'
                yield Piece(request_id=self._request_id, text=text, token_ids=())

    def _ended(self, reason: str) -> str:
        if reason in _REASONS:
            return _REASONS[reason]
        if reason == "content_filter":
            raise EndpointError(
                f"endpoint {self._target.name} cut the answer off by its content filter", code="endpoint_filtered"
            )
        raise broken_off(self._target, "its answer ended for a reason that is neither stop nor length")

    def _logprobs(self, given: _Logprobs) -> tuple[TokenLogprob, ...]:
        if given.content is not None:
            return tuple(
                TokenLogprob(
                    UNKNOWN_TOKEN,
                    _bytes(entry),
                    entry.logprob,
                    self._tops((_bytes(top), top.logprob) for top in entry.top_logprobs or ()),
                )
                for entry in given.content
            )
        tokens, chosen = given.tokens or [], given.token_logprobs or []
        tops = given.top_logprobs or [None] * len(tokens)
        if not len(tokens) == len(chosen) == len(tops):
            raise garbled(self._target, "its log-probabilities are not one for each token")
        return tuple(
            TokenLogprob(
                UNKNOWN_TOKEN,
                token.encode(),
                logprob,
                self._tops((text.encode(), value) for text, value in (top or {}).items()),
            )
            for token, logprob, top in zip(tokens, chosen, tops, strict=True)
            if logprob is not None  # as the first token's, which nothing goes before
        )

    def _tops(self, given: Iterable[tuple[bytes, float]]) -> tuple[TopLogprob, ...]:
        return tuple(TopLogprob(UNKNOWN_TOKEN, token, value) for token, value in given)[: self._top]


def _bytes(entry: _Top) -> bytes:
    """A token's bytes; it may hold half a character, which its text cannot show."""
    return bytes(entry.bytes) if entry.bytes is not None else entry.token.encode()
