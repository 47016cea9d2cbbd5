"""Three nodes in three network namespaces, joined by a bridge in a fourth, find each other by mDNS.

Needs root and `ip` (iproute2). Nothing of it touches the machine's own network, and no namespace outlives the test.
"""

import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

LIMIT_S = 0.3
NODES = 3
ROUNDS = {"IPv4 and IPv6": 5, "IPv4 alone": 3, "IPv6 alone": 3}
ROOT = Path(__file__).resolve().parents[2]


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True, timeout=10)


def _reason() -> str | None:
    """Why this machine cannot do it, or None."""
    if not sys.platform.startswith("linux") or shutil.which("ip") is None:
        return "network namespaces need Linux with iproute2's `ip`"
    if os.geteuid() != 0:
        return "making network namespaces needs root"
    name = f"myco-try-{os.getpid()}"
    try:
        _ip("netns", "add", name)
        _ip("netns", "del", name)
    except (subprocess.SubprocessError, OSError) as exc:
        return f"network namespaces cannot be made here: {getattr(exc, 'stderr', exc)}"
    return None


def _lay(stack: ExitStack) -> list[str]:
    """Lay a bridge and three nodes on it; gives the nodes' namespaces. The stack takes all down again."""
    names = [f"myco{os.getpid()}-{part}" for part in ("bridge", *map(str, range(NODES)))]
    for name in names:
        _ip("netns", "add", name)
        stack.callback(_ip, "netns", "del", name)
        for conf in ("all", "default"):
            path = f"/proc/sys/net/ipv6/conf/{conf}/accept_dad"
            # Duplicate address detection would keep each IPv6 address unusable for its first second.
            subprocess.run(["ip", "netns", "exec", name, "sh", "-c", f"echo 0 > {path}"], check=True, timeout=10)
        _ip("-n", name, "link", "set", "lo", "up")
    bridge, *nodes = names
    _ip("-n", bridge, "link", "add", "br0", "type", "bridge", "forward_delay", "0")
    _ip("-n", bridge, "link", "set", "br0", "up")
    for number, node in enumerate(nodes):
        port = f"port{number}"
        _ip("-n", bridge, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", node)
        _ip("-n", bridge, "link", "set", port, "master", "br0", "up")
        _ip("-n", node, "link", "set", "eth0", "up")
        _ip("-n", node, "addr", "add", f"10.77.0.{number + 1}/24", "dev", "eth0")
        _ip("-n", node, "addr", "add", f"fd77::{number + 1}/64", "dev", "eth0", "nodad")
    return nodes


class _Node:
    """A discoverer in its namespace."""

    def __init__(self, namespace: str, name: str) -> None:
        script = Path(__file__).with_name("discoverer.py")
        self.process = subprocess.Popen(
            ["ip", "netns", "exec", namespace, sys.executable, str(script), name, str(NODES - 1)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT / "appliance")},
        )

    def order(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()

    def answer(self) -> dict[str, object]:
        assert self.process.stdout is not None
        answer: dict[str, object] = json.loads(self.process.stdout.readline())
        return answer

    def end(self) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


@pytest.fixture
def nodes() -> Iterator[list[_Node]]:
    reason = _reason()
    if reason is not None:
        pytest.skip(reason)
    with ExitStack() as stack:
        started = []
        for number, namespace in enumerate(_lay(stack)):
            node = _Node(namespace, f"node{number}")
            stack.callback(node.end)
            started.append(node)
        for node in started:
            assert node.answer() == {"ready": True}
        yield started


def _named(kind: str, number: int) -> str:
    """The address a node is told to use, or nothing for all it has."""
    return {"IPv4 alone": f" 10.77.0.{number + 1}", "IPv6 alone": f" fd77::{number + 1}"}.get(kind, "")


def _round(nodes: list[_Node], kind: str, gap: random.Random) -> tuple[float, list[dict[str, object]]]:
    """Start the nodes one after the other; gives the seconds from the last's announcement to complete lists."""
    for number, node in enumerate(nodes):
        node.order("start" + _named(kind, number))
        time.sleep(gap.uniform(0, 0.7))  # machines are not switched on at one moment
    answers = [node.answer() for node in nodes]
    for node in nodes:
        node.order("stop")
    for node in nodes:
        assert node.answer() == {"stopped": True}
    assert all(answer["complete_s"] is not None for answer in answers), f"{kind}: not everybody was heard: {answers}"
    last_s = max(float(str(answer["announced_s"])) for answer in answers)
    return max(0.0, max(float(str(answer["complete_s"])) for answer in answers) - last_s), answers


@pytest.mark.root
@pytest.mark.slow
def test_three_nodes_in_three_namespaces_find_each_other_within_300_ms(
    nodes: list[_Node], capsys: pytest.CaptureFixture[str]
) -> None:
    gap = random.Random(7)
    for kind, rounds in ROUNDS.items():
        took = []
        for _ in range(rounds):
            seconds, answers = _round(nodes, kind, gap)
            took.append(seconds)
            found = answers[0]["found"]
            assert isinstance(found, dict) and set(found) == {"node1", "node2"}
            addresses = found["node1"]
            assert ("10.77.0.2" in addresses) == (kind != "IPv6 alone")
            assert ("fd77::2" in addresses) == (kind != "IPv4 alone")
        with capsys.disabled():
            figures = ", ".join(f"{seconds * 1000:.0f}" for seconds in took)
            print(f"\nmDNS over {kind}: median {statistics.median(took) * 1000:.0f} ms of {rounds} rounds ({figures})")
        assert statistics.median(took) < LIMIT_S
