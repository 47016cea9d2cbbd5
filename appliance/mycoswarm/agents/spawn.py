"""The `spawn` tool as models see it, and the commission that a call of it is."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from mycoswarm.agents.persona import is_name
from mycoswarm.base.errors import InputError
from mycoswarm.wire.tool import ToolSpec

MAX_DEPTH = 2  # a sub-agent may have sub-agents; those have none
MAX_SPAWNED = 8  # in one run, all depths together
MAX_TASK = 20_000  # characters
MAX_PATTERNS = 64

SPAWN = ToolSpec(
    name="spawn",
    description="Give a part of the task to a sub-agent; several calls in one step work at the same time.",
    parameters={
        "type": "object",
        "properties": {
            "task": {"type": "string", "description": "all that it must know and do"},
            "agent": {"type": "string", "description": "the agent file to use; else it is as you are"},
            "tools": {"type": "array", "items": {"type": "string"}, "description": "which of your tools it gets"},
            "steps": {"type": "integer", "minimum": 1},
            "tokens": {"type": "integer", "minimum": 1, "description": "of those that you have left"},
            "seconds": {"type": "number", "exclusiveMinimum": 0},
        },
        "required": ["task"],
        "additionalProperties": False,
    },
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Commission:
    """What a sub-agent is to do, and with how much. None: as its parent."""

    task: str
    agent: str | None = None
    tools: tuple[str, ...] | None = None
    steps: int | None = None
    tokens: int | None = None
    seconds: float | None = None

    def takes(self, tool: str) -> bool:
        """Whether the sub-agent is to have this tool of its parent."""
        return self.tools is None or any(fnmatchcase(tool, pattern) for pattern in self.tools)


def read_commission(arguments: str) -> Commission:
    """Read the arguments of a call of `spawn`.

    Raises:
        InputError: they are none; says what is wrong.
    """
    try:
        given = json.loads(arguments)
    except (ValueError, RecursionError) as exc:
        raise InputError("the arguments of spawn are not JSON") from exc
    if not isinstance(given, dict):
        raise InputError("the arguments of spawn are not a JSON object")
    if unknown := sorted(set(given) - set(SPAWN.parameters["properties"])):
        raise InputError(f"spawn takes no {unknown[0][:80]!r}")
    task, agent = given.get("task"), given.get("agent")
    if not isinstance(task, str) or not 0 < len(task.strip()) <= MAX_TASK:
        raise InputError(f"spawn needs a task of 1 to {MAX_TASK} characters")
    if agent is not None and not (isinstance(agent, str) and is_name(agent)):
        raise InputError("spawn's agent must be the name of an agent file")
    seconds = _number(given, "seconds")
    return Commission(
        task=task,
        agent=agent,
        tools=_patterns(given.get("tools")),
        steps=_whole(given, "steps"),
        tokens=_whole(given, "tokens"),
        seconds=seconds,
    )


def _patterns(value: Any) -> tuple[str, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list) or len(value) > MAX_PATTERNS or not all(isinstance(one, str) for one in value):
        raise InputError("spawn's tools must be a list of names of tools")
    return tuple(value)


def _number(given: Mapping[str, Any], key: str) -> float | None:
    value = given.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e9:
        raise InputError(f"spawn's {key} must be a number above 0")
    return float(value)


def _whole(given: Mapping[str, Any], key: str) -> int | None:
    value = _number(given, key)
    if value is not None and not value.is_integer():
        raise InputError(f"spawn's {key} must be a whole number")
    return None if value is None else int(value)
