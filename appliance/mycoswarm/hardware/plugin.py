"""llama.cpp's back ends as libraries of their own, loaded by the processes that compute and by no other.

In a checkout llama.cpp is one piece and nothing is loaded. The packed program brings one library for each kind of
processor and one for Vulkan, of which llama.cpp takes what this machine can run. What is too large to bring along,
such as CUDA, its owner puts into a folder. A library there is code that runs as we do, so the folder and the file must
be closed to others.
"""

import ctypes
import os
import stat
import sys
from collections.abc import Mapping
from pathlib import Path

FOLDER_NAME = "MYCOSWARM_PLUGINS"  # the environment's name for another folder
FOLDER = Path("/usr/local/lib/mycoswarm/plugins")
MAX_PLUGINS = 16
_PATTERN = "libggml-*.so"


def plugin_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Where further back ends are looked for."""
    return Path(environment.get(FOLDER_NAME) or FOLDER)


def find_plugins(folder: Path) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    """The libraries to load, by name, and why others are not."""
    found, refused = [], []
    if folder.is_absolute() and folder.is_dir():
        for path in sorted(folder.glob(_PATTERN))[:MAX_PLUGINS]:
            open_to = next((each for each in (folder, path) if not _is_closed(each)), None)
            if open_to is None:
                found.append(path)
            else:
                refused.append(f"{path} is not loaded: others than its owner may change {open_to}")
    return tuple(found), tuple(refused)


def load_back_ends(library: ctypes.CDLL, own_folder: Path, plugins: Path | None = None) -> None:
    """Load what this machine can run, where llama.cpp has nothing yet. Twice does nothing more.

    Each folder is named: llama.cpp's default search also looks into the current one, where anybody could have put a
    library.
    """
    library.ggml_backend_dev_count.restype = ctypes.c_size_t
    if library.ggml_backend_dev_count():
        return
    library.ggml_backend_load_all_from_path.argtypes = [ctypes.c_char_p]
    library.ggml_backend_load_all_from_path.restype = None
    library.ggml_backend_load_all_from_path(os.fsencode(own_folder))
    library.ggml_backend_load.argtypes = [ctypes.c_char_p]
    library.ggml_backend_load.restype = ctypes.c_void_p
    found, refused = find_plugins(plugins or plugin_folder())
    for path in found:
        if not library.ggml_backend_load(os.fsencode(path)):
            refused += (f"{path} is not loaded: llama.cpp does not take it (another version of it, or no driver)",)
    for line in refused:
        sys.stderr.write(f"{line}\n")


def _is_closed(path: Path) -> bool:
    try:
        found = path.stat()
    except OSError:
        return False
    return found.st_uid in (0, os.geteuid()) and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
