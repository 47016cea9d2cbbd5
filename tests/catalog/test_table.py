"""The token table: rows as llama.cpp itself would dequantise them."""

import ctypes
from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from llama_cpp import _ggml

from models import write_random_model
from mycoswarm.base.errors import ModelFileError, ProtocolError
from mycoswarm.catalog.architecture import is_dequantisable
from mycoswarm.catalog.assembly import assemble
from mycoswarm.catalog.depot import PieceStore
from mycoswarm.catalog.piece import PieceSource, write_manifest
from mycoswarm.catalog.table import Table

WIDTH, ROWS = 256, 12


class _Traits(ctypes.Structure):
    """The head of ggml_type_traits in ggml.h."""

    _fields_ = (
        ("type_name", ctypes.c_char_p),
        ("blck_size", ctypes.c_int64),
        ("blck_size_interleave", ctypes.c_int64),
        ("type_size", ctypes.c_size_t),
        ("is_quantized", ctypes.c_bool),
        ("to_float", ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)),
    )


def ggml_floats(kind: GGMLQuantizationType, data: np.ndarray, count: int) -> np.ndarray:
    """Dequantise with ggml's own `to_float`."""
    base = ctypes.CDLL(str(next(Path(_ggml.libggml_base_path).glob("libggml-base.*"))))
    base.ggml_get_type_traits.restype = ctypes.POINTER(_Traits)
    traits = base.ggml_get_type_traits(int(kind)).contents
    assert traits.type_size == GGML_QUANT_SIZES[kind][1]
    out = np.zeros(count, np.float32)
    data = np.ascontiguousarray(data)
    traits.to_float(data.ctypes.data, out.ctypes.data, count)
    return out


KINDS = [
    kind
    for kind in GGMLQuantizationType
    if is_dequantisable(kind) and kind.name not in ("F32", "I8", "I16", "I32", "I64", "F64")
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_rows_equal_ggmls_own_bit_for_bit(kind: GGMLQuantizationType, tmp_path: Path) -> None:
    block, block_bytes = GGML_QUANT_SIZES[kind]
    raw = np.random.default_rng(1).integers(0, 256, (ROWS, WIDTH // block * block_bytes), np.uint8)
    writer = gguf.GGUFWriter(tmp_path / "t.gguf", "llama")
    writer.add_tensor("token_embd.weight", raw, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    table = Table.open(tmp_path / "t.gguf")
    tokens = np.array([3, 0, 11, 3], np.int32)
    with np.errstate(all="ignore"):
        rows = table.rows(tokens)
    expected = ggml_floats(kind, raw[tokens], rows.size).reshape(rows.shape)
    assert rows.shape == (4, WIDTH)
    assert rows.dtype == np.float32
    same = (rows.view(np.uint32) == expected.view(np.uint32)) | (np.isnan(rows) & np.isnan(expected))
    assert same.all(), f"{(~same).sum()} of {same.size} differ"


def test_the_table_of_a_piece_and_of_the_whole_file_are_one(tmp_path: Path) -> None:
    for name, scale in (("llama", 1.0), ("granite", 12.0), ("gemma3", 8.0)):
        model = write_random_model(tmp_path / f"{name}.gguf", name)
        source, manifest = PieceSource(model), write_manifest(model)
        store = PieceStore(tmp_path / "pieces")
        for piece in store.missing(manifest, 0, 2):
            store.receive(manifest, piece, source.open(piece.name))
        tokens = np.arange(320, dtype=np.int32)
        with assemble(store, manifest, 0, 2) as files:
            assert files.table is not None
            assert files.table_scale == scale
            rows = Table.open(files.table, files.table_scale).rows(tokens)
        assert np.array_equal(rows, Table.open(model).rows(tokens) * np.float32(scale))
        assert Table.open(model).rows(tokens[:0]).shape == (0, 64)


def test_tokens_outside_the_vocabulary_are_refused(tmp_path: Path) -> None:
    table = Table.open(write_random_model(tmp_path / "m.gguf", n_layer=2))
    for token in (-1, 320, 2**31 - 1):
        with pytest.raises(ProtocolError):
            table.rows(np.array([1, token], np.int32))


def test_a_file_without_a_table_is_refused(tmp_path: Path) -> None:
    source = PieceSource(write_random_model(tmp_path / "m.gguf", n_layer=2))
    (tmp_path / "head").write_bytes(b"".join(source.open("head")))
    with pytest.raises(ModelFileError, match="no token table"):
        Table.open(tmp_path / "head")
