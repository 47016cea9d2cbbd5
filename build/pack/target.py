"""What is built for: this machine's own kind, or arm64 on an x86_64 machine.

For arm64 everything that can run here does: compilers that make arm64 code, pip, which unpacks arm64 wheels, and
Nuitka, in a Python that passes for the other machine's (`guise.py`) within that machine's system (`chroot.py`).
"""

import platform
import re
from dataclasses import dataclass
from pathlib import Path

from bench import CACHE, BuildError

ARM = "linux-aarch64"


@dataclass(frozen=True, slots=True)
class Target:
    """`prefix` begins the names of its compiler's tools, "" where they are this machine's own. `folder` is its part of
    the cache, `root` the system whose Python and libraries are packed.
    """

    system: str
    machine: str
    prefix: str
    folder: Path
    root: Path

    @property
    def name(self) -> str:
        """As file names end."""
        return f"{self.system}-{self.machine}"

    @property
    def tools(self) -> Path:
        """The environment in which Nuitka is."""
        return self.folder / "venv"

    @property
    def program(self) -> Path:
        """The environment that goes into the binary, and nothing else."""
        return self.folder / "program"

    @property
    def raw(self) -> Path:
        """Files that lie beside the modules, as they are."""
        return self.folder / "raw"

    def tool(self, name: str) -> str:
        """A compiler's or a binary tool's name."""
        return f"{self.prefix}{name}"

    def version(self) -> str:
        """Of the Python that is packed."""
        if not self.prefix:
            return platform.python_version()
        header = next((self.root / "usr" / "include").glob("python3.*/patchlevel.h")).read_text("utf-8")
        found = re.search(r'^#define PY_VERSION\s+"([^"]+)"', header, re.MULTILINE)
        if found is None:
            raise BuildError("the emulated system's Python does not say its version")
        return found[1]


def choose_target(name: str | None) -> Target:
    """The target of that name; this machine's own where none is named."""
    system, machine = platform.system().lower(), platform.machine()
    if name in (None, f"{system}-{machine}"):
        return Target(system, machine, "", CACHE, Path("/"))
    if name == ARM and (system, machine) == ("linux", "x86_64"):
        folder = CACHE / "aarch64"
        return Target("linux", "aarch64", "aarch64-linux-gnu-", folder, folder / "root")
    raise BuildError(f"{name} is not built on {system}-{machine}; build/README.md has the table of what is")
