"""The recipe of `build/binary`: its steps in order, and what each took."""

import argparse
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

from bill import write_bill, write_sums
from chroot import make_root, nuitka_words, surroundings
from environment import furnish
from freeze import freeze, identify, lay_out, unfold
from licence import gather_licences
from llama import make_llama
from plain import make_numpy
from shaders import find_shaders
from target import ARM, choose_target

from bench import CACHE, OUT, PYTHON, ROOT, BuildError, mebibytes, run, say, warn

TOOLS = ROOT / "build" / "pack" / "tools.txt"


def main() -> int:
    """Build, write the papers, try it out."""
    parser = argparse.ArgumentParser(prog="build/binary")
    parser.add_argument("--target", help=f"what for: this machine's kind, or {ARM}")
    parser.add_argument("--cpu", action="store_true", help="leave Vulkan out")
    parser.add_argument("--no-smoke", action="store_true", help="do not try out what was made")
    given = parser.parse_args()
    if platform.system() != "Linux":
        warn("build/binary was only tried on Linux; build/README.md says what is known of other systems")
    begun = time.monotonic()
    try:
        target = choose_target(given.target)
        _tools()
        inside = make_root(target) if target.prefix else ()
        shaders = None if given.cpu else find_shaders(target)
        libraries, wheel = make_llama(target, shaders)
        site = furnish(target, [make_numpy(target, inside), wheel], libraries)
        lay_out(target, site)
        gather_licences(target, site)
        identity = identify(target, libraries)
        nuitka = nuitka_words(target, inside) if inside else (PYTHON, "-m", "nuitka")
        made = freeze(target, identity, nuitka, surroundings(target) if inside else {})
        if inside:
            unfold(target)
        download = compress(made)
        write_bill(target, made, libraries)
        write_sums()
    except BuildError as error:
        warn(f"build/binary: {error}")
        return 1
    say(f"{made.name}: {mebibytes(made)}, for download {mebibytes(download)}, build {identity.digest[:12]}")
    used = os.times()
    cpu_s = used.user + used.system + used.children_user + used.children_system
    say(f"Vulkan: {'left out' if shaders is None else 'inside'}")
    say(f"altogether {time.monotonic() - begun:.0f} s ({cpu_s:.0f} CPU s)")
    if given.no_smoke:
        return 0
    smoke = (
        [*inside, "python3", "-I", "-B", ROOT / "build" / "pack" / "smoke.py", made]
        if inside
        else [ROOT / "build" / "smoke", made]
    )
    return subprocess.run([*smoke, *(["--emulated"] if inside else [])], check=False).returncode


# A branch's target as an address instead of a distance repeats, and what repeats is small: xz calls that a filter.
FILTERS = {"x86_64": "--x86", "aarch64": "--arm64"}


def compress(made: Path) -> Path:
    """For download. `xz -d` needs 128 MiB of memory for it."""
    download = made.with_name(f"{made.name}.xz")
    filters = [FILTERS[made.name.rpartition("-")[2]], "--lzma2=preset=6,dict=128MiB"]
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
