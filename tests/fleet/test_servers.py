"""MCP servers over real daemons: registered, allowed, and called where a rule says, by hand and by an agent."""

import contextlib
import json
import os
import subprocess
import threading
from collections.abc import Iterator

import pytest

from daemons import logs_of, until
from hostels import OFFICIAL, processes_with
from mycoswarm.base.errors import SwarmError
from mycoswarm.cli.fleet import ARGV, Fleet, Member
from openai_server import OpenAIHandler, OpenAIServer

pytestmark = pytest.mark.slow

TIME = ("--", "python", "-m", "mcp_server_time", "--local-timezone", "UTC")
GIVEN = '{"source_timezone": "UTC", "time": "12:30", "target_timezone": "Asia/Tokyo"}'
SECRET = "sesame-opens-it"


@pytest.fixture(scope="module")
def lab() -> Iterator[Fleet]:
    """A coordinator and a worker, on which all tools of the server `time` run."""
    with Fleet(workers=1) as running:
        running.enrol()
        doctor = running.coordinator.call.ask("GET", "/api/doctor")
        if doctor["sandbox"]["level"] == "limits":
            pytest.skip(f"this machine has no sandbox: {doctor['sandbox']['why']}")
        words = ("rules", "add", "time there", "--task", "tool:time__*", "--node", "worker-1", "--position", "1")
        assert type_in(running.coordinator, *words)[0] == 0
        yield running


def type_in(member: Member, *words: str, answer: str = "") -> tuple[int, str, str]:
    argv = [*ARGV, "--data", str(member.folder), *words]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, input=answer)
    return done.returncode, done.stdout, done.stderr


def test_a_real_server_is_registered_allowed_and_called_on_the_node_of_the_rule(lab: Fleet) -> None:
    first = lab.coordinator
    code, said, complained = type_in(first, "mcp", "add", "time", *TIME)
    assert code == 0 and "time__convert_time: off" in said and "Convert time" in said, (said, complained)
    listed = [tool["name"] for tool in first.call.ask("GET", "/api/tools")["tools"]]
    assert not any(name.startswith("time__") for name in listed)
    code, _, complained = type_in(first, "tool", "run", "time__convert_time", GIVEN)
    assert code == 1 and "no tool called" in complained
    assert type_in(first, "mcp", "allow", "time", "convert_time")[0] == 0
    code, said, complained = type_in(first, "tool", "run", "time__convert_time", GIVEN)
    assert code == 0 and "21:30" in said and "worker-1" in complained, (said, complained)
    assert not processes_with("mcp_server_time")  # its workspace was released, so it has ended
    code, _, complained = type_in(first, "tool", "run", "time__convert_time", '{"time": 5}')
    assert code == 1 and "is missing" in complained
    code, said, _ = type_in(first, "tool", "list")
    assert code == 0 and "time__convert_time" in said and "get_current_time" not in said
    assert type_in(first, "mcp", "forbid", "time", "convert_time")[0] == 0
    assert type_in(first, "tool", "run", "time__convert_time", GIVEN)[0] == 1


class Obedient(OpenAIServer):
    """A model that converts a time and, as if it had been told to, runs a shell; then it repeats what came of both."""

    def __init__(self) -> None:
        class Handler(OpenAIHandler):
            model = "obedient"

            def do_POST(self) -> None:  # noqa: N802  # http.server's name
                messages = json.loads(self.heard())["messages"]
                self.begin()
                told = [json.loads(one["content"]) for one in messages if one["role"] == "tool"]
                calls = [("time__convert_time", GIVEN), ("run_shell", '{"command": "id"}')]
                made = [
                    {"index": n, "id": f"c{n}", "type": "function", "function": {"name": name, "arguments": given}}
                    for n, (name, given) in enumerate(calls)
                ]
                delta = {"content": str(told)} if told else {"tool_calls": made}
                self.event(
                    {"choices": [{"index": 0, "delta": delta, "finish_reason": "stop" if told else "tool_calls"}]}
                )
                usage = {"prompt_tokens": 5, "completion_tokens": 4, "total_tokens": 9}
                self.event({"choices": [], "usage": usage})
                self.wfile.write(b"data: [DONE]\n\n")

        super().__init__(Handler)


def test_an_agent_calls_what_its_list_has_and_nothing_else_whoever_asks(lab: Fleet) -> None:
    first = lab.coordinator
    first.call.ask("POST", "/api/mcp/time/allow", {"tools": ["convert_time"]})
    first.call.ask("PUT", "/api/agents/clerk", {"toml": 'model = "obedient"\ntools = ["time__*"]\n'})
    assert first.call.ask("GET", "/api/agents/clerk")["granted"] == ["time__convert_time"]
    with Obedient() as model:
        endpoint = {"name": "obedient", "url": model.url, "place": "LAN", "check": True, "secret": None}
        first.call.ask("POST", "/api/endpoints", endpoint)
        words = ("rules", "add", "obedient", "--model", "obedient", "--external", "obedient", "--position", "1")
        assert type_in(first, *words)[0] == 0
        lines = first.call.stream("POST", "/api/agents/clerk/run", {"task": "what time is it?"}, timeout_s=90)
        events = [json.loads(line) for line in lines]
    results = {one["tool"]: one for one in events if one["event"] == "result"}
    converted = results["time__convert_time"]
    assert converted["ok"] and converted["node"] == "worker-1" and "21:30" in converted["text"], converted
    assert "run_shell" not in results and any("run_shell" in one["text"] for one in events if one["event"] == "text")
    assert events[-1]["end"] == "answer" and "21:30" in events[-1]["answer"]
    asked = [
        row["body"]["tool"]
        for row in first.call.ask("GET", "/api/ledger?kind=decision")["rows"]
        if "tool" in row["body"]
    ]
    assert "time__convert_time" in asked and "run_shell" not in asked


def test_secrets_reach_the_server_and_nobody_else(lab: Fleet) -> None:
    first = lab.coordinator
    code, _, complained = type_in(first, "mcp", "add", "odd", "--env", f"TOKEN={SECRET}", "--", "python")
    assert code == 1 and "does not belong on a command line" in complained
    words = ("mcp", "add", "odd", "--secrets", "-", "--", "python", "-c", OFFICIAL)
    code, said, complained = type_in(first, *words, answer=f"TOKEN={SECRET}\n")
    assert code == 0 and SECRET not in said + complained, complained
    first.call.ask("POST", "/api/mcp/odd/allow", {"tools": ["environment", "note"]})
    rule = ("rules", "add", "odd there", "--task", "tool:odd__*", "--node", "worker-1", "--position", "1")
    assert type_in(first, *rule)[0] == 0
    told = first.call.ask("POST", "/api/tools/odd__environment", {"arguments": {}}, timeout_s=90)
    assert told["ok"] and "('TOKEN', '[secret]')" in told["text"], told
    everything = [first.call.ask("GET", path) for path in ("/api/mcp", "/api/mcp/odd", "/api/tools")]
    everything += [member.call.ask("GET", "/api/ledger?limit=500") for member in lab.members]
    assert SECRET not in str(everything) + logs_of(lab)
    first.call.ask("DELETE", "/api/mcp/odd")
    assert SECRET.encode() not in b"".join(path.read_bytes() for path in first.folder.glob("node.db*"))


def test_a_server_that_changes_its_tools_is_off_and_the_owner_is_told(lab: Fleet) -> None:
    first = lab.coordinator
    words = "description=str(os.stat('.').st_ctime_ns)"  # another one in each folder that it is started in
    code = OFFICIAL.replace("@server.tool()\ndef put", f"@server.tool({words})\ndef put")
    assert code != OFFICIAL
    first.call.ask("POST", "/api/mcp", {"name": "shifty", "command": ["python", "-c", code]}, timeout_s=90)
    first.call.ask("POST", "/api/mcp/shifty/allow", {"tools": ["note", "put"]})
    assert type_in(first, "rules", "add", "shifty", "--task", "tool:shifty__*", "--position", "1")[0] == 0
    told = first.call.ask("POST", "/api/tools/shifty__put", {"arguments": {"path": "one"}}, timeout_s=90)
    assert not told["ok"] and "otherwise than when you allowed it" in told["text"], told
    assert first.call.ask("GET", "/api/ledger?kind=tool")["rows"][0]["body"]["outcome"] == "tool_changed"
    listed = [tool["name"] for tool in first.call.ask("GET", "/api/tools")["tools"]]
    assert "shifty__note" in listed and "shifty__put" not in listed
    (trouble,) = (one for one in first.call.ask("GET", "/api/node")["conditions"] if one["code"] == "mcp_tool_changed")
    assert "shifty" in trouble["message"] and "put" in trouble["message"]
    assert type_in(first, "mcp", "refresh", "shifty")[0] == 0
    code_, said, _ = type_in(first, "mcp", "show", "shifty")
    assert code_ == 0 and "shifty__put: off: it is not what you allowed any more" in said
    first.call.ask("POST", "/api/mcp/shifty/allow", {"tools": ["put"]})
    assert not first.call.ask("GET", "/api/node")["conditions"]


def test_a_server_that_cannot_be_started_is_not_registered_and_its_last_words_are_told(lab: Fleet) -> None:
    first = lab.coordinator
    code, _, complained = type_in(first, "mcp", "add", "none", "--", "python", "-m", "no_such_server")
    assert code == 1 and "No module named no_such_server" in complained, complained
    code, _, complained = type_in(first, "mcp", "add", "none", "--", "no-such-program")
    assert code == 1 and "no-such-program: No such file" in complained, complained
    assert "none" not in [one["name"] for one in first.call.ask("GET", "/api/mcp")["servers"]]


def test_servers_end_with_their_daemon(lab: Fleet) -> None:
    first, worker, mark = lab.coordinator, lab.workers[0], f"staying with {os.getpid()}"
    odd = {"name": "staying", "command": ["python", "-c", OFFICIAL + f"\n# {mark}"]}
    first.call.ask("POST", "/api/mcp", odd, timeout_s=90)
    first.call.ask("POST", "/api/mcp/staying/allow", {"tools": ["look"]})
    rule = ("rules", "add", "staying", "--task", "tool:staying__*", "--node", "worker-1", "--position", "1")
    assert type_in(first, *rule)[0] == 0
    begun = threading.Thread(target=lambda: hang(lab), daemon=True)
    begun.start()
    until(lambda: processes_with(mark, everywhere=True), 30, "start the server")
    lab.restart(worker)
    until(lambda: not processes_with(mark, everywhere=True), 10, "end the server")
    begun.join(30)


def hang(lab: Fleet) -> None:
    """A call that nobody answers: it reads from a pipe that nobody writes to."""
    with contextlib.suppress(SwarmError):
        lab.coordinator.call.ask(
            "POST", "/api/tools/staying__look", {"arguments": {"path": "/dev/stdin"}}, timeout_s=90
        )
