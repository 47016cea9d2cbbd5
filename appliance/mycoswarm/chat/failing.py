"""How an answer fails: refusals as typed errors, and what may be tried elsewhere."""

from dataclasses import replace

from mycoswarm.base.errors import (
    BusyError,
    CapacityError,
    CaptureError,
    EndpointError,
    NotFoundError,
    ProtocolError,
    RefusedError,
    RingError,
    SplitError,
    StageError,
    StorageError,
    SwarmError,
    UnreachableError,
)
from mycoswarm.routing.decision import Decision, Dispatch, Refusal


def may_try_again(error: RingError) -> bool:
    """Whether another ring could do what this one could not: a lost node or a dead process, not a bug of ours."""
    if isinstance(error, CaptureError | ProtocolError) or error.code == "ring_closed":
        return False
    return error.lost_node_id is not None or error.code in (RingError.code, StageError.code)


def is_endpoint_lost(error: SwarmError) -> bool:
    """Whether an endpoint failed in a way that lets a rule's fallback take over, if it has one."""
    return isinstance(error, EndpointError | UnreachableError)


def plainly(error: SwarmError) -> str:
    """An error for a log: in words only where those are ours. An endpoint, or a model's template, may repeat the prompt
    in its own."""
    return error.message if isinstance(error, _OWN_WORDS) and error.code != "endpoint_busy" else f"({error.code})"


def speak_of_names(error: RingError, decision: Decision) -> None:
    """Let an error name nodes as their owner does."""
    text = error.message
    for share in decision.placed.shares:
        text = text.replace(share.node.node_id, share.node.name)
    error.args = (text,)


def nobody_left(loss: SwarmError, refusal: Refusal) -> SwarmError:
    """The typed error of an answer that nothing allowed can carry on."""
    message = f"{loss.message}; nothing that is allowed can go on: {refusal.message}"
    error = type(loss)(message, hint=loss.hint) if type(loss) in _KINDS else RingError(message, hint=loss.hint)
    error.code = loss.code
    if isinstance(error, RingError) and isinstance(loss, RingError):
        error.lost_node_id = loss.lost_node_id
    return error


def refused(refusal: Refusal) -> SwarmError:
    """The typed error of a refusal."""
    if refusal.code == "out_of_memory":
        return CapacityError(refusal.message)
    if refusal.code == "cannot_split":
        return SplitError(refusal.message)
    if refusal.code in ("not_found", "model_not_found"):
        return NotFoundError(refusal.message, code=refusal.code)
    if refusal.code == "denied_by_rule":
        hint = "The owner of this swarm has a rule against it; `mycoswarm-node rules list` shows it."
        return RefusedError(refusal.message, hint=hint, code=refusal.code)
    return RefusedError(refusal.message)


def nothing_to_load(dispatch: Dispatch) -> Refusal:
    """The refusal of loading where the rules send to an endpoint."""
    message = f"the rules send to the endpoint {dispatch.endpoint.name}, and only nodes of this swarm load models"
    explanation, ground = replace(dispatch.explanation, reason=message), dispatch.ground
    return Refusal("refused_by_rules", message, explanation, ground.rule_id, ground.version)


_OWN_WORDS = (RingError, UnreachableError, BusyError, RefusedError, CapacityError, StorageError, NotFoundError)
_KINDS = (RingError, EndpointError, UnreachableError)
