"""The rules read a second time, the slow and plain way. Shares data with the product, and no code that decides."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from itertools import combinations, pairwise, permutations
from typing import Any
from zoneinfo import ZoneInfo

from mycoswarm.routing.action import Ask, Deny, External, Run
from mycoswarm.routing.clause import When
from mycoswarm.routing.placement import Load
from mycoswarm.routing.rule import Rule
from mycoswarm.routing.snapshot import Asked, NodeState, SwarmState, WarmRing

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
FAR = {"this-machine": 0, "LAN": 1, "outside": 2}


@dataclass(frozen=True, slots=True)
class Step:
    """An action that the rules allow: its number, what is done, what limits it, and the owner's time for a yes."""

    index: int
    done: Run | External
    bound: Run | External | None
    ask_s: float | None


def counted(labels: frozenset[str]) -> set[str]:
    """The labels that count."""
    left = set(labels)
    if "private" in left:
        left -= {"household", "public"}
    if "household" in left:
        left -= {"public"}
    return left


def numbers(client: str | None) -> tuple[int, int] | None:
    """An address as its family and number, IPv4 where it is one in IPv6's form."""
    try:
        address = ip_address((client or "").split("%")[0])
    except ValueError:
        return None
    if address.version == 6 and int(address) >> 32 == 0xFFFF:
        return 4, int(address) & 0xFFFFFFFF
    return address.version, int(address)


def inside(client: str | None, text: str) -> bool:
    """Whether an address is in a network."""
    known, network = numbers(client), ip_network(text)
    first: IPv4Address | IPv6Address = network[0]
    last = network[-1]
    low, high = numbers(str(first)), numbers(str(last))
    assert isinstance(network, IPv4Network | IPv6Network)
    return known is not None and low is not None and high is not None and low <= known <= high


def in_hours(when: When, at: float) -> bool:
    """Whether a time is in a window that begins on this local day or on the day before."""
    hours = when.hours
    assert hours is not None
    here = datetime.fromtimestamp(at, ZoneInfo(hours.zone)).replace(tzinfo=None)
    for back in (0, 1):
        midnight = here.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=back)
        if hours.days and DAYS[midnight.weekday()] not in hours.days:
            continue
        begin, end = (
            midnight + timedelta(hours=int(text[:2]), minutes=int(text[3:])) for text in (hours.begin, hours.end)
        )
        if end <= begin:
            end += timedelta(days=1)
        if begin <= here < end:
            return True
    return False


def matches(rule: Rule, asked: Asked, labels: frozenset[str]) -> bool:
    """Whether a rule is for a request under these labels."""
    when, held = rule.when, counted(labels)
    if not rule.enabled:
        return False
    if when.model is not None and not fnmatchcase(asked.model, when.model):
        return False
    if when.task is not None and not fnmatchcase(asked.task, when.task):
        return False
    for globs, name in ((when.keys, asked.key_name), (when.users, asked.user)):
        if globs and (name is None or not any(fnmatchcase(name, glob) for glob in globs)):
            return False
    if when.labels is not None:
        if when.labels.any and not any(label in held for label in when.labels.any):
            return False
        if not all(label in held for label in when.labels.all) or any(label in held for label in when.labels.none):
            return False
    if when.characters is not None:
        low, high = when.characters.least, when.characters.below
        if asked.prompt_characters < low or (high is not None and asked.prompt_characters >= high):
            return False
    if when.client and not any(inside(asked.client, text) for text in when.client):
        return False
    return when.hours is None or in_hours(when, asked.at)


def matched(asked: Asked, rules: tuple[Rule, ...]) -> tuple[Rule | None, Rule | None]:
    """The rule for a request, and the rule for it without the labels that it adds."""
    both = asked.labels | asked.added
    first = next((rule for rule in rules if matches(rule, asked, both)), None)
    return first, next((rule for rule in rules if matches(rule, asked, asked.labels)), None)


def steps(rule: Rule, limit: Rule) -> Iterator[Step]:
    """All that both rules allow, in the order in which it is tried."""
    for index, action in enumerate((rule.then, *rule.fallback)):
        done = action.then if isinstance(action, Ask) else action
        assert not isinstance(done, Deny)
        own = [action.within_s] if isinstance(action, Ask) else []
        if limit is rule:
            yield Step(index, done, None, own[0] if own else None)
            continue
        for other in (limit.then, *limit.fallback):
            bound = other.then if isinstance(other, Ask) else other
            asks = own + ([other.within_s] if isinstance(other, Ask) else [])
            if isinstance(done, Run) and isinstance(bound, Run):
                yield Step(index, done, bound, min(asks) if asks else None)
            if isinstance(done, External) and isinstance(bound, External) and done.name == bound.name:
                yield Step(index, done, bound, min(asks) if asks else None)


def meets(node: NodeState, text: str) -> bool:
    """Whether a node meets one of the conditions that worlds.py draws, each read by hand."""
    facts: dict[str, Any] = dict(node.facts)
    return {
        "memory_bytes >= 8GiB": facts.get("memory_bytes", -1) >= 8 * 1024**3,
        "class = GPU worker": facts.get("class") == "GPU worker",
        "class != Pi": facts.get("class", "Pi") != "Pi",
        "cores > 3": facts.get("cores", -1) > 3,
        "gpu = true": facts.get("gpu") is True,
        "round_trip_s <= 5ms": facts.get("round_trip_s", 1e9) <= 0.005,
    }[text]


def named(node: NodeState, run: Run, place: str) -> bool:
    """Whether a run names a node, were it at this place."""
    return (
        (not run.nodes or node.name in run.nodes or node.node_id in run.nodes)
        and place in run.places
        and all(tag in node.tags for tag in run.tags)
        and all(meets(node, text) for text in run.facts)
    )


def allowed(node: NodeState, step: Step, place: str | None = None) -> bool:
    """Whether the rules allow a node."""
    runs = [one for one in (step.done, step.bound) if isinstance(one, Run)]
    return all(named(node, run, place or node.place) for run in runs)


def able(node: NodeState, asked: Asked, step: Step, place: str | None = None) -> bool:
    """Whether a node can take part now."""
    wanted, there = asked.narrowing, place or node.place
    return (
        allowed(node, step, there)
        and (not wanted.nodes or node.name in wanted.nodes or node.node_id in wanted.nodes)
        and (wanted.within is None or FAR[there] <= FAR[wanted.within])
        and node.node_id not in wanted.without
        and not node.trouble
        and asked.model_digest not in node.bad_models
        and node.free_bytes is not None
    )


def modes(asked: Asked, step: Step) -> tuple[bool, bool]:
    """Whether it may run whole, and whether split."""
    wanted = asked.narrowing
    policies = {one.split for one in (step.done, step.bound) if isinstance(one, Run)}
    return (
        "split required" not in policies and wanted.mode != "split" and wanted.stages in (None, 1),
        "solo" not in policies and wanted.mode != "solo" and wanted.stages != 1 and asked.task != "embedding",
    )


def serves(ring: WarmRing, nodes: list[NodeState], asked: Asked, step: Step, load: Load, swarm: SwarmState) -> bool:
    """Whether a loaded ring can be used again."""
    solo, split = modes(asked, step)
    ids, edge = [node.node_id for node in nodes], 0
    for node_id, first, last in ring.shape:
        if node_id not in ids or first != edge or (last not in load.cuts and last != len(load.layer_bytes)):
            return False
        edge = last
    if ring.embeds != (asked.task == "embedding"):
        return False
    if ring.model_digest != asked.model_digest or edge != len(load.layer_bytes):
        return False
    for node in swarm.nodes:
        place = ring.reach.get(node.node_id, "this-machine")
        if place not in ("this-machine", node.place) and not able(node, asked, step, place):
            return False
    count = len(ring.shape)
    return solo if count == 1 else split and asked.narrowing.stages in (None, count)


def can_run(asked: Asked, load: Load | None, step: Step, swarm: SwarmState) -> bool:
    """Whether a run can be carried out: every place, order and cut is tried."""
    if load is None or asked.model_digest is None:
        return False
    holders = swarm.holders.get(asked.model_digest, frozenset())
    if not any(node.node_id in holders and not node.trouble and allowed(node, step) for node in swarm.nodes):
        return False
    nodes = [node for node in swarm.nodes if able(node, asked, step)]
    solo, split = modes(asked, step)
    room = {node.node_id: int((node.free_bytes or 0) * 0.8) for node in nodes}
    layers = [weight + kv for weight, kv in zip(load.layer_bytes, load.kv_bytes, strict=True)]
    if solo and any(room[node.node_id] >= sum(layers) + load.head_bytes + load.buffer_bytes for node in nodes):
        return True
    if any(serves(ring, nodes, asked, step, load, swarm) for ring in swarm.warm):
        return True
    counts = range(2, len(nodes) + 1) if asked.narrowing.stages is None else [asked.narrowing.stages]
    for count in counts if split else ():
        for order in permutations(nodes, count):
            for cuts in combinations(load.cuts, count - 1):
                bounds = [0, *cuts, len(layers)]
                needs = [sum(layers[a:b]) + load.buffer_bytes for a, b in pairwise(bounds)]
                needs[-1] += load.head_bytes
                if all(need <= room[node.node_id] for need, node in zip(needs, order, strict=True)):
                    return True
    return False


def can_send(asked: Asked, step: Step, swarm: SwarmState) -> bool:
    """Whether a request can be sent to an endpoint."""
    assert isinstance(step.done, External)
    wanted, name = asked.narrowing, step.done.name
    endpoint = next((one for one in swarm.endpoints if one.name == name), None)
    return (
        endpoint is not None
        and asked.task in ("chat", "completion", "agent", "embedding")
        and not wanted.nodes
        and wanted.mode == "any"
        and wanted.stages is None
        and (wanted.within is None or FAR[endpoint.place] <= FAR[wanted.within])
        and name not in wanted.without
    )


def expected(asked: Asked, load: Load | None, rules: tuple[Rule, ...], swarm: SwarmState) -> Step | str:
    """The first step that can be carried out, or a refusal's code ("" for whichever)."""
    rule, limit = matched(asked, rules)
    if rule is None or limit is None:
        return "refused_by_rules"
    if isinstance(rule.then, Deny) or isinstance(limit.then, Deny):
        return "denied_by_rule"
    for step in steps(rule, limit):
        if isinstance(step.done, Run) and can_run(asked, load, step, swarm):
            return step
        if isinstance(step.done, External) and can_send(asked, step, swarm):
            return step
    return ""
