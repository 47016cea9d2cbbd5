"""Crashes counted: a model that crashes again and again on a node waits longer each time, and is marked bad at three.

Pure: the clock's value is passed in. One table per daemon; a restart of the daemon, or its owner, forgives.
"""

from dataclasses import dataclass

from mycoswarm.base.errors import StageError

BAD_AFTER = 3  # crashes in a row; DESIGN 7
_BACKOFF_S = 1.0  # after the first crash; four times as long after each further one
_MAX_ENTRIES = 1024  # models times nodes; beyond it the oldest is forgotten


@dataclass(frozen=True, slots=True)
class Crashes:
    """How often in a row, when last, and the last words then."""

    count: int
    at_s: float
    last_words: tuple[str, ...]


class CrashTable:
    """Crashes in a row by (model digest, node id)."""

    def __init__(self) -> None:
        self._entries: dict[tuple[str, str], Crashes] = {}

    def record(self, model_digest: str, node_id: str, now: float, last_words: tuple[str, ...]) -> None:
        """A stage of this model crashed on this node."""
        before = self._entries.pop((model_digest, node_id), None)
        while len(self._entries) >= _MAX_ENTRIES:
            del self._entries[next(iter(self._entries))]
        count = before.count + 1 if before else 1
        self._entries[model_digest, node_id] = Crashes(count, now, last_words)

    def forgive(self, model_digest: str, node_id: str) -> None:
        """A stage did its work and ended in order, or the owner says: try again."""
        self._entries.pop((model_digest, node_id), None)

    def wait_s(self, model_digest: str, node_id: str, now: float) -> float:
        """How long to wait before the next start, 0 if not at all.

        Raises:
            StageError: the model is marked bad on this node.
        """
        entry = self._entries.get((model_digest, node_id))
        if entry is None:
            return 0.0
        if entry.count >= BAD_AFTER:
            raise StageError(
                f"model {model_digest[:12]} crashed {entry.count} times in a row on node {node_id}",
                code="model_marked_bad",
                last_words=entry.last_words,
                hint="Its last words say why. Run it elsewhere, or restart that node's daemon to try again.",
            )
        return max(0.0, entry.at_s + _BACKOFF_S * 4.0 ** (entry.count - 1) - now)

    def bad(self) -> list[tuple[str, str, Crashes]]:
        """What is marked bad, for the owner to see."""
        return [(model, node, entry) for (model, node), entry in self._entries.items() if entry.count >= BAD_AFTER]
