"""Guests of the MCP server that are hostile, leave, cancel, or wait long."""

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consoles import KEY, OWNER_KEY
from guests import MODES, address, embassy, guest, post
from household import run
from mycoswarm.api.embassy import Pauses, _read_head
from mycoswarm.api.gate import MAX_BODY_BYTES
from mycoswarm.api.objection import MAX_VALUES, is_sparse
from mycoswarm.base.errors import InputError
from mycoswarm.wire.plan import RingPlan
from mycoswarm.wire.report import AnyReport
from mycoswarm.wire.request import Generation
from rings import TEXT, Bench, FakeRing, until

pytestmark = pytest.mark.slow

HELLO = {"model": "spore", "prompt": "Hello"}
MODERN = "MCP-Protocol-Version: 2026-07-28"
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}


def message(method: str, params: Any = None, number: Any = 1) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params}).encode()


def chat(arguments: Any) -> bytes:
    return message("tools/call", {"name": "chat", "arguments": arguments, "_meta": META})


def modern(method: str, name: str = "") -> list[str]:
    return [MODERN, f"Mcp-Method: {method}", *([f"Mcp-Name: {name}"] if name else [])]


class Halting(FakeRing):
    """After three tokens it waits until its gate is set."""

    async def _speak(self, generation: Generation) -> AsyncIterator[AnyReport]:
        async for number, report in _numbered(super()._speak(generation)):
            yield report
            if number == 3:
                self.gate.clear()


async def _numbered(reports: AsyncIterator[AnyReport]) -> AsyncIterator[tuple[int, AnyReport]]:
    number = 0
    async for report in reports:
        number += 1
        yield number, report


def held(bench: Bench) -> Bench:
    """Its rings say nothing until their gate is set."""

    def ring_for(plan: RingPlan) -> FakeRing:
        ring = FakeRing(plan)
        ring.gate.clear()
        return ring

    bench.ring_for = ring_for
    return bench


DEEP = 500_000
HOSTILE = {
    "nothing": b"",
    "no JSON": b"\xff\xfe{",
    "deep lists": b"[" * DEEP + b"]" * DEEP,
    "deep parameters": b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":'
    + b'{"a":' * DEEP
    + b"1"
    + b"}" * (DEEP + 1),
    "rather deep": message("tools/call", {"name": "chat", "arguments": json.loads("[" * 200 + "]" * 200)}),
    "many lists": b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":[' + b"[0]," * 2_000_000 + b"0]}",
    "many texts": b"[" + b'"",' * 2_000_000 + b'""]',
    "a batch": b"[" + message("ping") + b"," + message("ping") + b"]",
    "a number": b"7",
    "a long number": b'{"jsonrpc":"2.0","id":1' + b"0" * 5000 + b',"method":"ping"}',
    "not a number": b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"chat","arguments":{"a":NaN}}}',
    "half a character": b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"\\ud800"}}',
    "an unknown method": message("tools/steal"),
    "a method that is a list": b'{"jsonrpc":"2.0","id":1,"method":["tools/call"]}',
    "an id that is an object": message("tools/list", None, {}),
    "parameters that are a text": message("tools/call", "chat"),
    "a name that is a number": message("tools/call", {"name": 5}),
    "an unknown tool": message("tools/call", {"name": "run_shell", "arguments": {"command": "id"}, "_meta": META}),
    "arguments that are a list": chat([1, 2]),
    "a cursor that is an object": message("tools/list", {"cursor": {}}),
    "a listener": message("subscriptions/listen", {"_meta": META}),
    "resources": message("resources/read", {"uri": "file:///etc/shadow", "_meta": META}),
}


@pytest.mark.parametrize("headers", [[], modern("tools/call", "chat")], ids=MODES)
@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_body_is_answered_with_an_error_and_nothing_dies(
    body: bytes, headers: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with embassy(Bench()) as c:
            with caplog.at_level(logging.WARNING):
                answer = await c.raw(post(c, body, *headers))
            status = int(answer.split()[1])
            told = json.loads(answer.partition(b"\r\n\r\n")[2])
            assert "error" in told and (400 <= status < 500 or status == 200) and len(answer) < 20_000
            assert not [one for one in caplog.records if one.levelno >= logging.ERROR] and not c.bench.rings
            assert b"LAN" in await c.raw(post(c, chat(HELLO)))  # it lives

    run(main)


WRONG = [
    {},
    {"model": "spore"},
    {"model": 5, "prompt": "Hello"},
    {"model": "spore", "prompt": ["Hello"]},
    {"model": "spore", "prompt": "Hello", "messages": []},
    {"model": "spore", "messages": []},
    {"model": "spore", "messages": "Hello"},
    {"model": "spore", "messages": [7]},
    {"model": "spore", "messages": [{"role": "wizard", "content": "Hello"}]},
    {**HELLO, "max_tokens": 0},
    {**HELLO, "max_tokens": "many"},
    {**HELLO, "max_tokens": 10**400},
    {**HELLO, "temperature": 99},
    {**HELLO, "tools": []},
    {**HELLO, "route": "nodes=cellar"},
]


@pytest.mark.parametrize("arguments", WRONG)
def test_wrong_arguments_of_chat_are_typed_errors_of_the_tool(arguments: dict[str, Any]) -> None:
    async def main() -> None:
        async with embassy(Bench()) as c:
            for headers in ([], modern("tools/call", "chat")):
                answer = json.loads((await c.raw(post(c, chat(arguments), *headers))).partition(b"\r\n\r\n")[2])
                if "result" not in answer:
                    assert answer["error"]["code"] in (-32602, "bad_request")
                    continue
                error = answer["result"]["structuredContent"]["error"]
                assert answer["result"]["isError"] and error["type"] == "invalid_request_error" and error["hint"]
            assert not c.bench.rings and not c.bench.notes

    run(main)


def test_only_values_count_not_what_texts_hold() -> None:
    full = {"a": '[{",\\"' * MAX_VALUES, 'b",\\': ["\\"]}
    assert is_sparse(json.dumps(full).encode()) and is_sparse(json.dumps([0] * (MAX_VALUES - 1)).encode())
    assert not is_sparse(json.dumps([0] * (MAX_VALUES + 1)).encode())


@given(st.recursive(st.none() | st.text('"\\,[{u '), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_the_count_is_that_of_the_values(value: Any) -> None:
    def commas_and_brackets(one: Any) -> int:
        inner = list(one.values()) if isinstance(one, dict) else one if isinstance(one, list) else None
        return 0 if inner is None else 1 + max(0, len(inner) - 1) + sum(map(commas_and_brackets, inner))

    body = json.dumps(value).encode()
    few = b"[" + b",".join([body] * (MAX_VALUES // (commas_and_brackets(value) + 1))) + b"]"
    assert is_sparse(few) and not is_sparse(b"[" + few + b"," + few + b"," + few + b"]")


def test_a_body_without_end_is_cut_off() -> None:
    async def main() -> None:
        async with embassy(Bench()) as c:
            assert b"too_large" in await c.raw(post(c, chat({**HELLO, "prompt": "x" * MAX_BODY_BYTES})))

    run(main)


def test_a_body_that_does_not_arrive_is_not_waited_for() -> None:
    async def main() -> None:
        async with embassy(Bench(), pauses=Pauses(body_s=0.05)) as c:
            whole = post(c, chat(HELLO))
            assert b"timeout" in await c.raw(whole[:-5])

    run(main)


@given(
    st.binary(max_size=200) | st.recursive(st.none() | st.text() | st.integers(), st.lists).map(repr).map(str.encode)
)
def test_any_bytes_are_a_head_or_an_input_error(body: bytes) -> None:
    with contextlib.suppress(InputError):
        assert isinstance(_read_head(body).method, str)


@pytest.mark.parametrize("headers", [[], modern("tools/call", "chat")], ids=MODES)
def test_a_guest_who_hangs_up_ends_the_work(headers: list[str]) -> None:
    async def main() -> None:
        bench = held(Bench())
        async with embassy(bench) as c:
            _, writer = await asyncio.open_connection("127.0.0.1", c.port)
            writer.write(post(c, chat(HELLO), *headers))
            await until(lambda: bench.rings and c.ring.generations)
            assert not c.ring.ends
            writer.close()
            await until(lambda: c.ring.ends == ["cancelled"])
            await until(lambda: bench.rows("answer"))
            assert bench.rows("answer")[0]["outcome"] == "cancelled"

    run(main)


@pytest.mark.parametrize("mode", MODES)
def test_a_guest_who_cancels_ends_the_work_and_goes_on(mode: str) -> None:
    async def main() -> None:
        bench = held(Bench())
        async with embassy(bench) as c, guest(address(c), KEY, mode) as client:
            asking = asyncio.create_task(client.call_tool("chat", HELLO))
            await until(lambda: bench.rings and c.ring.generations)
            asking.cancel()
            await asyncio.wait({asking})
            await until(lambda: c.ring.ends == ["cancelled"])
            assert not (await client.call_tool("list_models")).is_error

    run(main)


def test_nobody_cancels_for_another_key_or_session() -> None:
    async def main() -> None:
        bench = held(Bench())
        async with embassy(bench) as c:
            asking = asyncio.create_task(c.raw(post(c, chat(HELLO), "Mcp-Session-Id: mine")))
            await until(lambda: bench.rings and c.ring.generations)
            note = json.dumps(
                {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}
            ).encode()
            for key, *headers in ((OWNER_KEY, "Mcp-Session-Id: mine"), (KEY, "Mcp-Session-Id: other"), (KEY,)):
                assert b" 202 " in await c.raw(post(c, note, *headers, key=key))
            assert not c.ring.ends and not asking.done()
            assert b" 202 " in await c.raw(post(c, note, "Mcp-Session-Id: mine"))
            answer = json.loads((await asking).partition(b"\r\n\r\n")[2])
            assert answer["id"] == 1 and answer["error"]["code"] == -32800 and c.ring.ends == ["cancelled"]

    run(main)


@pytest.mark.parametrize("mode", MODES)
def test_who_asks_for_progress_hears_the_text_as_it_comes(mode: str) -> None:
    async def main() -> None:
        heard: list[tuple[float, str | None]] = []

        async def hear(progress: float, total: float | None, text: str | None) -> None:
            heard.append((progress, text))
            c.ring.gate.set()

        bench = Bench(ring_for=Halting)
        async with embassy(bench, pauses=Pauses(progress_s=0.02)) as c, guest(address(c), KEY, mode) as client:
            found = await client.call_tool("chat", HELLO, progress_callback=hear)
            assert found.content[0].text == TEXT and heard[0] == (3, "Three small rings")

    run(main)


@pytest.mark.parametrize("headers", [[], modern("tools/call", "chat")], ids=MODES)
def test_who_waits_long_gets_comments_and_then_the_answer(headers: list[str]) -> None:
    async def main() -> None:
        bench = held(Bench())
        async with embassy(bench, pauses=Pauses(quiet_s=0.05)) as c:
            asking = asyncio.create_task(c.raw(post(c, chat(HELLO), *headers)))
            await until(lambda: bench.rings and c.ring.generations)
            await asyncio.sleep(0.2)
            c.ring.gate.set()
            answer = await asking
            assert b"content-type: text/event-stream" in answer and answer.count(b": still working") >= 2
            (line,) = [one for one in answer.splitlines() if one.startswith(b"data: ")]
            assert json.loads(line[6:])["result"]["content"][0]["text"] == TEXT

    run(main)


def test_who_takes_no_events_waits_in_silence() -> None:
    async def main() -> None:
        bench = held(Bench())
        async with embassy(bench, pauses=Pauses(quiet_s=0.02)) as c:
            request = post(c, chat(HELLO)).replace(b"application/json, text/event-stream", b"application/json")
            asking = asyncio.create_task(c.raw(request))
            await until(lambda: bench.rings and c.ring.generations)
            await asyncio.sleep(0.1)
            c.ring.gate.set()
            assert b"content-type: application/json" in await asking

    run(main)


def test_the_owners_socket_serves_the_owner(tmp_path: Any) -> None:
    async def main() -> None:
        async with embassy(Bench(), socket_path=tmp_path / "s") as c:
            reader, writer = await asyncio.open_unix_connection(tmp_path / "s")
            writer.write(post(c, message("tools/list")))
            assert b"list_nodes" in await reader.read()
            writer.close()

    run(main)
