"""What compiles llama.cpp's Vulkan shaders, unpacked beside the system: nothing is installed.

Debian 12's glslc knows neither cooperative matrices nor the integer dot product, and llama.cpp would be built without
them. So the one of Debian 13 is taken, with its headers, and run by its own loader on its own C library. The address is
that of this machine's own package sources. Where apt or that address is missing, there is no Vulkan in the binary.
"""

import os
import platform
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from target import Target

from bench import CACHE, BuildError, run, warn

FOLDER = CACHE / "vulkan"
SUITE = "trixie"
PACKAGES = (
    "glslc",
    "libshaderc1",
    "libc6",
    "libgcc-s1",
    "libstdc++6",
    "libvulkan1",
    "libvulkan-dev",
    "spirv-headers",
)
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
SOURCES = (Path("/etc/apt/sources.list.d/debian.sources"), Path("/etc/apt/sources.list"))


@dataclass(frozen=True, slots=True)
class Shaders:
    """`flags` are cmake's; `version` is glslc's own word."""

    flags: tuple[str, ...]
    version: str


def find_shaders(target: Target) -> Shaders | None:
    """The tools, fetched the first time; None, with a word, where that cannot be."""
    root = FOLDER / "root"
    library = root / "usr" / "lib" / f"{platform.machine()}-linux-gnu"
    glslc = FOLDER / "glslc"
    if not glslc.exists():
        try:
            _fetch(root)
            loader = next(library.glob("ld-linux-*.so.*"))
        except (BuildError, OSError, subprocess.SubprocessError, StopIteration) as exc:
            warn(f"Vulkan is left out: its shader compiler could not be had ({exc or 'no loader in it'})")
            return None
        glslc.write_text(f'#!/bin/sh\nexec "{loader}" --library-path "{library}" "{root}/usr/bin/glslc" "$@"\n')
        glslc.chmod(0o755)
    version = subprocess.run([glslc, "--version"], capture_output=True, text=True, check=True, timeout=30).stdout
    linked = target.root / "usr" / "lib" / f"{target.machine}-linux-gnu" if target.prefix else library
    flags = (
        f"-DVulkan_GLSLC_EXECUTABLE={glslc}",
        f"-DVulkan_INCLUDE_DIR={root}/usr/include",
        f"-DVulkan_LIBRARY={linked}/libvulkan.so.1",
        f"-DSPIRV-Headers_DIR={root}/usr/share/cmake/SPIRV-Headers",
    )
    return Shaders(flags, version)


def _fetch(root: Path) -> None:
    """Download and unpack, with an apt that keeps its state here and needs no rights."""
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise BuildError("this system has no apt")
    shutil.rmtree(FOLDER, ignore_errors=True)
    for name in ("state/lists/partial", "cache/archives/partial", "parts", "packages"):
        (FOLDER / name).mkdir(parents=True)
    (FOLDER / "parts" / "newer.sources").write_text(
        f"Types: deb\nURIs: {addresses()[0]}\nSuites: {SUITE}\nComponents: main\nSigned-By: {KEYRING}\n"
    )
    (FOLDER / "status").touch()
    options = {
        "Dir::State": FOLDER / "state",
        "Dir::State::status": FOLDER / "status",
        "Dir::Cache": FOLDER / "cache",
        "Dir::Etc::sourcelist": os.devnull,
        "Dir::Etc::sourceparts": FOLDER / "parts",
        "APT::Sandbox::User": "",
        "Acquire::Languages": "none",
    }
    words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    run("listing Vulkan tools", ["apt-get", *words, "update"])
    run("fetching Vulkan tools", ["apt-get", *words, "download", *PACKAGES], folder=FOLDER / "packages")
    for package in sorted((FOLDER / "packages").glob("*.deb")):
        subprocess.run(["dpkg-deb", "--extract", package, root], check=True, timeout=120)


def addresses() -> tuple[str, ...]:
    """Where this machine's own packages come from, the main archive first."""
    for path in SOURCES:
        if path.exists():
            found = re.findall(r"^(?:URIs:|deb(?: \[[^]]*\])?) *(\S+)", path.read_text("utf-8"), re.MULTILINE)
            if found:
                return tuple(dict.fromkeys(found))
    raise BuildError("this machine's package sources name no address")
