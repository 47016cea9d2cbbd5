"""Rows of the ledger in a form for reading: one request in one line, and a row with all that it says. Pure.

Rows may have been altered, so nothing is taken for granted here. A prompt that is kept is only shown where asked for.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from mycoswarm.base.errors import InputError
from mycoswarm.store.chain import Row
from mycoswarm.store.record import ANSWER, DECISION, TICKET, TOOL, TOOL_TICKET

REQUEST_KINDS = (DECISION, ANSWER, TICKET, TOOL_TICKET)  # a request has rows of these on the node that decides or works


def body_of(row: Row) -> dict[str, Any] | None:
    """What a row says; None where it was altered and cannot be read any more."""
    try:
        return row.content()
    except InputError:
        return None


def shown(row: Row, *, with_prompt: bool = False) -> dict[str, Any]:
    """A row as JSON. `body` is None where it cannot be read; `has_prompt`: a prompt's text is kept in it."""
    body = body_of(row)
    has_prompt = body is not None and "prompt" in body
    if body is not None and not with_prompt:
        body.pop("prompt", None)
    return {
        "row": row.seq,
        "at": row.at,
        "kind": row.kind,
        "request_id": row.request_id,
        "digest": row.digest,
        "previous": row.previous,
        "body": body,
        "has_prompt": has_prompt,
    }


def summary_of(request_id: str, rows: Sequence[Row]) -> dict[str, Any]:
    """One request in one line, out of its rows in order. `outcome` None: its end is not in this ledger (yet)."""
    bodies = [(row, body_of(row) or {}) for row in rows]
    decisions = [body for row, body in bodies if row.kind == DECISION]
    ends = [body for row, body in bodies if row.kind == ANSWER] or [body for row, body in bodies if row.kind == TOOL]
    answer: Mapping[str, Any] = ends[-1] if ends else {}
    tickets = [body for row, body in bodies if row.kind in (TICKET, TOOL_TICKET)]
    last: Mapping[str, Any] = decisions[-1] if decisions else tickets[-1] if tickets else {}
    asked = _mapping(last.get("asked"))
    nodes = answer.get("nodes")
    return {
        "receipt": request_id,
        "at": rows[0].at,
        "key": answer.get("key", asked.get("key")),
        "user": asked.get("user"),
        "model": answer.get("model", asked.get("model")),
        "model_digest": answer.get("model_digest", asked.get("model_digest", last.get("model_digest"))),
        "task": asked.get("task", last.get("task")),
        "rule": answer.get("rule", last.get("rule")),
        "ran": answer.get("ran"),
        "nodes": [str(name) for name in nodes] if isinstance(nodes, list) else names_of(last),
        "tries": len(decisions),
        "outcome": answer.get("outcome"),
        "prompt_tokens": answer.get("prompt_tokens"),
        "completion_tokens": answer.get("completion_tokens"),
        "seconds": answer.get("seconds"),
        "layers_here": tickets[-1].get("layers") if tickets else None,
    }


def names_of(decision: Mapping[str, Any]) -> list[str]:
    """The nodes, or the endpoint, that a decision names."""
    if isinstance(endpoint := decision.get("endpoint"), str):
        return [endpoint]
    return [str(node.get("name")) for node in mappings(decision.get("nodes"))]


def mappings(value: Any) -> list[Mapping[str, Any]]:
    """The objects in a list that should hold objects."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
