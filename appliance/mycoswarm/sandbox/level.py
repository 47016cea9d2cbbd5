"""How well a machine can shut a tool in."""

import platform
from dataclasses import dataclass
from typing import Literal

Name = Literal["bubblewrap", "limits"]
_COUNTED_BY_NAMESPACE = (5, 14)  # since then RLIMIT_NPROC counts a user namespace's processes, not all of a user's


@dataclass(frozen=True, slots=True)
class SandboxLevel:
    """`bwrap`: its path, None at the level "limits". `own_user`: it has a user namespace of its own (we are not root).
    `why`: why it is not better."""

    name: Name
    bwrap: str | None
    own_user: bool
    covers: tuple[str, ...]
    lacks: tuple[str, ...]
    why: str = ""

    @property
    def is_sandbox(self) -> bool:
        """Whether tools that need a sandbox may run here without a rule that says otherwise."""
        return self.name == "bubblewrap"

    @property
    def counts_processes(self) -> bool:
        """Whether the number of processes inside can be limited without counting those outside."""
        return self.is_sandbox and (not self.own_user or _kernel() >= _COUNTED_BY_NAMESPACE)


def _kernel() -> tuple[int, ...]:
    return tuple(int(part) if part.isdigit() else 0 for part in platform.release().split("-")[0].split(".")[:2])
