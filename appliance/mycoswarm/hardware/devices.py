"""The child process that asks llama.cpp which devices it can compute on, and prints them as JSON.

A process of its own (base/program.py has the words that start it), never
imported by the daemon: loading llama.cpp starts GPU drivers, which may crash or hang the whole process.
`listing.py` starts this child and reads its answer, one line:

    [{"name", "description", "kind", "backend", "memory_free_bytes", "memory_total_bytes", "id"}, ...]
"""

import ctypes
import json
import os
import signal
import sys
from pathlib import Path

from llama_cpp import llama_cpp

from mycoswarm.base.egress import Guard, install
from mycoswarm.hardware.plugin import load_back_ends

# enum ggml_backend_dev_type, ggml/include/ggml-backend.h of llama-cpp-python 0.3.36
_KINDS = ("cpu", "gpu", "igpu", "accel", "meta")
# Nobody waits this long; the alarm ends a child whose parent was killed meanwhile.
_LIFETIME_S = 30


class _Properties(ctypes.Structure):
    """struct ggml_backend_dev_props of the same header, with room for fields that later versions add."""

    _fields_ = [
        ("name", ctypes.c_char_p),
        ("description", ctypes.c_char_p),
        ("memory_free", ctypes.c_size_t),
        ("memory_total", ctypes.c_size_t),
        ("kind", ctypes.c_int),
        ("device_id", ctypes.c_char_p),
        ("rest", ctypes.c_byte * 256),
    ]


def main() -> int:
    """Print the devices on the real standard output; what drivers print meanwhile goes to standard error."""
    install(Guard())  # Python code here has nothing to connect to; drivers are not seen by it
    if hasattr(signal, "alarm"):
        signal.alarm(_LIFETIME_S)
    answer = os.dup(1)
    os.dup2(2, 1)
    line = json.dumps(_describe_all()) + "\n"
    os.write(answer, line.encode("utf-8"))
    return 0


def _describe_all() -> list[dict[str, str | int | None]]:
    library = _prepare(llama_cpp._lib)
    load_back_ends(library, Path(llama_cpp._base_path))
    return [_describe(library, index) for index in range(library.ggml_backend_dev_count())]


def _describe(library: ctypes.CDLL, index: int) -> dict[str, str | int | None]:
    device = library.ggml_backend_dev_get(index)
    properties = _Properties()
    library.ggml_backend_dev_get_props(device, ctypes.byref(properties))
    backend = library.ggml_backend_reg_name(library.ggml_backend_dev_backend_reg(device))
    return {
        "name": _text(properties.name),
        "description": _text(properties.description),
        "kind": _KINDS[properties.kind] if 0 <= properties.kind < len(_KINDS) else None,
        "backend": _text(backend),
        "memory_free_bytes": properties.memory_free if properties.memory_total else None,
        "memory_total_bytes": properties.memory_total or None,
        "id": _text(properties.device_id),
    }


def _prepare(library: ctypes.CDLL) -> ctypes.CDLL:
    """Declare the functions; without this a pointer is cut to 32 bits."""
    library.ggml_backend_dev_count.argtypes = []
    library.ggml_backend_dev_count.restype = ctypes.c_size_t
    library.ggml_backend_dev_get.argtypes = [ctypes.c_size_t]
    library.ggml_backend_dev_get.restype = ctypes.c_void_p
    library.ggml_backend_dev_get_props.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    library.ggml_backend_dev_get_props.restype = None
    library.ggml_backend_dev_backend_reg.argtypes = [ctypes.c_void_p]
    library.ggml_backend_dev_backend_reg.restype = ctypes.c_void_p
    library.ggml_backend_reg_name.argtypes = [ctypes.c_void_p]
    library.ggml_backend_reg_name.restype = ctypes.c_char_p
    return library


def _text(raw: bytes | None) -> str | None:
    return None if raw is None else raw.decode("utf-8", errors="replace")


if __name__ == "__main__":
    sys.exit(main())
