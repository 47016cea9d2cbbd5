"""Texts for an endpoint's `/embeddings`, and the vectors that it answers with: checked, as float32. No sockets."""

import base64
import binascii
import struct
from collections.abc import Iterator
from typing import Any

import msgspec

from mycoswarm.base.errors import EndpointError, InputError
from mycoswarm.external.complaint import garbled, in_answer
from mycoswarm.external.target import Target
from mycoswarm.wire.report import MAX_VECTOR_BYTES, Count, Finished, Vector
from mycoswarm.wire.request import Embedding

F32_BYTES = 4
F32_MOST = struct.unpack("<f", b"\xff\xff\x7f\x7f")[0]


class _Entry(msgspec.Struct, frozen=True):
    index: int
    embedding: list[float] | str


class _Usage(msgspec.Struct, frozen=True):
    prompt_tokens: Count = 0


class _Told(msgspec.Struct, frozen=True):
    data: list[_Entry] | None = None
    usage: _Usage | None = None
    error: Any = None


_decode = msgspec.json.Decoder(_Told).decode


def embedding_body(model: str, embedding: Embedding) -> bytes:
    """Write the request. Base64 is asked for, as OpenAI's own client does; it is a quarter as long.

    Raises:
        InputError: a text cannot be written as JSON.
    """
    body: dict[str, Any] = {"model": model, "input": embedding.inputs, "encoding_format": "base64"}
    if embedding.dimensions is not None:
        body["dimensions"] = embedding.dimensions
    try:
        return msgspec.json.encode(body)
    except (msgspec.MsgspecError, ValueError) as exc:
        raise InputError("the request cannot be written as JSON") from exc


def read_vectors(target: Target, embedding: Embedding, body: bytes) -> Iterator[Vector | Finished]:
    """The vectors, in the order of the texts and as long as the endpoint made them; then the end.

    Raises:
        EndpointError: one is missing, comes twice, is no vector or of another width than the others or than was asked.
    """
    try:
        told = _decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise garbled(target, "no list of embeddings") from exc
    if told.error is not None:
        raise in_answer(target, told.error)
    entries = sorted(told.data or (), key=lambda entry: entry.index)
    if [entry.index for entry in entries] != list(range(len(embedding.inputs))):
        raise garbled(target, "not one embedding for each text")
    vectors = [_floats(target, entry.embedding) for entry in entries]
    widths = {len(vector) // F32_BYTES for vector in vectors}
    if len(widths) > 1 or max(widths) * F32_BYTES > MAX_VECTOR_BYTES or 0 in widths:
        raise garbled(target, "embeddings of different or impossible widths")
    if embedding.dimensions is not None and widths != {embedding.dimensions}:
        raise EndpointError(
            f"endpoint {target.name} made vectors of {widths.pop()} dimensions; {embedding.dimensions} were asked for",
            hint="Leave `dimensions` out, or ask a model that can.",
        )
    request_id = embedding.request_id
    for index, values in enumerate(vectors):
        yield Vector(request_id=request_id, index=index, values=values)
    tokens = told.usage.prompt_tokens if told.usage else 0
    yield Finished(request_id=request_id, reason="stop", prompt_tokens=tokens, completion_tokens=0)


def _floats(target: Target, said: list[float] | str) -> bytes:
    """As little-endian float32s, all of them numbers."""
    if isinstance(said, list):
        numbers = tuple(said)
    else:
        try:
            data = base64.b64decode(said, validate=True)
            numbers = struct.unpack(f"<{len(data) // F32_BYTES}f", data)
        except (binascii.Error, ValueError, struct.error) as exc:
            raise garbled(target, "an embedding that is no base64 of numbers") from exc
    if not all(abs(number) <= F32_MOST for number in numbers):  # nan is not, either
        raise garbled(target, "an embedding that is not all numbers")
    return struct.pack(f"<{len(numbers)}f", *numbers)
