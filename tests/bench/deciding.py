"""How long `decide` takes: medians, as a ratio to the smallest swarm in the same run."""

import statistics
import time

from mycoswarm.routing.decision import decide
from mycoswarm.routing.placement import Load
from mycoswarm.routing.rule import DEFAULT_RULE
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
    asked = Asked("m", "d", "chat", 100, Narrowing())
    taken: dict[int, list[float]] = {count: [] for count in (6, 8, 20)}
    for _ in range(ROUNDS):
        for count, times in taken.items():
            state = swarm(count)
            began = time.perf_counter()
            decide(asked, load, (DEFAULT_RULE,), state)
            times.append(time.perf_counter() - began)
    base = statistics.median(taken[6])
    for count, times in taken.items():
        median = statistics.median(times)
        print(
            f"decide, {layers} layers, {count:2d} nodes: median {median * 1e3:6.1f} ms, {median / base:.1f} x 6 nodes"
        )


if __name__ == "__main__":
    main()
