"""The program that finds out, from inside, whether a sandbox holds: it tries what must fail, then what must work.

Ends with status 0 and says `HELD`, or ends with the first thing that was not refused.
"""

import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from mycoswarm.base.egress import Guard, install

HELD = "held"


def main() -> int:
    """Arguments: a file outside, the id of a process outside, the workspace."""
    install(Guard())
    outside, process, workspace = Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    must_fail: tuple[tuple[str, Callable[[], object]], ...] = (
        ("reading a file outside", outside.read_bytes),
        ("writing to a file outside", lambda: outside.write_text("changed")),
        ("reading the list of users", Path("/etc/passwd").read_bytes),
        ("looking into /proc", lambda: os.listdir("/proc/self")),  # noqa: PTH208  # the list at once, not an iterator
        ("changing a file's mode outside", lambda: outside.chmod(0o600)),
        ("making a folder outside", lambda: outside.with_name(f"{outside.name}.made").mkdir()),
        ("reaching a process outside", lambda: os.kill(process, 0)),
        ("opening a socket", socket.socket),
    )
    for what, attempt in must_fail:
        try:
            attempt()
        except OSError:
            continue
        sys.exit(f"{what} was not refused")
    for path in (workspace / "file", Path(os.environ["TMPDIR"], "file"), Path(os.devnull)):
        path.write_text("text")  # what may be done here must go: if not, it ends with the reason
    sys.stdout.write(f"{HELD}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
