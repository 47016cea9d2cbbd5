"""A scripted endpoint on real sockets of 127.0.0.1, that can also misbehave; and the errands' means for tests."""

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from mycoswarm.base.errors import SwarmError
from mycoswarm.external.errand import Reached, relay
from mycoswarm.external.target import Limits, Passage, Resolve, Target
from mycoswarm.wire.report import Finished, Piece
from mycoswarm.wire.request import Prompt, Sampling

KEY = "sk-of.the+owner"
ASK = Prompt(messages=({"role": "user", "content": "the private question"},))
SHORT = Limits(resolve_s=0.1, connect_s=1.0, head_s=5.0, silence_s=0.1, tail_s=0.1, whole_s=5.0)
HURRIED = replace(SHORT, head_s=0.1)  # for silences alone: on a busy machine a server's first word takes longer
STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"

Script = Callable[["Asked", asyncio.StreamWriter], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Asked:
    """One request that a server has read."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, read."""
        return json.loads(self.body)


@dataclass
class Scripted:
    """A server. `heard` are all bytes that ever came (inside TLS); `left` is set when a client went away."""

    port: int = 0
    connections: int = 0
    heard: bytes = b""
    asked: list[Asked] = field(default_factory=list)
    left: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        """Its base for OpenAI's clients."""
        return f"http://127.0.0.1:{self.port}/v1"

    def target(self, **more: Any) -> Target:
        """It, as its owner registered it."""
        given = {"name": "rack", "url": self.url, "place": "LAN", "model": "spore", "secret": KEY}
        return Target(**{**given, **more})


@asynccontextmanager
async def scripted(
    script: Script, tls: ssl.SSLContext | None = None, *, host: str = "127.0.0.1", reads_body: bool = True
) -> AsyncIterator[Scripted]:
    """Serve while the block runs. Without `reads_body` a request's head is enough, and nothing more is ever read."""
    made = Scripted()
    serving: set[asyncio.Task[Any]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        made.connections += 1
        serving.add(asyncio.current_task())  # type: ignore[arg-type]  # start_server makes one
        try:
            asked = await _read(made, reader, reads_body)
            watching = asyncio.create_task(_watch(made, reader, reads_body))
            try:
                await script(asked, writer)
                with contextlib.suppress(OSError):
                    await writer.drain()
            finally:
                watching.cancel()
        except (OSError, asyncio.IncompleteReadError):
            made.left.set()
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    server = await asyncio.start_server(serve, host, 0, ssl=tls)
    made.port = server.sockets[0].getsockname()[1]
    try:
        async with asyncio.timeout(20):
            yield made
    finally:
        server.close()
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)


async def _read(made: Scripted, reader: asyncio.StreamReader, reads_body: bool) -> Asked:
    head = await reader.readuntil(b"\r\n\r\n")
    made.heard += head
    first, *lines = head.decode().strip().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")) if reads_body else 0)
    made.heard += body
    method, path, _ = first.split()
    made.asked.append(Asked(method, path, headers, body))
    return made.asked[-1]


async def _watch(made: Scripted, reader: asyncio.StreamReader, reads_body: bool) -> None:
    if not reads_body:
        return
    with contextlib.suppress(OSError):
        made.heard += await reader.read()
    made.left.set()


def event(value: Any) -> bytes:
    """One server-sent event."""
    return b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"


def said(text: str | None, reason: str | None = None) -> bytes:
    """One chunk of a streamed chat."""
    return event({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": reason}]})


def answered(status: str, body: bytes = b"", *headers: str) -> bytes:
    """A whole HTTP answer."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def saying(*parts: bytes) -> Script:
    """Send these and close."""

    async def script(asked: Asked, writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()

    return script


def then_waiting(*parts: bytes) -> Script:
    """Send these and say nothing more, until the client goes away."""

    async def script(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await saying(*parts)(asked, writer)
        with contextlib.suppress(OSError):
            await asyncio.wait_for(writer.wait_closed(), 5)

    return script


@dataclass
class Doorkeeper:
    """A permit that keeps what it was asked for, and what is open now. `shut`: what it says of a packet filter."""

    asked: list[tuple[str, tuple[str, ...], tuple[str, ...]]] = field(default_factory=list)
    is_open: bool = False
    shut: str | None = None

    @asynccontextmanager
    async def __call__(self, purpose: str, addresses: Sequence[str], names: Sequence[str]) -> AsyncIterator[str | None]:
        self.asked.append((purpose, tuple(addresses), tuple(names)))
        self.is_open = True
        try:
            yield self.shut
        finally:
            self.is_open = False


def passage(limits: Limits = SHORT, **more: Any) -> Passage:
    """The means of an errand, with short waits."""
    return Passage(**{"permit": Doorkeeper(), "limits": limits, **more})


def naming(*answers: Sequence[str]) -> tuple[Resolve, list[tuple[str, int]]]:
    """A resolver that gives these answers one after the other, the last one for ever; and what it was asked."""
    looked: list[tuple[str, int]] = []

    async def resolve(host: str, port: int) -> Sequence[str]:
        looked.append((host, port))
        return answers[min(len(looked), len(answers)) - 1]

    return resolve, looked


async def events(
    target: Target, means: Passage, sampling: Sampling | None = None, prompt: Prompt = ASK
) -> list[Reached | Piece | Finished]:
    """All that an errand gives."""
    going = relay(target, prompt, sampling or Sampling(), request_id="r1", passage=means)
    async with contextlib.aclosing(going) as told:
        return [each async for each in told]


def text_of(told: Sequence[Reached | Piece | Finished]) -> str:
    """The answer's text."""
    return "".join(each.text for each in told if isinstance(each, Piece))


def heard_from(script: Script, *, limits: Limits = SHORT, **target: Any) -> list[Any]:
    """All events of one errand to a server with this script."""

    async def main() -> list[Any]:
        async with scripted(script) as server:
            return list(await events(server.target(**target), passage(limits)))

    return asyncio.run(main())


def refused(script: Script, *, limits: Limits = SHORT) -> SwarmError:
    """What such an errand fails with."""
    with pytest.raises(SwarmError) as caught:
        heard_from(script, limits=limits)
    return caught.value


WORDS = ["I", " am", " a", " fake", " rack", ".", " Nothing", " more", "."]


async def mimic(asked: Asked, writer: asyncio.StreamWriter) -> None:
    """Answer as an OpenAI-compatible server does that knows the model "spore" and the owner's key."""
    if asked.headers.get("authorization") != f"Bearer {KEY}":
        writer.write(_complaint("401 Unauthorized", "no such key"))
    elif asked.path == "/v1/models":
        body = json.dumps({"object": "list", "data": [{"id": "spore", "object": "model"}]}).encode()
        writer.write(answered("200 OK", body, "Content-Type: application/json"))
    elif asked.json["model"] != "spore":
        writer.write(_complaint("404 Not Found", f"there is no model {asked.json['model']}"))
    elif asked.json["temperature"] > 2:
        writer.write(_complaint("400 Bad Request", "temperature must be from 0 to 2"))
    else:
        await _generate(asked.json, asked.path.endswith("chat/completions"), writer)


async def _generate(body: dict[str, Any], is_chat: bool, writer: asyncio.StreamWriter) -> None:
    stop = [word for word in WORDS if any(text in word for text in body.get("stop", ()))]
    words = WORDS[: WORDS.index(stop[0])] if stop else WORDS
    reason = "length" if body.get("max_tokens", 99) < len(words) else "stop"
    words = words[: body.get("max_tokens", 99)]
    writer.write(STREAM_HEAD)
    for word in words:
        choice: dict[str, Any] = {"index": 0, "finish_reason": None, "logprobs": None}
        choice |= {"delta": {"content": word}} if is_chat else {"text": word}
        wanted = body.get("top_logprobs") if is_chat else body.get("logprobs")
        if wanted is not None and is_chat:
            tops = [{"token": f"{word}{rank}", "bytes": None, "logprob": -1.0 - rank} for rank in range(wanted)]
            entry = {"token": word, "bytes": list(word.encode()), "logprob": -0.5, "top_logprobs": tops}
            choice["logprobs"] = {"content": [entry], "refusal": None}
        elif wanted is not None:
            top = {f"{word}{rank}": -1.0 - rank for rank in range(wanted)}
            choice["logprobs"] = {"tokens": [word], "token_logprobs": [-0.5], "top_logprobs": [top], "text_offset": [0]}
        writer.write(event({"choices": [choice], "usage": None}))
        await writer.drain()
    end = {"delta": {}} if is_chat else {"text": ""}
    writer.write(event({"choices": [{"index": 0, "finish_reason": reason, **end}], "usage": None}))
    writer.write(event({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": len(words)}}))
    writer.write(b"data: [DONE]\n\n")


def _complaint(status: str, message: str) -> bytes:
    return answered(status, json.dumps({"error": {"message": message}}).encode(), "Content-Type: application/json")
