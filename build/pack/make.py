"""The recipe of `build/binary`: its steps in order, and what each took."""

import argparse
import platform
import subprocess
import sys
import time
from pathlib import Path

from bill import write_bill, write_sums
from freeze import freeze, furnish, identify, lay_out
from licence import gather_licences
from llama import make_llama
from plain import make_numpy
from shaders import find_shaders

from bench import CACHE, OUT, PYTHON, ROOT, BuildError, mebibytes, run, say, warn

TOOLS = ROOT / "build" / "pack" / "tools.txt"


def main() -> int:
    """Build, write the papers, try it out."""
    parser = argparse.ArgumentParser(prog="build/binary")
    parser.add_argument("--cpu", action="store_true", help="leave Vulkan out")
    parser.add_argument("--no-smoke", action="store_true", help="do not try out what was made")
    given = parser.parse_args()
    if platform.system() != "Linux":
        warn("build/binary was only tried on Linux; build/README.md says what is known of other systems")
    begun = time.monotonic()
    try:
        _tools()
        shaders = None if given.cpu else find_shaders()
        libraries, wheel = make_llama(shaders)
        site = furnish([make_numpy(), wheel], libraries)
        lay_out(site)
        gather_licences(site)
        identity = identify(libraries)
        made = freeze(identity)
        download = compress(made)
        bill = write_bill(made, libraries)
        write_sums([made, download, bill])
    except BuildError as error:
        warn(f"build/binary: {error}")
        return 1
    say(f"{made.name}: {mebibytes(made)}, for download {mebibytes(download)}, build {identity.digest[:12]}")
    say(f"Vulkan: {'left out' if shaders is None else 'inside'}; altogether {time.monotonic() - begun:.0f} s")
    if given.no_smoke:
        return 0
    return subprocess.run([ROOT / "build" / "smoke", made], check=False).returncode


# A branch's target as an address instead of a distance repeats, and what repeats is small: xz calls that a filter.
FILTERS = {"x86_64": "--x86", "aarch64": "--arm64"}


def compress(made: Path) -> Path:
    """For download. `xz -d` needs 128 MiB of memory for it."""
    download = made.with_name(f"{made.name}.xz")
    filters = [FILTERS[made.name.rpartition("-")[2]], "--lzma2=preset=9e,dict=128MiB"]
    run("compressing for download", ["xz", "--keep", "--force", "--threads=1", *filters, made])
    return download


def _tools() -> None:
    """What builds, apart from what goes into the binary."""
    stamp = CACHE / "venv" / "tools.stamp"
    wanted = TOOLS.read_text("utf-8")
    if not stamp.exists() or stamp.read_text("utf-8") != wanted:
        run("installing tools", [PYTHON, "-m", "pip", "install", "--requirement", TOOLS])
        stamp.write_text(wanted, "utf-8")


if __name__ == "__main__":
    OUT.mkdir(exist_ok=True)
    sys.exit(main())
