"""Servers over HTTP: one judged address, nothing followed, everything bounded."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hostels import Lodge, opened
from mycoswarm.base.errors import SwarmError
from mycoswarm.external.target import Passage
from mycoswarm.sandbox.level import SandboxLevel
from remotes import App, answering, endless, remote

pytestmark = pytest.mark.slow
BARE = SandboxLevel("limits", None, False, (), (), "not looked for: nothing runs here")


@pytest.fixture
def reach(tmp_path: Path) -> Lodge:
    """A node that reaches out, and has no sandbox."""
    return Lodge(BARE, tmp_path)


@pytest.mark.parametrize("is_json", [False, True])
@pytest.mark.parametrize("is_stateless", [False, True])
def test_a_server_over_http_lists_and_answers(reach: Lodge, is_json: bool, is_stateless: bool) -> None:
    async def course() -> None:
        async with remote(json_response=is_json, stateless_http=is_stateless) as one:
            definition = one.definition(Authorization="Bearer sesame-key")
            wares = await reach.wares(definition)
            assert set(wares) == {"add", "ask", "sleep"}
            assert (await reach.call(definition, "add", wares["add"], one=12, two=30)).text == "42"
            asked = await reach.call(definition, "ask", wares["ask"])
            assert "granted" not in asked.text, asked
            slow = await reach.call(definition, "sleep", wares["sleep"], within_s=1.0)
            assert (slow.ok, slow.code) == (False, "timeout")
        assert all(headers["authorization"] == "Bearer sesame-key" for _, _, headers in one.heard)
        assert {(method, path) for method, path, _ in one.heard} == {("POST", "/mcp")}
        assert all(headers["accept-encoding"] == "identity" for _, _, headers in one.heard)
        assert not any("cookie" in headers for _, _, headers in one.heard)

    reach.run(course)


REDIRECT: Callable[[], App] = lambda: answering(307, location="http://127.0.0.1:9/mcp")  # noqa: E731  # one line each
WRONG = {
    "redirects": (REDIRECT, "mcp_redirects", "sends us elsewhere"),
    "redirects to itself": (lambda: answering(307, location="/other"), "mcp_redirects", "sends us elsewhere"),
    "has nothing there": (lambda: answering(404), "mcp_failed", "Not Found"),
    "wants a log-in": (lambda: answering(401, www_authenticate="Bearer resource_metadata=x"), "mcp_failed", "failed"),
    "is no MCP server": (lambda: answering(200, b"<html>", content_type="text/html"), "mcp_failed", "content type"),
    "answers nonsense": (lambda: answering(200, b"{}", content_type="application/json"), "mcp_failed", "failed"),
    "answers too much": (
        lambda: answering(200, b" " * (5 << 20), content_type="application/json"),
        "endpoint_too_much",
        "more than",
    ),
    "never ends": (lambda: endless, "endpoint_too_much", "more than"),
    "is compressed": (
        lambda: answering(200, b"x", content_type="application/json", content_encoding="gzip"),
        "endpoint_garbled",
        "compressed",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_server_that_does_otherwise_is_a_typed_error_in_time(reach: Lodge, wrong: str) -> None:
    app, code, words = WRONG[wrong]

    async def course() -> None:
        async with remote(app()) as one:
            with pytest.raises(SwarmError, match=words) as caught:
                await reach.wares(one.definition())
            assert caught.value.code == code
            assert len({path for _, path, _ in one.heard}) == 1

    reach.run(course, 10)


def test_a_server_that_is_further_away_than_it_was_registered_is_sent_nothing(tmp_path: Path) -> None:
    async def elsewhere(host: str, port: int) -> list[str]:
        return ["203.0.113.7:80"]

    reach = Lodge(BARE, tmp_path, Passage(permit=opened, resolve=elsewhere))

    async def course() -> None:
        async with remote() as one:
            with pytest.raises(SwarmError, match="is registered as LAN") as caught:
                await reach.wares(one.definition())
            assert caught.value.code == "wrong_place" and not one.heard

    reach.run(course)


def test_the_guard_opens_the_judged_address_and_only_while_it_is_dialled(tmp_path: Path) -> None:
    program = Path(__file__).parent / "reaching.py"
    paths = os.pathsep.join([str(program.parents[1]), str(program.parents[2] / "appliance")])
    done = subprocess.run(
        [sys.executable, str(program), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": paths},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout)
    assert told == {
        "before": "refused",
        "answer": "42",
        "looked_up": ["remote.test", "remote.test"],  # once for the list, once for the call
        "after": "refused",
        "open": 0,
        "barred": 2,
    }
