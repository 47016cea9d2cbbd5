"""`/v1/embeddings` with OpenAI's own Python package against the real console, and bodies that are wrong."""

import asyncio
import base64
import json
import struct
from typing import Any

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consoles import console
from mycoswarm.api.embedding import read_embedding
from mycoswarm.api.question import Envelope
from mycoswarm.base.errors import InputError, SwarmError, UnsupportedError
from mycoswarm.chat.job import Asker
from mycoswarm.routing.action import Deny
from mycoswarm.routing.clause import When
from mycoswarm.routing.rule import DEFAULT_RULE, Rule, RuleSet
from mycoswarm.wire.plan import RingPlan
from mycoswarm.wire.request import MAX_INPUTS
from rings import Bench, FakeRing, lost_at, until, vector_of

ENVELOPE = Envelope(request_id="r1", asker=Asker())


def floats(values: tuple[float, ...]) -> list[float]:
    """As they are after a journey as float32."""
    return list(struct.unpack(f"<{len(values)}f", struct.pack(f"<{len(values)}f", *values)))


def read(**body: Any) -> Any:
    return read_embedding(json.dumps({"model": "spore", "input": "a", **body}).encode(), ENVELOPE)


@pytest.mark.slow
def test_vectors_come_in_order_as_base64_or_numbers_with_usage_and_where_they_were_made() -> None:
    async def main() -> None:
        async with console() as c, c.client() as client:
            texts = ["one", "four", "\u2603"]
            raw = await client.embeddings.with_raw_response.create(model="spore", input=texts, user="me")
            plain = await client.embeddings.create(model="spore", input=texts, encoding_format="float")
            answer = raw.parse()
            for told in (answer, plain):
                assert [one.embedding for one in told.data] == [floats(vector_of(text)) for text in texts]
                assert [one.index for one in told.data] == [0, 1, 2] and told.object == "list"
                assert (told.usage.prompt_tokens, told.usage.total_tokens, told.model) == (8, 8, "spore")
            extra = answer.model_extra["mycoswarm"]  # type: ignore[index]  # a field of ours
            assert extra["pooling"] == "mean" and extra["nodes"] == ["attic"] and extra["ran"] == "LAN"
            assert extra["stages"] == [{"node": "attic", "place": "LAN", "layers": [0, 6]}]
            assert raw.headers["x-mycoswarm-receipt"] == extra["receipt"]
            assert raw.headers["x-mycoswarm-nodes"] == "attic" and raw.headers["x-mycoswarm-rule"]
            (decision, _), (row, _) = c.bench.rows("decision"), c.bench.rows("answer")
            assert decision["asked"]["task"] == "embedding" and decision["asked"]["characters"] == 8
            assert (row["outcome"], row["prompt_tokens"], row["completion_tokens"]) == ("stop", 8, 0)
            assert c.ring.warrants[0].task == "embedding" and c.bench.spent == [("desk", 8)] * 2
            assert "four" not in json.dumps(c.bench.notes), "no text"

    asyncio.run(main())


@pytest.mark.slow
def test_a_chat_and_an_embedding_of_one_model_use_two_rings_and_each_is_used_again() -> None:
    async def main() -> None:
        async with console() as c, c.client() as client:
            for _ in range(2):
                await client.embeddings.create(model="spore", input="a")
                await client.chat.completions.create(model="spore", messages=[{"role": "user", "content": "a"}])
            assert [ring.plan.conditions.pooling for ring in c.bench.rings] == ["mean", None]
            conditions = c.bench.rings[0].plan.conditions
            assert (conditions.n_ubatch, conditions.n_seq_max) == (conditions.n_ctx, 1)

    asyncio.run(main())


@pytest.mark.slow
@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_node_that_is_lost_costs_nothing_but_time(after: int) -> None:
    faults = [{after: lost_at("attic")}]

    def ring_for(plan: RingPlan) -> FakeRing:
        return FakeRing(plan, faults=faults.pop() if faults else None)

    async def main() -> None:
        async with console(Bench(ring_for=ring_for)) as c, c.client() as client:
            told = await client.embeddings.create(model="spore", input=["a", "bc", "def"])
            assert [one.embedding[2] for one in told.data] == [1, 2, 3]
            assert told.model_extra["mycoswarm"]["nodes"] == ["attic", "cellar"]  # type: ignore[index]  # of ours
            assert len(c.bench.rings) == 2

    asyncio.run(main())


@pytest.mark.slow
def test_a_client_that_hangs_up_ends_the_work() -> None:
    async def main() -> None:
        async with console() as c:
            c.bench.ring_for = lambda plan: _held(plan)
            body = json.dumps({"model": "spore", "input": "a"}).encode()
            _, writer = await asyncio.open_connection("127.0.0.1", c.port)
            writer.write(c.post("/v1/embeddings", body))
            await until(lambda: c.bench.rings and c.ring.embeddings)
            writer.close()
            await until(lambda: c.ring.ends == ["cancelled"])
            await until(lambda: c.bench.rows("answer"))
            assert c.bench.rows("answer")[0]["outcome"] == "cancelled"

    asyncio.run(main())


def _held(plan: RingPlan) -> FakeRing:
    ring = FakeRing(plan)
    ring.gate.clear()
    return ring


@pytest.mark.slow
def test_what_the_rules_or_the_model_do_not_allow_is_a_typed_error() -> None:
    async def main() -> None:
        rules = RuleSet.of((Rule(name="no vectors", when=When(task="embedding"), then=Deny()), DEFAULT_RULE))
        async with console(Bench(rules=rules)) as c, c.client() as client:
            with pytest.raises(openai.PermissionDeniedError) as denied:
                await client.embeddings.create(model="spore", input="a")
            assert denied.value.code == "denied_by_rule" and c.bench.rings == []
            (row,) = c.bench.rows("decision")
            assert denied.value.response.headers["x-mycoswarm-receipt"] == c.bench.notes[0][2]
            assert (row["outcome"], row["asked"]["task"]) == ("refused", "embedding")
        async with console() as c, c.client() as client:
            for route in ("split", "stages=2"):
                with pytest.raises(openai.APIStatusError, match="one node with the whole model") as split:
                    await client.embeddings.create(model="spore", input="a", extra_headers={"x-mycoswarm-route": route})
                assert split.value.code == "cannot_split"  # type: ignore[attr-defined]  # of the body
            with pytest.raises(openai.NotFoundError):
                await client.embeddings.create(model="gpt-9", input="a")
            with pytest.raises(openai.APIStatusError, match="no text; token ids are not taken"):
                await client.embeddings.create(model="spore", input=[1, 2, 3])
            assert c.bench.rings == []

    asyncio.run(main())


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": ["a", ""]}, "input"),
        ({"input": ["a"] * (MAX_INPUTS + 1)}, "input"),
        ({"input": [1, 2]}, "input"),
        ({"input": [[1, 2], [3]]}, "input"),
        ({"input": ["a", None]}, "input"),
        ({"input": [{"text": "a"}]}, "input"),
        ({"encoding_format": "hex"}, "encoding_format"),
        ({"dimensions": 0}, "dimensions"),
        ({"dimensions": 1 << 40}, "dimensions"),
        ({"truncate": True}, "truncate"),
    ],
)
def test_a_wrong_field_is_named(body: dict[str, Any], param: str) -> None:
    with pytest.raises(InputError) as caught:
        read(**body)
    assert caught.value.param == param


def test_token_ids_are_refused_with_what_to_send() -> None:
    with pytest.raises(UnsupportedError) as caught:
        read(input=[1, 2])
    assert "Send the texts" in caught.value.hint


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b"\xff", b'{"model":"m"}', b'{"input":"a"}', b'{"model":1,"input":"a"}', b"[" * 9999]
)
def test_a_body_that_is_no_request_is_an_error(body: bytes) -> None:
    with pytest.raises(InputError):
        read_embedding(body, ENVELOPE)


def test_what_changes_nothing_is_taken() -> None:
    job, is_base64 = read(input=["a", "bc"], user="me", dimensions=64, encoding_format="base64")
    assert (job.inputs, job.dimensions, job.characters, job.task) == (("a", "bc"), 64, 3, "embedding")
    assert is_base64 and not read()[1] and read()[0].inputs == ("a",)
    assert base64.b64encode(b"") == b""


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(["model", "input", "encoding_format", "dimensions", "user", "n"]), json_values))
def test_any_json_is_a_request_or_a_typed_error(body: dict[str, Any]) -> None:
    try:
        job, _ = read_embedding(json.dumps(body).encode(), ENVELOPE)
    except SwarmError as error:
        assert error.status in (400, 501) or error.status < 500
    else:
        assert 0 < len(job.inputs) <= MAX_INPUTS and all(job.inputs)
