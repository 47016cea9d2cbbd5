"""How long `decide` takes: many rules, with and without the explanation, and what of that is placement."""

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from random import Random

from mycoswarm.routing.action import Ask, External, Run
from mycoswarm.routing.clause import Hours, Labels, Span, When
from mycoswarm.routing.decision import decide
from mycoswarm.routing.placement import Load, place_ring, place_whole
from mycoswarm.routing.rule import DEFAULT_RULE, Rule, RuleSet, rule_fault
from mycoswarm.routing.shadow import shadows
from mycoswarm.routing.snapshot import Asked, EndpointState, NodeState, SwarmState

ROUNDS = 15
RULE_ROUNDS = 101
RULES = 1000
NODES = 50
GIB = 1 << 30
LAYERS = 80

LARGE = Load(
    layer_bytes=(GIB // 2,) * LAYERS,
    kv_bytes=(GIB // 256,) * LAYERS,
    output_bytes=GIB // 2,
    head_bytes=GIB,
    buffer_bytes=GIB // 4,
    cuts=tuple(range(1, LAYERS)),
)
SMALL = replace(LARGE, layer_bytes=(GIB // 32,) * LAYERS, kv_bytes=(1,) * LAYERS)


def swarm(count: int) -> SwarmState:
    """`count` unlike nodes, none of which holds a 40 GiB model alone."""
    nodes = tuple(
        NodeState(
            f"n{i}",
            f"n{i}",
            "LAN",
            (10 + i % 5) * GIB,
            (10 + 7 * (i % 4)) * 1e9,
            0.0005 * (1 + i % 3),
            tags=frozenset({"office"} if i % 2 else {"kids"}),
            facts={"memory_bytes": (16 + i % 5) * GIB, "cores": 4 + i % 8, "class": "GPU worker" if i % 3 else "Pi"},
        )
        for i in range(count)
    )
    return SwarmState("n0", nodes, {"d": frozenset({"n0"})}, endpoints=(EndpointState("cloud"),))


def mixed(draw: Random, index: int) -> Rule:
    """A rule of 1 to 5 conditions of all kinds, of which one at least is for a key, a user or a network."""
    parts = {
        "model": draw.choice((f"model-{index}*", "m*", "*")),
        "task": draw.choice(("chat", "c*", "tool:*")),
        "keys": (f"key-{index}", draw.choice(("k*", "a*"))),
        "users": ("u*", f"user-{index}"),
        "labels": Labels(any=(draw.choice(("private", "public", f"label-{index}")),), none=("work",)),
        "characters": Span(draw.choice((0, 100, 8000)), draw.choice((None, 10_000, 100_000))),
        "hours": Hours("22:00", "06:00", draw.choice(((), ("sat", "sun"))), draw.choice(("UTC", "Europe/Berlin"))),
        "client": (f"10.{index % 256}.0.0/16", "192.168.1.0/24"),
    }
    chosen = draw.sample(sorted(parts), draw.randint(1, 4))
    if {"keys", "users", "client"}.isdisjoint(chosen):
        chosen.append("users")
    when = When(**{name: parts[name] for name in chosen})
    then = draw.choice((Run(nodes=("n1", "n2")), Run(facts=("cores >= 4",)), Ask(then=External(name="cloud"))))
    rule = Rule(name=f"rule {index}", when=when, then=then, id=index)
    assert rule_fault(rule) is None
    return rule


def timed(work: Callable[[], object]) -> float:
    """How long it takes once, in milliseconds."""
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1e3


def print_rules() -> None:
    """Print a line per request: 1,000 rules, 50 nodes."""
    draw, state = Random(1), swarm(NODES)
    rules = [mixed(draw, index) for index in range(RULES)]
    # Nothing before the last rules is for the requests below: no key, no user, an address of another network.
    first = Rule(name="early", when=When(model="early"), then=Run())
    last = Rule(name="late", when=When(model="*"), then=Run(tags=("office",), facts=("memory_bytes >= 8GiB",)))
    ready = RuleSet.of((*rules[:5], first, *rules[5:], last))
    without = RuleSet.of(rules)
    asked = Asked("model", "d", "chat", 500, client="172.16.0.9", at=1.7e9, labels=frozenset({"private"}))
    able = [node for node in state.nodes if "office" in node.tags]
    cases = {
        "the 6th matches, whole": (replace(asked, model="early"), SMALL, ready, place_of(SMALL, state.nodes)),
        "the last matches, whole": (asked, SMALL, ready, place_of(SMALL, able)),
        "the last matches, a ring": (asked, LARGE, ready, place_of(LARGE, able)),
        "none matches": (asked, SMALL, without, lambda: None),
    }
    print(f"decide, {RULES} rules, {NODES} nodes (bars: 1 ms for the decision, 15 ms explained; placement apart):")
    for name, (request, load, among, place) in cases.items():
        taken: list[tuple[float, float, float]] = []
        for _ in range(ROUNDS if load is LARGE else RULE_ROUNDS):
            placing = timed(place)
            plain = timed(lambda a=request, b=load, c=among: decide(a, b, c, state))
            full = timed(lambda a=request, b=load, c=among: decide(a, b, c, state, explain=True))
            taken.append((plain - placing, full - placing, placing))
        plain, full, placing = (statistics.median(column) for column in zip(*taken, strict=True))
        rule = decide(request, load, among, state).explanation.rule
        print(f"  {name} ({rule}): {plain:.2f} ms, explained {full:.2f} ms; placement {placing:.2f} ms")
    print(f"ready to use, {RULES} rules: {timed(lambda: RuleSet.of(rules)):.0f} ms")
    print(f"shadows, {RULES} rules: {timed(lambda: shadows(rules)):.0f} ms")


def place_of(load: Load, nodes: tuple[NodeState, ...] | list[NodeState]) -> Callable[[], object]:
    """What `decide` does to place it: whole, and as a ring where that is not possible."""
    return lambda: place_whole(load, nodes) or place_ring(load, nodes)


def print_swarms() -> None:
    """Print a line per swarm: one rule, and a ratio to the smallest swarm in the same run."""
    asked = Asked("m", "d", "chat", 100)
    cases = {
        "whole, 20 nodes": (SMALL, 20),
        "ring, 6 nodes": (LARGE, 6),
        "ring, 8 nodes": (LARGE, 8),
        "ring, 20 nodes": (LARGE, 20),
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
        print(f"decide, {LAYERS} layers, {name}: median {median * 1e3:.2f} ms, {median / base:.2f} x 6 nodes")


def main() -> None:
    """Print both."""
    print_rules()
    print_swarms()


if __name__ == "__main__":
    main()
