"""Three nodes in three network namespaces, joined by a bridge in a fourth, find each other by mDNS.

Needs root and `ip` (iproute2). Nothing of it touches the machine's own network, and no namespace outlives the test.
"""

import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from networks import inside, lay_network, why_not

LIMIT_S = 0.3
NODES = 3
ROUNDS = {"IPv4 and IPv6": 5, "IPv4 alone": 3, "IPv6 alone": 3}
ROOT = Path(__file__).resolve().parents[2]


class _Node:
    """A discoverer in its namespace."""

    def __init__(self, namespace: str, name: str) -> None:
        script = Path(__file__).with_name("discoverer.py")
        self.process = subprocess.Popen(
            [*inside(namespace), sys.executable, str(script), name, str(NODES - 1)],
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
    if reason := why_not():
        pytest.skip(reason)
    with ExitStack() as stack:
        started = []
        for number, namespace in enumerate(lay_network(stack, NODES)):
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
