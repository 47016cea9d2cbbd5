"""How long `decide` takes: medians, as a ratio to the smallest swarm in the same run."""

import statistics
import time
from dataclasses import replace

from mycoswarm.routing.decision import decide
from mycoswarm.routing.placement import Load
from mycoswarm.routing.rule import DEFAULT_RULE, RuleSet
from mycoswarm.routing.snapshot import Asked, Narrowing, NodeState, SwarmState

ROUNDS = 15
GIB = 1 << 30


def swarm(count: int) -> SwarmState:
    """`count` unlike nodes, none of which holds a 40 GiB model alone."""
    nodes = tuple(
        NodeState(f"n{i}", f"n{i}", "LAN", (10 + i % 5) * GIB, (10 + 7 * (i % 4)) * 1e9, 0.0005 * (1 + i % 3))
        for i in range(count)
    )
    return SwarmState("n0", nodes, {"d": frozenset({"n0"})})


def main() -> None:
    """Print a line per swarm."""
    layers = 80
    load = Load(
        layer_bytes=(GIB // 2,) * layers,
        kv_bytes=(GIB // 256,) * layers,
        output_bytes=GIB // 2,
        head_bytes=GIB,
        buffer_bytes=GIB // 4,
        cuts=tuple(range(1, layers)),
    )
    small = replace(load, layer_bytes=(GIB // 32,) * layers, kv_bytes=(1,) * layers)
    asked = Asked("m", "d", "chat", 100, Narrowing())
    cases = {
        "whole, 20 nodes": (small, 20),
        "ring, 6 nodes": (load, 6),
        "ring, 8 nodes": (load, 8),
        "ring, 20 nodes": (load, 20),
    }
    taken: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(ROUNDS):
        for name, (case, count) in cases.items():
            state = swarm(count)
            began = time.perf_counter()
            decide(asked, case, RuleSet.of((DEFAULT_RULE,)), state)
            taken[name].append(time.perf_counter() - began)
    base = statistics.median(taken["ring, 6 nodes"])
    for name, times in taken.items():
        median = statistics.median(times)
        print(f"decide, {layers} layers, {name}: median {median * 1e3:.2f} ms, {median / base:.2f} x 6 nodes")


if __name__ == "__main__":
    main()
