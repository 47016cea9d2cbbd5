"""Every machine that could have read a prompt, in all tries, out of the rows of its request. Pure.

A node that holds any layers counts as having read the prompt: hidden states can be inverted. What is decided counts,
whether it was reached or not. Covered: all that the coordinator's ledger knows. Not covered: the machine that asked,
what an endpoint does with what it was sent, and what somebody did who was never asked by the rules.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from mycoswarm.store.chain import Row
from mycoswarm.store.record import ANSWER, DECISION, TOOL
from mycoswarm.store.summary import body_of, mappings


def exposure_of(
    request_id: str, rows: Sequence[Row], *, coordinator: tuple[str, str], names: Mapping[str, str]
) -> dict[str, Any]:
    """Who could have read it (`readers`), who only knew that there was a request (`informed`), and what to know of it.

    `coordinator` is its id and name; `names` those of the nodes there are now, by id.
    """
    node_id, name = coordinator
    seen = min((row.at for row in rows), default=0.0)
    readers = [{"what": "coordinator", "id": node_id, "name": name, "place": "this-machine", "at": seen}]
    holders: dict[str, float] = {}
    notes: list[str] = []
    has_prompt = False
    reached = _reached(rows)
    for row in rows:
        body = body_of(row)
        if body is None:
            notes.append(f"row {row.seq} was altered and cannot be read: it may have named further machines")
        elif row.kind == DECISION and body.get("only_loads") is True:
            notes.append("a model was loaded, and nothing was asked of it: there was no prompt")
        elif row.kind == DECISION:
            readers += _decided(row, body, reached)
            has_prompt = has_prompt or "prompt" in body
            if isinstance(holder := body.get("holder"), str):
                holders.setdefault(holder, row.at)
        elif row.kind == TOOL and body.get("node") is not None:
            node = str(body["node"])
            if any(
                one["what"] == "tool" and one["id"] == node and one.get("call") == body.get("call") for one in readers
            ):
                continue  # its decision has told
            tool = {"what": "tool", "id": node, "name": names.get(node, node), "tool": body.get("name"), "at": row.at}
            readers.append(tool)
    known = {str(reader.get("id")) for reader in readers}
    informed = [
        {"what": "holder", "id": holder, "name": names.get(holder, holder), "at": at}
        for holder, at in holders.items()
        if holder not in known
    ]
    if has_prompt:
        notes.append("the prompt's text is kept in the coordinator's ledger")
    return {
        "receipt": request_id,
        "at": seen,
        "readers": readers,
        "informed": informed,
        "has_prompt": has_prompt,
        "notes": notes,
    }


def _decided(row: Row, body: Mapping[str, Any], reached: frozenset[str] | None) -> list[dict[str, Any]]:
    common = {"try": body.get("attempt"), "rule": body.get("rule"), "at": row.at}
    if body.get("outcome") == "external":
        name = str(body.get("endpoint"))
        was_reached = None if reached is None else name in reached
        place = body.get("place")
        return [{"what": "endpoint", "id": None, "name": name, "place": place, "was_reached": was_reached, **common}]
    if body.get("outcome") == "tool":
        told = {"tool": body.get("tool"), "call": body.get("call"), **common}
        return [
            {"what": "tool", "id": node.get("id"), "name": node.get("name"), "place": node.get("place"), **told}
            for node in mappings(body.get("nodes"))
        ]
    return [
        {
            "what": "layers",
            "id": node.get("id"),
            "name": node.get("name"),
            "place": node.get("place"),
            "layers": node.get("layers"),
            **common,
        }
        for node in mappings(body.get("nodes"))
    ]


def _reached(rows: Sequence[Row]) -> frozenset[str] | None:
    """The names that the request's end says read the prompt; None where it has no end yet, or an altered one."""
    body = next((body_of(row) for row in reversed(rows) if row.kind == ANSWER), None)
    nodes = body.get("nodes") if body is not None else None
    return frozenset(str(name) for name in nodes) if isinstance(nodes, list) else None
