"""Agents and runs over the owner's socket: files put and refused, runs streamed, errors with their own status."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from canned import Model, call, says
from employers import employer
from mycoswarm.agents.spawn import MAX_TASK
from mycoswarm.api.employer import MAX_EARLIER
from mycoswarm.base.errors import InputError, NotFoundError, SwarmError
from mycoswarm.cli.call import Call
from rings import until

SCOUT = 'model = "m"\ntools = ["lo*"]\nlabels = ["private"]\n'


def lines(folder: Path, name: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Call(folder).stream("POST", f"/api/agents/{name}/run", body)]


def test_agent_files_are_put_listed_shown_and_deleted(tmp_path: Path) -> None:
    async def main() -> None:
        async with employer(tmp_path, Model([says("x")])) as made:
            told = await made.ask("PUT", "/api/agents/scout", {"toml": SCOUT})
            assert told["granted"] == ["look"] and told["toml"] == SCOUT and told["labels"] == ["private"]
            listed = (await made.ask("GET", "/api/agents"))["agents"]
            assert [(one["name"], one["is_own"]) for one in listed] == [("helper", False), ("scout", True)]
            await made.ask("DELETE", "/api/agents/scout")
            with pytest.raises(NotFoundError):
                await made.ask("GET", "/api/agents/scout")

    asyncio.run(main())


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "/api/agents/scout", {"toml": "model ="}),
        ("PUT", "/api/agents/scout", {"toml": 7}),
        ("PUT", "/api/agents/scout", {"toml": SCOUT, "more": 1}),
        ("PUT", "/api/agents/..%2Fscout", {"toml": SCOUT}),
        ("DELETE", "/api/agents/helper", None),
        ("POST", "/api/agents/helper/run", {}),
        ("POST", "/api/agents/helper/run", {"task": " "}),
        ("POST", "/api/agents/helper/run", {"task": "x" * (MAX_TASK + 1)}),
        ("POST", "/api/agents/helper/run", {"task": "x", "more": 1}),
        ("POST", "/api/agents/helper/run", {"task": "x", "earlier": [{"role": "system", "content": "x"}]}),
        ("POST", "/api/agents/helper/run", {"task": "x", "earlier": [{"role": "user", "content": ["x"]}]}),
        (
            "POST",
            "/api/agents/helper/run",
            {"task": "x", "earlier": [{"role": "user", "content": "x"}] * (MAX_EARLIER + 1)},
        ),
        ("POST", "/api/agents/helper/run", {"task": "x", "earlier": [{"role": "user", "content": "x" * 100_001}]}),
        ("POST", "/api/agents/nobody/run", {"task": "x"}),
        ("GET", "/api/runs?limit=0", None),
        ("GET", "/api/runs?limit=x", None),
        ("GET", "/api/runs/r9", None),
        ("POST", "/api/runs/r9/stop", {}),
    ],
)
def test_what_cannot_be_is_a_typed_error_and_runs_nothing(tmp_path: Path, method: str, path: str, body: Any) -> None:
    async def main() -> None:
        model = Model([says("x")])
        async with employer(tmp_path, model) as made:
            with pytest.raises(SwarmError) as caught:
                await made.ask(method, path, body)
            assert isinstance(caught.value, InputError | NotFoundError) and caught.value.code != "internal_error"
        assert model.asked == [] and not (tmp_path / "agents" / "scout.toml").exists()

    asyncio.run(main())


def test_a_broken_agent_file_is_said_and_not_run(tmp_path: Path) -> None:
    async def main() -> None:
        (tmp_path / "agents").mkdir()
        (tmp_path / "agents" / "bad.toml").write_text("model = \n")
        async with employer(tmp_path, Model([says("x")])) as made:
            with pytest.raises(InputError, match="line 1"):
                await made.ask("POST", "/api/agents/bad/run", {"task": "x"})
            shown = await made.ask("GET", "/api/agents/bad")
            assert "line 1" in shown["fault"] and shown["granted"] == []

    asyncio.run(main())


def test_a_run_is_streamed_as_lines_and_then_shown(tmp_path: Path) -> None:
    async def main() -> None:
        model = Model([says(call("look")), says("Seen.")])
        async with employer(tmp_path, model) as made:
            await made.ask("PUT", "/api/agents/scout", {"toml": SCOUT})
            earlier = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]
            events = await asyncio.to_thread(lines, tmp_path, "scout", {"task": "look", "earlier": earlier})
            assert (events[0]["id"], events[-1]["answer"]) == ("r0", "Seen.")
            (listed,) = (await made.ask("GET", "/api/runs"))["runs"]
            assert (listed["state"], listed["labels"], listed["asked_by"]) == ("finished", ["private"], "owner")
            shown = await made.ask("GET", "/api/runs/r0")
            assert shown["answer"] == "Seen." and shown["task"] == "look"
        assert [m["content"] for m in model.asked[0][0][1:]] == ["Hello", "Hi", "look"]
        assert model.asked[0][0][0]["role"] == "system" and "nonce" in model.asked[0][0][0]["content"]

    asyncio.run(main())


def test_a_run_is_stopped_over_the_api_and_by_hanging_up(tmp_path: Path) -> None:
    async def main() -> None:
        model = Model([says("never")])
        model.gate.clear()
        async with employer(tmp_path, model) as made:
            await made.ask("PUT", "/api/agents/scout", {"toml": SCOUT})
            listening = asyncio.create_task(asyncio.to_thread(lines, tmp_path, "scout", {"task": "look"}))
            await until(lambda: model.asked)
            assert [r["state"] for r in (await made.ask("GET", "/api/runs"))["runs"]] == ["running"]
            await made.ask("POST", "/api/runs/r0/stop", {})
            assert (await listening)[-1]["end"] == "cancelled"

            def leave() -> None:
                stream = Call(tmp_path).stream("POST", "/api/agents/scout/run", {"task": "look"})
                next(stream)
                stream.close()

            await asyncio.to_thread(leave)
            await until(lambda: not made.crew.running())
            assert {row.state for row in made.runs.newest()} == {"stopped"}
        assert model.ends == ["cancelled", "cancelled"]

    asyncio.run(main())
