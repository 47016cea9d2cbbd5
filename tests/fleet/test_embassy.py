"""The official MCP client drives our server on real daemons, with the model that comes along."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError

from daemons import logs_of, until
from guests import MODES, guest
from house.tree import ROOT
from mycoswarm.base.errors import InputError
from mycoswarm.cli.call import Call
from mycoswarm.cli.fleet import Fleet

pytestmark = pytest.mark.slow

HELLO = {"model": "spore", "prompt": "What is mycoSwarm?", "max_tokens": 40, "temperature": 0}
PRIVATE = {
    "name": "private only on worker-1",
    "when": {"labels": {"any": ["private"]}},
    "then": {"do": "run", "nodes": ["worker-1"]},
}
CHILDREN = {"name": "not for children", "when": {"keys": ["child"]}, "then": {"do": "deny"}}
ASKED = {"name": "ask for guests", "when": {"keys": ["guest"]}, "then": {"do": "ask", "then": {"do": "run"}}}
REST = {"name": "the rest", "then": {"do": "run"}}


@pytest.fixture(scope="module")
def pair() -> Iterator[Fleet]:
    """A coordinator and a worker under rules of these tests."""
    with Fleet(workers=1) as running:
        running.enrol()
        running.coordinator.call.ask("PUT", "/api/rules", {"rules": [PRIVATE, CHILDREN, ASKED, REST], "tests": {}})
        yield running
        logs = logs_of(running)
        assert "Traceback" not in logs and "egress guard refused" not in logs and "msk-" not in logs


def key(pair: Fleet, name: str, **terms: Any) -> str:
    return str(pair.coordinator.call.ask("POST", "/api/keys", {"name": name, **terms})["key"])


def visit(pair: Fleet, secret: str, mode: str, work: Callable[[Client], Awaitable[None]], **headers: str) -> None:
    async def main() -> None:
        async with (
            asyncio.timeout(60),
            guest(f"http://{pair.console()}/mcp", secret, mode, **headers) as client,
        ):
            await work(client)

    asyncio.run(main())


@pytest.mark.parametrize("mode", MODES)
def test_the_official_client_chats_and_the_ledger_has_it(pair: Fleet, mode: str) -> None:
    async def work(client: Client) -> None:
        assert [tool.name for tool in (await client.list_tools()).tools] == ["chat", "list_models", "explain_route"]
        models = (await client.call_tool("list_models")).structured_content["models"]
        assert [one["id"] for one in models] == ["spore"]
        way = (await client.call_tool("explain_route", {"model": "spore"})).structured_content
        assert way["rule"] == "the rest" and [stage["node"] for stage in way["stages"]] == ["coordinator"]
        found = await client.call_tool("chat", HELLO)
        values = found.structured_content
        assert not found.is_error and found.content[0].text.startswith("mycoSwarm is a private AI appliance.")
        assert values["ran"] == "this-machine" and values["nodes"] == ["coordinator"] and values["rule"] == "the rest"
        rows = pair.coordinator.call.ask("GET", f"/api/ledger/{values['receipt']}")["rows"]
        assert {"decision", "answer"} <= {row["kind"] for row in rows}
        refused = await client.call_tool("list_rules")
        assert refused.is_error and refused.structured_content["error"]["code"] == "not_an_owner_key"

    visit(pair, key(pair, f"plain-{mode}"), mode, work, x_mycoswarm_route="solo; nodes=coordinator")


def test_an_owners_key_sees_rules_and_machines(pair: Fleet) -> None:
    async def work(client: Client) -> None:
        assert {"list_rules", "list_nodes"} < {tool.name for tool in (await client.list_tools()).tools}
        told = (await client.call_tool("list_rules")).structured_content
        assert [one["name"] for one in told["rules"]] == [one["name"] for one in (PRIVATE, CHILDREN, ASKED, REST)]
        nodes = (await client.call_tool("list_nodes")).structured_content["nodes"]
        assert [(one["name"], one["is_ready"]) for one in nodes] == [("coordinator", True), ("worker-1", True)]

    visit(pair, key(pair, "boss", is_owner=True), "auto", work)


@pytest.mark.parametrize("mode", MODES)
def test_a_label_narrows_to_another_machine(pair: Fleet, mode: str) -> None:
    async def work(client: Client) -> None:
        way = (await client.call_tool("explain_route", {"model": "spore"})).structured_content
        values = (await client.call_tool("chat", HELLO)).structured_content
        assert [stage["node"] for stage in way["stages"]] == values["nodes"] == ["worker-1"]
        assert values["rule"] == way["rule"] == PRIVATE["name"]

    visit(pair, key(pair, f"label-{mode}"), mode, work, x_mycoswarm_labels="private")


def test_a_denied_request_is_a_typed_error_of_the_tool(pair: Fleet) -> None:
    async def work(client: Client) -> None:
        refused = await client.call_tool("chat", HELLO)
        error = refused.structured_content["error"]
        assert refused.is_error and error["code"] == "denied_by_rule" and error["hint"]
        rows = pair.coordinator.call.ask("GET", f"/api/ledger/{refused.structured_content['receipt']}")["rows"]
        assert [row["kind"] for row in rows] == ["decision", "answer"]

    visit(pair, key(pair, "child"), "auto", work)


@pytest.mark.parametrize("mode", MODES)
def test_a_key_that_is_revoked_in_the_middle_of_a_session_is_refused(pair: Fleet, mode: str) -> None:
    async def work(client: Client) -> None:
        assert not (await client.call_tool("list_models")).is_error
        await asyncio.to_thread(pair.coordinator.call.ask, "DELETE", f"/api/keys/gone-{mode}", {})
        with pytest.raises(MCPError):
            await client.call_tool("chat", HELLO)

    secret = key(pair, f"gone-{mode}")
    visit(pair, secret, mode, work)
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    for headers in ({}, {"Authorization": f"Bearer {secret}"}):
        assert httpx2.post(f"http://{pair.console()}/mcp", json=body, headers=headers).status_code == 401


def test_a_hostile_body_kills_nothing(pair: Fleet) -> None:
    headers = {"Authorization": f"Bearer {key(pair, 'hostile')}", "Content-Type": "application/json"}
    for body in (b"[" * (1 << 20), b'{"a":' * (1 << 18), b"\xff", b"{}", b'{"jsonrpc":"2.0","id":1,"method":"steal"}'):
        sent = {**headers, "Accept": "application/json, text/event-stream"}
        answer = httpx2.post(f"http://{pair.console()}/mcp", content=body, headers=sent)
        assert "error" in answer.json() and answer.status_code < 500
    assert pair.coordinator.process.poll() is None and pair.coordinator.call.is_alive()


def test_the_owners_socket_serves_the_owner_and_a_worker_sends_them_on(pair: Fleet) -> None:
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    sent = {"accept": "application/json, text/event-stream"}
    tools = pair.coordinator.call.ask("POST", "/mcp", body, sent)["result"]["tools"]
    assert [tool["name"] for tool in tools][-1] == "list_nodes"
    with pytest.raises(InputError, match="coordinator"):
        pair.workers[0].call.ask("POST", "/mcp", body, sent)


def test_the_program_on_the_page_does_what_the_page_says(pair: Fleet) -> None:
    page = (ROOT / "docs" / "mcp.md").read_text(encoding="utf-8")
    program = page.partition("```python\n")[2].partition("```")[0]
    program = program.replace("127.0.0.1:6926", pair.console()).replace("msk-...", key(pair, "page"))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    text, place, receipt = done.stdout.strip().rsplit(" ", 2)
    assert text.startswith("mycoSwarm is") and place in ("this-machine", "LAN")
    assert pair.coordinator.call.ask("GET", f"/api/ledger/{receipt}")["rows"]


def test_the_owner_is_asked_and_a_daemon_that_stops_says_so(pair: Fleet) -> None:
    """The last of these: it stops the coordinator while a call waits."""
    call = pair.coordinator.call

    async def work(client: Client) -> None:
        asking = asyncio.create_task(client.call_tool("chat", HELLO))
        (plea,) = await asyncio.to_thread(waiting, call, 1)
        call.ask("POST", f"/api/approvals/{plea['id']}", {"allow": True})
        assert not (await asking).is_error
        asking = asyncio.create_task(client.call_tool("chat", HELLO))
        await asyncio.to_thread(waiting, call, 1)
        member = pair.coordinator
        began = time.monotonic()
        assert member.process.stdin
        member.process.stdin.close()
        stopped = await asking
        assert stopped.is_error and stopped.structured_content["error"]["code"] == "node_stopping"
        assert await asyncio.to_thread(member.process.wait, 8) == 0 and time.monotonic() - began < 8

    visit(pair, key(pair, "guest"), "auto", work)


def waiting(call: Call, count: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []

    def look() -> bool:
        found[:] = call.ask("GET", "/api/approvals")["approvals"]
        return len(found) == count

    until(look, 20, "the owner is asked")
    return found
