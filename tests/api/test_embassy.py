"""The swarm as an MCP server, driven by the official client: what it offers, to whom, and by which rules."""

import json
import subprocess
import sys
from typing import Any

import pytest
from mcp.shared.exceptions import MCPError

from consoles import KEY, OWNER_KEY, Console
from guests import MODES, address, embassy, guest, post
from household import run
from mycoswarm.base.errors import BusyError
from mycoswarm.routing.rule import RuleSet, read_rule
from mycoswarm.store.apikey import Key
from rings import TEXT, Bench

pytestmark = pytest.mark.slow  # the official client waits 40 ms for each answer

FOR_ALL = ["chat", "list_models", "explain_route"]
FOR_OWNERS = [*FOR_ALL, "list_rules", "list_nodes"]
HELLO = {"model": "spore", "prompt": "Hello"}


def rules(*given: dict[str, Any]) -> RuleSet:
    return RuleSet.of(map(read_rule, given))


def call(name: str, arguments: object, number: object = 1) -> bytes:
    params = {"name": name, "arguments": arguments}
    return json.dumps({"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}).encode()


async def said(c: Console, body: bytes, *headers: str, key: str = KEY) -> tuple[int, Any]:
    """Status and JSON of a raw message."""
    answer = await c.raw(post(c, body, *headers, key=key))
    head, _, text = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(text) if text else None


@pytest.mark.parametrize("mode", MODES)
def test_the_official_client_finds_the_tools_and_chats(mode: str) -> None:
    async def main() -> None:
        bench = Bench()
        async with embassy(bench) as c, guest(address(c), KEY, mode) as client:
            assert (client.protocol_version == mode) == (mode != "legacy")
            tools = (await client.list_tools()).tools
            assert [tool.name for tool in tools] == FOR_ALL
            assert all(tool.description and tool.annotations and tool.annotations.read_only_hint for tool in tools)
            found = await client.call_tool("chat", {**HELLO, "max_tokens": 3, "temperature": 0})
            assert not found.is_error and found.content[0].text == "Three small rings"
            values = found.structured_content
            assert values["text"] == "Three small rings" and values["finish_reason"] == "length"
            assert values["ran"] == "LAN" and values["nodes"] == ["attic"] and values["rule"].startswith("any adopted")
            (row,) = bench.rows("answer")
            assert row["key"] == "desk" and row["completion_tokens"] == 3 and row["nodes"] == ["attic"]
            assert values["receipt"] in {request_id for _, _, request_id in bench.notes}
            (asked,) = c.ring.generations
            assert asked.prompt.messages == ({"role": "user", "content": "Hello"},)
            assert asked.sampling.max_tokens == 3 and asked.sampling.temperature == 0

    run(main)


@pytest.mark.parametrize("mode", MODES)
def test_a_conversation_models_and_the_way_of_a_request(mode: str) -> None:
    async def main() -> None:
        bench = Bench()
        async with embassy(bench) as c, guest(address(c), KEY, mode) as client:
            messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
            found = await client.call_tool("chat", {"model": "spore", "messages": messages})
            assert found.content[0].text == TEXT and c.ring.generations[0].prompt.messages == tuple(messages)
            listed = (await client.call_tool("list_models")).structured_content
            assert [(one["id"], one["mycoswarm"]["held_by"]) for one in listed["models"]] == [("spore", ["attic"])]
            before = len(bench.notes)
            way = (await client.call_tool("explain_route", {"model": "spore"})).structured_content
            assert way["allowed"] and [stage["node"] for stage in way["stages"]] == ["attic"]
            assert len(bench.notes) == before and len(c.ring.generations) == 1  # nothing was sent

    run(main)


def test_the_owners_tools_are_for_the_owners_keys() -> None:
    async def main() -> None:
        async with embassy(Bench()) as c:
            async with guest(address(c), OWNER_KEY) as owner:
                assert [tool.name for tool in (await owner.list_tools()).tools] == FOR_OWNERS
                listed = (await owner.call_tool("list_rules")).structured_content
                assert listed["version"] == 7 and len(listed["rules"]) == 1 and "tests" not in listed
                nodes = (await owner.call_tool("list_nodes")).structured_content["nodes"]
                assert nodes[0] == {"name": "attic", "place": "LAN", "is_ready": True, "trouble": None}
            async with guest(address(c), KEY) as client:
                for name in ("list_rules", "list_nodes"):
                    refused = await client.call_tool(name)
                    assert refused.is_error and refused.structured_content["error"]["code"] == "not_an_owner_key"

    run(main)


def test_only_an_owner_hears_why_other_rules_and_machines_are_out() -> None:
    async def main() -> None:
        bench = Bench()
        bench.rules = rules(
            {"name": "for Lena", "when": {"keys": ["lena"]}, "then": {"do": "run"}},
            {"name": "all", "then": {"do": "run", "nodes": ["cellar"]}},
        )
        async with embassy(bench) as c:
            async with guest(address(c), OWNER_KEY) as owner:
                told = (await owner.call_tool("explain_route", {"model": "spore"})).structured_content
                assert [one["rule"] for one in told["passed_rules"]] == ["for Lena"]
                assert {one["name"] for one in told["nodes"]} == {"attic", "cellar"}
            async with guest(address(c), KEY) as client:
                found = await client.call_tool("explain_route", {"model": "spore"})
                assert found.structured_content["rule"] == "all"
                assert "Lena" not in found.content[0].text and "attic" not in found.content[0].text

    run(main)


def test_a_key_is_needed_for_every_message_and_a_revoked_one_ends_with_the_next() -> None:
    async def main() -> None:
        async with embassy(Bench()) as c:
            for key in ("", "msk-wrong"):
                assert (await said(c, call("list_models", {}), key=key))[0] == 401
            answer = await c.raw(post(c, call("list_models", {})).replace(b"Host: 127.0.0.1", b"Host: evil.example"))
            assert b"unknown_host" in answer
            assert b"foreign_origin" in await c.raw(post(c, call("list_models", {}), "Origin: http://evil.example"))
            for mode in MODES:
                c.keys[KEY] = Key("desk", 0.0)
                async with guest(address(c), KEY, mode) as client:
                    assert not (await client.call_tool("list_models")).is_error
                    del c.keys[KEY]
                    with pytest.raises(MCPError):
                        await client.call_tool("list_models")
            assert not c.bench.rings

    run(main)


@pytest.mark.parametrize("mode", MODES)
def test_what_the_rules_refuse_is_a_typed_error_and_goes_nowhere(mode: str) -> None:
    async def main() -> None:
        bench = Bench()
        bench.rules = rules({"name": "no", "then": {"do": "deny"}})
        async with embassy(bench) as c, guest(address(c), KEY, mode) as client:
            refused = await client.call_tool("chat", HELLO)
            error = refused.structured_content["error"]
            assert refused.is_error and error["code"] == "denied_by_rule" and error["hint"] in refused.content[0].text
            (row,) = bench.rows("answer")
            assert row["outcome"] == "denied_by_rule" and refused.structured_content["receipt"]
            way = (await client.call_tool("explain_route", {"model": "spore"})).structured_content
            assert not way["allowed"] and way["rule"] == "no" and way["code"] == "denied_by_rule"
            missing = await client.call_tool("chat", {**HELLO, "model": "nothing"})
            assert missing.is_error and not bench.rings

    run(main)


@pytest.mark.parametrize("mode", MODES)
def test_labels_and_route_headers_narrow(mode: str) -> None:
    async def main() -> None:
        bench = Bench()
        private = {"name": "private", "when": {"labels": {"any": ["private"]}}, "then": {"do": "deny"}}
        bench.rules = rules(private, {"name": "all", "then": {"do": "run"}})
        async with embassy(bench) as c:
            async with guest(address(c), KEY, mode, x_mycoswarm_labels="private") as client:
                for name, given in (("chat", HELLO), ("explain_route", {"model": "spore"})):
                    values = (await client.call_tool(name, given)).structured_content
                    assert "denied_by_rule" in (values.get("code"), values.get("error", {}).get("code"))
            async with guest(address(c), KEY, mode, x_mycoswarm_route="nodes=cellar") as client:
                assert (await client.call_tool("chat", HELLO)).structured_content["nodes"] == ["cellar"]
                way = (await client.call_tool("explain_route", {"model": "spore"})).structured_content
                assert [stage["node"] for stage in way["stages"]] == ["cellar"]
            for header in ("x-mycoswarm-labels: No Label!", "x-mycoswarm-route: anywhere"):
                status, answer = await said(c, call("list_models", {}), header)
                assert status == 400 and answer["error"]["code"] == "bad_request"

    run(main)


def test_a_keys_limits_hold_for_chat_and_explain() -> None:
    async def main() -> None:
        def admit(key: Key | None) -> None:
            raise BusyError(f"the key {key.name if key else ''} has asked enough", retry_after_s=7)

        async with embassy(Bench(), admit=admit) as c, guest(address(c), KEY) as client:
            for name, given in (("chat", HELLO), ("explain_route", {"model": "spore"})):
                error = (await client.call_tool(name, given)).structured_content["error"]
                assert error["code"] == "busy" and error["retry_after_s"] == 7
            assert not (await client.call_tool("list_models")).is_error and not c.bench.rings

    run(main)


def test_there_is_nothing_to_get_or_delete() -> None:
    async def main() -> None:
        async with embassy(Bench()) as c:
            for method in (b"GET", b"DELETE", b"PUT"):
                assert b"http_405" in await c.raw(post(c, b"").replace(b"POST", method, 1))

    run(main)


def test_nothing_of_the_package_is_loaded_before_it_is_asked_for() -> None:
    code = "import sys, mycoswarm.daemon.service; sys.exit(any(name in sys.modules for name in ('mcp', 'mcp_types')))"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
