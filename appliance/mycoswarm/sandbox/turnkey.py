"""The process that shuts itself in and then starts what it was told to: the sandbox where there is no bubblewrap.

    daemon ── outer: leaves the namespaces, gives up root, binds itself ── inner: process 1 in there ── the program
    daemon ── outer: binds itself, stays in the machine's namespaces ─────────────────────────────── the program

All that can be taken is taken before anything of the program runs, and none of it can be given back. The second way is
for machines that give an ordinary user no namespaces. There the program has the daemon's user id and sees the machine's
processes, so Landlock keeps signals and tracing from them, and the filter refuses every call by which one process of a
user may touch another, or a file it may not open. What the program started is ended by Landlock too: a signal to all
processes from here reaches those that are bound with us and nobody else, at once, however fast they multiply. The
program itself is bound once more, so that it does not reach us.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import msgspec

from mycoswarm.base.egress import Guard, install
from mycoswarm.base.errors import SetupError
from mycoswarm.sandbox.enclosure import DEVICES, enclose
from mycoswarm.sandbox.filter import program
from mycoswarm.sandbox.kernel import (
    SET_CHILD_SUBREAPER,
    SET_NO_NEW_PRIVILEGES,
    SET_PARENT_DEATH_SIGNAL,
    become,
    control,
    filter_calls,
    give_up_capabilities,
)
from mycoswarm.sandbox.landlock import LIST, READ, USE, WITH_SCOPES, WRITE, divide, restrict
from mycoswarm.sandbox.view import SCRATCH, WORKSPACE, View

_WORST = "1000"  # oom_score_adj: of all processes of the machine the kernel takes these first
_BY_SIGNAL = 128  # what shells add to a signal's number to make a status of it


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How to shut oneself in. `known`: the version of Landlock. `in_place`: without namespaces. `own_user`: also with
    one for users. `user_id`: whom root becomes. `daemon`: the process with which all ends."""

    known: int
    in_place: bool
    own_user: bool
    user_id: int | None
    daemon: int
    workspace: str
    scratch: str
    view: View


def main() -> int:
    """Carry out the plan in the first word, then run the other words; ends as they end."""
    install(Guard())  # only the program goes on from here, and it has no network
    plan = msgspec.json.decode(sys.argv[1], type=Plan)
    os.umask(0o022)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # else process 1 could be ended from inside
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_WORST, "ascii")
    shut_in(plan)
    words = sys.argv[2:]
    if plan.in_place:  # this process has to end the others; elsewhere the kernel does
        signal.signal(signal.SIGTERM, _leave)
        _end_with(plan.daemon, signal.SIGTERM)
        return _keep(words, plan)
    _end_with(plan.daemon, signal.SIGKILL)
    return _enter(words, plan)


def shut_in(plan: Plan) -> None:
    """Bind this process for good.

    Raises:
        SetupError: the kernel refuses a part of it.
    """
    wanted = program(in_place=plan.in_place)
    if wanted is None or (plan.in_place and (plan.known < WITH_SCOPES or os.geteuid() == 0)):
        raise SetupError("this machine cannot shut a tool in as planned", code="sandbox_failed")
    if not plan.in_place:
        enclose(plan.view, workspace=plan.workspace, scratch=plan.scratch, own_user=plan.own_user)
    if plan.user_id is not None:
        become(plan.user_id)
    give_up_capabilities()
    control(SET_NO_NEW_PRIVILEGES, 1)
    control(SET_CHILD_SUBREAPER, 1)
    reached = _reaches(plan.daemon)
    restrict(plan.known, _rights(plan))
    if plan.in_place and (not reached or _reaches(plan.daemon)):  # it must be Landlock that keeps us from it
        raise SetupError("Landlock does not hold here", code="sandbox_failed")
    filter_calls(wanted)


def _rights(plan: Plan) -> list[tuple[str, int]]:
    devices = [(path, USE) for path in DEVICES]
    if not plan.in_place:
        return [("/", READ), (WORKSPACE, WRITE), (SCRATCH, WRITE), *devices]
    shown = [(path, READ) for path in plan.view.shown]
    return [*shown, (plan.view.listed, LIST), (plan.workspace, WRITE), (plan.scratch, WRITE), *devices]


def _reaches(pid: int) -> bool:
    """Whether this process can signal one outside: then a signal to all would end more than is ours."""
    try:
        os.kill(pid, 0)
    except (PermissionError, ProcessLookupError):
        return False
    return True


def _end_with(parent: int, how: signal.Signals) -> None:
    """Have the kernel signal this process when its parent ends. To be called after the last change of user."""
    control(SET_PARENT_DEATH_SIGNAL, how)
    if os.getppid() != parent:
        raise SystemExit(1)


def _leave(number: int, frame: object) -> NoReturn:
    signal.signal(number, signal.SIG_IGN)  # once is enough: what follows must not be disturbed
    raise SystemExit(_BY_SIGNAL + number)


def _enter(words: Sequence[str], plan: Plan) -> int:
    """Have a child be process 1 of the new namespace: with it ends all that is in there."""
    theirs, ours = os.pipe()  # closed with us: our process id means nothing in there
    inner = os.fork()
    if inner:
        os.close(theirs)
        return _status(os.waitpid(inner, 0)[1])
    os.close(ours)
    control(SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    os.set_blocking(theirs, False)
    with contextlib.suppress(BlockingIOError):  # it is still open
        os.read(theirs, 1)
        os._exit(1)
    os.close(theirs)
    return _keep(words, plan)


def _keep(words: Sequence[str], plan: Plan) -> int:
    """Start the program, take in whoever loses its parent, and end all of them with the program."""
    own = os.getpid()
    try:
        child = os.fork()
        if not child:
            _become(words, plan, own)
        while True:
            pid, status = os.wait()
            if pid == child:
                return _status(status)
    except SystemExit:  # we are told to leave
        return 1
    finally:
        if plan.in_place and os.getpid() == own:
            with contextlib.suppress(ProcessLookupError):
                os.kill(-1, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                while True:
                    os.wait()


def _become(words: Sequence[str], plan: Plan, parent: int) -> NoReturn:
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if plan.known >= WITH_SCOPES:
            divide()
        _end_with(parent, signal.SIGKILL)
        os.execv(words[0], list(words))  # noqa: S606  # what this is for; a list of words
    except (OSError, SetupError) as exc:
        sys.stderr.write(f"{words[0]} could not be started: {exc}\n")
        sys.stderr.flush()
    finally:
        os._exit(1)


def _status(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else _BY_SIGNAL - code


if __name__ == "__main__":
    os._exit(main())  # nothing is left to be said, and the daemon waits
