"""The errands of this room: have an endpoint answer a prompt or embed texts, and ask which models it has.

Covered: nothing of a prompt or key is sent before the place is proved, the connection stands and (https) the name is
proved; it goes to that address only; every wait and size is bounded; the key is in no error, repr or log line. Not
covered: what the endpoint does with the prompt, and a key that it repeats within an answer's own text.
"""

import re
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass

import msgspec

from mycoswarm.base.errors import EndpointError
from mycoswarm.base.url import Site
from mycoswarm.external.complaint import complaint, garbled
from mycoswarm.external.conduit import Conduit, Head, connect
from mycoswarm.external.inquiry import inquiry
from mycoswarm.external.target import Passage, Target, check_secret, read_url
from mycoswarm.external.transcript import Transcript
from mycoswarm.external.vectors import embedding_body, read_vectors
from mycoswarm.external.whereabouts import prove
from mycoswarm.swarm.place import Place
from mycoswarm.wire.report import Finished, Piece, Vector
from mycoswarm.wire.request import Embedding, Prompt, Sampling
from mycoswarm.wire.tool import AS_IT_LIKES, ToolCall, ToolChoice
from mycoswarm.wire.toolcall import MAX_CALLS

ERROR_BYTES = 64 << 10  # of an error's body that are read
MAX_MODELS = 1000
_NAME = re.compile(r"[^\s\x00-\x1f\x7f-\x9f]{1,200}")


@dataclass(frozen=True, slots=True)
class Reached:
    """The endpoint stands connected at this address, and from now on it reads the prompt."""

    place: Place
    address: str


class _Model(msgspec.Struct, frozen=True):
    id: str


class _Models(msgspec.Struct, frozen=True):
    data: list[_Model]


async def relay(
    target: Target,
    prompt: Prompt,
    sampling: Sampling,
    *,
    request_id: str,
    passage: Passage,
    choice: ToolChoice = AS_IT_LIKES,
) -> AsyncGenerator[Reached | Piece | ToolCall | Finished, None]:
    """Have an endpoint answer: `Reached`, then `Piece`s without token ids and tool calls, then `Finished`.

    Nothing of the prompt is sent before `Reached` has been taken and the next event is asked for. Closing the
    generator closes the connection at once.

    Raises:
        InputError: the URL, key or prompt is wrong.
        UnreachableError: the endpoint cannot be looked up or connected to; nothing was sent.
        BusyError: it says so (429).
        EndpointError: it is not where or what it was registered as, refuses, fails, is silent or breaks off.
        EgressError: this process may not go there.
    """
    body = inquiry(target.model, prompt, sampling, choice)
    with await _reach(target, read_url(target.url), passage) as conduit:
        yield Reached(conduit.spot.place, conduit.spot.address)
        head = await conduit.ask("POST", "/completions" if prompt.messages is None else "/chat/completions", body)
        await _check(target, conduit, head)
        transcript = Transcript(
            target,
            request_id,
            top_logprobs=sampling.top_logprobs,
            event_bytes=passage.limits.event_bytes,
            offered=frozenset(tool["function"]["name"] for tool in prompt.tools),
            most_calls=MAX_CALLS if choice.is_parallel else 1,
        )
        if head.kind == "text/event-stream":
            while not transcript.is_over:
                for piece in await _read_on(transcript, conduit):
                    yield piece
        elif head.kind == "application/json":
            for piece in transcript.whole(await conduit.read_all(passage.limits.body_bytes)):
                yield piece
        else:
            raise garbled(target, "neither JSON nor an event stream")
    yield transcript.finished()


async def embed(
    target: Target, embedding: Embedding, passage: Passage
) -> AsyncGenerator[Reached | Vector | Finished, None]:
    """Have an endpoint embed texts: `Reached`, then a `Vector` for each, then `Finished`; else as `relay`.

    Raises:
        InputError: the URL, key or a text is wrong.
        UnreachableError: the endpoint cannot be looked up or connected to; nothing was sent.
        BusyError: it says so (429).
        EndpointError: it is not where or what it was registered as, refuses, fails, is silent or answers otherwise.
        EgressError: this process may not go there.
    """
    body = embedding_body(target.model, embedding)
    with await _reach(target, read_url(target.url), passage) as conduit:
        yield Reached(conduit.spot.place, conduit.spot.address)
        await _check(target, conduit, await conduit.ask("POST", "/embeddings", body))
        answer = await conduit.read_all(passage.limits.body_bytes)
    for report in read_vectors(target, embedding, answer):
        yield report


async def models_of(target: Target, passage: Passage) -> tuple[str, ...]:
    """Ask which models an endpoint has; shows that its URL and key work. Names that are none are left out.

    Raises:
        InputError: the URL or key is wrong.
        UnreachableError: it cannot be looked up or connected to.
        BusyError: it says so (429).
        EndpointError: it is not where or what it was registered as, refuses, fails, is silent or breaks off.
        EgressError: this process may not go there.
    """
    with await _reach(target, read_url(target.url), passage) as conduit:
        head = await conduit.ask("GET", "/models")
        await _check(target, conduit, head)
        body = await conduit.read_all(passage.limits.body_bytes)
    try:
        listed = msgspec.json.decode(body, type=_Models)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise garbled(target, "not a list of models") from exc
    names = (model.id for model in listed.data[:MAX_MODELS])
    return tuple(dict.fromkeys(name for name in names if _NAME.fullmatch(name)))


async def _reach(target: Target, site: Site, passage: Passage) -> Conduit:
    if target.secret is not None:
        check_secret(target.secret)
    return await connect(target, site, await prove(target, site, passage), passage)


async def _check(target: Target, conduit: Conduit, head: Head) -> None:
    """Raise what a status other than 200 means; its body only serves the message."""
    if head.status == 200:
        return
    conduit.hurry()
    try:
        body = await conduit.read_all(ERROR_BYTES, cut=True)
    except EndpointError:
        body = b""  # the status says enough
    raise complaint(target, head.status, body, head.retry_after)


async def _read_on(transcript: Transcript, conduit: Conduit) -> Iterator[Piece | ToolCall]:
    """The pieces of the stream's next bytes. Where its end has been told, losing the connection breaks it no more."""
    if transcript.has_reason:
        conduit.hurry()
    try:
        data = await conduit.read()
    except EndpointError:
        if not transcript.has_reason:
            raise
        transcript.is_over = True
        return iter(())
    return transcript.end() if data is None else transcript.feed(data)
