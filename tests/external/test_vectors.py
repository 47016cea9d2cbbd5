"""Texts carried to an endpoint's `/embeddings` on real sockets, and answers that are wrong."""

import asyncio
import base64
import json
import struct
from typing import Any

import pytest

from endpoints import KEY, answered, passage, saying, scripted
from mycoswarm.base.errors import EndpointError, InputError
from mycoswarm.external.errand import Reached, embed
from mycoswarm.external.target import Target
from mycoswarm.external.vectors import embedding_body, read_vectors
from mycoswarm.wire.report import Finished, Vector
from mycoswarm.wire.request import Embedding

TARGET = Target(name="rack", url="http://127.0.0.1:1/v1", place="LAN", model="m")
JSON = "Content-Type: application/json"
TWO = Embedding(request_id="r", inputs=("a", "b"))


def entry(index: int, embedding: Any) -> dict[str, Any]:
    return {"object": "embedding", "index": index, "embedding": embedding}


def read(data: Any, asked: Embedding = TWO, **more: Any) -> list[Vector | Finished]:
    return list(read_vectors(TARGET, asked, json.dumps({"data": data, **more}).encode()))


def test_texts_go_there_and_vectors_come_back_in_their_order() -> None:
    answer = json.dumps({"data": [entry(1, [3, 4.5]), entry(0, [1, 2])], "usage": {"prompt_tokens": 5}}).encode()

    async def main() -> None:
        async with scripted(saying(answered("200 OK", answer, JSON))) as server:
            asked = Embedding(request_id="r", inputs=("a", "b"), dimensions=2)
            said = [event async for event in embed(server.target(), asked, passage())]
            assert isinstance(said[0], Reached) and said[0].place == "this-machine"
            assert said[1:] == [
                Vector(request_id="r", index=0, values=struct.pack("<2f", 1, 2)),
                Vector(request_id="r", index=1, values=struct.pack("<2f", 3, 4.5)),
                Finished(request_id="r", reason="stop", prompt_tokens=5, completion_tokens=0),
            ]
            (request,) = server.asked
            assert (request.method, request.path) == ("POST", "/v1/embeddings")
            wanted = {"model": "spore", "input": ["a", "b"], "encoding_format": "base64", "dimensions": 2}
            assert request.json == wanted and request.headers["authorization"] == f"Bearer {KEY}"

    asyncio.run(main())


def test_an_endpoint_that_refuses_is_a_typed_error() -> None:
    async def main() -> None:
        async with scripted(saying(answered("400 No", b'{"error":{"message":"too long"}}', JSON))) as server:
            with pytest.raises(EndpointError, match="too long"):
                _ = [event async for event in embed(server.target(), TWO, passage())]

    asyncio.run(main())


def test_base64_is_read_too() -> None:
    packed = [base64.b64encode(struct.pack("<2f", index, -0.5)).decode() for index in range(2)]
    vectors = read([entry(0, packed[0]), entry(1, packed[1])])
    assert [one.values for one in vectors if isinstance(one, Vector)] == [struct.pack("<2f", i, -0.5) for i in range(2)]


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        [entry(0, [1.0])],
        [entry(0, [1.0]), entry(0, [1.0])],
        [entry(0, [1.0]), entry(2, [1.0])],
        [entry(0, [1.0]), entry(1, [1.0]), entry(2, [1.0])],
        [entry(0, [1.0]), entry(1, [1.0, 2.0])],
        [entry(0, []), entry(1, [])],
        [entry(0, [1e39]), entry(1, [1.0])],
        [entry(0, [float("nan")]), entry(1, [1.0])],
        [entry(0, ["x"]), entry(1, [1.0])],
        [entry(0, "AAAA"), entry(1, "AAAA")],
        [entry(0, "not base64"), entry(1, "AAAAAA==")],
        [entry(0, base64.b64encode(struct.pack("<f", float("inf"))).decode()), entry(1, [1.0])],
        [entry(0, [1.0] * 20_000), entry(1, [1.0] * 20_000)],
        {"0": [1.0]},
    ],
)
def test_an_answer_that_is_not_one_vector_for_each_text_is_an_endpoints_error(data: Any) -> None:
    with pytest.raises(EndpointError, match="rack"):
        read(data)


@pytest.mark.parametrize("body", [b"", b"\xff", b"[]", b'{"error":"no"}', b"[" * 9999])
def test_an_answer_that_is_none_is_an_endpoints_error(body: bytes) -> None:
    with pytest.raises(EndpointError):
        list(read_vectors(TARGET, TWO, body))


def test_vectors_of_another_width_than_was_asked_for_are_refused() -> None:
    with pytest.raises(EndpointError, match="of 1 dimensions; 3 were asked for"):
        read([entry(0, [1.0])], Embedding(request_id="r", inputs=("a",), dimensions=3))


def test_half_a_character_cannot_be_sent() -> None:
    with pytest.raises(InputError):
        embedding_body("m", Embedding(request_id="r", inputs=("\ud800",)))
