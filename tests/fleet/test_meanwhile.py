"""Over a real daemon: what changes while a request waits for a yes, and work from before there was a swarm."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest

from daemons import answer, until
from mycoswarm.cli.fleet import Fleet
from rack import Rack

pytestmark = pytest.mark.slow

ASKING = {"name": "asked", "when": {"model": "big"}, "then": {"do": "ask", "then": {"do": "external", "name": "rack"}}}


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    """One node, which has answered before it became a coordinator."""
    with Fleet(workers=0) as running:
        running.coordinator.call.ask("GET", "/api/node")
        until(lambda: running.coordinator.call.ask("GET", "/v1/models")["data"], 20, "the node knows its models")
        assert answer(running)
        running.enrol()
        yield running


def test_work_from_before_there_was_a_swarm_is_no_finding(fleet: Fleet) -> None:
    assert answer(fleet)
    told = [json.loads(line) for line in fleet.coordinator.call.stream("POST", "/api/ledger/verify", {})]
    assert told[-1]["is_sound"], told
    comparison = next(event for event in told if event["event"] == "comparison")
    assert comparison["foreign"] >= 1 and comparison["decisions"] >= 2


@pytest.mark.parametrize("change", ["another server", "revoked"])
def test_a_yes_is_for_the_server_and_the_key_that_there_were(fleet: Fleet, change: str) -> None:
    call = fleet.coordinator.call
    with Rack() as rack, Rack() as other, ThreadPoolExecutor(1) as pool:
        given = {"name": "rack", "url": rack.url, "place": "LAN", "secret": "sk-of-the-first"}
        call.ask("POST", "/api/endpoints", given)
        call.ask("POST", "/api/rules", {"rule": ASKING, "position": 1})
        key = call.ask("POST", "/api/keys", {"name": f"asker {change}"})["key"]
        try:
            with openai.OpenAI(
                base_url=f"http://{fleet.console()}/v1", api_key=key, max_retries=0, timeout=60
            ) as asker:
                asked = [{"role": "user", "content": "For the first rack alone"}]
                coming = pool.submit(asker.chat.completions.create, model="big", messages=asked)  # type: ignore[call-overload]  # built above
                until(lambda: call.ask("GET", "/api/approvals")["approvals"], 10, "the request waits")
                (waiting,) = call.ask("GET", "/api/approvals")["approvals"]
                if change == "revoked":
                    call.ask("DELETE", f"/api/keys/asker%20{change}", {})
                else:
                    call.ask("DELETE", "/api/endpoints/rack", {})
                    call.ask("POST", "/api/endpoints", {**given, "url": other.url, "place": "outside"})
                call.ask("POST", f"/api/approvals/{waiting['id']}", {"allow": True})
                if change == "revoked":
                    with pytest.raises(openai.AuthenticationError, match="revoked"):
                        coming.result(20)
                else:
                    until(lambda: call.ask("GET", "/api/approvals")["approvals"], 10, "the owner is asked anew")
                    (again,) = call.ask("GET", "/api/approvals")["approvals"]
                    assert again["destination"] == "the endpoint rack (outside)"
                    call.ask("POST", f"/api/approvals/{again['id']}", {"allow": False})
                    with pytest.raises(openai.PermissionDeniedError, match="said no"):
                        coming.result(20)
            assert not rack.heard and not other.heard
            exposed = call.ask("GET", f"/api/ledger/{waiting['id']}/exposure")
            assert [reader["what"] for reader in exposed["readers"]] == ["coordinator"]
        finally:
            call.ask("DELETE", "/api/rules/asked", {})
            call.ask("DELETE", "/api/endpoints/rack", {})
