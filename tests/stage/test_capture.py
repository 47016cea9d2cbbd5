"""The C capture, driven with fake tensors and fake ggml functions: nothing but exactly the asked-for rows gets out."""

import ctypes
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mycoswarm.base.errors import CaptureError, SetupError
from mycoswarm.stage.capture import LIBRARY, Capture, TensorFunctions

WIDTH, CAPACITY = 6, 4
F32, F16 = 0, 1
NAME = "l_out-7"


class FakeTensor(ctypes.Structure):
    """The prefix of `struct ggml_tensor`, and behind it what our fake functions look at."""

    _fields_ = (
        ("type", ctypes.c_int32),
        ("buffer", ctypes.c_void_p),
        ("ne", ctypes.c_int64 * 4),
        ("nb", ctypes.c_uint64 * 4),
        ("name", ctypes.c_char_p),
        ("data", ctypes.c_void_p),
        ("nbytes", ctypes.c_size_t),
    )


class FakeLlama:
    """Functions as ggml has them, and a scheduler's way of calling back."""

    def __init__(self, name: str = NAME) -> None:
        tensor = ctypes.POINTER(FakeTensor)
        self._name_of = ctypes.CFUNCTYPE(ctypes.c_void_p, tensor)(self._read_name)
        self._bytes_of = ctypes.CFUNCTYPE(ctypes.c_size_t, tensor)(lambda t: t.contents.nbytes)
        self._read = ctypes.CFUNCTYPE(None, tensor, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t)(self._copy)
        self.reads = 0
        self.capture = Capture(
            TensorFunctions(*self._addresses()),
            name,
            width=WIDTH,
            capacity_rows=CAPACITY,
        )
        kind = ctypes.CFUNCTYPE(ctypes.c_bool, ctypes.c_void_p, ctypes.c_bool, ctypes.c_void_p)
        self._callback = kind(self.capture.callback_address)

    def _addresses(self) -> Iterator[int]:
        for function in (self._name_of, self._bytes_of, self._read):
            yield ctypes.cast(function, ctypes.c_void_p).value or 0

    def _read_name(self, tensor: "ctypes._Pointer[FakeTensor]") -> int:
        return int.from_bytes(
            bytes(ctypes.string_at(ctypes.addressof(tensor.contents) + FakeTensor.name.offset, 8)), "little"
        )

    def _copy(self, tensor: "ctypes._Pointer[FakeTensor]", target: int, offset: int, size: int) -> None:
        self.reads += 1
        ctypes.memmove(target, tensor.contents.data + offset, size)

    def show(self, tensor: FakeTensor) -> bool | None:
        """What a scheduler does with one node: None where the capture does not want it, else whether to go on."""
        address = ctypes.addressof(tensor)
        if not self._callback(address, True, self.capture.user_data_address):
            return None
        return bool(self._callback(address, False, self.capture.user_data_address))


def make_tensor(rows: np.ndarray, name: str = NAME, **changes: object) -> FakeTensor:
    n_rows, width = rows.shape
    tensor = FakeTensor(
        type=F32,
        ne=(width, n_rows, 1, 1),
        nb=(4, 4 * width, 4 * width * n_rows, 4 * width * n_rows),
        name=name.encode(),
        data=rows.ctypes.data,
        nbytes=rows.nbytes,
    )
    for key, value in changes.items():
        setattr(tensor, key, value)
    tensor.owner = rows
    return tensor


def make_rows(n_rows: int, width: int = WIDTH, start: float = 0) -> np.ndarray:
    return start + np.arange(n_rows * width, dtype=np.float32).reshape(n_rows, width)


def test_the_wanted_rows_come_out_and_the_graph_is_ended() -> None:
    llama, rows = FakeLlama(), make_rows(3)
    llama.capture.begin()
    assert llama.show(make_tensor(rows, "l_out-6")) is None
    assert llama.show(make_tensor(rows, "l_out-70")) is None
    assert llama.show(make_tensor(rows)) is False
    taken = llama.capture.take(3)
    assert np.array_equal(taken, rows)
    assert llama.capture.total_rows == 3


def test_taken_rows_are_a_copy_that_the_next_step_does_not_change() -> None:
    llama = FakeLlama()
    llama.capture.begin()
    llama.show(make_tensor(make_rows(2)))
    first = llama.capture.take(2)
    llama.capture.begin()
    llama.show(make_tensor(make_rows(2, start=100)))
    assert np.array_equal(first, make_rows(2))
    assert np.array_equal(llama.capture.take(2), make_rows(2, start=100))


def test_the_rows_of_the_step_before_are_an_error_and_not_an_answer() -> None:
    llama = FakeLlama()
    llama.capture.begin()
    llama.show(make_tensor(make_rows(2)))
    llama.capture.take(2)
    llama.capture.begin()
    with pytest.raises(CaptureError, match="no tensor named l_out-7"):
        llama.capture.take(2)


def test_nothing_captured_at_all_is_an_error() -> None:
    llama = FakeLlama()
    llama.capture.begin()
    with pytest.raises(CaptureError, match="no tensor"):
        llama.capture.take(1)


@pytest.mark.parametrize("given_rows", [0, 1, 3, 4])
def test_missing_and_extra_rows_are_errors(given_rows: int) -> None:
    llama = FakeLlama()
    llama.capture.begin()
    llama.show(make_tensor(make_rows(given_rows)))
    with pytest.raises(CaptureError, match=f"gave {given_rows} rows .* 2 were asked"):
        llama.capture.take(2)


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (make_tensor(make_rows(2), type=F16), "type 1, not f32"),
        (make_tensor(make_rows(2, WIDTH + 1)), "rows of 7 values"),
        (make_tensor(make_rows(2, WIDTH - 1)), "rows of 5 values"),
        (make_tensor(make_rows(CAPACITY + 1)), "has 5 rows, more than fit"),
        (make_tensor(make_rows(2), ne=(WIDTH, 2, 2, 1)), "not a plain matrix"),
        (make_tensor(make_rows(2), ne=(WIDTH, 2, 1, 2)), "not a plain matrix"),
        (make_tensor(make_rows(2), ne=(WIDTH, -2, 1, 1)), "not a plain matrix"),
        (make_tensor(make_rows(2), nb=(4, 4 * WIDTH + 4, 0, 0)), "not a plain matrix"),
        (make_tensor(make_rows(2), nb=(2, 4 * WIDTH, 0, 0)), "not a plain matrix"),
        (make_tensor(make_rows(2), nbytes=4 * WIDTH * 2 - 4), "not a plain matrix"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_tensor_of_another_kind_is_an_error_and_is_never_read(tensor: FakeTensor, words: str) -> None:
    llama = FakeLlama()
    llama.capture.begin()
    assert llama.show(tensor) is False
    assert llama.reads == 0
    with pytest.raises(CaptureError, match=words):
        llama.capture.take(2)


def test_a_tensor_that_comes_twice_in_a_step_is_an_error() -> None:
    llama = FakeLlama()
    llama.capture.begin()
    llama.show(make_tensor(make_rows(2)))
    llama.show(make_tensor(make_rows(2, start=100)))
    with pytest.raises(CaptureError, match="came twice"):
        llama.capture.take(2)


def test_a_fault_ends_with_its_step() -> None:
    llama = FakeLlama()
    llama.capture.begin()
    llama.show(make_tensor(make_rows(2), type=F16))
    llama.capture.begin()
    llama.show(make_tensor(make_rows(2)))
    assert np.array_equal(llama.capture.take(2), make_rows(2))


class RaisingLlama(FakeLlama):
    """A reading function that fails: ctypes swallows its exception, as it would one in a callback in Python."""

    def _copy(self, tensor: "ctypes._Pointer[FakeTensor]", target: int, offset: int, size: int) -> None:
        raise RuntimeError("no data")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_read_that_fails_without_a_word_is_an_error_and_not_the_rows_before() -> None:
    llama = RaisingLlama()
    llama.capture.begin()
    llama.show(make_tensor(make_rows(2)))
    with pytest.raises(CaptureError, match="could not be read"):
        llama.capture.take(2)


@given(st.lists(st.tuples(st.integers(0, CAPACITY + 2), st.integers(0, 2), st.integers(1, CAPACITY)), max_size=12))
def test_whatever_comes_only_exactly_the_rows_of_this_step_get_out(steps: list[tuple[int, int, int]]) -> None:
    llama = FakeLlama()
    for number, (n_rows, times, asked) in enumerate(steps):
        rows = make_rows(n_rows, start=1000 * number)
        llama.capture.begin()
        for _ in range(times):
            llama.show(make_tensor(rows))
        if times == 1 and n_rows == asked:
            assert np.array_equal(llama.capture.take(asked), rows)
        else:
            with pytest.raises(CaptureError):
                llama.capture.take(asked)


def test_a_missing_library_is_a_setup_error_that_says_how_to_build_it(tmp_path: Path) -> None:
    functions = TensorFunctions(name_of=0, bytes_of=0, read=0)
    with pytest.raises(SetupError) as caught:
        Capture(functions, NAME, width=WIDTH, capacity_rows=1, library=tmp_path / "libcapture.so")
    assert "build/capture.py" in caught.value.hint
    assert LIBRARY.name in caught.value.message
