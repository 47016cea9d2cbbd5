"""What a run may use up. Tokens are those that the model writes: what it may still write is known before it is asked,
so a budget is never overdrawn, by no token."""

from dataclasses import dataclass

MAX_STEPS = 200
MAX_TOKENS = 1_000_000
MAX_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """`max_steps`: how often the model is asked. `seconds` count everything, waiting for the owner too."""

    max_steps: int = 12
    tokens: int = 4000
    seconds: float = 300.0


class Purse:
    """The tokens of one agent. A sub-agent's are taken out of its parent's, and what it leaves goes back."""

    def __init__(self, tokens: int) -> None:
        self.left = tokens

    def spend(self, tokens: int) -> None:
        """Take what was written."""
        self.left = max(0, self.left - tokens)

    def part(self, tokens: int) -> "Purse":
        """A purse with so many of these tokens, or all that are left."""
        given = min(tokens, self.left)
        self.left -= given
        return Purse(given)

    def settle(self, part: "Purse") -> None:
        """Take back what a part has left."""
        self.left += part.left
        part.left = 0
