"""A prompt carried to an endpoint on real sockets: what is sent, what comes back, and all that can go wrong."""

import asyncio
import gc
import json
import time
from typing import Any

import pytest

from endpoints import (
    ASK,
    KEY,
    STREAM_HEAD,
    Asked,
    answered,
    event,
    events,
    heard_from,
    passage,
    said,
    saying,
    scripted,
    text_of,
    then_waiting,
)
from mycoswarm.base.errors import EndpointError, InputError
from mycoswarm.external.errand import Reached, models_of, relay
from mycoswarm.external.target import Limits
from mycoswarm.wire.report import Finished, Piece
from mycoswarm.wire.request import Prompt, Sampling

USAGE = event({"choices": [], "usage": {"prompt_tokens": 4, "completion_tokens": 2}})
WHOLE = STREAM_HEAD + said("Hel") + said("lo", "stop") + USAGE + b"data: [DONE]\n\n"
JSON_KIND = "Content-Type: application/json"


def test_nothing_is_sent_before_the_caller_knows_where_it_goes() -> None:
    async def main() -> None:
        async with scripted(saying(WHOLE)) as server:
            told = relay(server.target(), ASK, Sampling(), request_id="r1", passage=passage())
            assert await anext(told) == Reached("this-machine", f"127.0.0.1:{server.port}")
            await asyncio.sleep(0.02)
            assert server.heard == b"" and not server.asked
            rest = [each async for each in told]
            assert text_of(rest) == "Hello"  # type: ignore[arg-type]  # pieces and the end
            assert rest[-1] == Finished(request_id="r1", reason="stop", prompt_tokens=4, completion_tokens=2)

    asyncio.run(main())


def test_a_caller_that_leaves_after_hearing_where_has_sent_nothing() -> None:
    async def main() -> None:
        async with scripted(saying(WHOLE)) as server:
            told = relay(server.target(), ASK, Sampling(), request_id="r1", passage=passage())
            await anext(told)
            await told.aclose()
            await asyncio.wait_for(server.left.wait(), 2)
            assert server.heard == b""

    asyncio.run(main())


def test_the_request_is_ours_alone() -> None:
    async def main() -> None:
        async with scripted(saying(WHOLE)) as server:
            await events(server.target(), passage())
            await events(server.target(secret=None), passage(), prompt=Prompt(text="once"))
            first, second = server.asked
            assert (first.method, first.path) == ("POST", "/v1/chat/completions")
            assert first.headers == {
                "host": f"127.0.0.1:{server.port}",
                "user-agent": "mycoswarm",
                "accept": "text/event-stream, application/json",
                "accept-encoding": "identity",
                "connection": "close",
                "content-type": "application/json",
                "content-length": str(len(first.body)),
                "authorization": f"Bearer {KEY}",
            }
            assert first.json["model"] == "spore" and first.json["messages"] == list(ASK.messages or ())
            assert second.path == "/v1/completions" and second.json["prompt"] == "once"
            assert "authorization" not in second.headers

    asyncio.run(main())


def test_no_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with scripted(saying(WHOLE)) as trap, scripted(saying(WHOLE)) as server:
            for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "https_proxy"):
                monkeypatch.setenv(name, f"http://127.0.0.1:{trap.port}")
            assert text_of(await events(server.target(), passage())) == "Hello"
            assert trap.connections == 0

    asyncio.run(main())


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See", "307 Temporary", "308 Permanent"])
def test_a_redirect_is_an_error_and_its_goal_hears_nothing(status: str) -> None:
    async def main() -> None:
        async with scripted(saying(WHOLE)) as trap:
            async with scripted(saying(answered(status, b"", f"Location: {trap.url}/chat/completions"))) as server:
                for going in (events(server.target(), passage()), models_of(server.target(), passage())):
                    with pytest.raises(EndpointError) as caught:
                        await going
                    assert caught.value.code == "endpoint_redirects"
            assert trap.connections == 0 and trap.heard == b""

    asyncio.run(main())


def test_a_stream_may_be_cut_between_any_two_bytes() -> None:
    data = STREAM_HEAD + said("Grüße 🍄", "stop") + b"data: [DONE]\n\n"

    async def script(asked: Asked, writer: asyncio.StreamWriter) -> None:
        for at in range(len(data)):
            writer.write(data[at : at + 1])
            await writer.drain()
            await asyncio.sleep(0)

    assert text_of(heard_from(script)) == "Grüße 🍄"


def test_a_chunked_answer_is_put_together() -> None:
    body = said("a") + said("b", "stop")
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(body[at : at + 7]), body[at : at + 7]) for at in range(0, len(body), 7))
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert text_of(heard_from(saying(head + chunks + b"0\r\n\r\n"))) == "ab"


def test_a_server_that_ignores_stream_is_understood() -> None:
    body = {"choices": [{"index": 0, "message": {"content": "Hello"}, "finish_reason": "length"}], "usage": None}
    told = heard_from(saying(answered("200 OK", json.dumps(body).encode(), JSON_KIND)))
    assert told[1:] == [
        Piece(request_id="r1", text="Hello", token_ids=()),
        Finished(request_id="r1", reason="length", prompt_tokens=0, completion_tokens=0),
    ]


@pytest.mark.parametrize("ending", [saying, then_waiting])
def test_an_answer_whose_end_was_told_is_whole_whatever_the_connection_does_then(ending: Any) -> None:
    told = heard_from(
        ending(STREAM_HEAD.replace(b"close\r\n", b"close\r\nContent-Length: 9999\r\n") + said("a", "stop"))
    )
    assert text_of(told) == "a" and isinstance(told[-1], Finished)


def test_comments_without_end_after_the_answers_end_do_not_hold_it_up() -> None:
    async def script(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM_HEAD + said("a", "stop"))
        while True:
            writer.write(b": more to come\n\n")
            await writer.drain()
            await asyncio.sleep(0.01)

    before = time.monotonic()
    assert text_of(heard_from(script, limits=Limits(tail_s=0.05))) == "a"
    assert time.monotonic() - before < 2


@pytest.mark.parametrize("parts", [(), (STREAM_HEAD, said("a"))])
def test_closing_the_generator_or_cancelling_closes_the_connection_at_once(parts: tuple[bytes, ...]) -> None:
    async def main() -> None:
        async with scripted(then_waiting(*parts)) as server:
            told = relay(server.target(), ASK, Sampling(), request_id="r1", passage=passage(Limits()))
            await anext(told)
            if parts:
                assert isinstance(await anext(told), Piece)
            waiting = asyncio.ensure_future(anext(told))
            while not server.asked:
                await asyncio.sleep(0.002)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            await asyncio.wait_for(server.left.wait(), 2)
            await told.aclose()
        async with scripted(then_waiting(STREAM_HEAD, said("a"))) as server:
            told = relay(server.target(), ASK, Sampling(), request_id="r1", passage=passage(Limits()))
            while not isinstance(await anext(told), Piece):
                pass
            await told.aclose()
            await asyncio.wait_for(server.left.wait(), 2)

    asyncio.run(main())
    gc.collect()  # an unclosed socket would warn, and warnings are errors


def test_a_wrong_url_or_key_never_begins() -> None:
    async def main() -> None:
        async with scripted(saying(WHOLE)) as server:
            for wrong in ({"secret": "two words"}, {"url": "http://a:b@127.0.0.1"}):
                with pytest.raises(InputError):
                    await events(server.target(**wrong), passage())
            with pytest.raises(InputError):
                await events(server.target(), passage(), prompt=Prompt())
            assert server.connections == 0

    asyncio.run(main())


def test_models_are_listed_and_what_is_no_name_is_left_out() -> None:
    listed = {"data": [{"id": "a"}, {"id": "b/c:7b"}, {"id": "a"}, {"id": "x" * 300}, {"id": "\x1b[31m"}, {"id": ""}]}

    async def main() -> None:
        async with scripted(saying(answered("200 OK", json.dumps(listed).encode(), JSON_KIND))) as server:
            assert await models_of(server.target(), passage()) == ("a", "b/c:7b")
            assert (server.asked[0].method, server.asked[0].path) == ("GET", "/v1/models")
            assert server.asked[0].headers["authorization"] == f"Bearer {KEY}" and server.asked[0].body == b""

    asyncio.run(main())


@pytest.mark.parametrize("body", [b"", b"[]", b'{"data": 1}', b'{"data": [{"name": "a"}]}', b"<html>"])
def test_what_is_no_list_of_models_is_garbled(body: bytes) -> None:
    async def main() -> None:
        async with scripted(saying(answered("200 OK", body))) as server:
            with pytest.raises(EndpointError) as caught:
                await models_of(server.target(), passage())
            assert caught.value.code == "endpoint_garbled"

    asyncio.run(main())
