"""How a model falls into pieces and how pieces become a shard: headers and layouts. Pure: no file is touched here.

A **piece** is a byte string with a name that any node can store and check by its SHA-256. Each is a small GGUF file:

    keys         the metadata without the tokenizer, and the few tensors that every layer range needs
    tokenizer    the tokenizer's metadata; no tensors
    table        token_embd: the first stage looks its input up there, a tied model multiplies its output with it
    layer-0000   one layer's tensors, named blk.0.*, in the order of the model file
    head         the output matrix and norm

A **shard** is what llama.cpp loads as one model with `llama_model_load_from_splits`: a start file written for the
range (metadata cut to it, stand-in tensors), then the pieces. The loader (llama-model-loader.cpp) takes the metadata
from the first file alone; of the others it checks `split.no`, of the whole `split.count` and `split.tensors.count`. So
a piece serves any range once its header names the right layer index and split number. Headers take a region of fixed
size, so that they can be rewritten where they are; the data behind them, on a page boundary, never moves.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from mycoswarm.catalog.architecture import (
    HEAD_TENSORS,
    MAX_LAYERS,
    SHARED_TENSORS,
    TABLE_TENSOR,
    Architecture,
    layer_of,
    shard_fields,
)
from mycoswarm.catalog.container import Container, TensorFacts, encode_header, padded_bytes, tensor_bytes
from mycoswarm.catalog.field import Field, Kind, number_field, text_field

KEYS, TOKENIZER, TABLE, HEAD = "keys", "tokenizer", "table", "head"
STAND_IN_ROWS = 32  # rows of the token table on a stage without a vocabulary; any small number does
_TOKENIZER_PREFIX = "tokenizer."
_LAYER_NAME = re.compile(r"layer-(\d{4})")
# Stand-ins for a token table that is never read, smallest first: a row must be whole blocks. All are known to ggml's
# get_rows.
_SMALL_TYPES = (GGMLQuantizationType.IQ1_S, GGMLQuantizationType.Q4_0, GGMLQuantizationType.F16)

TensorShape = tuple[str, tuple[int, ...], GGMLQuantizationType]


@dataclass(frozen=True, slots=True)
class PiecePlan:
    """One piece as it is read out of a model file: its header, then each tensor's data padded to whole pages."""

    name: str
    header: bytes
    tensors: tuple[TensorFacts, ...]

    @property
    def bytes(self) -> int:
        """The piece's whole length."""
        return len(self.header) + sum(padded_bytes(tensor.bytes) for tensor in self.tensors)


@dataclass(frozen=True, slots=True)
class Start:
    """A shard's first file: `header`, then the data of `shared` tensors padded to pages, then `zero_bytes` of
    nothing."""

    header: bytes
    shared: tuple[TensorFacts, ...]
    zero_bytes: int


def layer_name(layer: int) -> str:
    """The name of a layer's piece."""
    return f"layer-{layer:04d}"


def layer_number(name: str) -> int | None:
    """The layer that a piece holds, or None where it is none of a layer."""
    found = _LAYER_NAME.fullmatch(name)
    return int(found[1]) if found else None


def piece_names(n_layer: int) -> tuple[str, ...]:
    """The names of all pieces of a model."""
    return (KEYS, TOKENIZER, TABLE, *(layer_name(layer) for layer in range(n_layer)), HEAD)


def names_for(first: int, last: int, n_layer: int, *, is_tied: bool) -> tuple[str, ...]:
    """The names of the pieces that layers [first, last) need."""
    is_last = last == n_layer
    names = [KEYS]
    names += [TOKENIZER] if is_last else []
    names += [TABLE] if first == 0 or (is_last and is_tied) else []
    names += [layer_name(layer) for layer in range(first, last)]
    names += [HEAD] if is_last else []
    return tuple(names)


def plan_pieces(model: Container, n_layer: int) -> tuple[PiecePlan, ...]:
    """Lay out all pieces of a splittable model, in the order of `piece_names`."""
    groups: dict[str, list[TensorFacts]] = {name: [] for name in piece_names(n_layer)}
    for tensor in model.tensors:
        groups[_piece_of(tensor.name)].append(tensor)
    return tuple(
        PiecePlan(name=name, header=_source_header(model, name, tensors), tensors=tuple(tensors))
        for name, tensors in groups.items()
    )


def _piece_of(tensor_name: str) -> str:
    found = layer_of(tensor_name)
    if found is not None:
        return layer_name(found[0])
    if tensor_name in HEAD_TENSORS:
        return HEAD
    return TABLE if tensor_name == TABLE_TENSOR else KEYS


def _source_header(model: Container, name: str, tensors: Sequence[TensorFacts]) -> bytes:
    if name not in (KEYS, TOKENIZER):
        return split_header([(tensor.name, tensor.shape, tensor.kind) for tensor in tensors], local=0, number=1)
    fields = [
        field
        for key, field in model.fields.items()
        if key.startswith(_TOKENIZER_PREFIX) == (name == TOKENIZER) and not key.startswith("split.")
    ]
    return encode_header(fields, [(tensor.name, tensor.shape, tensor.kind) for tensor in tensors])


def split_header(tensors: Sequence[TensorShape], *, local: int, number: int) -> bytes:
    """The header of a piece as split `number`, its layer's tensors named blk.<local>.*; the same size for all of
    them."""
    fields = [number_field("split.no", Kind.UINT16, number)]
    region = len(encode_header(fields, _rename(tensors, MAX_LAYERS)))  # the longest name any range can give
    return encode_header(fields, _rename(tensors, local), region_bytes=region)


def _rename(tensors: Sequence[TensorShape], layer: int) -> list[TensorShape]:
    found = [(layer_of(name), name, shape, kind) for name, shape, kind in tensors]
    return [(f"blk.{layer}.{part[1]}" if part else name, shape, kind) for part, name, shape, kind in found]


def find_piece_fault(name: str, piece: Container, *, n_embd: int, n_vocab: int) -> str | None:
    """Say why a piece that came from another node is not what its name says, or None where it is."""
    names = [tensor.name for tensor in piece.tensors]
    end = piece.data_offset + sum(padded_bytes(tensor.bytes) for tensor in piece.tensors)
    if piece.integer("general.alignment") != 4096 or piece.data_offset % 4096 or end != piece.file_bytes:
        return "its layout is not ours"
    if name == TOKENIZER:
        return "it holds tensors" if names or not all(k.startswith(_TOKENIZER_PREFIX) for k in _keys(piece)) else None
    if name == KEYS:
        return None if set(names) <= SHARED_TENSORS else "it holds tensors that are none of its own"
    if name == HEAD:
        return None if set(names) <= HEAD_TENSORS and "output_norm.weight" in names else "it is not a head"
    if name == TABLE:
        shapes = [tensor.shape for tensor in piece.tensors]
        return None if names == [TABLE_TENSOR] and shapes == [(n_embd, n_vocab)] else "it is not the token table"
    layers = {found[0] if (found := layer_of(tensor)) else None for tensor in names}
    return None if layers == {0} else "it is not one layer"


def _keys(piece: Container) -> list[str]:
    ours = ("general.alignment", "mycoswarm.padding")
    return [key for key in piece.fields if key not in ours]


def plan_start(
    entry: Architecture,
    keys: Container,
    tokenizer: Container | None,
    *,
    first: int,
    last: int,
    n_layer: int,
    n_vocab: int,
    has_table: bool,
    split_count: int,
    split_tensors: int,
) -> Start:
    """Lay out a shard's first file. `has_table`: the token table is one of the splits; `split_tensors`: how many
    tensors the other files hold."""
    is_last = last == n_layer
    fields = dict(keys.fields)
    if not (first == 0 and is_last):
        fields = shard_fields(entry, fields, first, last, n_layer)
    stand_ins = _stand_ins(entry, keys, n_vocab, is_last=is_last, has_table=has_table)
    tensors = [(tensor.name, tensor.shape, tensor.kind) for tensor in keys.tensors] + stand_ins
    if tokenizer is not None:
        fields |= {key: field for key, field in tokenizer.fields.items() if key.startswith(_TOKENIZER_PREFIX)}
    else:
        fields |= _no_tokenizer(entry)
    fields |= _split_fields(split_count, split_tensors + len(tensors))
    return Start(
        header=encode_header(fields.values(), tensors),
        shared=keys.tensors,
        zero_bytes=sum(padded_bytes(tensor_bytes(shape, kind)) for _, shape, kind in stand_ins),
    )


def _no_tokenizer(entry: Architecture) -> dict[str, Field]:
    """Only the head has a vocabulary: llama.cpp would keep n_tokens x n_vocab floats of logits a step for the
    others."""
    return {
        "tokenizer.ggml.model": text_field("tokenizer.ggml.model", "none"),
        f"{entry.name}.vocab_size": number_field(f"{entry.name}.vocab_size", Kind.UINT32, STAND_IN_ROWS),
    }


def _split_fields(count: int, tensors: int) -> dict[str, Field]:
    return {
        "split.no": number_field("split.no", Kind.UINT16, 0),
        "split.count": number_field("split.count", Kind.UINT16, count),
        "split.tensors.count": number_field("split.tensors.count", Kind.INT32, tensors),
    }


def _stand_ins(
    entry: Architecture, keys: Container, n_vocab: int, *, is_last: bool, has_table: bool
) -> list[TensorShape]:
    """The tensors that the loader wants and that this range never reads; their data is zeros, a hole in the file."""
    n_embd = keys.integer(f"{entry.name}.embedding_length") or 0
    f32 = GGMLQuantizationType.F32
    if is_last:
        return [] if has_table else [(TABLE_TENSOR, (n_embd, n_vocab), _small_type(n_embd))]
    tensors: list[TensorShape] = [(TABLE_TENSOR, (n_embd, STAND_IN_ROWS), f32), ("output_norm.weight", (n_embd,), f32)]
    if entry.has_norm_bias:
        tensors.append(("output_norm.bias", (n_embd,), f32))
    if entry.needs_output:
        tensors.append(("output.weight", (n_embd, STAND_IN_ROWS), f32))
    return tensors


def _small_type(n_embd: int) -> GGMLQuantizationType:
    return next(kind for kind in _SMALL_TYPES if n_embd % GGML_QUANT_SIZES[kind][0] == 0)
