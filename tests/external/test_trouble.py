"""Endpoints that hang, break off, flood, lie or repeat our key: each one is a typed error, soon."""

import asyncio
import contextlib
import json
import logging
import socket
import time
import traceback
from typing import Any

import pytest

from endpoints import (
    ASK,
    HURRIED,
    KEY,
    SHORT,
    STREAM_HEAD,
    Asked,
    Script,
    answered,
    event,
    events,
    naming,
    passage,
    refused,
    said,
    saying,
    scripted,
    text_of,
    then_waiting,
)
from mycoswarm.base.errors import BusyError, EndpointError, UnreachableError
from mycoswarm.external.errand import relay
from mycoswarm.external.target import Limits, Target
from mycoswarm.swarm.dial import MAX_ADDRESSES
from mycoswarm.wire.report import Piece
from mycoswarm.wire.request import Prompt, Sampling

JSON_KIND = "Content-Type: application/json"
SOUND = b'{"choices": [{"message": {"content": "a"}, "finish_reason": "stop"}]}'


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
        (saying(answered("200 OK", SOUND, JSON_KIND, "Content-Encoding: gzip")), "endpoint_garbled"),
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
    error = refused(script, limits=HURRIED if code == "endpoint_silent" else SHORT)
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
    "head": (b"HTTP/1.1 103 Early\r\n\r\n", b"HTTP/1.1 103 Early\r\nX: %s\r\n\r\n" % (b"y" * 9000) * 4),
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


def test_a_hint_that_never_comes_does_not_hold_an_error_up() -> None:
    before = time.monotonic()
    half = answered("401 No", b"half")[:-1]
    assert refused(then_waiting(half), limits=Limits(tail_s=0.05)).code == "endpoint_refused_key"
    assert time.monotonic() - before < 2


def test_the_whole_time_counts_where_there_is_always_something_to_read() -> None:
    async def main() -> None:
        async with scripted(then_waiting(STREAM_HEAD, *[said("a" * 30_000)] * 9)) as server:
            told = relay(server.target(), ASK, Sampling(), request_id="r1", passage=passage(Limits(whole_s=0.05)))
            async with contextlib.aclosing(told):
                while not isinstance(await anext(told), Piece):
                    pass
                await asyncio.sleep(0.1)  # the time that is up is the real connection's
                n_more = 0
                with pytest.raises(EndpointError, match="too long"):
                    async for _ in told:
                        n_more += 1
                assert n_more < 3  # the rest of the 64 KiB that had been read

    asyncio.run(main())


def test_an_error_body_without_end_is_read_to_its_limit_only() -> None:
    async def script(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 500 Oops\r\n\r\n" + b"it broke ")
        while True:
            writer.write(b"x" * 10_000)
            await writer.drain()

    assert "it broke" in refused(script).message


def test_many_addresses_that_say_nothing_are_given_up_together() -> None:
    async def main() -> None:
        with contextlib.ExitStack() as mute:
            ports = [
                mute.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1]
                for _ in range(MAX_ADDRESSES)
            ]
            resolve, _ = naming([f"127.0.0.1:{port}" for port in ports])
            target = Target(name="rack", url="https://rack.local", place="LAN")  # TLS waits for an answer
            before = time.monotonic()
            with pytest.raises(UnreachableError, match=r"no answer in 0\.05 s"):
                await events(target, passage(Limits(connect_s=0.05), resolve=resolve))
            assert time.monotonic() - before < 1

    asyncio.run(main())


def test_a_port_where_nobody_listens_is_unreachable() -> None:
    async def main() -> None:
        async with scripted(saying()) as server:
            pass
        with pytest.raises(UnreachableError) as caught:
            await events(server.target(), passage())
        assert caught.value.code == "endpoint_unreachable"

    asyncio.run(main())


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
