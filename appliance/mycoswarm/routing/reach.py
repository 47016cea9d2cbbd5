"""What a request may reach by the rules alone: whichever nodes answer now, and whatever memory they have free.

Requests narrow and never widen: where labels that a request adds itself make another rule match than the owner's labels
alone, that other rule limits what is done. Actions are paired: what no single action of the limit allows, such as a
ring over the nodes of two of them, is not done, and what it allows with a yes only is asked for.
"""

from dataclasses import dataclass
from typing import Literal

from mycoswarm.routing.action import Action, Ask, Deny, External, Run, unwrapped
from mycoswarm.routing.clause import View, view_of
from mycoswarm.routing.rule import Rule, RuleSet
from mycoswarm.routing.snapshot import EMBEDDING, Asked, SwarmState

ENDPOINT_TASKS = ("chat", "completion", "agent", EMBEDDING)  # an agent asks a model as a chat does
TOOL = "tool:"  # what the task of a tool's call begins with
HARMLESS = frozenset(  # tools that run unasked by any rule; the two that write do so in the run's own workspace only
    {"calculator", "clock", "list_nodes", "explain_route", "recall", "remember"}
    | {"read_file", "write_file", "edit_file", "list_files", "search_files"}
)

FOREIGN = frozenset({"fetch_page", "search_web"})  # tools that reach what is not of the swarm
SERVED = "__"  # in the name of a tool of an MCP server: SERVER__TOOL

Outlet = Literal["run", "external", "ask", "deny", "refuse"]


@dataclass(frozen=True, slots=True)
class Match:
    """`rule` is the first that matches. `limit`: the first that would without the labels that the request adds, where
    that is another. `fault`: a refusal's code and message, where nothing is to be carried out."""

    view: View
    rule: Rule | None
    limit: Rule | None
    fault: tuple[str, str] | None


@dataclass(frozen=True, slots=True)
class Way:
    """One way to carry an action out, within `bound`, an action of the limiting rule. `ask_s`: only with a yes."""

    done: Run | External
    bound: Run | External | None
    ask_s: float | None


@dataclass(frozen=True, slots=True)
class Spot:
    """A node or an endpoint. `names`: all that it is called; one that only a rule names has just that."""

    names: tuple[str, ...]
    is_outside: bool


@dataclass(frozen=True, slots=True)
class Reach:
    """All that a request may reach. `outlet`: what the first action that can be carried out does, `endpoint` the one it
    sends to, `first` what it may reach; `spots` is that of all actions."""

    rule: str | None
    limit: str | None
    outlet: Outlet
    endpoint: str | None = None
    first: tuple[Spot, ...] = ()
    spots: tuple[Spot, ...] = ()


def match_of(asked: Asked, rules: RuleSet) -> Match:
    """Find the rule for a request, and the one that limits it."""
    owned = view_of(asked, asked.labels)
    view = view_of(asked, asked.labels | asked.added)
    rule = rules.first(view)
    limit = rule if view.labels == owned.labels or rule is None else rules.first(owned)
    fault = None
    if rule is None:
        fault = "refused_by_rules", "no rule allows this request anywhere: no match refuses"
    elif limit is None:
        why = "no rule allows this request without the labels that it adds itself, and those only narrow"
        fault = "refused_by_rules", why
    elif (deny := next((one.then for one in (rule, limit) if isinstance(one.then, Deny)), None)) is not None:
        fault = "denied_by_rule", deny.message
    return Match(view, rule, None if limit is rule else limit, fault)


def ways_of(action: Action, limit: Rule | None) -> tuple[Way, ...]:
    """The ways to carry an action out, in order; none where the limiting rule allows none."""
    done = unwrapped(action)
    if isinstance(done, Deny):
        return ()
    if limit is None:
        return (Way(done, None, _ask_s(action)),)
    found = []
    for one in limit.chain:
        bound = unwrapped(one)
        if isinstance(bound, Deny) or type(bound) is not type(done):
            continue
        if isinstance(done, Run) or (isinstance(bound, External) and bound.name == done.name):
            found.append(Way(done, bound, _ask_s(action, one)))
    return tuple(found)


def needs_yes(asked: Asked, match: Match) -> bool:
    """Whether this is a tool that can do harm, and not every rule that counts here names it in its `task`.

    Any pattern of tools does, such as "tool:*". But what reaches the network, or comes from an MCP server, must be
    meant: there the pattern may not begin with a wildcard. So a rule that keeps all tools of private runs on this
    machine lets none of them fetch a page unasked.
    """
    tool = asked.task.removeprefix(TOOL)
    if tool == asked.task or tool in HARMLESS:
        return False
    is_meant = tool in FOREIGN or SERVED in tool
    patterns = [rule.when.task or "" for rule in (match.rule, match.limit) if rule is not None]
    return not all(one.startswith(TOOL) and not (is_meant and one[len(TOOL) :][:1] in "*?[") for one in patterns)


def reach_of(asked: Asked, rules: RuleSet, swarm: SwarmState) -> Reach:
    """Say what a request may reach. What it narrows itself, but for its labels, is left out of account."""
    match = match_of(asked, rules)
    rule, limit = match.rule, match.limit
    names = (rule.name if rule is not None else None, limit.name if limit is not None else None)
    if rule is None or match.fault is not None:
        is_denied = match.fault is not None and match.fault[0] == "denied_by_rule"
        return Reach(*names, "deny" if is_denied else "refuse")
    ways = [(way, _spots(way, swarm)) for action in rule.chain for way in ways_of(action, limit)]
    ways = [
        (way, spots)
        for way, spots in ways
        if (isinstance(way.done, Run) or asked.task in ENDPOINT_TASKS) and (spots or limit is None)
    ]
    if not ways:
        return Reach(*names, "refuse")
    way, first = ways[0]
    outlet: Outlet = "run" if isinstance(way.done, Run) else "external"
    return Reach(
        *names,
        outlet="ask" if way.ask_s is not None or needs_yes(asked, match) else outlet,
        endpoint=way.done.name if isinstance(way.done, External) else None,
        first=first,
        spots=tuple(dict.fromkeys(spot for _, spots in ways for spot in spots)),
    )


def _ask_s(*actions: Action) -> float | None:
    return min((one.within_s for one in actions if isinstance(one, Ask)), default=None)


def _spots(way: Way, swarm: SwarmState) -> tuple[Spot, ...]:
    if isinstance(way.done, External):
        name = way.done.name
        endpoint = next((one for one in swarm.endpoints if one.name == name), None)
        return (Spot((name,), endpoint is None or endpoint.place == "outside"),)
    runs = [one for one in (way.done, way.bound) if isinstance(one, Run)]
    nodes = [node for node in swarm.nodes if all(run.fault(node) is None for run in runs)]
    known = {word for node in swarm.nodes for word in (node.name, node.node_id)}
    # A node that only the rule names may be adopted tomorrow: it counts, with all that the places allow.
    named = dict.fromkeys(word for run in runs for word in run.nodes if word not in known)
    strangers = [word for word in named if all(not run.nodes or word in run.nodes for run in runs)]
    is_outside = all("outside" in run.places for run in runs)
    return (
        *(Spot((node.name, node.node_id), node.place == "outside") for node in nodes),
        *(Spot((word,), is_outside) for word in strangers),
    )
