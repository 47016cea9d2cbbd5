"""llama.cpp's libraries for any machine of an architecture, and the Python part of llama-cpp-python beside them.

Once for each version: both lie in the target's part of build/out/cache, below `llama`, afterwards. The source is
llama-cpp-python's own source package, which holds the llama.cpp that it was written for.
"""

import json
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

from shaders import Shaders
from target import Target

from bench import CACHE, JOBS, PYTHON, BuildError, digest, pinned, run, say

PACKAGE = "llama-cpp-python"
FOLDER = CACHE / "llama"
SOURCE = FOLDER / "source"
FLAGS = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DBUILD_SHARED_LIBS=ON",
    "-DGGML_NATIVE=OFF",
    "-DGGML_BACKEND_DL=ON",
    "-DGGML_CPU_ALL_VARIANTS=ON",
    "-DGGML_OPENMP=OFF",
    *(f"-DLLAMA_BUILD_{part}=OFF" for part in ("TESTS", "EXAMPLES", "SERVER", "TOOLS", "COMMON", "APP")),
    # One file for each library: with versioned names, ctypes would load a second copy under another name.
    "-DCMAKE_PLATFORM_NO_VERSIONED_SONAME=ON",
    "-DCMAKE_INSTALL_RPATH=$ORIGIN",
    "-DCMAKE_BUILD_WITH_INSTALL_RPATH=ON",
    "-DCMAKE_C_COMPILER_LAUNCHER=ccache",
    "-DCMAKE_CXX_COMPILER_LAUNCHER=ccache",
)
# Variants that gcc 12 is not up to. Of AMX it drops most of the tile configuration, and the first matrix product then
# ends the process: such a processor takes the variant for Zen 4, which has all but AMX. SME it does not know: such a
# processor takes the variant for armv8.6 with SVE2.
BEYOND = re.compile(r"^ *ggml_add_cpu_backend_variant\((?:sapphirerapids|armv9\.2_\d) .*\n", re.MULTILINE)
LEAST = {"x86_64": "libggml-cpu-x64.so", "aarch64": "libggml-cpu-armv8.0_1.so"}


def make_llama(target: Target, shaders: Shaders | None) -> tuple[tuple[Path, ...], Path]:
    """Build what is not there yet; gives the libraries and the wheel."""
    home = target.folder / "llama"
    stamp = home / "stamp.json"
    key = digest([Path(__file__)], pinned(PACKAGE), _compiler(target), "" if shaders is None else shaders.version)
    if stamp.exists() and json.loads(stamp.read_text())["key"] == key:
        say("llama.cpp: from the cache")
    else:
        _unpack()
        _compile(target, home / "build", shaders)
        _collect(target, home, shaders is not None)
        _wheel(target, home / "wheel")
        stamp.write_text(json.dumps({"key": key}))
    return tuple(sorted((home / "lib").glob("*.so"))), next((home / "wheel").glob("*.whl"))


def _unpack() -> None:
    version = pinned(PACKAGE)
    archive = FOLDER / f"llama_cpp_python-{version}.tar.gz"
    if not archive.exists():
        words = (
            "-m",
            "pip",
            "download",
            "--no-deps",
            "--no-binary",
            ":all:",
            "--dest",
            FOLDER,
            f"{PACKAGE}=={version}",
        )
        run("fetching llama.cpp", [PYTHON, *words])
    if not SOURCE.exists():
        fresh = FOLDER / "fresh"
        shutil.rmtree(fresh, ignore_errors=True)
        with tarfile.open(archive) as packed:
            packed.extractall(fresh, filter="data")
        next(fresh.iterdir()).rename(SOURCE)
    listed = SOURCE / "vendor" / "llama.cpp" / "ggml" / "src" / "CMakeLists.txt"
    text = listed.read_text("utf-8")
    if BEYOND.search(text):
        listed.write_text(BEYOND.sub("", text), "utf-8")


def _compile(target: Target, build: Path, shaders: Shaders | None) -> None:
    source = SOURCE / "vendor" / "llama.cpp"
    for old in (build / "bin").glob("*.so"):  # an earlier build may have made other variants
        old.unlink()
    # Asserts name their file: the same name wherever this is built.
    paths = f"-ffile-prefix-map={source}=llama.cpp"
    flags = [*FLAGS, f"-DCMAKE_C_FLAGS={paths}", f"-DCMAKE_CXX_FLAGS={paths}"]
    if target.prefix:
        flags += ["-DCMAKE_SYSTEM_NAME=Linux", f"-DCMAKE_SYSTEM_PROCESSOR={target.machine}"]
        flags += [f"-DCMAKE_C_COMPILER={target.tool('gcc')}", f"-DCMAKE_CXX_COMPILER={target.tool('g++')}"]
    if shaders is None:
        flags.append("-DGGML_VULKAN=OFF")
    else:
        flags += ["-DGGML_VULKAN=ON", *shaders.flags]
    # No git repository above this folder is llama.cpp's: its version would be taken for llama.cpp's own.
    apart = {"GIT_CEILING_DIRECTORIES": str(FOLDER)}
    run("configuring llama.cpp", ["cmake", "-S", source, "-B", build, "-G", "Ninja", *flags], environment=apart)
    run("compiling llama.cpp", ["ninja", "-C", build, f"-j{JOBS}", "llama"], environment=apart)
    if shaders is not None:
        run("compiling Vulkan", ["ninja", "-C", build, f"-j{JOBS}", "ggml-vulkan"], environment=apart)


def _collect(target: Target, home: Path, with_vulkan: bool) -> None:
    libraries = home / "lib"
    shutil.rmtree(libraries, ignore_errors=True)
    libraries.mkdir(parents=True)
    for path in sorted((home / "build" / "bin").glob("*.so")):
        if path.name == "libggml-vulkan.so" and not with_vulkan:
            continue
        strip = [target.tool("strip"), "--strip-unneeded", "-o", libraries / path.name, path]
        subprocess.run(strip, check=True, timeout=120)
    names = {path.name for path in libraries.iterdir()}
    wanted = {"libllama.so", "libggml.so", "libggml-base.so", LEAST.get(target.machine, "libllama.so")}
    if not wanted <= names and target.system == "linux":
        raise BuildError(f"libraries are missing; there are {sorted(names)}")


def _wheel(target: Target, wheels: Path) -> None:
    shutil.rmtree(wheels, ignore_errors=True)
    words = ("-m", "pip", "wheel", "--no-deps", "--no-cache-dir", "--wheel-dir", wheels, SOURCE)
    run("llama-cpp-python", [PYTHON, *words], environment={"CMAKE_ARGS": "-DLLAMA_BUILD=OFF -DLLAVA_BUILD=OFF"})
    if target.prefix:  # it is named after this machine, but there is nothing of a machine in it
        made = next(wheels.glob("*.whl"))
        made.rename(made.with_name(f"{made.stem.rpartition('-')[0]}-any.whl"))


def _compiler(target: Target) -> str:
    words = [target.tool("g++"), "--version"]
    return subprocess.run(words, capture_output=True, text=True, check=True, timeout=30).stdout
