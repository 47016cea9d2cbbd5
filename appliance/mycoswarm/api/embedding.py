"""`/v1/embeddings`: OpenAI's request read, and a vector for each text as its answer."""

import asyncio
import base64
import contextlib
import logging
import struct
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mycoswarm.api.departure import while_present
from mycoswarm.api.provenance import Provenance
from mycoswarm.api.question import Envelope, read_fields, read_route
from mycoswarm.api.refusal import error_response
from mycoswarm.api.visitor import BODY_S, envelope_of, whole_body
from mycoswarm.base.errors import InputError, SwarmError, UnsupportedError
from mycoswarm.chat.job import Decided, Event, Job
from mycoswarm.chat.life import Chat
from mycoswarm.routing.snapshot import EMBEDDING
from mycoswarm.store.apikey import Key
from mycoswarm.wire.report import Finished, Vector
from mycoswarm.wire.request import MAX_INPUTS

MAX_DIMENSIONS = 1 << 20
FORMATS = ("float", "base64")

log = logging.getLogger(__name__)
_encode = msgspec.json.Encoder().encode


class _Body(msgspec.Struct, frozen=True, kw_only=True):
    model: str
    input: str | list[Any]
    encoding_format: str = "float"
    dimensions: int | None = None


@dataclass(slots=True)
class _Answer:
    """Gathers the vectors. A try that was lost has left some behind: the next one makes them all again."""

    job: Job
    is_base64: bool
    provenance: Provenance
    vectors: list[bytes] = field(default_factory=list)
    tokens: int = 0

    def take(self, event: Event) -> None:
        if isinstance(event, Decided):
            self.provenance.take(event)
            self.vectors.clear()
        elif isinstance(event, Vector):
            self.vectors.append(event.values)
        elif isinstance(event, Finished):
            self.tokens = event.prompt_tokens

    def body(self) -> bytes:
        """Seconds for thousands of wide vectors: for a thread."""
        data = [
            {"object": "embedding", "index": index, "embedding": self._worded(values)}
            for index, values in enumerate(self.vectors)
        ]
        usage = {"prompt_tokens": self.tokens, "total_tokens": self.tokens}
        last = self.provenance.last
        extra = self.provenance.shown()
        if last is not None and last.plan is not None:
            extra["pooling"] = last.plan.conditions.pooling
        return _encode({"object": "list", "data": data, "model": self.job.model, "usage": usage, "mycoswarm": extra})

    def _worded(self, values: bytes) -> str | tuple[float, ...]:
        if self.is_base64:
            return base64.b64encode(values).decode()
        return struct.unpack(f"<{len(values) // 4}f", values)


class Embeddings:
    """The route. `new_id` gives a fresh request id."""

    def __init__(
        self,
        chat: Chat,
        new_id: Callable[[], str],
        *,
        admit: Callable[[Key | None], None],
        body_s: float = BODY_S,
    ) -> None:
        """`admit` counts a request against its key's limits; it raises BusyError where one is reached. `body_s`: for a
        whole body to arrive."""
        self._chat, self._new_id, self._body_s, self._admit = chat, new_id, body_s, admit

    async def serve(self, request: Request) -> Response:
        """Answer `/v1/embeddings`."""
        envelope = envelope_of(request, self._new_id())
        self._admit(request.scope["state"]["key"])
        job, is_base64 = read_embedding(await whole_body(request, self._body_s), envelope)
        answer = _Answer(job, is_base64, Provenance(job.request_id))
        try:
            response = await while_present(request.receive, _gather(answer, self._chat.answer(job)))
        except SwarmError as error:
            refusal = error_response(error)
            refusal.headers.update(answer.provenance.headers())  # what was refused or broke has its rows too
            return refusal
        if response is None:
            log.info("the client of request %s left", job.request_id)
            return Response(status_code=499)  # nobody reads it; the number is nginx's
        return response


def read_embedding(body: bytes, envelope: Envelope) -> tuple[Job, bool]:
    """Read a body of `/v1/embeddings`: the job, and whether vectors are wanted as base64.

    Token ids are refused: they are of one model's vocabulary, and clients send those of OpenAI's, which would give a
    vector of other words and no error.

    Raises:
        InputError: not JSON, a missing or wrong field; says which.
        UnsupportedError: a field or value that this software does not serve.
    """
    given = read_fields(body, _Body)
    if given.encoding_format not in FORMATS:
        raise _wrong("encoding_format", f"encoding_format must be {' or '.join(FORMATS)}")
    if given.dimensions is not None and not 0 < given.dimensions <= MAX_DIMENSIONS:
        raise _wrong("dimensions", f"dimensions must be from 1 to {MAX_DIMENSIONS}")
    inputs = _inputs(given.input)
    narrowing = read_route(envelope.route)
    job = Job(
        request_id=envelope.request_id,
        model=given.model,
        task=EMBEDDING,
        inputs=inputs,
        dimensions=given.dimensions,
        narrowing=narrowing,
        asker=envelope.asker,
        characters=sum(map(len, inputs)),
    )
    return job, given.encoding_format == "base64"


def _inputs(given: str | list[Any]) -> tuple[str, ...]:
    texts = [given] if isinstance(given, str) else given
    if not 0 < len(texts) <= MAX_INPUTS:
        raise _wrong("input", f"input holds {len(texts)} texts; 1 to {MAX_INPUTS} can be asked for at once")
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            error = UnsupportedError(
                f"input[{index}] is no text; token ids are not taken, as each model has its own",
                hint="Send the texts themselves (in LangChain: check_embedding_ctx_length=False).",
            )
            error.param = "input"
            raise error
        if not text:
            raise _wrong("input", f"input[{index}] is empty")
    return tuple(texts)


async def _gather(answer: _Answer, events: AsyncGenerator[Event, None]) -> Response:
    async with contextlib.aclosing(events):
        async for event in events:
            answer.take(event)
    body = await asyncio.to_thread(answer.body)
    return Response(body, media_type="application/json", headers=answer.provenance.headers())


def _wrong(name: str, message: str) -> InputError:
    error = InputError(message)
    error.param = name
    return error
