"""Compiles appliance/mycoswarm/stage/capture.c to libcapture.so beside it: as hatch's build hook, or as a script.

    python build/capture.py

Does nothing when the library is newer than its source. $CC is used where set, else cc, gcc or clang. As a hook it also
puts web/ into the wheel, inside the package; an editable install serves the checkout's.
"""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:
    # As a script it needs nothing but Python and a C compiler, so a stand-in will do.
    BuildHookInterface = object  # type: ignore[misc,assignment]

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "appliance" / "mycoswarm" / "stage" / "capture.c"
TARGET = SOURCE.with_name("libcapture.so")
FLAGS = ("-std=c11", "-O2", "-Wall", "-Wextra", "-fPIC", "-shared", "-fvisibility=hidden")
TIMEOUT_S = 120  # the file compiles in well under a second; this bounds a broken compiler
PACKAGES = (
    "Install one: on Debian, Ubuntu and Raspberry Pi OS `apt install build-essential`, on Fedora `dnf install gcc`, "
    "on macOS `xcode-select --install`."
)


class CompileError(Exception):
    """The library cannot be built; the message says what to install."""


def find_compiler(environment: dict[str, str]) -> list[str]:
    """The command of the C compiler to use; $CC may hold words, such as "ccache gcc".

    Raises:
        CompileError: none on this machine.
    """
    commands = [shlex.split(environment["CC"])] if environment.get("CC") else [["cc"], ["gcc"], ["clang"]]
    for program, *words in commands:
        found = shutil.which(program, path=environment.get("PATH", os.defpath))
        if found:
            return [found, *words]
    raise CompileError(f"no C compiler found (looked for {', '.join(c[0] for c in commands)}). {PACKAGES}")


def compile_capture(source: Path, target: Path, environment: dict[str, str]) -> bool:
    """Compile `source` to `target`; False where it was newer already. Half a file is never left in its place.

    Raises:
        CompileError: no compiler, or it failed.
    """
    if target.exists() and target.stat().st_mtime >= source.stat().st_mtime:
        return False
    compiler = find_compiler(environment)
    fresh = target.with_name(f".{os.getpid()}.{target.name}")
    try:
        done = subprocess.run(
            [*compiler, *FLAGS, "-o", str(fresh), str(source)],
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
            env=environment,
        )
        if done.returncode != 0:
            raise CompileError(f"{compiler[0]} failed on {source.name}:\n{done.stderr.strip()}\n{PACKAGES}")
        fresh.replace(target)
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise CompileError(f"{compiler[0]} could not be run: {exc}. {PACKAGES}") from exc
    finally:
        fresh.unlink(missing_ok=True)
    return True


class CaptureHook(BuildHookInterface):  # type: ignore[type-arg]  # the stand-in takes no arguments
    """Hatch calls this before it packs a wheel, which holds machine code, is of one platform, and has the dashboard."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        compile_capture(SOURCE, TARGET, dict(os.environ))
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        if version != "editable":
            build_data["force_include"][str(ROOT / "web")] = "mycoswarm/web"


def main() -> int:
    """Compile, say what was done; 1 where it cannot be."""
    try:
        compiled = compile_capture(SOURCE, TARGET, dict(os.environ))
    except CompileError as exc:
        print(f"mycoswarm: {exc}", file=sys.stderr)
        return 1
    print(f"{TARGET.name} {'compiled' if compiled else 'is up to date'}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
