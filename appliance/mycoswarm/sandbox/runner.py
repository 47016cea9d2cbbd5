"""The process in which one call of a tool runs, inside the sandbox: a task on stdin, one line of outcome on stdout.

The egress guard is over it from its first line with nothing permitted. Before it looks at the call it binds itself for
good: it gives up root, sets its limits, and may be read by no other process.
"""

import os
import resource
import sys
from pathlib import Path
from typing import Any

import msgspec

from mycoswarm.base.egress import Guard, install
from mycoswarm.base.errors import SwarmError
from mycoswarm.sandbox import guest
from mycoswarm.sandbox.argument import read_arguments
from mycoswarm.sandbox.calculator import calculate
from mycoswarm.sandbox.command import Outcome, run_python, run_shell
from mycoswarm.sandbox.extract import hits_text, page_text
from mycoswarm.sandbox.extraction import EXTRACT, extract, kinds_of, warm
from mycoswarm.sandbox.haul import Haul
from mycoswarm.sandbox.kernel import (
    SET_CHILD_SUBREAPER,
    SET_DUMPABLE,
    SET_NO_NEW_PRIVILEGES,
    become,
    control,
    give_up_capabilities,
)
from mycoswarm.sandbox.kin import descendants, end
from mycoswarm.sandbox.papers import Papers
from mycoswarm.sandbox.timepiece import tell_time
from mycoswarm.sandbox.toolset import TOOLS


class Bounds(msgspec.Struct, frozen=True):
    """Limits of each process. `processes` None: they cannot be counted here. `cpu_s`: processor seconds."""

    cpu_s: int = 300
    memory_bytes: int = 1 << 30
    file_bytes: int = 64 << 20
    processes: int | None = 64


class Task(msgspec.Struct, frozen=True):
    """What is to be done. `user_id`: whom to become first, None where that has happened. `haul`: what the node brought
    in for it, where the tool reaches out. `program`: what to become for good, in the place of a tool."""

    tool: str
    arguments: str
    workspace: str
    bounds: Bounds
    user_id: int | None = None
    haul: Haul | None = None
    program: guest.Program | None = None


class Ended(msgspec.Struct, frozen=True):
    """What came of it. `code` says in what way a tool refused, where it did."""

    text: str
    ok: bool
    code: str = ""


def main() -> int:
    """Do one task."""
    install(Guard())  # nothing that a tool does here needs a connection
    task = msgspec.json.decode(_task(), type=Task)
    if task.tool == EXTRACT:
        warm(kinds_of(task.arguments))
    elif task.haul is not None:
        warm(("html", "pdf"))
    bind(task)
    os.chdir(task.workspace)
    if task.program is not None:
        guest.become(task.program)
    answer = msgspec.json.encode(perform(task)) + b"\n"
    end(descendants(os.getpid()))  # those that left their group; in a sandbox the kernel ends them too
    sys.stdout.buffer.write(answer)
    sys.stdout.buffer.flush()
    return 0


def _task() -> bytes:
    """All that is said, or its first line. Behind that nothing comes before a program has answered: see guest.py."""
    said = bytearray()
    while not said.endswith(b"\n") and (part := os.read(sys.stdin.fileno(), 1 << 16)):
        said += part
    return bytes(said)


def bind(task: Task) -> None:
    """Give up root and set the limits; neither can be taken back.

    Raises:
        SetupError: the kernel refuses a part of it.
    """
    bounds = task.bounds
    is_linux = sys.platform == "linux"
    if is_linux:
        for what, value in ((SET_NO_NEW_PRIVILEGES, 1), (SET_DUMPABLE, 0), (SET_CHILD_SUBREAPER, 1)):
            control(what, value)
    if task.user_id is not None:
        become(task.user_id)
    if task.user_id is not None and is_linux:
        control(SET_DUMPABLE, 0)  # the change of user has set it anew
        give_up_capabilities()
    limits = [
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_CPU, bounds.cpu_s),
        (resource.RLIMIT_AS, bounds.memory_bytes),
        (resource.RLIMIT_FSIZE, bounds.file_bytes),
        (resource.RLIMIT_NOFILE, 256),
    ]
    if bounds.processes is not None:
        limits.append((resource.RLIMIT_NPROC, bounds.processes))
    for what, limit in limits:
        hard = resource.getrlimit(what)[1]
        goal = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(what, (goal, goal))


def perform(task: Task) -> Ended:
    """Work one call out; what the tool refuses is an outcome too."""
    try:
        if task.tool == EXTRACT:
            return Ended(extract(Path(task.workspace), task.arguments), True)
        given = read_arguments(TOOLS[task.tool].spec, task.arguments)
        if task.haul is not None:
            found: str | Outcome = _digested(task.tool, given, task.haul)
        else:
            found = _outcome(task.tool, given, Papers(Path(task.workspace)))
    except SwarmError as error:
        return Ended(f"error: {error.message}", False, error.code)
    except (OSError, MemoryError) as exc:
        return Ended(f"error: {exc or type(exc).__name__}", False, "failed")
    return Ended(found, True) if isinstance(found, str) else Ended(found.text, found.ok, "" if found.ok else "failed")


def _digested(tool: str, given: dict[str, Any], haul: Haul) -> str:
    return page_text(haul, given.get("part", 1)) if tool == "fetch_page" else hits_text(haul)


def _outcome(tool: str, given: dict[str, Any], papers: Papers) -> str | Outcome:
    match tool:
        case "calculator":
            return calculate(given["expression"])
        case "clock":
            return tell_time(given.get("place"))
        case "read_file":
            return papers.read(given["path"])
        case "write_file":
            return papers.write(given["path"], given["text"])
        case "edit_file":
            return papers.edit(given["path"], given["old"], given["new"])
        case "list_files":
            return papers.listing(given.get("path", "."))
        case "search_files":
            return papers.search(given["text"], given.get("path", "."))
        case "run_shell":
            return run_shell(**given)
        case _:
            return run_python(**given)


if __name__ == "__main__":
    sys.exit(main())
