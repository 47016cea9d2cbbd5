"""A rule: where matching requests may run. Ordered; the first that matches decides; no match refuses."""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

from mycoswarm.routing.snapshot import Asked, NodeState

SplitPolicy = Literal["solo", "split allowed", "split required"]


@dataclass(frozen=True, slots=True)
class Run:
    """Run on the adopted nodes at these places, under this split policy."""

    places: tuple[str, ...] = ("this-machine", "LAN")
    split: SplitPolicy = "split allowed"

    def fault(self, node: NodeState) -> str | None:
        """Say why the node is not among those this action names, or None where it is."""
        return (
            None if node.place in self.places else f"it is {node.place}, and the rule names {' and '.join(self.places)}"
        )


@dataclass(frozen=True, slots=True)
class Rule:
    """`model` is a glob over the model's name."""

    name: str
    action: Run
    model: str = "*"

    def mismatch(self, asked: Asked) -> str | None:
        """Say the first condition that fails, or None where the rule matches."""
        return None if fnmatchcase(asked.model, self.model) else f"model {asked.model!r} does not match {self.model!r}"


DEFAULT_RULE = Rule(name="any adopted node on this LAN", action=Run())
