"""What one call of a tool leaves in the ledger: what was asked, and how it ended."""

from collections.abc import Mapping
from typing import Any

from mycoswarm.chat.job import Asker
from mycoswarm.routing.allotment import ToolDecision
from mycoswarm.routing.snapshot import Asked
from mycoswarm.sandbox.toolset import Tool
from mycoswarm.wire.tool import ToolCall


def ended_row(
    call: ToolCall, asker: Asker, node: Mapping[str, Any] | None, rule: str | None, outcome: str, seconds: float
) -> dict[str, Any]:
    """The row of how a call ended. `node` None: nothing ran."""
    return {
        "node": None if node is None else node["id"],
        "nodes": [] if node is None else [node["name"]],
        "name": call.name,
        "call": call.id[:100],
        "key": asker.key_name,
        "rule": rule,
        "outcome": outcome,
        "seconds": seconds,
    }


def granted_row(node: Mapping[str, Any], decision: ToolDecision, tool: Tool, workspace_id: str) -> dict[str, Any]:
    """What a decision lets a node do. `by_ticket`: it keeps one; there is none for what the coordinator answers."""
    return {
        "outcome": "tool",
        "nodes": [node],
        "by_ticket": tool.where != "coordinator",
        "workspace": workspace_id,
        "unconfined": decision.unconfined,
    }


def asked_row(asked: Asked) -> dict[str, Any]:
    """The call as `rules replay` reads it, like that of a prompt."""
    narrowing = asked.narrowing
    route = {"mode": narrowing.mode, "stages": None, "nodes": list(narrowing.nodes), "within": narrowing.within}
    return {
        "model": asked.model,
        "model_digest": None,
        "task": asked.task,
        "characters": asked.prompt_characters,
        "key": asked.key_name,
        "user": asked.user,
        "labels": sorted(asked.labels),
        "added": sorted(asked.added),
        "client": asked.client,
        "at": asked.at,
        "route": route,
    }
