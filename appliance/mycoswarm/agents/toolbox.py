"""What an agent needs of tools: which there are, and a way to run one for somebody."""

from dataclasses import dataclass
from typing import Protocol

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
