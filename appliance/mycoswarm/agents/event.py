"""What is told of a run while it goes on, and how runs end."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from mycoswarm.swarm.place import Place
from mycoswarm.wire.tool import ToolCall, ToolResult

End = Literal["answer", "max_steps", "tokens", "time", "loop", "context", "cancelled", "error"]
# "answer": the model said all it had to. "max_steps", "tokens", "time": that part of the budget is used up. "loop": the
# same call with the same arguments came too often. "context": the model's context is full. "cancelled": somebody
# stopped it. "error": what `Ended.code` and `Ended.message` say.


@dataclass(frozen=True, slots=True)
class StepBegun:
    """The model is asked. `step` counts from 1."""

    step: int


@dataclass(frozen=True, slots=True)
class Heard:
    """Who reads the prompt of this step: nodes or an endpoint, by the rule of this name. `receipt`: see the ledger.
    `ran`: the furthest place that does, proved."""

    nodes: tuple[str, ...]
    rule: str
    receipt: str
    ran: Place


@dataclass(frozen=True, slots=True)
class TextPiece:
    """Text of the model, as it comes."""

    text: str


@dataclass(frozen=True, slots=True)
class CallBegun:
    """The model called a tool."""

    call: ToolCall


@dataclass(frozen=True, slots=True)
class CallEnded:
    """What came of a call: a result, or why there is none."""

    call: ToolCall
    result: ToolResult


@dataclass(frozen=True, slots=True)
class ApprovalAwaited:
    """The owner is asked. `approval` is what `approvals allow` takes. `detail`: a tool's arguments."""

    approval: str
    task: str
    destination: str
    rule: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class StepEnded:
    """The model has spoken; tokens of this step. `tokens_per_s`: how fast it wrote, None where nobody measured."""

    step: int
    prompt_tokens: int
    completion_tokens: int
    tokens_per_s: float | None = None


@dataclass(frozen=True, slots=True)
class Nested:
    """Something that a sub-agent told. `agent` is its number within the run, `name` its agent file's."""

    agent: str
    name: str
    event: "AgentEvent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The end, and always the last event. `answer` is the last text of the model, whole or not. `labels`: what was
    touched; the answer is under them wherever it goes. `tokens_per_s`: of all steps that were measured."""

    end: End
    answer: str
    steps: int
    prompt_tokens: int
    completion_tokens: int
    code: str | None = None
    message: str | None = None
    labels: tuple[str, ...] = ()
    tokens_per_s: float | None = None


AgentEvent = StepBegun | Heard | TextPiece | CallBegun | CallEnded | ApprovalAwaited | StepEnded | Nested | Ended
Tell = Callable[[AgentEvent], None]

_NAMES: dict[type, str] = {
    StepBegun: "step",
    Heard: "heard",
    TextPiece: "text",
    CallBegun: "call",
    CallEnded: "result",
    ApprovalAwaited: "approval",
    StepEnded: "tokens",
    Nested: "sub_agent",
    Ended: "end",
}


def told(event: AgentEvent) -> dict[str, Any]:
    """An event as JSON values; `event` is its kind."""
    name = _NAMES[type(event)]
    if isinstance(event, CallBegun):
        return {"event": name, **_call(event.call)}
    if isinstance(event, CallEnded):
        result = event.result
        seconds = round(result.seconds, 3)
        return {
            "event": name,
            **_call(event.call),
            "ok": result.ok,
            "text": result.text,
            "node": result.node,
            "ran": result.ran,
            "seconds": seconds,
        }
    if isinstance(event, Nested):
        return {"event": name, "agent": event.agent, "name": event.name, "told": told(event.event)}
    return {"event": name, **asdict(event)}


def _call(call: ToolCall) -> dict[str, Any]:
    return {"id": call.id, "tool": call.name, "arguments": call.arguments}
