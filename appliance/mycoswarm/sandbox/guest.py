"""A program that stays in the sandbox and is spoken with: what the runner becomes, once it has bound itself.

The runner says one empty line first: then it holds its limits, and all that is written to it is the program's.
"""

import os
import resource
import signal
import sys
from typing import NoReturn

import msgspec

READY = b"\n"


class Program(msgspec.Struct, frozen=True):
    """`environment` comes over the sandbox's own. `data_bytes`: memory that each process may write to; addresses are
    another thing, for some languages take many and use few."""

    words: tuple[str, ...]
    environment: dict[str, str] = {}
    data_bytes: int = 1 << 30


def become(program: Program) -> NoReturn:
    """Say that all is ready, and be this program from now on."""
    # The Python that mycoSwarm runs on comes first: servers that are installed beside it are found.
    search = f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ.get('PATH', os.defpath)}"  # noqa: PTH120
    environment = {**os.environ, "PATH": search, **program.environment}
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and a program would go on doing so
        signal.signal(number, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_DATA, (program.data_bytes, program.data_bytes))
    os.write(sys.stdout.fileno(), READY)
    try:
        os.execvpe(program.words[0], program.words, environment)  # noqa: S606  # what this is for; no shell
    except OSError as exc:
        os.write(sys.stderr.fileno(), f"{program.words[0]}: {exc.strerror}\n".encode())
    os._exit(127)
