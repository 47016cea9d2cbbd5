"""Orders: what a stage is told, by the coordinator over the ring stream and by its daemon over stdin. JSON lines."""

import msgspec

from mycoswarm.wire.plan import RingPlan
from mycoswarm.wire.request import Embedding, Generation
from mycoswarm.wire.ticket import Sealed


class Neighbour(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The stage before or after: its pinned certificate and where it listens."""

    node_id: str
    certificate_pem: str
    addresses: tuple[str, ...]
    port: int


class Order(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="order"):
    """Base of all orders."""


class Open(Order, frozen=True, tag="open"):
    """Coordinator to node, first on a ring stream after the node's nonce: open one stage.

    `directory` gives addresses ("host:port" of peer listeners) by node id, as hints: identity decides.
    """

    ticket: Sealed
    directory: dict[str, tuple[str, ...]]


class Configure(Order, frozen=True, tag="configure"):
    """Daemon to stage, first line on stdin: what to load. Paths are on this machine.

    `shard_paths` are GGUF splits in order (one file where the model runs whole); `table_path` is the token table that
    the first stage of a split ring looks its input up in, with each row times `table_scale`. `output_name` is what the
    architecture calls a layer's output.
    """

    plan: RingPlan
    index: int
    shard_paths: tuple[str, ...]
    table_path: str | None
    addresses: tuple[str, ...]
    gpu: bool = True
    output_name: str = "l_out"
    table_scale: float = 1.0


class Join(Order, frozen=True, tag="join"):
    """Both neighbours, once all stages are ready. None and None in a ring of one."""

    previous: Neighbour | None
    following: Neighbour | None


class Admit(Order, frozen=True, tag="admit"):
    """This request may use the ring. The coordinator sends the ticket to every node; the daemon checks it and tells its
    stage without it."""

    request_id: str
    ticket: Sealed | None = None


class Generate(Order, frozen=True, tag="generate"):
    """To the head only, after every node has admitted the request."""

    generation: Generation


class Embed(Order, frozen=True, tag="embed"):
    """To the one stage of a ring with pooling, after it has admitted the request."""

    embedding: Embedding


class Cancel(Order, frozen=True, tag="cancel"):
    """The client hung up: stop computing for this request on every stage."""

    request_id: str


class Ping(Order, frozen=True, tag="ping"):
    """Sign of life; nothing else."""


AnyOrder = Open | Configure | Join | Admit | Generate | Embed | Cancel | Ping
