"""How fast nodes are, as measured, with the dates."""

from mycoswarm.store.database import Store


class Speeds:
    """Measured decoding speeds of nodes, kept with their dates."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def note(self, node_id: str, bytes_per_s: float, now: float) -> None:
        """Keep a node's newest measurement.

        Raises:
            StorageError: it could not be written.
        """
        self._store.write(
            "INSERT INTO speeds (node_id, at, bytes_per_s) VALUES (?, ?, ?) ON CONFLICT (node_id) DO UPDATE SET"
            " at = excluded.at, bytes_per_s = excluded.bytes_per_s",
            (node_id, now, bytes_per_s),
        )

    def known(self) -> dict[str, tuple[float, float]]:
        """By node id: bytes per second and when that was measured, in seconds since 1970.

        Raises:
            StorageError: they could not be read.
        """
        rows = self._store.read("SELECT node_id, bytes_per_s, at FROM speeds")
        return {str(node): (float(speed), float(at)) for node, speed, at in rows}
