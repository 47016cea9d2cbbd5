"""The coordinator's decisions against the tickets that each node has in its own ledger. Pure, and believes nobody.

What a ticket says is read from its signed text, so a node cannot put words into the coordinator's mouth. Covered: work
that no decision stands for (or the coordinator's ledger was put back or replaced), work other than what was decided, a
call of a tool that was decided once and sent twice, and a finished answer or call of which a node that took part knows
nothing. Not covered: a coordinator and a node that both wrote their ledgers anew, with their keys, to agree; and nodes
that did not answer.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import msgspec

from mycoswarm.store.chain import Row
from mycoswarm.store.record import ANSWER
from mycoswarm.store.summary import body_of, mappings
from mycoswarm.wire.ticket import RELEASE, Ticket, ToolTicket

MAX_DISCREPANCIES = 100
MAX_RECEIPTS = 1_000_000  # of one node, at some 150 bytes each: years of a household
FINISHED = ("stop", "length")  # outcomes of an answer that was made to its end: every node of its ring took a ticket

Kind = Literal["no_decision", "differs", "unsigned", "unreadable", "no_ticket"]
AnyTicket = TypeVar("AnyTicket", Ticket, ToolTicket)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call of a tool that a decision lets one node carry out. `arguments`: their digest. `workspace`, `unconfined`,
    `means`: None where the row is older than they are."""

    node_id: str
    tool: Any
    arguments: Any
    workspace: Any = None
    unconfined: Any = None
    means: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pledge:
    """A decision of the coordinator: what it lets nodes do. `shares`: layers [first, last) by node id; none where it
    is no decision to run on nodes. `call`: None where it is none on a call of a tool that takes a ticket."""

    row: int
    digest: str
    request_id: str | None
    rule: Any
    version: Any
    task: Any
    labels: Any
    model_digest: Any
    shares: Mapping[str, tuple[int, int]]
    call: Call | None = None

    @property
    def node_ids(self) -> frozenset[str]:
        """Whom it lets work."""
        return frozenset(self.shares) if self.call is None else frozenset({self.call.node_id})


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A row of a node about a ticket. `request_id` and `receipt` are what the row says; `ticket` what was signed, None
    where that cannot be read; `is_signed`: by this swarm's coordinator."""

    row: int
    request_id: str | None
    receipt: str
    ticket: Ticket | ToolTicket | None
    is_signed: bool


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """What does not fit, at which row of which node's ledger (None: a row that is missing). `words` is a sentence."""

    kind: Kind
    node_id: str
    node: str
    row: int | None
    request_id: str | None
    words: str


class Comparison:
    """Give it all tickets of each node, then all decisions. `names` are the nodes' names by id."""

    def __init__(self, swarm_id: str, names: Mapping[str, str]) -> None:
        self._swarm_id, self._names = swarm_id, names
        self._receipts: dict[str, set[bytes]] = {}
        self._complete: set[str] = set()
        self.found: list[Discrepancy] = []
        self.more = 0  # further discrepancies, not listed
        self.tickets = 0
        self.foreign = 0  # tickets of another swarm that the node belonged to, or of the node when it was alone
        self.decisions = 0
        self.untraced = 0  # decisions to run that some node has no ticket for, and whose answer was not finished
        self.unchecked = 0  # decisions that name a node whose tickets were not read whole

    def begin(self, node_id: str) -> None:
        """A node's tickets are about to come."""
        self._receipts.setdefault(node_id, set())

    def take(self, node_id: str, taken: Taken, pledge: Pledge | None) -> None:
        """Hold a ticket against the decision that its receipt names; None: the coordinator has no such decision."""
        self.tickets += 1
        ticket = taken.ticket
        if ticket is None:
            self._note("unreadable", node_id, taken, "holds no ticket that can be read")
            return
        receipts = self._receipts.setdefault(node_id, set())
        receipt = ticket.warrant.receipt.encode("utf-8", "replace")[:64]
        is_second = isinstance(ticket, ToolTicket) and not is_release(ticket) and receipt in receipts
        if len(receipts) < MAX_RECEIPTS and (ticket.swarm_id != self._swarm_id or taken.is_signed):
            receipts.add(receipt)
        if ticket.swarm_id != self._swarm_id:
            self.foreign += 1
            return
        if not taken.is_signed:
            self._note("unsigned", node_id, taken, "holds a ticket that the coordinator did not sign")
        elif (taken.request_id, taken.receipt) != (request_of(ticket), ticket.warrant.receipt):
            self._note("differs", node_id, taken, "does not say what its ticket says")
        elif pledge is None:
            self._note(
                "no_decision",
                node_id,
                taken,
                "holds a signed ticket whose receipt is none of the coordinator's decisions: work without a decision,"
                " or the coordinator's ledger was put back to an older copy or replaced",
            )
        elif is_second:
            self._note("no_decision", node_id, taken, "holds a second ticket for a call that was decided once")
        elif fault := _fault(node_id, ticket, pledge):
            self._note("differs", node_id, taken, f"holds a ticket that is not what was decided: {fault}")

    def end(self, node_id: str) -> None:
        """All of a node's tickets have come."""
        if len(self._receipts.setdefault(node_id, set())) < MAX_RECEIPTS:
            self._complete.add(node_id)

    def lacking(self, pledge: Pledge) -> tuple[str, ...]:
        """Count a decision; gives the nodes it names, of those read whole, that have no ticket for it."""
        self.decisions += 1
        if not pledge.node_ids <= self._complete:
            self.unchecked += 1
        digest = pledge.digest.encode("utf-8", "replace")
        return tuple(
            node_id for node_id in sorted(pledge.node_ids & self._complete) if digest not in self._receipts[node_id]
        )

    def judge(self, pledge: Pledge, lacking: tuple[str, ...], *, is_finished: bool) -> None:
        """Say what it means that these nodes have no ticket. `is_finished`: the answer was made to its end on them,
        or they told what came of the call.

        Where it was not, they may never have been asked: the ring did not open, or the request was cancelled before.
        """
        if not is_finished:
            self.untraced += 1
            return
        what = "which was answered to its end with its help"
        if pledge.call is not None:
            what = f"for which it carried out {pledge.call.tool}"
        for node_id in lacking:
            words = (
                f"{self._name(node_id)} has no ticket for request {pledge.request_id}, {what}"
                f" (row {pledge.row} of the coordinator): a row is gone, or its ledger was replaced"
            )
            self._add(Discrepancy("no_ticket", node_id, self._name(node_id), None, pledge.request_id, words))

    def _note(self, kind: Kind, node_id: str, taken: Taken, what: str) -> None:
        request_id = request_of(taken.ticket) if taken.ticket is not None else taken.request_id
        name = self._name(node_id)
        words = f"row {taken.row} of {name} (request {request_id}) {what}"
        self._add(Discrepancy(kind, node_id, name, taken.row, request_id, words))

    def _add(self, discrepancy: Discrepancy) -> None:
        if len(self.found) < MAX_DISCREPANCIES:
            self.found.append(discrepancy)
        else:
            self.more += 1

    def _name(self, node_id: str) -> str:
        return self._names.get(node_id, node_id)


def pledge_of(row: Row) -> Pledge | None:
    """A decision's row as what it pledges; None where it was altered and cannot be read."""
    body = body_of(row)
    if body is None or not isinstance(asked := body.get("asked"), dict):
        return None
    is_tool, call = body.get("outcome") == "tool", None
    shares: dict[str, tuple[int, int]] = {}
    for node in mappings(body.get("nodes")):
        node_id, layers = node.get("id"), node.get("layers")
        if not isinstance(node_id, str):
            return None
        if is_tool:
            call = _call(node_id, body)
        elif not isinstance(layers, list) or len(layers) != 2:
            return None
        else:
            shares[node_id] = (layers[0], layers[1])
    return Pledge(
        row=row.seq,
        digest=row.digest,
        request_id=row.request_id,
        rule=body.get("rule"),
        version=body.get("version"),
        task=asked.get("task"),
        labels=sorted(_words(asked.get("labels")) | _words(asked.get("added"))),
        model_digest=asked.get("model_digest"),
        shares=shares if body.get("outcome") == "run" else {},
        call=call,
    )


def _call(node_id: str, body: Mapping[str, Any]) -> Call | None:
    if body.get("by_ticket") is False:
        return None  # the coordinator carried it out by itself
    return Call(
        node_id=node_id,
        tool=body.get("tool"),
        arguments=body.get("arguments"),
        workspace=body.get("workspace"),
        unconfined=body.get("unconfined"),
        means=body.get("means"),
    )


def pledge_for(node_id: str, ticket: Ticket | ToolTicket, pledges: Iterable[Pledge]) -> Pledge | None:
    """Of the decisions of its request, the one that a ticket stands on. The end of a workspace is decided by no rule:
    it stands on any call that brought the run there."""
    if is_release(ticket):
        return next((one for one in pledges if one.call is not None and node_id in one.node_ids), None)
    return next((one for one in pledges if one.digest == ticket.warrant.receipt), None)


def carried_out(row: Row) -> str | None:
    """The digest of the decision whose call a node carried out, by the row of how the call ended; None where no node
    told what came of it, or the row was altered and cannot be read."""
    body = body_of(row) or {}
    receipt = body.get("receipt")
    return receipt if body.get("was_answered") is True and isinstance(receipt, str) else None


def is_finished(pledge: Pledge, rows: tuple[Row, ...]) -> bool:
    """Whether an answer was made to its end by this decision, by all rows of its request: the last that lets run."""
    outcomes = [(body_of(row) or {}).get("outcome") for row in rows if row.kind == ANSWER]
    last = max((one.row for row in rows if (one := pledge_of(row)) is not None), default=0)
    return pledge.row == last and any(outcome in FINISHED for outcome in outcomes)


def read_ticket(body: bytes, kind: type[AnyTicket]) -> AnyTicket | None:
    """A ticket of this kind out of its signed text; None where that is none, or another version's."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def request_of(ticket: Ticket | ToolTicket) -> str | None:
    """The request, or the run, that a ticket is for."""
    return ticket.run_id if isinstance(ticket, ToolTicket) else ticket.request_id


def is_release(ticket: Ticket | ToolTicket) -> bool:
    """Whether it only ends a workspace."""
    return isinstance(ticket, ToolTicket) and ticket.tool == RELEASE


def _fault(node_id: str, ticket: Ticket | ToolTicket, pledge: Pledge) -> str | None:
    """In what a ticket differs from its decision."""
    warrant = ticket.warrant
    if ticket.node_id != node_id:
        return f"it is for node {ticket.node_id}"
    if request_of(ticket) != pledge.request_id:
        return f"it is for request {request_of(ticket)}, the decision was on {pledge.request_id}"
    if is_release(ticket):
        return None
    fault = _call_fault(ticket, pledge.call) if isinstance(ticket, ToolTicket) else _plan_fault(ticket, pledge)
    return fault or _difference(
        ("rule", warrant.rule, pledge.rule),
        ("version of the rules", warrant.version, pledge.version),
        ("task", warrant.task, pledge.task),
        ("labels", list(warrant.labels), pledge.labels),
    )


def _plan_fault(ticket: Ticket, pledge: Pledge) -> str | None:
    layers = {stage.node_id: (stage.first, stage.last) for stage in ticket.plan.stages}
    if layers != pledge.shares:
        mine, decided = layers.get(ticket.node_id), pledge.shares.get(ticket.node_id)
        return f"its layers are {_range(mine)}, the decision's {_range(decided)}" if mine != decided else "other nodes"
    return _difference(("model", ticket.plan.model_digest, pledge.model_digest))


def _call_fault(ticket: ToolTicket, call: Call | None) -> str | None:
    if call is None:
        return f"it lets {ticket.tool} run, and the decision was on no call for a node"
    return _difference(
        ("node", ticket.node_id, call.node_id),
        ("tool", ticket.tool, call.tool),
        ("arguments' digest", ticket.digest, call.arguments),
        ("workspace", ticket.workspace_id, _known(call.workspace, ticket.workspace_id)),
        ("leave to run without a sandbox", ticket.unconfined, _known(call.unconfined, ticket.unconfined)),
        ("set-up by the owner", ticket.means, _known(call.means, ticket.means)),
    )


def _difference(*pairs: tuple[str, Any, Any]) -> str | None:
    """The first that a ticket says otherwise than was meant."""
    for what, said, meant in pairs:
        if said != meant:
            return f"its {what} is {said!r}, the decision's {meant!r}"
    return None


def _known(decided: Any, said: Any) -> Any:
    """What was decided; what is said where the decision's row does not tell."""
    return said if decided is None else decided


def _range(layers: tuple[int, int] | None) -> str:
    return "none" if layers is None else f"[{layers[0]}, {layers[1]})"


def _words(value: Any) -> set[str]:
    return {word for word in value if isinstance(word, str)} if isinstance(value, list) else set()
