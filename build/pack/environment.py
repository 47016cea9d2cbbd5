"""The environment that goes into the binary: the program, what it stands on by constraints.txt, and nothing else."""

import shutil
import tomllib
from collections.abc import Sequence
from pathlib import Path

from target import Target

from bench import PYTHON, ROOT, run, run_quietly

# Their wheels hold 11 MB for debuggers. Others stay as they are: strip breaks what patchelf has been at, such as numpy.
STRIPPED = ("uvloop", "yaml")
# arm64 wheels are taken up to the C library of Debian 12, in which they are packed.
OLDEST, NEWEST = 17, 36
# build/capture.py with another place for what it makes.
CAPTURE = """
import os, pathlib, sys
sys.path.insert(0, sys.argv[1])
import capture
capture.compile_capture(capture.SOURCE, pathlib.Path(sys.argv[2]), dict(os.environ))
"""


def furnish(target: Target, wheels: Sequence[Path], libraries: tuple[Path, ...]) -> Path:
    """Install everything; gives its site-packages."""
    site = _across(target, wheels) if target.prefix else _here(target, wheels)
    home = site / "llama_cpp" / "lib"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir()
    for library in libraries:
        shutil.copy2(library, home)
    for package in STRIPPED:
        for library in (site / package).rglob("*.so"):
            run_quietly([target.tool("strip"), "--strip-debug", library])
    # The tools' Python, in which Nuitka runs, sees what is installed here.
    (_site(target.tools) / "program.pth").write_text(f"{site}\n")
    return site


def _here(target: Target, wheels: Sequence[Path]) -> Path:
    python = target.program / "bin" / "python"
    if not python.exists():
        run("making the environment", ["python3", "-m", "venv", "--without-pip", target.program])
    pip = [PYTHON, "-m", "pip", "--python", python, "install", "--constraint", ROOT / "constraints.txt"]
    run("installing what it stands on", [*pip, *wheels, *_dependencies(wheels)])
    run("installing the program", [*pip, "--no-deps", "--force-reinstall", "--no-cache-dir", ROOT])
    return _site(target.program)


def _across(target: Target, wheels: Sequence[Path]) -> Path:
    """This machine's pip unpacks wheels of the other kind, and a compiler for it makes the one library of our own."""
    label = ".".join(target.version().split(".")[:2])
    for folder, packages in ((target.tools, _tools()), (target.program, ())):
        if packages and (folder / "tools.txt").exists() and (folder / "tools.txt").read_text("utf-8") == str(packages):
            continue
        shutil.rmtree(folder, ignore_errors=True)
        _lay_environment(folder, label)
        if packages:
            _unpack(_site(folder), "installing tools for the emulated system", packages)
            (folder / "tools.txt").write_text(str(packages), "utf-8")
    site = _site(target.program)
    tags = [f"manylinux_2_{minor}_{target.machine}" for minor in range(NEWEST, OLDEST - 1, -1)]
    kind = [
        word
        for tag in (*tags, f"manylinux2014_{target.machine}", f"linux_{target.machine}")
        for word in ("--platform", tag)
    ]
    kind += [
        "--only-binary=:all:",
        "--implementation",
        "cp",
        "--python-version",
        label,
        "--abi",
        f"cp{label.replace('.', '')}",
        *("--abi", "abi3", "--abi", "none"),
    ]
    _unpack(
        site,
        "installing what it stands on",
        [*kind, "--constraint", ROOT / "constraints.txt", *wheels, *_dependencies(wheels)],
    )
    _unpack(site, "installing the program", ["--no-deps", "--no-cache-dir", ROOT])
    library = site / "mycoswarm" / "stage" / "libcapture.so"
    library.unlink()  # of this machine's kind
    words = [PYTHON, "-B", "-c", CAPTURE, ROOT / "build", library]
    run("compiling libcapture.so", words, environment={"CC": target.tool("gcc")})
    return site


def _unpack(site: Path, what: str, words: Sequence[str | Path]) -> None:
    run(what, [PYTHON, "-m", "pip", "install", "--target", site, *words])
    shutil.rmtree(site / "bin", ignore_errors=True)  # commands that nobody calls


def _lay_environment(folder: Path, label: str) -> None:
    """A virtual environment is no more than this; the emulated Python would take a minute to make it."""
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").symlink_to("/usr/bin/python3")
    (folder / "lib" / f"python{label}" / "site-packages").mkdir(parents=True)
    (folder / "pyvenv.cfg").write_text("home = /usr/bin\ninclude-system-site-packages = false\n", "utf-8")


def _tools() -> tuple[str, ...]:
    lines = (ROOT / "build" / "pack" / "tools.txt").read_text("utf-8").splitlines()
    return tuple(line for line in lines if line.startswith("nuitka"))


def _site(environment: Path) -> Path:
    return next((environment / "lib").glob("python3.*")) / "site-packages"


def _dependencies(wheels: Sequence[Path]) -> list[str]:
    """What pyproject.toml names, less what there is a wheel for."""
    made = tuple(wheel.name.partition("-")[0].replace("_", "-") for wheel in wheels)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return [word for word in project["dependencies"] if not word.startswith(made)]
