"""Placement: which nodes hold which layers, from memory, measured speed and measured links (DESIGN 6).

Decoding is bound by memory: one token streams every layer's weights once. So a stage costs its bytes divided by its
node's measured bytes per second, a hop costs half the round trips of its two ends, and a ring costs the sum.
Exact up to `EXACT_NODES` nodes: dynamic programming over (set of nodes used, last node, layer boundary).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mycoswarm.routing.snapshot import NodeState

MARGIN = 0.2  # of free memory is left alone: other programs grow, and llama.cpp's buffers are estimated
EXACT_NODES = 8
UNKNOWN_BYTES_PER_S = 4e9  # a node without a measured speed counts as a Raspberry Pi 4; the decision says so
UNKNOWN_GPU_BYTES_PER_S = 100e9  # the slowest memory of cards that people still compute on
UNKNOWN_ROUND_TRIP_S = 0.001  # an ordinary switched LAN
# A node says its speed itself: what no machine has, NaN too, is unknown, or one card could break every decision.
MIN_BYTES_PER_S, MAX_BYTES_PER_S = 1.0, 1e18
MAX_ROUND_TRIP_S = 3600.0
ALIKE = 1.5  # measured speeds of one machine differ by this much from one measurement to the next
EVENNESS = 0.001  # of a stage's time, charged quadratically: only alike nodes feel it, and share evenly

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Load:
    """What a model costs. Bytes per layer, KV bytes per layer for the whole context, and what only the head holds.

    `output_bytes`: the output matrix, which the head streams for each token. `head_bytes`: what its memory holds beside
    its layers: that matrix and the logits. `buffer_bytes`: compute buffers of any stage. `cuts`: allowed interior
    layer boundaries; empty where the model cannot be split.
    """

    layer_bytes: tuple[int, ...]
    kv_bytes: tuple[int, ...]
    output_bytes: int
    head_bytes: int
    buffer_bytes: int
    cuts: tuple[int, ...]

    @property
    def total_bytes(self) -> int:
        """What a node that runs it whole must have."""
        return sum(self.layer_bytes) + sum(self.kv_bytes) + self.head_bytes + self.buffer_bytes


@dataclass(frozen=True, slots=True)
class Share:
    """Layers [first, last) on one node."""

    node: NodeState
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Placed:
    """A ring, in layer order, with its predicted time per token. `note` names what was assumed or left out."""

    shares: tuple[Share, ...]
    token_s: float
    note: str = ""


def usable_bytes(node: NodeState) -> int | None:
    """What a stage may take on the node: its free memory less the margin; None where unknown."""
    return None if node.free_bytes is None else int(node.free_bytes * (1 - MARGIN))


def place_whole(load: Load, nodes: Sequence[NodeState]) -> Placed | None:
    """The fastest node that holds the whole model, the first among alike ones; None where none does."""
    fitting = [node for node in nodes if (usable_bytes(node) or 0) >= load.total_bytes]
    if not fitting:
        return None
    speeds = alike_speeds(fitting)
    best = max(fitting, key=lambda node: speeds[node.node_id])
    return Placed((Share(best, 0, len(load.layer_bytes)),), _whole_s(load, best), _assumed([best]))


def place_ring(load: Load, nodes: Sequence[NodeState], *, stages: int | None = None) -> Placed | None:
    """The cheapest ring of at least two nodes (or exactly `stages`), or None where no cut fits."""
    able = [node for node in nodes if (usable_bytes(node) or 0) > 0]
    note = ""
    if len(able) > EXACT_NODES:
        able = sorted(able, key=lambda node: (-_speed(node) * (usable_bytes(node) or 0), node.node_id))[:EXACT_NODES]
        note = f"searched over the {EXACT_NODES} nodes with the most memory times speed"
    bounds = [0, *sorted(set(load.cuts)), len(load.layer_bytes)]
    if len(able) < 2 or len(bounds) < 3:
        return None
    found = _Search(load, able, bounds, stages).best()
    if found is None:
        return None
    shares, token_s = found
    return Placed(shares, token_s, "; ".join(filter(None, (note, _assumed([share.node for share in shares])))))


def place_warm(load: Load, nodes: Sequence[NodeState], shape: Sequence[tuple[str, int, int]]) -> Placed | None:
    """The placement that a loaded ring is, whatever memory is free, or None where it is none over these nodes."""
    by_id = {node.node_id: node for node in nodes}
    n_layer, edges = len(load.layer_bytes), {0, *load.cuts, len(load.layer_bytes)}
    firsts, lasts = [first for _, first, _ in shape], [last for _, _, last in shape]
    if not shape or [*firsts, n_layer] != [0, *lasts] or not edges.issuperset(lasts):
        return None
    if any(first >= last for _, first, last in shape) or len({node_id for node_id, _, _ in shape}) != len(shape):
        return None
    if not all(node_id in by_id for node_id, _, _ in shape):
        return None
    shares = tuple(Share(by_id[node_id], first, last) for node_id, first, last in shape)
    return Placed(shares, _token_s(load, shares), _assumed([share.node for share in shares]))


def _token_s(load: Load, shares: Sequence[Share]) -> float:
    """Predicted seconds per token: all stages, and in a ring of more than one all hops, the closing one too."""
    stages_s = sum(_stage_s(load, share) for share in shares)
    nodes = [share.node for share in shares]
    hops = zip(nodes, nodes[1:] + nodes[:1], strict=True) if len(nodes) > 1 else ()
    return stages_s + sum(_hop_s(one, other) for one, other in hops)


def _stage_s(load: Load, share: Share) -> float:
    is_head = share.last == len(load.layer_bytes)
    streamed = sum(load.layer_bytes[share.first : share.last]) + (load.output_bytes if is_head else 0)
    return streamed / _speed(share.node)


def _hop_s(one: NodeState, other: NodeState) -> float:
    ends = (one.round_trip_s, other.round_trip_s)
    return sum(UNKNOWN_ROUND_TRIP_S if end is None or not 0 <= end < MAX_ROUND_TRIP_S else end for end in ends) / 4


def _speed(node: NodeState) -> float:
    said = node.bytes_per_s
    if said is None or not MIN_BYTES_PER_S <= said < MAX_BYTES_PER_S:
        return UNKNOWN_GPU_BYTES_PER_S if node.uses_gpu else UNKNOWN_BYTES_PER_S
    return said


def alike_speeds(nodes: Sequence[NodeState]) -> dict[str, float]:
    """Speeds to choose by, by node id: in steps of `ALIKE` below the fastest, so that noise decides nothing."""
    fastest = max(map(_speed, nodes))
    return {node.node_id: fastest / ALIKE ** math.floor(math.log(fastest / _speed(node), ALIKE)) for node in nodes}


def _whole_s(load: Load, node: NodeState) -> float:
    return (sum(load.layer_bytes) + load.output_bytes) / _speed(node)


def _assumed(nodes: Sequence[NodeState]) -> str:
    names = [node.name for node in nodes if node.bytes_per_s is None]
    return f"speed of {', '.join(names)} not measured yet" if names else ""


class _Search:
    """Subset dynamic programming. `reach[mask][j]`: cheapest cost with node j last, one value per layer boundary.

    The closing hop, head to first stage, depends on the first node, so the search runs once per first node; where all
    round trips are alike the first run decides for all.
    """

    def __init__(self, load: Load, nodes: Sequence[NodeState], bounds: Sequence[int], stages: int | None) -> None:
        self._load, self._nodes, self._bounds, self._stages = load, nodes, bounds, stages
        speeds = alike_speeds(nodes)
        self._stage_cost = [self._costs(node, speeds[node.node_id]) for node in nodes]

    def _costs(self, node: NodeState, speed: float) -> Floats:
        """Seconds for layers [bounds[a], bounds[b]) on the node; infinite where they do not fit or b <= a."""
        load, bounds = self._load, np.array(self._bounds)
        weights = np.concatenate([[0], np.cumsum(load.layer_bytes)])[bounds]
        memory = np.concatenate([[0], np.cumsum(np.add(load.layer_bytes, load.kv_bytes))])[bounds]
        taken = weights[None, :] - weights[:, None]
        needed = memory[None, :] - memory[:, None] + load.buffer_bytes
        streamed = taken.astype(np.float64)
        needed[:, -1] += load.head_bytes
        streamed[:, -1] += load.output_bytes
        whole_s = weights[-1] / speed
        cost: Floats = streamed / speed + EVENNESS * whole_s * (taken / max(weights[-1], 1)) ** 2
        cost[(needed > (usable_bytes(node) or 0)) | (np.tri(len(bounds), dtype=bool))] = np.inf
        return cost

    def _hop_s(self, one: int, other: int) -> float:
        return _hop_s(self._nodes[one], self._nodes[other])

    def best(self) -> tuple[tuple[Share, ...], float] | None:
        trips = {node.round_trip_s for node in self._nodes}
        firsts = range(len(self._nodes))
        results = [self._from(None)] if len(trips) == 1 else [self._from(first) for first in firsts]
        found = min((r for r in results if r is not None), key=lambda r: r[0], default=None)
        if found is None:
            return None
        return found[1], _token_s(self._load, found[1])

    def _from(self, first: int | None) -> tuple[float, tuple[Share, ...]] | None:
        count, width = len(self._nodes), len(self._bounds)
        reach: dict[tuple[int, int], Floats] = {}
        came: dict[tuple[int, int], tuple[NDArray[np.intp], NDArray[np.intp]]] = {}
        for j in range(count) if first is None else (first,):
            reach[1 << j, j] = self._stage_cost[j][0]
        for mask in range(1, 1 << count):
            if self._stages is not None and mask.bit_count() >= self._stages:
                continue
            lasts = [last for last in range(count) if (mask, last) in reach]
            for j in range(count):
                if not lasts or mask >> j & 1:
                    continue
                before = np.stack([reach[mask, last] + self._hop_s(last, j) for last in lasts])
                best_last = before.argmin(axis=0)
                through = before.min(axis=0)[:, None] + self._stage_cost[j]
                start = through.argmin(axis=0)
                key = (mask | 1 << j, j)
                reach[key] = through[start, np.arange(width)]
                came[key] = (start, np.array(lasts)[best_last[start]])
        return self._cheapest_end(reach, came, first)

    def _cheapest_end(
        self,
        reach: dict[tuple[int, int], Floats],
        came: dict[tuple[int, int], tuple[NDArray[np.intp], NDArray[np.intp]]],
        first: int | None,
    ) -> tuple[float, tuple[Share, ...]] | None:
        ends = []
        for (mask, last), costs in reach.items():
            if mask.bit_count() < 2 or (self._stages is not None and mask.bit_count() != self._stages):
                continue
            closing = self._hop_s(last, first if first is not None else last)
            if np.isfinite(costs[-1]):
                ends.append((float(costs[-1]) + closing, mask, last))
        if not ends:
            return None
        cost, mask, last = min(ends)
        shares: list[Share] = []
        bound = len(self._bounds) - 1
        while True:
            if mask.bit_count() == 1:
                shares.append(Share(self._nodes[last], 0, self._bounds[bound]))
                break
            start, previous = came[mask, last]
            begin = int(start[bound])
            shares.append(Share(self._nodes[last], self._bounds[begin], self._bounds[bound]))
            mask, last, bound = mask & ~(1 << last), int(previous[bound]), begin
        return cost, tuple(reversed(shares))
