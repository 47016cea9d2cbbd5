"""The words that start one of our own modules as a process: in a checkout, and in the packed program.

In a checkout that is Python with `-m`. The packed program holds no Python that could be started: it starts itself, with
a first argument that the entry reads before all others. A onefile is two programs, one in the other: the outer one
unpacks the inner one into a cache and becomes it. Children are started from the inner one, which is there as long as
we run, and never from the outer one, which its owner may swap meanwhile.
"""

import os
import sys
from collections.abc import MutableMapping, Sequence
from pathlib import Path

from mycoswarm.base.errors import InputError

FLAG = "--module"
ENTRY = "mycoswarm.cli.entry"
# Only these may be named after the flag; each has a `main()` that reads `sys.argv`.
STARTABLE = (
    "mycoswarm.catalog.inspection",
    "mycoswarm.hardware.bandwidth",
    "mycoswarm.hardware.devices",
    "mycoswarm.sandbox.prover",
    "mycoswarm.sandbox.runner",
    "mycoswarm.sandbox.turnkey",
    "mycoswarm.stage.process",
)
# What the outer program leaves to the inner one alone: a child that finds its process id waits for the end of that
# process, and ends itself where it cannot be seen.
_HANDED_DOWN = ("NUITKA_ONEFILE_PARENT", "NUITKA_ONEFILE_DIRECTORY")


def _find_packed() -> Path | None:
    compiled = globals().get("__compiled__")  # Nuitka gives it to each module that it compiled
    return None if compiled is None else Path(compiled.process_exe)


# The inner program that runs, None in a checkout.
PACKED = _find_packed()


def entry_words(packed: Path | None = PACKED) -> tuple[str, ...]:
    """What starts the command line."""
    # -P keeps the current folder out of the module search path: nothing planted there is run.
    return (sys.executable, "-P", "-m", ENTRY) if packed is None else (str(packed),)


def module_words(name: str, packed: Path | None = PACKED) -> tuple[str, ...]:
    """What starts one of `STARTABLE`; arguments may follow."""
    assert name in STARTABLE
    return (sys.executable, "-P", "-m", name) if packed is None else (str(packed), FLAG, name)


def asked_module(arguments: Sequence[str]) -> str | None:
    """The module that these arguments ask for, None where they are a command line.

    Raises:
        InputError: it is none that may be started.
    """
    if not arguments or arguments[0] != FLAG:
        return None
    name = arguments[1] if len(arguments) > 1 else ""
    if name not in STARTABLE:
        raise InputError(f"{name!r} is not a module to start", hint=f"{FLAG} is for this program's own children.")
    return name


def settle(environment: MutableMapping[str, str], search: list[str], packed: Path | None = PACKED) -> None:
    """Make the packed program its own: it hands nothing of the outer one down, and finds no module beside that."""
    if packed is None:
        return
    for name in _HANDED_DOWN:
        environment.pop(name, None)
    # Nuitka puts the outer program's folder first, and that may be a download folder.
    search[:] = [each for each in search if Path(os.path.abspath(each)) == packed.parent]  # noqa: PTH100  # follows no link
