"""The program's own environment, and Nuitka over it: one file; our modules as machine code, all else as bytecode."""

import shutil
import subprocess
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from target import Target

from bench import JOBS, OUT, ROOT, BuildError, digest, folder_mebibytes, run, say

NAME = "mycoswarm-node"
# Imported by name at run time, where Nuitka does not see it.
PACKAGES = ("mycoswarm", "llama_cpp", "uvicorn", "tzdata", "zeroconf")
MODULES = ("zttp", "_json", "_bisect")
# They are asked for their version or their entry points at run time.
DESCRIBED = ("mycoswarm", "llama_cpp_python", "mcp", "httpx2", "httpcore2", "opentelemetry-api", "pydantic")
LEFT_OUT = (
    *("llama_cpp.server", "numpy.f2py", "numpy.testing", "setuptools", "tkinter", "pydoc", "pdb", "pip"),
    *(
        "pydoc_data",
        "doctest",
        "lib2to3",
        "idlelib",
        "ensurepip",
        "turtle",
        "distutils",
        "venv",
        "xmlrpc",
        "pydantic.v1",
    ),
    "pygments",  # rich wants it for colours of source code, which nobody here is shown
    "readline",  # its library is under the GPL, and this program is not; `chat` then has no arrow keys
)
START = "from mycoswarm.cli.entry import program\n\nprogram()\n"


@dataclass(frozen=True, slots=True)
class Identity:
    """Of what is built: the version, and a digest of everything of ours that it is made of."""

    version: str
    digest: str


def identify(target: Target, libraries: tuple[Path, ...]) -> Identity:
    """Name what will be built. Two builds of the same files have the same name, wherever they are built."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "appliance", "web", "build/pack"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    files = [ROOT / line for line in listed.stdout.splitlines() if (ROOT / line).is_file()]
    files += [ROOT / "constraints.txt", ROOT / "pyproject.toml", *libraries]
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    return Identity(version, digest(files, target.version()))


def lay_out(target: Target, site: Path) -> None:
    """Collect the files that are no modules. Nuitka takes libcapture.so for one, and puts it where it belongs."""
    home = target.raw / "mycoswarm"
    shutil.rmtree(target.raw, ignore_errors=True)
    package = site / "mycoswarm"
    for path in sorted(package.rglob("*")):
        if path.is_file() and path.suffix not in (".py", ".pyc", ".c", ".so"):
            place = home / path.relative_to(package)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, place)


def freeze(target: Target, identity: Identity, nuitka: Sequence[str | Path], surroundings: Mapping[str, str]) -> Path:
    """Compile and pack; gives the one file. `nuitka` are the words that start it."""
    work = target.folder / "nuitka"
    work.mkdir(parents=True, exist_ok=True)
    start = work / "start.py"
    start.write_text(START)
    options = [
        "--mode=onefile",
        "--assume-yes-for-downloads",
        f"--output-dir={work}",
        f"--output-filename={NAME}",
        f"--user-plugin={ROOT / 'build' / 'pack' / 'plugin.py'}",
        f"--include-raw-dir={target.raw}=.",
        *(f"--include-package={name}" for name in PACKAGES),
        *(f"--include-module={name}" for name in MODULES),
        "--include-package-data=tzdata",
        *(f"--include-distribution-metadata={name}" for name in DESCRIBED),
        f"--nofollow-import-to={','.join(LEFT_OUT)}",
        # The digest keeps two builds of one version apart: one never writes over the other's files while it runs.
        f"--onefile-tempdir-spec={{CACHE_DIR}}/mycoswarm/node/{identity.version}-{identity.digest[:12]}",
        "--onefile-no-compression",
        f"--product-version={identity.version}",
        "--no-deployment-flag=self-execution",
        f"--jobs={JOBS}",
        f"--report={work / 'report.xml'}",
        "--no-progressbar",
    ]
    run(
        "compiling and packing",
        [*nuitka, *options, start],
        folder=work,
        environment={"SOURCE_DATE_EPOCH": "0", **surroundings},
    )
    made = work / NAME
    if not made.exists():
        raise BuildError("Nuitka made no file")
    OUT.mkdir(exist_ok=True)
    place = OUT / f"{NAME}-{target.name}"
    shutil.copy2(made, place.with_suffix(".new"))
    place.with_suffix(".new").replace(place)
    say(f"made {place.relative_to(ROOT)}")
    return place


def unfold(target: Target) -> Path:
    """The inner program as a folder, for a system image: it needs no cache to unpack itself into."""
    made = target.folder / "nuitka" / "start.dist"
    place = OUT / f"{NAME}-{target.name}.standalone"
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(made, place, symlinks=True)
    (place / f"{NAME}.bin").rename(place / NAME)
    say(f"made {place.relative_to(ROOT)}: {folder_mebibytes(place)}")
    return place
