"""Tickets for tools, written and checked (DESIGN 4). Pure: the signature check is given.

Covered: a ticket that nobody, or somebody else, signed; one that was altered, replayed, or is for another stream, node,
swarm or tool; arguments other than those it was written for. Not covered: a coordinator whose own key was stolen.
"""

import hashlib
from collections.abc import Callable

import msgspec

from mycoswarm.base.errors import TicketError
from mycoswarm.routing.reach import SERVED
from mycoswarm.sandbox.toolset import TOOLS
from mycoswarm.wire.ticket import RELEASE, Sealed, ToolTicket

MAX_TICKET_BYTES = 16 << 10
MAX_LIFETIME_S = 3600.0
MAX_WITHIN_S = 300.0

IsSigned = Callable[[Sealed], bool]

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(ToolTicket)


def digest_of(arguments: str) -> str:
    """What a ticket says of a call's arguments."""
    return hashlib.sha256(arguments.encode("utf-8", "surrogatepass")).hexdigest()


def seal(ticket: ToolTicket, sign: Callable[[bytes], bytes]) -> Sealed:
    """Write a ticket and have it signed."""
    body = _encoder.encode(ticket)
    return Sealed(body=body, signature=sign(body))


def check(
    sealed: Sealed, arguments: str, means: str = "", *, is_signed: IsSigned, swarm_id: str, node_id: str, nonce: str
) -> ToolTicket:
    """Read a ticket for one call on this stream; each stream has its own nonce and takes one ticket, number 0.

    Raises:
        TicketError: it does not hold; the message says in what.
    """
    if len(sealed.body) > MAX_TICKET_BYTES:
        raise TicketError(f"a ticket of {len(sealed.body)} bytes is too long")
    if not is_signed(sealed):
        raise TicketError("the ticket does not carry the coordinator's signature")
    try:
        ticket = _decoder.decode(sealed.body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise TicketError("the ticket cannot be read as one for a tool") from exc
    if ticket.swarm_id != swarm_id:
        raise TicketError("the ticket is for another swarm")
    if ticket.node_id != node_id:
        raise TicketError("the ticket is for another node")
    if ticket.nonce != nonce:
        raise TicketError("the ticket is for another stream: a replay")
    if ticket.sequence != 0:
        raise TicketError(f"ticket {ticket.sequence} was shown where 0 comes next: a replay")
    if not 0 < ticket.lifetime_s <= MAX_LIFETIME_S:
        raise TicketError(f"a ticket cannot live for {ticket.lifetime_s} s")
    if not 0 < ticket.within_s <= MAX_WITHIN_S:
        raise TicketError(f"a tool cannot run for {ticket.within_s} s")
    if ticket.tool != RELEASE and ticket.warrant.task != f"tool:{ticket.tool}":
        raise TicketError("the ticket's tool is not what was decided on")
    if ticket.tool != RELEASE and not _is_ours(ticket.tool, means):
        raise TicketError(f"this node has no tool called {ticket.tool[:80]!r}")
    if ticket.digest != digest_of(arguments):
        raise TicketError("the ticket is for other arguments")
    if ticket.means != (digest_of(means) if means else ""):
        raise TicketError("the ticket is for a tool that is set up otherwise")
    return ticket


def _is_ours(tool: str, means: str) -> bool:
    """Whether a node does this: a tool that is built in, or one of a server that it is told of."""
    known = TOOLS.get(tool)
    return bool(means) and SERVED in tool if known is None else known.where != "coordinator"
