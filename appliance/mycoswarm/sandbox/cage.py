"""The words that start something inside the sandbox: bubblewrap's, or turnkey.py's. Pure, but for looking at paths.

As root the namespaces are made with root's powers, and root is given up for a user id that nobody has before the task
is looked at. As another user a user namespace is made.
"""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from mycoswarm.base.errors import SetupError
from mycoswarm.base.program import PACKED, module_words
from mycoswarm.sandbox.enclosure import NOBODY
from mycoswarm.sandbox.level import SandboxLevel
from mycoswarm.sandbox.turnkey import Plan
from mycoswarm.sandbox.view import SCRATCH, WORKSPACE, environment, seen, view_of

RUNNER = module_words("mycoswarm.sandbox.runner")
_TURNKEY = module_words("mycoswarm.sandbox.turnkey")


def caged(
    level: SandboxLevel,
    *,
    workspace: Path,
    scratch: Path,
    hidden: Iterable[Path],
    seccomp_fd: int | None,
    words: Sequence[str] = RUNNER,
) -> list[str]:
    """Words that start others with bubblewrap. `hidden`: folders that stay out, wherever they are."""
    assert level.bwrap is not None  # asked for at the level "bubblewrap" only
    view = view_of(hidden)
    start = [level.bwrap, "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    if level.own_user:
        start += ["--unshare-user", "--uid", str(NOBODY), "--gid", str(NOBODY), "--cap-drop", "ALL"]
    else:
        start += ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    start += ["--die-with-parent", "--new-session", "--hostname", "sandbox", "--clearenv"]
    for name, value in environment(WORKSPACE, SCRATCH).items():
        start += ["--setenv", name, value]
    start += ["--bind", str(scratch), SCRATCH]  # first, as we may be installed below /tmp
    for parent in view.parents:
        start += ["--perms", "0755", "--dir", parent]  # else they get modes by which only root finds its way
    for path in view.system:
        start += ["--ro-bind", path, path]
    for leads_to, path in view.links:
        start += ["--symlink", leads_to, path]
    for path in view.etc:
        start += ["--ro-bind-try", path, path]
    for path in view.roots:
        start += ["--ro-bind", path, path]
    for path in view.masked:
        start += ["--tmpfs", path, "--remount-ro", path]
    start += ["--dev", "/dev", "--remount-ro", "/dev"]
    start += ["--bind", str(workspace), WORKSPACE]
    if PACKED is not None:
        # It finds itself by this link, and ends where there is none; the rest of /proc stays out.
        start += ["--perms", "0755", "--dir", "/proc", "--perms", "0755", "--dir", "/proc/self"]
        start += ["--symlink", str(PACKED), "/proc/self/exe"]
    start += ["--remount-ro", "/", "--chdir", "/"]  # the runner goes to the workspace, once it may
    if seccomp_fd is not None:
        start += ["--seccomp", str(seccomp_fd)]
    return [*start, "--", *words]


def locked(
    level: SandboxLevel,
    *,
    workspace: Path,
    scratch: Path,
    hidden: Iterable[Path],
    user_id: int | None,
    words: Sequence[str] = RUNNER,
) -> list[str]:
    """Words that start others by the turnkey, for the level "landlock". `user_id`: whom root becomes.

    Raises:
        SetupError: a hidden folder is below one that every tool reads, and nothing can be put over it.
    """
    hidden = tuple(hidden)
    view = view_of(hidden)
    bared = [*view.masked, *map(str, seen(hidden, (Path(view.listed),)))]
    if level.in_place and bared:
        raise SetupError(
            f"{bared[0]} must stay hidden, and lies below a folder that tools read",
            hint="Move the data folder out of the Python environment, or install bubblewrap.",
            code="no_sandbox",
        )
    becomes = None
    if os.geteuid() == 0 and not level.own_user:
        becomes = NOBODY if user_id is None else user_id
    plan = Plan(
        known=level.known,
        in_place=level.in_place,
        own_user=level.own_user,
        user_id=becomes,
        daemon=os.getpid(),
        workspace=str(workspace),
        scratch=str(scratch),
        view=view,
    )
    return [*_TURNKEY, msgspec.json.encode(plan).decode(), *words]
