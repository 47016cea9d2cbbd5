"""llama.cpp's libraries for any machine of this architecture, and the Python part of llama-cpp-python beside them.

Once for each version: both lie in build/out/cache/llama afterwards. The source is llama-cpp-python's own source
package, which holds the llama.cpp that it was written for.
"""

import json
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

from shaders import Shaders

from bench import CACHE, JOBS, PYTHON, BuildError, digest, pinned, run, say

PACKAGE = "llama-cpp-python"
FOLDER = CACHE / "llama"
SOURCE, BUILD, LIBRARIES, WHEELS = FOLDER / "source", FOLDER / "build", FOLDER / "lib", FOLDER / "wheel"
STAMP = FOLDER / "stamp.json"
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
# gcc 12 drops most of AMX's tile configuration, and the first matrix product then ends the process. Without this one
# such a processor takes the variant for Zen 4, which has all but AMX.
LEFT_OUT = ("libggml-cpu-sapphirerapids.so",)


def make_llama(shaders: Shaders | None) -> tuple[tuple[Path, ...], Path]:
    """Build what is not there yet; gives the libraries and the wheel."""
    key = digest([Path(__file__)], pinned(PACKAGE), _compiler(), "" if shaders is None else shaders.version)
    if STAMP.exists() and json.loads(STAMP.read_text())["key"] == key:
        say("llama.cpp: from the cache")
    else:
        _unpack()
        _compile(shaders)
        _collect(shaders is not None)
        _wheel()
        STAMP.write_text(json.dumps({"key": key}))
    return tuple(sorted(LIBRARIES.glob("*.so"))), next(WHEELS.glob("*.whl"))


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


def _compile(shaders: Shaders | None) -> None:
    source = SOURCE / "vendor" / "llama.cpp"
    # Asserts name their file: the same name wherever this is built.
    paths = f"-ffile-prefix-map={source}=llama.cpp"
    flags = [*FLAGS, f"-DCMAKE_C_FLAGS={paths}", f"-DCMAKE_CXX_FLAGS={paths}"]
    if shaders is None:
        flags.append("-DGGML_VULKAN=OFF")
    else:
        flags += ["-DGGML_VULKAN=ON", *shaders.flags]
    # No git repository above this folder is llama.cpp's: its version would be taken for llama.cpp's own.
    apart = {"GIT_CEILING_DIRECTORIES": str(FOLDER)}
    run("configuring llama.cpp", ["cmake", "-S", source, "-B", BUILD, "-G", "Ninja", *flags], environment=apart)
    run("compiling llama.cpp", ["ninja", "-C", BUILD, f"-j{JOBS}", "llama"], environment=apart)
    if shaders is not None:
        run("compiling Vulkan", ["ninja", "-C", BUILD, f"-j{JOBS}", "ggml-vulkan"], environment=apart)


def _collect(with_vulkan: bool) -> None:
    shutil.rmtree(LIBRARIES, ignore_errors=True)
    LIBRARIES.mkdir(parents=True)
    for path in sorted((BUILD / "bin").glob("*.so")):
        if path.name in LEFT_OUT or (path.name == "libggml-vulkan.so" and not with_vulkan):
            continue
        subprocess.run(["strip", "--strip-unneeded", "-o", LIBRARIES / path.name, path], check=True, timeout=120)
    names = {path.name for path in LIBRARIES.iterdir()}
    if not {"libllama.so", "libggml.so", "libggml-base.so", "libggml-cpu-x64.so"} <= names and sys.platform == "linux":
        raise BuildError(f"libraries are missing; there are {sorted(names)}")


def _wheel() -> None:
    shutil.rmtree(WHEELS, ignore_errors=True)
    words = ("-m", "pip", "wheel", "--no-deps", "--no-cache-dir", "--wheel-dir", WHEELS, SOURCE)
    run("llama-cpp-python", [PYTHON, *words], environment={"CMAKE_ARGS": "-DLLAMA_BUILD=OFF -DLLAVA_BUILD=OFF"})


def _compiler() -> str:
    return subprocess.run(["g++", "--version"], capture_output=True, text=True, check=True, timeout=30).stdout
