"""How well a machine can shut a tool in."""

import platform
from dataclasses import dataclass
from typing import Literal

Name = Literal["bubblewrap", "landlock", "limits"]
_COUNTED_BY_NAMESPACE = (5, 14)  # since then RLIMIT_NPROC counts a user namespace's processes, not all of a user's


@dataclass(frozen=True, slots=True)
class SandboxLevel:
    """`bwrap`: its path, at the level "bubblewrap". `own_user`: it has a user namespace of its own (we are not root).
    `why`: why it is not better. `known`: the version of Landlock, at the level "landlock", and `in_place`: there it has
    no namespaces, and so the machine's own paths and processes around it."""

    name: Name
    bwrap: str | None
    own_user: bool
    covers: tuple[str, ...]
    lacks: tuple[str, ...]
    why: str = ""
    known: int = 0
    in_place: bool = False

    @property
    def is_sandbox(self) -> bool:
        """Whether tools that need a sandbox may run here without a rule that says otherwise."""
        return self.name in ("bubblewrap", "landlock")

    @property
    def has_own_root(self) -> bool:
        """Whether the workspace is at /workspace in there, and nothing around it that is not shown."""
        return self.is_sandbox and not self.in_place

    @property
    def counts_processes(self) -> bool:
        """Whether the number of processes inside can be limited, if need be by counting those outside too."""
        return self.is_sandbox and (not self.own_user or _kernel() >= _COUNTED_BY_NAMESPACE)


def _kernel() -> tuple[int, ...]:
    return tuple(int(part) if part.isdigit() else 0 for part in platform.release().split("-")[0].split(".")[:2])
