"""numpy without OpenBLAS: that library is 25 MB of matrix products, and nothing here multiplies matrices in numpy.

Built from its own source package, once for each version; numpy then uses the small routines that it brings. For another
machine it is compiled across: that machine's Python is asked for no more than its names and folders.
"""

import shlex
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path

from target import Target

from bench import JOBS, PYTHON, BuildError, pinned, run, say


def make_numpy(target: Target, inside: Sequence[str]) -> Path:
    """Give the wheel; builds it where it is not there yet. `inside` begins a command where Python is emulated."""
    version = pinned("numpy")
    folder = target.folder / "numpy"
    found = sorted(folder.glob(f"numpy-{version}-*.whl"))
    if found:
        say("numpy: from the cache")
        return found[0]
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    setup = [f"-Csetup-args=-D{word}" for word in ("blas=none", "lapack=none", "allow-noblas=true")]
    if inside:
        setup.append(f"-Csetup-args=--cross-file={_describe(target, folder, inside)}")
    # No cache: pip would take another machine's build for this one's, as it does not look at the settings.
    words = ["-m", "pip", "wheel", "--no-cache-dir", "--no-deps", "--no-binary", "numpy", "--wheel-dir", folder, *setup]
    # Below this checkout, as the emulated Python sees nothing else of this machine.
    apart = folder / "tmp"
    apart.mkdir()
    compilers = {"TMPDIR": str(apart)} if inside else {"CC": "ccache gcc", "CXX": "ccache g++"}
    run("numpy", [PYTHON, *words, f"-Ccompile-args=-j{JOBS}", f"numpy=={version}"], environment=compilers)
    made = next(folder.glob("*.whl"))
    with zipfile.ZipFile(made) as packed:
        modules = [name for name in packed.namelist() if name.endswith(".so")]
    if not modules or not all(f"-{target.machine}-" in name for name in modules):
        made.unlink()
        raise BuildError(f"numpy was built for another machine than {target.machine}: {modules[:1]}")
    if not inside:
        return made
    kind = f"linux_{target.machine}"  # pip named it after this machine, on which it ran
    return made.rename(made.with_name(f"{made.stem.rpartition('-')[0]}-{kind}.whl"))


def _describe(target: Target, folder: Path, inside: Sequence[str]) -> Path:
    """What meson must know of the other machine."""
    headers = target.root / "usr" / "include"
    label = ".".join(target.version().split(".")[:2])
    python = folder / "python"  # one name: numpy's recipe runs its own programs by the first word alone
    python.write_text(f'#!/bin/sh\nexec {shlex.join(inside)} python3 "$@"\n', "utf-8")
    python.chmod(0o755)
    # Debian's pyconfig.h takes the one of its machine, by a path below /usr/include.
    flags = ["-isystem", str(headers / f"python{label}"), "-idirafter", str(headers)]
    tools = {"c": ["ccache", target.tool("gcc")], "cpp": ["ccache", target.tool("g++")], "cython": ["cython"]}
    tools |= {"ar": [target.tool("ar")], "strip": [target.tool("strip")], "python": [str(python)]}
    lines = ["[binaries]", *(f"{name} = {words!r}" for name, words in tools.items())]
    lines += ["[built-in options]", f"c_args = {flags!r}", f"cpp_args = {flags!r}"]
    lines += ["[properties]", "needs_exe_wrapper = true", "longdouble_format = 'IEEE_QUAD_LE'"]
    lines += ["[host_machine]", "system = 'linux'", "endian = 'little'"]
    lines += [f"cpu_family = '{target.machine}'", f"cpu = '{target.machine}'"]
    path = folder / "machine.ini"
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path
