"""A ledger over a real file and a real node key, for the tests of this room."""

import os
import signal
import subprocess
import sys
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


def killed_after(program: str, file: Path, wanted: int, *, stdin: bytes = b"") -> int:
    """Run a Python program on a file that writes a number for each thing that is safe, and end it with SIGKILL once it
    has come to this one. Gives the last number that it said."""
    command = [sys.executable, "-c", program, str(file)]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=child_environment())
    assert child.stdin is not None and child.stdout is not None
    child.stdin.write(stdin)
    child.stdin.close()
    said = 0
    for line in child.stdout:
        said = int(line)
        if said >= wanted:
            break
    child.send_signal(signal.SIGKILL)
    said = max([said, *(int(line) for line in child.stdout.read().splitlines(keepends=True) if b"\n" in line)])
    child.stdout.close()
    child.wait(timeout=10)
    return said
