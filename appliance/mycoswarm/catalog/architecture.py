"""The architectures that may be cut into layer ranges: a list of data, and the rules that a file must meet.

Each entry was read from `load_arch_hparams`, `load_arch_tensors` and the graph in llama.cpp's src/models, in the
version that `LLAMA_CPP` names, and is tested: split output equals whole output, bit for bit. What to look for when
adding one:

- behaviour derived from the layer count, which a shard changes (`layers_below` keeps clear of it);
- per-layer arrays in the metadata: listed in `ARRAY_KEYS`, all others make a file run whole;
- what the graph does to token embeddings but not to hidden states (`input_scale`), or to both (`zeroed_keys`);
- tensors outside the layers: known to `SHARED_TENSORS` and `HEAD_TENSORS`, all others make a file run whole;
- positions or norms added at the input, recurrent state, layers that look at other layers: such a model runs whole.

Anything not listed runs whole. Asking to split it is a SplitError.
"""

import math
import re
from dataclasses import dataclass

import gguf
import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from mycoswarm.base.errors import SplitError
from mycoswarm.catalog.container import Container
from mycoswarm.catalog.field import Field, Kind, array_field, number_field

LLAMA_CPP = "llama-cpp-python 0.3.36"
MAX_LAYERS = 512  # LLAMA_MAX_LAYERS
TABLE_TENSOR = "token_embd.weight"
# Belong to no layer, but llama.cpp's layers read them: every shard holds them.
SHARED_TENSORS = frozenset({"rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"})
HEAD_TENSORS = frozenset({"output_norm.weight", "output_norm.bias", "output.weight", "output.bias", "output.scale"})
# Per-layer arrays, without the architecture's name in front. llama.cpp reads some only at layer 0 (`n_head()`,
# `n_ff()`), so all items must be equal, but for the window pattern, whose items differ by design.
WINDOW_PATTERN = "attention.sliding_window_pattern"
ARRAY_KEYS = frozenset(
    {
        "attention.head_count",
        "attention.head_count_kv",
        "feed_forward_length",
        "expert_feed_forward_length",
        "expert_used_count",
        WINDOW_PATTERN,
    }
)
_WINDOW = "attention.sliding_window"
_ROPE_BASE = 10000.0  # llama.cpp's, where a file gives none
_WIDE = 1 << 24  # a window that hides nothing; times 64 sequences it still fits llama.cpp's uint32
_LAYER_TENSOR = re.compile(r"blk\.(0|[1-9]\d{0,2})\.(.+)")


@dataclass(frozen=True, slots=True)
class Architecture:
    """How one architecture is cut.

    `output_node` is what the graph calls a layer's output (with "-N" behind it). Models of `layers_below` layers or
    more behave in another way. `input_scale`: "" none, "sqrt" the square root of the width, else the key that holds
    it. `zeroed_keys` are 0 in every shard. `window_period`: each how-manieth layer sees everything, where the file
    gives no pattern; None without windows. `wants_window`: the loader takes no file without one. `needs_output`: the
    loader wants output.weight in every file; `has_norm_bias`: and output_norm.bias.
    """

    name: str
    output_node: str = "l_out"
    layers_below: int = MAX_LAYERS + 1
    input_scale: str = ""
    zeroed_keys: tuple[str, ...] = ()
    window_period: int | None = None
    wants_window: bool = False
    needs_output: bool = False
    has_norm_bias: bool = False
    remark: str = ""


_ENTRIES = (
    Architecture(
        name="llama",
        remark="with and without experts. The layer count names the model's type, which only quantisation reads.",
    ),
    Architecture(name="qwen2"),
    Architecture(name="qwen3"),
    Architecture(
        name="gemma3",
        layers_below=62,
        input_scale="sqrt",
        window_period=6,
        remark="62 layers (27B) mean another attention scale. Tokens are scaled by sqrt(width), hidden states are not.",
    ),
    Architecture(name="qwen2moe", needs_output=True, remark="the loader wants output.weight."),
    Architecture(name="qwen3moe"),
    Architecture(name="olmoe", needs_output=True, remark="the loader wants output.weight."),
    Architecture(name="internlm2", needs_output=True, remark="the loader wants output.weight."),
    Architecture(
        name="granite",
        input_scale="embedding_scale",
        zeroed_keys=("embedding_scale",),
        remark="embedding_scale multiplies hidden states too, so it goes into the look-up and is zero in every shard.",
    ),
    Architecture(name="starcoder2", has_norm_bias=True),
    Architecture(name="phi3", remark="sliding windows are switched off in llama.cpp, in the whole model as in shards."),
    Architecture(name="stablelm", needs_output=True, has_norm_bias=True, remark="the loader wants output.weight."),
    Architecture(
        name="command-r",
        layers_below=64,
        remark="from 64 layers on, and only then, the loader wants query and key norms. The output is always tied.",
    ),
    Architecture(name="mistral3", remark="its attention temperature depends on positions, which every stage knows."),
    Architecture(
        name="granitemoe",
        input_scale="embedding_scale",
        zeroed_keys=("embedding_scale",),
        remark="granite's graph with experts.",
    ),
    Architecture(
        name="olmo2",
        needs_output=True,
        window_period=4,
        remark="OLMo 3 too, which has windows: RoPE is scaled where a layer sees everything, so the pattern decides.",
    ),
    Architecture(
        name="gpt-oss",
        needs_output=True,
        window_period=2,
        wants_window=True,
        remark="the loader wants a window: a range without one is given a window wider than any context.",
    ),
)
ARCHITECTURES = {entry.name: entry for entry in _ENTRIES}


def find_architecture(name: str) -> Architecture:
    """The entry of an architecture's GGUF name.

    Raises:
        SplitError: it is not on the list.
    """
    entry = ARCHITECTURES.get(name)
    if entry is None:
        raise SplitError(
            f"models of the architecture {name!r} cannot be split",
            hint=f"Run it whole on one node. Splittable are: {', '.join(sorted(ARCHITECTURES))}.",
        )
    return entry


def layer_of(tensor_name: str) -> tuple[int, str] | None:
    """The layer that a tensor belongs to and its name there, or None outside the layers."""
    found = _LAYER_TENSOR.fullmatch(tensor_name)
    return (int(found[1]), found[2]) if found else None


def find_split_fault(model: Container) -> str | None:
    """Say why this file cannot be split, or None where it can."""
    name = model.text("general.architecture") or ""
    entry = ARCHITECTURES.get(name)
    if entry is None:
        return f"the architecture {name!r} is not on the list of splittable ones"
    n_layer = model.integer(f"{name}.block_count")
    if n_layer is None or not 0 < n_layer <= MAX_LAYERS:
        return "the file does not say how many layers it has"
    if n_layer < 2:
        return "it has one layer only"
    if n_layer >= entry.layers_below:
        return f"llama.cpp treats {name} models of {entry.layers_below} layers or more in another way"
    return find_key_fault(model, entry, n_layer) or _tensor_fault(model, n_layer)


def find_key_fault(model: Container, entry: Architecture, n_layer: int) -> str | None:
    """Say which of a file's keys stands against cutting it, or None. Where it is None, `shard_fields` can be called."""
    prefix = entry.name + "."
    for key, field in model.fields.items():
        if not key.startswith(prefix) or not field.is_array:
            continue
        short = key.removeprefix(prefix)
        if short not in ARRAY_KEYS or field.item_kind is Kind.STRING:
            return f"its key {key!r} is a list that we do not know how to cut"
        if field.count != n_layer:
            return f"its key {key!r} has {field.count} items for {n_layer} layers"
        if short != WINDOW_PATTERN and len(set(field.items)) > 1:
            return f"its key {key!r} differs from layer to layer"
    if prefix + WINDOW_PATTERN in model.fields and (model.integer(prefix + WINDOW_PATTERN) or 0) < 0:
        return "its sliding window pattern is not a count"
    for short in entry.zeroed_keys:
        if prefix + short in model.fields and model.fields[prefix + short].kind is not Kind.FLOAT32:
            return f"its key {prefix + short!r} is not a number"
    if model.integer(prefix + "nextn_predict_layers"):
        return "it holds layers that predict further tokens"
    if model.scalar(prefix + "pooling_type") or model.scalar(prefix + "attention.causal") is False:
        return "it is an embedding model"
    if "adapter.type" in model.fields:
        return "it is an adapter"
    return None


def _tensor_fault(model: Container, n_layer: int) -> str | None:
    layers: set[int] = set()
    names = {tensor.name for tensor in model.tensors}
    for name in names - SHARED_TENSORS - HEAD_TENSORS - {TABLE_TENSOR}:
        found = layer_of(name)
        if found is None or found[0] >= n_layer:
            return f"its tensor {name!r} belongs to no layer that we know"
        layers.add(found[0])
    if len(layers) != n_layer:
        return "some layers have no tensors"
    table = next((tensor for tensor in model.tensors if tensor.name == TABLE_TENSOR), None)
    if table is None or len(table.shape) != 2 or "output_norm.weight" not in names:
        return "its token table or output norm is missing"
    if not is_dequantisable(table.kind):
        return f"rows of its token table ({table.kind.name}) cannot be looked up outside llama.cpp"
    return None


def is_dequantisable(kind: GGMLQuantizationType) -> bool:
    """Whether gguf's dequantiser knows a type."""
    try:
        gguf.quants.dequantize(np.zeros((1, GGML_QUANT_SIZES[kind][1]), np.uint8), kind)
    except RuntimeError:  # its way to say that it does not know the type
        return False
    return True


def cut_points(n_layer: int) -> tuple[int, ...]:
    """Where a model of `n_layer` layers may be cut: a cut at 3 lies between layers 2 and 3.

    All entries can be cut anywhere. What is hard-coded each few layers (smollm3, llama4) could be cut at multiples
    only.
    """
    return tuple(range(1, n_layer))


def input_scale(entry: Architecture, model: Container, n_embd: int) -> float:
    """What token embeddings are multiplied by before the first layer, as float32 arithmetic wants it."""
    if entry.input_scale == "sqrt":
        return math.sqrt(n_embd)
    if entry.input_scale:
        value = model.scalar(f"{entry.name}.{entry.input_scale}")
        return float(value) if isinstance(value, int | float) and value else 1.0
    return 1.0


def shard_fields(
    entry: Architecture, fields: dict[str, Field], first: int, last: int, n_layer: int
) -> dict[str, Field]:
    """The metadata of layers [first, last) as a model of their own, where they are not all."""
    result = dict(fields)
    prefix = entry.name + "."
    for short in ARRAY_KEYS:
        field = fields.get(prefix + short)
        if field is not None and field.is_array:
            items = [item for item in field.items if not isinstance(item, str)]
            result[field.key] = array_field(field.key, field.item_kind, items[first:last])
    if entry.window_period is not None and fields.keys() >= {prefix + _WINDOW}:
        _cut_windows(entry, result, _window_pattern(entry, fields, n_layer)[first:last])
    for short in entry.zeroed_keys:
        field = fields.get(prefix + short)
        if field is not None and not field.is_array:
            result[field.key] = number_field(field.key, field.kind, 0)
    result[prefix + "block_count"] = number_field(prefix + "block_count", Kind.UINT32, last - first)
    return result


def _cut_windows(entry: Architecture, fields: dict[str, Field], pattern: list[bool]) -> None:
    """Write a range's window pattern out; llama.cpp asserts that at least one layer has a window, or that none is
    named."""
    prefix = entry.name + "."
    if not any(pattern) and not entry.wants_window:
        del fields[prefix + _WINDOW]
        fields.pop(prefix + WINDOW_PATTERN, None)
        return
    if not any(pattern):
        pattern = [True] * len(pattern)
        fields[prefix + _WINDOW] = number_field(prefix + _WINDOW, Kind.UINT32, _WIDE)
        base = fields.get(prefix + "rope.freq_base")
        value = base.scalar if base is not None and base.kind is Kind.FLOAT32 else _ROPE_BASE
        key = prefix + "rope.freq_base_swa"
        fields[key] = number_field(key, Kind.FLOAT32, value if isinstance(value, float) else _ROPE_BASE)
    fields[prefix + WINDOW_PATTERN] = array_field(prefix + WINDOW_PATTERN, Kind.BOOL, pattern)


def _window_pattern(entry: Architecture, fields: dict[str, Field], n_layer: int) -> list[bool]:
    """As llama.cpp's load_swa_pattern: True where a layer sees its window only."""
    field = fields.get(f"{entry.name}.{WINDOW_PATTERN}")
    if field is not None and field.is_array:
        return [bool(item) for item in field.items]
    given = entry.window_period if field is None else field.scalar
    period = given if isinstance(given, int) else entry.window_period or 0
    return [period == 0 or layer % period < period - 1 for layer in range(n_layer)]
