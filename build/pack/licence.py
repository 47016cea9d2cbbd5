"""The licences of everything that goes into the binary, as one text for each part, and a list of the parts.

They come from the installed packages themselves, from llama.cpp's source, and for libraries of the system from Debian's
own copyright files. A part without a licence text ends the build: it may not be given on.
"""

import importlib.metadata
import json
import re
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from llama import SOURCE
from target import Target

from bench import ROOT, BuildError, pinned, say

NAMED = re.compile(r"(licen[cs]e|copying|notice|authors)", re.IGNORECASE)
# The C library, its loader, and what leads to GPU drivers stay the system's own.
SYSTEM = re.compile(r"(ld-linux.*|libc|libm|libdl|libpthread|librt|libutil|libresolv|libvulkan)\.so.*")
# Parts of the standard library that are not packed.
UNUSED = frozenset({"_tkinter", "readline", "nis", "_dbm", "_gdbm", "_curses", "_curses_panel", "_crypt"})
MAX_TEXT_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Part:
    """Something of others inside the binary. `kind`: python, native or runtime."""

    name: str
    version: str
    licence: str
    kind: str
    text: str


def gather_licences(target: Target, site: Path) -> tuple[Part, ...]:
    """Write the texts and their list into what will be packed."""
    parts = sorted(
        [*_distributions(site), *_native(target, site), _llama(), _python(target), _nuitka()],
        key=lambda part: part.name.lower(),
    )
    silent = [part.name for part in parts if not part.text.strip()]
    if silent:
        raise BuildError(f"no licence text found for {', '.join(silent)}")
    folder = target.raw / "mycoswarm" / "licenses"
    folder.mkdir(parents=True)
    for part in parts:
        (folder / f"{part.name}.txt").write_text(part.text, "utf-8")
    (folder / "ours.txt").write_text((ROOT / "LICENSE").read_text("utf-8"), "utf-8")
    listed = [{"name": p.name, "version": p.version, "licence": p.licence, "kind": p.kind} for p in parts]
    (folder / "list.json").write_text(json.dumps(listed, indent=1) + "\n", "utf-8")
    say(f"licences of {len(parts)} parts")
    return tuple(parts)


def _distributions(site: Path) -> list[Part]:
    found = []
    for each in importlib.metadata.distributions(path=[str(site)]):
        name = each.metadata["Name"]
        if name == "mycoswarm":
            continue
        paths = [Path(str(file.locate())) for file in each.files or () if NAMED.search(Path(str(file)).name)]
        texts = [path.read_text("utf-8", "replace") for path in sorted(paths) if _is_text(path)]
        said = each.metadata.get("License-Expression") or each.metadata.get("License") or _classified(each)
        text = "\n\n".join(texts) or _standing_in(name, said)
        found.append(Part(name, each.version, said.splitlines()[0][:100] if said else "see text", "python", text))
    return found


def _is_text(path: Path) -> bool:
    return path.is_file() and path.suffix not in (".py", ".pyc", ".so") and path.stat().st_size < MAX_TEXT_BYTES


def _classified(each: importlib.metadata.Distribution) -> str:
    said = [line for line in each.metadata.get_all("Classifier") or () if line.startswith("License ::")]
    return "; ".join(line.rpartition(" :: ")[2] for line in said)


def _standing_in(name: str, said: str) -> str:
    """For packages that name their licence and bring no text: what they say of themselves."""
    return f"{name} brings no licence text along. It says of itself: {said}\n" if said else ""


def _llama() -> Part:
    home = SOURCE / "vendor" / "llama.cpp"
    texts = [home / "LICENSE", *sorted((home / "licenses").glob("LICENSE*"))]
    joined = "\n\n".join(path.read_text("utf-8") for path in texts)
    return Part("llama.cpp", f"of llama-cpp-python {pinned('llama-cpp-python')}", "MIT", "native", joined)


def _python(target: Target) -> Part:
    own = [] if target.prefix else [Path(sysconfig.get_path("stdlib")) / "LICENSE.txt"]
    places = [*own, target.root / "usr" / "share" / "doc" / "python3" / "copyright"]
    text = next((path.read_text("utf-8", "replace") for path in places if path.exists()), "")
    return Part("CPython", target.version(), "PSF-2.0", "runtime", text)


def _nuitka() -> Part:
    each = importlib.metadata.distribution("nuitka")
    paths = [Path(str(f.locate())) for f in each.files or () if "LICENSE-RUNTIME" in str(f) or "NOTICE" in str(f)]
    text = "\n\n".join(path.read_text("utf-8") for path in sorted(paths))
    return Part("Nuitka-runtime", each.version, "see text", "runtime", text)


def _native(target: Target, site: Path) -> list[Part]:
    """Libraries of the system that extension modules need: Nuitka packs them too."""
    parts = {}
    modules = _extensions(target, site)
    for path in _needed_across(target, modules) if target.prefix else _needed(modules):
        package, version = owner_of(path, target.root)
        copyright_file = target.root / "usr" / "share" / "doc" / package / "copyright"
        text = copyright_file.read_text("utf-8", "replace") if copyright_file.exists() else ""
        parts[package] = Part(package, version, "see text", "native", text)
    return list(parts.values())


def _extensions(target: Target, site: Path) -> list[Path]:
    usual = Path(sysconfig.get_path("stdlib"))
    standard = next((target.root / "usr" / "lib").glob("python3.*/lib-dynload")).parent if target.prefix else usual
    modules = [path for path in (standard / "lib-dynload").glob("*.so") if path.name.partition(".")[0] not in UNUSED]
    if target.prefix:  # Debian's Python has further modules, and what they need, in itself
        modules.append((target.root / "usr" / "bin" / "python3").resolve())
    return [*modules, *site.rglob("*.so*")]


def _needed(modules: list[Path]) -> list[Path]:
    needed: dict[str, Path] = {}
    for module in modules:
        listed = subprocess.run(["ldd", module], capture_output=True, text=True, check=False, timeout=60).stdout
        for path in re.findall(r"=> (/\S+)", listed):
            if not SYSTEM.fullmatch(Path(path).name) and str(path).startswith(("/lib", "/usr/lib")):
                needed[Path(path).name] = Path(path)
    return list(needed.values())


def _needed_across(target: Target, modules: list[Path]) -> list[Path]:
    """As `_needed`, read from the files: the loader of another machine would have to be emulated. Names inside."""
    libraries = target.root / "usr" / "lib" / f"{target.machine}-linux-gnu"
    needed: dict[str, Path] = {}
    left = list(modules)
    while left:
        words = [target.tool("readelf"), "--dynamic", left.pop()]
        listed = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60).stdout
        for name in re.findall(r"\(NEEDED\).*\[([^]]+)\]", listed):
            path = libraries / name
            if name not in needed and not SYSTEM.fullmatch(name) and path.exists():
                needed[name] = Path("/") / path.relative_to(target.root)
                left.append(path)
    return list(needed.values())


@cache
def owner_of(path: Path, root: Path = Path("/")) -> tuple[str, str]:
    """The Debian package that a library of the system in `root` is of, and its version."""
    query = ["dpkg-query", f"--admindir={root / 'var' / 'lib' / 'dpkg'}"]
    within = Path("/") / (root / str(path)[1:]).resolve().relative_to(root.resolve())
    for place in (path, within, Path("/usr") / str(path)[1:], Path(str(path).removeprefix("/usr"))):
        told = subprocess.run([*query, "-S", place], capture_output=True, text=True, check=False, timeout=30)
        if told.returncode == 0:
            package = told.stdout.partition(":")[0]
            shown = subprocess.run(
                [*query, "-W", "-f", "${Version}\n", package],
                capture_output=True,
                text=True,
                check=True,
                timeout=30,
            )
            return package, shown.stdout.splitlines()[0]
    print(f"no package owns {path}", file=sys.stderr)
    return path.name.partition(".so")[0], "unknown"
