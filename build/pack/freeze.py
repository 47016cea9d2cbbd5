"""The program's own environment, and Nuitka over it: one file; our modules as machine code, all else as bytecode."""

import platform
import shutil
import subprocess
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import CACHE, JOBS, OUT, PYTHON, ROOT, BuildError, digest, run, run_quietly, say

PROGRAM = CACHE / "program"  # the environment that goes into the binary, and nothing else
WORK = CACHE / "nuitka"
RAW = CACHE / "raw"  # files that lie beside the modules, as they are
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
# Their wheels hold 11 MB for debuggers. Others stay as they are: strip breaks what patchelf has been at, such as numpy.
STRIPPED = ("uvloop", "yaml")
START = "from mycoswarm.cli.entry import program\n\nprogram()\n"


@dataclass(frozen=True, slots=True)
class Identity:
    """Of what is built: the version, and a digest of everything of ours that it is made of."""

    version: str
    digest: str


def identify(libraries: tuple[Path, ...]) -> Identity:
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
    return Identity(version, digest(files, platform.python_version()))


def furnish(wheels: Sequence[Path], libraries: tuple[Path, ...]) -> Path:
    """Install the program and what it stands on into an environment of its own; gives its site-packages."""
    python = PROGRAM / "bin" / "python"
    if not python.exists():
        run("making the environment", ["python3", "-m", "venv", "--without-pip", PROGRAM])
    pip = [PYTHON, "-m", "pip", "--python", python, "install", "--constraint", ROOT / "constraints.txt"]
    run("installing what it stands on", [*pip, *wheels, *_dependencies()])
    run("installing the program", [*pip, "--no-deps", "--force-reinstall", "--no-cache-dir", ROOT])
    site = next((PROGRAM / "lib").glob("python3.*")) / "site-packages"
    home = site / "llama_cpp" / "lib"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir()
    for library in libraries:
        shutil.copy2(library, home)
    for package in STRIPPED:
        for library in (site / package).rglob("*.so"):
            run_quietly(["strip", "--strip-debug", library])
    # The tools' Python, in which Nuitka runs, sees what is installed here.
    (next((CACHE / "venv" / "lib").glob("python3.*")) / "site-packages" / "program.pth").write_text(f"{site}\n")
    return site


def _dependencies() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return [word for word in project["dependencies"] if not word.startswith(("llama-cpp-python", "numpy"))]


def lay_out(site: Path) -> None:
    """Collect the files that are no modules. Nuitka takes libcapture.so for one, and puts it where it belongs."""
    shutil.rmtree(RAW, ignore_errors=True)
    package = site / "mycoswarm"
    for path in sorted(package.rglob("*")):
        if path.is_file() and path.suffix not in (".py", ".pyc", ".c", ".so"):
            target = RAW / "mycoswarm" / path.relative_to(package)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, target)


def freeze(identity: Identity) -> Path:
    """Compile and pack; gives the one file."""
    WORK.mkdir(parents=True, exist_ok=True)
    start = WORK / "start.py"
    start.write_text(START)
    options = [
        "--mode=onefile",
        "--assume-yes-for-downloads",
        f"--output-dir={WORK}",
        f"--output-filename={NAME}",
        f"--user-plugin={ROOT / 'build' / 'pack' / 'plugin.py'}",
        f"--include-raw-dir={RAW}=.",
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
        f"--report={WORK / 'report.xml'}",
        "--no-progressbar",
    ]
    run(
        "compiling and packing",
        [PYTHON, "-m", "nuitka", *options, start],
        folder=WORK,
        environment={"SOURCE_DATE_EPOCH": "0"},
    )
    made = WORK / NAME
    if not made.exists():
        raise BuildError("Nuitka made no file")
    OUT.mkdir(exist_ok=True)
    target = OUT / f"{NAME}-{platform.system().lower()}-{platform.machine()}"
    shutil.copy2(made, target.with_suffix(".new"))
    target.with_suffix(".new").replace(target)
    say(f"made {target.relative_to(ROOT)}")
    return target
