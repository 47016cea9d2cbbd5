"""What a rule does with the requests it is for: run on nodes, send to an endpoint, ask a person, or deny."""

from typing import Literal

import msgspec

from mycoswarm.routing.clause import is_word
from mycoswarm.routing.selector import FACTS, read_fact
from mycoswarm.routing.snapshot import NodeState
from mycoswarm.swarm.place import PLACES, Place

SplitPolicy = Literal["solo", "split allowed", "split required"]

MAX_NAMES = 256  # nodes, tags, facts: as many as a roster has
MAX_WORD = 200  # characters
MAX_FALLBACKS = 8
MAX_MESSAGE = 500
MAX_ASK_S = 3600.0


class Run(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, tag="run", tag_field="do"
):
    """Run on the adopted nodes that all given parts name, under this split policy.

    `nodes`: names or ids, one of them. `tags` and `facts`: all of them. `places`: how far away a node may be. `prefer`:
    names or ids in the order in which to try them before all others. `sandbox`, of tools: "optional" lets one run where
    the node has no sandbox.
    """

    nodes: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    facts: tuple[str, ...] = ()
    places: tuple[Place, ...] = ("this-machine", "LAN")
    split: SplitPolicy = "split allowed"
    prefer: tuple[str, ...] = ()
    sandbox: Literal["required", "optional"] = "required"

    def fault(self, node: NodeState) -> str | None:
        """Say why the node is not among those this action names, or None where it is."""
        if self.nodes and node.name not in self.nodes and node.node_id not in self.nodes:
            return "the rule names other nodes"
        if node.place not in self.places:
            return f"it is {node.place}, and the rule names {' and '.join(self.places)}"
        for tag in self.tags:
            if tag not in node.tags:
                return f"it has no tag {tag!r}"
        for text in self.facts:
            check = read_fact(text)
            why = f"the rule's {text!r} cannot be read" if check is None else check.fault(node)
            if why is not None:
                return why
        return None

    def words(self) -> str:
        """The action in the owner's words."""
        named = [*self.nodes, *(f"tag {tag}" for tag in self.tags), *self.facts]
        where = ", ".join(named) if named else "any adopted node"
        bare = "; tools without a sandbox too" if self.sandbox == "optional" else ""
        return f"run on {where} ({', '.join(self.places)}; {self.split}{bare})"


class External(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
    tag="external",
    tag_field="do",
):
    """Send to the endpoint of this name. `model`: what the model is called there; None is as the request calls it."""

    name: str
    model: str | None = None

    def words(self) -> str:
        """The action in the owner's words."""
        return f"send to the endpoint {self.name}" + (f" as {self.model}" if self.model else "")


class Ask(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, tag="ask", tag_field="do"
):
    """Wait for the owner's yes, then do `then`. No answer within `within_s` seconds is a no."""

    then: Run | External
    within_s: float = 120.0

    def words(self) -> str:
        """The action in the owner's words."""
        return f"ask the owner, then {self.then.words()}"


class Deny(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
    tag="deny",
    tag_field="do",
):
    """Refuse, with a message for whoever asked."""

    message: str = "the owner's rules do not allow this"

    def words(self) -> str:
        """The action in the owner's words."""
        return "deny"


Action = Run | External | Ask | Deny
Step = Run | External | Ask  # what a fallback may be


def unwrapped(action: Action) -> Run | External | Deny:
    """What is done in the end."""
    return action.then if isinstance(action, Ask) else action


def action_fault(action: Action) -> str | None:
    """Say what is wrong with an action, or None where it is sound."""
    if isinstance(action, Ask) and not 1 <= action.within_s <= MAX_ASK_S:
        return f"within_s must be from 1 to {MAX_ASK_S:g} seconds"
    done = unwrapped(action)
    if isinstance(done, Deny):
        return None if is_word(done.message, MAX_MESSAGE) else f"a message has 1 to {MAX_MESSAGE} visible characters"
    if isinstance(done, External):
        named = (done.name, *((done.model,) if done.model is not None else ()))
        if not all(is_word(text, MAX_WORD) for text in named):
            return f"an endpoint's name and its model have 1 to {MAX_WORD} visible characters"
        return None
    lists = (done.nodes, done.tags, done.facts, done.prefer)
    if any(len(one) > MAX_NAMES or not all(is_word(word, MAX_WORD) for word in one) for one in lists):
        return f"a list has at most {MAX_NAMES} entries, each of 1 to {MAX_WORD} visible characters"
    if not 0 < len(done.places) <= len(PLACES):
        return "places must name this-machine, LAN or outside"
    if wrong := [text for text in done.facts if read_fact(text) is None]:
        return f"{wrong[0]!r} is no condition on a fact such as vram_bytes >= 24GiB; there are {', '.join(FACTS)}"
    return None
