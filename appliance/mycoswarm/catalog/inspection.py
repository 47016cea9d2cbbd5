"""The limited child that reads a model file: `python -m mycoswarm.catalog.inspection FILE SECONDS`; JSON lines on
stdout.

Covered: it cannot take more memory or processor time than it is given, write a file, or leave a core file. Not
covered: it runs as the same user and could open other files, if the parser, which is plain Python, could be made to.
"""

import resource
import sys
from pathlib import Path

import msgspec

from mycoswarm.base.egress import Guard, install
from mycoswarm.base.errors import ModelFileError, SwarmError
from mycoswarm.catalog.facts import Advance, Outcome, Refusal, read_facts

# The parser keeps a header of 256 MiB twice; Python with numpy reserves some 300 MiB of addresses.
_MEMORY_BYTES = 2 << 30
_STEPS = 200  # of progress


def main() -> int:
    """Read one file and say what it is; 1 where it is refused."""
    install(Guard())  # it has nothing to connect to
    arguments = sys.argv[1:]
    limit_self(int(arguments[1]))
    encoder = msgspec.json.Encoder()
    said = -1

    def watch(done: int, total: int) -> None:
        nonlocal said
        step = done * _STEPS // max(total, 1)
        if step != said:
            said = step
            send(Advance(done_bytes=done, total_bytes=total))

    def send(message: Advance | Outcome | Refusal) -> None:
        sys.stdout.buffer.write(encoder.encode(message) + b"\n")
        sys.stdout.buffer.flush()

    try:
        send(Outcome(facts=read_facts(Path(arguments[0]), watch)))
    except SwarmError as error:
        send(Refusal(kind=type(error).__name__, message=error.message, hint=error.hint, code=error.code))
        return 1
    except MemoryError:
        excess = ModelFileError("reading this file takes more memory than a model's header should")
        send(Refusal(kind="ModelFileError", message=excess.message, hint=excess.hint, code=excess.code))
        return 1
    return 0


def limit_self(cpu_s: int) -> None:
    """Bind this process for good."""
    for what, limit in (
        (resource.RLIMIT_AS, _MEMORY_BYTES),
        (resource.RLIMIT_CPU, cpu_s),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(what)[1]
        goal = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(what, (goal, goal))


if __name__ == "__main__":
    sys.exit(main())
