"""The kinds of rows in a ledger, and how a ticket stands in that of the node that took it.

A ticket is kept with its exact bytes and the coordinator's signature, so that anybody can check it again.
"""

from typing import Any

from mycoswarm.wire.ticket import Sealed, Ticket, ToolTicket

# Kinds of rows: those that the coordinator writes of each request, and those of the node that takes its tickets.
DECISION, ANSWER = "decision", "answer"
TICKET, REFUSED_TICKET = "ticket", "refused_ticket"
TOOL, TOOL_TICKET = "tool", "tool_ticket"  # how a call ended, on the coordinator; a ticket for one, on its node
EGRESS = "egress"  # connections that the guard refused
PULL = "pull"  # a model file that the owner had fetched, or tried to
MAX_KEPT_BYTES = 4096  # of a ticket that does not hold


def ticket_row(sealed: Sealed, ticket: Ticket) -> dict[str, Any]:
    """The row of a ticket that holds. `ticket` is its text as it was signed."""
    warrant = ticket.warrant
    return {
        "ring": ticket.plan.ring_id,
        "model_digest": ticket.plan.model_digest,
        "rule": warrant.rule,
        "version": warrant.version,
        "task": warrant.task,
        "labels": list(warrant.labels),
        "receipt": warrant.receipt,
        "layers": next([s.first, s.last] for s in ticket.plan.stages if s.node_id == ticket.node_id),
        "ticket": sealed.body.decode(),
        "signature": sealed.signature.hex(),
    }


def tool_ticket_row(sealed: Sealed, ticket: ToolTicket) -> dict[str, Any]:
    """The row of a tool's ticket that holds; the same for a tool as `ticket_row` for layers."""
    warrant = ticket.warrant
    return {
        "tool": ticket.tool,
        "arguments": ticket.digest,
        "workspace": ticket.workspace_id,
        "unconfined": ticket.unconfined,
        "rule": warrant.rule,
        "version": warrant.version,
        "task": warrant.task,
        "labels": list(warrant.labels),
        "receipt": warrant.receipt,
        "ticket": sealed.body.decode(),
        "signature": sealed.signature.hex(),
    }


def refused_row(sealed: Sealed | None, why: str) -> dict[str, Any]:
    """The row of work that was asked for without a ticket that holds."""
    shown = "" if sealed is None else sealed.body[:MAX_KEPT_BYTES].decode("utf-8", "replace")
    return {"why": why, "ticket": shown, "signature": "" if sealed is None else sealed.signature[:128].hex()}
