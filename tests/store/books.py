"""A ledger over a real file and a real node key, for the tests of this room."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path

from mycoswarm.store.database import Store
from mycoswarm.store.ledger import Ledger
from mycoswarm.swarm.key import SigningKey, is_signed


@cache
def key() -> SigningKey:
    """The node's key."""
    return SigningKey.generate()


def ledger_of(store: Store) -> Ledger:
    """The node's ledger in this store."""
    return Ledger(store, key().sign, partial(is_signed, key().public_der))


@contextmanager
def ledger_at(path: Path) -> Iterator[tuple[Ledger, Store]]:
    """The node's ledger in this file, open while the block runs."""
    store = Store(path)
    try:
        yield ledger_of(store), store
    finally:
        store.close()


def child_environment() -> dict[str, str]:
    """For a process of ours that imports the package."""
    source = Path(__file__).resolve().parents[2] / "appliance"
    return {**os.environ, "PYTHONPATH": str(source)}
