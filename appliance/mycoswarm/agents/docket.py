"""One call of a tool as others see it: what it leaves in the ledger, and what its owner is asked."""

import json
from collections.abc import Mapping
from typing import Any

from mycoswarm.chat.consent import Plea
from mycoswarm.chat.job import Asker
from mycoswarm.routing.allotment import ToolDecision
from mycoswarm.routing.decision import Explanation
from mycoswarm.routing.snapshot import Asked
from mycoswarm.sandbox.argument import Arguments
from mycoswarm.sandbox.clearance import digest_of
from mycoswarm.sandbox.toolset import Tool
from mycoswarm.wire.tool import ToolCall

MAX_DETAIL = 20_000  # characters of a call's arguments that the owner is shown: any shell command, whole


def plea_of(request_id: str, call: ToolCall, given: Arguments, asker: Asker, decision: ToolDecision) -> Plea:
    """What the owner is asked."""
    return Plea(
        request_id=request_id,
        key_name=asker.key_name,
        user=asker.user,
        model=call.name,
        task=f"tool:{call.name}",
        characters=len(call.arguments),
        labels=tuple(sorted(asker.labels | asker.added)),
        destination=decision.node.name,
        rule=decision.rule,
        detail=_shown(given),
    )


def call_row(call: ToolCall, asked: Asked, attempt: int, explained: Explanation) -> dict[str, Any]:
    """The row of a decision on a call, less what was decided."""
    row = {"attempt": attempt, "asked": asked_row(asked), "reason": explained.reason}
    row |= {"tool": call.name, "call": call.id[:100], "arguments": digest_of(call.arguments)}
    return row if explained.limit is None else row | {"limit": explained.limit}


def decided_row(call: ToolCall, asked: Asked, attempt: int, decision: ToolDecision) -> dict[str, Any]:
    """The row of a decision that lets a call run."""
    ground, row = decision.ground, call_row(call, asked, attempt, decision.explanation)
    return row | {
        "rule": ground.rule,
        "rule_id": ground.rule_id,
        "version": ground.version,
        "action": ground.action,
    }


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
        "means": digest_of(tool.means) if tool.means else "",
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


def _shown(given: Arguments) -> str:
    """What will run, as the owner reads it: no space that only fills, nothing that a screen obeys or does not show."""
    text = json.dumps(given, ensure_ascii=False)
    text = "".join(one if one.isprintable() else json.dumps(one)[1:-1] for one in text)
    if len(text) <= MAX_DETAIL:
        return text
    return f"[only the first {MAX_DETAIL} of {len(text)} characters are shown] {text[:MAX_DETAIL]}"
