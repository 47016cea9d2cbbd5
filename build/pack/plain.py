"""numpy without OpenBLAS: that library is 25 MB of matrix products, and nothing here multiplies matrices in numpy.

Built from its own source package, once for each version; numpy then uses the small routines that it brings.
"""

import shutil
from pathlib import Path

from bench import CACHE, JOBS, PYTHON, pinned, run, say

FOLDER = CACHE / "numpy"


def make_numpy() -> Path:
    """Give the wheel; builds it where it is not there yet."""
    version = pinned("numpy")
    found = sorted(FOLDER.glob(f"numpy-{version}-*.whl"))
    if found:
        say("numpy: from the cache")
        return found[0]
    shutil.rmtree(FOLDER, ignore_errors=True)
    setup = [f"-Csetup-args=-D{word}" for word in ("blas=none", "lapack=none", "allow-noblas=true")]
    words = ["-m", "pip", "wheel", "--no-deps", "--no-binary", "numpy", "--wheel-dir", FOLDER, *setup]
    compilers = {"CC": "ccache gcc", "CXX": "ccache g++"}
    run("numpy", [PYTHON, *words, f"-Ccompile-args=-j{JOBS}", f"numpy=={version}"], environment=compilers)
    return next(FOLDER.glob("*.whl"))
