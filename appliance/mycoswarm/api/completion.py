"""`/v1/chat/completions` and `/v1/completions`: our events as OpenAI's objects, whole or streamed."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from mycoswarm.api.departure import EventStream, while_present
from mycoswarm.api.provenance import Provenance
from mycoswarm.api.question import Envelope, Question, read_chat, read_completion
from mycoswarm.api.refusal import bug, error_body, error_response
from mycoswarm.api.visitor import BODY_S, envelope_of, whole_body
from mycoswarm.base.errors import SwarmError
from mycoswarm.chat.failing import plainly
from mycoswarm.chat.job import Decided, Event
from mycoswarm.chat.life import Chat
from mycoswarm.routing.decision import Decision
from mycoswarm.store.apikey import Key
from mycoswarm.wire.report import Finished, Piece, TokenLogprob
from mycoswarm.wire.tool import ToolCall

log = logging.getLogger(__name__)
_WORKING = b": still working\n\n"
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True, kw_only=True)
class Waits:
    """How long the console waits, in seconds.

    `body_s`: for a whole body to arrive. `patience_s`: a stream's status line waits so long for the first token, so
    that early errors get their status. `keep_alive_s`: while a model loads, a comment this often keeps proxies and
    clients from giving up.
    """

    body_s: float = BODY_S
    patience_s: float = 10.0
    keep_alive_s: float = 5.0


USUAL_WAITS = Waits()


@dataclass(slots=True)
class _Answer:
    """Gathers one answer, and words it as chat or as text completion."""

    question: Question
    created: int
    text: list[str] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    token_characters: int = 0
    calls: list[ToolCall] = field(default_factory=list)
    finished: Finished | None = None
    provenance: Provenance = field(init=False)

    def __post_init__(self) -> None:
        self.provenance = Provenance(self.question.job.request_id)

    @property
    def is_chat(self) -> bool:
        return self.question.job.task == "chat"

    @property
    def reason(self) -> str:
        """Why the answer ended, in OpenAI's words."""
        if self.finished and self.finished.reason == "length":
            return "length"
        return "tool_calls" if self.calls else "stop"

    def take(self, event: Event) -> None:
        if isinstance(event, Decided):
            self.provenance.take(event)
        elif isinstance(event, Piece):
            self.text.append(event.text)
            self.logprobs += event.logprobs or ()
        elif isinstance(event, ToolCall):
            self.calls.append(event)
        elif isinstance(event, Finished):
            self.finished = event

    def frame(self, choices: list[dict[str, Any]], *, streamed: bool) -> dict[str, Any]:
        kind = "chat.completion" if self.is_chat else "text_completion"
        prefix = "chatcmpl-" if self.is_chat else "cmpl-"
        return {
            "id": prefix + self.question.job.request_id,
            "object": kind + (".chunk" if streamed and self.is_chat else ""),
            "created": self.created,
            "model": self.question.job.model,
            "choices": choices,
        }

    def usage(self) -> dict[str, int]:
        done = self.finished
        prompt, completion = (done.prompt_tokens, done.completion_tokens) if done else (0, 0)
        return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}

    def mycoswarm(self) -> dict[str, Any]:
        """What we add beside OpenAI's fields: where it ran and how fast. Clients ignore what they do not know."""
        extra, last = self.provenance.shown(), self.provenance.last
        if last is not None and isinstance(last.decision, Decision):
            extra["predicted_tokens_per_s"] = last.decision.tokens_per_s
        if self.finished:
            extra["seed"] = self.finished.seed
            extra["timing"] = msgspec.to_builtins(self.finished.timing) if self.finished.timing else None
        return extra

    def whole(self) -> dict[str, Any]:
        text = "".join(self.text)
        wanted = self.question.job.sampling.top_logprobs is not None
        choice: dict[str, Any] = {"index": 0, "finish_reason": self.reason, "logprobs": None}
        if self.is_chat:
            choice["message"] = {"role": "assistant", "content": text, "refusal": None}
            if self.calls:
                choice["message"] |= {"content": text or None, "tool_calls": [_call(call) for call in self.calls]}
            choice["logprobs"] = (
                {"content": [_chat_logprob(e) for e in self.logprobs], "refusal": None} if wanted else None
            )
        else:
            choice["text"] = text
            choice["logprobs"] = _text_logprobs(self.logprobs, 0) if wanted else None
        return {**self.frame([choice], streamed=False), "usage": self.usage(), "mycoswarm": self.mycoswarm()}

    def opening(self) -> dict[str, Any]:
        """The first chunk of a chat: who speaks."""
        choice = {"index": 0, "finish_reason": None, "logprobs": None, "delta": {"role": "assistant", "content": ""}}
        return self.frame([choice], streamed=True)

    def chunk(self, text: str | None, logprobs: tuple[TokenLogprob, ...] | None, reason: str | None) -> dict[str, Any]:
        choice: dict[str, Any] = {"index": 0, "finish_reason": reason, "logprobs": None}
        if self.is_chat:
            choice["delta"] = {} if text is None else {"content": text}
            if logprobs:
                choice["logprobs"] = {"content": [_chat_logprob(entry) for entry in logprobs], "refusal": None}
        else:
            choice["text"] = text or ""
            if logprobs:
                choice["logprobs"] = _text_logprobs(list(logprobs), self.token_characters)
                self.token_characters += sum(len(_text(entry.token)) for entry in logprobs)
        return self._streamed(choice)

    def call_chunks(self) -> list[dict[str, Any]]:
        """The newest call as clients put it together: its name first, then its arguments."""
        index, call = len(self.calls) - 1, _call(self.calls[-1])
        name = {"index": index, **call, "function": {**call["function"], "arguments": ""}}
        arguments = {"index": index, "function": {"arguments": call["function"]["arguments"]}}
        deltas = [{"tool_calls": [part]} for part in (name, arguments)]
        return [
            self._streamed({"index": 0, "finish_reason": None, "logprobs": None, "delta": delta}) for delta in deltas
        ]

    def _streamed(self, choice: dict[str, Any]) -> dict[str, Any]:
        frame = self.frame([choice], streamed=True)
        return {**frame, "usage": None} if self.question.include_usage else frame


class Completions:
    """The two routes, and chat through another door. `clock` gives seconds since 1970; `new_id` a fresh request id."""

    def __init__(
        self,
        chat: Chat,
        clock: Callable[[], float],
        new_id: Callable[[], str],
        *,
        admit: Callable[[Key | None], None],
        waits: Waits = USUAL_WAITS,
    ) -> None:
        """`admit` counts a request against its key's limits; it raises BusyError where one is reached."""
        self._chat, self._clock, self._new_id, self._waits, self._admit = chat, clock, new_id, waits, admit

    async def chat(self, request: Request) -> Response:
        """Answer `/v1/chat/completions`."""
        return await self._serve(request, is_chat=True)

    async def text(self, request: Request) -> Response:
        """Answer `/v1/completions`."""
        return await self._serve(request, is_chat=False)

    async def whole(
        self, body: bytes, envelope: Envelope, key: Key | None, hear: Callable[[Event], None]
    ) -> dict[str, Any]:
        """Answer a body of `/v1/chat/completions` that came through another door; gives what that route would answer,
        not streamed. `hear` is told each event as it comes.

        Raises:
            SwarmError: typed and final.
        """
        self._admit(key)
        question = read_chat(body, envelope)
        answer = _Answer(question, int(self._clock()))
        async with contextlib.aclosing(self._chat.answer(question.job)) as events:
            async for event in events:
                hear(event)
                answer.take(event)
        return answer.whole()

    async def _serve(self, request: Request, *, is_chat: bool) -> Response:
        read = read_chat if is_chat else read_completion
        envelope = envelope_of(request, self._new_id())
        self._admit(request.scope["state"]["key"])
        question = read(await whole_body(request, self._waits.body_s), envelope)
        answer, events = _Answer(question, int(self._clock())), self._chat.answer(question.job)
        work = _begin(answer, events, self._waits) if question.stream else _gather(answer, events)
        try:
            response = await while_present(request.receive, work)
        except SwarmError as error:
            refusal = error_response(error)
            refusal.headers.update(answer.provenance.headers())  # what was refused or broke has its rows too
            return refusal
        if response is None:
            log.info("the client of request %s left", question.job.request_id)
            return Response(status_code=499)  # nobody reads it; the number is nginx's
        return response


async def _gather(answer: _Answer, events: AsyncGenerator[Event, None]) -> Response:
    """Answer at once, with the whole text."""
    async with contextlib.aclosing(events):
        async for event in events:
            answer.take(event)
    return JSONResponse(answer.whole(), headers=answer.provenance.headers())


async def _begin(answer: _Answer, events: AsyncGenerator[Event, None], waits: Waits) -> Response:
    """Wait a moment for the decision and the first token, so that early errors get their own status; then stream.

    Every try's decision comes at its beginning, so the headers name the nodes that are known by then: none, where the
    owner is still being asked.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + waits.patience_s
    pending: asyncio.Future[Event | None] = asyncio.ensure_future(anext(events, None))
    try:
        await asyncio.wait({pending}, timeout=waits.patience_s)
        if pending.done() and isinstance(event := pending.result(), Decided):
            answer.take(event)
            pending = asyncio.ensure_future(anext(events, None))
            await asyncio.wait({pending}, timeout=max(0.0, deadline - loop.time()))
        if pending.done():
            pending.result()
    except BaseException:
        await _stop(pending, events)
        raise
    return EventStream(_sse(answer, events, pending, waits.keep_alive_s), answer.provenance.headers())


async def _stop(pending: "asyncio.Future[Event | None] | None", events: AsyncGenerator[Event, None]) -> None:
    if pending is not None:
        pending.cancel()
        await asyncio.gather(pending, return_exceptions=True)
    await events.aclose()


async def _sse(
    answer: _Answer,
    events: AsyncGenerator[Event, None],
    pending: "asyncio.Future[Event | None]",
    keep_alive_s: float,
) -> AsyncGenerator[bytes, None]:
    """The event stream. Closing it closes the work. An error after the status line is an event of its own."""
    loop = asyncio.get_running_loop()
    spoke_at = loop.time()
    try:
        if answer.is_chat:
            yield _data(answer.opening())
        while True:
            while not pending.done():
                await asyncio.wait({pending}, timeout=keep_alive_s)
                if not pending.done():
                    yield _WORKING
            event = pending.result()
            if event is None:
                break
            answer.take(event)
            if isinstance(event, Piece) and not (event.text or event.logprobs):
                if loop.time() - spoke_at > keep_alive_s:  # a long tool call is being written
                    spoke_at = loop.time()
                    yield _WORKING
                pending = asyncio.ensure_future(anext(events, None))
                continue
            spoke_at = loop.time()
            if isinstance(event, Piece):
                yield _data(answer.chunk(event.text, event.logprobs, None))
            elif isinstance(event, ToolCall):
                for chunk in answer.call_chunks():
                    yield _data(chunk)
            elif isinstance(event, Finished):
                yield _data({**answer.chunk(None, None, answer.reason), "mycoswarm": answer.mycoswarm()})
            pending = asyncio.ensure_future(anext(events, None))
        if answer.question.include_usage:
            yield _data({**answer.frame([], streamed=True), "usage": answer.usage()})
        yield b"data: [DONE]\n\n"
    except SwarmError as error:
        log.warning("request %s failed: %s", answer.question.job.request_id, plainly(error))
        yield _data(error_body(error))
    except Exception:
        log.exception("request %s failed: a bug of ours", answer.question.job.request_id)
        yield _data(error_body(bug()))
    finally:
        await _stop(pending, events)


def _data(value: dict[str, Any]) -> bytes:
    return b"data: " + _encode(value) + b"\n\n"


def _call(call: ToolCall) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _chat_logprob(entry: TokenLogprob) -> dict[str, Any]:
    def worded(token: bytes, logprob: float) -> dict[str, Any]:
        return {"token": _text(token), "bytes": list(token), "logprob": logprob}

    return {**worded(entry.token, entry.logprob), "top_logprobs": [worded(t.token, t.logprob) for t in entry.top]}


def _text_logprobs(entries: list[TokenLogprob], offset: int) -> dict[str, Any]:
    tokens = [_text(entry.token) for entry in entries]
    offsets = []
    for token in tokens:
        offsets.append(offset)
        offset += len(token)
    return {
        "tokens": tokens,
        "token_logprobs": [entry.logprob for entry in entries],
        "top_logprobs": [{_text(t.token): t.logprob for t in entry.top} for entry in entries],
        "text_offset": offsets,
    }


def _text(token: bytes) -> str:
    return token.decode("utf-8", "replace")  # a token may hold half a character
