"""What an agent needs of tools: which there are, and a way to run one for somebody."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from mycoswarm.base.errors import NotFoundError
from mycoswarm.chat.job import Asker
from mycoswarm.wire.tool import ToolCall, ToolResult, ToolSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """For whom a tool runs. `asker` holds the key and every label that the run has touched by now.

    `deadline` is on the event loop's clock, in seconds.
    """

    asker: Asker
    run_id: str
    workspace_id: str
    deadline: float


class Toolbox(Protocol):
    """The tools of the swarm, whichever node runs them."""

    def specs(self) -> tuple[ToolSpec, ...]:
        """All tools there are."""

    async def run(self, call: ToolCall, errand: Errand) -> ToolResult:
        """Run one call where the rules say. Raises SwarmError where they allow no place, or the place failed."""


class Joined:
    """Several toolboxes as one; of two tools of one name the first counts."""

    def __init__(self, boxes: Sequence[Toolbox]) -> None:
        self._boxes = tuple(boxes)

    def specs(self) -> tuple[ToolSpec, ...]:
        """All tools, each name once."""
        return tuple({spec.name: spec for box in reversed(self._boxes) for spec in box.specs()}.values())

    async def run(self, call: ToolCall, errand: Errand) -> ToolResult:
        """Have the box that holds the tool run it.

        Raises:
            NotFoundError: none holds it.
            SwarmError: what that box says.
        """
        for box in self._boxes:
            if any(spec.name == call.name for spec in box.specs()):
                return await box.run(call, errand)
        raise NotFoundError(f"there is no tool {call.name[:80]!r}", hint="Take one of those that are offered.")
