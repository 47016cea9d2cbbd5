"""A prompt carried to an endpoint on real sockets: what is sent, what comes back, and all that can go wrong."""

import asyncio
import gc
import json
import logging
import traceback
from typing import Any

import pytest

from endpoints import (
    ASK,
    KEY,
    SHORT,
    STREAM_HEAD,
    Asked,
    Script,
    answered,
    event,
    events,
    passage,
    said,
    saying,
    scripted,
    text_of,
    then_waiting,
)
from mycoswarm.base.errors import BusyError, EndpointError, InputError, SwarmError, UnreachableError
from mycoswarm.external.errand import Reached, models_of, relay
from mycoswarm.external.target import Limits
from mycoswarm.wire.report import Finished, Piece
from mycoswarm.wire.request import Prompt, Sampling

USAGE = event({"choices": [], "usage": {"prompt_tokens": 4, "completion_tokens": 2}})
WHOLE = STREAM_HEAD + said("Hel") + said("lo", "stop") + USAGE + b"data: [DONE]\n\n"
JSON_KIND = "Content-Type: application/json"


def heard_from(script: Script, *, limits: Limits = SHORT, **target: Any) -> list[Any]:
    """All events of one errand to a server with this script."""

    async def main() -> list[Any]:
        async with scripted(script) as server:
            return list(await events(server.target(**target), passage(limits)))

    return asyncio.run(main())


def refused(script: Script, *, limits: Limits = SHORT) -> SwarmError:
    with pytest.raises(SwarmError) as caught:
        heard_from(script, limits=limits)
    return caught.value


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

    assert text_of(heard_from(script)) == "a"


@pytest.mark.parametrize(
    ("script", "code"),
    [
        (then_waiting(), "endpoint_silent"),
        (then_waiting(b"HTTP/1.1 200 OK\r\nContent-Ty"), "endpoint_silent"),
        (then_waiting(b"HTTP/1.1 100 Continue\r\n\r\n"), "endpoint_silent"),
        (saying(), "endpoint_broke_off"),
        (saying(b"HTTP/1.1 200 OK\r\nContent-Ty"), "endpoint_broke_off"),
        (then_waiting(STREAM_HEAD + said("a")), "endpoint_broke_off"),
        (saying(STREAM_HEAD + said("a")), "endpoint_broke_off"),
        (saying(answered("200 OK", b"x", "Content-Type: text/event-stream")[:-1]), "endpoint_broke_off"),
        (saying(b"SSH-2.0-OpenSSH_9.9\r\n\r\n"), "endpoint_garbled"),
        (saying(b"\x00\xff" * 100), "endpoint_garbled"),
        (saying(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200_000), "endpoint_garbled"),
        (saying(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"), "endpoint_garbled"),
        (saying(b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n"), "endpoint_garbled"),
        (saying(STREAM_HEAD + b"data: {]\n\n"), "endpoint_garbled"),
        (saying(STREAM_HEAD + b"data: \xc3(\n\n"), "endpoint_garbled"),
        (saying(answered("200 OK", b"<html>", "Content-Type: text/html")), "endpoint_garbled"),
        (saying(answered("200 OK", b"{}")), "endpoint_garbled"),
        (saying(answered("200 OK", b"{}", JSON_KIND)), "endpoint_garbled"),
        (saying(answered("200 OK", b"[1, 2", JSON_KIND)), "endpoint_garbled"),
        (saying(answered("200 OK", b"\x1f\x8b", JSON_KIND, "Content-Encoding: gzip")), "endpoint_garbled"),
        (saying(answered("204 No Content")), "endpoint_failed"),
        (saying(answered("200 OK", b'{"error": {"message": "no"}}', JSON_KIND)), "endpoint_failed"),
        (saying(STREAM_HEAD + event({"error": {"message": "no"}})), "endpoint_failed"),
        (saying(answered("500 Oops", b"no")), "endpoint_failed"),
        (saying(answered("401 No")), "endpoint_refused_key"),
        (saying(answered("403 No")), "endpoint_refused_key"),
        (saying(answered("404 No", b'{"error": {"message": "no model spore"}}')), "endpoint_model_not_found"),
        (then_waiting(answered("401 No", b"half")[:-1]), "endpoint_refused_key"),
    ],
)
def test_each_misbehaviour_is_a_typed_error(script: Script, code: str) -> None:
    error = refused(script)
    assert isinstance(error, EndpointError) and error.code == code and "rack" in error.message


def test_a_busy_endpoint_is_told_with_its_time() -> None:
    error = refused(saying(answered("429 Busy", b'{"error": {"message": "slow down"}}', "Retry-After: 17")))
    assert isinstance(error, BusyError) and error.retry_after_s == 17 and "slow down" in error.message


def test_a_reset_connection_is_told_after_what_came_before() -> None:
    async def script(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM_HEAD + said("a"))
        await writer.drain()
        await asyncio.sleep(0.02)
        writer.transport.abort()

    async def main() -> None:
        told: list[Any] = []
        async with scripted(script) as server:
            with pytest.raises(EndpointError) as caught:
                async for each in relay(server.target(), ASK, Sampling(), request_id="r1", passage=passage()):
                    told.append(each)
        assert caught.value.code == "endpoint_broke_off" and text_of(told) == "a"

    asyncio.run(main())


FLOODS = {
    "head": (b"HTTP/1.1 103 Early\r\n\r\n", b"HTTP/1.1 103 Early\r\n\r\n" * 1000),
    "line": (STREAM_HEAD, b"x" * 20_000),
    "event": (STREAM_HEAD, b"data: x\n" * 2500),
    "comments": (STREAM_HEAD, b": x\n\n" * 5000),
    "text": (STREAM_HEAD, said("x" * 1000) * 20),
    "json": (b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n", b" " * 20_000),
}


@pytest.mark.parametrize("name", FLOODS)
def test_an_endless_answer_is_cut_at_the_limit(name: str) -> None:
    first, more = FLOODS[name]
    sent_bytes = 0

    async def script(asked: Asked, writer: asyncio.StreamWriter) -> None:
        nonlocal sent_bytes
        writer.write(first)
        while sent_bytes < 64 << 20:
            writer.write(more)
            sent_bytes += len(more)
            await writer.drain()

    error = refused(script, limits=Limits(answer_bytes=1 << 20, body_bytes=1 << 19, event_bytes=1 << 18))
    assert error.code == "endpoint_too_much" and sent_bytes < 16 << 20  # the rest is in the kernel's buffers


def test_a_drip_without_end_is_cut_by_the_whole_time() -> None:
    async def script(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM_HEAD)
        while True:
            writer.write(said("x"))
            await writer.drain()
            await asyncio.sleep(0.01)

    error = refused(script, limits=Limits(whole_s=0.15))
    assert error.code == "endpoint_broke_off" and "too long" in error.message


def test_an_error_body_without_end_is_read_to_its_limit_only() -> None:
    async def script(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 500 Oops\r\n\r\n" + b"it broke ")
        while True:
            writer.write(b"x" * 10_000)
            await writer.drain()

    assert "it broke" in refused(script).message


def test_a_port_where_nobody_listens_is_unreachable() -> None:
    async def main() -> None:
        async with scripted(saying(WHOLE)) as server:
            pass
        with pytest.raises(UnreachableError) as caught:
            await events(server.target(), passage())
        assert caught.value.code == "endpoint_unreachable"

    asyncio.run(main())


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


def test_a_large_prompt_to_a_server_that_refuses_without_reading_it_hears_why() -> None:
    async def main() -> None:
        no = then_waiting(answered("401 No", b'{"error": {"message": "unknown key"}}'))
        async with scripted(no, reads_body=False) as server:
            with pytest.raises(EndpointError, match="unknown key"):
                await events(server.target(), passage(), prompt=Prompt(text="x" * (8 << 20)))

    asyncio.run(main())


ECHOES = [
    answered("401 No", KEY.encode()),
    answered("500 Oops", json.dumps({"error": {"message": f"Bearer {KEY}"}}).encode()),
    answered("404 No", json.dumps({"error": {"message": f"model {KEY}"}}).encode()),
    answered("429 Busy", json.dumps({"detail": KEY}).encode()),
    STREAM_HEAD + event({"error": KEY}),
    STREAM_HEAD + event({"choices": [{"delta": {}, "finish_reason": KEY}]}),
    STREAM_HEAD + event({"choices": KEY}),
    b"HTTP/1.1 200 OK\r\n" + KEY.encode() + b"\r\n\r\n",
    b"HTTP/1.1 302 Found\r\nLocation: http://x/?key=" + KEY.encode() + b"\r\n\r\n",
    answered("200 OK", KEY.encode(), f"Content-Type: {KEY}"),
]


@pytest.mark.parametrize("echo", ECHOES)
def test_a_key_that_the_endpoint_repeats_is_in_no_error_and_no_log(
    echo: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        error = refused(saying(echo))
        logging.getLogger("here").error("failed", exc_info=error)
    shown = "".join(traceback.format_exception(error)) + caplog.text + error.hint + repr(error)
    assert KEY not in shown and "rack" in shown


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
