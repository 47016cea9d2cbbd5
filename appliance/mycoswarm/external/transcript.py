"""An endpoint's answer, streamed or in one piece, as our own pieces: body bytes in, `Piece`s out. No sockets.

What a piece cannot carry is not passed on: a model's reasoning in a field of its own (`reasoning_content`) is left out,
and a tool call is a typed error.
"""

from collections.abc import Iterable, Iterator
from typing import Annotated, Any

import msgspec

from mycoswarm.base.errors import EndpointError
from mycoswarm.external.complaint import broken_off, garbled, in_answer
from mycoswarm.external.sse import EventParser
from mycoswarm.external.target import Target
from mycoswarm.wire.report import Count, Finished, Piece, TokenLogprob, TopLogprob

MAX_CHARACTERS = 8 << 20  # of one answer, which may be held in memory whole: two million tokens
UNKNOWN_TOKEN = -1  # an endpoint says what a token reads like, not its number
_REASONS = {"stop": "stop", "eos": "stop", "stop_sequence": "stop", "length": "length", "max_tokens": "length"}

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


class _Said(msgspec.Struct, frozen=True):
    content: str | None = None
    refusal: str | None = None
    tool_calls: list[Any] | None = None


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

    def __init__(self, target: Target, request_id: str, *, top_logprobs: int | None, event_bytes: int) -> None:
        self._target, self._request_id, self._top = target, request_id, top_logprobs
        self._events = EventParser(event_bytes)
        self._reason: str | None = None
        self._usage = _Usage()
        self._said_characters = 0
        self.is_over = False

    @property
    def has_reason(self) -> bool:
        """Whether the endpoint has said how the answer ends, so that all text is there."""
        return self._reason is not None

    def feed(self, data: bytes) -> Iterator[Piece]:
        """Take the stream's next bytes.

        Raises:
            EndpointError: they are no completion, too much of one, or the endpoint says that it failed.
        """
        yield from self._read(self._events.feed(data))

    def end(self) -> Iterator[Piece]:
        """The stream was ended in order.

        Raises:
            EndpointError: the answer is not whole, or what `feed` raises.
        """
        yield from self._read(self._events.end())
        if not self.is_over and not self.has_reason:
            raise broken_off(self._target, "its answer has no end")
        self.is_over = True

    def whole(self, body: bytes) -> Iterator[Piece]:
        """Read an answer in one piece, as servers send it that ignore `stream`.

        Raises:
            EndpointError: it is no completion, or the endpoint says that it failed.
        """
        choice = self._choice(body)
        if choice is None:
            raise garbled(self._target, "no choice in it")
        yield from self._choose(choice)
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

    def _read(self, events: list[bytes]) -> Iterator[Piece]:
        for event in events:
            if self.is_over:
                break
            if event.strip() == b"[DONE]":
                self.is_over = True
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

    def _choose(self, choice: _Choice) -> Iterator[Piece]:
        said = choice.delta or choice.message or _Said()
        if said.tool_calls:
            raise EndpointError(
                f"endpoint {self._target.name} answered with a tool call, which cannot be passed on",
                hint="Send the request without tools, or to a model of the swarm.",
                code="endpoint_tool_call",
            )
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
