"""Every feature once, over real daemons on 127.0.0.1: what the trap test listens to. Run as a program of its own."""

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from mycoswarm.base.errors import SwarmError
from mycoswarm.cli.call import Call
from mycoswarm.cli.fleet import Fleet
from mycoswarm.cli.talk import Reply, stream_chat
from rack import Rack

HELLO = [{"role": "user", "content": "Hello!"}]


def ask(call: Call, route: str | None = None, model: str = "spore", **more: Any) -> Reply:
    """One answer."""
    reply = Reply()
    for _ in stream_chat(call, {"model": model, "messages": HELLO, "max_tokens": 8, **more}, reply, route):
        pass
    return reply


def prompts(fleet: Fleet) -> str:
    """Whole, split, sampled, refused; gives a receipt."""
    call = fleet.coordinator.call
    receipt: str = ask(call).mycoswarm["receipt"]
    ask(call, "split; nodes=worker-1,worker-2", logprobs=True)
    ask(call, "within=this-machine", temperature=1.2, seed=3)
    call.ask("POST", "/api/explain", {"model": "spore", "messages": HELLO})
    for route, model in (("nodes=attic", "spore"), (None, "gpt-9")):
        try:
            ask(call, route, model)
        except SwarmError:
            continue
        raise AssertionError("that had to be refused")
    return receipt


def rules(fleet: Fleet, rack: Rack) -> None:
    """Edits, tests, an endpoint, the owner's yes, undo, replay."""
    call = fleet.coordinator.call
    call.ask("POST", "/api/endpoints", {"name": "rack", "url": rack.url, "place": "LAN", "secret": "sk-x"})
    asked = {"do": "ask", "then": {"do": "external", "name": "rack"}, "within_s": 20}
    call.ask("POST", "/api/rules", {"rule": {"name": "rack", "when": {"model": "big"}, "then": asked}, "position": 1})
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(ask, call, None, "big")
        deadline = time.monotonic() + 10
        while not (waiting := call.ask("GET", "/api/approvals")["approvals"]):
            assert time.monotonic() < deadline, "no request waits"
            time.sleep(0.02)
        call.ask("POST", f"/api/approvals/{waiting[0]['id']}", {"allow": True})
        assert coming.result(20).text == "From the rack." and rack.heard
    call.ask("POST", "/api/rules/explain", {"request": {"model": "spore", "labels": ["private"]}})
    call.ask("POST", "/api/rules/replay", {"last": 10})
    call.ask("POST", "/api/rules/undo", {})


def ledger(call: Call, receipt: str) -> None:
    """Look at it, and hold it against the nodes'."""
    call.ask("GET", "/api/ledger")
    call.ask("GET", f"/api/ledger/{receipt}")
    call.ask("GET", f"/api/ledger/{receipt}/exposure")
    last = json.loads(list(call.stream("POST", "/api/ledger/verify", {}))[-1])
    assert not last.get("findings"), last


def tools(call: Call) -> None:
    """Programs in the sandbox, an agent, vectors; a program that tries to get out, where it may run at all."""
    call.ask("POST", "/api/tools/calculator", {"arguments": {"expression": "6*7"}})
    programs = {"name": "programs", "when": {"task": "tool:run_python"}, "then": {"do": "run"}}
    call.ask("POST", "/api/rules", {"rule": programs, "position": 1})
    reaching = "import socket; s = socket.socket(); s.settimeout(1); s.connect(('198.51.100.7', 443))"
    call.ask("POST", "/api/tools/run_python", {"arguments": {"code": reaching}})
    list(call.stream("POST", "/api/agents/helper/run", {"task": "what is 12 plus 30?"}))
    call.ask("POST", "/v1/embeddings", {"model": "spore", "input": ["one", "two"]})


def main() -> int:
    """All of it."""
    with Rack() as rack, Fleet(workers=2) as fleet:
        fleet.find()
        fleet.enrol()
        call = fleet.coordinator.call
        call.ask("POST", "/api/keys", {"name": "laptop", "labels": ["private"], "requests_per_minute": 60})
        receipt = prompts(fleet)
        rules(fleet, rack)
        tools(call)
        ledger(call, receipt)
        fleet.workers[1].process.kill()
        ask(call)
        call.ask("POST", "/api/expel", {"node": "worker-2"})
    print("the parade is over")
    return 0


if __name__ == "__main__":
    sys.exit(main())
