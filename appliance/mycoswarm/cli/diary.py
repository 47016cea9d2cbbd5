"""What was said in `chat`: a private file of the data folder, none with `--no-history`; and files the owner saves."""

import json
import os
import time
from collections.abc import Iterable
from pathlib import Path

from mycoswarm.base.errors import StorageError

FILE_NAME = "chat.history"
MAX_BYTES = 1 << 20  # then the older half goes
RECALLED = 500  # lines that the arrow keys reach


class Diary:
    """Turns of chats, one JSON line each, readable by their owner only."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE_NAME

    def add(self, *, model: str, agent: str | None, you: str, answer: str) -> None:
        """Keep one turn.

        Raises:
            StorageError: it cannot be written.
        """
        turn = {"at": round(time.time(), 3), "model": model, "agent": agent, "you": you, "answer": answer}
        try:
            # Not through a link that somebody has put there.
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            with os.fdopen(descriptor, "ab") as file:
                os.fchmod(descriptor, 0o600)
                file.write(json.dumps(turn).encode() + b"\n")
            if self._path.stat().st_size > MAX_BYTES:
                self._shorten()
        except OSError as exc:
            raise StorageError(
                f"{self._path} cannot be written: {exc.strerror}", hint="`chat --no-history` keeps nothing."
            ) from exc

    def lines(self) -> list[str]:
        """What the owner has typed, the oldest first; nothing where the file cannot be read."""
        found = []
        try:
            for line in self._path.read_bytes().splitlines()[-RECALLED:]:
                turn = json.loads(line)
                found.append(str(turn["you"]))
        except (OSError, ValueError, KeyError, TypeError):
            return found
        return found

    def _shorten(self) -> None:
        lines = self._path.read_bytes().splitlines(keepends=True)
        kept: list[bytes] = []
        room = MAX_BYTES // 2
        for line in reversed(lines):
            room -= len(line)
            if room < 0:
                break
            kept.append(line)
        fresh = self._path.with_name(f".{FILE_NAME}.{os.getpid()}")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.writelines(reversed(kept))
        fresh.replace(self._path)


def save(path: Path, messages: Iterable[dict[str, str]]) -> None:
    """Write a chat as Markdown into a new file, readable by its owner only.

    Raises:
        StorageError: the file is there already, or cannot be written.
    """
    parts = [f"**{message['role']}**\n\n{message['content']}\n" for message in messages]
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write("\n".join(parts))
    except FileExistsError as exc:
        raise StorageError(f"{path} is there already", hint="Name another file.") from exc
    except OSError as exc:
        raise StorageError(f"{path} cannot be written: {exc.strerror}") from exc
