"""One request as the edge hands it on, and what its asker hears while it is answered."""

from dataclasses import dataclass, field

from mycoswarm.routing.decision import Decision, Dispatch
from mycoswarm.routing.snapshot import Narrowing
from mycoswarm.swarm.place import Place
from mycoswarm.wire.plan import RingPlan
from mycoswarm.wire.report import Finished, Piece, Vector
from mycoswarm.wire.request import Prompt, Sampling
from mycoswarm.wire.tool import AS_IT_LIKES, ToolCall, ToolChoice


@dataclass(frozen=True, slots=True, kw_only=True)
class Asker:
    """Who asks. `key_name` None is the owner, over the socket; `issued_at` is when the key was made, for another of its
    name is another key. `labels` and `user` are those of the key; `added` are labels that the request brings itself.
    `client` is the address that it came from. `via`: the runs of daemons that it has passed as an endpoint's request.
    """

    key_name: str | None = None
    issued_at: float | None = None
    user: str | None = None
    labels: frozenset[str] = frozenset()
    added: frozenset[str] = frozenset()
    client: str | None = None
    via: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One request, checked at the edge. `characters` counts the prompt's text. `choice` is for the prompt's tools.

    Where the task is embedding, the texts are `inputs`, there is no prompt, and `dimensions` is how wide the vectors
    are to be, where the asker says so. `only_loads`: the model is to be loaded where the rules say, and nothing asked.
    """

    request_id: str
    model: str
    task: str
    prompt: Prompt = field(default_factory=Prompt)
    sampling: Sampling = field(default_factory=Sampling)
    inputs: tuple[str, ...] = ()
    dimensions: int | None = None
    narrowing: Narrowing = field(default_factory=Narrowing)
    asker: Asker = field(default_factory=Asker)
    characters: int = 0
    choice: ToolChoice = AS_IT_LIKES
    only_loads: bool = False


@dataclass(frozen=True, slots=True)
class Decided:
    """Where the answer is being produced. Comes again when a node was lost and the rules were asked again.

    `plan` is None where an endpoint answers. `place`: the furthest place that reads the prompt, proved.
    """

    decision: Decision | Dispatch
    plan: RingPlan | None
    attempt: int
    place: Place

    @property
    def names(self) -> tuple[str, ...]:
        """The nodes, or the endpoint, that read the prompt."""
        if isinstance(self.decision, Dispatch):
            return (self.decision.endpoint.name,)
        return tuple(share.node.name for share in self.decision.placed.shares)


Event = Decided | Piece | ToolCall | Vector | Finished
