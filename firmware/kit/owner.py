"""Who sits before the appliance in a test: its owner, over the console's HTTP, and a worker on this machine."""

import http.client
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from mycoswarm.base.errors import SwarmError
from mycoswarm.cli.call import Call
from mycoswarm.swarm.token import parse_token

from board import Fault

QUESTION = "What is mycoSwarm?"
HOST_SEEN_BY_GUEST = "10.0.2.2"  # as QEMU's user network has it

Found = TypeVar("Found")


def until(limit_s: float, what: str, look: Callable[[], Found | None], pause_s: float = 0.5) -> Found:
    """Look until there is something.

    Raises:
        Fault: there is nothing in time.
    """
    deadline = time.monotonic() + limit_s
    said = ""
    while time.monotonic() < deadline:
        try:
            if found := look():
                return found
        except (OSError, http.client.HTTPException, SwarmError, Fault) as exc:
            said = f" ({exc})"
        time.sleep(pause_s)
    raise Fault(f"not within {limit_s:.0f} s: {what}{said}")


class Console:
    """The appliance's console at a port of 127.0.0.1, with an owner's key once there is one."""

    def __init__(self, port: int, key: str | None = None) -> None:
        self.port, self.key = port, key

    def ask(self, method: str, path: str, body: Any = None, *, limit_s: float = 60.0, route: str | None = None) -> Any:
        """One request; gives its JSON, or of JSON lines a list.

        Raises:
            Fault: the appliance says no.
            OSError: it does not answer.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=limit_s)
        headers = {"content-type": "application/json"}
        if self.key is not None:
            headers["authorization"] = f"Bearer {self.key}"
        if route is not None:
            headers["x-mycoswarm-route"] = route
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        if answer.status != 200:
            raise Fault(f"{method} {path}: {answer.status} {text[:300]}")
        try:
            return json.loads(text)
        except ValueError:
            return [json.loads(line) for line in text.splitlines()]

    def is_healthy(self) -> bool:
        """Whether it answers /healthz."""
        return bool(self.ask("GET", "/healthz", limit_s=20.0))

    def set_up(self, code: str) -> None:
        """Sign in with the setup code; keeps the owner's key that this gives."""
        self.key = str(self.ask("POST", "/login", {"setup_code": code})["new_key"])

    def prompt(self, worker: str) -> str:
        """Have a worker answer; gives the text."""
        body = {
            "model": "spore",
            "messages": [{"role": "user", "content": QUESTION}],
            "max_tokens": 24,
            "temperature": 0,
        }
        told = self.ask("POST", "/v1/chat/completions", body, limit_s=180.0, route=f"nodes={worker}")
        return str(told["choices"][0]["message"]["content"])

    def verdict(self) -> dict[str, Any]:
        """The ledger, verified, every node's and all against each other; again where a node was too slow to answer."""
        for _ in range(5):
            told = verdict_of(self.ask("POST", "/api/ledger/verify", {}, limit_s=300.0))
            if not told["is_sound"] or not told["not_checked"]:
                break
        return told


def verdict_of(events: list[dict[str, Any]]) -> dict[str, Any]:
    """What came of a verification: `is_sound`, `rows` by node, who was not checked."""
    chains = [event for event in events if event.get("event") == "chain"]
    last = next((event for event in events if event.get("event") == "verdict"), None)
    if last is None:
        raise Fault(f"the verification broke off: {events[-1:]}")
    return {
        "is_sound": last["is_sound"],
        "rows": {chain["node"]: chain.get("rows") for chain in chains},
        "not_checked": [event.get("node") for event in events if event.get("event") == "not_checked"],
        "events": events,
    }


class Daemon:
    """A daemon of the checkout on a folder, until `stop`; it ends with us, too, because its stdin closes."""

    def __init__(self, folder: Path, *flags: str) -> None:
        self.folder, self.call = folder, Call(folder)
        folder.mkdir(mode=0o700, exist_ok=True)
        words = [sys.executable, "-P", "-m", "mycoswarm.cli.entry", "--data", str(folder), "run", "--with-stdin"]
        words += ["--console", "127.0.0.1:0", "--interface", "127.0.0.1", "--threads", "1", *flags]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MYCOSWARM_")}
        with (folder / "daemon.log").open("ab") as sink:
            self._process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=sink, stderr=sink, env=environment)
        try:
            until(60.0, f"a daemon on {folder.name}", self.call.is_alive, 0.1)
        except Fault:
            self.stop()
            raise

    def stop(self) -> None:
        """Have it end."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(15)


def worker(folder: Path, port: int) -> Daemon:
    """A worker on this machine, which the appliance sees at its network's gateway."""
    return Daemon(folder, "--name", "worker", "--peer", f"127.0.0.1:{port}", "--advertise", HOST_SEEN_BY_GUEST)


def adopt(console: Console, member: Daemon, forward: Callable[[int], int]) -> None:
    """Have the worker join with a token of the appliance's, whose door is reached at a port that `forward` opens."""
    token = parse_token(console.ask("POST", "/api/token", {"lifetime_s": 600, "uses": 1})["token"])
    door = int(token.addresses[0].rpartition(":")[2])
    near = replace(token, addresses=(f"127.0.0.1:{forward(door)}",)).text
    member.call.ask("POST", "/api/join", {"token": near}, timeout_s=120.0)

    def is_ready() -> bool:
        nodes = console.ask("GET", "/api/nodes")["nodes"]
        return any(node["name"] == "worker" and node["trouble"] is None and node["models"] for node in nodes)

    until(180.0, "the worker is ready for the appliance", is_ready)


def copy(source: Path, target: Path) -> Path:
    """A daemon's folder at rest, once more."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.sock"))
    return target
