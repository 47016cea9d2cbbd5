"""Tickets, checked and written (DESIGN 4). Pure: the clock and the signature check are given.

Covered: a ticket that nobody, or somebody else, signed; one that was altered, replayed on this stream or carried over
from another; one for another node, swarm or plan; one whose time is over; a plan that cannot be. Not covered: a
coordinator whose own key was stolen.
"""

import hashlib
from collections.abc import Callable

import msgspec

from mycoswarm.base.errors import TicketError
from mycoswarm.wire.plan import RingPlan, StagePlan, plan_fault
from mycoswarm.wire.ticket import Sealed, Ticket

MAX_TICKET_BYTES = 64 << 10  # a plan of 64 stages is 6 KB
MAX_LIFETIME_S = 86400.0  # a day: a ring that lives longer asks again
MAX_ADMITTED = 1024  # requests that one ring has open at a time; a ring has at most 64 sequences
MAX_SEEN = 4096  # tickets that a holder of pieces remembers at a time

Clock = Callable[[], float]
IsSigned = Callable[[Sealed], bool]

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Ticket)
_sealed_decoder = msgspec.json.Decoder(Sealed)


def seal_ticket(ticket: Ticket, sign: Callable[[bytes], bytes]) -> Sealed:
    """Write a ticket and have it signed."""
    body = _encoder.encode(ticket)
    return Sealed(body=body, signature=sign(body))


def write_sealed(sealed: Sealed) -> bytes:
    """A sealed ticket as bytes of its own, where it does not travel inside an order."""
    return _encoder.encode(sealed)


def read_sealed(data: bytes) -> Sealed:
    """Read what `write_sealed` wrote.

    Raises:
        TicketError: not a sealed ticket.
    """
    if len(data) > 2 * MAX_TICKET_BYTES:
        raise TicketError(f"a ticket of {len(data)} bytes is too long")
    try:
        return _sealed_decoder.decode(data)
    except (msgspec.MsgspecError, RecursionError) as exc:
        raise TicketError("the ticket cannot be read") from exc


def stage_of(plan: RingPlan, node_id: str) -> int | None:
    """Which stage of a plan a node runs: its index, or None."""
    return next((index for index, stage in enumerate(plan.stages) if stage.node_id == node_id), None)


def _read_ticket(sealed: Sealed, *, is_signed: IsSigned, swarm_id: str, node_id: str) -> Ticket:
    """What every ticket must hold, whoever shows it."""
    if len(sealed.body) > MAX_TICKET_BYTES:
        raise TicketError(f"a ticket of {len(sealed.body)} bytes is too long")
    if not is_signed(sealed):
        raise TicketError("the ticket does not carry the coordinator's signature")
    try:
        ticket = _decoder.decode(sealed.body)
    except (msgspec.MsgspecError, RecursionError) as exc:
        raise TicketError("the ticket cannot be read") from exc
    if ticket.swarm_id != swarm_id:
        raise TicketError("the ticket is for another swarm")
    if ticket.node_id != node_id:
        raise TicketError("the ticket is for another node")
    if not 0 < ticket.lifetime_s <= MAX_LIFETIME_S:
        raise TicketError(f"a ticket cannot live for {ticket.lifetime_s} s")
    if fault := plan_fault(ticket.plan):
        raise TicketError(f"the ticket's plan cannot be: {fault}")
    if stage_of(ticket.plan, node_id) is None:
        raise TicketError("the ticket's plan has no work for this node")
    return ticket


class Permits:
    """The tickets of one ring stream on the node that runs the work. One stream, one `nonce`, one plan.

    A ring may live as long as the longest of its tickets; a request as long as its own.
    """

    def __init__(self, *, node_id: str, swarm_id: str, nonce: str, is_signed: IsSigned, clock: Clock) -> None:
        self._node_id, self._swarm_id, self._nonce = node_id, swarm_id, nonce
        self._is_signed, self._clock = is_signed, clock
        self._sequence = 0
        self._plan: RingPlan | None = None
        self._ends_at = 0.0
        self._admitted: dict[str, float] = {}

    def open(self, sealed: Sealed) -> Ticket:
        """Check the ticket that opens the ring; its plan is the stream's from now on.

        Raises:
            TicketError: the ticket does not hold; the message says in what.
        """
        if self._plan is not None:
            raise TicketError("this stream has opened its ring already")
        ticket = self._check(sealed)
        self._plan = ticket.plan
        self._ends_at = self._clock() + ticket.lifetime_s
        return ticket

    def admit(self, request_id: str, sealed: Sealed | None) -> Ticket:
        """Check the ticket of one request on the open ring.

        Raises:
            TicketError: the ticket does not hold, or is not for this request and ring.
        """
        if sealed is None:
            raise TicketError("a request without a ticket")
        ticket = self._check(sealed)
        if ticket.plan != self._plan:
            raise TicketError("the ticket is for another ring")
        if ticket.request_id != request_id:
            raise TicketError("the ticket is for another request")
        if len(self._admitted) >= MAX_ADMITTED:
            raise TicketError("too many requests are open on this ring")
        self._admitted[request_id] = self._clock() + ticket.lifetime_s
        self._ends_at = max(self._ends_at, self._admitted[request_id])
        return ticket

    def is_admitted(self, request_id: str) -> bool:
        """The request has a ticket that is still valid."""
        return self._admitted.get(request_id, 0.0) > self._clock()

    def dismiss(self, request_id: str) -> bool:
        """The request is over, whatever its ticket says. Gives whether it was admitted."""
        return self._admitted.pop(request_id, None) is not None

    def expired(self) -> list[str]:
        """Take out the requests whose time is over."""
        now = self._clock()
        over = [request_id for request_id, end in self._admitted.items() if end <= now]
        for request_id in over:
            del self._admitted[request_id]
        return over

    @property
    def is_over(self) -> bool:
        """No ticket of this ring is valid any more."""
        return self._clock() >= self._ends_at

    def _check(self, sealed: Sealed) -> Ticket:
        ticket = _read_ticket(sealed, is_signed=self._is_signed, swarm_id=self._swarm_id, node_id=self._node_id)
        if ticket.nonce != self._nonce:
            raise TicketError("the ticket is for another stream")
        if ticket.sequence != self._sequence:
            raise TicketError(f"ticket {ticket.sequence} was shown where {self._sequence} comes next: a replay")
        self._sequence += 1
        return ticket


class PiecePermits:
    """The tickets that other nodes show to the holder of a model, to fetch the pieces of their layers.

    The nonce in such a ticket belongs to the stream between its node and the coordinator, so a holder cannot know it:
    what binds the ticket here is that its node shows it over its own authenticated connection. Its lifetime counts
    from the moment this holder first saw it; a holder that restarts counts anew.
    """

    def __init__(self, *, swarm_id: str, is_signed: IsSigned, clock: Clock) -> None:
        self._swarm_id, self._is_signed, self._clock = swarm_id, is_signed, clock
        self._ends_at: dict[bytes, float] = {}

    def check(self, sealed: Sealed, node_id: str, model_digest: str) -> tuple[Ticket, StagePlan]:
        """Check a ticket that `node_id` shows for a model; give back the ticket and the node's layer range.

        Raises:
            TicketError: the ticket does not hold, is not for this model, or its time is over.
        """
        ticket = _read_ticket(sealed, is_signed=self._is_signed, swarm_id=self._swarm_id, node_id=node_id)
        if ticket.plan.model_digest != model_digest:
            raise TicketError("the ticket is for another model")
        now = self._clock()
        name = hashlib.sha256(sealed.body).digest()
        if name not in self._ends_at:
            self._make_room(now)
            self._ends_at[name] = now + ticket.lifetime_s
        if now >= self._ends_at[name]:
            raise TicketError("the ticket's time is over")
        index = stage_of(ticket.plan, node_id)
        assert index is not None  # _read_ticket refuses others
        return ticket, ticket.plan.stages[index]

    def _make_room(self, now: float) -> None:
        """Forget tickets whose time is over. Shown again, one would count as new: its node has those pieces anyway."""
        if len(self._ends_at) < MAX_SEEN:
            return
        self._ends_at = {name: end for name, end in self._ends_at.items() if end > now}
        if len(self._ends_at) >= MAX_SEEN:
            raise TicketError("this node remembers too many tickets", hint="Wait a while and try again.")
