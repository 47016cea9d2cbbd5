"""The agents of this node: one TOML file each in the data folder's `agents`, and one that is always there."""

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mycoswarm.agents.persona import MAX_BYTES, Profile, is_name, read_profile
from mycoswarm.base.errors import BusyError, InputError, NotFoundError, StorageError, SwarmError
from mycoswarm.swarm.folder import Folder

MAX_AGENTS = 256
HELPER = "helper"
# The embedded model knows these four tools. Its context is small, so nothing is said that it need not read.
_HELPER_FILE = """\
description = "Sums, the time, the machines of the swarm, files: with the embedded model, offline."
model = "spore"
system = "You are a helper."
tools = ["calculator", "clock", "list_nodes", "read_file"]

[budget]
max_steps = 6
tokens = 400
seconds = 120
"""


@dataclass(frozen=True, slots=True)
class Member:
    """An agent file: its text, and what it says, or why it cannot be read. `is_own`: the owner has written it."""

    name: str
    text: str
    profile: Profile | None
    fault: str | None
    is_own: bool


class Team:
    """Agent files. Blocking: call it from threads.

    Covered: a file that is a link, a device, too long or no agent is not read, and breaks no other.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder

    def members(self) -> tuple[Member, ...]:
        """All agents, by name; those whose files are broken, too.

        Raises:
            StorageError: the folder cannot be read.
        """
        own = {name: self._member(name) for name in self._names()}
        if HELPER not in own:
            own[HELPER] = _helper()
        return tuple(own[name] for name in sorted(own))

    def member(self, name: str) -> Member:
        """One agent.

        Raises:
            NotFoundError: there is none of that name.
            StorageError: its file cannot be read.
        """
        if is_name(name) and os.path.lexists(self._path / f"{name}.toml"):
            return self._member(name)
        if name == HELPER:
            return _helper()
        raise NotFoundError(
            f"there is no agent {name[:80]!r}", hint="`mycoswarm-node agent list` shows those there are."
        )

    def profile(self, name: str) -> Profile:
        """What one agent is.

        Raises:
            NotFoundError: there is none of that name.
            InputError: its file is broken.
            StorageError: its file cannot be read.
        """
        return read_profile(self.member(name).text, name)

    def put(self, name: str, text: str) -> Profile:
        """Write an agent file, if it is sound.

        Raises:
            InputError: it is not; nothing was changed.
            BusyError: there are too many.
            StorageError: it cannot be written.
        """
        profile = read_profile(text, name)
        names = self._names()
        if name not in names and len(names) >= MAX_AGENTS:
            raise BusyError(f"there are {MAX_AGENTS} agents already", retry_after_s=60, hint="Remove one first.")
        Folder(self._path).write(f"{name}.toml", text.encode())
        return profile

    def remove(self, name: str) -> None:
        """Take an agent file away.

        Raises:
            NotFoundError: there is none.
            InputError: it is the one that is always there.
            StorageError: it cannot be removed.
        """
        if not self.member(name).is_own:
            raise InputError(
                f"the agent {name} comes with mycoSwarm and stays", hint=f"Your own {name}.toml would go before it."
            )
        Folder(self._path).remove(f"{name}.toml")

    def _names(self) -> Sequence[str]:
        try:
            found = [entry.name for entry in os.scandir(self._path) if entry.name.endswith(".toml")]
        except FileNotFoundError:
            return ()
        except OSError as exc:
            raise StorageError(f"the folder {self._path} cannot be read: {exc.strerror}") from exc
        names = sorted(name.removesuffix(".toml") for name in found)
        return [name for name in names if is_name(name)][:MAX_AGENTS]

    def _member(self, name: str) -> Member:
        try:
            text = self._read(name)
            return Member(name, text, read_profile(text, name), None, is_own=True)
        except InputError as error:
            return Member(name, "", None, error.message, is_own=True)

    def _read(self, name: str) -> str:
        path = self._path / f"{name}.toml"
        try:
            # Not through a link, and without waiting for a pipe's writer.
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            with os.fdopen(descriptor, "rb") as file:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise _unsound(name, "is no file")
                data = file.read(MAX_BYTES + 1)
        except OSError as exc:
            raise _unsound(name, f"cannot be read: {exc.strerror}") from exc
        try:
            return data.decode()
        except UnicodeDecodeError as exc:
            raise _unsound(name, "is no UTF-8 text") from exc


def _helper() -> Member:
    return Member(HELPER, _HELPER_FILE, read_profile(_HELPER_FILE, HELPER), None, is_own=False)


def _unsound(name: str, why: str) -> SwarmError:
    return InputError(f"the agent file {name}.toml {why}", hint="Put a plain text file there.", code="bad_agent_file")
