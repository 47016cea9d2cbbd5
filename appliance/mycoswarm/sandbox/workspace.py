"""Workspaces: one folder for each on the node that runs the tools, removed when the run is over or after a day."""

import contextlib
import os
import re
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path

from mycoswarm.base.errors import BusyError, InputError, StorageError
from mycoswarm.sandbox.jail import empty

MAX_WORKSPACES = 128
KEPT_S = 86400.0
BUSY_S = 600
FILES = "files"
_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
# systemd's table of user ids names this range as used by nobody, containers included.
_FIRST_USER, _USERS = 1_900_000_000, 100_000_000


class Workspaces:
    """All workspaces under one folder. Methods block; call them in a thread. `clock` counts from 1970."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self._folder, self._clock = folder, clock
        self._lock = threading.Lock()

    def open(self, workspace_id: str) -> tuple[Path, int | None]:
        """The folder for a run's files, made where there is none, and whose it is where we are root.

        Raises:
            InputError: that is no workspace's id.
            BusyError: there are too many workspaces.
            StorageError: it cannot be made.
        """
        if not _ID.fullmatch(workspace_id):
            raise InputError(f"{workspace_id[:80]!r} is no workspace's id")
        user_id = _FIRST_USER + zlib.crc32(workspace_id.encode()) % _USERS if os.geteuid() == 0 else None
        outer = self._folder / workspace_id
        with self._lock:
            try:
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                if not outer.is_dir():
                    self._make(outer, user_id)
                os.utime(outer, (self._clock(), self._clock()))  # ours: what a tool does to its own folder counts not
            except OSError as exc:
                raise StorageError(f"a workspace cannot be made: {exc.strerror}") from exc
        return outer / FILES, user_id

    def release(self, workspace_id: str) -> None:
        """Remove a workspace, if it is here."""
        if _ID.fullmatch(workspace_id):
            empty(self._folder / workspace_id)

    def count(self) -> int:
        """How many there are."""
        try:
            return sum(1 for _ in self._folder.iterdir())
        except OSError:
            return 0

    def clear(self, prefix: str) -> None:
        """Remove all whose ids begin so."""
        with contextlib.suppress(FileNotFoundError):
            for one in list(self._folder.iterdir()):
                if one.name.startswith(prefix):
                    empty(one)

    def sweep(self) -> None:
        """Remove those that nobody has used for a day."""
        with contextlib.suppress(FileNotFoundError):
            for one in list(self._folder.iterdir()):
                with contextlib.suppress(OSError):
                    if self._clock() - one.lstat().st_mtime > KEPT_S:
                        empty(one)

    def _make(self, outer: Path, user_id: int | None) -> None:
        self.sweep()
        if sum(1 for _ in self._folder.iterdir()) >= MAX_WORKSPACES:
            raise BusyError(f"this node keeps {MAX_WORKSPACES} workspaces already", retry_after_s=BUSY_S)
        outer.mkdir(mode=0o700)
        (outer / FILES).mkdir(mode=0o700)
        if user_id is not None:
            os.chown(outer / FILES, user_id, user_id)
