"""What `decide` found, as JSON: the same for `ask --explain`, `rules explain` and every client."""

from typing import Any

from mycoswarm.routing.allotment import ToolDecision
from mycoswarm.routing.decision import Decision, Dispatch, Outcome, Refusal


def explanation_of(outcome: Outcome | ToolDecision) -> dict[str, Any]:
    """A decision or refusal with its reasons.

    `limit` is the rule that would match without the labels that the request adds. `passed_rules`: earlier rules, each
    with the condition that failed. `tried`: earlier actions of the rule and why they could not be carried out. `ask_s`:
    the owner must say yes within that time. `nodes`: why each is in or out.
    """
    explained = outcome.explanation
    shown: dict[str, Any] = {
        "allowed": not isinstance(outcome, Refusal),
        "rule": explained.rule,
        "limit": explained.limit,
        "reason": explained.reason,
        "passed_rules": [{"rule": rule, "because": why} for rule, why in explained.passed],
        "tried": [{"action": action, "because": why} for action, why in explained.tried],
        "nodes": [{"name": v.name, "chosen": v.chosen, "reason": v.reason} for v in explained.verdicts],
    }
    if isinstance(outcome, Refusal):
        return {**shown, "version": outcome.version, "code": outcome.code}
    shown |= {"version": outcome.ground.version, "action": outcome.ground.action, "ask_s": outcome.ground.ask_s}
    if isinstance(outcome, ToolDecision):
        return {**shown, "tool_node": outcome.node.name}
    if isinstance(outcome, Dispatch):
        endpoint = outcome.endpoint
        return {**shown, "endpoint": {"name": endpoint.name, "place": endpoint.place, "model": outcome.model}}
    return {**shown, **_placement(outcome)}


def _placement(decision: Decision) -> dict[str, Any]:
    return {
        "stages": [{"node": s.node.name, "layers": [s.first, s.last]} for s in decision.placed.shares],
        "predicted_tokens_per_s": decision.tokens_per_s,
        "note": decision.placed.note,
    }
