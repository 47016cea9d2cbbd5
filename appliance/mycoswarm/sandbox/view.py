"""What a tool is shown of this machine, at every level that can choose: the system, this Python, a little of /etc."""

import os
import sys
from collections.abc import Iterable
from pathlib import Path

import msgspec

import mycoswarm
from mycoswarm.base.program import PACKED

WORKSPACE = "/workspace"
SCRATCH = "/tmp"  # noqa: S108  # the sandbox's own
_SYSTEM = ("/bin", "/sbin", "/lib", "/lib32", "/lib64")
# Without the first two some programs of the system do not start; the third is the time zone.
_ETC = ("/etc/ld.so.cache", "/etc/alternatives", "/etc/localtime")
_ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}


class View(msgspec.Struct, frozen=True):
    """Paths of this machine that are shown, each at its own place. `parents`: folders on the way to them, outermost
    first. `links`: where a link of the system leads, and its path. `roots`: folders that this Python is in. `masked`:
    hidden folders as they would be seen below what is shown. `listed`: where Python looks for our package, for which it
    has to read the names there, though nothing else."""

    parents: tuple[str, ...]
    system: tuple[str, ...]
    links: tuple[tuple[str, str], ...]
    etc: tuple[str, ...]
    roots: tuple[str, ...]
    masked: tuple[str, ...]
    listed: str

    @property
    def shown(self) -> tuple[str, ...]:
        """All of it."""
        return (*self.system, *self.etc, *self.roots)


def view_of(hidden: Iterable[Path]) -> View:
    """What there is to be shown. `hidden`: folders that stay out, wherever they are."""
    roots = python_roots()
    parents = {parent for path in (*roots, *map(Path, _ETC)) for parent in path.parents[:-1]}
    links = [Path(path) for path in _SYSTEM if Path(path).is_symlink()]
    system = [Path("/usr"), *(Path(path) for path in _SYSTEM if Path(path).is_dir() and not Path(path).is_symlink())]
    return View(
        parents=tuple(map(str, sorted(parents))),
        system=tuple(map(str, system)),
        links=tuple((str(path.readlink()), str(path)) for path in links),
        etc=_ETC,
        roots=tuple(map(str, roots)),
        masked=tuple(map(str, seen(hidden, (*system, *roots)))),
        listed=str(Path(mycoswarm.__file__).parent.parent),
    )


def environment(home: str, scratch: str) -> dict[str, str]:
    """All that a tool's process finds in its environment."""
    return {**_ENVIRONMENT, "HOME": home, "TMPDIR": scratch}


def seen(hidden: Iterable[Path], roots: Iterable[Path]) -> list[Path]:
    """Where these folders would be seen: below each root that is shown, whatever links lead to either."""
    found = []
    for folder in hidden:
        real = folder.resolve()
        for root in roots:
            if real.is_dir() and real.is_relative_to(root.resolve()):
                found.append(root / real.relative_to(root.resolve()))
    return found


def python_roots() -> tuple[Path, ...]:
    """The folders that this Python and this package are in, as far as /usr does not hold them."""
    found: list[Path] = []
    prefixes = (sys.base_prefix, sys.base_exec_prefix, sys.prefix, os.path.dirname(mycoswarm.__file__))  # noqa: PTH120
    for text in prefixes if PACKED is None else (PACKED.parent,):  # the unpacked program is all in one folder
        for root in (Path(text), Path(text).resolve()):
            if not any(root.is_relative_to(known) for known in (Path("/usr"), *found)):
                found.append(root)
    return tuple(found)
