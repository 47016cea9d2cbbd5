"""OpenAI's own Python package against the real console."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from consoles import Console, console
from mycoswarm.base.errors import BusyError, CaptureError, SwarmError
from mycoswarm.wire.plan import RingPlan
from rings import TEXT, TOKENS, Bench, FakeRing, lost_at, node

pytestmark = pytest.mark.slow  # a server and a client for each
HI: list[Any] = [{"role": "user", "content": "hi"}]


def failing(faults: dict[int, SwarmError]) -> Bench:
    def ring_for(plan: RingPlan) -> FakeRing:
        ring = FakeRing(plan, faults=dict(faults))
        faults.clear()
        return ring

    return Bench(nodes=(node("attic"),), ring_for=ring_for)


def test_models_are_listed_and_found_by_name() -> None:
    async def main() -> None:
        async with console() as c, c.client() as client:
            (model,) = (await client.models.list()).data
            assert model.id == "spore" and model.owned_by == "mycoswarm"
            assert (await client.models.retrieve("spore")).id == "spore"
            with pytest.raises(openai.NotFoundError) as caught:
                await client.models.retrieve("gpt-9/large")
            assert "gpt-9/large" in caught.value.message

    asyncio.run(main())


def test_a_chat_completion_with_usage_and_where_it_ran() -> None:
    async def main() -> None:
        async with console() as c, c.client() as client:
            raw = await client.chat.completions.with_raw_response.create(model="spore", messages=HI)
            answer = raw.parse()
            assert answer.choices[0].message.content == TEXT and answer.choices[0].finish_reason == "stop"
            assert answer.choices[0].message.role == "assistant" and answer.choices[0].logprobs is None
            assert answer.usage and (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (7, 9)
            assert answer.usage.total_tokens == 16 and answer.created == 1234 and answer.model == "spore"
            assert raw.headers["x-mycoswarm-ran"] == "LAN" and raw.headers["x-mycoswarm-nodes"] == "attic"
            receipt = raw.headers["x-mycoswarm-receipt"]
            assert c.bench.notes[-1][2] == receipt and c.bench.rows("answer")[0]["key"] == "desk"
            extra = answer.model_extra["mycoswarm"]  # type: ignore[index]  # a field of ours
            assert (extra["receipt"], extra["ran"], extra["nodes"]) == (receipt, "LAN", ["attic"])
            assert extra["stages"] == [{"node": "attic", "place": "LAN", "layers": [0, 6]}]
            assert c.uses == ["desk"]

    asyncio.run(main())


def test_a_streamed_chat_completion() -> None:
    async def main() -> None:
        async with console() as c, c.client() as client:
            options: Any = {"include_usage": True}
            stream = await client.chat.completions.create(
                model="spore", messages=HI, stream=True, stream_options=options
            )
            chunks = [chunk async for chunk in stream]
            assert chunks[0].choices[0].delta.role == "assistant"
            assert [chunk.choices[0].delta.content for chunk in chunks[1:-2]] == list(TOKENS)
            assert chunks[-2].choices[0].finish_reason == "stop"
            assert chunks[-1].choices == [] and chunks[-1].usage and chunks[-1].usage.completion_tokens == 9
            assert all(chunk.usage is None for chunk in chunks[:-1]) and len({chunk.id for chunk in chunks}) == 1
            plain = await client.chat.completions.create(model="spore", messages=HI, stream=True)
            assert all(chunk.choices for chunk in [chunk async for chunk in plain])

    asyncio.run(main())


def test_the_blocking_client_whole_and_streamed() -> None:
    def talk(c: Console) -> tuple[str | None, str]:
        with c.blocking() as client:
            whole = client.chat.completions.create(model="spore", messages=HI)
            with client.chat.completions.create(model="spore", messages=HI, stream=True) as stream:
                return whole.choices[0].message.content, "".join(x.choices[0].delta.content or "" for x in stream)

    async def main() -> None:
        async with console() as c:
            assert await asyncio.to_thread(talk, c) == (TEXT, TEXT)

    asyncio.run(main())


def test_what_is_asked_of_sampling_arrives_at_the_ring() -> None:
    async def main() -> None:
        schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
        async with console() as c, c.client() as client:
            answer = await client.chat.completions.create(
                model="spore",
                messages=HI,
                n=1,
                temperature=0,
                top_p=0.5,
                seed=-1,
                stop=[" one", "x"],
                logit_bias={"5": -100},
                frequency_penalty=0.5,
                presence_penalty=-0.5,
                max_completion_tokens=50,
                response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": schema, "strict": True}},
                user="somebody",
                extra_body={"top_k": 40, "min_p": 0.1, "repeat_penalty": 1.1},
            )
            sampling = c.ring.generations[0].sampling
            assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.min_p) == (0, 0.5, 40, 0.1)
            assert sampling.seed == 2**32 - 1 and sampling.stop == (" one", "x") and sampling.logit_bias == {5: -100}
            assert (sampling.frequency_penalty, sampling.presence_penalty, sampling.repeat_penalty) == (0.5, -0.5, 1.1)
            assert sampling.json_schema == schema and sampling.max_tokens == 50
            assert answer.choices[0].message.content == "Three small rings answer,"
            await client.chat.completions.create(model="spore", messages=HI, response_format={"type": "json_object"})
            assert c.ring.generations[1].sampling.json_schema == {}

    asyncio.run(main())


def test_a_length_limit_is_the_finish_reason() -> None:
    async def main() -> None:
        async with console() as c, c.client() as client:
            answer = await client.chat.completions.create(model="spore", messages=HI, max_tokens=2)
            assert answer.choices[0].finish_reason == "length" and answer.choices[0].message.content == "Three small"

    asyncio.run(main())


def test_logprobs_of_a_chat_whole_and_streamed() -> None:
    async def main() -> None:
        async with console() as c, c.client() as client:
            asked: Any = {"model": "spore", "messages": HI, "logprobs": True, "top_logprobs": 2, "max_tokens": 2}
            whole = await client.chat.completions.create(**asked)
            entries = whole.choices[0].logprobs.content
            assert [entry.token for entry in entries] == ["Three", " small"] and entries[0].bytes == list(b"Three")
            assert [top.logprob for top in entries[0].top_logprobs] == [0.0, -1.0]
            streamed: list[str] = []
            async for chunk in await client.chat.completions.create(**asked, stream=True):
                if chunk.choices[0].logprobs:
                    streamed += [entry.token for entry in chunk.choices[0].logprobs.content]
            assert streamed == ["Three", " small"]

    asyncio.run(main())


def test_legacy_completions_whole_and_streamed_with_logprobs() -> None:
    async def main() -> None:
        async with console() as c, c.client() as client:
            whole = await client.completions.create(model="spore", prompt="Once", logprobs=1, max_tokens=3)
            assert whole.choices[0].text == "Three small rings" and whole.choices[0].finish_reason == "length"
            logprobs = whole.choices[0].logprobs
            assert logprobs and logprobs.tokens == list(TOKENS[:3]) and logprobs.text_offset == [0, 5, 11]
            assert c.ring.generations[0].prompt.text == "Once"
            stream = await client.completions.create(
                model="spore", prompt=["Once"], stream=True, logprobs=1, stream_options={"include_usage": True}
            )
            chunks = [chunk async for chunk in stream]
            assert "".join(chunk.choices[0].text for chunk in chunks[:-1]) == TEXT
            offsets = [x.choices[0].logprobs.text_offset for x in chunks[:-1] if x.choices[0].logprobs]
            assert offsets[:3] == [[0], [5], [11]]
            assert chunks[-1].usage and chunks[-1].usage.prompt_tokens == 7
            assert c.ring.generations[1].sampling.max_tokens == 16  # OpenAI's default for this endpoint

    asyncio.run(main())


def test_a_narrowing_header_reaches_the_decision() -> None:
    async def main() -> None:
        async with console() as c, c.client() as client:
            headers = {"X-Mycoswarm-Route": "split; stages=2"}
            raw = await client.chat.completions.with_raw_response.create(
                model="spore", messages=HI, extra_headers=headers
            )
            assert sorted(raw.headers["x-mycoswarm-nodes"].split(",")) == ["attic", "cellar"]
            with pytest.raises(openai.BadRequestError, match="no way to narrow"):
                await client.chat.completions.create(
                    model="spore", messages=HI, extra_headers={"X-Mycoswarm-Route": "anywhere"}
                )
            with pytest.raises(openai.NotFoundError, match="no node called"):
                await client.chat.completions.create(
                    model="spore", messages=HI, extra_headers={"X-Mycoswarm-Route": "nodes=garage"}
                )

    asyncio.run(main())


@pytest.mark.parametrize("streams", [False, True])
def test_errors_become_the_packages_own_classes(streams: bool) -> None:
    async def main() -> None:
        full, broken = BusyError("the queue is full", retry_after_s=7), CaptureError("rows are missing")
        async with console(failing({0: full})) as c, c.client() as client, c.client("msk-wrong") as stranger:
            create: Any = client.chat.completions.create
            with pytest.raises(openai.AuthenticationError) as key:
                await stranger.chat.completions.create(model="spore", messages=HI)
            assert key.value.response.headers["www-authenticate"] == "Bearer"
            with pytest.raises(openai.NotFoundError, match="gpt-9"):
                await create(model="gpt-9", messages=HI, stream=streams)
            with pytest.raises(openai.RateLimitError, match="queue is full") as busy:
                await create(model="spore", messages=HI, stream=streams)
            assert busy.value.response.headers["retry-after"] == "7" and busy.value.code == "busy"
            c.ring.faults[0] = broken
            with pytest.raises(openai.InternalServerError) as bug:
                await create(model="spore", messages=HI, stream=streams)
            body: Any = bug.value.body
            assert body["code"] == "capture_failed" and body["type"] == "server_error" and body["hint"]
            answer = await client.chat.completions.create(model="spore", messages=HI)  # the next request is fine
            assert answer.choices[0].message.content == TEXT

    asyncio.run(main())


def test_an_error_in_mid_stream_is_an_event_and_the_client_raises() -> None:
    async def main() -> None:
        async with console(failing({3: lost_at("attic")})) as c, c.client() as client:
            got = ""
            with pytest.raises(openai.APIError, match="cable was pulled") as caught:
                async for chunk in await client.chat.completions.create(model="spore", messages=HI, stream=True):
                    got += chunk.choices[0].delta.content or ""
            assert got == "".join(TOKENS[:3]) and caught.value.code == "ring_failed"

    asyncio.run(main())


def test_a_stream_goes_on_over_a_lost_node_and_names_all_that_saw_the_prompt() -> None:
    async def main() -> None:
        def ring_for(plan: RingPlan) -> FakeRing:
            return FakeRing(plan, faults={4: lost_at("attic")} if plan.head.node_id == "attic" else None)

        async with console(Bench(ring_for=ring_for)) as c, c.client() as client:
            stream = await client.chat.completions.create(model="spore", messages=HI, stream=True)
            chunks = [chunk async for chunk in stream]
            assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == TEXT
            extra = chunks[-1].model_extra["mycoswarm"]  # type: ignore[index]  # a field of ours
            assert [s["node"] for s in extra["stages"]] == ["cellar"]
            assert [[s["node"] for s in stages] for stages in extra["earlier_stages"]] == [["attic"]]

    asyncio.run(main())


def test_a_bug_of_ours_is_an_error_without_our_insides(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        bug: Any = ZeroDivisionError("secret inside")
        async with console(failing({0: bug, 2: bug})) as c, c.client() as client:
            with pytest.raises(openai.InternalServerError) as caught:
                await client.chat.completions.create(model="spore", messages=HI)
            assert "secret" not in json.dumps(caught.value.body)
            c.ring.faults[2] = bug
            with pytest.raises(openai.APIError, match="made a mistake"):
                async for _ in await client.chat.completions.create(model="spore", messages=HI, stream=True):
                    pass

    asyncio.run(main())
    assert "secret inside" in caplog.text


def test_the_owners_socket_needs_no_key_and_has_the_owners_routes(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "console.sock"
        async with console(socket_path=path) as c:
            transport = openai.DefaultAsyncHttpxClient(transport=httpx2.AsyncHTTPTransport(uds=str(path)))
            async with openai.AsyncOpenAI(
                base_url="http://localhost/v1", api_key="none", http_client=transport, max_retries=0
            ) as client:
                answer = await client.chat.completions.create(model="spore", messages=HI)
                assert answer.choices[0].message.content == TEXT
                own: Any = await client.get("/owner", cast_to=object)
                assert own == {"hello": "owner"}
            assert c.bench.rows("answer")[0]["key"] is None and not c.uses

    asyncio.run(main())
