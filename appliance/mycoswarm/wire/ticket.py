"""A ticket: the coordinator's signed word that one node may do one piece of work (DESIGN 4)."""

import msgspec

from mycoswarm.wire.plan import RingPlan

RELEASE = "release"  # the "tool" of a ticket that ends a workspace


class Warrant(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The decision that work stands on. `version` is that of all rules, `action` 0 the rule's first, more a fallback.

    `receipt` is the digest of the decision's row in the coordinator's ledger, so the two ledgers can be compared.
    """

    rule: str
    rule_id: int = 0
    version: int = 0
    action: int = 0
    task: str = "chat"
    labels: tuple[str, ...] = ()
    receipt: str = ""


class Ticket(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of a ticket. `nonce` is the one that the node chose for this stream, so a ticket works once, there.

    `sequence` counts the tickets of one stream from 0 and never repeats. `lifetime_s` counts from receipt on the
    node's monotonic clock. `request_id` is None for the opening of a ring that no request waits for."""

    swarm_id: str
    node_id: str
    nonce: str
    sequence: int
    lifetime_s: float
    warrant: Warrant
    plan: RingPlan
    request_id: str | None = None


class ToolTicket(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="ticket", tag="tool"):
    """Body of a ticket for one call of a tool, or, where `tool` is "release", for the end of a workspace.

    `nonce`, `sequence` and `lifetime_s` as in `Ticket`. `digest` is SHA-256 of the arguments' text in hex, `means`
    that of what the owner set for the tool, "" for nothing. `within_s`: how long the tool may take. `unconfined`: the
    owner's rule lets it run where there is no sandbox.
    """

    swarm_id: str
    node_id: str
    nonce: str
    sequence: int
    lifetime_s: float
    warrant: Warrant
    tool: str
    digest: str
    run_id: str
    workspace_id: str
    within_s: float = 30.0
    unconfined: bool = False
    means: str = ""


class Sealed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Exact body bytes and the coordinator's signature over them. The bytes are kept: nothing is encoded again."""

    body: bytes
    signature: bytes
