"""Hidden states out of llama.cpp: the C capture (capture.c), and the check that exactly the asked-for rows came."""

import ctypes
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mycoswarm.base.errors import CaptureError, SetupError

LIBRARY = Path(__file__).with_name("libcapture.so")
_FAULTS = {
    1: "is of type {type}, not f32",
    2: "has rows of {width} values",
    3: "is not a plain matrix: {shape}",
    4: "has {rows} rows, more than fit",
    5: "came twice in one step",
    6: "was there but could not be read",
}


class _Fields(ctypes.Structure):
    """`struct capture` of capture.c, field for field."""

    _fields_ = (
        ("name_of", ctypes.c_void_p),
        ("bytes_of", ctypes.c_void_p),
        ("read", ctypes.c_void_p),
        ("wanted", ctypes.c_char_p),
        ("rows", ctypes.c_void_p),
        ("width", ctypes.c_int64),
        ("capacity_rows", ctypes.c_int64),
        ("step", ctypes.c_int64),
        ("copied_step", ctypes.c_int64),
        ("copied_rows", ctypes.c_int64),
        ("calls", ctypes.c_int64),
        ("steps", ctypes.c_int64),
        ("total_rows", ctypes.c_int64),
        ("fault", ctypes.c_int32),
        ("seen_type", ctypes.c_int32),
        ("seen_ne", ctypes.c_int64 * 4),
    )


@dataclass(frozen=True, slots=True)
class TensorFunctions:
    """Addresses of `ggml_get_name`, `ggml_nbytes` and `ggml_backend_tensor_get`, from the library that computes."""

    name_of: int
    bytes_of: int
    read: int


class Capture:
    """Rows of the tensor named `wanted`, once per step. Used by one thread.

    Covered: the tensor missing, coming twice, of another type, width or shape, with more or fewer rows than asked, a
    read that brought nothing, rows of an earlier step. Not covered: rows in another order than the batch; the engine
    opens the context so that there is only one order.
    """

    def __init__(
        self, functions: TensorFunctions, wanted: str, *, width: int, capacity_rows: int, library: Path = LIBRARY
    ) -> None:
        """Raises: SetupError, where libcapture.so is not built or is another version's."""
        code = _open_library(library)
        self._rows = np.zeros((capacity_rows, width), np.float32)
        self._wanted = wanted
        self._fields = _Fields(
            name_of=functions.name_of,
            bytes_of=functions.bytes_of,
            read=functions.read,
            wanted=wanted.encode(),
            rows=self._rows.ctypes.data,
            width=width,
            capacity_rows=capacity_rows,
            copied_step=-1,
        )
        self.callback_address = ctypes.cast(code.capture_eval, ctypes.c_void_p).value or 0
        self.user_data_address = ctypes.addressof(self._fields)
        self._code = code  # keeps the code loaded as long as its address is in use

    @property
    def total_rows(self) -> int:
        """Rows copied since the capture was made."""
        return int(self._fields.total_rows)

    def begin(self) -> None:
        """Call before each decode: what was captured before it no longer counts."""
        self._fields.step += 1
        self._fields.fault = 0

    def take(self, n_rows: int) -> NDArray[np.float32]:
        """A copy of this step's rows, float32[n_rows, width].

        Raises:
            CaptureError: anything but exactly `n_rows` rows of this step.
        """
        fields = self._fields
        if fields.fault:
            ne = tuple(fields.seen_ne)
            words = _FAULTS[fields.fault].format(type=fields.seen_type, width=ne[0], rows=ne[1], shape=ne)
            raise CaptureError(f"llama.cpp's tensor {self._wanted} {words}")
        if fields.copied_step != fields.step:
            raise CaptureError(f"llama.cpp computed no tensor named {self._wanted} in this step")
        if fields.copied_rows != n_rows:
            raise CaptureError(f"llama.cpp gave {fields.copied_rows} rows of {self._wanted} where {n_rows} were asked")
        return self._rows[:n_rows].copy()


def _open_library(path: Path) -> ctypes.CDLL:
    hint = "Build it with `python build/capture.py` (it needs a C compiler), or install the package again."
    try:
        code = ctypes.CDLL(str(path))
    except OSError as exc:
        raise SetupError(f"the capture library {path.name} cannot be loaded: {exc}", hint=hint) from exc
    code.capture_size.restype = ctypes.c_size_t
    if code.capture_size() != ctypes.sizeof(_Fields):
        raise SetupError(f"the capture library {path.name} belongs to another version", hint=hint)
    return code
