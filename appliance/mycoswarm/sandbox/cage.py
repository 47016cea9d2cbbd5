"""The command that starts a tool's process inside the sandbox: bubblewrap's words. Pure, but for looking at paths.

As root the namespaces are made with root's powers, and the process inside gives up root for a user id that nobody has
before it looks at what it is to do. As another user bubblewrap makes a user namespace for it.
"""

import os
import sys
from collections.abc import Iterable
from pathlib import Path

import mycoswarm
from mycoswarm.base.program import PACKED, module_words
from mycoswarm.sandbox.level import SandboxLevel

WORKSPACE = "/workspace"
RUNNER = "mycoswarm.sandbox.runner"
_SYSTEM = ("/bin", "/sbin", "/lib", "/lib32", "/lib64")
# Without the first two some programs of the system do not start; the third is the time zone.
_ETC = ("/etc/ld.so.cache", "/etc/alternatives", "/etc/localtime")
_ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}


def environment(home: str, scratch: str) -> dict[str, str]:
    """All that a tool's process finds in its environment."""
    return {**_ENVIRONMENT, "HOME": home, "TMPDIR": scratch}


def caged(
    level: SandboxLevel, *, workspace: Path, scratch: Path, hidden: Iterable[Path], seccomp_fd: int | None
) -> list[str]:
    """The words that start the runner in the sandbox. `hidden`: folders that stay out, wherever they are."""
    assert level.bwrap is not None  # asked for at the level "bubblewrap" only
    words = [level.bwrap, "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    if level.own_user:
        words += ["--unshare-user", "--uid", "65534", "--gid", "65534", "--cap-drop", "ALL"]
    else:
        words += ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    words += ["--die-with-parent", "--new-session", "--hostname", "sandbox", "--clearenv"]
    for name, value in environment(WORKSPACE, "/tmp").items():  # noqa: S108  # the sandbox's own
        words += ["--setenv", name, value]
    words += ["--bind", str(scratch), "/tmp"]  # noqa: S108  # the sandbox's own; first, as we may be installed below /tmp
    roots = python_roots()
    parents = {parent for path in (*roots, *map(Path, _ETC)) for parent in path.parents[:-1]}
    for parent in sorted(parents):
        words += ["--perms", "0755", "--dir", str(parent)]  # else they get modes by which only root finds its way
    words += ["--ro-bind", "/usr", "/usr"]
    for path in _SYSTEM:
        if Path(path).is_symlink():
            words += ["--symlink", str(Path(path).readlink()), path]
        elif Path(path).is_dir():
            words += ["--ro-bind", path, path]
    for path in _ETC:
        words += ["--ro-bind-try", path, path]
    for root in roots:
        words += ["--ro-bind", str(root), str(root)]
    for place in _seen(
        hidden, (Path("/usr"), *(Path(path) for path in _SYSTEM if not Path(path).is_symlink()), *roots)
    ):
        words += ["--tmpfs", str(place), "--remount-ro", str(place)]
    words += ["--dev", "/dev", "--remount-ro", "/dev"]
    words += ["--bind", str(workspace), WORKSPACE]
    if PACKED is not None:
        # It finds itself by this link, and ends where there is none; the rest of /proc stays out.
        words += ["--perms", "0755", "--dir", "/proc", "--perms", "0755", "--dir", "/proc/self"]
        words += ["--symlink", str(PACKED), "/proc/self/exe"]
    words += ["--remount-ro", "/", "--chdir", "/"]  # the runner goes to the workspace, once it may
    if seccomp_fd is not None:
        words += ["--seccomp", str(seccomp_fd)]
    return [*words, "--", *module_words(RUNNER)]


def _seen(hidden: Iterable[Path], roots: Iterable[Path]) -> list[Path]:
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
