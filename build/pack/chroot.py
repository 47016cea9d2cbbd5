"""The emulated arm64 system: Debian 12, with a Python to be packed and with this machine's compilers inside.

Compilers and Nuitka run at full speed: they are this machine's own programs, to which its loader and libraries are
linked. What is emulated are the few questions to the system's own Python and loader, and the smoke test. Debian 12 sets
the oldest C library that the binary runs on. The packages' address is that of this machine's own sources.
"""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from shaders import addresses
from target import Target

from bench import ROOT, BuildError, digest, run, run_quietly, say

SUITE = "bookworm"
# The last is what a library for Vulkan is linked to; it stays outside of what is packed.
PACKAGES = ("python3", "libpython3.11-dev", "libexpat1-dev", "zlib1g-dev", "libvulkan1")
NEEDED = {
    "mmdebstrap": "mmdebstrap",
    "unshare": "util-linux",
    "/usr/bin/python3.11": "python3.11",
    "aarch64-linux-gnu-gcc": "gcc-aarch64-linux-gnu",
    "aarch64-linux-gnu-g++": "g++-aarch64-linux-gnu",
    "qemu-aarch64-static": "qemu-user-static",
}
FORMATS = Path("/proc/sys/fs/binfmt_misc")
FORMAT = Path("/usr/lib/binfmt.d/qemu-aarch64.conf")
ENTER = Path(__file__).with_name("enter")
GUISE = Path(__file__).with_name("guise.py")
# Names inside, and what of this machine they are.
COMPILERS = {"gcc": "gcc", "cc": "gcc", "g++": "g++", "c++": "g++"}
BINARY_TOOLS = ("ar", "as", "ld", "nm", "objcopy", "objdump", "ranlib", "readelf", "strip")
OWN_TOOLS = ("ccache", "patchelf")


def make_root(target: Target) -> tuple[str, ...]:
    """Make the system where it is not there yet; gives the words that run a command in it."""
    _check()
    _register()
    root = target.root
    stamp = root.with_name("root.stamp")
    told = subprocess.run([target.tool("gcc"), "--version"], capture_output=True, text=True, check=True, timeout=30)
    compiler = told.stdout.splitlines()[0]
    key = digest([], SUITE, *PACKAGES, *COMPILERS, *BINARY_TOOLS, *OWN_TOOLS, compiler)
    if stamp.exists() and stamp.read_text("utf-8") == key:
        say("the emulated system: from the cache")
    else:
        stamp.unlink(missing_ok=True)
        _clear(root)
        _install(root)
        _fit(root, compiler)
        stamp.write_text(key, "utf-8")
    # A process namespace too: whatever was begun inside ends with the command.
    return (
        "unshare",
        "--mount",
        "--propagation=private",
        "--pid",
        "--fork",
        "--kill-child",
        str(ENTER),
        str(root),
        str(ROOT),
    )


def nuitka_words(target: Target, inside: tuple[str, ...]) -> tuple[str | Path, ...]:
    """What starts Nuitka inside: this machine's Python, of the very version of the one that is packed.

    Without optimization over all files, as that cannot have data beside code (`surroundings`).
    """
    label = ".".join(target.version().split(".")[:2])
    own = Path(f"/usr/bin/python{label}")
    said = subprocess.run([own, "--version"], capture_output=True, text=True, check=True, timeout=30).stdout.split()[-1]
    if said != target.version():
        raise BuildError(f"{own} is {said}, and the one to be packed is {target.version()}: bring both up to date")
    words = (target.machine, target.tools / "bin" / "python")
    folders = [next((each / "lib").glob("python3.*")) / "site-packages" for each in (target.tools, target.program)]
    return (*inside, f"/host{own}", "-X", "frozen_modules=off", "-S", GUISE, *words, *folders, "--", "--lto=no")


def surroundings(target: Target) -> Mapping[str, str]:
    """What Nuitka finds in its environment: its own cache, compilers known by what is in them, the packed library."""
    label = ".".join(target.version().split(".")[:2])
    return {
        "NUITKA_CACHE_DIR": str(target.folder / "nuitka-cache"),
        "CCACHE_COMPILERCHECK": "content",
        "NUITKA_RESOURCE_MODE": "incbin",  # the linker's way takes this machine's kind for the other's
        "PYTHONHOME": "/usr",
        # Where the Python that runs has its own extension modules; those of the packed one end otherwise.
        "PYTHONPATH": f"/host/usr/lib/python{label}/lib-dynload",
    }


def _check() -> None:
    missing = sorted({package for program, package in NEEDED.items() if shutil.which(program) is None})
    if missing:
        raise BuildError(f"missing: apt install {' '.join(missing)}")
    if os.geteuid() != 0:
        raise BuildError("the emulated system needs root: for its mounts, and to go into it")


def _register() -> None:
    """Have the kernel run arm64 programs by qemu, in any root: the F that `fix_binary` is written with."""
    if not (FORMATS / "register").exists():
        run_quietly(["mount", "-t", "binfmt_misc", "none", FORMATS])
    if not (FORMATS / "qemu-aarch64").exists():
        for line in FORMAT.read_text("utf-8").splitlines():
            if line.startswith(":"):
                (FORMATS / "register").write_text(line, "utf-8")
    flags = next((line for line in (FORMATS / "qemu-aarch64").read_text("utf-8").splitlines() if "flags" in line), "")
    if "F" not in flags.partition(":")[2]:
        raise BuildError(
            "qemu-aarch64 is registered without F, and is not found in another root; take qemu-user-static"
        )


def _clear(root: Path) -> None:
    """Remove what a build that was cut off left. Nothing is mounted there but by hand, and then it stays."""
    mounted = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text("utf-8").splitlines()]
    if any(Path(place).is_relative_to(root) for place in mounted):
        raise BuildError(f"something is mounted below {root}; unmount it first")
    shutil.rmtree(root, ignore_errors=True)


def _install(root: Path) -> None:
    lines = []
    for address in addresses():
        if address.rstrip("/").rpartition("/")[2] not in ("debian", "debian-security"):
            continue  # somebody else's packages
        suite = f"{SUITE}-security" if address.rstrip("/").endswith("-security") else SUITE
        lines.append(f"deb {address} {suite} main\n")
    sources = root.with_name("sources.list")
    root.parent.mkdir(parents=True, exist_ok=True)
    sources.write_text("".join(lines), "utf-8")
    left_out = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("man", "locale", "info")]
    words = ["--mode=root", "--architectures=arm64", "--variant=minbase", f"--include={','.join(PACKAGES)}", *left_out]
    run("making the emulated system", ["mmdebstrap", *words, SUITE, root, sources])


def _fit(root: Path, compiler: str) -> None:
    """Link this machine's loader and libraries in, and write small scripts for its tools.

    ccache takes such a script for the compiler, and knows it by what is in it: so the compiler's version is.
    """
    machine = "x86_64-linux-gnu"
    (root / "lib64").mkdir(exist_ok=True)
    (root / "lib64" / "ld-linux-x86-64.so.2").symlink_to(f"/host/usr/lib/{machine}/ld-linux-x86-64.so.2")
    (root / "usr" / "lib" / machine).symlink_to(f"/host/usr/lib/{machine}")
    (root / "usr" / "aarch64-linux-gnu").symlink_to("/host/usr/aarch64-linux-gnu")
    tools = {name: f"aarch64-linux-gnu-{own}" for name, own in COMPILERS.items()}
    tools |= {name: f"aarch64-linux-gnu-{name}" for name in BINARY_TOOLS} | {name: name for name in OWN_TOOLS}
    for name, own in tools.items():
        script = root / "usr" / "local" / "bin" / name
        script.write_text(f'#!/host/usr/bin/sh\n# {compiler}\nexec /host/usr/bin/{own} "$@"\n', "utf-8")
        script.chmod(0o755)
