"""The loop: ask the model, run the tools that it calls, tell it what came of them, ask again, until it has answered.

It knows neither models nor tools nor rules: it is given functions. What may happen in it is bounded: steps, tokens,
seconds, calls in one step, the length and time of each call, and the same call again. Each end is typed and told.
Which tools an agent has is decided before: a call of any other runs nothing, whatever text has asked for it.
"""

import asyncio
import contextlib
import json
import logging
import math
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from mycoswarm.agents.event import CallBegun, CallEnded, End, Ended, Heard, StepBegun, StepEnded, Tell, TextPiece
from mycoswarm.agents.purse import Budget, Purse
from mycoswarm.agents.quotation import bounded, quoted
from mycoswarm.base.errors import SwarmError
from mycoswarm.wire.report import Timing
from mycoswarm.wire.tool import ToolCall, ToolResult, ToolSpec

MAX_CALLS = 16  # in one step; a model that wants more has lost its way
MAX_SAME = 3  # the same call with the same arguments ends a run the third time
FULL = "context_length_exceeded"  # the code of a prompt that no longer fits

Message = dict[str, Any]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Spoken:
    """The model has finished its step. `is_cut`: it had more to say, and no room or tokens for it. `timing`: of the
    ring, None where an endpoint spoke."""

    prompt_tokens: int
    completion_tokens: int
    is_cut: bool = False
    timing: Timing | None = None


Said = Heard | TextPiece | ToolCall | Spoken


class Ask(Protocol):
    """Has a model speak: any text and calls, last `Spoken`, after at most `most_tokens`. Raises SwarmError."""

    def __call__(
        self, messages: Sequence[Message], tools: Sequence[ToolSpec], most_tokens: int
    ) -> AsyncGenerator[Said, None]:
        """One step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What a loop works with. `tools`: all that this agent may call. `run` runs one of them; it raises SwarmError.

    `patience_s` is how long a tool may take, None: as long as the agent has. `nonce` fences results.
    """

    ask: Ask
    tools: tuple[ToolSpec, ...]
    run: Callable[[ToolCall], Awaitable[ToolResult]]
    tell: Tell
    nonce: str
    patience_s: Callable[[str], float | None]


class Pursuit:
    """One agent at its task."""

    def __init__(self, means: Means, messages: Sequence[Message], budget: Budget, purse: Purse) -> None:
        """`messages` begin the talk: the system prompt, what was said before, the task."""
        self._means, self._budget, self._purse = means, budget, purse
        self._messages: list[Message] = list(messages)
        self._known = {spec.name for spec in means.tools}
        self._seen: Counter[tuple[str, str]] = Counter()
        self._text = ""
        self._steps = self._prompt_tokens = self._completion_tokens = 0
        self._decoded, self._decoding_s = 0, 0.0

    async def run(self) -> Ended:
        """Work until the end, which is told, too. Cancelled, it tells so and is cancelled."""
        limit = asyncio.timeout(self._budget.seconds)
        try:
            async with limit:
                ended = self._ended(await self._work())
        except asyncio.CancelledError:
            self._means.tell(self._ended("cancelled", code="cancelled", message="the run was stopped"))
            raise
        except SwarmError as error:
            end: End = "context" if error.code == FULL else "error"
            ended = self._ended(end, code=error.code, message=f"{error.message}. {error.hint}")
        except Exception as exc:
            if isinstance(exc, TimeoutError) and limit.expired():
                ended = self._ended("time")
            else:
                log.exception("an agent failed: a bug of ours")
                ended = self._ended("error", code="internal_error", message="a bug of ours; the node's log has more")
        self._means.tell(ended)
        return ended

    def _ended(self, end: End, *, code: str | None = None, message: str | None = None) -> Ended:
        return Ended(
            end=end,
            answer=self._text,
            steps=self._steps,
            prompt_tokens=self._prompt_tokens,
            completion_tokens=self._completion_tokens,
            code=code,
            message=message or _WORDS.get(end),
            tokens_per_s=_rate(self._decoded, self._decoding_s),
        )

    async def _work(self) -> End:
        for step in range(1, self._budget.max_steps + 1):
            if self._purse.left <= 0:
                return "tokens"
            self._steps = step
            self._means.tell(StepBegun(step))
            calls, spoken = await self._ask()
            self._note(step, spoken)
            if spoken.is_cut:
                return "tokens" if self._purse.left <= 0 else "context"
            if not calls:
                return "answer"
            if step == self._budget.max_steps:
                break  # nobody would read what the tools say
            if self._purse.left <= 0:
                return "tokens"
            if self._goes_round(calls):
                return "loop"
            await self._call_all(calls)
        return "max_steps"

    async def _ask(self) -> tuple[list[ToolCall], Spoken]:
        """One step of the model: its calls and its end. Text is told as it comes."""
        calls: list[ToolCall] = []
        self._text = ""
        said = self._means.ask(tuple(self._messages), self._means.tools, self._purse.left)
        async with contextlib.aclosing(said):
            async for one in said:
                if isinstance(one, Spoken):
                    return calls, one
                if isinstance(one, ToolCall):
                    calls.append(one)
                    continue
                if isinstance(one, TextPiece):
                    self._text += one.text
                self._means.tell(one)
        raise SwarmError("the model's answer ended without its end", code="answer_broken")

    def _note(self, step: int, spoken: Spoken) -> None:
        self._purse.spend(spoken.completion_tokens)
        self._prompt_tokens += spoken.prompt_tokens
        self._completion_tokens += spoken.completion_tokens
        decoded, decoding_s = (spoken.timing.steps, spoken.timing.step_s) if spoken.timing else (0, 0.0)
        self._decoded, self._decoding_s = self._decoded + decoded, self._decoding_s + decoding_s
        speed = _rate(decoded, decoding_s)
        self._means.tell(StepEnded(step, spoken.prompt_tokens, spoken.completion_tokens, speed))

    def _goes_round(self, calls: Sequence[ToolCall]) -> bool:
        """Whether one of these was made before, just so, as often as is allowed."""
        self._seen.update((call.name, _canonical(call.arguments)) for call in calls)
        return max(self._seen.values()) >= MAX_SAME

    async def _call_all(self, calls: Sequence[ToolCall]) -> None:
        """Run the calls of one step at once, and append them and what came of them."""
        asked = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in calls
        ]
        self._messages.append({"role": "assistant", "content": self._text, "tool_calls": asked})
        async with asyncio.TaskGroup() as group:
            running = [group.create_task(self._call(index, call)) for index, call in enumerate(calls)]
        for call, done in zip(calls, running, strict=True):
            result = done.result()
            content = quoted(result.text, self._means.nonce, ok=result.ok)
            self._messages.append({"role": "tool", "tool_call_id": call.id, "name": call.name, "content": content})

    async def _call(self, index: int, call: ToolCall) -> ToolResult:
        self._means.tell(CallBegun(call))
        clock = asyncio.get_running_loop().time
        started_s = clock()
        fault = self._fault(index, call)
        if fault is None:
            result = await self._attempt(call, started_s)
        else:
            result = ToolResult(call_id=call.id, text=fault, ok=False, node=None, seconds=0.0)
        self._means.tell(CallEnded(call, result))
        return result

    def _fault(self, index: int, call: ToolCall) -> str | None:
        """Why a call is not even tried."""
        if call.name not in self._known:
            return f"you have no tool {call.name[:80]!r}; you have: {', '.join(sorted(self._known)) or 'none'}"
        if index >= MAX_CALLS:
            return f"at most {MAX_CALLS} calls in one step"
        if _arguments(call.arguments) is None:
            return "the arguments are not a JSON object"
        return None

    async def _attempt(self, call: ToolCall, started_s: float) -> ToolResult:
        clock = asyncio.get_running_loop().time
        limit = asyncio.timeout(self._means.patience_s(call.name))
        try:
            async with limit:
                result = await self._means.run(call)
            return ToolResult(call.id, bounded(result.text), result.ok, result.node, result.seconds, ran=result.ran)
        except SwarmError as error:
            text = f"{error.message}. {error.hint}"
        except Exception as exc:
            if isinstance(exc, TimeoutError) and limit.expired():
                text = f"the tool took longer than {self._means.patience_s(call.name):g} s"
            else:
                log.exception("the tool %s failed: a bug of ours", call.name)
                text = "the tool failed: a bug; the node's log has more"
        return ToolResult(call.id, bounded(text), ok=False, node=None, seconds=clock() - started_s)


_WORDS: dict[str, str] = {
    "max_steps": "the model was asked as often as the budget allows",
    "tokens": "the budget of tokens is used up",
    "time": "the budget of time is used up",
    "loop": f"the same call with the same arguments came {MAX_SAME} times",
    "context": "the model's context is full",
}


def _rate(tokens: int, seconds: float) -> float | None:
    """Tokens per second, None where nothing was measured; a ring may say anything."""
    speed = tokens / seconds if seconds > 0 else math.inf
    return speed if tokens and math.isfinite(speed) else None


def _arguments(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _canonical(text: str) -> str:
    """Arguments in one form, so that spaces and the order of keys make no other call."""
    value = _arguments(text)
    return text if value is None else json.dumps(value, sort_keys=True)
